"""The back ends that measure plans here or in workers. A new one is a class with `name` and `measure`; boards, which
measure what this machine compiles, are in `board.py`."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import ClassVar

from tilewright.codegen.compile import compile_prepared
from tilewright.codegen.plan import RegionPlan
from tilewright.codegen.prepared import Prepared
from tilewright.errors import ConfigError, Fault
from tilewright.targets.sim import timing
from tilewright.targets.sim.program import Program
from tilewright.tune.judge import Judge
from tilewright.tune.measurement import Backend, Measurement


@dataclass
class Timing:
    """Compiles a plan and times its stream, to the cycle; see `targets/timing.md`.

    Attributes:
        regions: prepared, by name.
        macs: of each.
    """

    name: ClassVar[str] = "timing"
    regions: Mapping[str, Prepared]
    macs: Mapping[str, int]

    def measure(self, plan: RegionPlan) -> Measurement:
        """Measure a plan. Raises ScheduleError where it does not compile."""
        prepared = self.regions[plan.region]
        found = timing.run(Program(compile_prepared(prepared, plan).stream, prepared.overlay))
        return Measurement.of(found.cycles, found.dram_bytes, self.macs[plan.region])


@dataclass
class Analytic:
    """The planner's own estimate: fast, and as good as it is."""

    name: ClassVar[str] = "analytic"
    regions: Mapping[str, Prepared]
    macs: Mapping[str, int]

    def __post_init__(self) -> None:
        self._judges = {name: Judge(prepared, self.macs[name]) for name, prepared in self.regions.items()}

    def measure(self, plan: RegionPlan) -> Measurement:
        """Estimate a plan."""
        return self._judges[plan.region].estimate(plan)


BACKENDS: Mapping[str, Callable[[Mapping[str, Prepared], Mapping[str, int]], Backend]] = {
    "analytic": Analytic,
    "timing": Timing,
}
BOARD = "board"
"""Measuring on boards of a tracker."""


def check_backend(name: str) -> str:
    """Raises ConfigError for a name that is no back end."""
    known = sorted({*BACKENDS, BOARD})
    if name not in known:
        raise ConfigError(Fault(f"expected one of {', '.join(known)}, found {name!r}", "--backend"))
    return name
