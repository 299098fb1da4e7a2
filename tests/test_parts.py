"""Parts are those of whoever is at work on them, until that process ends."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pyarrow as pa

from recsys.disk import in_use, is_in_use
from recsys.parts import Parts

ROOT = Path(__file__).parents[1]
WORKS = "import pathlib, sys\nfrom recsys.disk import in_use\nwith in_use(pathlib.Path(sys.argv[1])):\n"


def at_work(folder: Path) -> subprocess.Popen[str]:
    """A process that has the folder in use until it is killed."""
    script = WORKS + "    print('at work', flush=True)\n    sys.stdin.read()\n"
    process = subprocess.Popen(
        [sys.executable, "-c", script, str(folder)],
        cwd=ROOT,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    assert process.stdout is not None
    assert process.stdout.readline() == "at work\n"
    return process


def test_a_folder_is_in_use_until_the_last_process_ends(tmp_path: Path) -> None:
    folder = tmp_path / "deep" / "parts"
    assert not is_in_use(folder)
    process = at_work(folder)
    with in_use(folder):
        (folder / "part").touch()
        process.kill()
        process.communicate()
        assert is_in_use(folder)
    assert not is_in_use(folder)
    (folder / "part").unlink()
    with in_use(folder):
        assert is_in_use(folder)
    assert not folder.exists()


def test_a_run_that_ends_takes_parts_of_the_dead_with_it_and_none_of_the_living(tmp_path: Path) -> None:
    ours, dead, living = (
        Parts(tmp_path / "out", settings={"at": at}, num_parts=1) for at in ("ours", "dead", "living")
    )
    for parts in (ours, dead, living):
        parts.write(0, {"top_k": pa.table({"user_key": ["a"]})})
    with living.in_use():
        with ours.in_use():
            ours.remove()
        assert [path.name for path in tmp_path.iterdir()] == [living.folder.name]
        assert living.missing() == []
