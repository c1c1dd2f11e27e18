"""A report's figures against the package, the timing simulator and the bound."""

from __future__ import annotations

import dataclasses

import pytest

import tilewright as tw
from tilewright.errors import ConfigError, PackageError
from tilewright.relay_passes.regions import find_regions
from tilewright.report import Assumptions, Report, analyse, baseline, bound
from tilewright.report.host import host_share
from tilewright.report.regions import model_of
from tilewright.targets.config import Overlay
from tilewright.targets.isa.spec import Unit
from tilewright.targets.sim import timing
from tilewright.targets.sim.program import Program


def test_sums_are_the_simulators(demo: tw.Package, demo_report: Report) -> None:
    runs = [timing.run(Program(region.stream, demo.overlay)) for region in demo.regions]
    layers = demo_report.layers
    assert sum(x.cycles for x in layers) == demo_report.cycles == sum(t.cycles for t in runs)
    assert sum(x.dram_write_bytes for x in layers) == sum(t.dram_write_bytes for t in runs)
    assert sum(x.dram_read_bytes for x in layers) == sum(t.dram_read_bytes + t.fetch_bytes for t in runs)
    assert demo_report.dram_bytes == sum(t.dram_bytes for t in runs)
    for layer in layers:
        assert sum(layer.unit_cycles.values()) == layer.cycles
    for unit in Unit:
        assert sum(demo_report.activity[unit.name].values()) == demo_report.cycles
    assert sum(x.matrix_steps for x in layers) == demo_report.activity["MATRIX"]["BUSY"]


def test_bounds_and_products(demo: tw.Package, demo_report: Report) -> None:
    (graph,) = find_regions(model_of(demo).relax(), demo.overlay).graphs
    least = bound(graph, baseline(demo.overlay))
    assert demo_report.bound_cycles == least.cycles
    assert demo_report.dram_bytes_unmerged == least.dram_bytes_unmerged
    assert sum(x.dram_bytes_unmerged for x in demo_report.layers) == least.dram_bytes_unmerged
    assert demo_report.macs == demo.report["accelerator_macs"] + demo.report["host_macs"]
    found = {x.name: x for x in demo_report.layers}
    for layer in least.layers:
        assert (found[layer.name].bound_cycles, found[layer.name].macs) == (layer.cycles, layer.macs)
    assert found["conv3_conv"].macs == 4 * 4 * 128 * 128 * 9
    assert found["conv3_conv"].limited_by == "MATRIX"


def test_every_imported_layer_is_there_once_host_first(demo: tw.Package, demo_report: Report) -> None:
    names = [x.name for x in demo_report.layers]
    assert sorted(names) == sorted(row["name"] for row in demo.report["layers"])
    assert [x.on_host for x in demo_report.layers] == [True] + [False] * (len(names) - 1)
    (host,) = demo_report.host_layers
    assert (host.name, host.op, host.cycles, host.energy_mj, host.roofline_ratio) == (
        "prob",
        "Softmax",
        0,
        0,
        None,
    )
    assert host.reason == "an operator must be one that the integer level has, found Softmax"
    folded = {x.name: x.reason for x in demo_report.layers if x.folded}
    assert folded["conv1_bn"] == "folded into conv1_conv"
    assert all(x.cycles == 0 for x in demo_report.layers if x.folded)


def test_parts_of_a_layer_follow_it_in_the_order_of_the_network(demo: tw.Package) -> None:
    """A layer that rewrites made stands behind the one before it; here a row of the compile report is taken out."""
    rows = [row for row in demo.report["layers"] if row["name"] != "conv2_conv"]
    found = analyse(dataclasses.replace(demo, report=dict(demo.report) | {"layers": rows}))
    names = [x.name for x in found.layers]
    assert names.index("conv2_conv") == names.index("pool2") + 1
    assert found.layers[names.index("conv2_conv")].op == "conv2d"
    assert sum(x.cycles for x in found.layers) == found.cycles


def test_energy(demo: tw.Package, demo_report: Report) -> None:
    whole = sum(x.energy_mj for x in demo_report.layers)
    assert whole == pytest.approx((demo_report.macs + 80 * demo_report.dram_bytes) * 1e-9, rel=1e-12)
    twice = analyse(demo, Assumptions(pj_per_mac=2, pj_per_dram_bit=20))
    assert sum(x.energy_mj for x in twice.layers) == pytest.approx(2 * whole, rel=1e-12)


def test_the_hosts_share(demo: tw.Package, demo_report: Report) -> None:
    host = demo_report.host
    assert [w.op for w in host.work] == ["quantize", "region", "dequantize", "softmax"]
    assert host.work[0].elements == 32 * 32 + 2
    assert "estimated" in host.source
    assert "not measured" in host.source
    assert host.ms == pytest.approx(2 * host_share(demo, mhz=2000).ms, rel=1e-12)
    measured = analyse(demo, Assumptions(host_ms=3.0))
    assert (measured.host.ms, measured.host.measured) == (3.0, True)
    assert measured.fps == demo_report.fps
    assert measured.fps_with_host == pytest.approx(1e3 / (3.0 + demo_report.accelerator_ms), rel=1e-12)
    assert measured.host_time_share == pytest.approx(3.0 / (3.0 + demo_report.accelerator_ms), rel=1e-12)


def test_a_network_of_which_nothing_is_on_the_accelerator(host_only: tw.Package) -> None:
    found = analyse(host_only)
    assert (found.cycles, found.fps, found.dram_bytes, found.limited_by) == (0, None, 0, "")
    assert found.host_time_share == 1
    assert found.fps_with_host == pytest.approx(1e3 / found.host.ms)
    assert [x.name for x in found.host_layers] == ["q", "d", "soft <max>"]


def test_an_overlay_without_a_baseline_is_bounded_by_its_own_limits(demo: tw.Package) -> None:
    mine = Overlay.from_dict(demo.overlay.to_dict() | {"name": "mine"})
    found = analyse(dataclasses.replace(demo, overlay=mine))
    assert found.bound_cycles == found.bound_cycles_now


def test_a_changed_machine_reports_both_bounds(demo: tw.Package, demo_report: Report) -> None:
    slow = Overlay.from_dict(demo.overlay.to_dict() | {"vector_lanes": 16})
    found = analyse(dataclasses.replace(demo, overlay=slow))
    assert found.bound_cycles == demo_report.bound_cycles
    pools = [(x.bound_cycles, x.bound_cycles_now) for x in found.layers if x.op == "MaxPool"]
    assert pools
    assert all(now > first for first, now in pools)


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"pj_per_mac": -1.0}, "--pj-per-mac: expected a finite number from 0 up, found -1.0"),
        (
            {"pj_per_dram_bit": float("nan")},
            "--pj-per-dram-bit: expected a finite number from 0 up, found nan",
        ),
        ({"host_ms": float("inf")}, "--host-ms: expected a finite number from 0 up, found inf"),
        ({"host_mhz": 0}, "--host-mhz: expected 1..10000 MHz, found 0"),
    ],
)
def test_assumptions_that_cannot_be(demo: tw.Package, changed: dict[str, float], message: str) -> None:
    with pytest.raises(ConfigError) as error:
        analyse(demo, dataclasses.replace(Assumptions(), **changed))  # type: ignore[arg-type]
    assert str(error.value) == message


def test_a_stripped_package(demo: tw.Package) -> None:
    with pytest.raises(PackageError) as error:
        analyse(demo.strip())
    assert str(error.value) == (
        "package digits: `report` needs the quantised model, and this package was stripped of it; "
        "compile without --strip"
    )


@pytest.mark.parametrize("layers", [None, [{"name": "a"}], "rows"])
def test_a_damaged_compile_report(demo: tw.Package, layers: object) -> None:
    with pytest.raises(
        PackageError, match=r"package digits: expected rows with name, op, place, reason, macs"
    ):
        analyse(dataclasses.replace(demo, report={"layers": layers}))


def test_a_damaged_model(demo: tw.Package) -> None:
    with pytest.raises(PackageError, match=r"package digits: its model is damaged"):
        analyse(dataclasses.replace(demo, quantised_model=b"\xff\xff\xff"))
