"""Tensors to and from the segments of a region, as its memory map says; for overlays with 8-bit operands.

The runtime has its own in C++ (`board/native/src/region.cc`); tests hold both to the formulas in `region.py`.
"""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
from numpy.typing import NDArray

from tilewright.targets.region import MapLayout, Packing

Array = NDArray[np.generic]
Bytes = NDArray[np.uint8]


def _offset(layout: MapLayout) -> int:
    """What is added to a value to store it unsigned."""
    return -int(np.iinfo(layout.dtype).min)


def _held(layout: MapLayout) -> Iterator[tuple[int, int, NDArray[np.int64]]]:
    """Of each lane that holds something: its number, its channel, and the tensor's column in each pixel of a row."""
    channels, _, width = (*layout.shape[1:], 1, 1)[:3]
    packing = layout.packing or Packing(width, 1)
    columns = np.arange(packing.columns) * packing.stride + packing.offset
    for number, lane in enumerate(layout.lanes):
        if lane >= 0:
            tap, channel = divmod(lane, channels)
            yield number, channel, columns + tap * packing.dilation


def pack(layout: MapLayout, x: Array, segment: Bytes) -> None:
    """Write an 8-bit tensor to its place in an input segment. Shapes: x `layout.shape`, segment (bytes,)."""
    channels, height, width = (*layout.shape[1:], 1, 1)[:3]
    packing = layout.packing or Packing(width, 1)
    stored = (x.astype(np.int64) + _offset(layout)).astype(np.uint8).reshape(channels, height, width)
    values = np.zeros((height, packing.columns, len(layout.lanes)), np.uint8)
    for lane, channel, columns in _held(layout):
        inside = (columns >= 0) & (columns < width)
        values[:, ~inside, lane] = packing.fill
        values[:, inside, lane] = stored[channel][:, columns[inside]]
    segment[layout.offset : layout.offset + values.size] = values.reshape(-1)


def unpack(layout: MapLayout, segment: Bytes) -> Array:
    """Read a tensor from its place in a segment; 16 bits lie in two planes. Shapes: -> `layout.shape`.

    Elements that no lane holds (what nothing reads of an input) are the packing's `fill`.
    """
    channels, height, width = (*layout.shape[1:], 1, 1)[:3]
    packing = layout.packing or Packing(width, 1)
    lanes, planes = len(layout.lanes), np.dtype(layout.dtype).itemsize
    size = height * packing.columns * planes * lanes
    values = segment[layout.offset : layout.offset + size].reshape(height, packing.columns, planes, lanes)
    joined = (values.astype(np.int64) << (8 * np.arange(planes))[:, None]).sum(2)
    x = np.full((channels, height, width), packing.fill, np.int64)
    for lane, channel, columns in _held(layout):
        inside = (columns >= 0) & (columns < width)
        x[channel][:, columns[inside]] = joined[:, inside, lane]
    return (x - _offset(layout)).astype(layout.dtype).reshape(layout.shape)
