"""Layouts: what they do to the table of places, and the copies that one amounts to which cannot fold."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from tilewright.codegen.values import CONSTANT, I32, I64, Value, join
from tilewright.integer import ops
from tilewright.targets.storage import Storage


def place_layout(op: ops.Layout, stored: Storage, operands: Sequence[Value]) -> Value:
    """Move the table of places as the layout moves elements. A pad's value is `stored` as the result's are."""
    maps, joined = join(operands)
    steps = tuple(
        replace(step, args=(*step.args[:2], (-1 - int(stored.stored(step.args[2][0])),)))
        if step.kind == "pad"
        else step
        for step in op.steps
    )
    starts = np.cumsum([0] + [v.number.size for v in joined])
    numbered = [
        np.arange(start, start + v.number.size, dtype=np.int64).reshape(1, *v.shape)
        for start, v in zip(starts[:-1], joined, strict=True)
    ]
    index = ops.Layout(steps).apply(numbered)[0].astype(np.int64)
    fill = index < 0
    flat = [np.concatenate([getattr(v, k).reshape(-1) for v in joined]) for k in ("number", "pixel", "lane")]
    number, pixel, lane = (a[np.where(fill, 0, index)] for a in flat)
    moved = None
    if any(v.moved is not None for v in joined):
        stay = [np.zeros(v.number.size, np.int64) if v.moved is None else v.moved.reshape(-1) for v in joined]
        moved = np.where(fill, 0, np.concatenate(stay)[np.where(fill, 0, index)])
    return Value(
        maps,
        np.where(fill, CONSTANT, number).astype(np.int32),
        np.where(fill, 0, pixel).astype(np.int32),
        np.where(fill, -1 - index, lane).astype(np.int32),
        moved,
    )


@dataclass(frozen=True)
class Gather:
    """A copy of whole channels: a rectangle of the result, every `step`-th row and column of it.

    Result row `first_y + step_y*j`, column `first_x + step_x*i` is source row `origin_y + stride_y*j`, column
    `origin_x + stride_x*i`; with `swapped` it is source row `origin_y + stride_y*i`, column `origin_x + stride_x*j`.

    Attributes:
        number, lane: place of each channel; CONSTANT channels have their value in `lane`.
        moved: the mark of a shift for each channel (`displacement.py`), 0 for one that stays.
    """

    number: I32
    lane: I32
    first: tuple[int, int]
    step: tuple[int, int]
    count: tuple[int, int]
    origin: tuple[int, int]
    stride: tuple[int, int]
    moved: I64
    swapped: bool = False


_PHASES = (1, 2, 3, 4, 5, 6, 7, 8, 16)


def gathers(value: Value) -> list[Gather] | None:
    """Write a (C, H, W) value as copies of channels, or None where it is no such thing.

    Nearest resize and DepthToSpace need one copy for each phase of the result's rows and columns.
    """
    _, height, width = value.shape
    for fy in _PHASES:
        for fx in _PHASES:
            if fy > height or fx > width:
                continue
            found = [
                _phase(value, (py, px), (fy, fx))
                for py in range(min(fy, height))
                for px in range(min(fx, width))
            ]
            if all(g is not None for g in found):
                return [g for g in found if g is not None]
    return None


def gather_of(value: Value) -> Gather | None:
    """A (C, H, W) value as one copy of channels, or None where it is no such thing."""
    return _phase(value, (0, 0), (1, 1))


def _phase(value: Value, first: tuple[int, int], step: tuple[int, int]) -> Gather | None:
    cut = (slice(None), slice(first[0], None, step[0]), slice(first[1], None, step[1]))
    number, pixel, lane = value.number[cut], value.pixel[cut], value.lane[cut]
    moved = np.zeros(number.shape, np.int64) if value.moved is None else value.moved[cut]
    if any((a != a[:, :1, :1]).any() for a in (number, lane, moved)):
        return None
    held = number[:, 0, 0] != CONSTANT
    count = (number.shape[1], number.shape[2])
    if not held.any():
        return Gather(number[:, 0, 0], lane[:, 0, 0], first, step, count, (0, 0), (1, 1), moved[:, 0, 0])
    widths = {(value.maps[n].height, value.maps[n].width) for n in np.unique(number[held, 0, 0])}
    if len(widths) != 1:
        return None
    (_, map_width) = widths.pop()
    pixel = pixel[held]
    if (pixel != pixel[:1]).any():
        return None
    rows, columns = np.divmod(pixel[0], map_width)
    for swapped in (False, True):
        a, b = (rows.T, columns.T) if swapped else (rows, columns)
        stride = (
            int(a[1, 0] - a[0, 0]) if a.shape[0] > 1 else 1,
            int(b[0, 1] - b[0, 0]) if b.shape[1] > 1 else 1,
        )
        want_a = a[0, 0] + stride[0] * np.arange(a.shape[0])[:, None]
        want_b = b[0, 0] + stride[1] * np.arange(b.shape[1])[None, :]
        if min(stride) >= 1 and (a == want_a).all() and (b == want_b).all():
            origin = (int(a[0, 0]), int(b[0, 0]))
            return Gather(
                number[:, 0, 0], lane[:, 0, 0], first, step, count, origin, stride, moved[:, 0, 0], swapped
            )
    return None
