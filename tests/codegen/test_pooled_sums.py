"""Pools that take the sums of the convolution before them, straight from ACC."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tests.codegen.build import Builder
from tests.codegen.test_displacement import TARGETS, check

from tilewright.codegen.graph import Graph, Tensor
from tilewright.codegen.layers import MatrixLayer
from tilewright.codegen.lower import lower
from tilewright.integer import ops
from tilewright.integer.ops import LayoutStep
from tilewright.targets.config import overlay


def pools(graph: Graph) -> int:
    """Layers of VECTOR."""
    return sum(not isinstance(layer, MatrixLayer) for layer in lower(graph, overlay("ultra96-w8")).layers)


@settings(max_examples=30, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck))
@given(
    size=st.tuples(st.integers(1, 30), st.integers(1, 90)),
    outputs=st.integers(1, 70),
    kernel=st.integers(1, 3),
    window=st.tuples(st.integers(1, 3), st.integers(1, 4)),
    strides=st.tuples(st.integers(1, 2), st.integers(1, 2)),
    target=st.sampled_from(TARGETS),
    seed=st.integers(0, 99),
)
def test_every_shape(
    size: tuple[int, int],
    outputs: int,
    kernel: int,
    window: ops.Pair,
    strides: ops.Pair,
    target: str,
    seed: int,
) -> None:
    b = Builder(seed)
    pad = kernel // 2
    x = b.input(5, *size, dtype="int8" if seed % 2 else "uint8")
    y = b.conv(
        x, outputs, (kernel, kernel), strides=strides, padding=(pad, pad, kernel - 1 - pad, kernel - 1 - pad)
    )
    top, left = (min(seed % 2, w - 1) for w in window)
    bottom, right = (-(n + p) % w for n, p, w in zip(y.shape[2:], (top, left), window, strict=True))
    graph = b.graph(b.max_pool(y, window, window, (top, left, bottom, right)))
    assert pools(graph) == 0
    check(graph, b, overlay(target))


def rows_longer_than_acc(b: Builder) -> Tensor:
    return b.max_pool(b.conv(b.input(3, 4, 1200), 40, (1, 1)), (2, 2), (2, 2))


def chained(b: Builder) -> Tensor:
    y = b.max_pool(b.conv(b.input(20, 24, 24), 40, (3, 3)), (2, 2), (2, 2))
    return b.max_pool(b.conv(y, 24, (3, 3), padding=(1, 1, 0, 0)), (5, 2), (5, 2))


@pytest.mark.parametrize("network", [rows_longer_than_acc, chained])
def test_pools_of_sums(network) -> None:  # type: ignore[no-untyped-def]
    b = Builder(3)
    graph = b.graph(network(b))
    assert pools(graph) == 0
    check(graph, b, overlay("ultra96-w8"))


def overlapping(b: Builder) -> Tensor:
    return b.max_pool(b.conv(b.input(9, 9, 9), 20, (1, 1)), (3, 3), (2, 2))


def half_of_the_channels(b: Builder) -> Tensor:
    x = b.conv(b.input(9, 8, 8), 32, (1, 1))
    low, high = (
        b.layout([LayoutStep("slice", ((0, a, 0, 0), (1, a + 16, 8, 8), (1, 1, 1, 1)))], x) for a in (0, 16)
    )
    y = b.conv(b.max_pool(low, (2, 2), (2, 2)), 8, (1, 1))
    return b.add(y, b.conv(high, 8, (1, 1), strides=(2, 2)))


def falling(b: Builder) -> Tensor:
    y = b.conv(b.input(9, 8, 8), 20, (1, 1))
    op = b.nodes[-1].operator
    assert isinstance(op, ops.Conv2d)
    r = op.rescale
    turned = replace(op, weight=-op.weight.astype(np.int16), rescale=replace(r, m=np.where(np.arange(20)[:, None, None] == 7, -r.m, r.m)))  # fmt: skip
    b.nodes[-1] = replace(b.nodes[-1], operator=turned)
    return b.max_pool(y, (2, 2), (2, 2))


def with_slopes(b: Builder) -> Tensor:
    return b.max_pool(b.conv(b.input(9, 8, 8), 20, (1, 1), prelu=True), (2, 2), (2, 2))


def with_a_table(b: Builder) -> Tensor:
    return b.max_pool(b.table(b.conv(b.input(9, 8, 8), 20, (1, 1))), (2, 2), (2, 2))


def read_twice(b: Builder) -> Tensor:
    y = b.conv(b.input(9, 8, 8), 20, (1, 1))
    return b.conv(b.add(b.max_pool(y, (2, 2), (2, 2)), b.conv(y, 20, (1, 1), strides=(2, 2))), 8, (1, 1))


def of_depthwise(b: Builder) -> Tensor:
    return b.max_pool(b.conv(b.input(9, 8, 8), 9, (1, 1), groups=9), (2, 2), (2, 2))


@pytest.mark.parametrize(
    "network",
    [overlapping, half_of_the_channels, falling, with_slopes, with_a_table, read_twice, of_depthwise],
)
def test_other_pools_read_the_map(network) -> None:  # type: ignore[no-untyped-def]
    b = Builder(3)
    graph = b.graph(network(b))
    assert pools(graph) >= 1
    check(graph, b, overlay("ultra96-w8"))


def test_the_region_gives_the_convolution_too() -> None:
    b = Builder(3)
    y = b.conv(b.input(9, 8, 8), 20, (1, 1))
    graph = b.graph(b.max_pool(y, (2, 2), (2, 2)), y)
    assert pools(graph) == 1
    check(graph, b, overlay("ultra96-w8"))
