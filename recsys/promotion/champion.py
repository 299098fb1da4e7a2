"""Which bundle is the champion, and the record of every change.

    models/<dataset>/<bundle-name>/    bundles
    models/<dataset>/champion          relative symlink to the one that serves
    models/<dataset>/previous          relative symlink to the one before, for a rollback
    models/<dataset>/.until-now        while the two change: the champion so far, so that a stop loses nothing
    models/<dataset>/promotions.jsonl  every verdict, one line each, only ever appended to

A symlink is switched by renaming a new one over it, so a reader sees the old champion or the new one.
"""

from __future__ import annotations

import errno
import json
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from recsys.bundle import CHAMPION
from recsys.schema import InputError

PREVIOUS = "previous"
UNTIL_NOW = ".until-now"
PROMOTIONS = "promotions.jsonl"


def champion_path(models_dir: Path) -> Path | None:
    """The champion's bundle folder; None where there is none.

    Raises InputError where its link leads nowhere.
    """
    link = models_dir / CHAMPION
    name = _target(link)
    if name is not None and not link.is_dir():
        raise InputError(
            f"{link} points at {name}, which is gone; restore it, remove the link or set rollback=true"
        )
    return None if name is None else link.resolve()


def switch_champion(models_dir: Path, bundle_dir: Path) -> None:
    """Make `bundle_dir`, a folder of `models_dir`, the champion; the one so far becomes the previous one."""
    if bundle_dir.is_symlink() or not bundle_dir.is_dir():
        raise InputError(f"{bundle_dir} is no bundle folder; name one in {models_dir}")
    if bundle_dir.resolve().parent != models_dir.resolve():
        raise InputError(f"{bundle_dir} lies outside {models_dir}; move the bundle there first")
    _finish(models_dir)
    champion = champion_path(models_dir)
    if champion is not None and champion.name == bundle_dir.resolve().name:
        raise InputError(f"{champion.name} is the champion already; nothing to switch")
    _replace(models_dir, _target(models_dir / CHAMPION), bundle_dir.resolve().name)


def rollback(models_dir: Path) -> tuple[str, str]:
    """Champion and previous change places; returns the names (champion now, champion until now).

    Done twice it changes nothing. Works with a champion whose folder is gone: that is when it is needed.
    """
    _finish(models_dir)
    champion, previous = _target(models_dir / CHAMPION), _target(models_dir / PREVIOUS)
    if champion is None or previous is None or champion == previous:
        raise InputError(f"{models_dir} has no previous champion; promote a bundle by name instead")
    if not (models_dir / previous).is_dir():
        raise InputError(
            f"the previous champion {previous} is gone from {models_dir}; promote another bundle"
        )
    _replace(models_dir, champion, previous)
    return previous, champion


def check_name(models_dir: Path, name: str) -> None:
    """InputError where a new bundle must not have this name: it would replace what serves, or may again."""
    if name in ("", ".", "..") or "/" in name:
        raise InputError(f"name={name} is no name of a folder; choose one without a slash")
    if name in (CHAMPION, PREVIOUS, PROMOTIONS, UNTIL_NOW):
        raise InputError(f"name={name} is reserved in {models_dir}; choose another name")
    taken = {
        link: target
        for link in (CHAMPION, PREVIOUS, UNTIL_NOW)
        if (target := _target(models_dir / link)) is not None
    }
    for link, target in taken.items():
        if (models_dir / name).resolve() == (models_dir / target).resolve():
            what = "the champion" if link == CHAMPION else "the previous champion, kept for a rollback"
            raise InputError(f"{models_dir / name} is {what}; train under another name (name=...)")


def append_promotion(models_dir: Path, entry: Mapping[str, Any]) -> None:
    """Add a line to the record of verdicts; a line that does not fit on the disk is taken back whole."""
    line = json.dumps(entry, ensure_ascii=False, allow_nan=False).encode() + b"\n"
    with (models_dir / PROMOTIONS).open("ab", buffering=0) as file:
        size = file.seek(0, os.SEEK_END)
        try:
            if file.write(line) != len(line):
                raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(models_dir / PROMOTIONS))
            os.fsync(file.fileno())
        except OSError:
            os.truncate(file.fileno(), size)
            raise


def _replace(models_dir: Path, champion: str | None, successor: str) -> None:
    """Make `successor` the champion and the one so far the previous one; `_finish` goes on after a stop."""
    if champion is not None:
        _link(models_dir, UNTIL_NOW, champion)
    _link(models_dir, CHAMPION, successor)
    _finish(models_dir)


def _finish(models_dir: Path) -> None:
    """Do what is left of a change: nothing where it had not reached the champion, else set the previous."""
    until_now = _target(models_dir / UNTIL_NOW)
    if until_now is None:
        return
    if until_now != _target(models_dir / CHAMPION):
        _link(models_dir, PREVIOUS, until_now)
    (models_dir / UNTIL_NOW).unlink(missing_ok=True)


def _target(link: Path) -> str | None:
    """What a link names; None where there is no link."""
    if link.is_symlink():
        return os.readlink(link)
    if link.exists():
        raise InputError(f"{link} is no symlink; move it away, then promote a bundle")
    return None


def _link(models_dir: Path, name: str, target: str) -> None:
    unfinished = models_dir / f".{name}-{os.getpid()}"
    unfinished.unlink(missing_ok=True)
    unfinished.symlink_to(target, target_is_directory=True)
    os.replace(unfinished, models_dir / name)
