"""Packages on boards' servers, on loopback: results, errors of every kind, servers that end."""

from __future__ import annotations

import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import AbstractContextManager
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from tests.runtime import test_session as one
from tests.tune.workers import (
    ROOT,
    free_port,
    kill,
    listens,
    process,
    registered,
    tracker,
    wait_until,
)

from tilewright.errors import ConfigError, DataError, PackageError, RemoteError, SimError
from tilewright.runtime import Session, server, wire
from tilewright.runtime.remote import connect
from tilewright.targets.package import Package

Address = tuple[str, int]
PACKAGE: Package = one._package()


@pytest.fixture(scope="module")
def at() -> Iterator[Address]:
    """A tracker's address."""
    with tracker() as found:
        yield found


def _server(at: Address, key: str, *options: str) -> AbstractContextManager[subprocess.Popen[bytes]]:
    where = ("--tracker", f"{at[0]}:{at[1]}", "--key", key)
    return process("tilewright.runtime.server", *where, *options)


@pytest.fixture(scope="module")
def key(at: Address) -> Iterator[str]:
    """The key of one server that all tests may use."""
    with _server(at, "one"):
        wait_until(lambda: registered(at, "one") == 1)
        yield "one"


def test_a_board_gives_what_this_machine_gives(at: Address, key: str) -> None:
    here = Session(PACKAGE)
    with connect(at, key) as board:
        assert board.device == "sim"
        assert board.name.startswith(f"{socket.gethostname()}:")
        first, second = board.open(PACKAGE), board.open(replace(PACKAGE, name="second"))
        for session in (first, second, first):
            feeds = one._feed()
            found, expected = session.run(feeds), here.run(feeds)
            assert found.counts == expected.counts
            assert list(found.outputs) == list(expected.outputs)
            for name, array in expected.outputs.items():
                assert found.outputs[name].dtype == array.dtype
                np.testing.assert_array_equal(found.outputs[name], array)


def test_cycles_are_those_of_the_timing_simulator(at: Address, key: str) -> None:
    from tilewright.targets.sim import timing
    from tilewright.targets.sim.program import Program

    with connect(at, key) as board:
        session = board.open(PACKAGE)
        cycles = session.run(one._feed(), cycles=True).counts["cycles"]
    assert cycles == timing.run(Program(one.REGION.stream, one.OVERLAY)).cycles


def test_faults_of_packages_and_inputs_are_told_as_here(at: Address, key: str) -> None:
    data = bytearray(PACKAGE.to_bytes())
    data[-1] ^= 1
    late = replace(one.REGION, workspace_bytes=one.REGION.workspace_bytes, stream=one.REGION.stream[:-64])
    with connect(at, key) as board:
        with pytest.raises(PackageError) as damaged:
            board._call(server.OPEN, bytes(data))
        with pytest.raises(PackageError) as foreign:
            board._call(server.OPEN, b"#!/bin/sh\nreboot\n")
        session = board.open(PACKAGE)
        with pytest.raises(DataError) as wrong:
            session.run({"x": np.zeros((1, 2), np.float32), "y": np.zeros(3)})
        with pytest.raises(SimError) as machine:
            board.open(replace(PACKAGE, regions=(late,))).run(one._feed())
        session.close()
        with pytest.raises(DataError) as closed:
            session.run(one._feed())
        assert board.open(PACKAGE).run(one._feed()).counts["regions"] == 1, "the session goes on"
    where = f"server {board.name}"
    assert str(damaged.value) == (
        f"{where}, package: section report: is damaged (checksum); copy the file again, or compile again"
    )
    assert str(foreign.value) == (
        f"{where}, package: not a Tilewright package: it starts with b'#!/bin/s'; expected a .twp file"
    )
    assert len(wrong.value.faults) == 2
    assert str(machine.value).startswith(where)
    assert str(closed.value) == f"{where}: package 1 is not open in this session; open it again"


@pytest.mark.parametrize(
    "message",
    [
        b"",
        b"no json",
        b"[]\n",
        b"{}\n",
        b'{"arrays": 3}\n',
        b'{"arrays": [["x", "object", [1]]]}\n12345678',
        b'{"arrays": [["x", "float32", [-1]]]}\n',
        b'{"arrays": [["x", "float32", [1000000, 1000000, 1000000]]]}\n',
        b'{"arrays": [["x", "float32", [1]]]}\n12345678',
        b'{"arrays": [["x", "float32", [1]], ["x", "float32", [1]]]}\n12345678',
        b"[" * 100_000 + b"\n",
        b'{"arrays": [], "package": true}\n',
        b'{"arrays": [], "package": [1]}\n',
    ],
)
def test_messages_that_are_none(message: bytes) -> None:
    call = server._answering(server.Packages("sim").run)
    head, _ = wire.unpack(call(message))
    assert head["error"] == "DataError"


def test_messages_round() -> None:
    arrays: dict[str, NDArray[Any]] = {
        "a": np.arange(6, dtype=np.int16).reshape(2, 3),
        "b": np.zeros((0, 2), np.float32),
        "c": np.array(3),
    }
    head, found = wire.unpack(wire.pack({"n": 1}, arrays))
    assert head == {"n": 1}
    assert list(found) == list(arrays)
    for name, array in arrays.items():
        assert found[name].dtype == array.dtype
        np.testing.assert_array_equal(found[name], array)


def test_a_bug_on_the_board_is_no_fault_of_the_package() -> None:
    def broken(_: bytes) -> bytes:
        raise ZeroDivisionError("by zero")

    head, _ = wire.unpack(server._answering(broken)(b""))
    with pytest.raises(AssertionError, match=r"server b:1 failed: ZeroDivisionError: by zero"):
        wire.raise_error(head, "server b:1")


def test_a_server_that_is_killed_ends_one_session_and_the_other_serves(at: Address) -> None:
    """Two servers; the one that has the session is killed in it."""
    with _server(at, "two") as first, _server(at, "two") as second:
        wait_until(lambda: registered(at, "two") == 2)
        with connect(at, "two") as board:
            session = board.open(PACKAGE)
            session.run(one._feed())
            kill(_with_session(first, second))
            with pytest.raises(RemoteError) as caught:
                session.run(one._feed())
            with pytest.raises(RemoteError, match=r"the session is over; connect again$"):
                session.run(one._feed())
        message = str(caught.value)
        assert message.startswith(f"server {board.name}: ended during `run`: ")
        assert message.endswith("; look at what it printed, and run again")
        with connect(at, "two") as other:
            assert other.name != board.name
            assert other.open(PACKAGE).run(one._feed()).counts["regions"] == 1


def _with_session(*servers: subprocess.Popen[bytes]) -> subprocess.Popen[bytes]:
    """The server that has a process more: that of the session."""
    import psutil

    return max(servers, key=lambda s: len(psutil.Process(s.pid).children(recursive=True)))


def test_all_servers_are_busy(at: Address, key: str) -> None:
    with connect(at, key), pytest.raises(RemoteError) as caught:
        connect(at, key, timeout=0.5)
    assert str(caught.value) == (
        f"tracker {at[0]}:{at[1]}: no server for key 'one' became free in 0.5 s; "
        "wait for the sessions on them to end, or start more servers"
    )


@pytest.mark.slow
def test_a_run_that_does_not_end(at: Address) -> None:
    """The client gives up, and the server ends the session by itself and serves the next."""
    with process("tests.runtime.slow_server", f"{at[0]}:{at[1]}", "slow"):
        wait_until(lambda: registered(at, "slow") == 1)
        with connect(at, "slow", timeout=4) as board, pytest.raises(RemoteError) as caught:
            board.open(PACKAGE)
        assert str(caught.value) == (
            f"server {board.name}: `open` took more than 4 s; look at the board, or allow more by --timeout"
        )
        connect(at, "slow", timeout=30).close()


_LEFT_ALONE = """\
import os, signal, sys
import tilewright as tw
from tests.runtime import test_session as one
with tw.connect(sys.argv[1], "stopped", timeout=5) as board:
    session = board.open(one._package())
    os.killpg(int(sys.argv[2]), signal.SIGSTOP)
    if sys.argv[3] == "run":
        try:
            session.run(one._feed())
        except tw.TilewrightError as error:
            print(error)
"""


@pytest.mark.slow
@pytest.mark.parametrize("action", ["run", "nothing"])
def test_a_client_ends_where_its_board_was_switched_off(at: Address, action: str) -> None:
    """TVM's goodbye to a server waits for its answer; a stopped process gives none."""
    with _server(at, "stopped") as found:
        wait_until(lambda: registered(at, "stopped") == 1)
        command = [sys.executable, "-c", _LEFT_ALONE, f"{at[0]}:{at[1]}", str(found.pid), action]
        done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=60, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    assert ("`run` took more than 5 s; look at the board" in done.stdout) == (action == "run")


def test_no_server_of_the_key_and_no_tracker(at: Address, key: str) -> None:
    with pytest.raises(ConfigError) as caught:
        connect(at, "nobody")
    place = f"{at[0]}:{at[1]}"
    assert str(caught.value).startswith(f"tracker {place}: there is no server for key 'nobody', only for one")
    assert str(caught.value).endswith(
        f"; start one: `python -m tilewright.runtime.server --tracker {place} --key nobody`"
    )
    port = free_port()
    with pytest.raises(ConfigError) as caught:
        connect(f"127.0.0.1:{port}", "k")
    assert str(caught.value) == (
        f"tracker 127.0.0.1:{port}: there is no RPC tracker: Connection refused; "
        f"start one: `python -m tvm.exec.rpc_tracker --host 127.0.0.1 --port {port}`"
    )


def test_a_server_without_a_tracker_on_loopback(at: Address) -> None:
    import psutil

    port = free_port()
    with process("tilewright.runtime.server", "--port", str(port)):
        wait_until(lambda: _answers(port))
        everybody = psutil.net_connections("inet")
        heard = {c.laddr for c in everybody if c.status == psutil.CONN_LISTEN and c.laddr.port == port}
        assert {tuple(address) for address in heard} == {("127.0.0.1", port)}
        with connect(f"127.0.0.1:{port}") as board:
            assert board.name == f"{socket.gethostname()}:{port}"
            assert board.open(PACKAGE).run(one._feed()).counts["regions"] == 1
        with pytest.raises(RemoteError) as caught:
            connect(at, timeout=1)
    assert str(caught.value).startswith(f"server {at[0]}:{at[1]}: ")
    wait_until(lambda: not listens(port))
    with pytest.raises(RemoteError) as caught:
        connect(f"127.0.0.1:{port}")
    assert str(caught.value) == (
        f"server 127.0.0.1:{port}: there is no server: Connection refused; "
        f"start one: `python -m tilewright.runtime.server --host 127.0.0.1 --port {port}`"
    )


def _answers(port: int) -> bool:
    try:
        connect(f"127.0.0.1:{port}", timeout=5).close()
    except RemoteError:
        return False
    return True


@pytest.mark.parametrize(
    ("options", "messages"),
    [
        (["--port", "0"], ["--port: expected a port from 1 to 65535, found '0'"]),
        (
            ["--tracker", "x"],
            ["--tracker: expected HOST:PORT such as 127.0.0.1:9190, found 'x'; give the tracker's address"],
        ),
        (
            ["--key", "k"],
            [
                "--tracker: a tracker and a key belong together: clients ask the tracker for the key; give both or neither"
            ],
        ),
        (
            ["--tracker", "board.lan:9190", "--host", "127.0.0.1"],
            [
                "--key: a tracker and a key belong together: clients ask the tracker for the key; give both or neither",
                "--host: a server on 127.0.0.1 is not reached by clients of the tracker on board.lan; give --host "
                "0.0.0.0, in a network that you trust: whoever reaches the port can run anything",
            ],
        ),
        (
            ["--device", "zynk:registers=a,memory=b"],
            [
                "unknown back end 'zynk:registers=a,memory=b', known are sim, reference, "
                "zynq:registers=PATH,memory=PATH; did you mean zynq:registers=PATH,memory=PATH?"
            ],
        ),
        (["--host", "192.0.2.7"], ["--host: cannot listen on '192.0.2.7': Cannot assign requested address"]),
    ],
)
def test_options_that_are_wrong(
    options: list[str], messages: list[str], capsys: pytest.CaptureFixture[str]
) -> None:
    with pytest.raises(SystemExit) as caught:
        server.main(arguments=options)
    assert caught.value.code == 2
    assert capsys.readouterr().err == "".join(f"error: {message}\n" for message in messages)


def test_a_port_that_is_taken(capsys: pytest.CaptureFixture[str]) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken, pytest.raises(SystemExit):
        port = taken.getsockname()[1]
        server.main(arguments=["--port", str(port)])
    assert capsys.readouterr().err == f"error: --port: no port from {port} to {port} is free; give another\n"
