"""A largest-value pool behind a convolution is taken from its sums, where windows do not overlap."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from tests.codegen.build import Builder
from tests.codegen.evaluate import evaluate_graph, run_region

from tilewright.codegen.compile import compile_region
from tilewright.codegen.graph import Graph
from tilewright.codegen.layers import VectorLayer
from tilewright.codegen.lower import lower
from tilewright.targets.config import Overlay, overlay
from tilewright.targets.sim import fast, reference


def check(b: Builder, graph: Graph, machine: Overlay) -> None:
    feeds = b.feeds()
    expected = evaluate_graph(graph, feeds)
    region = compile_region(graph, machine)
    for simulator in (reference.run, fast.run):
        found = run_region(region, machine, feeds, simulator)
        for tensor in graph.outputs:
            np.testing.assert_array_equal(found[tensor.name], expected[tensor.name], err_msg=tensor.name)


def rising(graph: Graph, sign: int = 1) -> Graph:
    """The graph with multipliers of this sign in its first convolution."""
    first, *others = graph.nodes
    r = first.operator.rescale  # type: ignore[attr-defined]
    operator = replace(first.operator, rescale=replace(r, m=sign * np.abs(r.m)))  # type: ignore[call-arg]
    return replace(graph, nodes=(replace(first, operator=operator), *others))


def pools(graph: Graph, machine: Overlay) -> int:
    return sum(isinstance(layer, VectorLayer) for layer in lower(graph, machine).layers)


WINDOWS: list[tuple[dict[str, Any], tuple[Any, ...]]] = [
    ({"kernel": (1, 1)}, ((2, 2), (2, 2))),
    ({"kernel": (3, 3), "padding": (1, 1, 1, 1)}, ((2, 2), (2, 2), (1, 1, 1, 1))),
    ({"kernel": (3, 3), "strides": (2, 1), "padding": (0, 1, 1, 0)}, ((2, 3), (3, 3), (0, 1, 1, 1))),
    ({"kernel": (1, 3), "dilation": (1, 2)}, ((1, 1), (2, 2))),
]


@pytest.mark.parametrize("name", ["ultra96-w8", "pynq-z1-w8", "ultra96-w4"])
@pytest.mark.parametrize(("convolution", "pool"), WINDOWS, ids=str)
def test_windows(convolution: dict[str, Any], pool: tuple[Any, ...], name: str) -> None:
    b, machine = Builder(2), overlay(name)
    x = b.conv(b.input(20, 21, 23, dtype="int8"), 70, **convolution, dtype="int8", bits=4)
    y = b.max_pool(x, *pool)
    graph = rising(b.graph(b.conv(y, 9, (1, 1)), y))
    assert pools(graph, machine) == 0
    check(b, graph, machine)


def test_what_cannot_be_taken_from_sums() -> None:
    """Overlapping windows, results that others read too, multipliers that turn the order around."""
    machine = overlay("ultra96-w8")
    b = Builder(3)
    y = b.max_pool(b.conv(b.input(20, 9, 9), 20, (1, 1)), (3, 3), (2, 2))
    assert pools(rising(b.graph(y)), machine) == 1
    b = Builder(3)
    x = b.conv(b.input(20, 9, 9), 20, (1, 1))
    graph = rising(b.graph(b.max_pool(x, (2, 2), (2, 2)), x))
    assert pools(graph, machine) == 1
    b = Builder(3)
    graph = rising(b.graph(b.max_pool(b.conv(b.input(20, 9, 9), 20, (1, 1)), (2, 2), (2, 2))), sign=-1)
    assert pools(graph, machine) == 1
    check(b, graph, machine)
