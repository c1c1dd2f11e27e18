"""First layers with kernel columns packed into lanes: exact results, counted steps, and when they are packed."""

from __future__ import annotations

import math
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.codegen.build import CONCAT, Builder
from tests.codegen.evaluate import evaluate_graph, run_region
from tests.codegen.test_macs import graph_macs

from tilewright.codegen.compile import compile_region
from tilewright.codegen.graph import Graph, Tensor
from tilewright.codegen.macs import count_macs
from tilewright.report.bound import Limits, matrix_cycles
from tilewright.targets.config import Overlay, overlay
from tilewright.targets.isa.codec import decode_stream
from tilewright.targets.isa.spec import Matrix
from tilewright.targets.region import CompiledRegion, Packing
from tilewright.targets.sim import fast, reference

OVERLAYS = ("ultra96-w8", "pynq-z1-w8")


def steps(region: CompiledRegion) -> int:
    """Steps of MATRIX that the stream makes."""
    return sum(
        i.n_oc * i.n_ic * i.n_ky * i.n_kx * i.n_y * i.n_x
        for i in decode_stream(region.stream)
        if isinstance(i, Matrix)
    )


def check(b: Builder, graph: Graph, machine: Overlay) -> CompiledRegion:
    """Reference and fast simulator equal exact integers; MACs are the graph's."""
    feeds = b.feeds()
    expected = evaluate_graph(graph, feeds)
    region = compile_region(graph, machine)
    for run in (reference.run, fast.run):
        found = run_region(region, machine, feeds, run)
        for tensor in graph.outputs:
            np.testing.assert_array_equal(found[tensor.name], expected[tensor.name])
    assert count_macs(region, machine) == graph_macs(graph)
    return region


STEMS: list[tuple[int, dict[str, Any], int]] = [
    (3, {"outputs": 40, "kernel": (7, 7), "strides": (2, 2), "padding": (3, 3, 3, 3)}, 7 * 2),
    (3, {"outputs": 32, "kernel": (3, 3), "strides": (2, 2), "padding": (0, 0, 1, 1)}, 3),
    (3, {"outputs": 32, "kernel": (3, 3), "padding": (1, 1, 1, 1), "wide": True}, 3 * 2),
    (3, {"outputs": 20, "kernel": (11, 11), "strides": (4, 4), "prelu": True}, 11 * 3),
    (1, {"outputs": 20, "kernel": (5, 5)}, 5),
    (1, {"outputs": 8, "kernel": (4, 10), "strides": (2, 2), "padding": (1, 5, 1, 5)}, 4),
    (2, {"outputs": 6, "kernel": (3, 4), "dilation": (2, 3), "padding": (2, 5, 2, 4)}, 3),
    (4, {"outputs": 8, "kernel": (3, 3), "groups": 2, "padding": (1, 1, 1, 1)}, 3),
    (20, {"outputs": 8, "kernel": (3, 3), "strides": (3, 3)}, 3 * 4),
]


@pytest.mark.parametrize("name", OVERLAYS)
@pytest.mark.parametrize("dtype", ["int8", "uint8"])
@pytest.mark.parametrize(("channels", "options", "each"), STEMS, ids=str)
def test_stems(channels: int, options: dict[str, Any], each: int, dtype: Any, name: str) -> None:
    """`each`: steps for one vector of outputs; weights of nine bits are two passes."""
    machine = overlay(name)
    b = Builder(3)
    y = b.conv(b.input(channels, 17, 23, dtype=dtype), **options)
    region = check(b, b.graph(y), machine)
    assert region.inputs[0].packing is not None
    vectors = -(-y.shape[1] // machine.block_out)
    assert steps(region) == each * vectors * math.prod(y.shape[2:])


SINGLE: list[tuple[int, tuple[int, int], dict[tuple[int, ...], int], int]] = [
    (3, (3, 3), {(1, 2, 0, 1): 140, (9, 2, 0, 1): -150}, 3),  # the same value twice for both
    (3, (3, 3), {(i, c, 0, x): 200 for i, (c, x) in enumerate(np.ndindex(3, 2))}, 3),  # 6 of 7 free lanes
    (
        3,
        (3, 3),
        {(0, c, 1, x): -200 for c, x in np.ndindex(3, 3)},
        3 + 1,
    ),  # too many: a part with one kernel row
    (8, (3, 2), {(0, 0, 2, 0): 255}, 3 + 2),  # no lane is free, and two parts more are needed
]


@pytest.mark.parametrize("name", OVERLAYS)
@pytest.mark.parametrize(("channels", "kernel", "single", "each"), SINGLE, ids=range(len(SINGLE)))
def test_single_weights_beyond_the_array(
    channels: int, kernel: tuple[int, int], single: dict[tuple[int, ...], int], each: int, name: str
) -> None:
    """Values lie in two lanes where lanes are free; else steps are made for rows of the kernel that need them."""
    b = Builder(4)
    x = b.input(channels, 17, 23, dtype="int8")
    y = b.conv(x, 20, kernel, strides=(2, 2), padding=(1, 1, 1, 1), single=single)
    region = check(b, b.graph(y), overlay(name))
    assert steps(region) == each * math.prod(y.shape[2:])
    lanes = [lane for lane in region.inputs[0].lanes if lane >= 0]
    doubled = len({(c, x) for _, c, _, x in single}) if each == 3 else 0
    assert len(lanes) - len(set(lanes)) == doubled


@pytest.mark.parametrize("name", OVERLAYS)
@pytest.mark.parametrize(("channels", "options"), [s[:2] for s in STEMS if "groups" not in s[1]], ids=str)
def test_the_rule_reaches_the_bounds_steps(channels: int, options: dict[str, Any], name: str) -> None:
    machine = overlay(name)
    b = Builder(3)
    graph = b.graph(b.conv(b.input(channels, 17, 23), **options | {"wide": False}))
    (node,) = graph.nodes
    least = matrix_cycles(node, Limits.of(machine), packed=True)
    assert (
        steps(compile_region(graph, machine)) == least < matrix_cycles(node, Limits.of(machine), packed=False)
    )


def test_the_packing_of_a_7x7_of_stride_2() -> None:
    b = Builder(1)
    x = b.input(3, 30, 40, dtype="int8")
    graph = b.graph(b.conv(x, 64, (7, 7), strides=(2, 2), padding=(3, 3, 3, 3)))
    (layout,) = compile_region(graph, overlay("ultra96-w8")).inputs
    zero = graph.nodes[0].operator.zero_point + 128  # type: ignore[attr-defined]
    assert layout.packing == Packing(22, 30, taps=4, stride=2, offset=-3, fill=zero)
    assert layout.lanes == (*range(12), *[-1] * 4)


def is_packed(graph: Graph, machine: Overlay) -> list[bool]:
    return [layout.packing is not None for layout in compile_region(graph, machine).inputs]


def stem(b: Builder, x: Tensor) -> Tensor:
    return b.conv(x, 16, (3, 3), padding=(1, 1, 1, 1))


@pytest.mark.parametrize("name", OVERLAYS)
def test_inputs_that_something_else_reads_are_not_packed(name: str) -> None:
    machine = overlay(name)

    def one(b: Builder, x: Tensor) -> Graph:
        return b.graph(stem(b, x))

    def two(b: Builder, x: Tensor) -> Graph:
        return b.graph(stem(b, x), stem(b, x))

    def result(b: Builder, x: Tensor) -> Graph:
        graph = b.graph(stem(b, x))
        return replace(graph, outputs=(*graph.outputs, x))

    def layout(b: Builder, x: Tensor) -> Graph:
        return b.graph(stem(b, b.layout([CONCAT], x, b.input(3, 9, 9))))

    def pool(b: Builder, x: Tensor) -> Graph:
        return b.graph(b.max_pool(x, (3, 3), (1, 1)))

    def both(b: Builder, x: Tensor) -> Graph:
        return b.graph(b.add(stem(b, x), stem(b, b.input(3, 9, 9))))

    makers = {
        one: [True],
        two: [False],
        result: [False],
        layout: [False, False],
        pool: [False],
        both: [True] * 2,
    }
    for make, expected in makers.items():
        b = Builder(2)
        graph = make(b, b.input(3, 9, 9))
        assert is_packed(graph, machine) == expected, make.__name__
        check(b, graph, machine)


@pytest.mark.parametrize("name", OVERLAYS)
def test_maps_that_gain_no_step_stay_as_they_are(name: str) -> None:
    for channels, kernel in ((16, (3, 3)), (32, (1, 5)), (3, (5, 1)), (3, (1, 1)), (15, (1, 2))):
        b = Builder(1)
        assert is_packed(b.graph(b.conv(b.input(channels, 9, 9), 8, kernel)), overlay(name)) == [False]


def test_a_larger_map_that_dram_cannot_bring_in_time_is_left() -> None:
    """1x3 over 9 channels: 27 lanes, so two half words a pixel in place of one, for 2 steps in place of 3."""
    b = Builder(1)
    graph = b.graph(b.conv(b.input(9, 20, 20), 8, (1, 3)))
    machine = overlay("ultra96-w8")
    (layout,) = compile_region(graph, machine).inputs
    assert layout.packing is not None and len(layout.lanes) == 2 * machine.block_in
    slow = replace(machine, board=replace(machine.board, dram_read_bytes_per_cycle=1))
    assert is_packed(graph, slow) == [False]


@settings(max_examples=60, deadline=None, derandomize=True)
@given(st.data(), st.sampled_from(OVERLAYS))
def test_random_stems(data: st.DataObject, name: str) -> None:
    def pair(low: int, high: int) -> tuple[int, int]:
        return data.draw(st.integers(low, high)), data.draw(st.integers(low, high))

    kernel, dilation = pair(1, 8), pair(1, 3)
    pads = (*pair(0, 6), *pair(0, 6))
    least = [
        (k - 1) * d + 1 - before - after
        for k, d, before, after in zip(kernel, dilation, pads, pads[2:], strict=False)
    ]
    size = [max(1, n) + data.draw(st.integers(0, 9)) for n in least]
    groups = data.draw(st.sampled_from((1, 1, 1, 2, 3)))
    channels, outputs = (groups * data.draw(st.integers(1, n)) for n in (4, 12))
    if groups == channels == outputs:  # depthwise, which VECTOR does
        outputs += groups
    b = Builder(data.draw(st.integers(0, 99)))
    x = b.input(channels, *size, dtype=data.draw(st.sampled_from(("int8", "uint8"))))
    y = b.conv(x, outputs, kernel, strides=pair(1, 4), padding=pads, dilation=dilation, groups=groups,
               wide=data.draw(st.booleans()))  # fmt: skip
    check(b, b.graph(y), overlay(name))
