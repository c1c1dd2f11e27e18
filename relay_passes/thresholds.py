"""Results of few bits: m and B moved until every output threshold is the float definition's.

Where a result has 4 bits or fewer, it changes at 15 sums at most, and a wrong one shows. The definition is the
quantised model's own arithmetic with one rounding for each of its float32 results that the sum goes through:

    f(acc) = clip(rint(float32(float32(acc * unit + offset) / scale)) + zero_point)

ONNX Runtime adds products in float32 one by one, so a sum whose quotient lies within its rounding error of a half may
fall to either side there; every other sum gives the same integer, here too.
"""

from __future__ import annotations

from dataclasses import dataclass
from itertools import product
from typing import Protocol

import numpy as np
from numpy.typing import NDArray

from tilewright.integer.ops import I64
from tilewright.targets.arithmetic import M_BITS, rne

MOST_BITS = 4
"""Bits of results that are matched."""
TRIES = 32
"""Multipliers tried on each side of the nearest."""
S_MOST = 56
"""Beyond it a threshold times 2^s does not fit 63 bits; such ratios are below 2^-30."""

F64 = NDArray[np.float64]

FLOAT_ERROR = 2.0**-22
"""Relative error of the definition's two float32 roundings and of the scales they work on, doubled."""
_NONE_BELOW, _NONE_ABOVE = int(np.iinfo(np.int64).min), int(np.iinfo(np.int64).max)


class Target(Protocol):
    """The definition of a layer's results."""

    def __call__(self, acc: I64, nudge: float = 0.0) -> I64:
        """Sums, and how far the real value is nudged, relative to its largest part -> results."""


@dataclass(frozen=True)
class Matched:
    """Multipliers and offsets, and the channels for which there are none. Shapes: (n,) each."""

    m: I64
    b: I64
    failed: NDArray[np.bool_]


def match(m: I64, s: I64, b: I64, target: Target, bounds: tuple[int, int], reach: tuple[I64, I64]) -> Matched:
    """Move m and b until clip(rne(acc * m + b, s), *bounds) is target(acc) for all sums in reach.

    Shapes: m, s, b, reach[0], reach[1] (n,); target (n, k) -> (n, k), monotone along k. Where no multiplier gives all
    of them, sums that float32 cannot tell from a half may go either way: 0.01 * 50 is one, and no m / 2^s is 0.01.
    Those that are halves in reals and in float32 alike (as with scales of 2^n) may not.
    """
    lo, hi = bounds
    levels = np.arange(lo + 1, hi + 1)
    usable = (m != 0) & (s <= S_MOST)
    if not levels.size or not usable.any():
        return Matched(m, b, np.zeros(m.shape, np.bool_))
    sign = np.where(m < 0, -1, 1)
    first = np.where(sign < 0, -reach[1], reach[0])[:, None]
    last = np.where(sign < 0, -reach[0], reach[1])[:, None]
    half = (2 * levels - 1) * (np.int64(1) << np.minimum(s, S_MOST) - 1)[:, None]
    slope = np.abs(np.where(m == 0, 1, m))
    best_m, best_b, done = m.copy(), b.copy(), ~usable
    for nudge in (0.0, FLOAT_ERROR):
        # Sums from `late` on must give the level, those before `early` must not.
        early, late = (
            _thresholds(lambda x, d=d: target(x * sign[:, None], d), levels, first, last)
            for d in (nudge, -nudge)
        )
        for change in sorted(range(-TRIES, TRIES + 1), key=abs):
            tried = slope + change
            lower = np.where(late <= last, half - late * tried[:, None], _NONE_BELOW).max(1)
            upper = np.where(early > first, half - (early - 1) * tried[:, None], _NONE_ABOVE).min(1)
            middle = np.where(lower == _NONE_BELOW, upper, lower)
            both = (lower > _NONE_BELOW) & (upper < _NONE_ABOVE) & (lower <= upper)
            middle = np.where(both, lower + np.where(both, upper - lower, 0) // 2, middle)
            middle = np.where((lower <= b) & (b <= upper), b, middle)
            right = (tried > 0) & (tried < 1 << M_BITS) & (lower <= upper) & ~done
            for k, level in enumerate(levels):
                for side, above in ((late[:, k], True), (early[:, k] - 1, False)):
                    held = (side >= first[:, 0]) & (side <= last[:, 0])
                    right &= ~held | ((rne(side * tried + middle, s) >= level) == above)
            best_m, best_b = np.where(right, sign * tried, best_m), np.where(right, middle, best_b)
            done = done | right
            if done.all():
                return Matched(best_m, best_b, ~done)
    return Matched(best_m, best_b, ~done)


def _thresholds(target: Target, levels: I64, first: I64, last: I64) -> I64:
    """The least sum of first .. last that gives each level or more, `last + 1` where none does, by bisection.

    Shapes: first and last (n, 1) -> (n, levels).
    """
    low = np.broadcast_to(first, (len(first), len(levels)))  # no sum below gives the level
    high = np.broadcast_to(last + 1, low.shape)  # this and all above do
    while (low < high).any():
        middle = low + (high - low) // 2
        enough = (target(np.minimum(middle, last)) >= levels) | (middle > last)
        low, high = np.where(enough, low, middle + 1), np.where(enough, middle, high)
        low = np.minimum(low, high)
    return low


def float_target(unit: F64, offset: F64, scale: float, zero: int, bounds: tuple[int, int]) -> Target:
    """The definition above. Shapes: unit, offset (n,)."""

    def target(acc: I64, nudge: float = 0.0) -> I64:
        product = acc * unit[:, None]
        size = np.abs(product) + np.abs(offset[:, None])
        return _quantised(product + offset[:, None], nudge * size, scale, zero, bounds)

    return target


def _quantised(real: F64, error: F64, scale: float, zero: int, bounds: tuple[int, int]) -> I64:
    """Real values plus an error, which those do not have that are a half in reals and in float32 alike."""
    divisor = np.float32(scale)
    steps = real.astype(np.float32) / divisor
    half = (steps - np.floor(steps) == 0.5) & (real == steps * float(divisor))
    steps = np.where(half, steps, (real + error).astype(np.float32) / divisor)
    return np.asarray(np.clip(np.rint(steps).astype(np.int64) + zero, *bounds), np.int64)


def match_pair(
    m: tuple[int, int],
    s: int,
    b: int,
    values: tuple[I64, I64],
    units: tuple[float, float],
    offset: float,
    quantised: tuple[float, int],
    bounds: tuple[int, int],
) -> tuple[int, int, int] | None:
    """The same for a sum of two tensors: m, m2 and b such that all pairs of values are right, or None.

    Args:
        m: both multipliers to begin with; `s`, `b` likewise.
        values: of each tensor, less its zero point; `units`: what 1 of them is worth; `offset`: added to both.
        quantised: scale and zero point of the result.
    """
    lo, hi = bounds
    x, y = values[0][:, None], values[1][None, :]
    real = x * units[0] + y * units[1] + offset
    size = np.abs(x * units[0]) + np.abs(y * units[1]) + abs(offset)
    changes = sorted(product(range(-2, 3), repeat=2), key=lambda c: abs(c[0]) + abs(c[1]))
    for nudge in (0.0, FLOAT_ERROR):
        least, most = (_quantised(real, d * size, *quantised, bounds) for d in (-nudge, nudge))
        for first, second in changes:
            p = x * (m[0] + first) + y * (m[1] + second)
            lower = int(np.where(least > lo, (2 * least - 1 << s - 1) - p, _NONE_BELOW).max())
            upper = int(np.where(most < hi, (2 * most + 1 << s - 1) - p, _NONE_ABOVE).min())
            if lower > upper:
                continue
            ends = [v for v in (lower, upper) if _NONE_BELOW < v < _NONE_ABOVE]
            chosen = b if lower <= b <= upper or not ends else sum(ends) // len(ends)
            found = np.clip(rne(p + chosen, s), lo, hi)
            if bool(((found >= least) & (found <= most)).all()):
                return m[0] + first, m[1] + second, chosen
    return None
