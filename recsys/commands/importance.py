"""`python -m recsys importance`: bundle + tables -> importance.json: which features the model rests on."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from recsys.commands.evaluate import BundleOnTables
from recsys.disk import whole_file
from recsys.entry import hydra_command
from recsys.settings import read_own, read_settings


@dataclass(frozen=True, kw_only=True)
class ImportanceSettings(BundleOnTables):
    """The settings of conf/importance.yaml that belong to no group; split None: what the bundle has learned
    up to."""

    split: str | None = None


@hydra_command("importance")
def main(cfg: Any) -> None:
    from omegaconf import OmegaConf

    from recsys.bundle import bundle_folder, load_bundle
    from recsys.data.tables import FeatureTables, resolve_tables
    from recsys.evaluation.importance import ImportanceConfig, bundle_importances, importance_lines

    given: dict[str, Any] = OmegaConf.to_container(cfg, resolve=True)  # type: ignore[assignment]
    settings = read_own(ImportanceSettings, given)
    config = read_settings(ImportanceConfig, given["importance"], where="importance")
    dataset = cfg.dataset.name
    tables_dir = resolve_tables(features_dir=settings.features_dir, dataset=dataset, version=settings.version)
    bundle = load_bundle(bundle_folder(Path(settings.models_dir) / dataset, settings.bundle))
    found = bundle_importances(
        bundle=bundle,
        tables=FeatureTables(tables_dir=tables_dir, cache_dir=settings.cache_dir),
        split=settings.split or bundle.trained_on["fit_until"],
        config=config,
    )
    output = Path(settings.output_dir) if settings.output_dir else bundle.output_dir
    with whole_file(output / "importance.json") as building:
        building.write_text(json.dumps(found, indent=1))
    for line in importance_lines(found):
        print(line)
    told = {
        name: found[name]
        for name in ("dataset", "scored_at", "not_measured", "only_noise", "candidates_for_drop")
    }
    print(json.dumps(told | {"written": str(output / "importance.json")}), flush=True)
