"""`run --remote` and `tune --backend board` over a tracker and servers on loopback."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np
import onnx
import pytest

from tests.cli.commands import document, fault, invoke
from tests.tune.workers import kill, process, registered, tracker, wait_until
from tilewright.codegen.plan import Plan
from tilewright.errors import ConfigError
from tilewright.runtime import Package
from tilewright.runtime.calls import parse_address
from tilewright.runtime.device_model import DeviceModel
from tilewright.tune.backends import Timing
from tilewright.tune.board import Boards
from tilewright.tune.log import read
from tilewright.tune.remote import Remote
from tilewright.tune.workload import prepared_regions, tuned_regions


@pytest.fixture(scope="module")
def at() -> Iterator[str]:
    """The address of a tracker with a server of key `board`."""
    with tracker() as found:
        text = f"{found[0]}:{found[1]}"
        with process("tilewright.runtime.server", "--tracker", text, "--key", "board"):
            wait_until(lambda: registered(found, "board") == 1)
            yield text


def test_a_board_prints_and_writes_what_the_simulator_does(
    at: str, demo_package: Path, tmp_path: Path
) -> None:
    inputs = ("--input", "random:1", "--input", "random:2")
    here, there = tmp_path / "here.npz", tmp_path / "there.npz"
    expected = document(invoke("run", demo_package, *inputs, "--output", here, "--json"))
    found = document(
        invoke("run", demo_package, *inputs, "--output", there, "--remote", at, "--key", "board", "--json")
    )
    assert found == expected
    with np.load(here) as a, np.load(there) as b:
        assert list(a) == list(b)
        for name in a:
            np.testing.assert_array_equal(a[name], b[name])


def test_options_of_remote_runs(demo_package: Path) -> None:
    run = ("run", demo_package, "--input", "random:1")
    assert fault(invoke(*run, "--key", "k", "--timeout", "0")).splitlines() == [
        "3 faults",
        "  --key: is for runs on boards; give --remote HOST:PORT",
        "  --timeout: is for runs on boards; give --remote HOST:PORT",
        "  --timeout: expected seconds above 0, found 0",
    ]
    assert fault(invoke(*run, "--remote", "127.0.0.1:1", "--backend", "sim")) == (
        "--backend: a board has its own device; choose it by --device where the server is started"
    )
    assert fault(invoke(*run, "--remote", "board")) == (
        "--remote: expected HOST:PORT such as 127.0.0.1:9190, found 'board'; give the server's address"
    )
    assert fault(invoke(*run, "--remote", "127.0.0.1:1")) == (
        "server 127.0.0.1:1: there is no server: Connection refused; "
        "start one: `python -m tilewright.runtime.server --host 127.0.0.1 --port 1`"
    )


def test_boards_measure_as_the_timing_simulator_does(at: str, demo_package: Path, tmp_path: Path) -> None:
    """The servers' devices are simulators, whose counters are the timing simulator's: equal searches."""
    logs = {backend: tmp_path / f"{backend}.jsonl" for backend in ("timing", "board")}
    tune = ("tune", demo_package, "--trials", "12", "--jobs", "1", "--json")
    expected = document(invoke(*tune, "--backend", "timing", "--log", logs["timing"]))
    found = document(
        invoke(*tune, "--backend", "board", "--log", logs["board"], "--tracker", at, "--key", "board")
    )
    assert found | {"log": "", "backend": ""} == expected | {"log": "", "backend": ""}
    heads, records = zip(*(read(log) for log in logs.values()), strict=True)
    assert [head.backend for head in heads] == ["timing", "board sim"]
    assert records[0] == records[1]


def test_boards_need_a_tracker(demo_package: Path, tmp_path: Path) -> None:
    found = fault(invoke("tune", demo_package, "--backend", "board", "--log", tmp_path / "log"))
    assert found == (
        "--backend board: boards are measured on through their servers; give --tracker HOST:PORT and --key; "
        "see `python -m tilewright.runtime.server --help`"
    )


def test_a_board_does_not_compile_plans(at: str, demo_package: Path, tmp_path: Path) -> None:
    found = fault(invoke("tune", demo_package, "--log", tmp_path / "log", "--tracker", at, "--key", "board"))
    assert found == (
        f"tracker {at}: a server runs packages only, and compiles no plans; "
        "tune with --backend board, or start `python -m tilewright.tune.worker` in its place"
    )


@pytest.mark.slow
def test_a_board_that_is_killed_is_survived_by_the_tuner(demo_package: Path) -> None:
    """Two boards measure one plan thirty times; one is killed after the fifth."""
    loaded = Package.load(demo_package)
    _, quantised = loaded.require_models("tune")
    regions = tuned_regions(onnx.ModelProto.FromString(quantised), loaded.overlay)
    prepared, macs = prepared_regions(regions)
    plan = regions[0].default
    expected = Timing(prepared, macs).measure(plan)
    with tracker() as address:
        server = ("tilewright.runtime.server", "--tracker", f"{address[0]}:{address[1]}", "--key", "two")
        with process(*server) as first, process(*server):
            wait_until(lambda: registered(address, "two") == 2)
            results = Remote(address, "two", Boards(prepared, macs, "sim")).measure([plan] * 30)
            found = [next(results) for _ in range(5)]
            kill(first)
            found += results
    assert sorted(number for number, _ in found) == list(range(30))
    assert {outcome for _, outcome in found} == {expected}


def test_boards_of_two_kinds_do_not_mix(at: str, demo_package: Path) -> None:
    loaded = Package.load(demo_package)
    remote = Remote(parse_address(at), "board", Boards({}, {}, "zynq"))
    plan = Plan.parse(loaded.plan or "", loaded.overlay).regions[0]
    with pytest.raises(
        ConfigError, match=r"has device sim, others of its key have zynq; give boards of each kind"
    ):
        list(remote.measure([plan]))


def test_a_device_behind_a_server(demo_package: Path, tmp_path: Path) -> None:
    """The Zynq back end with a device model: runs and searches, whose counters are the registers'."""
    loaded = Package.load(demo_package)
    inputs = ("--input", "random:1")
    with DeviceModel(loaded.overlay) as model, tracker() as address:
        place = ("--tracker", f"{address[0]}:{address[1]}", "--key", "zynq")
        with process("tilewright.runtime.server", *place, "--device", model.uri(timeout_ms=2000)):
            wait_until(lambda: registered(address, "zynq") == 1)
            remote = ("--remote", *place[1:])
            expected = document(invoke("run", demo_package, *inputs, "--json"))
            found = document(invoke("run", demo_package, *inputs, *remote, "--json"))
            assert found.pop("backend").startswith("zynq:registers=")
            assert found == {name: value for name, value in expected.items() if name != "backend"}
            model.fault("hang")
            assert "2000 ms" in fault(invoke("run", demo_package, *inputs, *remote))
            tune = ("tune", demo_package, "--trials", "4", "--jobs", "1", "--json")
            logs = tmp_path / "timing.jsonl", tmp_path / "board.jsonl"
            invoke(*tune, "--log", logs[0])
            document(invoke(*tune, "--backend", "board", *place, "--log", logs[1]))
            assert read(logs[1])[0].backend == "board zynq"
            assert read(logs[0])[1] == read(logs[1])[1]
            model.kill()
            assert fault(invoke("run", demo_package, *inputs, *remote)).startswith("server ")
