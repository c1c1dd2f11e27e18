"""Time of whole networks by the timing simulator, beside their bound.

Networks: the demo of the tutorials, those of the `onnx` package with seeded weights, and any file named. They are
quantised on one random image, for speed does not depend on values. Host layers are left out of every figure.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Iterator
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import onnx
from rich.console import Console
from rich.table import Table

from tilewright.errors import ConfigError, Fault, TilewrightError
from tilewright.frontend.model import Model, load
from tilewright.quantize.options import QuantizeOptions
from tilewright.targets.config import Overlay, overlay, overlays
from tilewright.targets.isa.spec import Unit
from tilewright.targets.sim.program import Program
from tilewright.targets.sim.rules import Activity
from tilewright.targets.sim.timing import Timing, run
from tilewright.targets.sim.trace import write_chrome_trace
from tilewright.zoo import LIGHT_MODELS

if TYPE_CHECKING:
    from tilewright.codegen.graph import Graph
    from tilewright.report import NetworkBound
    from tilewright.targets.region import CompiledRegion

DEMO = Path(__file__).resolve().parents[3] / "tutorials" / "demo" / "digits.onnx"
LIGHT = Path(onnx.__file__).parent / "backend" / "test" / "data" / "light"
NETWORKS = ("demo", *LIGHT_MODELS)
_FAST = QuantizeOptions(method="minmax", bias_correction=False, equalise=False)


@dataclass(frozen=True)
class Row:
    """A network on an overlay.

    Attributes:
        cycles, fps: of all regions one after the other, at the overlay's clock.
        bound_cycles, limited_by: by the limits of `targets/bound_baseline.toml`; the largest region's limit.
        ratio: bound to actual, 0..1.
        dram_bytes, dram_bytes_unmerged: moved, and as the bound counts them without merging.
        stalls: for each unit its cycles by activity.
        compile_seconds, timing_seconds: of the regions' compilation and of the timing simulator.
    """

    network: str
    overlay: str
    regions: int
    instructions: int
    cycles: int
    fps: float
    bound_cycles: int
    limited_by: str
    ratio: float
    dram_bytes: int
    dram_bytes_unmerged: int
    stalls: dict[str, dict[str, int]]
    compile_seconds: float
    timing_seconds: float


def network(name: str) -> Model:
    """A network by name or by file, quantised. Raises ConfigError for an unknown name."""
    from tilewright.pipeline import quantize

    if name in LIGHT_MODELS:
        model = load(LIGHT / f"light_{name}.onnx", "random:0", name=name)
    elif name == "demo":
        model = load(DEMO)
    elif Path(name).is_file():
        model = load(Path(name))
    else:
        remedy = f"give a file, or one of {', '.join(NETWORKS)}"
        raise ConfigError(Fault(f"there is no network {name!r}", "benchmark zoo", remedy))
    return model if model.is_quantised else quantize(model, "random:1", options=_FAST)


def region_graphs(model: Model, target: Overlay) -> list[Graph]:
    """The accelerator's regions of a quantised network, in the order in which they run."""
    from tilewright.codegen.lift import lift
    from tilewright.relay_passes.partition import Partition, is_region
    from tilewright.relay_passes.supported import lowered

    module = Partition(target)(lowered(model.relax(), target)[1])
    found = {symbol.name_hint: f for symbol, f in module.functions.items() if is_region(f)}
    return [lift(found[name], name) for name in sorted(found, key=lambda n: int(n.rpartition("_")[2]))]


def program_of(region: CompiledRegion, target: Overlay) -> Program:
    """A region's stream with its layers' names."""
    return Program(region.stream, target, [region.layers[i] for i in region.layer_of])


def measure(name: str, model: Model, target: Overlay) -> tuple[Row, list[Timing], list[NetworkBound]]:
    """Compile and time a network. Raises ScheduleError where a layer does not fit."""
    from tilewright.codegen.compile import compile_region
    from tilewright.report import baseline, bound

    start = time.perf_counter()
    graphs = region_graphs(model, target)
    if not graphs:
        raise ConfigError(Fault("no layer runs on the accelerator", name))
    regions = [compile_region(graph, target) for graph in graphs]
    compiled = time.perf_counter()
    timings = [run(program_of(region, target)) for region in regions]
    timed = time.perf_counter()
    bounds = [bound(graph, baseline(target)) for graph in graphs]
    cycles, least = sum(t.cycles for t in timings), sum(b.cycles for b in bounds)
    stalls = {
        unit.name: {
            kind.name: sum(t.activity[unit].get(kind, 0) for t in timings)
            for kind in Activity
            if any(kind in t.activity[unit] for t in timings)
        }
        for unit in Unit
    }
    row = Row(
        network=name,
        overlay=target.name,
        regions=len(regions),
        instructions=sum(len(r.layer_of) for r in regions),
        cycles=cycles,
        fps=target.mhz * 1e6 / cycles,
        bound_cycles=least,
        limited_by=max(bounds, key=lambda b: b.cycles).limited_by,
        ratio=least / cycles,
        dram_bytes=sum(t.dram_bytes for t in timings),
        dram_bytes_unmerged=sum(b.dram_bytes_unmerged for b in bounds),
        stalls=stalls,
        compile_seconds=compiled - start,
        timing_seconds=timed - compiled,
    )
    return row, timings, bounds


def rows(names: list[str], targets: list[Overlay], console: Console, trace: Path | None) -> Iterator[Row]:
    """Measure all networks; what fails is said on the console and left out."""
    for name in names:
        try:
            model = network(name)
        except TilewrightError as error:
            console.print(f"{name}: {error}", style="red", markup=False)
            continue
        for target in targets:
            try:
                row, timings, _ = measure(name, model, target)
            except TilewrightError as error:
                console.print(f"{name} on {target.name}: {error}", style="red", markup=False)
                continue
            if trace is not None:
                for number, timing in enumerate(timings):
                    stem = f"{Path(name).stem}_{target.name}_{number}"
                    write_chrome_trace(timing, trace / f"{stem}.trace.json")
            yield row


def show(found: list[Row], console: Console) -> None:
    """Two tables: time against the bound, and what the units do, in percent of the cycles."""
    table = Table("network", "overlay", "cycles", "frames/s", "bound", "by", "ratio", "DRAM MB", "unmerged MB",
                  "instructions", "compile s", "timing s")  # fmt: skip
    for r in found:
        table.add_row(
            Path(r.network).stem, r.overlay, f"{r.cycles:,}", f"{r.fps:.1f}", f"{r.bound_cycles:,}", r.limited_by,
            f"{r.ratio:.1%}", f"{r.dram_bytes / 1e6:.2f}", f"{r.dram_bytes_unmerged / 1e6:.2f}",
            f"{r.instructions:,}", f"{r.compile_seconds:.2f}", f"{r.timing_seconds:.3f}",
        )  # fmt: skip
    console.print(table)
    units = Table("network", "overlay", "unit", *(kind.name for kind in Activity))
    for r in found:
        for unit, kinds in r.stalls.items():
            shares = [f"{kinds[k.name] / r.cycles:.1%}" if k.name in kinds else "" for k in Activity]
            units.add_row(Path(r.network).stem, r.overlay, unit, *shares)
    console.print(units)


def main(arguments: list[str]) -> int:
    """Measure and print; returns the exit code."""
    summary = (__doc__ or "").splitlines()[0]
    parser = argparse.ArgumentParser(prog="tilewright.benchmark zoo", description=summary)
    parser.add_argument("networks", nargs="*", help=f"files, or names: {', '.join(NETWORKS)} (all of these)")
    parser.add_argument("--target", action="append", help="an overlay; may be repeated (all)")
    parser.add_argument("--json", action="store_true", help="print JSON in place of tables")
    parser.add_argument("--trace", type=Path, help="folder for a Chrome trace of each region")
    options = parser.parse_args(arguments)
    targets = [overlay(name) for name in options.target] if options.target else list(overlays().values())
    if options.trace is not None:
        options.trace.mkdir(parents=True, exist_ok=True)
    errors = Console(stderr=True)
    found = list(rows(options.networks or list(NETWORKS), targets, errors, options.trace))
    console = Console(width=None if Console().is_terminal else 200)
    if options.json:
        console.print_json(json.dumps({"schema": 1, "rows": [asdict(r) for r in found]}))
    else:
        show(found, console)
    return 0 if found else 1
