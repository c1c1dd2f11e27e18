"""Integer weights and biases: scales, exactness, and that no sum leaves the accumulator."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.quantize.builders import node, normal

from tilewright.quantize import QuantizeOptions, Unit
from tilewright.quantize.affine import Affine, Range, affine_of, quantize_array
from tilewright.quantize.weights import integer_weights

OPTIONS = QuantizeOptions(exact_sums=False)
SOURCE = Affine(np.float32(0.02), 100, 8)
RESULT = Affine(np.float32(0.05), 3, 8)


def _unit(operator: str = "Conv", **attributes: Any) -> Unit:
    return Unit("mac", (node(operator, "x w b", "y", **attributes),), ("x",), ("y",))


def test_weights_are_symmetric_and_the_largest_of_each_channel_is_127() -> None:
    weight = normal((4, 3, 3, 3))
    found = integer_weights(_unit(), weight, np.zeros(4, np.float32), SOURCE, RESULT, OPTIONS)
    assert found.axis == 0 and found.scale.shape == (4,)
    assert (np.abs(found.weight.astype(np.int64)).max(axis=(1, 2, 3)) == 127).all()
    assert np.array_equal(
        found.scale, (np.abs(weight.astype(np.float64)).max(axis=(1, 2, 3)) / 127).astype(np.float32)
    )
    back, _ = found.dequantised()
    assert (np.abs(back - weight) <= found.scale.reshape(4, 1, 1, 1) * (0.5 + 1e-6)).all()


def test_bias_has_the_scale_of_the_products() -> None:
    weight, bias = normal((4, 3, 3, 3)), normal((4,), 1, 10.0)
    found = integer_weights(_unit(), weight, bias, SOURCE, RESULT, OPTIONS)
    assert np.array_equal(found.bias_scale, np.float32(0.02) * found.scale)
    assert found.bias.dtype == np.int32
    assert (
        np.abs(found.bias * found.bias_scale.astype(np.float64) - bias) <= 0.5 * found.bias_scale * 1.001
    ).all()


def test_a_dead_channel_keeps_its_bias() -> None:
    weight = normal((2, 3, 1, 1))
    weight[1] = 0.0
    bias = np.array([0.0, 1e7], np.float32)
    found = integer_weights(_unit(), weight, bias, SOURCE, RESULT, OPTIONS)
    assert not found.weight[1].any()
    assert found.bias[1] * float(found.bias_scale[1]) == pytest.approx(1e7, rel=1e-6)


def test_all_weights_zero() -> None:
    found = integer_weights(
        _unit(), np.zeros((2, 3, 1, 1), np.float32), np.ones(2, np.float32), SOURCE, RESULT, OPTIONS
    )
    assert not found.weight.any()
    assert found.dequantised()[1] == pytest.approx(1.0, abs=float(found.bias_scale[0]))


@pytest.mark.parametrize(
    ("groups", "shape", "axis", "scales"),
    [(1, (6, 4, 2, 2), 1, 4), (2, (6, 4, 2, 2), 1, 4), (6, (6, 1, 2, 2), 0, 6)],
)
def test_scales_of_transposed_convolutions(
    groups: int, shape: tuple[int, ...], axis: int, scales: int
) -> None:
    weight, bias = normal(shape), normal((shape[1] * groups,))
    found = integer_weights(_unit("ConvTranspose", group=groups), weight, bias, SOURCE, RESULT, OPTIONS)
    assert (found.axis, found.scale.shape, found.bias.shape) == (axis, (scales,), bias.shape)
    # Output channel g * C_out/groups + j has the scale of j (of g where depthwise).
    expected = [found.scale[c % scales] for c in range(len(bias))]
    assert np.array_equal(found.bias_scale, np.float32(0.02) * np.array(expected, np.float32))


@settings(max_examples=60, deadline=None, derandomize=True)
@given(
    operator=st.sampled_from(["Conv", "Gemm", "ConvTranspose", "ConvTranspose2"]),
    weight_exponent=st.integers(-12, 12),
    bias_exponent=st.integers(-12, 12),
    scale_exponent=st.integers(-8, 2),
    accumulator_bits=st.sampled_from([18, 24, 27, 32]),
    zero_point=st.integers(0, 255),
    seed=st.integers(0, 1000),
    exact_sums=st.booleans(),
)
def test_no_sum_leaves_the_accumulator(
    operator: str,
    weight_exponent: int,
    bias_exponent: int,
    scale_exponent: int,
    accumulator_bits: int,
    zero_point: int,
    seed: int,
    exact_sums: bool,
) -> None:
    """`amax * sum|w| + |bias| <= 2^(bits-1) - 1`, with exact integers."""
    transposed = operator.startswith("ConvTranspose")
    groups = 2 if operator.endswith("2") else 1
    unit = (
        _unit("ConvTranspose", group=groups)
        if transposed
        else _unit(operator, **{"transB": 1} if operator == "Gemm" else {})
    )
    shape = (4, 6) if operator == "Gemm" else (4, 6, 3, 3)
    channels = 6 * groups if transposed else 4
    source = Affine(np.float32(10.0**scale_exponent), zero_point, 8)
    options = QuantizeOptions(accumulator_bits=accumulator_bits, exact_sums=exact_sums)
    weight = normal(shape, seed, 10.0**weight_exponent)
    bias = normal((channels,), seed + 1, 10.0**bias_exponent)
    found = integer_weights(unit, weight, bias, source, RESULT, options)
    magnitudes = np.abs(found.weight.astype(np.int64))
    if transposed:
        sums = magnitudes.reshape(groups, 4 // groups, 6, -1).sum(axis=(1, 3)).reshape(-1)
    else:
        sums = magnitudes.reshape(4, -1).sum(axis=1)
    amax = max(zero_point, 255 - zero_point)
    for total, constant in zip(sums.tolist(), found.bias.tolist(), strict=True):
        assert amax * total + abs(constant) <= 2 ** (accumulator_bits - 1) - 1


@settings(max_examples=200, deadline=None, derandomize=True)
@given(low=st.floats(-1e6, 1e6, width=32), high=st.floats(-1e6, 1e6, width=32))
def test_parameters_cover_the_range(low: float, high: float) -> None:
    span = Range.around(min(low, high), max(low, high))
    found = affine_of(span, 8)
    assert 0 <= found.zero_point <= 255 and found.scale > 0
    assert quantize_array(np.zeros(1, np.float32), found)[0] == found.zero_point
    if span.width >= 1e-9:
        first, last = (np.array([0, 255]) - found.zero_point) * float(found.scale)
        step = float(found.scale) * (0.5 + 1e-4)
        assert first <= span.low + step and last >= span.high - step
        assert last - first == pytest.approx(span.width, rel=1e-6)
