"""`python -m recsys promote`: judge a challenger against the champion, or bring the old one back.

Exit code 0: promoted or brought back; 3: refused; any other: no verdict was reached.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Protocol

from recsys.entry import hydra_command
from recsys.promotion import (
    PerUser,
    PromotionRules,
    Verdict,
    append_promotion,
    champion_path,
    judge,
    rollback,
    switch_champion,
)
from recsys.schema import InputError, MisfitError, Split, Table
from recsys.settings import read_own, read_settings

REFUSED = 3  # exit code of a verdict; 1 is that of an uncaught exception, 2 that of a user's error


class Evaluator(Protocol):
    """A bundle's figures, user by user, on the feature tables in a folder at a cut."""

    def __call__(self, *, bundle_dir: Path, tables_dir: Path, cut: int) -> PerUser: ...


@dataclass(frozen=True, kw_only=True)
class PromoteSettings:
    """`models_dir` and `tables_dir` are those of the one data set; `replace_unreadable`: a champion that
    cannot read the tables may be replaced without a comparison."""

    challenger: str
    models_dir: Path
    tables_dir: Path
    rules: PromotionRules
    replace_unreadable: bool = False


def promote(settings: PromoteSettings, evaluate: Evaluator) -> Verdict:
    """Judge, write the verdict down, and switch the champion if it holds.

    A challenger that learned less of the present than the champion is refused unseen: its cut lies earlier.
    Raises InputError where the challenger is no bundle of this data set or is the champion already, and where
    the champion cannot read the tables unless it may be replaced all the same.
    """
    challenger_dir = _bundle_dir(settings.models_dir, settings.challenger)
    champion_dir = champion_path(settings.models_dir)
    if champion_dir == challenger_dir:
        raise InputError(f"{challenger_dir.name} is the champion already; name another challenger")
    stale = None if champion_dir is None else _stale(challenger_dir, champion_dir)
    if stale:
        _record(
            settings.models_dir,
            challenger=challenger_dir.name,
            champion=champion_dir.name if champion_dir else None,
            verdict="refused",
            reasons=[stale],
        )
        return Verdict(False, (stale,))
    tables_dir = settings.tables_dir.resolve()  # `latest` may move on between the two evaluations
    cut = _test_cut(tables_dir)
    champion = unreadable = None
    if champion_dir is not None:
        try:
            champion = evaluate(bundle_dir=champion_dir, tables_dir=tables_dir, cut=cut)
        except MisfitError as misfit:
            unreadable = _unreadable(champion_dir, misfit, settings.replace_unreadable)
    challenger = evaluate(bundle_dir=challenger_dir, tables_dir=tables_dir, cut=cut)
    verdict = judge(challenger=challenger, champion=champion, rules=settings.rules, unreadable=unreadable)
    if champion_path(settings.models_dir) != champion_dir:
        raise InputError("another champion was promoted in the meantime; run again to be judged against it")
    if verdict.promote:
        switch_champion(settings.models_dir, challenger_dir)
    _record(
        settings.models_dir,
        challenger=challenger_dir.name,
        champion=champion_dir.name if champion_dir else None,
        verdict="promoted" if verdict.promote else "refused",
        compared=champion is not None,
        reasons=list(verdict.reasons),
        table_version=challenger.table_version,
        split_hash=challenger.split_hash,
        cut=cut,
    )
    return verdict


def roll_back(models_dir: Path) -> tuple[str, str]:
    """Bring the previous champion back and write that down; names of (champion now, champion until now)."""
    now, before = rollback(models_dir)
    _record(models_dir, challenger=now, champion=before, verdict="rolled back", reasons=["asked for"])
    return now, before


def _record(models_dir: Path, **entry: Any) -> None:
    append_promotion(models_dir, {"time": datetime.now(UTC).isoformat(timespec="seconds"), **entry})


def _bundle_dir(models_dir: Path, challenger: str) -> Path:
    """The challenger's folder, given by its name in `models_dir` or by a path."""
    for path in (models_dir / challenger, Path(challenger)):
        if challenger and path.is_dir():
            if path.resolve().parent != models_dir.resolve():
                raise InputError(f"{path} lies outside {models_dir}; move the bundle there first")
            return path.resolve()
    bundles = [path.parent for path in models_dir.glob("*/bundle.json") if not path.parent.is_symlink()]
    there = ", ".join(sorted(path.name for path in bundles)) or "none yet"
    what = f"there is no bundle {challenger!r} in {models_dir}" if challenger else "no challenger is named"
    raise InputError(f"{what}; set challenger=NAME to a bundle of {models_dir}: {there}")


def _stale(challenger_dir: Path, champion_dir: Path) -> str | None:
    """Why the challenger is older than the champion in what it learned from, if so."""
    mine, theirs = _learned_until(challenger_dir), _learned_until(champion_dir)
    if mine >= theirs:
        return None
    days = [datetime.fromtimestamp(cut, UTC).date().isoformat() for cut in (mine, theirs)]
    return f"it learned up to {days[0]}, the champion up to {days[1]}: train it with a later cut"


def _unreadable(champion_dir: Path, misfit: MisfitError, replace: bool) -> str:
    """What the verdict says of it; InputError where it may not be replaced."""
    what = f"the champion {champion_dir.name} cannot read these tables"
    if not replace:
        raise InputError(
            f"{what}, so that no challenger can be compared with it ({misfit}); set replace_unreadable=true"
            " to judge the challenger by the limits of a first champion"
        ) from misfit
    return f"{what}: judged without a comparison (replace_unreadable)"


def _learned_until(bundle_dir: Path) -> int:
    """Timestamp of the cut that a bundle's training ended at."""
    try:
        return int(json.loads((bundle_dir / "bundle.json").read_text(encoding="utf-8"))["trained_on"]["cut"])
    except (OSError, ValueError, KeyError, TypeError):
        raise InputError(f"{bundle_dir} does not say which cut it learned up to; train it again") from None


def _test_cut(tables_dir: Path) -> int:
    path = tables_dir / Table.METADATA
    if not path.is_file():
        raise InputError(f"{tables_dir} holds no feature tables; build them with python -m spark_jobs")
    try:
        return int(json.loads(path.read_text(encoding="utf-8"))["split"]["cuts"][Split.TEST])
    except (ValueError, KeyError, TypeError):
        raise InputError(f"{path} names no test cut; build the feature tables again") from None


@dataclass(frozen=True, kw_only=True)
class _Typed:
    """The settings of conf/promote.yaml that belong to no group."""

    challenger: str | None = None
    rollback: bool
    replace_unreadable: bool
    models_dir: str
    features_dir: str


@hydra_command("promote")
def main(cfg: Any) -> None:
    from omegaconf import OmegaConf

    given: dict[str, Any] = OmegaConf.to_container(cfg, resolve=True)  # type: ignore[assignment]
    typed = read_own(_Typed, given)
    rules = read_settings(PromotionRules, given["rules"], where="rules")
    models_dir = Path(typed.models_dir) / cfg.dataset.name
    if typed.rollback:
        if typed.challenger:
            raise InputError("rollback=true takes no challenger; leave out one of the two")
        now, before = roll_back(models_dir)
        print(f"champion: {now}; previous: {before}, which rollback=true brings back")
        return
    from recsys.evaluation import per_user

    settings = PromoteSettings(
        challenger=typed.challenger or "",
        models_dir=models_dir,
        tables_dir=Path(typed.features_dir) / cfg.dataset.name / Table.LATEST,
        rules=rules,
        replace_unreadable=typed.replace_unreadable,
    )
    verdict = promote(settings, per_user)
    print(f"{'promoted' if verdict.promote else 'refused'}: {typed.challenger}")
    for reason in verdict.reasons:
        print(f"  {reason}")
    if not verdict.promote:
        raise SystemExit(REFUSED)
