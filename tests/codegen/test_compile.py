"""Regions compiled and run on the reference simulator equal the operators in exact integers."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from tests.codegen.build import CONCAT, Builder, shuffle
from tests.codegen.evaluate import evaluate_graph, run_region
from tests.codegen.machines import SQUARE

from tilewright.codegen.compile import compile_region
from tilewright.codegen.graph import Graph
from tilewright.integer.ops import DType, LayoutStep
from tilewright.targets.config import Overlay, overlay
from tilewright.targets.sim import reference


@pytest.fixture(params=[overlay("ultra96-w8"), SQUARE], ids=lambda o: o.name)
def machine(request: pytest.FixtureRequest) -> Overlay:
    assert isinstance(request.param, Overlay)
    return request.param


def check(b: Builder, graph: Graph, machine: Overlay) -> None:
    feeds = b.feeds()
    expected = evaluate_graph(graph, feeds)
    found = run_region(compile_region(graph, machine), machine, feeds, reference.run)
    for tensor in graph.outputs:
        np.testing.assert_array_equal(found[tensor.name], expected[tensor.name], err_msg=tensor.name)
        assert len(np.unique(expected[tensor.name])) > 1 or expected[tensor.name].size < 4


CONVOLUTIONS: list[dict[str, Any]] = [
    {"outputs": 5, "kernel": (1, 1)},
    {"outputs": 40, "kernel": (3, 3), "padding": (1, 1, 1, 1)},
    {"outputs": 33, "kernel": (3, 3), "strides": (2, 2), "padding": (0, 0, 1, 1), "dtype": "int8"},
    {"outputs": 8, "kernel": (1, 3), "padding": (0, 1, 0, 1)},
    {"outputs": 8, "kernel": (3, 3), "dilation": (2, 3), "padding": (2, 3, 2, 3)},
    {"outputs": 16, "kernel": (5, 3), "strides": (1, 3), "padding": (2, 0, 4, 1), "wide": True},
    {"outputs": 24, "kernel": (3, 3), "groups": 4, "padding": (1, 1, 1, 1)},
    {"outputs": 20, "kernel": (3, 3), "groups": 20, "padding": (1, 1, 1, 1), "prelu": True},
    {
        "outputs": 20,
        "kernel": (3, 3),
        "groups": 20,
        "strides": (2, 2),
        "padding": (0, 0, 1, 1),
        "wide": True,
        "dtype": "int8",
    },
    {"outputs": 40, "kernel": (3, 3), "groups": 20, "padding": (1, 1, 1, 1)},
    {"outputs": 20, "kernel": (3, 3), "groups": 20, "padding": (3, 1, 3, 1)},  # windows in the padding alone
    {"outputs": 20, "kernel": (11, 11), "padding": (5, 5, 5, 5), "prelu": True},
    {"outputs": 70, "kernel": (1, 1), "padding": (1, 1, 1, 1)},
]


@pytest.mark.parametrize("options", CONVOLUTIONS, ids=str)
@pytest.mark.parametrize("dtype", ["int8", "uint8"])
def test_convolution(options: dict[str, Any], dtype: DType, machine: Overlay) -> None:
    b = Builder(1)
    x = b.input(20, 11, 13, dtype=dtype)
    check(b, b.graph(b.conv(x, **options)), machine)


def test_stripes_and_chunks(machine: Overlay) -> None:
    """More weights, sums and pixels than fit on chip at once."""
    b = Builder(2)
    x = b.input(200, 40, 60)
    y = b.conv(x, 100, (3, 3), padding=(1, 1, 1, 1))
    check(b, b.graph(b.max_pool(y, (3, 3), (2, 2), (0, 0, 1, 1))), machine)


@pytest.mark.parametrize(
    ("kernel", "strides", "padding", "extra", "dilation", "groups"),
    [
        ((2, 2), (2, 2), (0, 0, 0, 0), (0, 0), (1, 1), 1),
        ((4, 4), (2, 2), (1, 1, 1, 1), (0, 0), (1, 1), 1),
        ((3, 3), (2, 2), (1, 1, 1, 1), (1, 1), (1, 1), 18),
        ((3, 2), (3, 1), (0, 0, 1, 0), (0, 0), (2, 1), 2),
        ((2, 2), (3, 3), (0, 0, 0, 0), (2, 2), (1, 1), 18),  # results without a tap
        ((1, 1), (2, 2), (0, 0, 0, 0), (1, 0), (1, 1), 1),
    ],
)
def test_transposed_convolution(
    kernel: tuple[int, int],
    strides: tuple[int, int],
    padding: tuple[int, int, int, int],
    extra: tuple[int, int],
    dilation: tuple[int, int],
    groups: int,
    machine: Overlay,
) -> None:
    b = Builder(3)
    x = b.input(18, 6, 5, dtype="int8")
    check(b, b.graph(b.conv_transpose(x, 18, kernel, strides, padding, extra, dilation, groups)), machine)


@pytest.mark.parametrize("dtype", ["int8", "uint8"])
def test_pools(dtype: DType, machine: Overlay) -> None:
    b = Builder(4)
    x = b.input(37, 13, 14, dtype=dtype)
    outputs = [
        b.max_pool(x, (2, 2), (2, 2)),
        b.max_pool(x, (3, 3), (2, 2), (1, 1, 1, 1)),
        b.sum_pool(x, (13, 14), (1, 1)),
        b.sum_pool(x, (3, 3), (2, 2), (1, 1, 1, 1)),
        b.sum_pool(x, (3, 3), (2, 2), (1, 1, 1, 2), clipped=True),
    ]
    check(b, b.graph(*outputs), machine)


def test_residual_and_squeeze_excite(machine: Overlay) -> None:
    b = Builder(5)
    x = b.input(24, 9, 10)
    y = b.conv(x, 24, (3, 3), padding=(1, 1, 1, 1), dtype="int8")
    z = b.add(y, x)
    gate = b.table(b.conv(b.sum_pool(z, (9, 10), (1, 1)), 24, (1, 1)))
    check(b, b.graph(b.table(b.multiply(z, gate), "int8"), z), machine)


def test_concat_split_and_shuffle_fold(machine: Overlay) -> None:
    """ShuffleNet's unit: nothing but the convolutions runs."""
    b = Builder(6)
    x = b.conv(b.input(16, 8, 8), 48, (1, 1))
    for _ in range(3):
        half = x.shape[1] // 2
        size = (1, x.shape[1], *x.shape[2:])
        left = b.layout([LayoutStep("slice", ((0, 0, 0, 0), (1, half, *size[2:]), (1, 1, 1, 1)))], x)
        right = b.layout([LayoutStep("slice", ((0, half, 0, 0), size, (1, 1, 1, 1)))], x)
        y = b.conv(right, half, (1, 1))
        y = b.conv(y, half, (3, 3), padding=(1, 1, 1, 1), groups=half)
        x = b.layout([CONCAT, *shuffle(2, size)], left, y)
    graph = b.graph(b.conv(x, 10, (1, 1)))
    region = compile_region(graph, machine)
    assert [name for name in region.layers if name.startswith("layout")] == []
    check(b, graph, machine)


def test_layouts_that_move(machine: Overlay) -> None:
    b = Builder(7)
    x = b.input(36, 6, 4)
    upsampled = b.layout([LayoutStep("repeat", ((1, 1, 2, 3),))], x)
    blocks = b.layout(
        [
            LayoutStep("reshape", ((1, 9, 2, 2, 6, 4),)),
            LayoutStep("transpose", ((0, 1, 4, 2, 5, 3),)),
            LayoutStep("reshape", ((1, 9, 12, 8),)),
        ],
        x,
    )
    strided = b.layout([LayoutStep("slice", ((0, 0, 0, 1), (1, 36, 6, 4), (1, 1, 2, 2)))], x)
    padded = b.layout([LayoutStep("pad", ((0, 8, 0, 0), (0, 20, 0, 0), (17,)))], strided)
    turned = b.layout([LayoutStep("transpose", ((0, 1, 3, 2),))], x)
    repeated = b.layout([CONCAT], x, x)
    check(b, b.graph(upsampled, blocks, strided, padded, turned, repeated, x), machine)


def test_flatten_and_dense(machine: Overlay) -> None:
    b = Builder(8)
    x = b.input(20, 5, 6, dtype="int8")
    other = b.conv(x, 7, (1, 1), dtype="int8")
    both = b.layout(
        [CONCAT, LayoutStep("transpose", ((0, 1, 3, 2),)), LayoutStep("reshape", ((1, 27 * 30),))], x, other
    )
    hidden = b.dense(both, 70)
    check(b, b.graph(b.dense(b.table(hidden), 11), b.add(hidden, hidden)), machine)


def test_wide_dense(machine: Overlay) -> None:
    """More input half words than one instruction counts and than half of WGT holds."""
    b = Builder(9)
    x = b.input(256, 9, 9)
    flat = b.layout([LayoutStep("reshape", ((1, 256 * 81),))], x)
    check(b, b.graph(b.dense(flat, 40)), machine)


@pytest.mark.parametrize("dtype", ["int16", "uint16"])
def test_results_of_sixteen_bits(dtype: DType, machine: Overlay) -> None:
    """Scores for the host, from every unit and cut into stripes and chunks."""
    b = Builder(10)
    x = b.input(40, 30, 31)
    y = b.conv(x, 600, (1, 1))
    outputs = [
        b.conv(x, 70, (3, 3), padding=(1, 1, 1, 1), dtype=dtype),
        b.conv(x, 40, (3, 3), strides=(2, 2), groups=40, dtype=dtype),
        b.sum_pool(y, (30, 31), (1, 1), dtype=dtype),
        b.add(x, x, dtype),
        b.dense(b.layout([LayoutStep("reshape", ((1, 600),))], b.sum_pool(y, (30, 31), (1, 1))), 1000, dtype),
    ]
    check(b, b.graph(*outputs), machine)
