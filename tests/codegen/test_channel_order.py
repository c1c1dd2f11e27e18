"""Channels that are read together lie together: fewer steps of MATRIX, the same bits, and nothing else changes."""

from __future__ import annotations

import math
from collections.abc import Callable

import numpy as np
import pytest
from tests.codegen.build import CONCAT, Builder, shuffle
from tests.codegen.evaluate import evaluate_graph, run_region
from tests.codegen.plans import random_plan
from tests.codegen.test_macs import graph_macs
from tests.codegen.test_random_plans import mobile, residual, upsampled

from tilewright.codegen import lower as lowering
from tilewright.codegen.channel_order import channel_order
from tilewright.codegen.compile import compile_prepared, compile_region
from tilewright.codegen.graph import Graph, Tensor
from tilewright.codegen.layers import MatrixLayer
from tilewright.codegen.macs import count_macs
from tilewright.codegen.prepared import Prepared, prepare
from tilewright.integer import ops
from tilewright.targets.config import overlay
from tilewright.targets.sim import fast

OVERLAYS = ("ultra96-w8", "pynq-z1-w8")
PAD = (1, 1, 1, 1)


def steps(prepared: Prepared) -> int:
    """Steps of MATRIX in all."""
    total = 0
    for i, layer in enumerate(prepared.lowered.layers):
        if isinstance(layer, MatrixLayer):
            g = layer.geometry
            total += sum(c.steps for c in prepared.matrix[i]) * g.kernel[1] * math.prod(g.count)
    return total


def halves(b: Builder, x: Tensor) -> tuple[Tensor, Tensor]:
    """The first half of the channels and the other."""
    _, c, h, w = x.shape
    cut = [(0, c // 2), (c // 2, c)]
    low, high = (
        b.layout([ops.LayoutStep("slice", ((0, a, 0, 0), (1, z, h, w), (1, 1, 1, 1)))], x) for a, z in cut
    )
    return low, high


def grouped_shuffle(b: Builder) -> Graph:
    """ShuffleNet v1: grouped convolutions behind shuffles, and additions."""
    y = b.conv(b.input(6, 9, 8), 96, (1, 1))
    for prelu in (False, True):
        z = b.conv(y, 120, (1, 1), groups=3, prelu=prelu)
        z = b.conv(b.layout(shuffle(3, z.shape), z), 120, (3, 3), padding=PAD, groups=120)
        y = b.add(b.conv(z, 96, (1, 1), groups=3), y)
    return b.graph(b.conv(y, 20, (1, 1)))


def split_shuffle(b: Builder) -> Graph:
    """ShuffleNet v2: half of the channels passes by, and a shuffle mixes the halves; tables and a dense layer."""
    y = b.conv(b.input(6, 6, 7), 96, (1, 1))
    for _ in range(4):
        kept, z = halves(b, y)
        z = b.table(b.conv(z, 48, (1, 1)))
        z = b.conv(b.conv(z, 48, (3, 3), padding=PAD, groups=48), 48, (1, 1))
        joined = b.layout([CONCAT], kept, z)
        y = b.layout(shuffle(2, joined.shape), joined)
    flat = b.layout([ops.LayoutStep("reshape", ((1, 96 * 6 * 7),))], y)
    return b.graph(b.dense(flat, 10), y)


def tied_parts(b: Builder) -> Graph:
    """An addition ties two tensors to one; the parts do not fill half words."""
    x = b.input(8, 10, 9)
    joined = b.layout([CONCAT], b.conv(x, 24, (1, 1)), b.conv(x, 30, (3, 3), padding=PAD))
    y = b.add(b.conv(joined, 54, (1, 1)), joined)
    low, high = halves(b, b.layout(shuffle(2, y.shape), y))
    return b.graph(b.conv(low, 40, (1, 1)), b.multiply(b.conv(high, 27, (1, 1)), low), y)


def shuffled_tie(b: Builder) -> Graph:
    """A tensor is added to its own shuffle: no order gives both the same lanes."""
    y = b.conv(b.input(5, 7, 8), 36, (1, 1))
    y = b.add(y, b.layout(shuffle(2, y.shape), y))
    return b.graph(b.conv(y, 36, (1, 1), groups=2))


def wide_results(b: Builder) -> Graph:
    """Results of 16 bits leave the region; transposed convolutions read and write parts."""
    y = b.conv(b.input(5, 7, 8), 48, (1, 1))
    low, high = halves(b, b.layout(shuffle(2, y.shape), y))
    z = b.conv_transpose(low, 24, (4, 4), (2, 2), PAD)
    return b.graph(b.conv(high, 20, (1, 1), dtype="int16"), b.conv(z, 9, (1, 1)), y)


MIXED: list[Callable[[Builder], Graph]] = [
    grouped_shuffle,
    split_shuffle,
    tied_parts,
    shuffled_tie,
    wide_results,
]


def without_order(graph: Graph, name: str, patch: pytest.MonkeyPatch) -> Prepared:
    """As it would be with channels as they are numbered."""
    with patch.context() as m:
        m.setattr(lowering, "channel_order", lambda graph, overlay: {})
        return prepare(graph, overlay(name))


@pytest.mark.parametrize("make", MIXED, ids=lambda f: f.__name__)
@pytest.mark.parametrize("name", OVERLAYS)
def test_same_bits_by_any_plan(make: Callable[[Builder], Graph], name: str) -> None:
    b = Builder(11)
    graph = make(b)
    feeds = b.feeds()
    expected = evaluate_graph(graph, feeds)
    prepared = prepare(graph, overlay(name))
    rng = np.random.default_rng(5)
    plans = [plan for plan in (random_plan(prepared, rng) for _ in range(12)) if plan is not None]
    regions = [compile_prepared(prepared, plan) for plan in plans]
    assert regions
    for region in [compile_region(graph, overlay(name)), *regions]:
        found = run_region(region, overlay(name), feeds, fast.run)
        for tensor in graph.outputs:
            np.testing.assert_array_equal(found[tensor.name], expected[tensor.name])


@pytest.mark.parametrize("make", [grouped_shuffle, split_shuffle], ids=lambda f: f.__name__)
@pytest.mark.parametrize("name", OVERLAYS)
def test_fewer_steps(make: Callable[[Builder], Graph], name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    graph = make(Builder(11))
    before = steps(without_order(graph, name, monkeypatch))
    assert steps(prepare(graph, overlay(name))) < before


@pytest.mark.parametrize("make", [grouped_shuffle, split_shuffle, tied_parts], ids=lambda f: f.__name__)
@pytest.mark.parametrize("name", OVERLAYS)
def test_the_same_products(make: Callable[[Builder], Graph], name: str) -> None:
    graph = make(Builder(11))
    assert count_macs(compile_region(graph, overlay(name)), overlay(name)) == graph_macs(graph)


@pytest.mark.parametrize("make", [residual, mobile, upsampled], ids=lambda f: f.__name__)
@pytest.mark.parametrize("name", OVERLAYS)
def test_tensors_that_are_read_whole_keep_their_order(make: Callable[[Builder], Graph], name: str) -> None:
    assert channel_order(make(Builder(7)), overlay(name)) == {}


@pytest.mark.parametrize("name", OVERLAYS)
def test_ties_that_no_order_satisfies_keep_theirs(name: str) -> None:
    assert channel_order(shuffled_tie(Builder(11)), overlay(name)) == {}


@pytest.mark.parametrize("name", OVERLAYS)
def test_readers_of_halves_take_half_of_the_half_words(name: str) -> None:
    b = Builder(1)
    y = b.conv(b.input(16, 8, 8), 64, (1, 1))
    parts = halves(b, b.layout(shuffle(32, y.shape), y))
    prepared = prepare(b.graph(*(b.conv(part, 32, (1, 1)) for part in parts)), overlay(name))
    read = [len(layer.source.blocks) for layer in prepared.lowered.layers[1:]]
    assert read == [2, 2]


@pytest.mark.parametrize("name", OVERLAYS)
def test_gaps_between_used_half_words_take_no_steps(name: str) -> None:
    """The first of three groups reads half words 0 and 5 of the input."""
    b = Builder(1)
    x = b.input(96, 8, 8)
    order = [*range(16), *range(80, 96), *range(16, 80)]
    cuts = [
        b.layout([ops.LayoutStep("slice", ((0, c, 0, 0), (1, c + 16, 8, 8), (1, 1, 1, 1)))], x)
        for c in order[::16]
    ]
    y = b.conv(b.layout([CONCAT], *cuts), 96, (1, 1), groups=3)
    prepared = prepare(b.graph(y), overlay(name))
    (chunk, *_) = prepared.matrix[0]
    assert chunk.steps == 2 * chunk.count
    feeds = b.feeds()
    region = compile_region(b.graph(y), overlay(name))
    found = run_region(region, overlay(name), feeds, fast.run)[y.name]
    np.testing.assert_array_equal(found, evaluate_graph(b.graph(y), feeds)[y.name])


def test_parts_that_an_addition_ties_need_no_copy() -> None:
    """24 and 40 channels side by side take 2 and 3 half words; the tensor they are added to is laid out alike."""
    b = Builder(1)
    x = b.input(8, 10, 10)
    joined = b.layout([CONCAT], b.conv(x, 24, (1, 1)), b.conv(x, 40, (1, 1)))
    graph = b.graph(b.conv(b.add(joined, b.conv(joined, 64, (1, 1))), 16, (1, 1)))
    layers = prepare(graph, overlay("ultra96-w8")).lowered.layers
    assert all(layer.counted for layer in layers)
    (tied,) = (layer for layer in layers if layer.name == "conv2d3")
    assert tied.output.blocks == 5


def test_lanes_are_a_table_without_collisions() -> None:
    graph = grouped_shuffle(Builder(11))
    found = channel_order(graph, overlay("ultra96-w8"))
    assert found
    widths = {node.output.name: node.output.shape[1] for node in graph.nodes}
    for name, lanes in found.items():
        assert len(np.unique(lanes)) == len(lanes) == widths[name]
        assert lanes.min() >= 0
