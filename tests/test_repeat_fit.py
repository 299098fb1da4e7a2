"""The refit finds what makes own items come again, by the loss of training."""

from __future__ import annotations

from itertools import islice

import torch

from recsys.data.plan import ElasticLoader
from recsys.data.sample_config import SampleConfig
from recsys.data.samples import TrainingSamples
from recsys.objectives.items import item_loss
from recsys.repeat_fit import collect, fit_repeats, hit_loss
from tests.data.shop import many_users
from tests.nn.small_model import catalogue, small_model
from tests.test_module import PLAN, module


def loader(**config: float) -> ElasticLoader:
    samples = TrainingSamples(
        tables=many_users(num_users=30),  # type: ignore[arg-type]
        fit_until="validation",
        config=SampleConfig(max_length=8, target_window_days=15, dated_query_share=1.0, **config),  # type: ignore[arg-type]
    )
    return ElasticLoader(samples=samples, config=PLAN)


def test_the_loss_refitted_is_the_loss_of_training() -> None:
    batches = list(islice(loader(), 6))
    judged = module()
    queries = collect(judged.model, judged.catalogue, batches)
    with torch.no_grad():
        ours = hit_loss(queries, judged.model.repeats.gain(queries.feature_PR)[:, 0])
        total = weight = torch.tensor(0.0)
        for batch in batches:
            states, items = judged.model(batch.histories, judged.catalogue), batch.items
            index = items.row_Q, items.length_Q, items.period_Q
            scores = judged.model.item_scores(states, batch.histories, judged.catalogue, *index)
            logits_QV = judged.model.item_logits(scores)
            total, weight = total + item_loss(logits_QV, items), weight + items.weight_Q.sum()
    torch.testing.assert_close(ours, total / weight, rtol=1e-4, atol=1e-4)


def test_the_fit_lowers_the_loss_and_touches_nothing_else() -> None:
    batches = list(islice(loader(), 6))
    judged = module()
    model = judged.model
    before = {name: weight.clone() for name, weight in model.state_dict().items()}
    queries = collect(model, judged.catalogue, batches)
    with torch.no_grad():
        first = hit_loss(queries, model.repeats.gain(queries.feature_PR)[:, 0])
    fit_repeats(model, judged.catalogue, batches)
    with torch.no_grad():
        last = hit_loss(queries, model.repeats.gain(queries.feature_PR)[:, 0])
    assert last < first - 1e-3
    changed = {name for name, weight in model.state_dict().items() if not torch.equal(weight, before[name])}
    assert changed == {"repeats.gain.weight", "repeats.gain.bias"}


def test_without_queries_nothing_changes() -> None:
    model = small_model()
    fit_repeats(model, catalogue(), [])
    assert model.repeats.gain.bias.item() == 1
