"""Shift written as a depthwise convolution: each channel's kernel has a single weight, 1.

    y[c, i, j] = x[c, i*sy + dy[c], j*sx + dx[c]]        0 where that lies outside of the map

A weight 1 at tap (ky, kx) of a kernel with padding (top, left) and dilation (ey, ex) moves its channel by
(ky*ey - top, kx*ex - left). This is how DiracDeltaNet's authors write shifts (Yang et al., "Synetgy", FPGA 2019), and
the form that every other spelling is brought to (`canonical/shift_forms.py`).
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

I64 = NDArray[np.int64]
_ONE = 2.0**-20
"""How far a dequantised weight may be from 1: float32's rounding of n * (1/n)."""


def displacements(
    weight: NDArray[Any], groups: int, pads: Sequence[int], dilations: Sequence[int]
) -> I64 | None:
    """Return (dy, dx) of each channel where a convolution is a shift, else None.

    Shapes: weight (C, 1, KH, KW), result (C, 2). `pads` are top, left, bottom, right; a map with more of them than the
    kernel has rows and columns to spare becomes larger, and is not shifted only.
    """
    if weight.ndim != 4 or weight.shape[1] != 1 or weight.shape[0] != groups:
        return None
    if any(pads[a] + pads[a + 2] > (weight.shape[2 + a] - 1) * dilations[a] for a in range(2)):
        return None
    taps = weight.reshape(weight.shape[0], -1)
    if not ((taps != 0).sum(1) == 1).all() or (np.abs(taps.max(1) - 1) > _ONE).any():
        return None
    tap = np.stack(np.divmod(taps.argmax(1), weight.shape[3]), axis=1)
    return np.asarray(tap * np.array(dilations[:2]) - np.array(pads[:2]), np.int64)


def one_hot(moves: ArrayLike) -> NDArray[np.float32]:
    """Return the smallest square kernel of odd size, 3 at least, that moves each channel so with padding size // 2.

    Shapes: (C, 2) -> (C, 1, K, K).
    """
    d = np.asarray(moves, np.int64)
    reach = max(1, int(np.abs(d).max(initial=0)))
    kernel = np.zeros((len(d), 1, 2 * reach + 1, 2 * reach + 1), np.float32)
    kernel[np.arange(len(d)), 0, d[:, 0] + reach, d[:, 1] + reach] = 1
    return kernel
