"""Real factors -> m, s, b of a :class:`Rescale`, such that the machine's own B fits 48 bits.

The machine stores unsigned values and MATRIX adds them raw, so what the operator writes as
`acc * m + b`, acc counting q - zero_point, the machine computes as `raw * m + B` with

    B = b - m * raw_zero + (offset << s),    raw_zero = (zero_point + storage offset) * sum of weights

where VECTOR subtracts the zero point itself, raw_zero is 0. m and s are chosen for B.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from tilewright.integer.ops import I64, storage_offset
from tilewright.relay_passes.values import Quant
from tilewright.targets.arithmetic import B_BITS, S_MIN, requantisation

F64 = NDArray[np.float64]
_BIAS_MAX = 1 << 39
_VALUE_MAX = 1 << 40


@dataclass(frozen=True)
class Scaling:
    """m, s, b and, for a negative slope, m_neg, b_neg; all of shape (n,)."""

    m: I64
    s: I64
    b: I64
    m_neg: I64 | None = None
    b_neg: I64 | None = None


def _scaled(ratio: F64, s: I64) -> I64:
    return np.rint(np.ldexp(ratio, s)).astype(np.int64)


def requantise(
    ratio: ArrayLike,
    bias: ArrayLike,
    out: Quant,
    raw_zero: ArrayLike = 0,
    slope: ArrayLike | None = None,
    spread: ArrayLike = 0,
) -> Scaling:
    """Parameters for `y = (acc + bias) * ratio + zero_point`, times `slope` where that is below the zero point.

    Shapes: `ratio`, `bias`, `raw_zero`, `slope`, `spread` broadcast to (n,). `bias` is real, in units of acc: its
    fraction goes into b, which has the room. `spread` is how far the zero points' part of a sum may lie from
    `raw_zero`: each phase of a transposed convolution adds up other weights. A channel without an effect (m = 0)
    becomes the constant that it is.
    """
    ratio = np.asarray(ratio, np.float64)
    bias = np.asarray(bias, np.float64)
    slopes = np.asarray(1.0 if slope is None else slope, np.float64)
    ratio, bias, raw, slopes, far = (
        a.copy()
        for a in np.broadcast_arrays(
            np.atleast_1d(ratio), bias, np.asarray(raw_zero, np.int64), slopes, np.asarray(spread, np.float64)
        )
    )
    offset = storage_offset(out.dtype)
    zero = out.zero_point + offset
    usable = np.abs(bias) < _BIAS_MAX
    whole = np.where(usable, np.rint(bias), 0).astype(np.int64)
    rest = np.where(usable, bias - np.rint(bias), 0.0)
    steep = np.maximum(np.abs(slopes), 1.0)
    s = requantisation(np.where(usable, ratio * steep, 0.0), np.where(usable, whole - raw, 0), zero).s
    limit = float(1 << (B_BITS - 1)) * 0.99
    for _ in range(int(s.max())):
        room = (np.abs((whole - raw).astype(np.float64)) + far) * np.ldexp(
            np.abs(ratio) * steep, s
        ) + np.ldexp(float(zero), s)
        over = (room >= limit) & (s > S_MIN) & usable & ((far > 0) | (slope is not None))
        if not over.any():
            break
        s = np.where(over, s - 1, s)
    m, m_neg = _scaled(ratio, s), _scaled(ratio * slopes, s)
    fixed = ~usable | ((m == 0) & (m_neg == 0))
    # requantisation() gives s = 1 and no m where nothing of B fits; our own m would be small there, not wrong.
    largest = np.abs((whole - raw).astype(np.float64) * m + np.ldexp(float(zero), s)) + far * np.abs(m)
    fixed |= largest >= float(1 << (B_BITS - 1))
    real = bias * ratio
    real = np.where(real < 0, real * slopes, real) if slope is not None else real
    value = np.clip(np.rint(real) + out.zero_point, -_VALUE_MAX, _VALUE_MAX).astype(np.int64)
    s = np.where(fixed, S_MIN, s)
    m, m_neg = np.where(fixed, 0, m), np.where(fixed, 0, m_neg)

    def offset_of(factor: I64) -> I64:
        b = whole * factor + np.rint(rest * factor).astype(np.int64) + (np.int64(out.zero_point) << s)
        return np.where(fixed, value << S_MIN, b)

    if slope is None:
        return Scaling(m, s, offset_of(m))
    return Scaling(m, s, offset_of(m), m_neg, offset_of(m_neg))
