"""Blocks as DiracDeltaNet has them: shifts, shuffles, splits and concats take no instruction, shifts no cycle."""

from __future__ import annotations

from collections import Counter

import numpy as np
import pytest
from tests.codegen.build import CONCAT, Builder
from tests.codegen.evaluate import evaluate_graph, run_region
from tests.codegen.test_displacement import TARGETS, moves

from tilewright.codegen.compile import compile_region
from tilewright.codegen.graph import Graph, Tensor
from tilewright.codegen.layers import VectorLayer
from tilewright.codegen.lower import lower
from tilewright.integer.ops import LayoutStep
from tilewright.targets.config import overlay
from tilewright.targets.isa.codec import decode_stream
from tilewright.targets.isa.spec import Load, Memory
from tilewright.targets.region import CompiledRegion
from tilewright.targets.sim import fast, reference
from tilewright.targets.sim.program import Program
from tilewright.targets.sim.stepping import step_through
from tilewright.targets.sim.timing import run


def channels(b: Builder, x: Tensor, first: int, stop: int) -> Tensor:
    _, _, height, width = x.shape
    return b.layout([LayoutStep("slice", ((0, first, 0, 0), (1, stop, height, width), (1, 1, 1, 1)))], x)


def block(
    b: Builder, x: Tensor, count: int, shift: bool, *, first: bool = False, split: bool = True
) -> Tensor:
    """Halves; one passes (or is halved by a pool and a convolution), the other is shifted between two convolutions."""
    half = count // 2
    low, high = (channels(b, x, 0, half), channels(b, x, half, count)) if split else (x, x)
    if first:
        low = b.conv(b.max_pool(low, (2, 2), (2, 2)), half, (1, 1))
    y = b.conv(high, count, (1, 1))
    if first:
        y = b.max_pool(y, (2, 2), (2, 2))
    y = b.conv(b.shift(y, moves(count)) if shift else y, half, (1, 1))
    joined = b.layout([CONCAT], low, y)
    quarter = count // 4
    return b.layout([CONCAT], channels(b, joined, 3 * quarter, count), channels(b, joined, 0, 3 * quarter))


def network(size: int, stages: tuple[tuple[int, int], ...], shift: bool) -> tuple[Builder, Graph]:
    """A convolution, stages of (channels, blocks), a convolution."""
    b = Builder(5)
    x = b.conv(b.input(8, size, size), stages[0][0], (1, 1))
    for count, blocks in stages:
        for number in range(blocks):
            x = block(b, x, count, shift, first=not number, split=number > 0 or x.shape[1] == count)
    return b, b.graph(b.conv(x, 64, (1, 1)))


def program(region: CompiledRegion, target: str) -> Program:
    return Program(region.stream, overlay(target), [region.layers[i] for i in region.layer_of])


SMALL = (13, ((32, 2), (64, 2)))


@pytest.mark.parametrize("target", TARGETS)
def test_all_levels_agree(target: str) -> None:
    b, graph = network(*SMALL, True)
    feeds = b.feeds()
    expected = evaluate_graph(graph, feeds)
    region = compile_region(graph, overlay(target))
    for simulator in (reference.run, fast.run):
        found = run_region(region, overlay(target), feeds, simulator)
        for tensor in graph.outputs:
            np.testing.assert_array_equal(found[tensor.name], expected[tensor.name])
    timing, stepped = run(program(region, target)), step_through(program(region, target))
    assert timing.cycles == stepped.cycles


@pytest.mark.parametrize("target", TARGETS)
def test_layouts_take_no_layer(target: str) -> None:
    """Layers are the convolutions, and the pools that do not take a convolution's sums."""
    _, graph = network(*SMALL, True)
    kinds = Counter(node.operator.kind for node in graph.nodes)
    assert kinds["layout"] == 2 * 3 + 4 * 4 and kinds["shift"] == 4
    layers = lower(graph, overlay(target)).layers
    assert all(layer.counted for layer in layers)
    pools = sum(isinstance(layer, VectorLayer) for layer in layers)
    assert len(layers) == kinds["conv2d"] + pools and pools < kinds["max_pool2d"]


@pytest.mark.parametrize("target", TARGETS)
def test_a_shift_takes_no_cycle(target: str) -> None:
    """The instructions are the same but for one LOAD of the displacement table; so is the time, to 1 %."""
    streams, cycles = [], []
    for shift in (False, True):
        _, graph = network(56, ((128, 3), (256, 3)), shift)
        region = compile_region(graph, overlay(target))
        streams.append(decode_stream(region.stream))
        cycles.append(run(program(region, target)).cycles)
    tables = [i for i in streams[1] if isinstance(i, Load) and i.memory == Memory.DISP]
    assert len(tables) == 1
    assert abs(cycles[1] - cycles[0]) < 0.01 * cycles[0], cycles
