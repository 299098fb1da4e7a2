"""`python train.py`: feature tables -> model bundle, metrics.json, report.html."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from recsys.entry import hydra_command
from recsys.schema import InputError, Split
from recsys.settings import check_arguments, check_range, read_own, read_settings

if TYPE_CHECKING:  # imported where they are used: --help and errors of settings need no torch
    from pytorch_lightning import Trainer
    from torch import Tensor

    from recsys.batch import Catalogue
    from recsys.build import ModelSettings
    from recsys.data.datamodule import DataSettings
    from recsys.data.plan import PlanConfig
    from recsys.data.samples import TrainingSamples
    from recsys.data.tables import FeatureTables
    from recsys.module import ObjectiveConfig, UserModule
    from recsys.nn.user_model import UserModel
    from recsys.policy.advantage import CriticConfig
    from recsys.policy.dial import DialConfig
    from recsys.warm_start import Start


@dataclass(frozen=True, kw_only=True)
class TrainSettings:
    """The settings of conf/train.yaml that belong to no group."""

    name: str
    version: str
    fit_until: str
    seed: int
    warm_start: str | None = None
    resume: str | None = None
    features_dir: str
    models_dir: str
    cache_dir: str
    output_dir: str

    def __post_init__(self) -> None:
        if self.fit_until not in Split.HELD_OUT:
            raise InputError(
                f"fit_until={self.fit_until} is no split with one cut; use {Split.VALIDATION} or {Split.TEST}"
            )
        check_range("seed", self.seed, least=0, most=2**32 - 1)  # what NumPy takes


class _Parts(NamedTuple):
    """What the groups of settings stand for."""

    model: ModelSettings
    data: DataSettings
    objective: ObjectiveConfig
    dial: DialConfig
    optimizer: Any  # these two are factories
    scheduler: Any


@hydra_command("train")
def main(cfg: Any) -> Any:
    from recsys.parallel.dealing import leave_ranks
    from recsys.sweep import sweep_result

    metrics = _train(cfg)
    leave_ranks()  # now that nothing of the run is left which holds them
    return sweep_result(metrics, cfg.returns) if metrics is not None else None


def _train(cfg: Any) -> Path | None:
    """metrics.json of the run, written by the first rank; None on the others."""
    import pytorch_lightning as pl
    from omegaconf import OmegaConf

    from recsys.bundle import Bundle, save_bundle
    from recsys.commands.evaluate import evaluate_and_report
    from recsys.data.cut_features import CutScaler
    from recsys.data.samples import TrainingSamples
    from recsys.data.tables import FeatureTables, resolve_tables
    from recsys.parallel.best_epoch import BestEpoch
    from recsys.parallel.preemption import leave_whole
    from recsys.parallel.start import start_from
    from recsys.parallel.strategy import whole_model
    from recsys.promotion import check_name
    from recsys.value_calibration import calibrated_heads

    settings: dict[str, Any] = OmegaConf.to_container(cfg, resolve=True)  # type: ignore[assignment]
    parts = _checked_parts(cfg, settings)
    bundle_dir, output = Path(cfg.models_dir) / cfg.dataset.name / cfg.name, Path(cfg.output_dir)
    check_name(bundle_dir.parent, cfg.name)

    tables_dir = resolve_tables(features_dir=cfg.features_dir, dataset=cfg.dataset.name, version=cfg.version)
    tables = FeatureTables(tables_dir=tables_dir, cache_dir=cfg.cache_dir)
    checkpoints, start = output / "checkpoints", None
    if cfg.warm_start:
        start = start_from(Path(cfg.warm_start), tables, fit_until=cfg.fit_until, own_checkpoints=checkpoints)
    pl.seed_everything(cfg.seed, workers=True, verbose=False)
    samples = TrainingSamples(
        tables=tables,
        fit_until=cfg.fit_until,
        config=parts.data.samples,
        scaler=CutScaler(**start.scaler) if start else None,
    )
    meaning = _meaning(cfg, tables, samples, start)
    module, catalogue = _module(parts, tables, samples, seed=cfg.seed, start=start)

    leave_whole()
    trainer = _trainer(cfg, logged={**settings, "trained_on": meaning["trained_on"]})
    _fit(trainer, module, samples, parts.data, settings=settings, meaning=meaning, checkpoints=checkpoints)
    model = whole_model(trainer.strategy, module.model)
    if not trainer.is_global_zero and parts.model.table == "replicated":
        return None

    for callback in trainer.callbacks:  # type: ignore[attr-defined]
        if isinstance(callback, BestEpoch):
            callback.restore(model)
    # the ranks of a sharded table do the rest together, for the first one to write
    _fill_neighbours(model, samples, strength=parts.model.neighbour_strength)
    _fit_repeats(model, catalogue, samples, parts.data.plan)
    calibration = calibrated_heads(model, catalogue, samples, plan=parts.data.plan)
    item_ids = _item_ids(tables, cfg.fit_until)
    bundle = Bundle(
        model=model.eval(),
        settings=settings,
        item_ids=item_ids,
        calibration=calibration,
        advantage=_advantage(tables, samples.boundary, parts.dial.critic) if trainer.is_global_zero else {},
        **meaning,
    )
    save_bundle(bundle, bundle_dir, writes=trainer.is_global_zero)
    if not trainer.is_global_zero:
        return None
    evaluate_and_report(
        bundle_dir=bundle_dir,
        tables=tables,
        split=cfg.fit_until,
        output=output,
        dial=parts.dial,
        sets_dial=True,
    )
    return output / "metrics.json"


def _checked_parts(cfg: Any, settings: dict[str, Any]) -> _Parts:
    """Before any table is read: InputError where a setting is none or lies outside of its range."""
    import pytorch_lightning as pl
    from hydra.utils import instantiate

    from recsys.build import ModelSettings
    from recsys.data.datamodule import DataSettings
    from recsys.module import ObjectiveConfig
    from recsys.parallel.cluster import allotted
    from recsys.policy.dial import DialConfig

    model = read_settings(ModelSettings, settings["model"], where="model")
    data = read_settings(DataSettings, settings["data"], where="data")
    objective = read_settings(ObjectiveConfig, settings["objective"], where="objective")
    dial = read_settings(DialConfig, settings["dial"], where="dial")
    read_own(TrainSettings, settings)
    trainer = settings["trainer"] | allotted(settings["trainer"])
    check_arguments(pl.Trainer.__init__, trainer, where="trainer")
    return _Parts(
        model=model,
        data=data,
        objective=objective,
        dial=dial,
        optimizer=instantiate(cfg.optimizer, _convert_="all"),
        scheduler=instantiate(cfg.scheduler, _convert_="all"),
    )


def _meaning(
    cfg: Any, tables: FeatureTables, samples: TrainingSamples, start: Start | None
) -> dict[str, Any]:
    """What the weights will stand for, by the names that it has in a `Bundle`."""
    from recsys.training import git_commit
    from recsys.vocabulary import vocabulary_identity

    cut = tables.cut(cfg.fit_until)
    return {
        "scaler": {"mean": samples.scaler.mean, "std": samples.scaler.std},
        "trained_on": {
            "dataset": cfg.dataset.name,
            "version": tables.version,
            "split_hash": tables.metadata["split"]["hash"],
            "fit_until": cfg.fit_until,
            "cut": cut,
            "learned_until": max(cut, start.trained_on["learned_until"]) if start else cut,
            "git_commit": git_commit(),
        },
        "vocabularies": vocabulary_identity(tables),
    }


def _module(
    parts: _Parts, tables: FeatureTables, samples: TrainingSamples, *, seed: int, start: Start | None
) -> tuple[UserModule, Catalogue | None]:
    """What is trained, and the catalogue it looks at: None where it is large and comes with the batches."""
    from recsys.build import catalogue_at
    from recsys.evaluation.quick import epoch_evaluator
    from recsys.module import UserModule

    model = _started_model(tables, samples, parts.model, seed=seed, start=start)
    fit_until, catalogue, evaluator = samples.fit_until, None, None
    if samples.content is None:
        catalogue = catalogue_at(tables, fit_until, times=samples.period_starts)
    if fit_until == Split.VALIDATION:  # a final fit has nothing left that it may peek at
        evaluator = epoch_evaluator(tables=tables, split=fit_until, scaler=samples.scaler)
    module = UserModule(
        model=model,
        catalogue=catalogue,
        objective=parts.objective,
        optimizer=parts.optimizer,
        scheduler=parts.scheduler,
        evaluate=evaluator,
    )
    return module, catalogue


def _fit(
    trainer: Trainer,
    module: UserModule,
    samples: TrainingSamples,
    data: DataSettings,
    *,
    settings: dict[str, Any],
    meaning: dict[str, Any],
    checkpoints: Path,
) -> None:
    """From the start, or from the checkpoint that `resume` names."""
    from recsys.data.datamodule import UserDataModule
    from recsys.parallel.record import RunRecord, check_same_run, held_settings
    from recsys.parallel.resume import go_on
    from recsys.vocabulary import item_identity

    items = item_identity(_item_ids(samples.tables, samples.fit_until))
    known = {**meaning, "vocabularies": meaning["vocabularies"] | items}
    held = held_settings(settings, trainer, samples.tables)
    trainer.callbacks.append(RunRecord({"settings": held, "meaning": known}))  # type: ignore[attr-defined]
    go_on(
        trainer, resume=settings["resume"], folder=checkpoints, check=lambda path: check_same_run(path, held)
    )
    datamodule = UserDataModule(samples=samples, plan=data.plan, num_workers=data.num_workers)
    trainer.fit(module, datamodule=datamodule, weights_only=False)


def _item_ids(tables: FeatureTables, split: str) -> list[str]:
    return [str(item_id) for item_id in tables.items(split).item_id]


def _started_model(
    tables: FeatureTables,
    samples: TrainingSamples,
    settings: ModelSettings,
    *,
    seed: int,
    start: Start | None,
) -> UserModel:
    """A model with the weights it starts from, or else where co-occurrence and a linear fit put it."""
    import torch

    from recsys.build import model_config
    from recsys.data.cooccurrence import cooccurrence_vectors
    from recsys.parallel.tables import user_model
    from recsys.value_start import start_value_heads
    from recsys.warm_start import warm_start

    config = model_config(tables=tables, samples=samples, settings=settings)
    model = user_model(config, settings, seed=seed)
    if start is not None:
        warm_start(model, start.weights)
        return model
    model.start_items_from(torch.from_numpy(cooccurrence_vectors(samples, width=settings.width)))
    if model.value_heads is not None:
        start_value_heads(model.value_heads, samples.cuts, scaler=samples.scaler)
    return model


def _advantage(tables: FeatureTables, cut: int, critic: CriticConfig) -> dict[str, Tensor]:
    """Arrays of the critic of all events up to the cut; none where there is no time, or too short a log."""
    import torch

    from recsys.policy.advantage import fit_advantage

    if not tables.has_time:
        return {}
    try:
        found = fit_advantage(
            tables.histories,
            num_items=tables.num_items,
            until=cut,
            event_types=tables.metadata["event_types"],
            config=critic,
        )
    except InputError as error:
        print(f"the dial has no critic: {error}")
        return {}
    return {name: torch.from_numpy(array) for name, array in found.arrays().items()}


def _fill_neighbours(model: UserModel, samples: TrainingSamples, *, strength: float) -> None:
    """After training: these weights have seen its answers, and vectors would learn less beside them."""
    import torch

    from recsys.data.cooccurrence import neighbours

    if model.neighbours is not None:
        item_VK, weight_VK = neighbours(samples, num_neighbours=model.config.num_neighbours)
        model.neighbours.fill(torch.from_numpy(item_VK), strength * torch.from_numpy(weight_VK))


def _fit_repeats(
    model: UserModel, catalogue: Catalogue | None, samples: TrainingSamples, plan: PlanConfig
) -> None:
    """After training, to the queries of one epoch."""
    from recsys.data.plan import ElasticLoader
    from recsys.repeat_fit import fit_repeats

    if model.repeats is not None:
        loader = ElasticLoader(samples=samples, config=plan)
        fit_repeats(model, catalogue, islice(loader, len(loader)))


def _trainer(cfg: Any, *, logged: dict[str, Any]) -> Trainer:
    """The trainer of the settings, with its loggers and callbacks; InputError where it cannot be had."""
    from hydra.utils import instantiate
    from omegaconf import OmegaConf
    from pytorch_lightning.callbacks import Checkpoint
    from pytorch_lightning.utilities.exceptions import MisconfigurationException

    from recsys.parallel.cluster import allotted, environment
    from recsys.parallel.precision import native_precision
    from recsys.tracking import quiet_lightning

    quiet_lightning()
    loggers = [instantiate(logger, _convert_="all") for logger in cfg.logger.values() if logger]
    for logger in loggers:
        logger.log_hyperparams(logged)
    callbacks = [instantiate(c, _convert_="all") for c in cfg.callbacks.values() if c]
    keeps = any(isinstance(callback, Checkpoint) for callback in callbacks)  # else Lightning adds its own
    settings: dict[str, Any] = OmegaConf.to_container(cfg.trainer)  # type: ignore[assignment]
    found = allotted(settings) | native_precision(settings)
    make = instantiate(cfg.trainer, logger=loggers, default_root_dir=cfg.output_dir, _convert_="all", **found)
    try:
        plugins = [*(make.keywords.get("plugins") or []), *environment()]
        trainer: Trainer = make(callbacks=callbacks, plugins=plugins, enable_checkpointing=keeps)
    except (TypeError, ValueError, RuntimeError, MisconfigurationException) as error:
        raise InputError(f"trainer: {str(error).splitlines()[0]}") from error
    return trainer
