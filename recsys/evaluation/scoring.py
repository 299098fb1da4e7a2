"""A trained model over all users of a cut: item scores in chunks, value estimates at once.

Legend: U users, B users of a chunk, V items (row 0 is padding), S score width, H horizons, J hazard bins.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import torch
from tqdm import tqdm

from recsys.batch import Catalogue
from recsys.data.collate import predict_batch
from recsys.data.cut_features import CutScaler
from recsys.data.cut_tables import CutTable
from recsys.data.flat import FlatHistories
from recsys.data.tables import FeatureTables
from recsys.nn.user_model import LinearScores, UserModel
from recsys.valuation.calibration import ValueCalibration, no_calibration
from recsys.valuation.heads import value_parameters


@dataclass(frozen=True)
class ScoredUsers:
    """One chunk: rows of the cut table, scores (B, V) with padding -inf, unit user vectors, value estimates.

    spend_BH: expected money per horizon; return_BJ: probability of an event by the end of each hazard bin;
    conversion_B: probability of a purchase within the first horizon. Each None without that head.
    draws_BHS: float32, draws of the money spent up to each horizon; None where none were asked for.
    linear: the scores in parts, in place of score_BV, which is empty, where they were asked for.
    """

    rows: np.ndarray
    score_BV: np.ndarray
    vector_BS: np.ndarray
    spend_BH: np.ndarray | None
    return_BJ: np.ndarray | None
    conversion_B: np.ndarray | None
    draws_BHS: np.ndarray | None = None
    linear: LinearScores | None = None


@torch.inference_mode()
def score_users(
    *,
    model: UserModel,
    catalogue: Catalogue,
    tables: FeatureTables,
    table: CutTable,
    scaler: CutScaler,
    calibration: ValueCalibration | None = None,
    histories: FlatHistories | None = None,
    num_draws: int = 0,
    linear: bool = False,
    chunk: int = 128,
    progress: str | None = None,
    rank: int = 0,
    world: int = 1,
) -> Iterator[ScoredUsers]:
    """Users of the table in chunks of similar length; every row comes exactly once.

    With several ranks this is the share of one. All make as many steps, as sharded tables and ZeRO-3 need:
    the last row may come on more than one. Without a calibration the value heads are taken at their word.
    `histories`: in place of those of the tables. `linear`: no item scores but their parts, for models that
    have them.
    """
    was_training = model.training
    model.eval()
    device = next(model.parameters()).device
    catalogue = Catalogue(*(column.to(device) for column in catalogue))
    items = model.item_states(catalogue)
    flat = tables.histories if histories is None else histories
    order = np.argsort(table.prefix_length, kind="stable")
    order = np.r_[order, np.repeat(order[-1:], -len(order) % world)][rank::world]
    starts = range(0, len(order), chunk)
    for start in tqdm(starts, desc=progress, disable=progress is None, leave=False):
        rows = order[start : start + chunk]
        batch = predict_batch(flat, table, rows, scaler=scaler, max_length=model.config.max_length)
        own = batch.histories.to(device)
        states = model(own, catalogue, items)
        index_B, length_B = torch.arange(len(rows), device=device), own.length_B
        parts, score_BV = None, torch.zeros(0, 0)
        if linear:
            parts = model.linear_scores(states, own, catalogue, index_B, length_B)
            vector_BS = parts.user_QS
        else:
            scores = model.item_scores(states, own, catalogue, index_B, length_B)
            score_BV, vector_BS = model.item_logits(scores), model.user_vectors(states, scores.own)
        spend = returns = conversion = draws = None
        if model.value_heads is not None:
            heads = model.value_heads.config
            calibration = calibration or no_calibration(len(heads.horizons_days), len(heads.bin_ends_days))
            output = model.value(states, length_B[:, None], batch.features_BR[:, None].to(device))
            told = calibration(value_parameters(output))
            returns, conversion = told.return_UJ(), told.conversion_U
            if heads.has_value:
                spend = told.spend_UH()
                if num_draws:
                    draws = calibration.draws(told, table.user_index[rows], num_draws=num_draws)
        score_BV, vector_BS = score_BV.float().cpu(), vector_BS.float().cpu()
        yield ScoredUsers(rows, score_BV.numpy(), vector_BS.numpy(), spend, returns, conversion, draws, parts)
    model.train(was_training)


@torch.inference_mode()
def item_vectors(model: UserModel, catalogue: Catalogue) -> np.ndarray:
    """(V, S + 1) unit vectors of the items; the last component carries what the length lacks."""
    model.eval()
    raw_VD, _ = model.item_tower(catalogue)
    return model.item_vectors(raw_VD).numpy()
