"""Measuring on boards: this machine compiles a plan, a board's server runs it, the device counts the cycles.

A plan goes to the board as a package of one step, its region. Inputs are any values that their storage holds: time
depends on none (`targets/timing.md`).
"""

from __future__ import annotations

import threading
from collections.abc import Mapping
from typing import Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from tilewright.codegen.compile import compile_prepared
from tilewright.codegen.plan import RegionPlan
from tilewright.codegen.prepared import Prepared
from tilewright.errors import ConfigError, Fault, RemoteError, TilewrightError
from tilewright.runtime.remote import Board
from tilewright.targets.config import Overlay
from tilewright.targets.package import Package
from tilewright.targets.program import HostProgram, HostStep, HostTensor
from tilewright.targets.region import CompiledRegion, MapLayout
from tilewright.tune.measurement import Measurement, Outcome, Refusal


class Boards:
    """Readies sessions on boards; see :class:`tilewright.tune.remote.Opener`.

    Args:
        regions: prepared, by name.
        macs: of each.
        device: kind of the boards' devices (`sim`, `zynq`), for measurements of two kinds do not mix.
    """

    module: ClassVar[str] = "tilewright.runtime.server"

    def __init__(self, regions: Mapping[str, Prepared], macs: Mapping[str, int], device: str) -> None:
        self._regions, self._macs, self._device = regions, macs, device
        self._compiling = threading.Lock()

    def open(self, session: Any) -> _BoardWorker:
        """Ask a board who it is. Raises ConfigError where it has another version, or another kind of device."""
        board = Board(session, "a board")
        if device_kind(board.device) != self._device:
            text = f"has device {board.device}, others of its key have {self._device}"
            raise ConfigError(
                Fault(text, f"server {board.name}", "give boards of each kind a key of their own")
            )
        return _BoardWorker(self, board)

    def compile(self, plan: RegionPlan) -> Package:
        """The package that a board runs. Raises ScheduleError where the plan does not compile."""
        prepared = self._regions[plan.region]
        with self._compiling:  # sessions have threads, and what a region remembers is made for one
            region = compile_prepared(prepared, plan)
        return region_package(region, prepared.overlay)

    def macs(self, plan: RegionPlan) -> int:
        """Multiply-accumulates of a plan's region."""
        return self._macs[plan.region]


class _BoardWorker:
    def __init__(self, boards: Boards, board: Board) -> None:
        self._boards, self._board = boards, board

    def measure(self, plan: RegionPlan) -> Outcome:
        try:
            package = self._boards.compile(plan)
            session = self._board.open(package)
            counts = session.run(some_inputs(package), cycles=True).counts
            session.close()
        except RemoteError:
            raise
        except TilewrightError as error:
            return Refusal("; ".join(str(fault) for fault in error.faults))
        moved = sum(counts[name] for name in ("dram_read_bytes", "dram_write_bytes", "fetch_bytes"))
        return Measurement.of(counts["cycles"], moved, self._boards.macs(plan))


def device_kind(device: str) -> str:
    """`zynq` of `zynq:registers=...`."""
    return device.partition(":")[0]


def region_package(region: CompiledRegion, overlay: Overlay) -> Package:
    """A package that runs one region and nothing else."""
    maps = (*region.inputs, *region.outputs)
    tensors = tuple(HostTensor(layout.name, layout.shape, layout.dtype) for layout in maps)
    inputs = tuple(range(len(region.inputs)))
    outputs = tuple(range(len(inputs), len(tensors)))
    step = HostStep("region", inputs, outputs, {"index": 0})
    program = HostProgram(tensors, {}, inputs, outputs, (step,), batch=region.batch)
    return Package(name=region.name, overlay=overlay, program=program, regions=(region,))


def some_inputs(package: Package) -> dict[str, NDArray[Any]]:
    """A value that its storage holds in each element of a one-region package's inputs."""
    (region,) = package.regions
    return {
        tensor.name: np.full(tensor.shape, _some_value(layout), tensor.dtype)
        for tensor, layout in zip(package.inputs, region.inputs, strict=True)
    }


def _some_value(layout: MapLayout) -> int:
    if layout.bits == 1:
        return 1  # -1 and 1 are what one bit holds
    return 0 if layout.dtype.startswith("u") else -(1 << (layout.bits - 1))
