"""The log: survives being killed at any moment, continues without measuring twice, refuses what is not its own."""

from __future__ import annotations

import json
import os
import resource
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import pytest

from tests.tune.synthetic import Bench, Synthetic, header
from tilewright.errors import DataError, ScheduleError
from tilewright.targets.config import overlay
from tilewright.tune.local import Serial
from tilewright.tune.log import Header, Log, LogWarning, Record, best_plan, read, search_points
from tilewright.tune.tuner import Result, run

REGION = Synthetic(size=10)
HEAD = header([REGION])
ROOT = Path(__file__).resolve().parents[2]


def _tune(path: Path | None, trials: int, counter: Path | None = None) -> tuple[Result, list[Record]]:
    with Log(path, HEAD) as log:
        result = run([REGION], Serial(Bench([REGION], counter)), log, HEAD, trials)
        return result, sorted(log.records, key=lambda r: r.trial)


@pytest.fixture(scope="module")
def uninterrupted() -> list[Record]:
    """The records of a search of 40 trials."""
    return _tune(None, 40)[1]


@pytest.fixture
def finished(tmp_path: Path) -> Path:
    """A log of 12 trials."""
    path = tmp_path / "tune.jsonl"
    _tune(path, 12)
    return path


def test_a_log_is_read_as_it_was_written(finished: Path, uninterrupted: list[Record]) -> None:
    head, records = read(finished)
    assert head == HEAD
    assert records == uninterrupted[:12]
    first = json.loads(finished.read_text().splitlines()[0])
    assert first == {
        "schema": 1,
        "log": "tilewright tune",
        "version": "0.1.0",
        "overlay": "ultra96-w8",
        "overlay_hash": overlay("ultra96-w8").hash,
        "model": "made-up",
        "regions": {"tilewright_0": REGION.fingerprint},
        "objective": "cycles",
        "backend": "synthetic",
        "seed": 1,
    }


def test_a_stopped_search_continues_and_measures_nothing_twice(
    tmp_path: Path, uninterrupted: list[Record]
) -> None:
    path, counter = tmp_path / "log", tmp_path / "counter"
    for trials in (13, 13, 27, 40):
        result, records = _tune(path, trials, counter)
    assert result.measured == 13
    assert result.trials == 40
    assert records == uninterrupted
    measured = Bench([REGION], counter).measured()
    assert len(measured) == len(set(measured)) == 40


@pytest.mark.parametrize("after", [1, 9, 22])
def test_a_search_killed_at_any_moment_continues(
    tmp_path: Path, uninterrupted: list[Record], after: int
) -> None:
    """SIGKILL as soon as so many lines are there; what was being measured may be lost, and nothing else."""
    path, counter = tmp_path / "log", tmp_path / "counter"
    command = [sys.executable, "-m", "tests.tune.search_process", str(path), str(counter), "40", "0.02"]
    with subprocess.Popen(command, cwd=ROOT, stderr=subprocess.PIPE, text=True) as process:
        deadline = time.monotonic() + 60
        while time.monotonic() < deadline and process.poll() is None:
            if path.exists() and path.read_bytes().count(b"\n") > after:
                break
            time.sleep(0.005)
        os.kill(process.pid, signal.SIGKILL)
        assert process.stderr is not None
        errors = process.stderr.read()
    assert process.returncode == -signal.SIGKILL, errors
    before = Bench([REGION], counter).measured()
    assert after <= len(before) < 40
    _, records = _tune(path, 40, counter)
    assert records == uninterrupted
    measured = Bench([REGION], counter).measured()
    # At most the one that was measured and not yet written.
    assert len(set(measured)) == 40
    assert len(measured) <= 41
    if len(measured) == 41:
        assert measured.count(before[-1]) == 2


def test_a_log_cut_at_any_byte_continues(tmp_path: Path, finished: Path) -> None:
    """As a crash may leave it: every length of the last two lines, and of the header."""
    whole = finished.read_bytes()
    records = read(finished)[1]
    header_end = whole.index(b"\n") + 1
    second_last = whole.rindex(b"\n", 0, whole.rindex(b"\n", 0, -1)) + 1
    path = tmp_path / "cut"
    for length in [*range(0, header_end, 7), header_end, *range(second_last, len(whole), 31), len(whole)]:
        path.write_bytes(whole[:length])
        torn = length > 0 and whole[length - 1 : length] != b"\n"
        if torn:
            with pytest.warns(
                LogWarning, match=r"dropped the torn last line \(\d+ bytes\): the process that"
            ):
                log = Log(path, HEAD)
        else:
            log = Log(path, HEAD)
        with log:
            assert log.records == records[: len(log.records)]
            assert len(log.records) == max(whole[:length].count(b"\n") - 1, 0)
            for record in records[len(log.records) :]:
                log.append(record)
        assert path.read_bytes() == whole


def test_a_last_line_of_rubbish_is_torn_too(finished: Path) -> None:
    whole = finished.read_bytes()
    finished.write_bytes(whole + b"\0" * 64 + b"\n")
    with pytest.warns(LogWarning, match="torn"), Log(finished, HEAD) as log:
        assert len(log.records) == 12
    assert finished.read_bytes() == whole


def test_a_damaged_line_inside_is_an_error(finished: Path) -> None:
    lines = finished.read_bytes().splitlines(keepends=True)
    lines[5] = lines[5].replace(b'"groups"', b'"grouse"')
    finished.write_bytes(b"".join(lines))
    with pytest.raises(DataError) as caught:
        Log(finished, HEAD)
    assert str(caught.value).startswith(f"{finished}: line 6 is damaged: b'")
    assert str(caught.value).endswith("; delete that line; it will be measured again")


@pytest.mark.parametrize(
    ("content", "text"),
    [
        (b"\x89TWP\r\n\x1a\nrest", "expected a log of `tilewright tune`, line 1 is b'\\x89TWP\\r'"),
        (b"name,value\n1,2\n", "expected a log of `tilewright tune`, line 1 is b'name,value'"),
        (b"{}\n", "expected a log of `tilewright tune`, line 1 is b'{}'"),
        (b'"schema": 1', "expected a log of `tilewright tune`, found b'\"schema\": 1'"),
    ],
)
def test_a_file_that_is_no_log_is_left_alone(tmp_path: Path, content: bytes, text: str) -> None:
    path = tmp_path / "file"
    path.write_bytes(content)
    with pytest.raises(DataError) as caught:
        Log(path, HEAD)
    assert str(caught.value) == f"{path}: {text}; give another --log"
    assert path.read_bytes() == content


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (
            {"overlay": "pynq-z1-w8", "overlay_hash": "f" * 64},
            "the log is for overlay ultra96-w8, not for pynq-z1-w8; give another --log, or the target that this one is for",
        ),
        (
            {"overlay_hash": "f" * 64},
            f"the log is for overlay hash {HEAD.overlay_hash}, not for {'f' * 64}; the overlay's file was changed since: give another --log",
        ),
        (
            {"model": "other", "regions": {"tilewright_0": "0123456789abcdef"}},
            "the log is for network made-up (tilewright_0 10x12x3000), not for other (tilewright_0 0123456789ab); give another --log, or the network that this one is for",
        ),
        (
            {"objective": "dram"},
            "the log is for objective cycles, not for dram; give another --log: what was proposed depends on the objective",
        ),
        (
            {"backend": "timing"},
            "the log is for backend synthetic, not for timing; give another --log: back ends do not measure alike",
        ),
        (
            {"seed": 2},
            "the log is for seed 1, not for 2; give another --log, or the seed that this one was begun with",
        ),
        (
            {"version": "0.2.0"},
            "the log is for version 0.1.0, not for 0.2.0; give another --log: other versions compile the same plan to other streams",
        ),
    ],
)
def test_a_log_of_something_else_is_refused(finished: Path, change: dict[str, object], message: str) -> None:
    before = finished.read_bytes()
    with pytest.raises(DataError) as caught:
        Log(finished, replace(HEAD, **change))  # type: ignore[arg-type]
    assert str(caught.value) == f"{finished}: {message}"
    assert finished.read_bytes() == before


def test_every_difference_is_told_at_once(finished: Path) -> None:
    with pytest.raises(DataError) as caught:
        Log(finished, replace(HEAD, seed=2, objective="energy"))
    assert [f.message for f in caught.value.faults] == [
        "the log is for objective cycles, not for energy",
        "the log is for seed 1, not for 2",
    ]


def test_a_network_of_another_name_and_the_same_regions_continues(finished: Path) -> None:
    with Log(finished, replace(HEAD, model="renamed")) as log:
        assert len(log.records) == 12


def test_two_tuners_do_not_share_a_log(finished: Path) -> None:
    with Log(finished, HEAD), pytest.raises(DataError, match="another process is tuning with this log"):
        Log(finished, HEAD)


def test_a_log_that_cannot_be_written(tmp_path: Path) -> None:
    with pytest.raises(
        DataError, match="the log cannot be written: No such file or directory; check the path"
    ):
        Log(tmp_path / "absent" / "log", HEAD)


def test_a_disk_that_is_full(finished: Path, uninterrupted: list[Record]) -> None:
    """The kernel allows the file a few more bytes; what was written of the line is torn."""
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    with Log(finished, HEAD) as log:
        resource.setrlimit(resource.RLIMIT_FSIZE, (finished.stat().st_size + 40, limits[1]))
        try:
            with pytest.raises(DataError) as caught:
                log.append(uninterrupted[12])
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert str(caught.value) == (
        f"{finished}: the log cannot be written: File too large; "
        "what was measured before is safe: free space and start again"
    )
    with pytest.warns(LogWarning, match=r"torn last line \(40 bytes\)"), Log(finished, HEAD) as log:
        assert log.records == uninterrupted[:12]


def test_a_device_is_no_log() -> None:
    with pytest.raises(DataError, match="/dev/zero: is no file that a log can be; give another --log"):
        Log("/dev/zero", HEAD)
    with pytest.raises(DataError, match="is no file that a log can be"):
        best_plan("/dev/zero", overlay("ultra96-w8"))


def test_the_best_plan_of_a_log(finished: Path) -> None:
    target = overlay("ultra96-w8")
    plan = best_plan(finished, target)
    result, records = _tune(None, 12)
    assert plan.regions == tuple(result.plans)
    assert plan.overlay_hash == target.hash
    values = [REGION.price(r.plan, accurate=True).cycles for r in records]
    assert REGION.price(plan.regions[0], accurate=True).cycles == min(values) < values[0]


def test_the_best_plan_for_another_overlay_is_refused(finished: Path) -> None:
    other = overlay("pynq-z1-w8")
    with pytest.raises(ScheduleError) as caught:
        best_plan(finished, other)
    assert str(caught.value) == (
        f"{finished}: the log is for overlay ultra96-w8 ({HEAD.overlay_hash[:12]}), "
        f"not for pynq-z1-w8 ({other.hash[:12]}); tune for this overlay"
    )


def test_no_best_plan_without_measurements(tmp_path: Path) -> None:
    path = tmp_path / "log"
    Log(path, HEAD).__exit__(None, None, None)
    with pytest.raises(DataError, match="the log holds no measurement of region tilewright_0; tune on"):
        best_plan(path, overlay("ultra96-w8"))
    path.write_bytes(b"")
    with pytest.raises(DataError, match="the log is empty"):
        best_plan(path, overlay("ultra96-w8"))
    with pytest.raises(DataError, match="the log cannot be read: No such file or directory"):
        best_plan(tmp_path / "absent", overlay("ultra96-w8"))


def test_points_of_the_search_for_a_plot(finished: Path) -> None:
    points = search_points(finished)
    prices = [REGION.price(r.plan, accurate=True).cycles for r in read(finished)[1]]
    assert [p.trial for p in points] == list(range(12))
    assert [p.value for p in points] == prices
    assert [p.best for p in points] == [min(prices[: i + 1]) for i in range(12)]


def test_points_of_two_regions_are_sums(tmp_path: Path) -> None:
    regions = [Synthetic(size=6), Synthetic(size=5, name="tilewright_1")]
    head: Header = header(regions)
    path = tmp_path / "log"
    with Log(path, head) as log:
        result = run(regions, Serial(Bench(regions)), log, head, 30)
    points = search_points(path)
    assert points[0].value is None
    assert points[0].best is None
    assert points[1].value == points[1].best == result.default
    assert points[-1].best == result.best
    assert all(p.value is not None and p.best is not None and p.value >= p.best for p in points[1:])
