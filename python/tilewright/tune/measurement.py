"""What measuring a plan gives, and what may be asked to become small."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Literal, Protocol, TypeAlias, get_args

from tilewright.codegen.plan import RegionPlan
from tilewright.errors import ConfigError, Fault, FaultList

Objective = Literal["cycles", "dram", "energy"]
OBJECTIVES: tuple[Objective, ...] = get_args(Objective)
UNITS: dict[Objective, str] = {"cycles": "cycles", "dram": "DRAM bytes", "energy": "mJ"}

PJ_PER_MAC = 1.0
PJ_PER_DRAM_BIT = 10.0
"""The energy model of `design.md`, section 7."""


@dataclass(frozen=True)
class Measurement:
    """A plan's price: `cycles` of the overlay's clock, `dram_bytes` of LOAD, STORE and FETCH, `energy_mj`."""

    cycles: int
    dram_bytes: int
    energy_mj: float

    @staticmethod
    def of(cycles: int, dram_bytes: int, macs: int) -> Measurement:
        """With the energy of `macs` multiply-accumulates and the DRAM traffic."""
        picojoules = macs * PJ_PER_MAC + dram_bytes * 8 * PJ_PER_DRAM_BIT
        return Measurement(cycles, dram_bytes, picojoules * 1e-9)

    def value(self, objective: Objective) -> float:
        """What is to become small."""
        values: dict[Objective, float] = {
            "cycles": self.cycles,
            "dram": self.dram_bytes,
            "energy": self.energy_mj,
        }
        return values[objective]


@dataclass(frozen=True)
class Refusal:
    """A plan that could not be measured, and why: it did not compile, or ended every worker that tried."""

    message: str


Outcome: TypeAlias = Measurement | Refusal


class Backend(Protocol):
    """Measures plans. The plan's `region` names the region.

    An object that local processes use is sent to them by pickle.
    """

    @property
    def name(self) -> str:
        """As on the command line; a log holds measurements of one back end."""

    def measure(self, plan: RegionPlan) -> Measurement:
        """Measure a plan. Raises TilewrightError where it cannot be compiled or run."""


class Runner(Protocol):
    """Measures many plans, somewhere."""

    def measure(self, plans: Sequence[RegionPlan]) -> Iterator[tuple[int, Outcome]]:
        """Each plan's position with its outcome, as they come."""


@dataclass(frozen=True)
class LayerFacts:
    """A layer of a region: its name, rows and columns of its results, and most slices of its channels."""

    name: str
    rows: int
    columns: int
    slices: int = 1


@dataclass(frozen=True)
class MapFacts:
    """A map between layers, or an input.

    Attributes:
        name: as in a group's `keep`.
        size_bytes: in ACT.
        writers, readers: positions of the layers that write it (none: an input) and read it, ascending.
    """

    name: str
    size_bytes: int
    writers: tuple[int, ...]
    readers: tuple[int, ...]


class Region(Protocol):
    """What the search must know of a region."""

    @property
    def name(self) -> str:
        """As in the plan."""

    @property
    def fingerprint(self) -> str:
        """Equal for equal regions only."""

    @property
    def layers(self) -> Sequence[LayerFacts]:
        """In order."""

    @property
    def maps(self) -> Sequence[MapFacts]:
        """All that a plan may keep, in order."""

    @property
    def default(self) -> RegionPlan:
        """The planner's plan."""

    def faults(self, plan: RegionPlan) -> Sequence[Fault]:
        """What makes a plan illegal; found without compiling."""

    def estimate(self, plan: RegionPlan) -> Measurement:
        """The analytic price of a legal plan."""


def check_objective(name: str) -> Objective:
    """Raises ConfigError for anything that is no objective."""
    for known in OBJECTIVES:
        if name == known:
            return known
    expected = ", ".join(OBJECTIVES)
    raise ConfigError(Fault(f"expected one of {expected}, found {name!r}", "--objective"))


def at_least(faults: FaultList, option: str, value: int, least: int) -> None:
    """Note where a number is too small."""
    if value < least:
        faults.add(f"expected {least} or more, found {value}", where=option)
