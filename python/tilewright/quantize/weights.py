"""Weights and biases as integers.

Weights are symmetric per output channel, `w = sw[c] * q`, in -(2^(bits-1)-1)..2^(bits-1)-1. The most negative
integer is left out so that -q is always a weight too: a bound on a channel's sum is then the same for both
signs, and a negated channel needs no other scale. It costs less than half a percent of resolution.

Below 8 bits a scale is made smaller where that makes the square error of its weights smaller: the largest saturate
(Banner et al. 2019, see `clipping.py`). Weights of one bit are -1 and +1, and their scale the mean magnitude
(Rastegari, Ordonez, Redmon and Farhadi, "XNOR-Net", ECCV 2016, section 3.1).

The scales have short mantissas, with which float sums are exact (`exact.py`).

Biases are int32 with the scale of the products, `sx * sw[c]`, so that they are added to the sums as they are.
A channel's `sw` is made larger where its sum could leave the accumulator:
`amax * sum|q| + |bias| <= 2^(accumulator_bits-1) - 1`.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from tilewright.quantize.affine import SMALLEST_RANGE, Affine
from tilewright.quantize.exact import weight_scales
from tilewright.quantize.graph import Graph
from tilewright.quantize.options import WHOLE_BITS, QuantizeOptions
from tilewright.quantize.units import Unit, attribute, weight_axis

Floats = NDArray[np.float32]
Doubles = NDArray[np.float64]
CLIPPED_PARTS = np.linspace(1.0, 0.3, 36)
"""Scales that are tried below 8 bits, as parts of the one that holds the largest weight."""


@dataclass(frozen=True)
class IntegerWeights:
    """One operator's constants.

    Attributes:
        weight: int8, the shape of the float weights.
        scale: float32, one for each entry of `axis`.
        axis: axis of `weight` along which `scale` runs.
        bias: int32, one for each output channel.
        bias_scale: float32, as long as `bias`: input scale times weight scale.
    """

    weight: NDArray[np.int8]
    scale: Floats
    axis: int
    bias: NDArray[np.int32]
    bias_scale: Floats

    def dequantised(self) -> tuple[Floats, Floats]:
        """Return the weights and the bias that the integers stand for."""
        shape = [1] * self.weight.ndim
        shape[self.axis] = -1
        weight = self.weight.astype(np.float32) * self.scale.reshape(shape)
        return weight, self.bias.astype(np.float32) * self.bias_scale


def float_weights(graph: Graph, unit: Unit) -> tuple[Floats, Floats]:
    """Return weights and bias of a MAC unit; the bias has a value for each output channel, 0 without one."""
    node = unit.head
    weight = np.asarray(graph.constant(node.input[1]), np.float32)
    channels = output_channels(unit, weight.shape)
    if len(node.input) > 2 and node.input[2]:
        bias = np.asarray(graph.constant(node.input[2]), np.float32)
        return weight, np.ascontiguousarray(np.broadcast_to(bias.reshape(-1), (channels,)))
    return weight, np.zeros(channels, np.float32)


def output_channels(unit: Unit, weight_shape: tuple[int, ...]) -> int:
    """Return the number of output channels of a MAC unit."""
    node = unit.head
    if node.op_type == "ConvTranspose":
        groups = attribute(node, "group", 1)
        assert isinstance(groups, int)
        return weight_shape[1] * groups
    return weight_shape[weight_axis(node, weight_shape)]


def integer_weights(
    unit: Unit,
    weight: Floats,
    bias: Floats,
    source: Affine,
    result: Affine,
    options: QuantizeOptions,
    bits: int = WHOLE_BITS,
) -> IntegerWeights:
    """Return the integers for `weight` and `bias`, given the parameters of the unit's input and result."""
    axis = weight_axis(unit.head, weight.shape)
    others = tuple(k for k in range(weight.ndim) if k != axis)
    magnitude = np.abs(weight.astype(np.float64))
    largest = magnitude.max(axis=others)
    # A dead channel takes the scale of the tensor's largest weight, or 1: any scale stands for zero.
    overall = float(largest.max(initial=0.0))
    largest = np.where(largest > SMALLEST_RANGE, largest, overall if overall > SMALLEST_RANGE else 1.0)
    least = _smallest_scale(unit, weight, bias, source, options)

    def allowed(scale: Doubles) -> Doubles:
        scale = np.maximum(scale, least)
        return weight_scales(scale, result.scale) if options.exact_sums else scale

    rows = np.moveaxis(weight, axis, 0).reshape(weight.shape[axis], -1).astype(np.float64)
    if bits == 1:
        scale = allowed(np.maximum(np.abs(rows).mean(axis=1), SMALLEST_RANGE))
    else:
        scale = allowed(largest / weight_limit(bits))
        if options.clipping and bits < WHOLE_BITS:
            scale = _best_scale(rows, scale, allowed, bits)
    scale32 = scale.astype(np.float32)
    shape = [1] * weight.ndim
    shape[axis] = -1
    integers = nearest_integers(weight.astype(np.float64), scale32.astype(np.float64).reshape(shape), bits)
    bias_scale = np.resize(source.scale * scale32, bias.shape)
    bias_integers = np.rint(bias.astype(np.float64) / bias_scale.astype(np.float64))
    assert np.abs(bias_integers).max(initial=0.0) < 2**31, "the scale was enlarged until the bias fits"
    return IntegerWeights(
        integers.astype(np.int8), scale32, axis, bias_integers.astype(np.int32), bias_scale.astype(np.float32)
    )


def weight_limit(bits: int) -> int:
    """Return the largest weight of a width; the smallest is its negative."""
    return max((1 << (bits - 1)) - 1, 1)


def nearest_integers(weight: Doubles, scale: Doubles, bits: int) -> Doubles:
    """Return the integers nearest to `weight / scale`; of one bit, the signs, +1 for zero."""
    if bits == 1:
        return np.where(weight >= 0, 1.0, -1.0)
    limit = weight_limit(bits)
    return np.asarray(np.clip(np.rint(weight / scale), -limit, limit))


def _best_scale(rows: Doubles, largest: Doubles, allowed: Callable[[Doubles], Doubles], bits: int) -> Doubles:
    """Return, for each row, the scale with the smallest square error of those `allowed` up to `largest`."""
    best, least = largest, np.full(len(rows), np.inf)
    for part in CLIPPED_PARTS:
        scale = np.minimum(allowed(part * largest), largest)
        column = scale.astype(np.float32).astype(np.float64)[:, None]
        error = ((nearest_integers(rows, column, bits) * column - rows) ** 2).sum(axis=1)
        best, least = np.where(error < least, scale, best), np.minimum(error, least)
    return best


def _smallest_scale(
    unit: Unit, weight: Floats, bias: Floats, source: Affine, options: QuantizeOptions
) -> NDArray[np.float64]:
    """Return, for each weight scale, the least value with which sum and bias fit the accumulator.

    Rounding can add half a step to each integer: `terms * amax / 2 + 1/2` is kept free for it.
    """
    axis = weight_axis(unit.head, weight.shape)
    channels = len(bias)
    if unit.head.op_type == "ConvTranspose":
        # Output channel g * C_out/groups + j sums over the input channels of group g.
        groups = channels // weight.shape[1]
        per_group = np.abs(weight.astype(np.float64)).reshape(
            groups, weight.shape[0] // groups, weight.shape[1], -1
        )
        sums = per_group.sum(axis=(1, 3)).reshape(-1)
        terms = weight.size // channels
    else:
        others = tuple(k for k in range(weight.ndim) if k != axis)
        sums = np.abs(weight.astype(np.float64)).sum(axis=others)
        terms = weight.size // channels
    free = 2.0 ** (options.accumulator_bits - 1) - 1 - (terms * source.amax + 1) / 2
    if free <= 0:
        free = 1.0
    least = (source.amax * sums + np.abs(bias.astype(np.float64)) / float(source.scale)) / free
    # float32 rounds the scale by at most 2^-24 of itself.
    least = least * (1 + 2.0**-22)
    count = weight.shape[axis]
    return np.asarray(least.reshape(-1, count).max(axis=0))
