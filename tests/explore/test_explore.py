"""The search: its points against the compiler and the timing simulator, and what it refuses."""

from __future__ import annotations

import re
from dataclasses import replace

import pytest

import tilewright as tw
from tests.cli.commands import DEMO
from tilewright.errors import ConfigError, UnsupportedModel
from tilewright.explore.api import NOISE, area
from tilewright.explore.front import dominates
from tilewright.explore.space import families
from tilewright.explore.tables import COLUMNS, document, points_csv
from tilewright.targets.config import board
from tilewright.targets.resources import resources
from tilewright.targets.sim import timing
from tilewright.targets.sim.program import Program


def test_points_are_what_compiling_gives(demo: tw.Model, found: tw.Exploration) -> None:
    assert len(found.points) == 5 and found.points[0].overlay.board.name == "pynq-z1"
    for point in (found.points[0], found.points[-1]):
        package = tw.compile(demo, point.overlay)
        runs = [timing.run(Program(region.stream, point.overlay)) for region in package.regions]
        assert point.cycles == sum(run.cycles for run in runs)
        assert point.dram_bytes == sum(run.dram_bytes for run in runs)
        assert point.fps == point.overlay.mhz * 1e6 / point.cycles
        macs = package.report["accelerator_macs"]
        assert isinstance(macs, int)
        # 1 pJ a MAC and 80 pJ a byte; equal but for the order of the additions.
        assert point.energy_mj == pytest.approx((macs + 80 * point.dram_bytes) * 1e-9, rel=1e-12)


def test_installed_overlays_are_points(found: tw.Exploration) -> None:
    assert [p.overlay.name for p in found.points if p.installed] == ["pynq-z1-w8"]


def test_the_front_and_the_order(found: tw.Exploration) -> None:
    assert found.front and [p.fps for p in found.points] == sorted(
        (p.fps for p in found.points), reverse=True
    )
    for p in found.points:
        beaten = any(dominates(q, p) for q in found.points)
        assert p.front == (not beaten)
    assert found.considered == len(found.points) + found.skipped + found.left + len(found.refused)


@pytest.mark.slow
def test_what_was_left_out_could_not_have_been_better(demo: tw.Model) -> None:
    """A whole search over small overlays; those that were left out are compiled here and beat nothing."""
    whole = tw.explore(demo, "pynq-z1", widths=[(8, 8)], share=0.5, trials=1000)
    timed = {p.overlay.name for p in whole.points}
    made = [o for f in families(board("pynq-z1"), [(8, 8)], 100, 0.5) for o in f.members]
    left_out = [o for o in made if o.name not in timed]
    assert whole.left == 0 and len(left_out) == whole.skipped > 0
    for o in left_out:
        runs = [timing.run(Program(region.stream, o)) for region in tw.compile(demo, o).regions]
        fps, dram = o.mhz * 1e6 / sum(run.cycles for run in runs), sum(run.dram_bytes for run in runs)
        assert any(
            p.fps * (1 + NOISE) >= fps and p.dram_bytes * (1 - NOISE) <= dram and p.area <= area(resources(o))
            for p in whole.front
        )


def test_widths_that_cannot_hold_the_network_are_told(demo: tw.Model) -> None:
    """A bipolar overlay takes nothing of an 8-bit network."""
    result = tw.explore(demo, "ultra96", widths=[(8, 8), (1, 1)], trials=1)
    assert all(p.overlay.inp_bits == 8 for p in result.points)
    reasons = {r.reason for r in result.refused if "1x1" in r.overlay}
    assert reasons and all(
        re.search(r"left to the host|runs on the accelerator", reason) for reason in reasons
    )


def test_interrupted(demo: tw.Model) -> None:
    """What was timed until then is told; without anything timed the interrupt goes on."""
    calls: list[tuple[int, int]] = []

    def stop(done: int, total: int) -> None:
        calls.append((done, total))
        if total == 3 and done == 1:
            raise KeyboardInterrupt

    result = tw.explore(demo, "pynq-z1", widths=[(8, 8)], trials=3, progress=stop)
    assert result.interrupted and len(result.points) == 1 and result.left > 0
    assert calls[-1] == (1, 3)

    def at_once(done: int, total: int) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        tw.explore(demo, "pynq-z1", widths=[(8, 8)], progress=at_once)


def test_a_batch(demo: tw.Model) -> None:
    """Frames and bytes are an image's; weights are shared, so these are fewer."""
    batch = replace(demo, batch=4)
    (one,), (four,) = (tw.explore(m, "pynq-z1", widths=[(8, 8)], trials=1).points for m in (demo, batch))
    assert four.dram_bytes < one.dram_bytes and four.cycles > 3 * one.cycles
    assert four.fps == 4 * four.overlay.mhz * 1e6 / four.cycles


def test_tables(found: tw.Exploration) -> None:
    lines = points_csv(found).splitlines()
    assert lines[0] == ",".join(COLUMNS) and len(lines) == 6
    made = document(found)
    overlay = tw.Overlay.from_dict(made["points"][0]["configuration"])
    assert overlay == found.points[0].overlay
    assert {"fps", "lut", "bram36", "area"} <= set(made["points"][0])


def test_wrong_options_are_told_at_once(demo: tw.Model) -> None:
    with pytest.raises(ConfigError) as error:
        tw.explore(demo, "ultra97", objective="speed", widths=[(8, 3)], mhz=0, share=1.5, trials=0)
    assert [str(f) for f in error.value.faults] == [
        "unknown board 'ultra97', known are pynq-z1, ultra96; did you mean ultra96?",
        "--objective: expected one of fps, energy, dram, area, found 'speed'",
        "--widths: expected 1/1, or 2, 4 and 8 bits, found 8/3; write them like 8/8,4/4",
        "--share: expected a share above 0 up to 1, found 1.5",
        "--mhz: expected 1 to 1000 MHz, found 0",
        "--trials: expected 1 or more, found 0",
    ]


def test_nothing_fits(demo: tw.Model) -> None:
    with pytest.raises(ConfigError) as error:
        tw.explore(demo, "pynq-z1", widths=[(2, 2)], share=0.1)
    assert str(error.value) == (
        "board pynq-z1: no overlay fits 10% of xc7z020clg400-1 (53,200 LUT, 220 DSP, 140 BRAM36); "
        "give a larger --share, or narrower --widths"
    )


def test_a_float_network() -> None:
    with pytest.raises(UnsupportedModel, match="expected a quantised model, found a float one"):
        tw.explore(tw.load(DEMO / "digits.onnx"), "ultra96")
