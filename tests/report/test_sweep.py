"""The memory sweep: its text, legal sizes, figures, and sizes that do not work."""

from __future__ import annotations

import pytest

import tilewright as tw
from tilewright import pipeline
from tilewright.errors import ConfigError, Fault, ScheduleError
from tilewright.report import Report, Sweep, SweepRow, parse_sweep, run_sweep
from tilewright.targets.config import Overlay

KIB = 1024


@pytest.mark.parametrize(
    ("text", "sizes"),
    [
        ("act=64K..1M", (64, 128, 256, 512, 1024)),
        ("act=64K..300K", (64, 128, 256)),
        ("act=1M", (1024,)),
        (" act=96K..192K ", (96, 192)),
    ],
)
def test_texts(text: str, sizes: tuple[int, ...]) -> None:
    assert parse_sweep(text) == Sweep("act", tuple(size * KIB for size in sizes))


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("", "expected a memory and sizes in K or M, found ''"),
        ("act", "expected a memory and sizes in K or M, found 'act'"),
        ("act=64..1M", "expected a memory and sizes in K or M, found 'act=64..1M'"),
        ("act=-1K..1M", "expected a memory and sizes in K or M, found 'act=-1K..1M'"),
        ("act=1234567890K", "expected a memory and sizes in K or M, found 'act=1234567890K'"),
        ("wgt=64K..1M", "the memory 'wgt' cannot be swept, expected act"),
        ("act=1M..64K", "expected sizes from small to large, found 'act=1M..64K'"),
        ("act=0K..1M", "expected sizes from small to large, found 'act=0K..1M'"),
    ],
)
def test_bad_texts(text: str, message: str) -> None:
    with pytest.raises(ConfigError) as error:
        parse_sweep(text)
    assert str(error.value) == f"--sweep: {message}; write it like act=64K..1M"


def test_the_packages_own_size_gives_the_packages_figures(demo: tw.Package, demo_report: Report) -> None:
    (row,) = run_sweep(demo, Sweep("act", (384 * KIB,)))
    assert row.fps == pytest.approx(demo_report.fps, rel=1e-15)  # one multiplies, the other divides
    assert row == SweepRow(
        "act",
        384 * KIB,
        384 * KIB,
        demo_report.cycles,
        row.fps,
        demo_report.dram_bytes,
        demo_report.dram_bytes_unmerged,
        1,
    )


def test_sizes_are_rounded_up_and_run_once(demo: tw.Package, monkeypatch: pytest.MonkeyPatch) -> None:
    compiled: list[int] = []

    def compile_for(model: tw.Model, target: Overlay) -> tw.Package:
        compiled.append(target.act_kib)
        return demo

    monkeypatch.setattr(pipeline, "compile", compile_for)
    done: list[tuple[int, int]] = []
    asked = Sweep("act", tuple(k * KIB for k in (1, 2, 65, 129, 4096)))
    rows = run_sweep(demo, asked, lambda n, of: done.append((n, of)))
    assert compiled == [64, 128, 192]
    assert [(row.asked_bytes // KIB, row.bytes // KIB) for row in rows] == [
        (1, 64),
        (65, 128),
        (129, 192),
        (4096, 4096),
    ]
    assert rows[-1].cycles is None
    assert rows[-1].reason.startswith("act_kib=4096: must be at most 65536 half words")
    assert done == [(n, 5) for n in range(1, 6)]


def test_a_network_that_does_not_fit_is_a_row(demo: tw.Package, monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(model: tw.Model, target: Overlay) -> tw.Package:
        raise ScheduleError(Fault("it needs 9 half words more", "layer conv1", "use a larger ACT"))

    monkeypatch.setattr(pipeline, "compile", refuse)
    (row,) = run_sweep(demo, Sweep("act", (64 * KIB,)))
    assert (row.cycles, row.fps, row.dram_bytes, row.host_layers) == (None, None, None, None)
    assert row.reason == "layer conv1: it needs 9 half words more; use a larger ACT"


def test_a_network_without_regions(host_only: tw.Package) -> None:
    (row,) = run_sweep(host_only, Sweep("act", (64 * KIB,)))
    assert row.reason == "no layer fits: the whole network would run on the host"
