"""Layers of 1 bit against their definition by XNOR and popcount: sum of products = agreements - disagreements."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.codegen.evaluate import run_region

from tilewright.codegen.compile import compile_region
from tilewright.codegen.graph import Graph, Node, Tensor
from tilewright.integer import ops
from tilewright.targets.config import overlay
from tilewright.targets.sim import fast, reference
from tilewright.targets.storage import Range

SIGNS = Range(-1, 1, 2)


def bits(signs: np.ndarray) -> int:
    """A vector of -1 and +1 as a number, bit i for element i."""
    return sum(1 << i for i, v in enumerate(signs.tolist()) if v > 0)


def xnor_popcount(a: np.ndarray, b: np.ndarray) -> int:
    agreements = len(a) - bin(bits(a) ^ bits(b)).count("1")
    return 2 * agreements - len(a)


def whole(channels: int, dims: int) -> ops.Rescale:
    """A result that is the sum itself."""
    m, s, b = (np.full((channels, 1, 1)[:dims], v, np.int64) for v in (2, 1, 0))
    return ops.Rescale(m, s, b, -(1 << 15), (1 << 15) - 1, "int16")


@settings(max_examples=25, deadline=None, derandomize=True)
@given(st.integers(1, 400), st.integers(1, 140), st.integers(0, 99))
def test_dense(inputs: int, outputs: int, seed: int) -> None:
    """Numbers of inputs that fill no half word, odd ones among them."""
    rng = np.random.default_rng(seed)
    w, x = (2 * rng.integers(0, 2, shape) - 1 for shape in ((outputs, inputs), (1, inputs)))
    source = Tensor("x", (1, inputs), "int8", SIGNS)
    result = Tensor("y", (1, outputs), "int16")
    node = Node("dense", ops.Dense(w.astype(np.int8), 0, whole(outputs, 1)), (source,), result)
    machine = overlay("ultra96-w1")
    region = compile_region(Graph("r", (source,), (result,), (node,)), machine)
    expected = [xnor_popcount(x[0], row) for row in w]
    for run in (reference.run, fast.run):
        assert run_region(region, machine, {"x": x.astype(np.int8)}, run)["y"][0].tolist() == expected


@pytest.mark.parametrize(("channels", "pad"), [(6, 1), (130, 1), (5, 0)])
def test_taps_outside_of_the_map_count_for_nothing(channels: int, pad: int) -> None:
    rng = np.random.default_rng(channels)
    w = 2 * rng.integers(0, 2, (9, channels, 3, 3)) - 1
    x = 2 * rng.integers(0, 2, (1, channels, 5, 6)) - 1
    size = (3 + 2 * pad, 4 + 2 * pad)
    source = Tensor("x", x.shape, "int8", SIGNS)
    result = Tensor("y", (1, 9, *size), "int16")
    operator = ops.Conv2d(w.astype(np.int8), 0, whole(9, 3), padding=(pad, pad, pad, pad))
    machine = overlay("ultra96-w1")
    node = Node("conv", operator, (source,), result)
    region = compile_region(Graph("r", (source,), (result,), (node,)), machine)
    expected = np.zeros((9, *size), np.int64)
    for o, y, i in np.ndindex(*expected.shape):
        for ky, kx in np.ndindex(3, 3):
            py, px = y + ky - pad, i + kx - pad
            if 0 <= py < 5 and 0 <= px < 6:
                expected[o, y, i] += xnor_popcount(x[0, :, py, px], w[o, :, ky, kx])
    for run in (reference.run, fast.run):
        np.testing.assert_array_equal(
            run_region(region, machine, {"x": x.astype(np.int8)}, run)["y"][0], expected
        )
