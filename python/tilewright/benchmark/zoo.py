"""Time of whole networks by the timing simulator, beside their bound and the marks that they are to reach.

Networks: the zoo of `architectures.py`, others of the table by name, and any file. Float ones are quantised on one
noisy image, for speed does not depend on values. Host layers are left out of every figure but `host_macs`.
"""

from __future__ import annotations

import argparse
import json
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import asdict, dataclass, field, replace
from itertools import product
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from rich.console import Console

from tilewright.benchmark.architectures import ALL, ZOO
from tilewright.benchmark.machine import machine
from tilewright.benchmark.marks import judged
from tilewright.benchmark.networks import BOTH, find_data
from tilewright.benchmark.quantised import Quantised, quantise
from tilewright.benchmark.report import Report
from tilewright.errors import ConfigError, Fault, TilewrightError
from tilewright.frontend.model import Model, load
from tilewright.targets.config import Overlay, overlay
from tilewright.targets.isa.spec import Unit
from tilewright.targets.sim import fast
from tilewright.targets.sim.program import DramImage, Program
from tilewright.targets.sim.rules import Activity
from tilewright.targets.sim.timing import Timing, run
from tilewright.targets.sim.trace import write_chrome_trace

if TYPE_CHECKING:
    from tilewright.report import NetworkBound
    from tilewright.targets.region import CompiledRegion

_LIGHT = "light_"
"""May be left out of a name."""


@dataclass(frozen=True)
class Row:
    """A network on an overlay.

    Attributes:
        batch: images of a launch, of which all figures are; `fps` counts images.
        cycles, fps: of all regions one after the other, at the overlay's clock.
        bound_cycles, limited_by: by the limits of `targets/bound_baseline.toml`; the largest region's limit.
        ratio: bound to actual, 0..1.
        ratio_now: the same with the limits that the overlay has today.
        conv_ratio: bound to actual of the layers that are no dense ones; None where there are no dense ones.
        dram_bytes, dram_bytes_unmerged: moved, and as the bound counts them without merging.
        dram_ratio: of the two.
        macs: products of the network on the accelerator.
        host_macs: those that are left to the host, whose time is in no figure.
        stalls: for each unit its cycles by activity.
        compile_seconds: from the quantised network to the streams; the start of TVM is left out.
        timing_seconds, simulate_seconds: of the timing simulator, and of the fast one that computes the values.
        gmac_per_second: products by `simulate_seconds`.
    """

    network: str
    overlay: str
    batch: int
    regions: int
    instructions: int
    cycles: int
    fps: float
    bound_cycles: int
    limited_by: str
    ratio: float
    ratio_now: float
    conv_ratio: float | None
    dram_bytes: int
    dram_bytes_unmerged: int
    dram_ratio: float
    macs: int
    host_macs: int
    compile_seconds: float
    timing_seconds: float
    simulate_seconds: float
    gmac_per_second: float
    stalls: dict[str, dict[str, int]] = field(default_factory=dict)


@dataclass(frozen=True)
class Failure:
    """A network that could not be read, quantised or compiled; `overlay` is empty where none could matter."""

    network: str
    overlay: str
    message: str


class Networks:
    """Networks by name or by file, quantised; the last one is kept."""

    def __init__(self, quantised: Quantised) -> None:
        self._quantised = quantised

    def model(self, name: str) -> Model:
        """A network. Raises ConfigError for an unknown name, TilewrightError for one that cannot be quantised."""
        row = ALL.get(name) or ALL.get(_LIGHT + name)
        if row is not None:
            return self._quantised.model(row)
        if Path(name).is_file():
            return quantise(load(Path(name)))
        remedy = f"give a file, or one of {', '.join(ALL)}"
        raise ConfigError(Fault(f"there is no network {name!r}", "benchmark zoo", remedy))


def network(name: str) -> Model:
    """A network by name or by file, quantised anew. Raises ConfigError for an unknown name."""
    return Networks(Quantised(find_data(), None)).model(name)


def program_of(region: CompiledRegion, target: Overlay) -> Program:
    """A region's stream with its layers' names."""
    return Program(region.stream, target, [region.layers[i] for i in region.layer_of])


def _simulate(region: CompiledRegion, program: Program) -> None:
    """Compute the values of a region for inputs of zero, by the fast simulator."""
    constants = np.frombuffer(region.constants, np.uint8)
    inputs = np.zeros(region.input_bytes, np.uint8)
    fast.run(program, DramImage(constants, inputs, region.workspace_bytes, region.output_bytes))


def _conv_ratio(timings: Sequence[Timing], bounds: Sequence[NetworkBound]) -> float | None:
    """Bound to actual without dense layers; None where there are none, or nothing else."""
    from tilewright.report import NetworkBound

    dense = {layer.name for b in bounds for layer in b.layers if layer.kind == "dense"}
    rest = [
        NetworkBound(b.name, b.limits, tuple(x for x in b.layers if x.name not in dense)).cycles
        for b in bounds
    ]
    cycles = sum(layer.cycles for t in timings for layer in t.layers() if layer.name not in dense)
    return sum(rest) / cycles if dense and cycles else None


def measure(name: str, model: Model, target: Overlay) -> tuple[Row, list[Timing], list[NetworkBound]]:
    """Compile and time a network. Raises ScheduleError where a layer does not fit."""
    from tilewright.codegen.compile import compile_region
    from tilewright.relay_passes.regions import find_regions
    from tilewright.relay_passes.supported import supported_rows
    from tilewright.report import Limits, baseline, bound

    start = time.perf_counter()
    parts = find_regions(model.relax(), target)
    graphs = parts.graphs
    if not graphs:
        raise ConfigError(Fault("no layer runs on the accelerator", name))
    regions = [compile_region(graph, target, batch=model.batch) for graph in graphs]
    compiled = time.perf_counter()
    programs = [program_of(region, target) for region in regions]
    timings = [run(program) for program in programs]
    timed = time.perf_counter()
    for region, program in zip(regions, programs, strict=True):
        _simulate(region, program)
    simulated = time.perf_counter()
    bounds = [bound(graph, baseline(target), model.batch) for graph in graphs]
    now = sum(bound(graph, Limits.of(target), model.batch).cycles for graph in graphs)
    cycles, least = sum(t.cycles for t in timings), sum(b.cycles for b in bounds)
    moved, unmerged = sum(t.dram_bytes for t in timings), sum(b.dram_bytes_unmerged for b in bounds)
    macs = sum(b.macs for b in bounds)
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
        batch=model.batch,
        regions=len(regions),
        instructions=sum(len(r.layer_of) for r in regions),
        cycles=cycles,
        fps=model.batch * target.mhz * 1e6 / cycles,
        bound_cycles=least,
        limited_by=max(bounds, key=lambda b: b.cycles).limited_by,
        ratio=least / cycles,
        ratio_now=now / cycles,
        conv_ratio=_conv_ratio(timings, bounds),
        dram_bytes=moved,
        dram_bytes_unmerged=unmerged,
        dram_ratio=moved / unmerged,
        macs=macs,
        host_macs=model.batch
        * sum(r.macs for r in supported_rows(model.proto, target, parts.stages) if r.place == "host"),
        compile_seconds=compiled - start,
        timing_seconds=timed - compiled,
        simulate_seconds=simulated - timed,
        gmac_per_second=macs / (simulated - timed) / 1e9,
        stalls=stalls,
    )
    return row, timings, bounds


def default_overlays(name: str) -> list[Overlay]:
    """Those that the speed of a network, or of a file, is judged on."""
    row = ALL.get(name) or ALL.get(_LIGHT + name)
    return [overlay(target) for target in (row.overlays if row is not None and row.bits < 8 else BOTH)]


def rows(
    names: Sequence[str],
    targets: Sequence[Overlay],
    networks: Networks,
    batches: Sequence[int] = (1,),
    trace: Path | None = None,
) -> Iterator[Row | Failure]:
    """Measure all networks one after the other; what fails is told and does not stop the others.

    Without `targets` each is measured on its `default_overlays`.
    """
    import tvm  # noqa: F401  so that its start is not counted as the first network's

    for name in names:
        try:
            model = networks.model(name)
        except TilewrightError as error:
            yield Failure(name, "", str(error))
            continue
        for target, batch in product(targets or default_overlays(name), batches):
            try:
                row, timings, _ = measure(name, replace(model, batch=batch), target)
            except TilewrightError as error:
                yield Failure(name, target.name, str(error))
                continue
            if trace is not None:
                for number, timing in enumerate(timings):
                    images = f"_batch{batch}" if batch > 1 else ""
                    stem = f"{Path(name).stem}_{target.name}{images}_{number}"
                    write_chrome_trace(timing, trace / f"{stem}.trace.json")
            yield row


_number, _percent = "{:,}".format, "{:.1%}".format


def _mega(count: int) -> str:
    return f"{count / 1e6:.2f}"


COLUMNS: list[tuple[str, Callable[[Any], str]]] = [
    ("network", str),
    ("overlay", str),
    ("batch", str),
    ("cycles", _number),
    ("fps", "{:.1f}".format),
    ("bound_cycles", _number),
    ("limited_by", str),
    ("ratio", _percent),
    ("ratio_now", _percent),
    ("conv_ratio", _percent),
    ("dram_mb", _mega),
    ("unmerged_mb", _mega),
    ("dram_ratio", "{:.2f}".format),
    ("host_macs", _number),
    ("regions", str),
    ("instructions", _number),
    ("compile_s", "{:.2f}".format),
    ("timing_s", "{:.3f}".format),
    ("simulate_s", "{:.3f}".format),
    ("gmac_per_s", "{:.1f}".format),
    ("marks", str),
    ("verdict", str),
    ("error", str),
]
"""Of the tables; a row's figures under the headings of people."""


def cells(found: Row | Failure) -> dict[str, Any]:
    """A row of the table: the figures, the marks, and one verdict for each mark."""
    if isinstance(found, Failure):
        return {"network": found.network, "overlay": found.overlay, "error": found.message}
    figures = {key: value for key, value in asdict(found).items() if key != "stalls"}
    name = found.network if found.network in ALL else _LIGHT + found.network
    against = judged(name, found.overlay, figures) if found.batch == 1 else []
    return {
        **figures,
        "network": Path(found.network).stem if Path(found.network).suffix == ".onnx" else found.network,
        "dram_mb": found.dram_bytes,
        "unmerged_mb": found.dram_bytes_unmerged,
        "compile_s": found.compile_seconds,
        "timing_s": found.timing_seconds,
        "simulate_s": found.simulate_seconds,
        "gmac_per_s": found.gmac_per_second,
        "marks": "; ".join(str(mark) for mark, _ in against),
        "verdict": "; ".join(verdict for _, verdict in against),
    }


def units(found: Sequence[Row]) -> Report:
    """What the units do, in percent of the cycles."""
    table = Report(
        "what the units do",
        [("network", str), ("overlay", str), ("unit", str), *((kind.name, _percent) for kind in Activity)],
    )
    for row in found:
        for unit, kinds in row.stalls.items():
            shares = {kind: cycles / row.cycles for kind, cycles in kinds.items()}
            table.add(network=row.network, overlay=row.overlay, unit=unit, **shares)
    return table


def _options() -> argparse.ArgumentParser:
    summary = (__doc__ or "").splitlines()[0]
    parser = argparse.ArgumentParser(prog="tilewright.benchmark zoo", description=summary)
    parser.add_argument("networks", nargs="*", help=f"files, or names: {', '.join(ALL)} (the zoo)")
    parser.add_argument(
        "--target", action="append", help="an overlay; may be repeated (those of the network's width)"
    )
    parser.add_argument(
        "--batch", action="append", type=int, help="images of a launch, 1 to 16; may be repeated (1)"
    )
    parser.add_argument("--data", help="folder of models (TILEWRIGHT_DATA, ../shared/data)")
    parser.add_argument("--cache", type=Path, help="folder that keeps quantised networks between runs")
    parser.add_argument("--json", action="store_true", help="print JSON in place of tables")
    parser.add_argument("--units", action="store_true", help="a second table of what the units do")
    parser.add_argument("--csv", type=Path, help="file for the table, with machine and versions")
    parser.add_argument("--markdown", type=Path, help="file for the table, with machine and versions")
    parser.add_argument("--trace", type=Path, help="folder for a Chrome trace of each region")
    return parser


def main(arguments: list[str]) -> int:
    """Measure and print; exit code 1 where a network fails or misses a mark."""
    options = _options().parse_args(arguments)
    targets = [overlay(name) for name in options.target or ()]
    if options.trace is not None:
        options.trace.mkdir(parents=True, exist_ok=True)
    data = find_data(options.data)
    networks = Networks(Quantised(data, options.cache))
    names = options.networks or [name for name in ZOO if data is not None or not ALL[name].needs_data]
    errors = Console(stderr=True)
    table = Report("zoo, timing simulator", COLUMNS, only_in_files=("error",))
    found: list[Row] = []
    failed = False
    for result in rows(names, targets, networks, options.batch or (1,), options.trace):
        row = cells(result)
        table.add(**row)
        failed |= isinstance(result, Failure) or "miss" in row["verdict"]
        if isinstance(result, Failure):
            where = f" on {result.overlay}" if result.overlay else ""
            errors.print(f"{result.network}{where}: {result.message}", style="red", markup=False)
        else:
            found.append(result)
        # Written after every network: a run that is stopped leaves what it has.
        for path, write in ((options.csv, table.write_csv), (options.markdown, table.write_markdown)):
            if path is not None:
                write(path, machine())
    if options.json:
        document = {"schema": 1, **machine(), "rows": [asdict(row) for row in found]}
        Console().file.write(json.dumps(document, indent=2) + "\n")
    else:
        table.finish()
        if options.units:
            units(found).finish()
    return 1 if failed else 0
