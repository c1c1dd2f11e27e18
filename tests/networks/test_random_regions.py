"""Random regions of the integer level: exact integers, reference and fast simulator agree.

Cheaper than whole networks, for nothing is compiled by llvm: many more shapes come to trial.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tests.codegen.build import CONCAT, Builder, shuffle
from tests.codegen.evaluate import evaluate_graph, run_region
from tests.networks.random_graphs import LayerPlan, NetworkPlan, plans, shift_moves

from tilewright.codegen.compile import compile_region
from tilewright.codegen.graph import Graph, Tensor
from tilewright.integer.ops import LayoutStep
from tilewright.targets.config import overlay
from tilewright.targets.sim import fast, reference

OVERLAYS = st.sampled_from(("ultra96-w8", "pynq-z1-w8"))
COMMON: dict[str, Any] = {"deadline": None, "derandomize": True, "suppress_health_check": list(HealthCheck)}
PLAIN = ("", "PRelu")


def touches(p: LayerPlan, size: tuple[int, int]) -> bool:
    """Whether every window of a convolution has a tap inside the map; depthwise units need one."""
    for axis in range(2):
        n, k, s, d = size[axis], p.kernel[axis], p.strides[axis], p.dilation[axis]
        before, after = p.pads[axis], p.pads[axis + 2]
        starts = range(-before, n + after - (k - 1) * d, s)
        if not all(any(0 <= first + i * d < n for i in range(k)) for first in starts):
            return False
    return True


class Region:
    """Follows a plan as far as its layers fit."""

    def __init__(self, plan: NetworkPlan) -> None:
        self.b = Builder(plan.seed)
        self.maps = [self.b.input(*plan.shape, dtype=plan.dtype)]
        if plan.seed % 2:
            self.maps.append(self.b.input(*plan.shape, dtype=plan.dtype))
        for layer in plan.layers:
            result = self._layer(layer, self.maps[-1 - min(layer.source, len(self.maps) - 1)])
            if result is not None:
                self.maps.append(result)

    def graph(self) -> Graph:
        """The region; maps that nothing reads are its results, and inputs that nothing reads are none."""
        read = {t.name for node in self.b.nodes for t in node.inputs}
        if not self.b.nodes:
            return self.b.graph(self.b.table(self.maps[0]))
        graph = self.b.graph(*(m for m in self.maps if m.name not in read and m not in self.b.inputs))
        return Graph(graph.name, tuple(t for t in graph.inputs if t.name in read), graph.outputs, graph.nodes)

    def _layer(self, p: LayerPlan, x: Tensor) -> Tensor | None:
        _, channels, height, width = x.shape
        b = self.b
        room = (height + p.pads[0] + p.pads[2], width + p.pads[1] + p.pads[3])
        dilated = tuple((k - 1) * d + 1 for k, d in zip(p.kernel, p.dilation, strict=True))
        fits = all(k <= r for k, r in zip(dilated, room, strict=True))
        plain = all(k <= r for k, r in zip(p.kernel, room, strict=True))
        window = {
            "strides": p.strides,
            "padding": p.pads,
            "dilation": p.dilation,
            "prelu": p.after == "PRelu",
        }
        same = [m for m in self.maps if m.shape == x.shape and m.dtype == x.dtype]
        y = same[-1 - min(p.other, len(same) - 1)]
        match p.kind:
            case "conv" if fits and (channels > 1 or p.channels > 1 or touches(p, (height, width))):
                return b.conv(x, p.channels, p.kernel, **window, wide=p.other == 3)  # type: ignore[arg-type]
            case "grouped" if fits and touches(p, (height, width)):
                groups = next(g for g in (4, 3, 2, 1) if channels % g == 0)
                outputs = groups * max(1, p.channels // groups)
                return b.conv(x, outputs, p.kernel, **window, groups=groups)  # type: ignore[arg-type]
            case "depthwise" if fits and touches(p, (height, width)):
                return b.conv(x, channels, p.kernel, **window, groups=channels)  # type: ignore[arg-type]
            case "transposed" if max(height * p.strides[0], width * p.strides[1]) < 24:
                return b.conv_transpose(x, p.channels, p.kernel, p.strides, (0, 0, 0, 0))
            case "max" if plain and max(p.pads) < min(p.kernel):
                return b.max_pool(x, p.kernel, p.strides, p.pads)
            case "average" if plain and max(p.pads) < min(p.kernel):
                return b.sum_pool(x, p.kernel, p.strides, p.pads, clipped=p.other % 2 == 1)
            case "global":
                return b.sum_pool(x, (height, width), (1, 1))
            case "add":
                return b.add(x, y)
            case "multiply":
                return b.multiply(x, y)
            case "concat" if 2 * channels <= 72:
                return b.layout([CONCAT], x, y)
            case "slice":
                first = p.channels % channels
                return b.layout([LayoutStep("slice", ((0, first, 0, 0), x.shape, (1, 1, 1, 1)))], x)
            case "shuffle":
                return b.layout(shuffle(next(g for g in (4, 3, 2, 1) if channels % g == 0), x.shape), x)
            case "resize" if max(height, width) <= 12:
                return b.layout([LayoutStep("repeat", ((1, 1, 2, 2),))], x)
            case "shift":
                y = b.shift(x, shift_moves(p, channels), p.strides)
                return y if p.other % 2 else b.conv(y, p.channels, (1, 1))
            case "dense" if height == width == 1:
                return None
            case _:
                return b.table(x, x.dtype)


def check(plan: NetworkPlan, target: str) -> None:
    """Compile for an overlay and compare with exact integers."""
    region = Region(plan)
    graph, machine = region.graph(), overlay(target)
    feeds = region.b.feeds()
    expected = evaluate_graph(graph, feeds)
    compiled = compile_region(graph, machine)
    for simulator in (reference.run, fast.run):
        found = run_region(compiled, machine, feeds, simulator)
        for tensor in graph.outputs:
            np.testing.assert_array_equal(found[tensor.name], expected[tensor.name], err_msg=tensor.name)


@settings(max_examples=40, **COMMON)
@given(plans(6), OVERLAYS)
def test_small_regions(plan: NetworkPlan, target: str) -> None:
    check(plan, target)


@pytest.mark.slow
@settings(max_examples=400, **COMMON)
@given(plans(12), OVERLAYS)
def test_regions(plan: NetworkPlan, target: str) -> None:
    check(plan, target)
