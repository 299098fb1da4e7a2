"""Which checkpoint a run goes on from: the newest that is whole."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from hydra.core.override_parser.overrides_parser import OverridesParser

from recsys.parallel.checkpoints import (
    MANIFEST,
    checkpoint_name,
    fault,
    newest_whole,
    ranks_of,
    seal,
    step_of,
    to_resume,
)
from recsys.schema import InputError


def parts(folder: Path, *, num_ranks: int = 2) -> Path:
    """A sealed folder as two ranks write it."""
    (folder / "checkpoint").mkdir(parents=True)
    for rank in range(num_ranks):
        (folder / "checkpoint" / f"rank{rank}.pt").write_bytes(bytes([rank]) * 100)
    seal(folder, num_ranks=num_ranks)
    return folder


def single(path: Path) -> Path:
    torch.save({"step": 1}, path)
    return path


def test_a_name_stands_on_a_command_line_as_it_is() -> None:
    path = f"outputs/demo/checkpoints/{checkpoint_name(4)}"
    (override,) = OverridesParser.create().parse_overrides([f"resume={path}"])
    assert override.value() == path
    assert step_of(Path(path)) == 4
    assert step_of(Path(f"outputs/.building-{checkpoint_name(4)}")) is None


def test_a_sealed_folder_is_whole_and_knows_its_ranks(tmp_path: Path) -> None:
    folder = parts(tmp_path / "step-5.ckpt")
    assert fault(folder) is None
    assert ranks_of(folder) == 2
    assert set(json.loads((folder / MANIFEST).read_text())["parts"]) == {
        "checkpoint/rank0.pt",
        "checkpoint/rank1.pt",
    }


@pytest.mark.parametrize("damage", ["cut", "changed", "gone", "unsealed"])
def test_a_damaged_folder_is_told_apart(tmp_path: Path, damage: str) -> None:
    folder = parts(tmp_path / "step-5.ckpt")
    part = folder / "checkpoint" / "rank1.pt"
    if damage == "cut":
        part.write_bytes(part.read_bytes()[:50])
    elif damage == "changed":
        part.write_bytes(b"x" * 100)
    elif damage == "gone":
        part.unlink()
    else:
        (folder / MANIFEST).unlink()
    assert fault(folder) is not None


@pytest.mark.parametrize("is_folder", [False, True])
@pytest.mark.parametrize("damage", ["changed", "gone"])
def test_tables_belong_to_their_checkpoint(tmp_path: Path, is_folder: bool, damage: str) -> None:
    path, home = tmp_path / "step-5.ckpt", ".tables-step-5.ckpt/step-5"
    (tmp_path / home).mkdir(parents=True)
    part = tmp_path / home / "rows"
    part.write_bytes(b"0" * 100)
    seal(tmp_path / home, num_ranks=2)
    if is_folder:
        seal(parts(path), num_ranks=2, tables=home)
    else:
        torch.save({"tables": home}, path)
    assert fault(path) is None
    if damage == "changed":
        part.write_bytes(b"1" * 100)
    else:
        part.unlink()
    assert "rows" in str(fault(path))


def test_a_changed_byte_of_a_file_is_seen(tmp_path: Path) -> None:
    path = tmp_path / "step-5.ckpt"
    torch.save({"weight": torch.zeros(10_000)}, path)
    assert fault(path) is None
    content = bytearray(path.read_bytes())
    content[len(content) // 2] ^= 1
    path.write_bytes(content)
    assert "is not what was written" in str(fault(path))


def test_the_newest_by_step_that_is_whole(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    single(tmp_path / "step-9.ckpt")
    parts(tmp_path / "step-10.ckpt")
    (tmp_path / "step-100.ckpt").write_bytes(b"torn")
    parts(tmp_path / ".building-step-200.ckpt")
    assert newest_whole(tmp_path) == tmp_path / "step-10.ckpt"
    said = capsys.readouterr().err
    assert "step-100.ckpt is damaged" in said
    assert said.count("\n") == 1


def test_what_to_resume(tmp_path: Path) -> None:
    assert to_resume(None, tmp_path) is None
    assert to_resume("auto", tmp_path / "none") is None
    single(tmp_path / "step-3.ckpt")
    assert to_resume("auto", tmp_path) == tmp_path / "step-3.ckpt"
    assert to_resume(str(tmp_path / "step-3.ckpt"), tmp_path / "none") == tmp_path / "step-3.ckpt"
    with pytest.raises(InputError, match=r"cannot be read .* resume=auto"):
        to_resume(str(tmp_path / "step-4.ckpt"), tmp_path)
