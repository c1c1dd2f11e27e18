"""DRAM traffic against on-chip memory: the package's network compiled again for overlays with other scratchpads.

`act=64K..1M` means 64 KiB, doubled up to 1 MiB, each rounded up to a size that the overlay can have. What does not fit
is a row with the reason.
"""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Callable
from dataclasses import dataclass

from tilewright.errors import ConfigError, Fault, TilewrightError
from tilewright.frontend.model import Model
from tilewright.report.bound import Limits, bound
from tilewright.report.regions import layer_rows, model_of
from tilewright.targets.config import BANK_KIB_PER_LANE, Overlay
from tilewright.targets.package import Package
from tilewright.targets.sim import timing
from tilewright.targets.sim.program import Program

Progress = Callable[[int, int], None]

_KIB = 1024
_UNITS = {"K": _KIB, "M": _KIB * _KIB}
_TEXT = re.compile(
    r"(?P<memory>[a-z]+)=(?P<low>\d{1,6})(?P<low_unit>[KM])(\.\.(?P<high>\d{1,6})(?P<high_unit>[KM]))?"
)
_REMEDY = "write it like act=64K..1M"


MEMORIES = ("act",)
"""Memories that can be swept."""


@dataclass(frozen=True)
class Sweep:
    """Sizes of one memory, in bytes, ascending."""

    memory: str
    sizes: tuple[int, ...]


@dataclass(frozen=True)
class SweepRow:
    """The network on an overlay with another size of one memory.

    Attributes:
        memory, asked_bytes, bytes: which, what was asked for, and the legal size.
        cycles, fps, dram_bytes, host_layers: of the accelerator, the host left out; None where nothing was compiled.
        dram_bytes_unmerged: of a compiler that keeps no map on the chip.
        reason: why there are no figures; empty where there are.
    """

    memory: str
    asked_bytes: int
    bytes: int
    cycles: int | None = None
    fps: float | None = None
    dram_bytes: int | None = None
    dram_bytes_unmerged: int | None = None
    host_layers: int | None = None
    reason: str = ""


def parse_sweep(text: str) -> Sweep:
    """Read `act=64K..1M` or `act=256K`. Raises ConfigError."""
    found = _TEXT.fullmatch(text.strip())
    where = "--sweep"
    if found is None:
        raise ConfigError(Fault(f"expected a memory and sizes in K or M, found {text!r}", where, _REMEDY))
    memory = found["memory"]
    if memory not in MEMORIES:
        known = ", ".join(MEMORIES)
        raise ConfigError(Fault(f"the memory {memory!r} cannot be swept, expected {known}", where, _REMEDY))
    low = int(found["low"]) * _UNITS[found["low_unit"]]
    high = low if found["high"] is None else int(found["high"]) * _UNITS[found["high_unit"]]
    if low == 0 or high < low:
        raise ConfigError(Fault(f"expected sizes from small to large, found {text!r}", where, _REMEDY))
    sizes = [low]
    while sizes[-1] * 2 <= high:
        sizes.append(sizes[-1] * 2)
    return Sweep(memory, tuple(sizes))


def run_sweep(package: Package, sweep: Sweep, progress: Progress | None = None) -> tuple[SweepRow, ...]:
    """Compile and time a package's network for each size; sizes that round to the same are run once.

    Raises PackageError where the package was stripped of its network.
    """
    from tilewright.relay_passes.regions import find_regions  # starts TVM

    model, overlay = model_of(package), package.overlay
    limits = Limits.of(overlay)  # unmerged bytes depend on no width that is swept
    graphs = find_regions(model.relax(), overlay).graphs
    unmerged = sum(bound(graph, limits, model.batch).dram_bytes_unmerged for graph in graphs)
    step = 2 * BANK_KIB_PER_LANE * overlay.block_in  # a pair of banks
    rows: list[SweepRow] = []
    for number, asked in enumerate(sweep.sizes):
        kib = -(-asked // (step * _KIB)) * step
        if not rows or rows[-1].bytes != kib * _KIB:
            row = SweepRow(sweep.memory, asked, kib * _KIB, dram_bytes_unmerged=unmerged)
            rows.append(_measured(row, model, overlay, kib))
        if progress is not None:
            progress(number + 1, len(sweep.sizes))
    return tuple(rows)


def _measured(row: SweepRow, model: Model, overlay: Overlay, kib: int) -> SweepRow:
    from tilewright.pipeline import compile  # starts the compiler, which a plain report does without

    try:
        changed = Overlay.from_dict(overlay.to_dict() | {f"{row.memory}_kib": kib}, "the sweep")
        package = compile(model, changed)
        runs = [timing.run(Program(region.stream, changed)) for region in package.regions]
    except TilewrightError as error:
        return dataclasses.replace(row, reason="; ".join(str(fault) for fault in error.faults))
    cycles = sum(run.cycles for run in runs)
    if not cycles:
        return dataclasses.replace(row, reason="no layer fits: the whole network would run on the host")
    return dataclasses.replace(
        row,
        cycles=cycles,
        fps=model.batch * overlay.mhz * 1e6 / cycles,
        dram_bytes=sum(run.dram_bytes for run in runs),
        host_layers=sum(layer["place"] == "host" for layer in layer_rows(package)),
    )
