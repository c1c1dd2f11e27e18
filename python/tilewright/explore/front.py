"""What is better: the objectives, and the points that no other point beats in all of them (Pareto front)."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Literal, Protocol, TypeVar, get_args

from tilewright.errors import ConfigError, Fault

Objective = Literal["fps", "energy", "dram", "area"]


class Figures(Protocol):
    """What points are compared by."""

    @property
    def fps(self) -> float: ...
    @property
    def energy_mj(self) -> float: ...
    @property
    def dram_bytes(self) -> float: ...
    @property
    def area(self) -> float: ...


P = TypeVar("P", bound=Figures)

OBJECTIVES: Mapping[Objective, Callable[[Figures], float]] = {
    "fps": lambda p: -p.fps,
    "energy": lambda p: p.energy_mj,
    "dram": lambda p: p.dram_bytes,
    "area": lambda p: p.area,
}
"""Each as a number that is to become small."""


def check_objective(name: str) -> Objective:
    """Raises ConfigError for a name that is no objective."""
    for known in get_args(Objective):
        if name == known:
            return known  # type: ignore[no-any-return]
    known_names = ", ".join(get_args(Objective))
    raise ConfigError(Fault(f"expected one of {known_names}, found {name!r}", "--objective"))


def dominates(a: Figures, b: Figures) -> bool:
    """Whether `a` is as good as `b` in everything and better in something."""
    pairs = [(value(a), value(b)) for value in OBJECTIVES.values()]
    return all(x <= y for x, y in pairs) and any(x < y for x, y in pairs)


def front(points: Sequence[P]) -> list[P]:
    """The points that no other dominates, in their order; of equal ones the first."""
    found: list[P] = []
    seen: set[tuple[float, ...]] = set()
    for p in points:
        key = tuple(value(p) for value in OBJECTIVES.values())
        if key not in seen and not any(dominates(q, p) for q in points):
            found.append(p)
            seen.add(key)
    return found
