"""A Java that ends is one line on the screen, however py4j comes to know of it."""

from __future__ import annotations

import logging
import socket
import struct
import threading
from pathlib import Path

import pytest
from py4j.clientserver import ClientServer, JavaParameters, PythonParameters
from py4j.protocol import Py4JError

from recsys.schema import InputError
from spark_jobs.faults import in_one_line
from tests.spark_jobs import shop

RESET_ON_CLOSE = struct.pack("ii", 1, 0)  # SO_LINGER: on, no seconds


def answer_breaks_off(listener: socket.socket) -> None:
    """What a killed Java looks like from outside: the command arrives, then the connection is reset."""
    connection, _ = listener.accept()
    connection.recv(1024)
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET_ON_CLOSE)
    connection.close()


def test_an_answer_that_breaks_off_is_one_line(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    settings = shop.settings(tmp_path, tmp_path)
    with socket.create_server(("127.0.0.1", 0)) as listener:
        gone = threading.Thread(target=answer_breaks_off, args=[listener], daemon=True)
        gone.start()
        java = JavaParameters(port=listener.getsockname()[1], auto_field=False)
        client = ClientServer(java, PythonParameters(port=0))
        with pytest.raises(InputError, match="Java process ended while it worked"), in_one_line(settings):
            client.jvm.System.nanoTime()
        gone.join()
        client.shutdown_callback_server()
    assert not [record for record in caplog.records if record.exc_info and record.name == "root"]


@pytest.mark.parametrize(
    "text",
    [
        "An error occurred while calling o1.f. Trace:\npy4j.Py4JException: no such method\n",
        "System does not exist in the JVM",
    ],
)
def test_other_errors_stay_what_they_are(text: str, tmp_path: Path) -> None:
    error = Py4JError(text)
    with pytest.raises(Py4JError) as caught, in_one_line(shop.settings(tmp_path, tmp_path)):
        raise error
    assert caught.value is error


def test_what_others_log_is_shown(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    with in_one_line(shop.settings(tmp_path, tmp_path)):
        logging.error("ours")
    assert [record.message for record in caplog.records] == ["ours"]
