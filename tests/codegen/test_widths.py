"""Tensors of 1 to 16 bits on overlays of 1 to 8: reference and fast simulator equal the operators bit for bit."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from tests.codegen.build import CONCAT, Builder, shuffle
from tests.codegen.evaluate import evaluate_graph, run_region

from tilewright.codegen.compile import compile_region
from tilewright.codegen.graph import Graph, Tensor
from tilewright.codegen.macs import count_macs
from tilewright.integer.ops import DType, LayoutStep
from tilewright.targets.config import Overlay, overlay
from tilewright.targets.isa.codec import decode_stream
from tilewright.targets.isa.spec import Matrix
from tilewright.targets.sim import fast, reference


def check(b: Builder, graph: Graph, machine: Overlay) -> None:
    feeds = b.feeds()
    expected = evaluate_graph(graph, feeds)
    region = compile_region(graph, machine)
    for simulator in (reference.run, fast.run):
        found = run_region(region, machine, feeds, simulator)
        for tensor in graph.outputs:
            np.testing.assert_array_equal(found[tensor.name], expected[tensor.name], err_msg=tensor.name)
            assert len(np.unique(expected[tensor.name])) > 1


MACHINES = ["ultra96-w4", "ultra96-a8w4", "pynq-z1-w4", "ultra96-w8"]
CONVOLUTIONS: list[dict[str, Any]] = [
    {"outputs": 40, "kernel": (1, 1), "w_bits": 4, "bits": 4},
    {"outputs": 40, "kernel": (3, 3), "padding": (1, 1, 1, 1), "w_bits": 8, "bits": 4},
    {"outputs": 33, "kernel": (3, 3), "strides": (2, 2), "padding": (0, 0, 1, 1), "w_bits": 4, "bits": 8},
    {"outputs": 24, "kernel": (3, 3), "groups": 4, "padding": (1, 1, 1, 1), "wide": True, "bits": 2},
    {"outputs": 20, "kernel": (3, 3), "groups": 20, "padding": (1, 1, 1, 1), "bits": 4},
    {"outputs": 20, "kernel": (3, 3), "groups": 20, "padding": (1, 1, 1, 1), "bits": 8, "prelu": True},
    {"outputs": 20, "kernel": (11, 11), "padding": (5, 5, 5, 5), "bits": 4, "w_bits": 5},
]


@pytest.mark.parametrize("options", CONVOLUTIONS, ids=str)
@pytest.mark.parametrize("name", MACHINES)
def test_convolution(options: dict[str, Any], name: str) -> None:
    b = Builder(1)
    kinds: list[tuple[DType, int]] = [("uint8", 2), ("int8", 4), ("int8", 8), ("uint8", 8)]
    outputs = []
    for i, (dtype, bits) in enumerate(kinds):
        x = b.input(20, 9, 11, dtype=dtype, bits=bits)
        outputs.append(b.conv(x, dtype=kinds[i - 1][0], **options))
    check(b, b.graph(*outputs), overlay(name))


def low_bit_net(b: Builder, dtype: DType) -> Tensor:
    """First and last layers of 8 bits, 4 between, with a shuffle, a split, a concat, a sum and pools."""
    x = b.conv(
        b.input(3, 20, 20, dtype="int8"),
        40,
        (3, 3),
        strides=(2, 2),
        padding=(1, 1, 1, 1),
        dtype=dtype,
        bits=4,
    )
    x = b.max_pool(x, (2, 2), (2, 2), (1, 1, 1, 1))
    left = b.layout([LayoutStep("slice", ((0, 0, 0, 0), (1, 20, 6, 6), (1, 1, 1, 1)))], x)
    right = b.layout([LayoutStep("slice", ((0, 20, 0, 0), (1, 40, 6, 6), (1, 1, 1, 1)))], x)
    y = b.conv(right, 70, (1, 1), w_bits=4, dtype=dtype, bits=4)
    y = b.conv(y, 20, (3, 3), padding=(1, 1, 1, 1), w_bits=4, dtype=dtype, bits=4)
    z = b.layout([CONCAT], left, y)
    z = b.layout(shuffle(2, z.shape), z)
    z = b.add(b.conv(z, 40, (1, 1), w_bits=4, dtype=dtype, bits=4), x, bits=4)
    z = b.conv(z, 64, (1, 1), w_bits=4, dtype=dtype, bits=8)
    z = b.sum_pool(z, (6, 6), (1, 1), bits=8)
    return b.dense(b.layout([LayoutStep("reshape", ((1, 64),))], z), 30, dtype="int16")


@pytest.mark.parametrize("dtype", ["int8", "uint8"])
@pytest.mark.parametrize("name", MACHINES)
def test_network(dtype: DType, name: str) -> None:
    b = Builder(3)
    graph = b.graph(low_bit_net(b, dtype))
    check(b, graph, overlay(name))


@pytest.mark.parametrize("dtype", ["int8", "uint8"])
def test_a_concat_has_the_widest_bits(dtype: DType) -> None:
    """Its operands keep their own values; convolution, pool and layout behind it read them all."""
    b = Builder(4)
    x, y = b.input(20, 9, 9, dtype=dtype, bits=4), b.input(40, 9, 9, dtype=dtype, bits=8)
    z = b.layout([CONCAT], x, b.conv(y, 33, (1, 1), dtype=dtype, bits=2), y)
    pooled = b.max_pool(z, (3, 3), (2, 2), (1, 1, 1, 1))
    check(b, b.graph(b.conv(z, 30, (3, 3), w_bits=4), pooled, z), overlay("ultra96-w4"))


def test_planes_are_counted_once() -> None:
    """Each product of the network counts once, however many passes it takes."""
    b = Builder(5)
    x = b.input(20, 9, 9)
    graph = b.graph(b.conv(x, 40, (3, 3)))
    found = {name: count_macs(compile_region(graph, overlay(name)), overlay(name)) for name in MACHINES}
    assert set(found.values()) == {7 * 7 * 40 * 20 * 9}


FIRST: list[tuple[dict[str, Any], int]] = [
    ({"kernel": (1, 1)}, 1),
    ({"kernel": (1, 1), "strides": (2, 2), "padding": (1, 1, 0, 0)}, 1),
    ({"kernel": (3, 3), "strides": (2, 2), "padding": (1, 1, 1, 1)}, 6),
    ({"kernel": (3, 3), "padding": (2, 0, 1, 3), "dilation": (2, 1)}, 6),
]


@pytest.mark.parametrize("dtype", ["int8", "uint8"])
@pytest.mark.parametrize(("options", "each"), FIRST, ids=str)
def test_a_first_layer_multiplies_digits_by_quarters(
    options: dict[str, Any], each: int, dtype: DType
) -> None:
    """8-bit values times 8-bit weights on 4-bit operands: `each` steps for a vector of outputs, a quarter of four passes'."""
    b, machine = Builder(6), overlay("ultra96-w4")
    y = b.conv(b.input(3, 17, 12, dtype=dtype), 40, dtype=dtype, bits=4, **options)
    graph = b.graph(y)
    check(b, graph, machine)
    region = compile_region(graph, machine)
    found = [i for i in decode_stream(region.stream) if isinstance(i, Matrix)]
    assert all(i.lane_shift for i in found)
    steps = sum(i.n_oc * i.n_ic * i.n_ky * i.n_kx * i.n_y * i.n_x for i in found)
    assert steps == each * 2 * y.shape[2] * y.shape[3]
    assert count_macs(region, machine) == y.shape[2] * y.shape[3] * 40 * 3 * int(np.prod(options["kernel"]))


def bipolar_net(b: Builder) -> Tensor:
    """Weights and activations of -1 and +1; scores of 16 bits."""
    x = b.conv(
        b.input(20, 9, 9, dtype="int8", bits=1),
        70,
        (3, 3),
        padding=(1, 1, 1, 1),
        dtype="int8",
        bits=1,
        w_bits=1,
    )
    x = b.max_pool(x, (2, 2), (2, 2))
    y = b.conv(x, 33, (1, 1), dtype="int8", bits=1, w_bits=1)
    z = b.layout(
        [CONCAT],
        b.conv(y, 64, (3, 3), dtype="int8", bits=1, w_bits=1, strides=(2, 2)),
        b.max_pool(y, (4, 4), (1, 1)),
    )
    return b.dense(b.layout([LayoutStep("reshape", ((1, 97),))], z), 30, "int16", w_bits=1)


@pytest.mark.parametrize("name", ["ultra96-w1", "ultra96-w4", "ultra96-w8"])
def test_bipolar_network(name: str) -> None:
    """As bits on an overlay of 1 bit, elsewhere as signed values."""
    b = Builder(7)
    check(b, b.graph(bipolar_net(b)), overlay(name))


@pytest.mark.parametrize("bits", [2, 4, 8, 16])
def test_sums_of_one_bit_leave_in_as_many_planes_as_they_need(bits: int) -> None:
    b = Builder(8)
    x = b.input(33, 5, 5, dtype="int8", bits=1)
    kinds: tuple[DType, ...] = ("int16", "uint16") if bits == 16 else ("int8", "uint8")
    outputs = [b.conv(x, 40, (2, 2), dtype=dtype, bits=bits, w_bits=1) for dtype in kinds]
    check(b, b.graph(*outputs), overlay("ultra96-w1"))
