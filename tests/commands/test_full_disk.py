"""Commands on a disk that is really full: one line that names the place, and nothing half written."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from recsys.bundle import load_bundle
from tests import tiny

pytestmark = pytest.mark.slow


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Callable[[str], Path]]:
    """Mounts a disk of so many KiB; skips where this user may not mount."""
    place = tmp_path / "disk"
    place.mkdir()
    mounted: list[Path] = []

    def mount(size: str) -> Path:
        command = ["mount", "-t", "tmpfs", "-o", f"size={size}", "tmpfs", str(place)]
        if shutil.which("mount") is None or subprocess.run(command, capture_output=True).returncode:
            pytest.skip("needs the right to mount a tmpfs")
        mounted.append(place)
        return place

    yield mount
    for path in mounted:
        subprocess.run(["umount", str(path)], check=True)


def refused(done: subprocess.CompletedProcess[str], place: Path) -> None:
    *before, last = done.stderr.splitlines()
    assert last == f"error: No space left on device ({place}): free space or mend the path, then run again"
    assert not [line for line in before if "Traceback" in line or "Errno" in line]


def left_over(disk: Path) -> list[str]:
    """Hidden files and folders: what is being written is hidden until it is complete."""
    return [path.name for path in disk.rglob(".*")]


def train(root: Path, *overrides: str) -> subprocess.CompletedProcess[str]:
    # The last value of an override counts: W&B stays on.
    given = [override for override in tiny.TRAIN_OVERRIDES if override != "logger.wandb=null"]
    return tiny.run("-m", "recsys", "train", "name=full", *given, *overrides, cwd=root, code=2)


@pytest.mark.parametrize(("size", "place"), [("4k", "out"), ("64k", "out/checkpoints/step-1.ckpt")])
def test_a_checkpoint_that_does_not_fit(
    tiny_bundle: Path, tiny_root: Path, small_disk: Callable[[str], Path], size: str, place: str
) -> None:
    """At 4 KiB not even the log's settings find room."""
    disk = small_disk(size)
    refused(
        train(tiny_root, f"output_dir={disk / 'out'}", "callbacks.checkpoint.every_n_train_steps=1"),
        disk / place,
    )
    assert not list(disk.rglob("*.ckpt"))
    assert not (tiny_root / "models" / "online_retail" / "full").exists()
    assert left_over(disk) == []


def test_a_bundle_that_does_not_fit(
    tiny_bundle: Path, tiny_root: Path, small_disk: Callable[[str], Path], tmp_path: Path
) -> None:
    models = small_disk("100k")
    done = train(tiny_root, f"models_dir={models}", f"output_dir={tmp_path / 'out'}", "logger.wandb=null")
    refused(done, models / "online_retail" / "full")
    assert list((models / "online_retail").iterdir()) == []


def test_a_report_that_does_not_fit(
    tiny_bundle: Path, tiny_root: Path, small_disk: Callable[[str], Path], tmp_path: Path
) -> None:
    """The page is the largest file; by then the bundle is complete and can be evaluated again."""
    output = small_disk("3m") / "out"
    models = tmp_path / "models"
    done = train(tiny_root, f"models_dir={models}", f"output_dir={output}", "logger.wandb=null")
    refused(done, output / "report.html")
    assert left_over(output) == []
    assert not (output / "report.html").exists()
    assert load_bundle(models / "online_retail" / "full").item_ids


@pytest.mark.parametrize("size", ["4k", "100k"])
def test_recommendations_that_do_not_fit(
    tiny_bundle: Path, tiny_root: Path, small_disk: Callable[[str], Path], size: str
) -> None:
    disk = small_disk(size)
    command = ("-m", "recsys", "recommend", "bundle=tiny", f"output_dir={disk / 'slates'}")
    refused(tiny.run(*command, cwd=tiny_root, code=2), disk / "slates")
    # Where a part did fit, it stays for the run that goes on.
    assert [path for path in disk.iterdir() if not path.name.startswith(".parts-slates-")] == []
