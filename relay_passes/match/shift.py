"""Shifts between roundings: they commute with functions of one element, and with rounding.

f(shift(x)) = shift(f(x))        zero outside of the map becomes f(0)
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import numpy as np

from tilewright.integer.ops import Shift
from tilewright.relay_passes import refusals
from tilewright.relay_passes.float_ops import F32, quantise
from tilewright.relay_passes.shifts import Move
from tilewright.relay_passes.values import Apply, Quant

if TYPE_CHECKING:
    from tilewright.relay_passes.match.lowering import Lowering, Ref

_EXACT = 1e-3
"""How far, in steps, a value may be from the grid by float32's rounding."""


def write_shift(
    low: Lowering, value: Apply, ref: Ref, post: Callable[[F32], F32], target: Quant, exact: bool
) -> Ref:
    """Append the shift `value` of what `ref` holds after `post`, on the grid of `target`.

    `exact`: the value outside of the map must be one of the grid; else it is rounded like all others.
    """
    move = value.attrs
    assert isinstance(move, Move)
    if move.nothing:
        return ref
    outside = post(np.zeros(1, np.float32))
    if exact:
        on_grid(low, value.name, float(outside[0]), target)
    lo, hi = (np.iinfo(target.dtype).min, np.iinfo(target.dtype).max) if exact else (low.cone.lo, low.cone.hi)
    fill = int(np.clip(quantise(outside, target.scale, target.zero_point, target.dtype)[0], lo, hi))
    size = (value.shape[2], value.shape[3])
    return low.add(Shift(move.displacement, fill, move.strides, size), [ref], value.shape, target.dtype)


def on_grid(low: Lowering, variable: str, fill: float, target: Quant) -> None:
    """Reject where what stands outside of a map is no value of its grid."""
    q = fill / target.scale + target.zero_point
    info = np.iinfo(target.dtype)
    if abs(q - round(q)) > _EXACT or not info.min <= round(q) <= info.max:
        low.reject(
            refusals.SHIFT_PADDING, f"{fill:g} with scale {target.scale:g}", layer=low.source(variable)
        )
