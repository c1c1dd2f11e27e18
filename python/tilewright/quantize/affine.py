"""Scales and zero points: how integers stand for real numbers, `real = scale * (q - zero_point)`."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

# Below this the values count as zero: products of such scales leave float32's normal range.
SMALLEST_RANGE = 1e-9


@dataclass(frozen=True)
class Range:
    """A closed interval of real numbers that contains zero."""

    low: float
    high: float

    @staticmethod
    def around(low: float, high: float) -> Range:
        """Return the smallest range that holds zero, `low` and `high`."""
        return Range(min(float(low), 0.0), max(float(high), 0.0))

    @property
    def width(self) -> float:
        """Distance of the two ends."""
        return self.high - self.low

    def widened(self, factor: float) -> Range:
        """Return the range with both ends `factor` times as far from zero."""
        return Range(self.low * factor, self.high * factor)

    def union(self, other: Range) -> Range:
        """Return the smallest range that holds both."""
        return Range(min(self.low, other.low), max(self.high, other.high))


@dataclass(frozen=True)
class Affine:
    """Parameters of an activation: `scale` (a float32), `zero_point` in 0..2^bits-1.

    A bipolar one has 1 bit, for -1 and +1: `real = scale * q`, +1 from zero up.
    """

    scale: np.float32
    zero_point: int
    bits: int
    bipolar: bool = False

    @property
    def largest(self) -> int:
        """The largest integer."""
        return (1 << self.bits) - 1

    @property
    def dtype(self) -> type[np.integer]:
        """The type that holds the integers."""
        if self.bipolar:
            return np.int8
        return np.uint8 if self.bits <= 8 else np.uint16

    @property
    def amax(self) -> int:
        """The largest magnitude of `q - zero_point`."""
        largest: int = self.largest
        return max(self.zero_point, largest - self.zero_point)


def affine_of(span: Range, bits: int) -> Affine:
    """Return the parameters that cover `span` with `bits` bits and represent zero exactly.

    The zero point is rounded; the scale is then the smallest with which both ends lie within half a step of a
    representable number. A tensor that was always zero gets the range [0, 1], so that a value that appears
    later is not lost altogether.
    """
    largest = 2**bits - 1
    if span.width < SMALLEST_RANGE:
        return Affine(np.float32(1.0 / largest), 0, bits)
    zero_point = round(-span.low / span.width * largest)
    scale = np.float32(span.width / largest)
    return Affine(scale, min(max(zero_point, 0), largest), bits)


def quantize_array(values: NDArray[np.floating], affine: Affine) -> NDArray[np.int64]:
    """Return the integers for `values`: as QuantizeLinear, half to even, then saturation; or the signs."""
    if affine.bipolar:
        return np.where(np.asarray(values) >= 0, 1, -1).astype(np.int64)
    steps = np.rint(np.asarray(values, np.float32) / affine.scale).astype(np.int64) + affine.zero_point
    return np.asarray(np.clip(steps, 0, affine.largest), np.int64)
