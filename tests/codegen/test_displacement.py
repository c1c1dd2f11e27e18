"""Shifts: folded into MATRIX's reads where they can be, copied where not, exact always."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import numpy as np
import pytest
from tests.codegen.build import CONCAT, Builder, shuffle
from tests.codegen.evaluate import evaluate_graph, run_region

from tilewright.codegen.compile import compile_region
from tilewright.codegen.graph import Graph, Tensor
from tilewright.codegen.layers import MatrixLayer
from tilewright.codegen.lower import lower
from tilewright.integer.ops import LayoutStep, Shift
from tilewright.targets.config import Overlay, overlay
from tilewright.targets.isa.codec import decode_stream
from tilewright.targets.isa.spec import Load, Matrix, Memory
from tilewright.targets.sim import fast, reference

FIVE = np.array([[-1, 0], [0, -1], [0, 0], [0, 1], [1, 0]])
TARGETS = ("ultra96-w8", "pynq-z1-w8")


def moves(channels: int) -> np.ndarray:
    """As DiracDeltaNet has them: neighbours move differently."""
    return np.resize(FIVE, (channels, 2))


def check(graph: Graph, b: Builder, machine: Overlay) -> list[Matrix]:
    """Both simulators give the exact integers; returns MATRIX's instructions."""
    feeds = b.feeds()
    expected = evaluate_graph(graph, feeds)
    region = compile_region(graph, machine)
    for simulator in (reference.run, fast.run):
        found = run_region(region, machine, feeds, simulator)
        for tensor in graph.outputs:
            np.testing.assert_array_equal(found[tensor.name], expected[tensor.name], err_msg=tensor.name)
    return [i for i in decode_stream(region.stream) if isinstance(i, Matrix)]


def displaced_loads(graph: Graph, machine: Overlay) -> list[Load]:
    stream = decode_stream(compile_region(graph, machine).stream)
    return [i for i in stream if isinstance(i, Load) and i.memory == Memory.DISP]


def pointwise(b: Builder) -> Tensor:
    return b.conv(b.shift(b.input(40, 9, 11), moves(40)), 24, (1, 1))


def strided(b: Builder) -> Tensor:
    return b.conv(b.shift(b.input(40, 9, 12), moves(40), (2, 2)), 24, (1, 1), strides=(1, 2))


def padded(b: Builder) -> Tensor:
    y = b.shift(b.input(20, 9, 11, dtype="int8"), moves(20), zero_point=-7)
    return b.conv(y, 24, (3, 3), padding=(1, 1, 1, 1), strides=(2, 1), zero_point=-7)


def strided_then_padded(b: Builder) -> Tensor:
    y = b.shift(b.input(20, 9, 11), moves(20), (2, 2), zero_point=9)
    return b.conv(y, 24, (3, 3), padding=(1, 1, 1, 1), zero_point=9)


def twice_read(b: Builder) -> Tensor:
    y = b.shift(b.input(24, 8, 8), moves(24))
    return b.add(b.conv(y, 16, (1, 1)), b.conv(y, 16, (1, 1)))


def of_a_concat(b: Builder) -> Tensor:
    x = b.input(20, 8, 8)
    y = b.layout([CONCAT], b.conv(x, 12, (1, 1)), x)
    return b.conv(b.shift(y, moves(32)), 16, (1, 1))


def shuffled(b: Builder) -> Tensor:
    x = b.input(24, 8, 8)
    y = b.layout(shuffle(4, x.shape), b.shift(x, moves(24)))
    return b.conv(y, 16, (1, 1))


def beside_unmoved(b: Builder) -> Tensor:
    x = b.input(24, 8, 8)
    return b.conv(b.layout([CONCAT], b.shift(x, moves(24)), b.table(x)), 16, (1, 1))


def half(b: Builder) -> Tensor:
    x = b.conv(b.input(8, 8, 8), 40, (1, 1))
    parts = [
        b.layout([LayoutStep("slice", ((0, a, 0, 0), (1, z, 8, 8), (1, 1, 1, 1)))], x)
        for a, z in ((0, 20), (20, 40))
    ]
    y = b.conv(b.shift(parts[1], moves(20)), 20, (1, 1))
    return b.conv(b.layout([CONCAT], y, parts[0]), 8, (1, 1))


FOLDED = [
    pointwise,
    strided,
    padded,
    strided_then_padded,
    twice_read,
    of_a_concat,
    shuffled,
    beside_unmoved,
    half,
]


@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize("network", FOLDED)
def test_convolutions_read_displaced(network: Callable[[Builder], Tensor], target: str) -> None:
    b = Builder(3)
    graph, machine = b.graph(network(b)), overlay(target)
    assert all(layer.counted for layer in lower(graph, machine).layers), "no copy"
    matrix = check(graph, b, machine)
    assert any(i.displaced for i in matrix)
    assert len(displaced_loads(graph, machine)) == 1


def pooled(b: Builder) -> Tensor:
    return b.max_pool(b.shift(b.input(20, 9, 9), moves(20)), (2, 2), (2, 2))


def pooled_with_padding(b: Builder) -> Tensor:
    return b.max_pool(b.shift(b.input(40, 10, 9), moves(40)), (2, 3), (3, 3), (1, 1, 1, 2))


def pooled_wide(b: Builder) -> Tensor:
    """A row of sums is longer than half of ACC."""
    return b.max_pool(b.shift(b.input(20, 5, 700), moves(20), (1, 1)), (2, 2), (2, 2), (1, 1, 0, 0))


def pooled_strided(b: Builder) -> Tensor:
    return b.max_pool(b.shift(b.input(20, 21, 17), moves(20), (2, 1)), (2, 2), (2, 3))


def pooled_overlapping(b: Builder) -> Tensor:
    return b.max_pool(b.shift(b.input(20, 9, 9), moves(20)), (3, 3), (2, 2), (1, 1, 1, 1))


def result(b: Builder) -> Tensor:
    return b.shift(b.conv(b.input(4, 9, 9), 20, (1, 1)), moves(20), (1, 2))


def flattened(b: Builder) -> Tensor:
    y = b.shift(b.input(20, 3, 4), moves(20))
    return b.dense(b.layout([LayoutStep("reshape", ((1, 240),))], y), 10)


def added(b: Builder) -> Tensor:
    x = b.input(20, 5, 6)
    y = b.shift(x, moves(20))
    return b.add(b.table(y), b.add(x, y))


def twice(b: Builder) -> Tensor:
    return b.conv(b.shift(b.shift(b.input(20, 6, 5), moves(20)), -moves(20)), 9, (1, 1))


def other_padding(b: Builder) -> Tensor:
    y = b.shift(b.input(20, 6, 5), moves(20), zero_point=4)
    return b.conv(y, 9, (3, 3), padding=(1, 0, 1, 0), zero_point=5)


def two_zero_points(b: Builder) -> Tensor:
    x = b.input(20, 6, 5)
    y = b.layout([CONCAT], b.shift(x, moves(20), zero_point=3), b.shift(x, moves(20), zero_point=200))
    return b.conv(y, 9, (1, 1))


def depthwise(b: Builder) -> Tensor:
    return b.conv(b.shift(b.input(20, 6, 5), moves(20)), 20, (3, 3), groups=20, padding=(1, 1, 1, 1))


def upsampled(b: Builder) -> Tensor:
    y = b.shift(b.input(20, 6, 5), moves(20))
    return b.conv(b.layout([LayoutStep("repeat", ((1, 1, 2, 2),))], y), 9, (3, 3))


def nothing_left(b: Builder) -> Tensor:
    return b.conv(b.shift(b.input(20, 1, 1), 1 + 0 * moves(20)), 9, (1, 1))


COPIED = [
    pooled,
    pooled_with_padding,
    pooled_wide,
    pooled_strided,
    pooled_overlapping,
    result,
    flattened,
    added,
    twice,
    other_padding,
    two_zero_points,
    depthwise,
    upsampled,
    nothing_left,
]


@pytest.mark.parametrize("target", TARGETS)
@pytest.mark.parametrize("network", COPIED)
def test_everybody_else_reads_a_copy(network: Callable[[Builder], Tensor], target: str) -> None:
    b = Builder(5)
    check(b.graph(network(b)), b, overlay(target))


@pytest.mark.parametrize(("network", "layers"), [(pooled, 1), (pooled_overlapping, 2)])
def test_a_pool_whose_windows_do_not_overlap_takes_the_sums(
    network: Callable[[Builder], Tensor], layers: int
) -> None:
    b = Builder(5)
    assert len(lower(b.graph(network(b)), overlay("ultra96-w8")).layers) == layers


def test_readers_share_a_copy() -> None:
    b = Builder(5)
    y = b.shift(b.input(20, 9, 9), moves(20))
    graph = b.graph(b.max_pool(y, (3, 2), (2, 2)), b.max_pool(y, (3, 3), (1, 1)))
    assert [layer.counted for layer in lower(graph, overlay("ultra96-w8")).layers] == [False, True, True]


@pytest.mark.parametrize("network", [*FOLDED, *COPIED])
def test_without_a_table_every_direction_is_a_pass(network: Callable[[Builder], Tensor]) -> None:
    machine = replace(overlay("ultra96-w8"), disp_entries=0, displacement_min=0, displacement_max=0)
    b = Builder(7)
    assert not any(i.displaced for i in check(b.graph(network(b)), b, machine))


def test_displacements_out_of_range_are_passes_of_their_own() -> None:
    rng = np.random.default_rng(0)
    b = Builder(7)
    y = b.shift(b.input(30, 9, 8), rng.integers(-3, 4, (30, 2)))
    matrix = check(b.graph(b.conv(y, 20, (1, 1))), b, overlay("ultra96-w8"))
    assert not any(i.displaced for i in matrix)


def test_one_direction_needs_no_table() -> None:
    b = Builder(7)
    y = b.shift(b.input(30, 9, 8), np.tile([1, -1], (30, 1)))
    matrix = check(b.graph(b.conv(y, 20, (1, 1))), b, overlay("ultra96-w8"))
    assert not any(i.displaced for i in matrix)


def test_a_crop_that_moves_is_in_range_about_its_middle() -> None:
    """A kernel without padding moves by 0..2 rows."""
    b = Builder(2)
    x = b.input(30, 9, 8)
    y = b.shift(x, moves(30) + 1)
    whole = b.nodes[-1].operator
    assert isinstance(whole, Shift)
    shift = replace(whole, size=(7, 6))
    output = replace(y, shape=(1, 30, 7, 6))
    b.nodes[-1] = replace(b.nodes[-1], operator=shift, output=output)
    matrix = check(b.graph(b.conv(output, 20, (1, 1))), b, overlay("ultra96-w8"))
    assert all(i.displaced for i in matrix)


def random_moves(rng: np.random.Generator, channels: int) -> np.ndarray:
    return rng.integers(-1, 2, (channels, 2))


def test_more_entries_than_the_table_holds_come_in_portions() -> None:
    rng = np.random.default_rng(0)
    b = Builder(1)
    y = b.input(200, 5, 6)
    for _ in range(8):  # 13 half words each
        y = b.conv(b.shift(y, random_moves(rng, 200)), 200, (1, 1))
    graph, machine = b.graph(y), overlay("ultra96-w8")
    check(graph, b, machine)
    loads = displaced_loads(graph, machine)
    assert 3 <= len(loads) <= 8
    assert all(load.n2 <= machine.disp_entries // 2 for load in loads)


def test_equal_rows_are_shared() -> None:
    b = Builder(1)
    y = b.input(160, 5, 6)
    for _ in range(8):
        y = b.conv(b.shift(y, moves(160)), 160, (1, 1))
    (load,) = displaced_loads(b.graph(y), overlay("ultra96-w8"))
    assert load.n2 == 10


def test_a_source_of_more_half_words_than_entries() -> None:
    b = Builder(1)
    y = b.shift(b.input(1100, 3, 4), moves(1100))
    check(b.graph(b.conv(y, 40, (1, 1))), b, overlay("ultra96-w8"))


def test_layers_know_their_halo() -> None:
    b = Builder(3)
    layer = lower(b.graph(pointwise(b)), overlay("ultra96-w8")).layers[0]
    assert isinstance(layer, MatrixLayer)
    assert (layer.geometry.above, layer.geometry.below) == ((1, 1), (1, 1))
    assert layer.geometry.span(0, 2, 3, 9) == (1, 5)
