"""`recsys promote`: judge, record, switch; and back again. The evaluation of bundles is made up."""

from __future__ import annotations

import json
import os
import sys
import types
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pytest
from omegaconf import OmegaConf

from recsys.commands.promote import PromoteSettings, main, promote
from recsys.promotion import PromotionRules
from recsys.schema import InputError, MisfitError

CUT = 1_315_612_800
CONF = Path(__file__).parents[2] / "conf"
QUALITY = {"old": 0.30, "better": 0.33, "worse": 0.20}


@dataclass(frozen=True)
class Figures:
    """Every user has the NDCG@10 that the bundle's name stands for; no money."""

    ndcg10_U: np.ndarray
    cut: int
    table_version: str = "tables-1"
    split_hash: str = "split-1"
    user_index_U: np.ndarray = field(default_factory=lambda: np.arange(1, 201))
    horizon_days: None = None
    spend_actual_U: None = None
    spend_predicted_U: None = None


def by_name(*, bundle_dir: Path, tables_dir: Path, cut: int) -> Figures:
    assert (tables_dir / "metadata.json").is_file()
    return Figures(ndcg10_U=np.full(200, QUALITY[bundle_dir.name]), cut=cut)


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Three bundles and feature tables of a data set `toy` in the working directory."""
    for name in QUALITY:
        (tmp_path / "models" / "toy" / name).mkdir(parents=True)
        learned_until(tmp_path, name, CUT)
    tables = tmp_path / "features" / "toy" / "tables-1"
    tables.mkdir(parents=True)
    (tables / "metadata.json").write_text(json.dumps({"split": {"cuts": {"train": [], "test": CUT}}}))
    (tables.parent / "latest").symlink_to("tables-1")
    (tmp_path / "conf" / "dataset").mkdir(parents=True)
    (tmp_path / "conf" / "dataset" / "toy.yaml").write_text("name: toy\n")
    monkeypatch.chdir(tmp_path)
    monkeypatch.setitem(sys.modules, "recsys.evaluation", types.SimpleNamespace(per_user=by_name))
    return tmp_path


def learned_until(place: Path, name: str, cut: int) -> None:
    content = {"trained_on": {"cut": cut}}
    (place / "models" / "toy" / name / "bundle.json").write_text(json.dumps(content))


def settings(place: Path, challenger: str, *, replace_unreadable: bool = False) -> PromoteSettings:
    return PromoteSettings(
        challenger=challenger,
        models_dir=place / "models" / "toy",
        tables_dir=place / "features" / "toy" / "latest",
        rules=PromotionRules(**OmegaConf.load(CONF / "promote.yaml").rules),
        replace_unreadable=replace_unreadable,
    )


def champion(place: Path) -> str:
    return os.readlink(place / "models" / "toy" / "champion")


def record(place: Path) -> list[dict[str, object]]:
    lines = (place / "models" / "toy" / "promotions.jsonl").read_text().splitlines()
    return [json.loads(line) for line in lines]


def typed(monkeypatch: pytest.MonkeyPatch, *overrides: str) -> None:
    monkeypatch.setattr(sys, "argv", ["promote", "--config-dir", "conf", "dataset=toy", *overrides])
    main()


def test_the_first_then_a_better_one_then_a_worse_one(place: Path) -> None:
    assert promote(settings(place, "old"), by_name).promote
    assert promote(settings(place, "better"), by_name).promote
    verdict = promote(settings(place, "worse"), by_name)
    assert not verdict.promote
    assert champion(place) == "better"
    assert [(line["challenger"], line["champion"], line["verdict"]) for line in record(place)] == [
        ("old", None, "promoted"),
        ("better", "old", "promoted"),
        ("worse", "better", "refused"),
    ]
    last = record(place)[-1]
    assert last["cut"] == CUT
    assert [line["compared"] for line in record(place)] == [False, True, True]
    assert last["table_version"] == "tables-1"
    assert last["reasons"] == list(verdict.reasons)
    assert str(last["time"]).endswith("+00:00")


def test_a_challenger_that_learned_up_to_an_earlier_day_is_refused_unseen(place: Path) -> None:
    promote(settings(place, "old"), by_name)
    learned_until(place, "better", CUT - 30 * 86_400)

    def never(**_: object) -> Figures:
        raise AssertionError

    verdict = promote(settings(place, "better"), never)
    assert not verdict.promote
    assert verdict.reasons == (
        "it learned up to 2011-08-11, the champion up to 2011-09-10: train it with a later cut",
    )
    assert champion(place) == "old"
    assert record(place)[-1]["reasons"] == list(verdict.reasons)
    (place / "models" / "toy" / "better" / "bundle.json").write_text("{}")
    with pytest.raises(InputError, match="does not say which cut"):
        promote(settings(place, "better"), by_name)


def unreadable_old(*, bundle_dir: Path, tables_dir: Path, cut: int) -> Figures:
    if bundle_dir.name == "old":
        raise MisfitError("old: the tables have 1 profile_fields, the bundle was trained with 2")
    return by_name(bundle_dir=bundle_dir, tables_dir=tables_dir, cut=cut)


def test_a_champion_that_cannot_read_the_tables_is_named_with_the_way_past_it(place: Path) -> None:
    promote(settings(place, "old"), by_name)
    with pytest.raises(InputError, match=r"the champion old cannot .*1 profile_fields.*replace_unreadable=t"):
        promote(settings(place, "better"), unreadable_old)
    assert (champion(place), len(record(place))) == ("old", 1)
    verdict = promote(settings(place, "better", replace_unreadable=True), unreadable_old)
    assert verdict.promote
    told = "the champion old cannot read these tables: judged without a comparison (replace_unreadable)"
    assert verdict.reasons[0] == told
    last = record(place)[-1]
    assert (last["champion"], last["compared"], last["verdict"]) == ("old", False, "promoted")
    assert told in last["reasons"]  # type: ignore[operator]
    assert champion(place) == "better"


def test_replacing_the_unreadable_is_no_way_past_a_comparison_or_the_limits(place: Path) -> None:
    promote(settings(place, "old"), by_name)
    assert not promote(settings(place, "worse", replace_unreadable=True), by_name).promote
    assert record(place)[-1]["compared"] is True

    def few(*, bundle_dir: Path, tables_dir: Path, cut: int) -> Figures:
        unreadable_old(bundle_dir=bundle_dir, tables_dir=tables_dir, cut=cut)
        return Figures(ndcg10_U=np.full(50, 0.9), cut=cut)

    verdict = promote(settings(place, "better", replace_unreadable=True), few)
    assert not verdict.promote
    assert "fewer than min_users" in verdict.reasons[0]
    with pytest.raises(MisfitError):  # of the challenger: it is none that can be replaced
        promote(settings(place, "better", replace_unreadable=True), never_fits)
    assert champion(place) == "old"


def never_fits(*, bundle_dir: Path, **_: object) -> Figures:
    raise MisfitError(bundle_dir.name)


def test_what_was_not_switched_is_not_recorded(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def stopped(*_: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("recsys.commands.promote.switch_champion", stopped)
    with pytest.raises(KeyboardInterrupt):
        promote(settings(place, "old"), by_name)
    assert not (place / "models" / "toy" / "promotions.jsonl").exists()


def test_both_are_evaluated_on_the_same_tables_even_if_newer_ones_appear(place: Path) -> None:
    promote(settings(place, "old"), by_name)
    seen = []

    def evaluate(*, bundle_dir: Path, tables_dir: Path, cut: int) -> Figures:
        seen.append((bundle_dir.name, tables_dir.name, cut))
        latest = place / "features" / "toy" / "latest"
        latest.unlink()
        latest.symlink_to("tables-2")
        return by_name(bundle_dir=bundle_dir, tables_dir=tables_dir, cut=cut)

    promote(settings(place, "better"), evaluate)
    assert seen == [("old", "tables-1", CUT), ("better", "tables-1", CUT)]


def test_a_champion_switched_meanwhile_is_not_overwritten(place: Path) -> None:
    promote(settings(place, "old"), by_name)

    def evaluate(*, bundle_dir: Path, tables_dir: Path, cut: int) -> Figures:
        if champion(place) == "old":
            promote(settings(place, "better"), by_name)
        return Figures(ndcg10_U=np.full(200, 0.9), cut=cut)

    with pytest.raises(InputError, match="another champion was promoted"):
        promote(settings(place, "worse"), evaluate)
    assert champion(place) == "better"


def test_names_and_paths_that_do_not_fit_are_refused(place: Path) -> None:
    promote(settings(place, "models/toy/old"), by_name)
    assert champion(place) == "old"
    for challenger, message in (
        ("old", "old is the champion already"),
        ("champion", "old is the champion already"),
        ("nothing", "there is no bundle 'nothing' in .*: better, old, worse$"),
        ("", r"^no challenger is named; set challenger=NAME to a bundle of .*: better, old, worse$"),
        ("features/toy", "lies outside"),
        ("../../conf", "lies outside"),
    ):
        with pytest.raises(InputError, match=message):
            promote(settings(place, challenger), by_name)
    assert len(record(place)) == 1


def test_without_tables_there_is_no_verdict(place: Path) -> None:
    (place / "features" / "toy" / "latest" / "metadata.json").write_text("{}")
    with pytest.raises(InputError, match="names no test cut"):
        promote(settings(place, "old"), by_name)
    (place / "features" / "toy" / "latest" / "metadata.json").unlink()
    with pytest.raises(InputError, match="holds no feature tables"):
        promote(settings(place, "old"), by_name)
    assert not (place / "models" / "toy" / "champion").exists()


def test_as_typed_promoted_refused_and_rolled_back(
    place: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    typed(monkeypatch, "challenger=old")
    typed(monkeypatch, "challenger=better")
    assert capsys.readouterr().out.startswith("promoted: old\n  there is no champion yet")
    with pytest.raises(SystemExit) as refused:
        typed(monkeypatch, "challenger=worse")
    assert refused.value.code == 3, "1 is that of any uncaught exception"
    assert capsys.readouterr().out.startswith("refused: worse\n  NDCG@10: 0.2000 against 0.3300")
    typed(monkeypatch, "rollback=true")
    assert capsys.readouterr().out == "champion: old; previous: better, which rollback=true brings back\n"
    assert champion(place) == "old"
    assert record(place)[-1]["verdict"] == "rolled back"
    assert not list(place.glob("*.log"))


def test_rules_can_be_overridden(place: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    typed(monkeypatch, "challenger=old")
    typed(monkeypatch, "challenger=worse", "rules.ndcg_relative_margin=0.5")
    assert champion(place) == "worse"
    with pytest.raises(SystemExit) as caught:
        typed(monkeypatch, "challenger=better", "rules.min_users=0")
    assert caught.value.code == 2
