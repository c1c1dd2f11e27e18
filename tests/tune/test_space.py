"""The space: one form of each plan, legal neighbours only, and all of a small one."""

from __future__ import annotations

import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.tune.synthetic import Synthetic
from tilewright.codegen.plan import Group, RegionPlan
from tilewright.tune.space import Cut, Space, heights

REGIONS = st.builds(
    Synthetic, size=st.integers(1, 7), rows=st.integers(1, 9), capacity=st.integers(2200, 6000)
)


def _walk(space: Space, seed: int, steps: int) -> list[tuple[Cut, ...]]:
    rng, point, found = random.Random(seed), space.default, []
    for _ in range(steps):
        step = space.step(point, rng)
        if step is not None:
            point = step[1]
            found.append(point)
    return found


@settings(derandomize=True, deadline=None, max_examples=40)
@given(REGIONS, st.integers(0, 99))
def test_steps_lead_to_legal_plans_of_the_region(region: Synthetic, seed: int) -> None:
    space = Space(region)
    for point in _walk(space, seed, 12):
        plan = space.plan(point)
        assert not region.faults(plan)
        assert RegionPlan.model_validate(plan.model_dump()) == plan
        assert space.point(plan) == point == space.normal(point)


@settings(derandomize=True, deadline=None, max_examples=20)
@given(REGIONS, st.integers(0, 99))
def test_neighbours_are_legal_and_different(region: Synthetic, seed: int) -> None:
    space = Space(region)
    point = (_walk(space, seed, 5) or [space.default])[-1]
    found = [other for _, other in space.neighbours(point)]
    assert len(set(found)) == len(found)
    assert point not in found
    assert not any(region.faults(space.plan(other)) for other in found)


def test_all_points_of_a_small_space_are_found_once_and_no_others() -> None:
    region = Synthetic(size=3, rows=2, capacity=2000)
    space = Space(region)
    found = list(space.points())
    assert len(set(found)) == len(found)
    assert space.default in found
    # Steps reach nothing that is not among them, and all of them.
    reached, front = {space.default}, [space.default]
    while front:
        front = [other for point in front for _, other in space.neighbours(point) if other not in reached]
        front = list(dict.fromkeys(front))
        reached.update(front)
    assert reached == set(found)


def test_raw_count_counts_what_is_enumerated_and_no_further_than_asked() -> None:
    space = Space(Synthetic(size=2, rows=3, capacity=10**6))
    assert len(list(space.points())) <= space.raw_count(10**9) == len(list(space._cuts(0)))
    assert space.raw_count(10) == 11
    assert Space(Synthetic(size=60)).raw_count(1000) == 1001


def test_small_spaces_begin_with_the_default_and_large_ones_are_none() -> None:
    space = Space(Synthetic(size=2, rows=2, capacity=1500))
    found = space.small(200)
    assert found is not None
    assert found[0] == space.default
    assert set(found) == set(space.points())
    assert space.small(len(found)) == found
    assert space.small(len(found) - 1) is None
    assert Space(Synthetic(size=30)).small(200) is None


def test_a_point_has_one_form() -> None:
    space = Space(Synthetic(size=4, rows=8))
    # A lag without stripes, stripes beyond the rows, a map that nobody reads later, strips beside kept maps.
    groups = (
        Group(layers=("layer0",), stripes=1, strips=3, slices=2, lag=1, keep=("layer0", "data")),
        Group(layers=("layer1", "layer2", "layer3"), stripes=99, lag=1, keep=("layer1",)),
    )
    point = space.point(RegionPlan(region="tilewright_0", groups=groups))
    assert space.plan(point).groups == (
        Group(layers=("layer0",), stripes=1, keep=("layer0",)),
        Group(layers=("layer1", "layer2", "layer3"), stripes=4, lag=1),
    )


def test_crossing_joins_two_plans_where_both_begin_a_group() -> None:
    space = Space(Synthetic(size=6, capacity=10**6))
    left = tuple(Cut(end, 2) for end in (2, 4, 6))
    right = tuple(Cut(end, 3) for end in (1, 4, 6))
    found = space.crossed(left, right, random.Random(1))
    assert found == (Cut(2, 2), Cut(4, 2), Cut(6, 3))
    assert space.crossed(left, (Cut(6, 3),), random.Random(1)) is None


@pytest.mark.parametrize(("rows", "expected"), [(1, (1,)), (8, (1, 2, 3, 4, 8)), (5, (1, 2, 3, 5))])
def test_heights(rows: int, expected: tuple[int, ...]) -> None:
    assert heights(rows) == expected
