"""Things share memory only where they are not needed at the same time."""

from __future__ import annotations

from itertools import combinations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tilewright.codegen.allocate import Need, peak, place, place_buffers
from tilewright.codegen.buffers import Buffer
from tilewright.codegen.values import Map
from tilewright.errors import ScheduleError
from tilewright.targets.config import overlay

MACHINE = overlay("ultra96-w8")
NEEDS = st.lists(
    st.builds(
        lambda size, first, more: Need(size, first, first + more),
        st.integers(1, 40),
        st.integers(0, 9),
        st.integers(0, 5),
    ),
    min_size=1,
    max_size=14,
)


@settings(max_examples=100, deadline=None, derandomize=True)
@given(NEEDS)
def test_what_is_needed_together_does_not_meet(needs: list[Need]) -> None:
    offsets = place(needs)
    assert min(offsets) == 0
    for (a, x), (b, y) in combinations(list(zip(needs, offsets, strict=True)), 2):
        if a.meets(b):
            assert x + a.size <= y or y + b.size <= x
    most, at = peak(needs)
    assert most == max(sum(n.size for n in needs if n.first <= g <= n.last) for g in range(16))
    assert sum(n.size for n in needs if n.first <= at <= n.last) == most
    assert max(x + n.size for n, x in zip(needs, offsets, strict=True)) >= most


def test_a_chain_needs_two_at_a_time() -> None:
    needs = [Need(10, i, i + 1) for i in range(9)]
    assert max(place(needs)) == 10


def test_what_does_not_fit_is_named_with_the_excess() -> None:
    m = Map("conv7", 100, 100, 3)
    buffers = [Buffer(m, 80, 100, 100, 3, False, g, g) for g in range(2)]
    text = f"layer b: needs 24600 half words of ACT, {24600 - MACHINE.act_half_words} more"
    with pytest.raises(ScheduleError, match=text):
        place_buffers([*buffers, Buffer(m, 2, 100, 100, 3, False, 1, 1)], MACHINE, ["a", "b"])
