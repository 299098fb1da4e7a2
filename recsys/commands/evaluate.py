"""`python -m recsys evaluate`: bundle + tables -> metrics.json and report.html."""

from __future__ import annotations

import csv
import datetime
import json
from pathlib import Path
from typing import Any

from recsys.disk import whole_file
from recsys.entry import hydra_command


def evaluate_and_report(*, bundle_dir: Path, tables: Any, split: str, output: Path | None) -> None:
    """Evaluate, write both files, and print the short table and where the report is.

    `output` None: the folder of the run that trained the bundle.
    """
    from recsys.bundle import load_bundle
    from recsys.evaluation import evaluate_bundle
    from recsys.evaluation.examples import example_users
    from recsys.report.content import Report
    from recsys.report.page import write_report
    from recsys.report.summary import summary_lines

    bundle = load_bundle(bundle_dir)
    output = output or bundle.output_dir
    evaluation = evaluate_bundle(bundle=bundle, tables=tables, split=split)
    content = {
        "figures": evaluation.figures,
        "protocol": evaluation.protocol,
        "notes": evaluation.notes,
        "verdicts": evaluation.verdicts,
    }
    with whole_file(output / "metrics.json") as building:
        building.write_text(json.dumps(content, indent=1))
    public = bool(tables.metadata["public_examples"])
    currency = str(tables.metadata.get("currency") or "")
    report = Report(
        title=f"{tables.metadata['dataset'].replace('_', ' ')}: recommendations and long-term value",
        dataset=tables.metadata["dataset"],
        created_at=datetime.datetime.now(datetime.UTC).strftime("%Y-%m-%d %H:%M UTC"),
        protocol=evaluation.protocol,
        figures=evaluation.figures,
        training_curves=training_curves(output / "csv" / "metrics.csv"),
        decile_tables=evaluation.value.decile_tables,
        spend_curve=evaluation.value.spend_curve,
        retention_curve=evaluation.value.retention_curve,
        coverage_curve=evaluation.coverage_curve,
        examples=example_users(evaluation, tables=tables, split=split) if public else (),
        data_is_public=public,
        notes=evaluation.notes,
        verdicts=evaluation.verdicts,
        currency=currency,
    )
    write_report(path=output / "report.html", report=report)
    for note in evaluation.notes:
        print(note)
    for line in summary_lines(evaluation.figures, verdicts=evaluation.verdicts, currency=currency):
        print(line)
    print(f"report: {(output / 'report.html').resolve()}", flush=True)


def training_curves(path: Path) -> dict[str, list[tuple[float, float]]]:
    """Columns of the CSV logger's metrics file as (step, value) pairs; empty where there is no file."""
    if not path.is_file():
        return {}
    curves: dict[str, list[tuple[float, float]]] = {}
    with path.open() as file:
        for row in csv.DictReader(file):
            for name, value in row.items():
                if value and name.startswith(("train/", "validation/")) and name != "train/epoch_seconds":
                    curves.setdefault(name, []).append((float(row["step"]), float(value)))
    return curves


@hydra_command("evaluate")
def main(cfg: Any) -> None:
    from recsys.data.tables import FeatureTables, resolve_tables

    tables_dir = resolve_tables(features_dir=cfg.features_dir, dataset=cfg.dataset.name, version=cfg.version)
    tables = FeatureTables(tables_dir=tables_dir, cache_dir=cfg.cache_dir)
    evaluate_and_report(
        bundle_dir=Path(cfg.models_dir) / cfg.dataset.name / cfg.bundle,
        tables=tables,
        split=cfg.split,
        output=Path(cfg.output_dir) if cfg.output_dir else None,
    )
