"""Workers over TVM's RPC tracker, on loopback."""

from __future__ import annotations

import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.tune.synthetic import Bench, Synthetic, header
from tests.tune.workers import ROOT, free_port, kill, payload, registered, tracker, wait_until, worker
from tilewright.errors import ConfigError
from tilewright.runtime.calls import parse_address, require
from tilewright.tune.local import Serial
from tilewright.tune.log import Log, Record
from tilewright.tune.measurement import Measurement, Refusal
from tilewright.tune.remote import Compiling, Remote
from tilewright.tune.tuner import run

REGION = Synthetic(size=10)
HEAD = header([REGION])
PRINTS = {REGION.name: REGION.fingerprint}


@pytest.fixture(scope="module")
def address() -> Iterator[tuple[str, int]]:
    """A tracker's."""
    with tracker() as found:
        yield found


def _expected(trials: int) -> list[Record]:
    with Log(None, HEAD) as log:
        run([REGION], Serial(Bench([REGION])), log, HEAD, trials)
        return log.records


def test_measurements_are_spread_and_a_worker_that_is_killed_is_survived(
    address: tuple[str, int], tmp_path: Path
) -> None:
    """Two workers; one is killed in the middle of its fifth measurement or so. The search does not notice."""
    counter = tmp_path / "counter"
    bench = Bench([REGION], counter)
    with worker(address, "two") as first, worker(address, "two") as second:
        wait_until(lambda: registered(address, "two") == 2)
        remote = Remote(address, "two", Compiling(payload([REGION], counter, 0.1), PRINTS))
        with Log(None, HEAD) as log:
            killer = threading.Thread(target=_kill_after, args=(first, bench, 10))
            killer.start()
            run([REGION], remote, log, HEAD, 40)
            killer.join()
        assert second.poll() is None
    assert sorted(log.records, key=lambda r: r.trial) == _expected(40)
    lines = counter.read_text().splitlines()
    early = {line.split()[0] for line in lines[:10]}
    late = {line.split()[0] for line in lines[-15:]}
    assert len(early) == 2
    assert len(late) == 1
    # The killed worker's measurement was redone, and nothing else: it is noted once it is done only.
    assert len({line.split(" ", 1)[1] for line in lines}) == 40
    assert len(lines) <= 41


def _kill_after(victim: subprocess.Popen[bytes], bench: Bench, measured: int) -> None:
    wait_until(lambda: len(bench.measured()) >= measured)
    kill(victim)


@pytest.mark.slow
def test_a_plan_that_ends_its_workers_is_refused_and_the_workers_come_back(
    address: tuple[str, int], tmp_path: Path
) -> None:
    good = REGION.default
    bad = good.model_copy(
        update={"groups": (good.groups[0].model_copy(update={"stripes": 3}), *good.groups[1:])}
    )
    counter = tmp_path / "counter"
    with worker(address, "back"):
        wait_until(lambda: registered(address, "back") == 1)
        remote = Remote(
            address, "back", Compiling(payload([REGION], counter, 0, '"stripes":3'), PRINTS), patience=30
        )
        found = dict(remote.measure([good, bad, good]))
    assert found[0] == found[2] == REGION.price(good, accurate=True)
    refused = found[1]
    assert isinstance(refused, Refusal)
    assert refused.message.startswith("3 workers failed on it, the last with: ")


def test_no_worker_is_left(address: tuple[str, int], tmp_path: Path) -> None:
    counter = tmp_path / "counter"
    with worker(address, "last") as only:
        wait_until(lambda: registered(address, "last") == 1)
        remote = Remote(address, "last", Compiling(payload([REGION], counter, 0.1), PRINTS), patience=1)
        results = remote.measure([REGION.default] * 9)
        assert isinstance(next(results)[1], Measurement)
        kill(only)
        with pytest.raises(ConfigError) as caught:
            list(results)
    host, port = address
    assert str(caught.value) == (
        f"tracker {host}:{port}: no worker for key 'last' is left; start workers: "
        f"`python -m tilewright.tune.worker --tracker {host}:{port} --key last`; the log continues"
    )


def test_no_worker_of_the_key(address: tuple[str, int]) -> None:
    with pytest.raises(ConfigError) as caught:
        Remote(address, "nobody", Compiling(b"", PRINTS))
    host, port = address
    message = str(caught.value)
    assert message.startswith(f"tracker {host}:{port}: there is no worker for key 'nobody', ")
    assert message.endswith(
        f"; start workers: `python -m tilewright.tune.worker --tracker {host}:{port} --key nobody`"
    )


def test_no_tracker() -> None:
    port = free_port()
    with pytest.raises(ConfigError) as caught:
        Remote(("127.0.0.1", port), "k", Compiling(b"", PRINTS))
    assert str(caught.value) == (
        f"tracker 127.0.0.1:{port}: there is no RPC tracker: Connection refused; "
        f"start one: `python -m tvm.exec.rpc_tracker --host 127.0.0.1 --port {port}`"
    )


def test_something_else_listens() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:

        def answer() -> None:
            for _ in range(2):
                connection = server.accept()[0]
                connection.sendall(b"HTTP/1.1 400 Bad Request\r\n\r\n")
                connection.close()

        threading.Thread(target=answer, daemon=True).start()
        with pytest.raises(ConfigError, match=r"what listens there is no RPC tracker: .*; start one:"):
            Remote(server.getsockname(), "k", Compiling(b"", PRINTS))


@pytest.mark.parametrize(
    ("regions", "prints", "message"),
    [
        ([], PRINTS, "a worker refused the network: this network has no regions"),
        (
            [REGION],
            {REGION.name: "another"},
            "a worker makes other regions of this network than this machine; install the same versions on all machines",
        ),
    ],
)
def test_a_worker_that_does_not_fit(
    address: tuple[str, int],
    tmp_path: Path,
    regions: list[Synthetic],
    prints: dict[str, str],
    message: str,
) -> None:
    with worker(address, "other"):
        wait_until(lambda: registered(address, "other") == 1)
        remote = Remote(address, "other", Compiling(payload(regions, tmp_path / "counter", 0), prints))
        with pytest.raises(ConfigError) as caught:
            list(remote.measure([REGION.default]))
    assert str(caught.value) == f"tracker {address[0]}:{address[1]}: {message}"


@pytest.mark.parametrize("text", ["", "host", "host:", ":9190", "host:port", "host:0", "host:65536"])
def test_addresses_that_are_none(text: str) -> None:
    with pytest.raises(ConfigError) as caught:
        parse_address(text)
    assert str(caught.value) == (
        f"--tracker: expected HOST:PORT such as 127.0.0.1:9190, found {text!r}; give the tracker's address"
    )


def test_addresses() -> None:
    assert parse_address("board-7:9190") == ("board-7", 9190)
    assert parse_address("::1:9190") == ("::1", 9190)


def test_modules_that_are_not_installed() -> None:
    with pytest.raises(ConfigError) as caught:
        require({"json": "x", "no_such_module": "y"}, "a worker")
    assert (
        str(caught.value)
        == "a worker needs no_such_module, which is not installed; pip install 'tilewright[rpc]'"
    )


@pytest.mark.slow
def test_a_worker_that_is_terminated_takes_all_its_processes_with_it(address: tuple[str, int]) -> None:
    import psutil

    with worker(address, "ended") as found:
        wait_until(lambda: registered(address, "ended") == 1)
        children = psutil.Process(found.pid).children(recursive=True)
        assert children
        found.terminate()
        assert found.wait(timeout=20) == 0
        _, alive = psutil.wait_procs(children, timeout=10)
        assert not alive


def test_command_line_of_a_worker() -> None:
    command = [sys.executable, "-m", "tilewright.tune.worker", "--tracker", "nonsense", "--key", "k"]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 2
    assert done.stderr.startswith("error: --tracker: expected HOST:PORT")
