"""`python train.py`: feature tables -> model bundle, metrics.json, report.html."""

from __future__ import annotations

from itertools import islice
from pathlib import Path
from typing import Any

from recsys.entry import hydra_command


@hydra_command("train")
def main(cfg: Any) -> None:
    import pytorch_lightning as pl
    import torch
    from hydra.utils import instantiate
    from omegaconf import OmegaConf
    from pytorch_lightning.utilities.exceptions import MisconfigurationException

    from recsys.build import ModelSettings, catalogue_at, model_config
    from recsys.bundle import Bundle, load_bundle, save_bundle
    from recsys.commands.evaluate import evaluate_and_report
    from recsys.data.cooccurrence import cooccurrence_vectors
    from recsys.data.datamodule import UserDataModule
    from recsys.data.plan import ElasticLoader, PlanConfig
    from recsys.data.samples import SampleConfig, TrainingSamples
    from recsys.data.tables import FeatureTables, resolve_tables
    from recsys.evaluation.quick import epoch_evaluator
    from recsys.module import ObjectiveConfig, UserModule
    from recsys.nn.user_model import UserModel
    from recsys.promotion import champion_path
    from recsys.repeat_fit import fit_repeats
    from recsys.schema import InputError, Split
    from recsys.settings import read_settings
    from recsys.training import git_commit
    from recsys.value_start import start_value_heads
    from recsys.warm_start import warm_start

    settings: dict[str, Any] = OmegaConf.to_container(cfg, resolve=True)  # type: ignore[assignment]
    model_settings = read_settings(ModelSettings, settings["model"], where="model")
    sample_config = read_settings(SampleConfig, settings["data"]["samples"], where="data.samples")
    plan = read_settings(PlanConfig, settings["data"]["plan"], where="data.plan")
    objective = read_settings(ObjectiveConfig, settings["objective"], where="objective")
    pl.seed_everything(cfg.seed, workers=True, verbose=False)
    output = Path(cfg.output_dir)
    bundle_dir = Path(cfg.models_dir) / cfg.dataset.name / cfg.name
    if champion_path(bundle_dir.parent) == bundle_dir.resolve():
        raise InputError(f"{bundle_dir} is the champion; train its challenger under another name (name=...)")
    tables_dir = resolve_tables(features_dir=cfg.features_dir, dataset=cfg.dataset.name, version=cfg.version)
    tables = FeatureTables(tables_dir=tables_dir, cache_dir=cfg.cache_dir)
    samples = TrainingSamples(tables=tables, fit_until=cfg.fit_until, config=sample_config)
    model = UserModel(model_config(tables=tables, samples=samples, settings=model_settings))
    if cfg.warm_start:
        warm_start(model, load_bundle(cfg.warm_start))
    else:
        model.start_items_from(torch.from_numpy(cooccurrence_vectors(samples, width=cfg.model.width)))
        if model.value_heads is not None:
            start_value_heads(model.value_heads, samples.cuts)
    catalogue = catalogue_at(tables, cfg.fit_until, times=samples.period_starts)
    evaluator = None
    if cfg.fit_until == Split.VALIDATION:  # a final fit has nothing left that it may peek at
        evaluator = epoch_evaluator(tables=tables, split=Split.VALIDATION, scaler=samples.scaler)
    module = UserModule(
        model=model,
        catalogue=catalogue,
        objective=objective,
        optimizer=instantiate(cfg.optimizer, _convert_="all"),
        scheduler=instantiate(cfg.scheduler, _convert_="all"),
        evaluate=evaluator,
    )
    run = {
        "table_version": tables.version,
        "split_hash": tables.metadata["split"]["hash"],
        "git_commit": git_commit(),
    }
    loggers = [instantiate(logger, _convert_="all") for logger in cfg.logger.values() if logger]
    for logger in loggers:
        logger.log_hyperparams({**settings, **run})
    callbacks = [instantiate(c, _convert_="all") for c in cfg.callbacks.values() if c]
    try:
        trainer = instantiate(cfg.trainer, logger=loggers, default_root_dir=str(output), _convert_="all")(
            callbacks=callbacks
        )
    except (TypeError, ValueError, MisconfigurationException) as error:
        raise InputError(f"trainer: {str(error).splitlines()[0]}") from error
    datamodule = UserDataModule(samples=samples, plan=plan, num_workers=cfg.data.num_workers)
    trainer.fit(module, datamodule=datamodule, ckpt_path=cfg.resume)
    if not trainer.is_global_zero:
        return
    model.cpu()
    if model.repeats is not None:
        loader = ElasticLoader(samples=samples, config=plan)
        fit_repeats(model, catalogue, islice(loader, len(loader)))
    bundle = Bundle(
        model=model.eval(),
        scaler={"mean": samples.scaler.mean, "std": samples.scaler.std},
        trained_on={
            "dataset": cfg.dataset.name,
            "version": tables.version,
            "split_hash": run["split_hash"],
            "fit_until": cfg.fit_until,
            "cut": tables.cut(cfg.fit_until),
            "git_commit": run["git_commit"],
        },
        settings=settings,
        item_ids=[str(i) for i in tables.items(cfg.fit_until).item_id],
    )
    save_bundle(bundle, bundle_dir)
    evaluate_and_report(bundle_dir=bundle_dir, tables=tables, split=cfg.fit_until, output=output)
