"""The Pareto front against its definition."""

from __future__ import annotations

from dataclasses import dataclass

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tilewright.errors import ConfigError
from tilewright.explore.front import check_objective, dominates, front

SMALL = st.integers(0, 3)


@dataclass(frozen=True)
class Made:
    """A point; equal fields, equal points."""

    fps: float
    energy_mj: float
    dram_bytes: float
    area: float


POINTS = st.lists(st.builds(Made, SMALL, SMALL, SMALL, SMALL), max_size=12)


def no_worse(a: Made, b: Made) -> bool:
    return a.fps >= b.fps and a.energy_mj <= b.energy_mj and a.dram_bytes <= b.dram_bytes and a.area <= b.area


@settings(max_examples=60, deadline=None, derandomize=True)
@given(POINTS)
def test_the_front_is_what_nothing_beats(points: list[Made]) -> None:
    found = front(points)
    assert len(set(found)) == len(found)
    for p in points:
        beaten = any(no_worse(q, p) and q != p for q in points)
        assert (p in found) == (not beaten)
    assert found == [p for k, p in enumerate(points) if p in found and p not in points[:k]]  # their order


@settings(max_examples=60, deadline=None, derandomize=True)
@given(st.builds(Made, SMALL, SMALL, SMALL, SMALL), st.builds(Made, SMALL, SMALL, SMALL, SMALL))
def test_dominance(a: Made, b: Made) -> None:
    assert dominates(a, b) == (no_worse(a, b) and a != b)


def test_an_unknown_objective() -> None:
    with pytest.raises(
        ConfigError, match="--objective: expected one of fps, energy, dram, area, found 'speed'"
    ):
        check_objective("speed")
