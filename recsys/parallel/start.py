"""What a new run starts from: a bundle, or the checkpoint of another run."""

from __future__ import annotations

from pathlib import Path

from recsys.bundle import load_bundle
from recsys.bundle_fit import check_dataset, check_meaning, check_unseen
from recsys.data.tables import FeatureTables
from recsys.parallel.checkpoints import fault, is_checkpoint
from recsys.parallel.record import record_of
from recsys.parallel.weights import weights_of
from recsys.schema import InputError
from recsys.vocabulary import check_continues
from recsys.warm_start import Start


def start_from(path: Path, tables: FeatureTables, *, fit_until: str, own_checkpoints: Path) -> Start:
    """InputError where it is neither, means other things than the tables, or has learned past the cut."""
    if path.resolve().parent == own_checkpoints.resolve():
        raise InputError(f"warm_start={path} lies among this run's own checkpoints; set another name=NAME")
    try:
        start = _of_checkpoint(path, tables) if is_checkpoint(path) else _of_bundle(path, tables)
        check_unseen(start, tables, fit_until)
    except InputError as error:
        raise InputError(f"warm_start={path}: {error}") from error
    return start


def _of_bundle(path: Path, tables: FeatureTables) -> Start:
    bundle = load_bundle(path)
    check_meaning(bundle, tables)
    return Start(bundle.model.state_dict(), bundle.scaler, bundle.trained_on, bundle.vocabularies)


def _of_checkpoint(path: Path, tables: FeatureTables) -> Start:
    damage = fault(path)
    if damage is not None:
        raise InputError(f"the checkpoint cannot be read ({damage}); name another")
    meaning = record_of(path)["meaning"]
    start = Start(weights=weights_of(path), **meaning)
    check_dataset(start, tables)
    check_continues(start.vocabularies, tables)
    return start
