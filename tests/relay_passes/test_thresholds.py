"""Results of few levels are those of the real function, for every sum that can occur."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tilewright.relay_passes.requantise import requantise
from tilewright.relay_passes.thresholds import exact_thresholds
from tilewright.relay_passes.values import Quant
from tilewright.targets.arithmetic import rne

FEW = settings(max_examples=40, deadline=None, derandomize=True)


def errors(
    ratio: np.ndarray, bias: np.ndarray, zero: int, lo: int, hi: int, most: int, exact: bool
) -> np.ndarray:
    """Sums in -most..most that give another level than the real function, for each channel."""
    scaling = requantise(ratio, bias, Quant(1.0, zero, "int8"))
    if exact:
        scaling = exact_thresholds(scaling, ratio, bias, zero, lo, hi, most)
    acc = np.arange(-most, most + 1)[:, None]
    real = np.clip(np.rint((acc + bias) * ratio) + zero, lo, hi)
    machine = np.clip(rne(acc * scaling.m + scaling.b, scaling.s), lo, hi)
    return np.asarray((real != machine).sum(0))


@FEW
@given(
    seed=st.integers(0, 1000),
    lo=st.integers(-8, 0),
    levels=st.integers(2, 16),
    zero=st.integers(-3, 3),
    exponent=st.floats(-12, -3),
    negative=st.booleans(),
)
def test_exact(seed: int, lo: int, levels: int, zero: int, exponent: float, negative: bool) -> None:
    rng = np.random.default_rng(seed)
    ratio = np.exp2(exponent + rng.uniform(-2, 2, 12)) * (-1 if negative else 1)
    bias = rng.normal(0, 8 / np.abs(ratio))
    assert not errors(ratio, bias, zero, lo, lo + levels - 1, 1 << 12, exact=True).any()


@FEW
@given(seed=st.integers(0, 1000), exponent=st.integers(-8, 0), zero=st.sampled_from([-2, 0, 4]))
def test_ties(seed: int, exponent: int, zero: int) -> None:
    """Powers of two, where sums lie on thresholds. (With an odd zero point the machine's ties are others.)"""
    bias = np.random.default_rng(seed).integers(-40, 40, 8) / 2.0
    assert not errors(np.full(8, 2.0**exponent), bias, zero, -8, 7, 1 << 10, exact=True).any()


def test_without_it_some_sums_are_off() -> None:
    """24 bits of m are not enough by themselves where sums lie near thresholds."""
    rng = np.random.default_rng(6)
    ratio = np.exp2(rng.uniform(-17, -15, 8))
    bias = rng.normal(0, 4 / ratio)
    assert errors(ratio, bias, 0, 0, 15, 1 << 18, exact=False).sum() == 1
    assert not errors(ratio, bias, 0, 0, 15, 1 << 18, exact=True).any()


@pytest.mark.parametrize("hi", [0, 16])
def test_one_level_and_many_stay(hi: int) -> None:
    ratio, bias = np.array([0.01]), np.array([0.3])
    scaling = requantise(ratio, bias, Quant(1.0, 0, "int8"))
    assert exact_thresholds(scaling, ratio, bias, 0, 0, hi) is scaling
