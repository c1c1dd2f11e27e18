"""Multipliers of results of few bits: every reachable sum gives what the float definition gives."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tilewright.relay_passes.requantise import requantise
from tilewright.relay_passes.thresholds import FLOAT_ERROR, float_target, match, match_pair
from tilewright.relay_passes.values import Quant
from tilewright.targets.arithmetic import rne

SUMS = 3000


@settings(max_examples=150, deadline=None, derandomize=True)
@given(st.data())
def test_every_sum_of_the_range(data: st.DataObject) -> None:
    """Random and exact ratios; exact halves included, but not those that are halves by a rounding of float32."""
    bits, signed = data.draw(st.integers(1, 4)), data.draw(st.booleans())
    low = -(1 << (bits - 1)) if signed else 0
    lo, hi = low, low + (1 << bits) - 1
    scale = np.float32(data.draw(st.floats(0.01, 2.0)))
    exact = data.draw(st.booleans())
    scale = np.float32(2.0 ** data.draw(st.integers(-9, 3))) if exact else scale
    unit = data.draw(st.integers(1, 300)) * 2.0 ** -data.draw(st.integers(3, 9)) * float(scale)
    if not exact:
        unit = float(np.float32(data.draw(st.floats(1e-4, 0.9))))
    unit *= data.draw(st.sampled_from((1, -1)))
    offset = data.draw(st.integers(-40, 40)) * abs(unit) if exact else data.draw(st.floats(-5, 5))
    quant = Quant(float(scale), 0, "int8" if signed else "uint8")
    q = requantise([unit / float(scale)], [offset / unit], quant)
    target = float_target(np.array([unit]), np.array([offset]), float(scale), 0, (lo, hi))
    reach = np.array([-SUMS]), np.array([SUMS])
    found = match(q.m, q.s, q.b, target, (lo, hi), reach)
    assert not found.failed.any()
    acc = np.arange(-SUMS, SUMS + 1)[None]
    y = np.clip(rne(acc * found.m + found.b, q.s), lo, hi)
    sure = target(acc, FLOAT_ERROR) == target(acc, -FLOAT_ERROR)
    np.testing.assert_array_equal(y[sure], target(acc)[sure])
    assert (sure | ((y >= target(acc, -FLOAT_ERROR)) & (y <= target(acc, FLOAT_ERROR)))).all()
    if exact:
        np.testing.assert_array_equal(y, target(acc))


def test_a_wrong_start_is_put_right() -> None:
    """The nearest multiplier may give other thresholds than the definition: m and b here are some sums off."""
    target = float_target(np.array([0.37]), np.array([1.3]), 1.7, 0, (0, 15))
    s = np.array([20])
    m = np.rint(0.37 / 1.7 * 2.0**s).astype(np.int64)
    found = match(m, s, np.array([9 << 20]), target, (0, 15), (np.array([-500]), np.array([500])))
    acc = np.arange(-500, 501)[None]
    assert not found.failed.any()
    np.testing.assert_array_equal(np.clip(rne(acc * found.m + found.b, s), 0, 15), target(acc))


@pytest.mark.parametrize("zero", [0, 1])
def test_halves_that_go_both_ways_need_an_even_zero_point(zero: int) -> None:
    """ONNX rounds to even before the zero point is added, the machine behind it."""
    target = float_target(np.array([0.5]), np.array([0.0]), 1.0, zero, (0, 15))
    s = np.array([22])
    found = match(
        np.array([1 << 21]), s, np.array([zero << 22]), target, (0, 15), (np.zeros(1, int), np.array([40]))
    )
    assert found.failed.tolist() == [bool(zero)]


@settings(max_examples=60, deadline=None, derandomize=True)
@given(st.data())
def test_every_pair_of_a_sum(data: st.DataObject) -> None:
    """Of scales that are equal, powers of two or random."""
    scales = [
        data.draw(st.one_of(st.floats(0.01, 1.0), st.sampled_from((0.125, 0.25, 0.5)))) for _ in range(3)
    ]
    if data.draw(st.booleans()):
        scales[1] = scales[0]
    sa, sb, sy = (float(np.float32(v)) for v in scales)
    a, b = np.arange(16) - data.draw(st.integers(0, 15)), np.arange(-8, 8)
    zero = 2 * data.draw(st.integers(0, 3))
    s = int(requantise(max(sa, sb) / sy, 0, Quant(sy, zero, "uint8")).s[0])
    m, m2 = (int(np.rint(np.ldexp(v / sy, s))) for v in (sa, sb))
    found = match_pair((m, m2), s, zero << s, (a, b), (sa, sb), 0.0, (sy, zero), (0, 15))
    assert found is not None
    y = np.clip(rne(a[:, None] * found[0] + b * found[1] + found[2], s), 0, 15)
    real = (a[:, None] * sa + b * sb).astype(np.float32)
    want = np.clip(np.rint(real / np.float32(sy)) + zero, 0, 15)
    steps = real.astype(np.float64) / sy
    near = np.abs(steps - np.floor(steps) - 0.5) < 1e-5
    np.testing.assert_array_equal(y[~near], want[~near])
    if all(v in (0.125, 0.25, 0.5) for v in (sa, sb, sy)):
        np.testing.assert_array_equal(y, want)
