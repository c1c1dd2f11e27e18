"""What clients and servers say of addresses, versions and messages that are not theirs."""

from __future__ import annotations

import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import numpy as np
import pytest
from tests.runtime import test_session as one

from tilewright.errors import ConfigError, DataError, RemoteError
from tilewright.runtime import calls, cross, server, wire
from tilewright.runtime.remote import Board, connect

SAME = "install the same version of Tilewright on both machines"


@contextmanager
def listening(answer: Callable[[socket.socket], None]) -> Iterator[tuple[str, int]]:
    """The address of something that takes connections and does `answer` with each."""
    with socket.create_server(("127.0.0.1", 0)) as here:
        held = []

        def serve() -> None:
            while True:
                try:
                    held.append(here.accept()[0])
                    answer(held[-1])
                except OSError:
                    return

        thread = threading.Thread(target=serve, daemon=True)
        thread.start()
        yield here.getsockname()
        here.shutdown(socket.SHUT_RDWR)
        thread.join(5)
        for connection in held:
            connection.close()


def test_a_tracker_that_does_not_answer(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(calls, "ANSWER_S", 0.2)
    monkeypatch.setattr(calls, "_ask", lambda tracker: time.sleep(0.5))  # TVM's waits for ever
    with listening(lambda connection: None) as (host, port):
        with pytest.raises(ConfigError) as error:
            calls.tracker_summary((host, port))
        assert str(error.value) == (
            f"tracker {host}:{port}: what listens there is no RPC tracker: no answer in 0.2 s; "
            f"start one: `python -m tvm.exec.rpc_tracker --host {host} --port {port}`"
        )


def test_a_server_of_another_kind() -> None:
    with (
        listening(lambda connection: connection.sendall(b"HTTP/1.1 400 Bad Request\r\n\r\n")) as (
            host,
            port,
        ),
        pytest.raises(
            RemoteError,
            match=rf"server {host}:{port}: refused the connection: .*; with a tracker's address give --key",
        ),
    ):
        connect((host, port))


class Foreign:
    """A session with a server that has these functions."""

    def __init__(self, **functions: Callable[[], bytes]) -> None:
        self.functions = functions

    def get_function(self, name: str) -> Callable[[], bytes]:
        return self.functions[name.rpartition(".")[2]] if self.functions else self.missing()

    def missing(self) -> Callable[[], bytes]:
        raise AttributeError


def test_servers_without_tilewright_and_of_other_versions() -> None:
    with pytest.raises(ConfigError) as error:
        Board(Foreign(), "server b:1")
    assert str(error.value) == (
        "server b:1: what listens there is an RPC server, but none of Tilewright's; "
        "start `python -m tilewright.runtime.server` there"
    )
    said = wire.pack({"server": "b:1", "device": "sim", "version": "0.0"})
    with pytest.raises(ConfigError) as error:
        Board(Foreign(describe=lambda: said), "b")
    assert str(error.value).startswith("server b:1: has version 0.0 of Tilewright, this machine version ")
    assert str(error.value).endswith("; install the same version on both")


@pytest.mark.parametrize(
    ("message", "text"),
    [
        (b"no json", f"expected a message, found b'no json'; {SAME}"),
        (
            b'{"arrays": [["x", "object", [1]]]}\n12345678',
            f"array x: expected an array, found object (1,); {SAME}",
        ),
        (b'{"arrays": [["x", "float32", [1]]]}\n12', f"array x: expected 4 bytes, found 2; {SAME}"),
        (b'{"arrays": [["x", "float32", [1]]]}\n12345678', f"4 bytes belong to no array; {SAME}"),
    ],
)
def test_texts_of_messages_that_are_none(message: bytes, text: str) -> None:
    with pytest.raises(DataError) as error:
        wire.unpack(message)
    assert str(error.value) == text


def test_a_server_whose_memory_is_full() -> None:
    def full() -> bytes:
        return bytes(np.zeros(1 << 60, np.uint8))

    head, _ = wire.unpack(server._answering(full)())
    with pytest.raises(DataError) as error:
        wire.raise_error(head, "server b:1")
    assert str(error.value) == "server b:1: the memory is full; use a smaller network or batch"


def test_cycles_of_a_device_without_counters() -> None:
    """A board tells cycles with its results; where it does not, no simulator stands in."""
    packages = server.Packages("sim")
    opened, _ = wire.unpack(packages.open(one._package().to_bytes()))
    packages._device = "zynq:registers=x"
    with pytest.raises(ConfigError) as error:
        packages._timed(opened["package"])
    assert str(error.value) == (
        "device zynq:registers=x: the device counted no cycles; load an overlay with counters"
    )


def test_wheels_that_pip_does_not_find(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_DISABLE_PIP_VERSION_CHECK", "1")
    with pytest.raises(ConfigError, match=r"pip cannot download tilewright-none==1 for aarch64:\nERROR: "):
        cross._download("tilewright-none==1", "aarch64", tmp_path)
