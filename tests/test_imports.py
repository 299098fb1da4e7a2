"""The import contracts hold, and each of them bites when code breaks it."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]
LINT = "import sys; from importlinter.cli import lint_imports; sys.exit(lint_imports(no_cache=True))"

# file of the copy, line added at its end, name of the contract that it breaks
VIOLATIONS = [
    ("recsys/metrics/planted.py", "import recsys.baselines", "Imports point down only"),
    ("spark_jobs/planted.py", "import recsys.metrics.ranking", "spark_jobs knows the table contract"),
    ("recsys/data/planted.py", "import pyspark", "Spark lives in spark_jobs"),
    ("recsys/nn/planted.py", "import pytorch_lightning", "Model code is plain torch"),
    ("recsys/baselines/planted.py", "import torch", "Metrics and baselines need no torch"),
    ("recsys/simulator/planted.py", "import recsys.policy.slates", "The market is plain numpy"),
    ("recsys/schema.py", "import numpy", "The table contract needs the standard library only"),
    ("recsys/report/planted.py", "import hydra", "Hydra lives in entry points"),
    ("recsys/policy/planted.py", "import pytorch_lightning", "Lightning lives in"),
]


def lint(folder: Path) -> subprocess.CompletedProcess[str]:
    environment = os.environ | {"PYTHONPATH": str(folder), "NO_COLOR": "1", "COLUMNS": "200"}
    return subprocess.run(
        [sys.executable, "-c", LINT], cwd=folder, env=environment, capture_output=True, text=True, timeout=120
    )


def copy_sources(folder: Path) -> None:
    for package in ("recsys", "spark_jobs"):
        shutil.copytree(ROOT / package, folder / package, ignore=shutil.ignore_patterns("__pycache__"))
    shutil.copy(ROOT / "pyproject.toml", folder)


def test_the_contracts_hold() -> None:
    shown = lint(ROOT)
    assert shown.returncode == 0, shown.stdout + shown.stderr


def test_every_contract_bites(tmp_path: Path) -> None:
    copy_sources(tmp_path)
    for file, line, _ in VIOLATIONS:
        with (tmp_path / file).open("a", encoding="utf-8") as planted:
            planted.write(f"\n{line}\n")
    shown = lint(tmp_path)
    assert shown.returncode == 1, shown.stdout + shown.stderr
    verdicts = [line for line in shown.stdout.splitlines() if " BROKEN" in line or " KEPT" in line]
    for _, _, contract in VIOLATIONS:
        assert any(line.startswith(contract) and "BROKEN" in line for line in verdicts), (contract, verdicts)
    assert len(verdicts) == len(VIOLATIONS), verdicts


@pytest.mark.parametrize("module", ["recsys.schema", "recsys.pseudonym", "recsys.entry"])
def test_the_shared_modules_load_the_standard_library_only(module: str) -> None:
    code = (
        f"import sys; before = set(sys.modules); import {module}\n"
        "tops = {name.split('.')[0] for name in set(sys.modules) - before}\n"
        "print(sorted(tops - set(sys.stdlib_module_names) - {'recsys'}))"
    )
    shown = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=True)
    assert shown.stdout == "[]\n"
