"""Requantisation to few levels, made exact: m and b such that every threshold is that of the real function.

A result of k levels is decided by k - 1 thresholds: the sums at which it steps. With 24 bits of m some of them may be
off by one sum; since a sum is a whole number there is room for another b, and where there is none another m near by.

    real      y = rne((acc + bias) * ratio) + zero        T_j = the least acc with y > lo + j        (ratio > 0)
    machine   y = rne((acc * m + b) / 2^s)                wanted: y > lo + j for T_j, not for T_j - 1

For each m that is an interval of b for each threshold; their intersection is the answer.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from tilewright.relay_passes.integer.ops import I64
from tilewright.relay_passes.requantise import Scaling

F64 = NDArray[np.float64]
LEVELS = 16
"""Results of at most so many levels are made exact: 4 bits."""
_TRIES = 16
_FAR = float(1 << 26)
_MOST_SHIFT = 50
"""Beyond this, thresholds times 2^s leave 64 bits; such a channel hardly changes with its sums."""


def exact_thresholds(
    scaling: Scaling, ratio: F64, bias: F64, zero_point: int, lo: int, hi: int, most: I64 | float = _FAR
) -> Scaling:
    """Adjust `m` and `b`; a channel for which nothing near by is exact keeps its own.

    Shapes: `ratio`, `bias` and the arrays of `scaling` (n,); `most` is the largest magnitude of a sum, (n,) or one.
    """
    if hi - lo >= LEVELS or hi <= lo or scaling.m_neg is not None:
        return scaling
    found_m, found_b = scaling.m.copy(), scaling.b.copy()
    live = np.flatnonzero((scaling.m != 0) & (ratio != 0) & (scaling.s <= _MOST_SHIFT))
    if not live.size:
        return scaling
    sign = np.sign(ratio[live]).astype(np.int64)
    m, s, b = scaling.m[live] * sign, scaling.s[live], scaling.b[live]
    first, last = _thresholds(np.abs(ratio[live]), bias[live] * sign, zero_point, lo, hi)
    limit = np.broadcast_to(np.minimum(most, _FAR), ratio.shape)[live, None].astype(np.int64)
    # The machine's result exceeds lo + j from this product on: a tie goes to the even number.
    level = np.arange(lo, hi)
    edge = ((2 * level + 1) << (s[:, None] - 1)) + (level + 1) % 2
    low_known, high_known = first <= limit, last >= -limit
    first, last = np.clip(first, -limit, limit), np.clip(last, -limit, limit)
    open_ = np.ones(live.size, bool)
    for step in range(_TRIES):
        tried = m + (step + 1) // 2 * (1 if step % 2 else -1)
        least = np.where(low_known, edge - first * tried[:, None], np.iinfo(np.int64).min).max(1)
        largest = np.where(high_known, edge - 1 - last * tried[:, None], np.iinfo(np.int64).max).min(1)
        fits = open_ & (least <= largest) & (tried > 0) & (tried < 1 << 24)
        found_m[live[fits]] = (tried * sign)[fits]
        found_b[live[fits]] = np.clip(b, least, largest)[fits]
        open_ &= ~fits
        if not open_.any():
            break
    return Scaling(found_m, scaling.s, found_b)


def _thresholds(ratio: F64, bias: F64, zero_point: int, lo: int, hi: int) -> tuple[I64, I64]:
    """The least sum above each step and the largest below it, (n, hi - lo), for positive ratios."""
    level = np.arange(lo, hi) - zero_point
    real = np.clip((level + 0.5) / ratio[:, None] - bias[:, None], -_FAR * 4, _FAR * 4)
    above = np.ceil(real)
    # On the threshold itself the even of both results is taken.
    above += (above == real) & (level % 2 == 0)
    first = above.astype(np.int64)
    return first, first - 1
