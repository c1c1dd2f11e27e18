"""Whole networks: the timing simulator counts what the functional one does, and no bound is beaten."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest

from tilewright.benchmark import __main__ as benchmark
from tilewright.benchmark import zoo
from tilewright.codegen.compile import compile_region
from tilewright.report import baseline, bound
from tilewright.targets.config import overlay
from tilewright.targets.isa.spec import Unit
from tilewright.targets.sim import fast, timing
from tilewright.targets.sim.program import DramImage
from tilewright.targets.sim.rules import Activity

pytestmark = pytest.mark.skipif(not zoo.DEMO.is_file(), reason="the demo network comes with the source tree")


@pytest.mark.parametrize("name", ["pynq-z1-w8", "ultra96-w8"])
def test_the_simulators_count_alike(name: str) -> None:
    o = overlay(name)
    (graph,) = zoo.region_graphs(zoo.network("demo"), o)
    region = compile_region(graph, o)
    program = zoo.program_of(region, o)
    time = timing.run(program)
    constants = np.frombuffer(region.constants, np.uint8)
    inputs = np.zeros(region.input_bytes, np.uint8)
    counts = fast.run(
        program, DramImage(constants, inputs, region.workspace_bytes, region.output_bytes)
    ).statistics
    assert time.activity[Unit.MATRIX][Activity.BUSY] == counts.steps
    assert (time.dram_read_bytes, time.dram_write_bytes) == (counts.dram_read_bytes, counts.dram_write_bytes)
    assert time.fetch_bytes == len(region.stream)
    least = bound(graph, baseline(o))
    assert least.matrix_cycles <= counts.steps
    assert least.cycles < time.cycles
    assert sum(layer.cycles for layer in time.layers()) <= time.cycles
    assert [layer.name for layer in time.layers()] == list(region.layers)
    slow = timing.run(program, leap=False)
    assert (slow.cycles, slow.activity) == (time.cycles, time.activity)
    np.testing.assert_array_equal(slow.end, time.end)


def test_the_command(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    arguments = ["zoo", "demo", "--target", "ultra96-w8", "--json", "--trace", str(tmp_path)]
    assert benchmark.main(arguments) == 0
    (row,) = json.loads(capsys.readouterr().out)["rows"]
    assert (row["network"], row["overlay"], row["regions"]) == ("demo", "ultra96-w8", 1)
    assert 0 < row["ratio"] == row["bound_cycles"] / row["cycles"] < 1
    assert row["fps"] == pytest.approx(250e6 / row["cycles"])
    for kinds in row["stalls"].values():
        assert sum(kinds.values()) == row["cycles"]
    trace = json.loads((tmp_path / "demo_ultra96-w8_0.trace.json").read_text())
    names = {e["name"] for e in trace["traceEvents"] if e["ph"] == "X"}
    (graph,) = zoo.region_graphs(zoo.network("demo"), overlay("ultra96-w8"))
    assert names == set(compile_region(graph, overlay("ultra96-w8")).layers)


def test_the_table(capsys: pytest.CaptureFixture[str]) -> None:
    assert benchmark.main(["zoo", "demo", "--target", "pynq-z1-w8"]) == 0
    text = capsys.readouterr().out
    assert "demo" in text
    assert "TOKEN_LOAD" in text


def test_an_unknown_network_is_said(capsys: pytest.CaptureFixture[str]) -> None:
    assert benchmark.main(["zoo", "nothing"]) == 1
    error = " ".join(capsys.readouterr().err.split())
    assert "benchmark zoo: there is no network 'nothing'; give a file, or one of demo, bvlc_alexnet" in error
