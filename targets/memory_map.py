"""Tensors to and from the segments of a region, as its memory map says.

The runtime has its own in C++ (`board/native/src/region.cc`); tests hold both to the formulas in `region.py`.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from tilewright.targets.region import MapLayout, Packing

Array = NDArray[np.generic]
Bytes = NDArray[np.uint8]
I64 = NDArray[np.int64]


@dataclass(frozen=True)
class _Lane:
    """A lane that holds something: its number, what it holds, and the tensor's row and column in each pixel."""

    number: int
    plane: int
    channel: int
    rows: I64
    columns: I64


def _held(layout: MapLayout) -> Iterator[_Lane]:
    channels, height, width = (*layout.shape[1:], 1, 1)[:3]
    packing = layout.packing or Packing(width, height, 1)
    columns = np.arange(packing.columns) * packing.stride + packing.offset
    rows = np.arange(packing.rows) + packing.top
    for number, lane in enumerate(layout.lanes):
        if lane >= 0:
            rest, channel = divmod(lane, channels)
            plane, tap = divmod(rest, packing.taps)
            yield _Lane(number, plane, channel, rows, columns + tap * packing.dilation)


def _bytes_of(lanes: NDArray[np.uint8], bits: int) -> Bytes:
    """Lanes of fewer than 8 bits side by side, the first in the lowest. Shapes: (n,) -> (n*bits/8,)."""
    per = 8 // bits
    shifts = np.arange(per, dtype=np.uint8) * np.uint8(bits)
    return np.asarray(np.bitwise_or.reduce(lanes.reshape(-1, per) << shifts, axis=1), np.uint8)


def _lanes_of(data: Bytes, bits: int) -> NDArray[np.uint8]:
    """The way back."""
    shifts = np.arange(8 // bits, dtype=np.uint8) * np.uint8(bits)
    return np.asarray((data[:, None] >> shifts) & np.uint8((1 << bits) - 1), np.uint8).reshape(-1)


def pack(layout: MapLayout, x: Array, segment: Bytes, inp_bits: int = 8) -> None:
    """Write a tensor to its place in an input segment of an overlay with operands of `inp_bits`.

    Shapes: x `layout.shape`, segment (bytes,). Raises ValueError where a value does not fit the layout's bits.
    """
    channels, height, width = (*layout.shape[1:], 1, 1)[:3]
    packing = layout.packing or Packing(width, height, 1)
    stored = layout.storage.stored(x).reshape(channels, height, width)
    if stored.min() < 0 or stored.max() > layout.storage.largest:
        raise ValueError(f"tensor {layout.name}: a value does not fit its {layout.bits} bits")
    values = np.zeros((packing.rows, packing.columns, len(layout.lanes)), np.uint8)
    for lane in _held(layout):
        down = (lane.rows >= 0) & (lane.rows < height)
        across = (lane.columns >= 0) & (lane.columns < width)
        held = np.full((packing.rows, packing.columns), packing.fill, np.int64)
        held[np.ix_(down, across)] = stored[lane.channel][np.ix_(lane.rows[down], lane.columns[across])]
        values[:, :, lane.number] = held >> lane.plane * inp_bits & (1 << inp_bits) - 1
    data = _bytes_of(values.reshape(-1), inp_bits)
    segment[layout.offset : layout.offset + data.size] = data


def unpack(layout: MapLayout, segment: Bytes, inp_bits: int = 8) -> Array:
    """Read a tensor from its place in a segment. Shapes: -> `layout.shape`.

    Elements that no lane holds (what nothing reads of an input) are the packing's `fill`.
    """
    channels, height, width = (*layout.shape[1:], 1, 1)[:3]
    packing = layout.packing or Packing(width, height, 1)
    size = packing.rows * packing.columns * len(layout.lanes) * inp_bits // 8
    data = _lanes_of(segment[layout.offset : layout.offset + size], inp_bits)
    lanes = data.reshape(packing.rows, packing.columns, len(layout.lanes)).astype(np.int64)
    x = np.zeros((channels, height, width), np.int64)
    held = np.zeros((channels, height, width), np.bool_)
    for lane in _held(layout):
        down = (lane.rows >= 0) & (lane.rows < height)
        across = (lane.columns >= 0) & (lane.columns < width)
        at = np.ix_(lane.rows[down], lane.columns[across])
        x[lane.channel][at] |= lanes[np.ix_(down, across)][..., lane.number] << lane.plane * inp_bits
        held[lane.channel][at] = True
    x = np.where(held, x, packing.fill)
    return layout.storage.values(x).astype(layout.dtype).reshape(layout.shape)
