"""A throw-away MariaDB of Debian's package, with a user of its own and a log of every query."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

DRIVER = Path(os.environ.get("RECSYS_MARIADB_JAR", "/usr/share/java/mariadb-java-client.jar"))
USER, PASSWORD = "reader", "not told to anybody"
NEEDED = ("mariadbd", "mariadb-install-db", "mariadb")


def missing() -> str | None:
    """What keeps the server from being started here; None where nothing does."""
    absent = [name for name in NEEDED if shutil.which(name) is None]
    absent += [] if DRIVER.exists() else [str(DRIVER)]
    return f"no {absent[0]} here; make setup-mariadb brings it" if absent else None


@dataclass(frozen=True)
class Server:
    folder: Path
    port: int

    @property
    def url(self) -> str:
        return f"jdbc:mariadb://127.0.0.1:{self.port}/shop"

    @property
    def queries(self) -> list[str]:
        """All that were asked since the server started, as its own log tells them."""
        return (self.folder / "queries.log").read_text().splitlines()

    def run(self, sql: str) -> None:
        """As the server's root, over its socket."""
        command = ["mariadb", "--no-defaults", "--user=root", f"--socket={self.folder / 'socket'}"]
        subprocess.run(command, input=sql, text=True, check=True, capture_output=True)


@contextmanager
def mariadb(folder: Path) -> Iterator[Server]:
    """A server on a free port with a data base `shop` that `USER` may read."""
    data = folder / "data"
    system_user = ["--user=root"] if os.getuid() == 0 else []
    install = ["mariadb-install-db", "--no-defaults", *system_user, f"--datadir={data}"]
    quick = ["--auth-root-authentication-method=normal", "--skip-test-db"]
    subprocess.run([*install, *quick], check=True, capture_output=True)
    server = Server(folder=folder, port=_free_port())
    options = [
        f"--datadir={data}",
        f"--port={server.port}",
        "--bind-address=127.0.0.1",
        f"--socket={folder / 'socket'}",
        "--innodb-buffer-pool-size=32M",
        "--general-log=1",
        f"--general-log-file={folder / 'queries.log'}",
        "--default-time-zone=-05:00",  # as many a server's is not UTC
    ]
    with (folder / "server.log").open("wb") as log:
        process = subprocess.Popen(["mariadbd", "--no-defaults", *system_user, *options], stderr=log)
    try:
        _wait_for(server, process)
        server.run(
            f"create database shop; create user {USER}@'127.0.0.1' identified by '{PASSWORD}';"
            f" grant select on shop.* to {USER}@'127.0.0.1';"
        )
        yield server
    finally:
        process.terminate()
        process.wait(timeout=60)


def _wait_for(server: Server, process: subprocess.Popen[bytes]) -> None:
    end = time.monotonic() + 60
    while time.monotonic() < end and process.poll() is None:
        try:
            return server.run("select 1")
        except subprocess.CalledProcessError:
            time.sleep(0.2)
    raise RuntimeError((server.folder / "server.log").read_text())


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])
