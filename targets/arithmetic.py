"""The arithmetic of requantisation, defined once.

    y = clamp(rne(acc * m + B, s), lo, hi)        rne(p, s) = p / 2^s, rounded half to even

m is a signed integer with a normalised 24-bit magnitude, B has 48 bits, 1 <= s <= 62. The quantiser, the
passes and the reference simulator use these functions; the C++ simulator and the integer level have their
own, so that their agreement means something. Rounding is half to even because the quantised ONNX model rounds
so (QuantizeLinear, onnx.ai/onnx/operators/onnx__QuantizeLinear.html).
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

M_BITS = 24
B_BITS = 48
S_MIN, S_MAX = 1, 62

I64 = NDArray[np.int64]


def rne(p: ArrayLike, s: ArrayLike) -> I64:
    """Divide by 2^s and round half to even.

    Shapes: `p` and `s` broadcast. Units: integers, |p| < 2^62, 1 <= s <= 62.

    >>> rne([1, 2, 3, -1, -3, 6], 1).tolist()
    [0, 1, 2, 0, -2, 3]
    """
    p, s = np.asarray(p, np.int64), np.asarray(s, np.int64)
    floor = p >> s
    rest = p - (floor << s)
    half = np.int64(1) << (s - 1)
    return np.asarray(floor + ((rest > half) | ((rest == half) & ((floor & 1) == 1))), np.int64)


@dataclass(frozen=True)
class Requant:
    """Channel parameters of a requantisation; all arrays have shape (channels,).

    Attributes:
        m: multiplier, |m| < 2^24.
        s: shift, 1..62.
        b: offset, |b| < 2^47.
    """

    m: I64
    s: I64
    b: I64

    def __post_init__(self) -> None:
        if np.any(np.abs(self.m) >= 1 << M_BITS):
            raise ValueError(f"m must be below 2^{M_BITS}, found {int(np.abs(self.m).max())}")
        if np.any((self.s < S_MIN) | (self.s > S_MAX)):
            raise ValueError(f"s must be {S_MIN}..{S_MAX}, found {self.s.min()}..{self.s.max()}")
        if np.any(np.abs(self.b) >= 1 << (B_BITS - 1)):
            raise ValueError(f"B must be below 2^{B_BITS - 1}, found {int(np.abs(self.b).max())}")

    def apply(self, acc: ArrayLike, lo: int, hi: int) -> I64:
        """Requantise sums. Shapes: `acc` (..., channels) -> the same."""
        return np.clip(rne(np.asarray(acc, np.int64) * self.m + self.b, self.s), lo, hi)


def multiplier(ratio: ArrayLike, s_max: int | I64 = S_MAX) -> tuple[I64, I64]:
    """Nearest m / 2^s to each real ratio, m of 24 bits where s allows.

    Shapes: (n,) -> two (n,). Raises ValueError where |ratio| >= 2^23, which no s >= 1 can hold.
    """
    ratio = np.atleast_1d(np.asarray(ratio, np.float64))
    if not np.all(np.isfinite(ratio)) or np.any(np.abs(ratio) >= 1 << (M_BITS - 1)):
        raise ValueError(
            f"ratio must be finite and below 2^{M_BITS - 1}, found {ratio[np.argmax(np.abs(ratio))]}"
        )
    _, exponent = np.frexp(ratio)  # ratio = f * 2^exponent, 0.5 <= |f| < 1
    s = np.clip(M_BITS - exponent, S_MIN, np.minimum(S_MAX, s_max)).astype(np.int64)
    m = np.rint(np.ldexp(ratio, s)).astype(np.int64)
    over = np.abs(m) >= 1 << M_BITS  # 0.99999999 rounds up to the next power of two
    s = np.where(over, s - 1, s)
    m = np.where(over, np.rint(np.ldexp(ratio, s)).astype(np.int64), m)
    zero = m == 0
    return np.where(zero, 0, m), np.where(zero, S_MIN, s)


def requantisation(ratio: ArrayLike, bias: ArrayLike, zero_point: int) -> Requant:
    """Parameters for `y = (acc + bias) * ratio + zero_point`.

    Shapes: `ratio` and `bias` broadcast to (n,). `bias` counts units of acc, |bias| < 2^40.
    B = bias*m + zp*2^s must fit 48 bits; where it does not, m and s lose low bits, and where nothing is left
    the channel is the constant that its saturated value is.
    """
    ratio, bias = np.broadcast_arrays(
        np.atleast_1d(np.asarray(ratio, np.float64)), np.atleast_1d(np.asarray(bias, np.int64))
    )
    limit = float(1 << (B_BITS - 1))
    m, s = multiplier(ratio)
    for _ in range(S_MAX):
        # In floats, for bias * m may pass 2^63; an error of 2^-52 is harmless beside the margin of one bit.
        over = np.abs(bias.astype(np.float64) * m + np.ldexp(float(zero_point), s)) >= limit * 0.999
        over &= s > S_MIN
        if not over.any():
            break
        s = np.where(over, s - 1, s)
        m = np.where(over, np.rint(np.ldexp(ratio, s)).astype(np.int64), m)
    constant = (m == 0) | (np.abs(bias.astype(np.float64) * m + np.ldexp(float(zero_point), s)) >= limit)
    value = np.clip(np.rint(bias * ratio) + zero_point, -(1 << 40), 1 << 40).astype(np.int64)
    m, s = np.where(constant, 0, m), np.where(constant, S_MIN, s)
    b = np.where(constant, value << S_MIN, bias * m + (np.int64(zero_point) << s))
    return Requant(m, s, b)


def wrap(value: ArrayLike, bits: int) -> I64:
    """Reduce modulo 2^bits to the two's complement range. `bits` <= 63."""
    value, half = np.asarray(value, np.int64), np.int64(1) << (bits - 1)
    return np.asarray(((value + half) & ((np.int64(1) << bits) - 1)) - half, np.int64)


def largest_sum(weights: ArrayLike, value_max: int) -> I64:
    """Largest magnitude that a sum of products can reach, per output channel.

    Shapes: `weights` (channels, ...) -> (channels,). Values are 0..value_max, so the positive and the
    negative weights are summed apart.
    """
    w = np.asarray(weights).reshape(np.shape(weights)[0], -1)
    above = np.maximum(w, 0).sum(1, dtype=np.int64)
    return np.asarray(value_max * np.maximum(above, above - w.sum(1, dtype=np.int64)), np.int64)
