"""m, s and b against exact fractions, and the machine's own B within its 48 bits."""

from __future__ import annotations

from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tilewright.integer.ops import storage_offset
from tilewright.relay_passes.requantise import requantise
from tilewright.relay_passes.values import Quant
from tilewright.targets.arithmetic import rne

REAL = st.floats(1e-9, 100.0)


@settings(max_examples=300, deadline=None, derandomize=True)
@given(
    ratio=REAL,
    sign=st.sampled_from([-1, 1]),
    bias=st.floats(-(2.0**31), 2.0**31),
    zero_point=st.integers(-128, 127),
    raw_zero=st.integers(-(1 << 24), 1 << 24),
    slope=st.none() | st.floats(-2.0, 4.0),
    acc=st.integers(-(1 << 30), 1 << 30),
)
def test_against_fractions(
    ratio: float, sign: int, bias: float, zero_point: int, raw_zero: int, slope: float | None, acc: int
) -> None:
    """Within a step of the exact value clipped to 8 bits, half a step being the rounding's own.

    m has 24 bits, so the error is below |value| * 2^-23, and values beyond 255 + 128 are clipped alike; where B does
    not fit, m loses bits of a channel whose bias outweighs all sums.
    """
    out = Quant(1.0, zero_point, "int8")
    r = requantise(sign * ratio, bias, out, raw_zero, slope)
    m, s, b = int(r.m[0]), int(r.s[0]), int(r.b[0])
    assert abs(m) < 1 << 24 and 1 <= s <= 62
    offset = storage_offset("int8")
    assert abs(b - m * raw_zero + (offset << s)) < 1 << 47
    exact = (Fraction(acc) + Fraction(bias)) * Fraction(sign * ratio)
    p = acc * m + b
    if slope is not None:
        assert r.m_neg is not None and r.b_neg is not None
        m2, b2 = int(r.m_neg[0]), int(r.b_neg[0])
        assert abs(m2) < 1 << 24
        assert abs(b2 - m2 * raw_zero + (offset << s)) < 1 << 47
        exact = exact * Fraction(slope) if exact < 0 else exact
        p = acc * m2 + b2 if p < zero_point << s else p
    if m == 0:
        return  # a constant channel: see below
    want = min(max(exact + zero_point, Fraction(-128)), Fraction(127))
    got = min(max(int(rne(p, s)), -128), 127)
    lost = Fraction(abs(acc) + abs(bias)) / (1 << max(0, int(np.log2(max(abs(m), 1)))))
    assert abs(got - want) <= Fraction(1, 2) + lost * Fraction(ratio) * Fraction(
        max(1.0, abs(slope or 1.0))
    ) + Fraction(1, 100)


@pytest.mark.parametrize(
    ("ratio", "bias", "want"),
    [(1e-12, 2.0**30, 3), (0.0, 5.0, 3), (1.0, 2.0**41, 1 << 40), (1e-11, 2.0**41, 25)],
)
def test_dead_channels_become_constants(ratio: float, bias: float, want: int) -> None:
    r = requantise(ratio, bias, Quant(1.0, 3, "uint8"))
    assert r.m.tolist() == [0] or ratio == 1e-12
    assert min(int(rne(r.b, r.s)[0]), 255) == min(want, 255)


def test_fraction_of_bias_is_kept() -> None:
    """0.5 of a unit that is worth 3 steps is a step and a half."""
    r = requantise(3.0, 0.5, Quant(1.0, 0, "uint8"))
    assert int(r.b[0]) / 2 ** int(r.s[0]) == 1.5


def test_room_for_the_phases_of_a_transposed_convolution() -> None:
    """Each phase's B fits 48 bits, wherever within `spread` its zero points' part lies."""
    raw, spread, top = 1000, 1 << 22, 1 << 47
    out = Quant(1.0, 255, "uint8")
    plain, wide = (requantise(2.0**-15.5, 0.0, out, raw, spread=far) for far in (0, spread))
    for r, fits in ((plain, False), (wide, True)):
        m, b = int(r.m[0]), int(r.b[0])
        assert (max(abs(b - m * (raw + far)) for far in (-spread, spread)) < top) is fits
    assert int(plain.s[0]) > int(wide.s[0])
