"""Whole networks: the timing simulator counts what the functional one does, and no bound is beaten."""

from __future__ import annotations

import csv
import json
from pathlib import Path

import numpy as np
import pytest

from tilewright.benchmark import __main__ as benchmark
from tilewright.benchmark import quantised, zoo
from tilewright.benchmark.machine import machine
from tilewright.benchmark.networks import DEMO, NETWORKS
from tilewright.benchmark.quantised import Quantised
from tilewright.codegen.compile import compile_region
from tilewright.errors import ConfigError
from tilewright.relay_passes.regions import find_regions
from tilewright.report import Limits, bound
from tilewright.targets.config import overlay
from tilewright.targets.isa.spec import Unit
from tilewright.targets.sim import fast, timing
from tilewright.targets.sim.program import DramImage
from tilewright.targets.sim.rules import Activity

pytestmark = pytest.mark.skipif(
    not (DEMO / "digits.onnx").is_file(), reason="the demo network comes with the source tree"
)


@pytest.mark.parametrize("name", ["pynq-z1-w8", "ultra96-w8"])
def test_the_simulators_count_alike(name: str) -> None:
    o = overlay(name)
    (graph,) = find_regions(zoo.network("demo").relax(), o).graphs
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
    least = bound(graph, Limits.of(o))
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
    (graph,) = find_regions(zoo.network("demo").relax(), overlay("ultra96-w8")).graphs
    assert names == set(compile_region(graph, overlay("ultra96-w8")).layers)


def test_the_table(capsys: pytest.CaptureFixture[str]) -> None:
    assert benchmark.main(["zoo", "demo", "--target", "pynq-z1-w8", "--units"]) == 0
    text = capsys.readouterr().out
    assert "demo" in text
    assert "TOKEN LOAD" in text


def test_files(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    csv_file, markdown = tmp_path / "zoo.csv", tmp_path / "zoo.md"
    arguments = ["zoo", "demo", "nothing", "--target", "ultra96-w8"]
    assert benchmark.main([*arguments, "--csv", str(csv_file), "--markdown", str(markdown)]) == 1
    with csv_file.open(newline="", encoding="utf-8") as file:
        demo, nothing = csv.DictReader(file)
    for key, value in machine().items():
        assert demo[key] == nothing[key] == value
        assert f"- {key}: {value}" in markdown.read_text()
    assert int(demo["cycles"]) > int(demo["bound_cycles"]) > 0
    assert float(demo["ratio"]) == int(demo["bound_cycles"]) / int(demo["cycles"])
    assert float(demo["dram_ratio"]) == int(demo["dram_mb"]) / int(demo["unmerged_mb"])
    assert float(demo["gmac_per_s"]) > 0
    assert demo["error"] == ""
    assert nothing["cycles"] == ""
    assert "there is no network 'nothing'" in nothing["error"]
    rows = [line for line in markdown.read_text().splitlines() if line.startswith("|")]
    assert len(rows) == 4
    assert all(row.count("|") == len(zoo.COLUMNS) + 1 for row in rows)
    capsys.readouterr()


def test_an_unknown_network_is_said(capsys: pytest.CaptureFixture[str]) -> None:
    assert benchmark.main(["zoo", "nothing"]) == 1
    error = " ".join(capsys.readouterr().err.split())
    assert (
        "benchmark zoo: there is no network 'nothing'; give a file, or one of demo, squeezenet_v1.1" in error
    )


def test_light_may_be_left_out(monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[str] = []
    monkeypatch.setattr(Quantised, "model", lambda _, row: asked.append(row.name))
    networks = zoo.Networks(Quantised(None, None))
    networks.model("resnet50")
    networks.model("resnet50_caffe")
    assert asked == ["light_resnet50", "resnet50_caffe"]


def test_layers_without_dense_ones(monkeypatch: pytest.MonkeyPatch) -> None:
    """The demo ends in dense layers: without them its ratio is that of the convolutions alone."""
    o = overlay("ultra96-w8")
    row, (time,), (least,) = zoo.measure("demo", zoo.network("demo"), o)
    dense = {layer.name for layer in least.layers if layer.kind == "dense"}
    assert dense
    assert row.conv_ratio is not None
    cycles = sum(layer.cycles for layer in time.layers() if layer.name not in dense)
    steps = sum(layer.matrix_cycles for layer in least.layers if layer.name not in dense)
    assert row.conv_ratio == pytest.approx(steps / cycles)


def test_quantised_networks_are_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    row = NETWORKS["demo"]
    first = Quantised(None, tmp_path)
    path = first.path(row)
    assert list(tmp_path.iterdir()) == [path]
    kept = path.read_bytes()
    monkeypatch.setattr(quantised, "quantise", lambda _: pytest.fail("quantised again"))
    assert Quantised(None, tmp_path).path(row) == path
    assert first.model(row).is_quantised
    assert path.read_bytes() == kept
    monkeypatch.setattr(quantised, "SAMPLES", 2)
    with pytest.raises(pytest.fail.Exception, match="quantised again"):
        first.path(row)


def test_a_folder_is_needed() -> None:
    with pytest.raises(ConfigError, match="--cache: expected a folder for quantised networks, found none"):
        Quantised(None, None).path(NETWORKS["demo"])
