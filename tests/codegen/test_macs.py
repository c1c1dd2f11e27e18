"""MACs counted from the stream equal the graph's own count, whatever the overlay fills or reloads."""

from __future__ import annotations

import math
from dataclasses import replace

import pytest
from tests.codegen.build import Builder

from tilewright.codegen.compile import compile_region
from tilewright.codegen.graph import Graph
from tilewright.codegen.macs import count_macs
from tilewright.integer import ops
from tilewright.targets.config import overlay

OVERLAYS = ("ultra96-w8", "pynq-z1-w8")


def graph_macs(graph: Graph) -> int:
    """Results times weights of a result."""
    total = 0
    for node in graph.nodes:
        if isinstance(node.operator, ops.Conv2d | ops.Dense):
            total += math.prod(node.output.shape) * math.prod(node.operator.weight.shape[1:])
    return total


def convolution(b: Builder) -> Graph:
    x = b.input(19, 13, 11)
    return b.graph(b.conv(x, 33, (3, 3), padding=(1, 1, 1, 1)))


def stripes(b: Builder) -> Graph:
    """More weights and more pixels than fit on chip at once."""
    return b.graph(b.conv(b.input(130, 40, 60), 100, (3, 3), padding=(1, 1, 1, 1)))


def two_parts(b: Builder) -> Graph:
    """Weights of nine bits run as two passes, of which one counts."""
    return b.graph(b.conv(b.input(20, 7, 9), 16, (5, 3), wide=True))


def groups(b: Builder) -> Graph:
    """Groups that do not align with blocks are filled with zeros, which do not count."""
    return b.graph(b.conv(b.input(20, 11, 13), 24, (3, 3), groups=4, padding=(1, 1, 1, 1)))


def depthwise(b: Builder) -> Graph:
    return b.graph(b.conv(b.input(40, 23, 17), 40, (3, 3), groups=40, strides=(2, 2), padding=(0, 0, 1, 1)))


def branches(b: Builder) -> Graph:
    """Poolings, additions and tables make no products; the same convolution twice counts twice."""
    x = b.conv(b.input(8, 12, 12), 24, (1, 1))
    y = b.add(b.conv(x, 24, (3, 3), padding=(1, 1, 1, 1)), b.conv(x, 24, (1, 1)))
    return b.graph(b.max_pool(b.table(y), (2, 2), (2, 2)))


def dense(b: Builder) -> Graph:
    return b.graph(b.dense(b.input(300), 77))


@pytest.mark.parametrize("name", OVERLAYS)
@pytest.mark.parametrize(
    "make", [convolution, stripes, two_parts, groups, depthwise, branches, dense], ids=lambda f: f.__name__
)
def test_count_equals_the_graphs(make: object, name: str) -> None:
    assert callable(make)
    graph = make(Builder(3))
    expected = graph_macs(graph)
    assert expected > 0 or make is branches
    assert count_macs(compile_region(graph, overlay(name)), overlay(name)) == expected


def test_counts_what_the_stream_does_and_not_what_was_planned() -> None:
    machine = overlay("ultra96-w8")
    region = compile_region(stripes(Builder(3)), machine)
    whole = count_macs(region, machine)
    half = len(region.stream) // 64 // 2 * 64
    assert 0 < count_macs(replace(region, stream=region.stream[:half]), machine) < whole
    elsewhere = {offset + 8: n for offset, n in region.products.items()}
    assert count_macs(replace(region, products=elsewhere), machine) == 0
    assert count_macs(replace(region, products={}), machine) == 0
