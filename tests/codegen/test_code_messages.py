"""Layers that the code generator cannot place: what does not fit, by how much, and what to do."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest
from tests.codegen.build import CONCAT, Builder
from tests.codegen.test_plan import GRAPH, PREPARED

from tilewright.codegen.compile import compile_region
from tilewright.codegen.graph import Graph
from tilewright.codegen.merging import check
from tilewright.codegen.network import compile_regions
from tilewright.codegen.plan import Group, Plan, RegionPlan
from tilewright.codegen.prepared import prepare
from tilewright.errors import ScheduleError
from tilewright.integer.ops import LayoutStep
from tilewright.targets.config import Overlay, overlay

W8 = overlay("ultra96-w8")
HOST = "; keep this operator on the host"
MEMORY = "; choose an overlay with more memory"


def bits_copied(b: Builder) -> Graph:
    x = b.input(6, 4, 4, dtype="int8", bits=1)
    return b.graph(b.layout([CONCAT], *(b.max_pool(x, (2, 2), (1, 1)) for _ in range(2))))


def rows_as_channels(b: Builder) -> Graph:
    turned = b.layout([LayoutStep("transpose", ((0, 2, 1, 3),))], b.input(6, 6, 6))
    return b.graph(b.max_pool(turned, (2, 2), (1, 1)))


def constants_alone(b: Builder) -> Graph:
    wider = LayoutStep("pad", ((0, 0, 0, 0), (0, 20, 0, 0), (3,)))
    return b.graph(
        b.layout([wider, LayoutStep("slice", ((0, 7, 0, 0), (1, 20, 6, 6), (1, 1, 1, 1)))], b.input(6, 6, 6))
    )


def wide_kernel(b: Builder) -> Graph:
    return b.graph(b.conv(b.input(64, 20, 20), 64, (9, 9)))


def prelu(b: Builder) -> Graph:
    return b.graph(b.conv(b.input(16, 6, 6), 64, (1, 1), prelu=True))


CASES: list[tuple[Callable[[Builder], Graph], Overlay, str]] = [
    (
        bits_copied,
        overlay("ultra96-w1"),
        f"layer layout2: a (12, 3, 3) tensor must be copied, and weights of 1 bit cannot select{HOST}",
    ),
    (
        rows_as_channels,
        W8,
        f"layer layout0: elements of a (6, 6, 6) tensor are not moved by whole channels{HOST}",
    ),
    (constants_alone, W8, f"layer layout0: a copy reads nothing: all its channels are constant{HOST}"),
    (
        wide_kernel,
        replace(W8, wgt_kib=2),
        f"layer conv2d0: needs 9 units of WGT at a time, ultra96-w8 has 4{MEMORY}",
    ),
    (
        prelu,
        replace(W8, param_kib=1),
        f"layer conv2d0: its parameters need 64 records of PARAM at a time, half of it has 32{MEMORY}",
    ),
]


@pytest.mark.parametrize(("make", "machine", "text"), CASES, ids=[case[0].__name__ for case in CASES])
def test_layers_that_cannot_be_placed(make: Callable[[Builder], Graph], machine: Overlay, text: str) -> None:
    with pytest.raises(ScheduleError) as error:
        compile_region(make(Builder()), machine)
    assert str(error.value) == text


def test_parts_of_a_map_are_not_kept() -> None:
    """A transposed convolution writes its map in four layers."""
    b = Builder()
    up = b.conv_transpose(b.input(16, 6, 6), 16, (3, 3), (2, 2), (0, 0, 0, 0))
    graph = b.graph(b.conv(up, 4, (1, 1)))
    names = prepare(graph, W8).flow.names
    groups = tuple(Group(layers=(n,), keep=(names[0],) if n == names[1] else ()) for n in names)
    plan = Plan.of([RegionPlan(region=graph.name, groups=groups)], W8)
    with pytest.raises(ScheduleError) as error:
        compile_regions((graph,), W8, plan)
    assert str(error.value) == (
        f"plan of {graph.name}, group 2 ({names[1]}): {names[0]} is kept before it is complete; drop it from keep"
    )


def test_a_schedule_takes_layers_in_their_order() -> None:
    """The tuner's judge asks `check` alone."""
    names = PREPARED.flow.names
    for wrong, expected, found in (
        ([names[1], names[0], *names[2:]], names[0], names[1]),
        (names[:-1], names[-1], "nothing"),
    ):
        at = 1 if expected == names[0] else len(names)
        plan = RegionPlan(region=GRAPH.name, groups=tuple(Group(layers=(name,)) for name in wrong))
        assert [str(fault) for fault in check(PREPARED.flow, plan)] == [
            f"plan of {GRAPH.name}: layer {at} of the region is {expected}, the plan has {found}; "
            "name every layer once, in the region's order"
        ]
