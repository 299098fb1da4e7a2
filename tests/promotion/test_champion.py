"""The champion's link: switched, rolled back, never half."""

from __future__ import annotations

import json
import os
from pathlib import Path

import pytest

from recsys.promotion.champion import append_promotion, champion_path, check_name, rollback, switch_champion
from recsys.schema import InputError


def stop_at(monkeypatch: pytest.MonkeyPatch, link: str) -> None:
    """The process ends before the link of this name is renamed into place."""
    replace = os.replace

    def stopping(source: object, target: Path) -> None:
        if target.name == link:
            raise KeyboardInterrupt
        replace(source, target)

    monkeypatch.setattr(os, "replace", stopping)


@pytest.fixture
def models_dir(tmp_path: Path) -> Path:
    for name in ("a", "b", "c"):
        (tmp_path / "models" / name).mkdir(parents=True)
    return tmp_path / "models"


def links(models_dir: Path) -> dict[str, str]:
    return {path.name: os.readlink(path) for path in models_dir.iterdir() if path.is_symlink()}


def test_switching_keeps_the_one_before(models_dir: Path) -> None:
    assert champion_path(models_dir) is None
    switch_champion(models_dir, models_dir / "a")
    assert links(models_dir) == {"champion": "a"}  # relative, so that the folder can be moved
    switch_champion(models_dir, models_dir / "b")
    assert links(models_dir) == {"champion": "b", "previous": "a"}
    switch_champion(models_dir, models_dir / "c")
    assert links(models_dir) == {"champion": "c", "previous": "b"}
    assert champion_path(models_dir) == (models_dir / "c").resolve()


def test_a_rollback_changes_places_and_twice_changes_nothing(models_dir: Path) -> None:
    switch_champion(models_dir, models_dir / "a")
    switch_champion(models_dir, models_dir / "b")
    assert rollback(models_dir) == ("a", "b")
    assert links(models_dir) == {"champion": "a", "previous": "b"}
    assert rollback(models_dir) == ("b", "a")
    assert links(models_dir) == {"champion": "b", "previous": "a"}


def test_a_rollback_mends_a_champion_that_is_gone(models_dir: Path) -> None:
    switch_champion(models_dir, models_dir / "a")
    switch_champion(models_dir, models_dir / "b")
    (models_dir / "b").rmdir()
    with pytest.raises(InputError, match="champion points at b, which is gone"):
        champion_path(models_dir)
    rollback(models_dir)
    assert champion_path(models_dir) == (models_dir / "a").resolve()


def test_a_stop_between_the_two_links_leaves_the_old_champion(
    models_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    switch_champion(models_dir, models_dir / "a")
    switch_champion(models_dir, models_dir / "b")
    with monkeypatch.context() as patch:
        stop_at(patch, "champion")
        with pytest.raises(KeyboardInterrupt):
            switch_champion(models_dir, models_dir / "c")
    assert champion_path(models_dir) == (models_dir / "b").resolve()
    switch_champion(models_dir, models_dir / "c")
    assert links(models_dir) == {"champion": "c", "previous": "b"}


@pytest.mark.parametrize("link", [".until-now", "champion", "previous"])
@pytest.mark.parametrize("back", [False, True])
def test_a_stop_anywhere_leaves_the_way_back(
    models_dir: Path, monkeypatch: pytest.MonkeyPatch, link: str, back: bool
) -> None:
    """From champion b with a before it: to c, or back to a. Stopped early, it is as if never begun."""
    switch_champion(models_dir, models_dir / "a")
    switch_champion(models_dir, models_dir / "b")
    with monkeypatch.context() as patch:
        stop_at(patch, link)
        with pytest.raises(KeyboardInterrupt):
            _ = rollback(models_dir) if back else switch_champion(models_dir, models_dir / "c")
    switched, successor = link == "previous", "a" if back else "c"
    assert links(models_dir)["champion"] == (successor if switched else "b")
    assert rollback(models_dir) == (("b", successor) if switched else ("a", "b"))


def test_names_of_what_serves_or_may_serve_again_are_taken(
    models_dir: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    check_name(models_dir / "not_there", "a")
    switch_champion(models_dir, models_dir / "a")
    switch_champion(models_dir, models_dir / "b")
    check_name(models_dir, "c")
    check_name(models_dir, "new")
    for name, message in (
        ("a", "a is the previous champion, kept for a rollback; train under another name"),
        ("b", "b is the champion; train under another name"),
        ("champion", "name=champion is reserved"),
        ("previous", "name=previous is reserved"),
        ("promotions.jsonl", "is reserved"),
        ("", "no name of a folder"),
        ("..", "no name of a folder"),
        ("x/a", "no name of a folder"),
    ):
        with pytest.raises(InputError, match=message):
            check_name(models_dir, name)
    with monkeypatch.context() as patch:
        stop_at(patch, "previous")
        with pytest.raises(KeyboardInterrupt):
            switch_champion(models_dir, models_dir / "c")
    with pytest.raises(InputError, match="b is the previous champion"):
        check_name(models_dir, "b")


def test_what_cannot_be_switched_is_refused(models_dir: Path, tmp_path: Path) -> None:
    switch_champion(models_dir, models_dir / "a")
    (tmp_path / "elsewhere").mkdir()
    for bundle_dir, message in (
        (models_dir / "nothing", "nothing is no bundle folder"),
        (models_dir / "champion", "champion is no bundle folder"),
        (tmp_path / "elsewhere", "lies outside"),
        (models_dir / "a", "a is the champion already"),
    ):
        with pytest.raises(InputError, match=message):
            switch_champion(models_dir, bundle_dir)
    with pytest.raises(InputError, match="no previous champion"):
        rollback(models_dir)
    assert links(models_dir) == {"champion": "a"}


def test_a_folder_in_the_links_place_is_left_alone(models_dir: Path) -> None:
    (models_dir / "champion").mkdir()
    with pytest.raises(InputError, match="is no symlink"):
        champion_path(models_dir)


def test_the_record_only_grows(models_dir: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    append_promotion(models_dir, {"challenger": "a"})
    append_promotion(models_dir, {"challenger": "Zoë"})

    def full_disk(descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", full_disk)
        with pytest.raises(OSError, match="No space left"):
            append_promotion(models_dir, {"challenger": "c"})
    lines = (models_dir / "promotions.jsonl").read_text(encoding="utf-8").splitlines()
    assert [json.loads(line) for line in lines] == [{"challenger": "a"}, {"challenger": "Zoë"}]
