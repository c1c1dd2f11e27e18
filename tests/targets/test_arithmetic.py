"""Requantisation against exact Python integers and fractions."""

from __future__ import annotations

from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tilewright.targets.arithmetic import Requant, largest_sum, multiplier, requantisation, rne, wrap

TOP_M, TOP_B = (1 << 24) - 1, (1 << 47) - 1
shifts = st.integers(1, 62)


@settings(max_examples=400, deadline=None, derandomize=True)
@given(st.integers(-(1 << 62) + 1, (1 << 62) - 1), shifts)
def test_rne_is_round_half_to_even(p: int, s: int) -> None:
    assert int(rne(p, s)) == round(Fraction(p, 1 << s))


@settings(max_examples=300, deadline=None, derandomize=True)
@given(shifts, st.integers(-(1 << 20), 1 << 20), st.integers(-1, 1))
def test_rne_around_every_tie(s: int, quotient: int, off: int) -> None:
    p = (2 * quotient + 1) * (1 << (s - 1)) + off
    if abs(p) < 1 << 62:
        assert int(rne(p, s)) == round(Fraction(p, 1 << s))
        assert int(rne(-p, s)) == -int(rne(p, s))


@settings(max_examples=400, deadline=None, derandomize=True)
@given(
    st.one_of(st.integers(-(1 << 31), (1 << 31) - 1), st.sampled_from([-(1 << 31), -1, 0, 1, (1 << 31) - 1])),
    st.one_of(st.integers(-TOP_M, TOP_M), st.sampled_from([-TOP_M, -1, 0, 1, TOP_M])),
    st.one_of(st.integers(-TOP_B, TOP_B), st.sampled_from([-TOP_B, -1, 0, 1, TOP_B])),
    shifts,
)
def test_apply_is_exact(acc: int, m: int, b: int, s: int) -> None:
    q = Requant(np.array([m]), np.array([s]), np.array([b]))
    expected = min(max(round(Fraction(acc * m + b, 1 << s)), 3), 250)
    assert q.apply([acc], 3, 250).tolist() == [expected]


@settings(max_examples=200, deadline=None, derandomize=True)
@given(st.integers(-(1 << 62), (1 << 62) - 1), st.integers(1, 62))
def test_wrap(value: int, bits: int) -> None:
    half = 1 << (bits - 1)
    assert int(wrap(value, bits)) == (value + half) % (2 * half) - half


@settings(max_examples=200, deadline=None, derandomize=True)
@given(st.floats(1e-12, 8e6), st.booleans())
def test_multiplier_is_the_nearest_of_24_bits(ratio: float, negative: bool) -> None:
    ratio = -ratio if negative else ratio
    m, s = (int(v[0]) for v in multiplier(ratio))
    assert abs(m) <= TOP_M
    assert 1 <= s <= 62
    # Half a unit of m: 2^-24 of the ratio where m is normalised, 2^-63 where s is at its end.
    assert abs(Fraction(m, 1 << s) - Fraction(ratio)) <= max(
        Fraction(abs(ratio)) / (1 << 24), Fraction(1, 1 << 63)
    )


def test_parameters_out_of_range_are_refused() -> None:
    one = np.array([1])
    with pytest.raises(ValueError, match=r"m must be below 2\^24, found 16777216"):
        Requant(np.array([1 << 24]), one, one)
    with pytest.raises(ValueError, match=r"s must be 1\.\.62, found 63\.\.63"):
        Requant(one, np.array([63]), one)
    with pytest.raises(ValueError, match=r"B must be below 2\^47, found 140737488355328"):
        Requant(one, one, np.array([1 << 47]))
    with pytest.raises(ValueError, match="ratio must be finite"):
        multiplier([0.5, float("nan")])


@settings(max_examples=200, deadline=None, derandomize=True)
@given(
    st.floats(1e-9, 4.0),
    st.integers(-(1 << 33), 1 << 33),
    st.integers(0, 255),
    st.integers(-(1 << 20), 1 << 20),
)
def test_requantisation_is_within_one_step(ratio: float, bias: int, zero_point: int, acc: int) -> None:
    q = requantisation([ratio], [bias], zero_point)
    exact = (acc + bias) * Fraction(ratio) + zero_point
    expected = min(max(round(exact), 0), 255)
    assert abs(int(q.apply([acc], 0, 255)[0]) - expected) <= 1


def test_largest_sum_takes_signs_apart() -> None:
    assert largest_sum([[1, -2, 3], [-5, 1, 0]], 255).tolist() == [4 * 255, 5 * 255]
