"""`python train.py`: feature tables -> model bundle, metrics.json, report.html."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING, Any

from recsys.entry import hydra_command
from recsys.schema import InputError, Split
from recsys.settings import check_arguments, check_range, read_own, read_settings

if TYPE_CHECKING:  # imported where they are used: --help and errors of settings need no torch
    from pytorch_lightning import Trainer
    from torch import Tensor

    from recsys.build import ModelSettings
    from recsys.data.samples import TrainingSamples
    from recsys.data.tables import FeatureTables
    from recsys.nn.user_model import UserModel
    from recsys.policy.advantage import CriticConfig
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


@hydra_command("train")
def main(cfg: Any) -> Any:
    import pytorch_lightning as pl
    from hydra.utils import instantiate
    from omegaconf import OmegaConf

    from recsys.build import ModelSettings, catalogue_at
    from recsys.bundle import Bundle, save_bundle
    from recsys.commands.evaluate import evaluate_and_report
    from recsys.data.cut_features import CutScaler
    from recsys.data.datamodule import DataSettings, UserDataModule
    from recsys.data.plan import ElasticLoader
    from recsys.data.samples import TrainingSamples
    from recsys.data.tables import FeatureTables, resolve_tables
    from recsys.evaluation.quick import epoch_evaluator
    from recsys.module import ObjectiveConfig, UserModule
    from recsys.parallel.cluster import allotted
    from recsys.parallel.preemption import leave_whole
    from recsys.parallel.record import RunRecord, check_same_run, held_settings
    from recsys.parallel.resume import go_on
    from recsys.parallel.start import start_from
    from recsys.parallel.strategy import whole_model
    from recsys.policy.dial import DialConfig
    from recsys.promotion import check_name
    from recsys.repeat_fit import fit_repeats
    from recsys.sweep import sweep_result
    from recsys.training import git_commit
    from recsys.vocabulary import item_identity, vocabulary_identity

    settings: dict[str, Any] = OmegaConf.to_container(cfg, resolve=True)  # type: ignore[assignment]
    model_settings = read_settings(ModelSettings, settings["model"], where="model")
    data = read_settings(DataSettings, settings["data"], where="data")
    sample_config, plan = data.samples, data.plan
    objective = read_settings(ObjectiveConfig, settings["objective"], where="objective")
    dial = read_settings(DialConfig, settings["dial"], where="dial")
    read_own(TrainSettings, settings)
    trainer_settings = settings["trainer"] | allotted(settings["trainer"])
    check_arguments(pl.Trainer.__init__, trainer_settings, where="trainer")
    optimizer = instantiate(cfg.optimizer, _convert_="all")
    scheduler = instantiate(cfg.scheduler, _convert_="all")
    bundle_dir = Path(cfg.models_dir) / cfg.dataset.name / cfg.name
    check_name(bundle_dir.parent, cfg.name)

    tables_dir = resolve_tables(features_dir=cfg.features_dir, dataset=cfg.dataset.name, version=cfg.version)
    tables = FeatureTables(tables_dir=tables_dir, cache_dir=cfg.cache_dir)
    checkpoints = Path(cfg.output_dir) / "checkpoints"
    start = None
    if cfg.warm_start:
        start = start_from(Path(cfg.warm_start), tables, fit_until=cfg.fit_until, own_checkpoints=checkpoints)
    cut = tables.cut(cfg.fit_until)
    trained_on: dict[str, Any] = {
        "dataset": cfg.dataset.name,
        "version": tables.version,
        "split_hash": tables.metadata["split"]["hash"],
        "fit_until": cfg.fit_until,
        "cut": cut,
        "learned_until": max(cut, start.trained_on["learned_until"]) if start else cut,
        "git_commit": git_commit(),
    }
    vocabularies = vocabulary_identity(tables)
    item_ids = [str(i) for i in tables.items(cfg.fit_until).item_id]
    pl.seed_everything(cfg.seed, workers=True, verbose=False)
    samples = TrainingSamples(
        tables=tables,
        fit_until=cfg.fit_until,
        config=sample_config,
        scaler=CutScaler(**start.scaler) if start else None,
    )
    scaler = {"mean": samples.scaler.mean, "std": samples.scaler.std}
    model = _started_model(tables, samples, model_settings, seed=cfg.seed, start=start)
    catalogue = None  # a large one comes with the batches, a part at a time
    if samples.content is None:
        catalogue = catalogue_at(tables, cfg.fit_until, times=samples.period_starts)
    evaluator = None
    if cfg.fit_until == Split.VALIDATION:  # a final fit has nothing left that it may peek at
        evaluator = epoch_evaluator(tables=tables, split=Split.VALIDATION, scaler=samples.scaler)
    module = UserModule(
        model=model,
        catalogue=catalogue,
        objective=objective,
        optimizer=optimizer,
        scheduler=scheduler,
        evaluate=evaluator,
    )
    leave_whole()
    trainer = _trainer(cfg, logged={**settings, "trained_on": trained_on})
    datamodule = UserDataModule(samples=samples, plan=plan, num_workers=data.num_workers)
    held = held_settings(settings, trainer, tables)
    known = vocabularies | item_identity(item_ids)
    meaning = {"scaler": scaler, "trained_on": trained_on, "vocabularies": known}
    trainer.callbacks.append(RunRecord({"settings": held, "meaning": meaning}))  # type: ignore[attr-defined]
    go_on(trainer, resume=cfg.resume, folder=checkpoints, check=lambda path: check_same_run(path, held))
    trainer.fit(module, datamodule=datamodule, weights_only=False)
    model = whole_model(trainer.strategy, model)
    if not trainer.is_global_zero and model_settings.table == "replicated":
        return None

    # the ranks of a sharded table do the rest together, for the first one to write
    _fill_neighbours(model, samples, strength=model_settings.neighbour_strength)
    if model.repeats is not None:
        loader = ElasticLoader(samples=samples, config=plan)
        fit_repeats(model, catalogue, islice(loader, len(loader)))
    bundle = Bundle(
        model=model.eval(),
        scaler=scaler,
        trained_on=trained_on,
        settings=settings,
        vocabularies=vocabularies,
        item_ids=item_ids,
        advantage=_advantage(tables, cut, dial.critic) if trainer.is_global_zero else {},
    )
    save_bundle(bundle, bundle_dir, writes=trainer.is_global_zero)
    if not trainer.is_global_zero:
        return None
    evaluate_and_report(
        bundle_dir=bundle_dir,
        tables=tables,
        split=cfg.fit_until,
        output=Path(cfg.output_dir),
        dial=dial,
        sets_dial=True,
    )
    return sweep_result(Path(cfg.output_dir) / "metrics.json", cfg.returns)


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

    if not (tables.is_time_split and tables.metadata["has_time"]):
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


def _trainer(cfg: Any, *, logged: dict[str, Any]) -> Trainer:
    """The trainer of the settings, with its loggers and callbacks; InputError where it cannot be had."""
    from hydra.utils import instantiate
    from omegaconf import OmegaConf
    from pytorch_lightning.utilities.exceptions import MisconfigurationException

    from recsys.parallel.cluster import allotted, environment
    from recsys.tracking import quiet_lightning

    quiet_lightning()
    loggers = [instantiate(logger, _convert_="all") for logger in cfg.logger.values() if logger]
    for logger in loggers:
        logger.log_hyperparams(logged)
    callbacks = [instantiate(c, _convert_="all") for c in cfg.callbacks.values() if c]
    counts = allotted(OmegaConf.to_container(cfg.trainer))  # type: ignore[arg-type]
    make = instantiate(
        cfg.trainer, logger=loggers, default_root_dir=cfg.output_dir, _convert_="all", **counts
    )
    try:
        plugins = [*(make.keywords.get("plugins") or []), *environment()]
        trainer: Trainer = make(callbacks=callbacks, plugins=plugins)
    except (TypeError, ValueError, RuntimeError, MisconfigurationException) as error:
        raise InputError(f"trainer: {str(error).splitlines()[0]}") from error
    return trainer
