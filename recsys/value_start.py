"""Where the value heads start: the best that is linear in the cut features, as a scorecard would be.

The states then only have to add what these features miss; from a random start they would outrun them and fit
the training months.
"""

from __future__ import annotations

import torch

from recsys.batch import CutQueries
from recsys.data.cut_features import CutScaler
from recsys.data.cut_queries import CutQueryTable
from recsys.nn.value_heads import ValueHeads
from recsys.objectives.value import conversion_loss, retention_loss, spend_loss

_RIDGE = 1e-3
_MAX_QUERIES = 1_000_000  # plenty for some hundred weights


def start_value_heads(
    heads: ValueHeads, table: CutQueryTable, *, scaler: CutScaler, max_iterations: int = 100
) -> None:
    """Fit biases and direct weights to the training cuts at once, by L-BFGS on the losses of training.

    Of more than a million cut queries, evenly spaced ones.
    """
    table = table.thinned(_MAX_QUERIES)
    cuts = _as_one_batch(table, scaler)
    total = max(len(table.prefix), 1)
    parameters = [heads.out.bias, heads.direct.weight]
    optimizer = torch.optim.LBFGS(parameters, max_iter=max_iterations, line_search_fn="strong_wolfe")

    def closure() -> torch.Tensor:
        optimizer.zero_grad()
        output = heads.linear(cuts.features_BCR)
        loss = retention_loss(output, cuts, bin_ends_days=heads.config.bin_ends_days)
        loss = loss + conversion_loss(output, cuts)
        if heads.config.has_value:
            loss = loss + spend_loss(output, cuts)
        loss = loss / total + _RIDGE * heads.direct.weight.square().sum()
        loss.backward()  # type: ignore[no-untyped-call]
        return loss

    with torch.enable_grad():
        optimizer.step(closure)  # type: ignore[no-untyped-call]
    optimizer.zero_grad()


def _as_one_batch(table: CutQueryTable, scaler: CutScaler) -> CutQueries:
    """Every cut query as a row of its own; prefix lengths are not needed."""
    column = {
        name: torch.from_numpy(values)[:, None]
        for name, values in (
            ("features_BCR", scaler(table.features)),
            ("spend_BCH", table.spend.astype("float32")),
            ("observed_BCH", table.observed),
            ("next_active_days_BC", table.next_active_days.astype("float32")),
            ("observed_days_BC", table.observed_days.astype("float32")),
            ("converted_BC", table.converted),
        )
    }
    shape = (len(table.prefix), 1)
    return CutQueries(
        mask_BC=torch.ones(shape, dtype=torch.bool), length_BC=torch.zeros(shape, dtype=torch.int64), **column
    )
