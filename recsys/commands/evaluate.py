"""`python -m recsys evaluate`: bundle + tables -> metrics.json and report.html."""

from __future__ import annotations

import csv
import datetime
import json
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from recsys.disk import whole_file
from recsys.entry import hydra_command
from recsys.settings import read_own, read_settings

if TYPE_CHECKING:
    from recsys.evaluation.evaluate import Evaluation
    from recsys.evaluation.off_policy import OffPolicyConfig
    from recsys.policy.dial import DialConfig
    from recsys.policy.slates import PolicyConfig


def evaluate_and_report(
    *,
    bundle_dir: Path,
    tables: Any,
    split: str,
    output: Path | None,
    dial: DialConfig,
    sets_dial: bool = False,
    policy: PolicyConfig | None = None,
    off_policy: OffPolicyConfig | None = None,
    loop: Path | None = None,
) -> None:
    """Evaluate, write both files, and print the short table and where the report is.

    `output` None: the folder of the run that trained the bundle. `sets_dial`: record the front's default dial
    in the bundle, which has not served yet. `policy`: that which is asked what it would have earned; None for
    a bundle that has just learned from the whole log. `loop`: results of a closed loop to show.
    """
    from recsys.bundle import load_bundle, set_dial
    from recsys.evaluation import evaluate_bundle
    from recsys.evaluation.dial import dial_front, front_lines
    from recsys.evaluation.loop import read_loop
    from recsys.evaluation.off_policy import OffPolicyConfig, own_lines, own_panel, tilted_panel
    from recsys.report.summary import summary_lines

    rounds = read_loop(loop) if loop else []
    bundle = load_bundle(bundle_dir)
    output = output or bundle.output_dir
    evaluation = evaluate_bundle(bundle=bundle, tables=tables, split=split)
    off_policy = off_policy or OffPolicyConfig()
    turned = dial_front(
        bundle=bundle, tables=tables, split=split, config=dial, most_reward=off_policy.most_reward
    )
    horizon_days = dial.critic.horizon_days
    panels = [tilted_panel(turned, horizon_days=horizon_days)]
    if policy is not None:
        panels.append(
            own_panel(
                bundle=bundle,
                tables=tables,
                split=split,
                policy=policy,
                horizon_days=horizon_days,
                level=dial.level,
                config=off_policy,
            )
        )
    if sets_dial:
        set_dial(bundle_dir, turned["default"])
    raised = {"dial": turned, "off_policy": panels, "loop": rounds}
    _write_metrics(output / "metrics.json", evaluation, raised)
    _write_report(output, evaluation, raised, tables=tables, split=split)
    for note in evaluation.notes:
        print(note)
    currency = _currency(tables)
    for line in summary_lines(evaluation.figures, verdicts=evaluation.verdicts, currency=currency):
        print(line)
    for line in [*front_lines(turned), *own_lines(panels)]:
        print(line)
    print(f"report: {(output / 'report.html').resolve()}", flush=True)


def _write_metrics(path: Path, evaluation: Evaluation, raised: dict[str, Any]) -> None:
    """`raised`: the dial's front, off-policy panels and rounds of a closed loop, by name."""
    from recsys.report.compare import standings

    value = evaluation.value
    content = {
        "figures": evaluation.figures,
        "protocol": evaluation.protocol,
        "notes": evaluation.notes,
        "verdicts": evaluation.verdicts,
        "standings": [asdict(standing) for standing in standings(evaluation.figures)],
        "deciles": value.decile_tables,
        "pit_histograms": value.pit_histograms,
        "cohort_curves": value.cohort_curves,
        **raised,
    }
    with whole_file(path) as building:
        building.write_text(json.dumps(content, indent=1))


def _write_report(
    output: Path, evaluation: Evaluation, raised: dict[str, Any], *, tables: Any, split: str
) -> None:
    from recsys.evaluation.examples import example_users
    from recsys.report.content import Report
    from recsys.report.page import write_report

    public, value = bool(tables.metadata["public_examples"]), evaluation.value
    report = Report(
        title=f"{tables.metadata['dataset'].replace('_', ' ')}: recommendations and long-term value",
        dataset=tables.metadata["dataset"],
        created_at=datetime.datetime.now(datetime.UTC).strftime("%Y-%m-%d %H:%M UTC"),
        protocol=evaluation.protocol,
        figures=evaluation.figures,
        training_curves=training_curves(output / "csv" / "metrics.csv"),
        decile_tables=value.decile_tables,
        spend_curve=value.spend_curve,
        retention_curve=value.retention_curve,
        pit_histograms=value.pit_histograms,
        cohort_curves=value.cohort_curves,
        value_groups=value.value_groups,
        coverage_curve=evaluation.coverage_curve,
        examples=example_users(evaluation, tables=tables, split=split) if public else (),
        data_is_public=public,
        notes=evaluation.notes,
        verdicts=evaluation.verdicts,
        currency=_currency(tables),
        **raised,
    )
    write_report(path=output / "report.html", report=report)


def _currency(tables: Any) -> str:
    return str(tables.metadata.get("currency") or "")


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


@dataclass(frozen=True, kw_only=True)
class BundleOnTables:
    """Which bundle is looked at on which tables; output_dir None: that of the run which trained it."""

    version: str
    bundle: str
    features_dir: str
    models_dir: str
    cache_dir: str
    output_dir: str | None = None


@dataclass(frozen=True, kw_only=True)
class EvaluateSettings(BundleOnTables):
    """The settings of conf/evaluate.yaml that belong to no group."""

    split: str
    loop: str | None = None


@hydra_command("evaluate")
def main(cfg: Any) -> None:
    from omegaconf import OmegaConf

    from recsys.bundle import bundle_folder
    from recsys.data.tables import FeatureTables, resolve_tables
    from recsys.evaluation.off_policy import OffPolicyConfig
    from recsys.policy.dial import DialConfig
    from recsys.policy.slates import PolicyConfig

    given: dict[str, Any] = OmegaConf.to_container(cfg, resolve=True)  # type: ignore[assignment]
    settings = read_own(EvaluateSettings, given)
    dial = read_settings(DialConfig, given["dial"], where="dial")
    policy = read_settings(PolicyConfig, given["policy"], where="policy")
    off_policy = read_settings(OffPolicyConfig, given["off_policy"], where="off_policy")
    dataset = cfg.dataset.name
    tables_dir = resolve_tables(features_dir=settings.features_dir, dataset=dataset, version=settings.version)
    evaluate_and_report(
        bundle_dir=bundle_folder(Path(settings.models_dir) / dataset, settings.bundle),
        tables=FeatureTables(tables_dir=tables_dir, cache_dir=settings.cache_dir),
        split=settings.split,
        output=Path(settings.output_dir) if settings.output_dir else None,
        dial=dial,
        policy=policy,
        off_policy=off_policy,
        loop=Path(settings.loop) if settings.loop else None,
    )
