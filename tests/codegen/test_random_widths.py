"""Random regions of mixed widths on every overlay: both simulators equal the operators bit for bit."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.codegen.build import CONCAT, Builder, shuffle
from tests.codegen.evaluate import evaluate_graph, run_region

from tilewright.codegen.compile import compile_region
from tilewright.codegen.graph import Graph, Tensor
from tilewright.codegen.legal import check
from tilewright.integer.ops import DType, LayoutStep
from tilewright.targets.config import overlay
from tilewright.targets.sim import fast, reference

OVERLAYS = ("ultra96-w4", "ultra96-w4x", "ultra96-a8w4", "pynq-z1-w4", "ultra96-w8")
KINDS = ("conv", "conv", "depthwise", "max", "average", "add", "concat", "split", "shuffle", "shift")
COMMON: dict[str, Any] = {"deadline": None, "derandomize": True}


def network(data: st.DataObject) -> tuple[Builder, Graph]:
    """A chain with branches; all maps have one size, so that any two may meet."""
    b = Builder(data.draw(st.integers(0, 99)))
    widths = st.sampled_from((2, 4, 8))
    types: st.SearchStrategy[DType] = st.sampled_from(("uint8", "int8"))
    size = data.draw(st.integers(3, 9)), data.draw(st.integers(3, 9))
    first = b.input(data.draw(st.integers(1, 40)), *size, dtype=data.draw(types), bits=data.draw(widths))
    maps: list[Tensor] = [first]
    for _ in range(data.draw(st.integers(1, 5))):
        x, other = (maps[-1 - data.draw(st.integers(0, min(2, len(maps) - 1)))] for _ in range(2))
        dtype: DType = data.draw(types)
        kind, bits = data.draw(st.sampled_from(KINDS)), data.draw(widths)
        channels = x.shape[1]
        if kind == "conv":
            k = data.draw(st.sampled_from((1, 3)))
            pads = (k // 2,) * 4
            w_bits = data.draw(st.integers(2, 9))
            options: dict[str, Any] = {"wide": True} if w_bits == 9 else {"w_bits": w_bits}
            x = b.conv(
                x, data.draw(st.integers(1, 70)), (k, k), padding=pads, dtype=dtype, bits=bits, **options
            )
        elif kind == "depthwise" and channels > 1:
            x = b.conv(x, channels, (3, 3), padding=(1, 1, 1, 1), groups=channels, dtype=dtype, bits=bits)
        elif kind == "max":
            x = b.max_pool(x, (3, 3), (1, 1), (1, 1, 1, 1))
        elif kind == "average":
            x = b.sum_pool(x, (3, 3), (1, 1), (1, 1, 1, 1), dtype=dtype, bits=bits)
        elif kind == "add" and other.shape == x.shape:
            x = b.add(x, other, dtype, bits)
        elif kind == "concat" and other.dtype == x.dtype:
            x = b.layout([CONCAT], x, other)
        elif kind == "split" and channels > 1:
            half = LayoutStep("slice", ((0, channels // 2, 0, 0), (1, channels, *size), (1, 1, 1, 1)))
            x = b.layout([half], x)
        elif kind == "shuffle" and channels % 2 == 0:
            x = b.layout(shuffle(2, x.shape), x)
        elif kind == "shift":
            x = b.shift(x, b.rng.integers(-1, 2, (channels, 2)), zero_point=b.zero(x))
        maps.append(x)
    b.conv(maps[-1], 9, (1, 1), dtype="int16")
    read = {t.name for node in b.nodes for t in node.inputs}
    return b, b.graph(*(node.output for node in b.nodes if node.output.name not in read))


def agree(b: Builder, graph: Graph, name: str) -> None:
    machine = overlay(name)
    if not all(check(node, machine) for node in graph.nodes):
        return
    feeds = b.feeds()
    expected = evaluate_graph(graph, feeds)
    region = compile_region(graph, machine)
    for run in (reference.run, fast.run):
        found = run_region(region, machine, feeds, run)
        for tensor in graph.outputs:
            np.testing.assert_array_equal(found[tensor.name], expected[tensor.name], err_msg=tensor.name)


@settings(max_examples=20, **COMMON)
@given(st.data(), st.sampled_from(OVERLAYS))
def test_some(data: st.DataObject, name: str) -> None:
    agree(*network(data), name)


@pytest.mark.slow
@settings(max_examples=200, **COMMON)
@given(st.data(), st.sampled_from(OVERLAYS))
def test_many(data: st.DataObject, name: str) -> None:
    agree(*network(data), name)
