"""The built wheel runs from any folder, without the checkout and its conf/."""

from __future__ import annotations

import os
import subprocess
import sys
import sysconfig
import venv
import zipfile
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]

pytestmark = pytest.mark.slow


def call(*command: str | Path, cwd: Path) -> subprocess.CompletedProcess[str]:
    environment = {name: value for name, value in os.environ.items() if not name.startswith("PYTHON")}
    return subprocess.run(
        [str(part) for part in command], cwd=cwd, env=environment, capture_output=True, text=True, timeout=300
    )


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("dist")
    built = call(
        sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", folder, ROOT, cwd=folder
    )
    assert built.returncode == 0, built.stdout + built.stderr
    (path,) = folder.glob("*.whl")
    return path


@pytest.fixture(scope="module")
def python(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Interpreter of a new environment: the wheel, and by a .pth file the dependencies installed here."""
    folder = tmp_path_factory.mktemp("environment")
    venv.create(folder, symlinks=True)
    site = Path(sysconfig.get_path("purelib", "venv", vars={"base": str(folder), "platbase": str(folder)}))
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(site)
    (site / "dependencies.pth").write_text(sysconfig.get_path("purelib") + "\n", encoding="utf-8")
    return folder / "bin" / "python"


def test_it_carries_configs_and_templates(wheel: Path) -> None:
    names = set(zipfile.ZipFile(wheel).namelist())
    configs = {f"recsys/{path.relative_to(ROOT)}" for path in (ROOT / "conf").rglob("*.yaml")}
    templates = {str(path.relative_to(ROOT)) for path in (ROOT / "recsys/report/templates").iterdir()}
    assert configs
    assert templates
    assert configs | templates <= names
    assert {name.split("/")[0] for name in names if ".dist-info/" not in name} == {"recsys", "spark_jobs"}


def test_its_modules_are_its_own(python: Path, tmp_path: Path) -> None:
    where = call(
        python, "-c", "import recsys, spark_jobs; print(recsys.__file__, spark_jobs.__file__)", cwd=tmp_path
    )
    assert where.returncode == 0, where.stderr
    assert str(ROOT) not in where.stdout


def test_spark_jobs_finds_its_configs(python: Path, tmp_path: Path) -> None:
    shown = call(python, "-m", "spark_jobs", "--cfg", "job", "dataset=online_retail", cwd=tmp_path)
    assert shown.returncode == 0, shown.stderr
    assert "name: online_retail" in shown.stdout
    assert not list(tmp_path.iterdir())


def test_the_user_brings_configs(python: Path, tmp_path: Path) -> None:
    (tmp_path / "mine" / "dataset").mkdir(parents=True)
    (tmp_path / "mine" / "dataset" / "shop.yaml").write_text("name: my_shop\n", encoding="utf-8")
    arguments = ("--config-dir", "mine", "--cfg", "job", "dataset=shop")
    shown = call(python, "-m", "spark_jobs", *arguments, cwd=tmp_path)
    assert shown.returncode == 0, shown.stderr
    assert "name: my_shop" in shown.stdout


def test_recsys_says_how_it_is_used(python: Path, tmp_path: Path) -> None:
    shown = call(python, "-m", "recsys", cwd=tmp_path)
    assert "usage" in (shown.stdout + shown.stderr).lower()
    assert "Traceback" not in shown.stderr
