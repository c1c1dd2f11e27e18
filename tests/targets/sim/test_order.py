"""Vector clocks against happens-before as a graph, closed by brute force."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tilewright.targets.isa.spec import Load, Unit
from tilewright.targets.sim.memory import Rows, Trap
from tilewright.targets.sim.order import Order, Race


@dataclass(frozen=True)
class Access:
    """An instruction as far as its order goes."""

    unit: Unit
    wait: int
    give: int
    row: int
    write: bool


accesses = st.builds(
    Access,
    st.sampled_from(list(Unit)),
    st.integers(0, 15),
    st.integers(0, 15),
    st.integers(0, 3),
    st.booleans(),
)


def _runnable(drawn: list[Access]) -> list[Access]:
    """Drop own bits and the waits that nothing was given for."""
    counts: dict[tuple[int, int], int] = {}
    program = []
    for a in drawn:
        give, wait = a.give & ~(1 << a.unit), a.wait & ~(1 << a.unit)
        for other in Unit:
            if wait >> other & 1:
                if counts.get((other, a.unit), 0):
                    counts[other, a.unit] -= 1
                else:
                    wait &= ~(1 << other)
        for other in Unit:
            counts[a.unit, other] = counts.get((a.unit, other), 0) + (give >> other & 1)
        program.append(Access(a.unit, wait, give, a.row, a.write))
    return program


def _first_race(program: list[Access], race_shift: int) -> int | None:
    """Index of the first instruction that races with an earlier one."""
    n = len(program)
    before = np.zeros((n, n), bool)
    gives: dict[tuple[int, int], list[int]] = {}
    waited: dict[tuple[int, int], int] = {}
    for i, a in enumerate(program):
        edges = [j for j in range(i) if program[j].unit == a.unit]
        for other in Unit:
            if a.wait >> other & 1:
                k = waited.get((other, a.unit), 0)
                edges.append(gives[other, a.unit][k])
                waited[other, a.unit] = k + 1
        for j in edges:
            before[i, j] = True
            before[i] |= before[j]
        for j in range(i):
            b = program[j]
            same = a.row >> race_shift == b.row >> race_shift
            if a.unit != b.unit and same and (a.write or b.write) and not before[i, j]:
                return i
        for other in Unit:
            if a.give >> other & 1:
                gives.setdefault((a.unit, other), []).append(i)
    return None


def _first_trap(program: list[Access], race_shift: int) -> int | None:
    order = Order()
    rows = Rows("row {}", np.zeros((4, 1)), race_shift=race_shift)
    for i, a in enumerate(program):
        x = Load(wait=a.wait, give=a.give)
        order.start(a.unit, x)
        row = np.array([a.row])
        try:
            order.access(a.unit, rows, row, a.write)
        except Race as race:
            other = program[race.other]
            assert other.unit != a.unit
            assert other.row >> race_shift == a.row >> race_shift
            assert a.write or other.write
            return i
        order.record(a.unit, i, rows, row, a.write)
        order.retire(a.unit, i, x)
    return None


@settings(max_examples=400, deadline=None, derandomize=True)
@given(st.lists(accesses, min_size=2, max_size=14), st.integers(0, 1))
def test_races_are_those_of_the_graph(drawn: list[Access], race_shift: int) -> None:
    program = _runnable(drawn)
    assert _first_trap(program, race_shift) == _first_race(program, race_shift)


def test_both_outcomes_occur() -> None:
    """The property above would hold of programs that all race at once; these two do not."""
    write, read = Access(Unit.LOAD, 0, 2, 0, True), Access(Unit.MATRIX, 1, 0, 0, False)
    assert _first_trap([write, read], 0) is None
    assert _first_trap([write, Access(Unit.MATRIX, 0, 0, 0, False)], 0) == 1
    with pytest.raises(Trap, match="waits for a token from LOAD, but none was given before"):
        Order().start(Unit.MATRIX, Load(wait=1))
