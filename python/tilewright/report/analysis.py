"""A package's report: what each layer costs on its overlay, and what it could cost at best.

Everything comes from the package: times from its streams by the timing simulator, DRAM bytes from the decoded
instructions, bounds and unmerged bytes from its quantised network, the host's share from its list of host operators.
Figures of the accelerator leave the host out unless they say so.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from tilewright.errors import ConfigError, FaultList
from tilewright.report.attribution import I64, attribute
from tilewright.report.bound import LayerBound, Limits, NetworkBound, baseline, bound
from tilewright.report.footprint import matrix_steps, transfer_bytes
from tilewright.report.host import HOST_MHZ, HostShare, host_share
from tilewright.report.regions import layer_rows, model_of
from tilewright.report.residency import Residency, residency
from tilewright.targets.config import Overlay
from tilewright.targets.isa.codec import decode_stream
from tilewright.targets.isa.spec import INSTRUCTION_BYTES, Instruction, Load, Matrix, Memory, Store
from tilewright.targets.package import Package
from tilewright.targets.region import CompiledRegion
from tilewright.targets.sim import timing
from tilewright.targets.sim.program import Program
from tilewright.targets.sim.rules import Activity
from tilewright.targets.sim.timing import Timing

BITS = 8


@dataclass(frozen=True)
class Assumptions:
    """What no package says.

    Attributes:
        pj_per_mac, pj_per_dram_bit: energy in picojoule; defaults of a 28 nm class device (design.md, section 7).
        host_ms: milliseconds of the host part, measured by the user; None: it is estimated.
        host_mhz: clock of the core for the estimate.
    """

    pj_per_mac: float = 1.0
    pj_per_dram_bit: float = 10.0
    host_ms: float | None = None
    host_mhz: int = HOST_MHZ

    def check(self) -> None:
        """Raise ConfigError with all values that cannot be."""
        faults = FaultList()
        for name in ("pj_per_mac", "pj_per_dram_bit", "host_ms"):
            value = getattr(self, name)
            if value is not None and not (math.isfinite(value) and value >= 0):
                faults.add(f"expected a finite number from 0 up, found {value}", where=_option(name))
        if not 1 <= self.host_mhz <= 10_000:
            faults.add(f"expected 1..10000 MHz, found {self.host_mhz}", where=_option("host_mhz"))
        faults.raise_if_any(ConfigError)

    def energy_mj(self, macs: int, dram_bytes: int) -> float:
        """Millijoule for products and DRAM traffic."""
        return (macs * self.pj_per_mac + dram_bytes * BITS * self.pj_per_dram_bit) * 1e-9


def _option(name: str) -> str:
    return "--" + name.replace("_", "-")


@dataclass(frozen=True)
class LayerReport:
    """A layer. The fields up to `energy_mj` are the columns of the CSV.

    Attributes:
        name, op: of the source layer, or of the operator that it was rewritten to.
        place: "accelerator" or "host".
        reason: why on the host, or what it was folded into; empty for a layer of its own.
        macs: products of the network's weights.
        cycles: share of the run's cycles, see `attribution.py`; they add up to the total.
        utilisation: products to the MATRIX unit's in these cycles, 0..1; above 1 where the layer hides behind others.
        bound_cycles: by the limits of `targets/bound_baseline.toml`.
        roofline_ratio: bound to actual cycles; None without cycles, above 1 where a layer hides behind others.
        dram_read_bytes: by LOAD and FETCH. dram_write_bytes: by STORE.
        dram_bytes_unmerged: of a compiler that keeps no map on the chip, see `bound.py`.
        energy_mj: of its products and DRAM bytes; none for the host.
        bound_cycles_now: by the limits of the overlay as it is.
        limited_by: the largest part of the bound; empty without one.
        unit_cycles: `cycles` by the unit that worked, "none" where none did.
        matrix_steps: cycles in which MATRIX made a step; what it took longer are start-ups and stalls.
    """

    name: str
    op: str
    place: str
    reason: str
    macs: int
    cycles: int
    utilisation: float
    bound_cycles: int
    roofline_ratio: float | None
    dram_read_bytes: int
    dram_write_bytes: int
    dram_bytes_unmerged: int
    energy_mj: float
    bound_cycles_now: int = 0
    limited_by: str = ""
    unit_cycles: Mapping[str, int] = field(default_factory=dict)
    matrix_steps: int = 0

    @property
    def on_host(self) -> bool:
        """Whether the host runs it."""
        return self.place == "host"

    @property
    def folded(self) -> bool:
        """Whether nothing of it is left as a layer of its own."""
        return not self.on_host and bool(self.reason)


@dataclass(frozen=True)
class RegionRun:
    """A timed region.

    Attributes:
        region: of the package.
        start: cycle at which it starts, the regions one after the other and the host left out.
        timing: of its stream.
        instructions: its decoded stream.
        layer_of: for each instruction the index of its layer in the report.
        residency: its scratchpads.
    """

    region: CompiledRegion
    start: int
    timing: Timing
    instructions: Sequence[Instruction]
    layer_of: Sequence[int]
    residency: Residency


@dataclass(frozen=True)
class Report:
    """A package's report.

    Attributes:
        name, overlay, tool_version: of the package.
        random: whether weights or calibration are random, so that answers mean nothing.
        layers: host layers first, then the accelerator's in the network's order, folded ones among them.
        runs: the regions in the order in which they run.
        bounds, bounds_now: of the regions, by the baseline's limits and by the overlay's.
        host: the host's time.
        assumptions: what no package says.
        batch: images of a run; cycles, products, bytes and energy are those of the whole batch.
    """

    name: str
    overlay: Overlay
    tool_version: str
    random: bool
    layers: tuple[LayerReport, ...]
    runs: tuple[RegionRun, ...]
    bounds: tuple[NetworkBound, ...]
    bounds_now: tuple[NetworkBound, ...]
    host: HostShare
    assumptions: Assumptions
    batch: int = 1

    @property
    def peak_macs(self) -> int:
        """Products that MATRIX makes in a cycle."""
        return self.overlay.block_in * self.overlay.block_out

    @property
    def cycles(self) -> int:
        """Of all regions."""
        return sum(run.timing.cycles for run in self.runs)

    @property
    def accelerator_ms(self) -> float:
        """At the overlay's clock."""
        return self.cycles / (self.overlay.mhz * 1e3)

    @property
    def macs(self) -> int:
        """Of the accelerator and the host."""
        return sum(layer.macs for layer in self.layers)

    @property
    def host_macs(self) -> int:
        """Of layers on the host."""
        return sum(layer.macs for layer in self.layers if layer.on_host)

    @property
    def dram_bytes(self) -> int:
        """By LOAD, STORE and FETCH."""
        return sum(run.timing.dram_bytes for run in self.runs)

    @property
    def dram_bytes_unmerged(self) -> int:
        """Of a compiler that keeps no map on the chip."""
        return sum(b.dram_bytes_unmerged for b in self.bounds)

    @property
    def bound_cycles(self) -> int:
        """By the baseline's limits."""
        return sum(b.cycles for b in self.bounds)

    @property
    def bound_cycles_now(self) -> int:
        """By the overlay's limits."""
        return sum(b.cycles for b in self.bounds_now)

    @property
    def limited_by(self) -> str:
        """What limits the largest region; empty without any."""
        return max(self.bounds, key=lambda b: b.cycles).limited_by if self.bounds else ""

    @property
    def fps(self) -> float | None:
        """Images a second without the host; None where nothing runs on the accelerator."""
        return self.batch * self.overlay.mhz * 1e6 / self.cycles if self.cycles else None

    @property
    def fps_with_host(self) -> float | None:
        """Images a second, host and accelerator one after the other; None where neither takes time."""
        ms = self.accelerator_ms + self.host.ms
        return self.batch * 1e3 / ms if ms else None

    @property
    def host_time_share(self) -> float:
        """The host's part of a run's time, 0..1."""
        ms = self.accelerator_ms + self.host.ms
        return self.host.ms / ms if ms else 0.0

    @property
    def host_layers(self) -> tuple[LayerReport, ...]:
        """Layers on the host."""
        return tuple(layer for layer in self.layers if layer.on_host)

    @property
    def activity(self) -> dict[str, dict[str, int]]:
        """Cycles of each unit by what it did; each unit's add up to the total."""
        units = self.runs[0].timing.activity if self.runs else {}
        return {
            unit.name: {
                kind.name: count
                for kind in Activity
                if (count := sum(run.timing.activity[unit].get(kind, 0) for run in self.runs))
            }
            for unit in units
        }

    @property
    def peaks(self) -> dict[str, tuple[int, int]]:
        """Most bytes in use at once of each memory, and its size; of DRAM segments the size is what is allocated."""
        found = {
            memory.name: (
                max(run.residency.occupancy[memory].peak_bytes for run in self.runs),
                self.runs[0].residency.occupancy[memory].capacity_bytes,
            )
            for memory in (Memory.ACT, Memory.WGT, Memory.PARAM)
            if self.runs
        }
        workspace = max((run.region.workspace_bytes for run in self.runs), default=0)
        return found | {"DRAM workspace": (workspace, workspace)}


def analyse(package: Package, assumptions: Assumptions | None = None) -> Report:
    """Make the report of a package.

    Raises:
        PackageError: it was stripped of its network, or is damaged.
        ConfigError: assumptions that cannot be.
        SimError, EncodingError: a stream that the machine cannot run.
    """
    from tilewright.relay_passes.regions import find_regions  # starts TVM

    chosen = assumptions or Assumptions()
    chosen.check()
    overlay, model = package.overlay, model_of(package)
    graphs = find_regions(model.relax(), overlay).graphs if package.regions else []
    now = Limits.of(overlay)
    first = _baseline(overlay, now)
    bounds = tuple(bound(graph, first, package.batch) for graph in graphs)
    bounds_now = bounds if first == now else tuple(bound(graph, now, package.batch) for graph in graphs)
    kinds = {node.name: node.operator.kind for graph in graphs for node in graph.nodes}
    table = _Table(package, chosen, kinds, bounds, bounds_now)
    runs: list[RegionRun] = []
    start = 0
    for step in package.program.steps:
        if step.op != "region":
            continue
        number = step.attributes["index"]
        assert isinstance(number, int)  # HostProgram.check
        run = _run(package.regions[number], start, overlay, table)
        runs.append(run)
        start += run.timing.cycles
    return Report(
        package.name,
        overlay,
        package.tool_version,
        package.random_weights or package.random_calibration,
        table.layers(),
        tuple(runs),
        bounds,
        bounds_now,
        host_share(package, chosen.host_ms, chosen.host_mhz),
        chosen,
        package.batch,
    )


def _baseline(overlay: Overlay, now: Limits) -> Limits:
    """The limits as first landed; the present ones for an overlay that has none."""
    try:
        return baseline(overlay)
    except ConfigError:
        return now


class _Table:
    """Gathers the layers' figures; their order is that of the report's `layers`."""

    def __init__(
        self,
        package: Package,
        assumptions: Assumptions,
        kinds: Mapping[str, str],
        bounds: Sequence[NetworkBound],
        bounds_now: Sequence[NetworkBound],
    ) -> None:
        self.assumptions, self.batch = assumptions, package.batch
        self.peak = package.overlay.block_in * package.overlay.block_out
        self.bounds = _by_name(bounds)
        self.now = _by_name(bounds_now)
        self.rows = _rows(package, kinds)
        self.numbers = {name: number for number, name in enumerate(self.rows)}
        self.cycles: dict[str, I64] = {}
        self.dram: dict[str, list[int]] = {}
        self.steps: dict[str, int] = {}

    def index(self, name: str) -> int:
        """The number of a layer."""
        if name not in self.numbers:  # the network has changed since the package was made
            self.numbers[name] = len(self.rows)
            self.rows[name] = ("", "accelerator", "", 0)
        return self.numbers[name]

    def add(self, name: str, cycles: I64, read: int, written: int, steps: int) -> None:
        """Count what a region does for a layer. Shape of `cycles`: (units + 1,)."""
        self.cycles[name] = self.cycles.get(name, np.zeros_like(cycles)) + cycles
        found = self.dram.setdefault(name, [0, 0])
        found[0] += read
        found[1] += written
        self.steps[name] = self.steps.get(name, 0) + steps

    def layers(self) -> tuple[LayerReport, ...]:
        """The layers with all figures."""
        return tuple(self._layer(name) for name in self.rows)

    def _layer(self, name: str) -> LayerReport:
        op, place, reason, macs = self.rows[name]
        by_unit = self.cycles.get(name)
        found, now = self.bounds.get(name, ()), self.now.get(name, ())
        macs = macs * self.batch if place == "host" else sum(b.macs for b in found)
        cycles = 0 if by_unit is None else int(by_unit.sum())
        read, written = self.dram.get(name, (0, 0))
        least = sum(b.cycles for b in found)
        return LayerReport(
            name=name,
            op=op,
            place=place,
            reason="" if by_unit is not None and place != "host" else reason,
            macs=macs,
            cycles=cycles,
            utilisation=macs / (cycles * self.peak) if cycles else 0.0,
            bound_cycles=least,
            roofline_ratio=least / cycles if cycles else None,
            dram_read_bytes=read,
            dram_write_bytes=written,
            dram_bytes_unmerged=sum(b.unmerged_read_bytes + b.unmerged_write_bytes for b in found),
            energy_mj=self.assumptions.energy_mj(0 if place == "host" else macs, read + written),
            bound_cycles_now=sum(b.cycles for b in now),
            limited_by=_limited_by(found) if least else "",
            unit_cycles={} if by_unit is None else dict(zip(UNIT_COLUMNS, by_unit.tolist(), strict=True)),
            matrix_steps=self.steps.get(name, 0),
        )


def _rows(package: Package, kinds: Mapping[str, str]) -> dict[str, tuple[str, str, str, int]]:
    """Operator, place, reason and products of all layers, host first.

    A layer of a region that no imported node is called like is a part that some rewrite made of one; it stands
    behind the layer before it.
    """
    given = {
        row["name"]: (row["op"], row["place"], row["reason"], row["macs"]) for row in layer_rows(package)
    }
    behind: dict[str, list[str]] = {}
    last = ""
    for name in kinds:
        if name in given:
            last = name
        else:
            behind.setdefault(last, []).append(name)
    names = [name for name, row in given.items() if row[1] == "host"] + behind.pop("", [])
    names += [
        part for name, row in given.items() if row[1] != "host" for part in (name, *behind.pop(name, ()))
    ]
    names += [part for parts in behind.values() for part in parts]
    return {name: given.get(name, (kinds.get(name, ""), "accelerator", "", 0)) for name in names}


UNIT_COLUMNS = ("LOAD", "MATRIX", "VECTOR", "STORE", "none")
"""Keys of `LayerReport.unit_cycles`, in the order of `attribute`'s columns."""


def _by_name(bounds: Sequence[NetworkBound]) -> dict[str, tuple[LayerBound, ...]]:
    found: dict[str, tuple[LayerBound, ...]] = {}
    for network in bounds:
        for layer in network.layers:
            found[layer.name] = (*found.get(layer.name, ()), layer)
    return found


def _limited_by(bounds: Sequence[LayerBound]) -> str:
    parts = {
        "MATRIX": sum(b.matrix_cycles for b in bounds),
        "VECTOR": sum(b.vector_cycles for b in bounds),
        "DRAM": sum(b.dram_cycles for b in bounds),
    }
    return max(parts, key=lambda name: parts[name])


def _run(region: CompiledRegion, start: int, overlay: Overlay, table: _Table) -> RegionRun:
    names = [region.layers[i] for i in region.layer_of]
    timed = timing.run(Program(region.stream, overlay, names))
    instructions = decode_stream(region.stream)
    cycles = attribute(timed, region.layer_of, len(region.layers))
    read, written, steps = (np.zeros(len(region.layers), np.int64) for _ in range(3))
    for i, owner in zip(instructions, region.layer_of, strict=True):
        read[owner] += INSTRUCTION_BYTES
        if isinstance(i, Load):
            read[owner] += transfer_bytes(i, overlay)
        elif isinstance(i, Store):
            written[owner] += transfer_bytes(i, overlay)
        elif isinstance(i, Matrix):
            steps[owner] += matrix_steps(i)
    for number, name in enumerate(region.layers):
        table.index(name)
        table.add(name, cycles[number], int(read[number]), int(written[number]), int(steps[number]))
    layer_of = [table.index(name) for name in names]
    found = residency(instructions, timed, layer_of, overlay)
    return RegionRun(region, start, timed, instructions, layer_of, found)
