"""Where the elements of a tensor lie, so that layouts need not move them.

A *map* is a rectangle of pixels with `blocks` half words each. A tensor's elements lie anywhere in maps: each has
a map, a pixel and a lane (half word times block_in plus lane within it). Channel shuffle, split and
concat only change this table. What a consumer reads are whole half words: a :class:`Source` lists them with the
channel that each lane holds; lanes with other channels get zero weights.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from tilewright.targets.isa.spec import Base
from tilewright.targets.region import Packing

I32 = NDArray[np.int32]
I64 = NDArray[np.int64]


@dataclass(eq=False)
class Map:
    """A stored map: `height x width` pixels of `blocks` half words. `offset` (bytes) is set by the allocator.

    Values have `bits`. Those wider than the overlay's operands lie in `planes`: a pixel's half words are those of the
    lowest plane, then those of the next. Places of elements are those of the lowest. `packing` says which columns of a
    region's input its pixels hold, None: their own; `lanes` what their lanes do, none: its channels, plane by plane.
    """

    name: str
    height: int
    width: int
    blocks: int
    segment: Base = Base.WORKSPACE
    offset: int = -1
    bits: int = 8
    planes: int = 1
    packing: Packing | None = None
    lanes: tuple[int, ...] = ()

    @property
    def half_words(self) -> int:
        """Size."""
        return self.height * self.width * self.blocks

    @property
    def plane_blocks(self) -> int:
        """Half words of a pixel in each plane."""
        return self.blocks // self.planes


CONSTANT = -1
"""Map number of elements that no map holds; the lane is their stored value."""


@dataclass(frozen=True, eq=False)
class Value:
    """A tensor as a table of places.

    Shapes: `maps[number[i]]`, `pixel[i]`, `lane[i]` give the place of element i; the three arrays have the tensor's
    shape without the batch axis: (C, H, W) or (K,). So has `moved`, where a shift is in it (`displacement.py`).
    """

    maps: tuple[Map, ...]
    number: I32
    pixel: I32
    lane: I32
    moved: I64 | None = None

    @classmethod
    def of_map(cls, m: Map, channels: Sequence[int], shape: tuple[int, ...]) -> Value:
        """The tensor of `shape` whose channel c is lane `channels[c]` of every pixel of `m`."""
        lane = np.asarray(channels, np.int32)
        if len(shape) == 1:
            return cls((m,), np.zeros(shape, np.int32), np.zeros(shape, np.int32), lane)
        full = np.broadcast_to(lane[:, None, None], shape)
        pixel = np.arange(m.height * m.width, dtype=np.int32).reshape(1, m.height, m.width)
        return cls((m,), np.broadcast_to(np.int32(0), shape), np.broadcast_to(pixel, shape), full)

    @property
    def shape(self) -> tuple[int, ...]:
        """Without the batch axis."""
        return self.number.shape

    def channels_in_place(self) -> bool:
        """Whether every channel is one lane of a map of the tensor's own height and width, and none is moved."""
        if self.moved is not None and self.moved.any():
            return False
        if len(self.shape) == 1:
            used = np.unique(self.number)
            return bool(
                used[0] != CONSTANT and all(self.maps[n].height * self.maps[n].width == 1 for n in used)
            )
        _, height, width = self.shape
        if self.number.min() == CONSTANT:
            return False
        if any(
            (self.maps[n].height, self.maps[n].width) != (height, width)
            for n in np.unique(self.number[:, 0, 0])
        ):
            return False
        own = np.arange(height * width, dtype=np.int32).reshape(1, height, width)
        return bool(
            (self.pixel == own).all()
            and (self.number == self.number[:, :1, :1]).all()
            and (self.lane == self.lane[:, :1, :1]).all()
        )

    def in_order(self) -> bool:
        """Whether channels in place are the lanes of one map in order."""
        number, lane = self.channel_places()
        return bool((number == number[0]).all() and (lane == np.arange(len(lane))).all())

    def channel_places(self) -> tuple[I32, I32]:
        """Map number and lane of each channel, where :meth:`channels_in_place`."""
        if len(self.shape) == 1:
            return self.number, self.lane
        return self.number[:, 0, 0], self.lane[:, 0, 0]


@dataclass(frozen=True, eq=False)
class Source:
    """Half words that a consumer reads at each pixel.

    Attributes:
        blocks: (map, half word of the pixel), in the order in which they lie in ACT.
        lanes: (len(blocks), block_in): channel of each lane, -1 where there is none of this tensor's.
        height, width: rows and columns of pixels; 1 x 1 where whole maps are read as one pixel (dense layers).
        moves: (len(blocks), block_in, 2): displacement of each lane; None: none is displaced.
        offsets: (dy, dx) of each half word that all its lanes have; empty: none has any.
    """

    blocks: tuple[tuple[Map, int], ...]
    lanes: I32
    height: int
    width: int
    moves: I64 | None = None
    offsets: tuple[tuple[int, int], ...] = ()

    def runs(self, first: int, count: int) -> list[tuple[Map, int, int, int]]:
        """Blocks `first` .. as runs of neighbours: (map, half word of the pixel, count, position after `first`)."""
        found: list[tuple[Map, int, int, int]] = []
        for i, (m, block) in enumerate(self.blocks[first : first + count]):
            beside = found and found[-1][0] is m and found[-1][1] + found[-1][2] == block
            if beside and (not self.offsets or self.offsets[first + i] == self.offsets[first + i - 1]):
                found[-1] = (m, found[-1][1], found[-1][2] + 1, found[-1][3])
            else:
                found.append((m, block, 1, i))
        return found


def source_of(maps: Sequence[Map], number: I32, lane: I32, size: tuple[int, int], block_in: int) -> Source:
    """The half words that hold these channels, sorted by place; one that two channels share is listed twice."""
    order: dict[int, int] = {}
    for n in number.tolist():
        order.setdefault(n, len(order))
    taken: set[tuple[int, int, int, int]] = set()
    places: list[tuple[int, int, int, int]] = []  # map rank, block, copy, lane
    for n, position in zip(number.tolist(), lane.tolist(), strict=True):
        place = (order[n], position // block_in, 0, position % block_in)
        while place in taken:
            place = (place[0], place[1], place[2] + 1, place[3])
        taken.add(place)
        places.append(place)
    keys = sorted({(copy, rank, block) for rank, block, copy, _ in places})
    row = {key: i for i, key in enumerate(keys)}
    lanes = np.full((len(keys), block_in), -1, np.int32)
    for channel, (rank, block, copy, position) in enumerate(places):
        lanes[row[copy, rank, block], position] = channel
    by_rank = {rank: maps[n] for n, rank in order.items()}
    return Source(tuple((by_rank[rank], block) for _, rank, block in keys), lanes, *size)


def channel_source(value: Value, block_in: int) -> Source:
    """The source of a value whose channels are in place."""
    number, lane = value.channel_places()
    first = value.maps[int(number[0])]
    return source_of(value.maps, number, lane, (first.height, first.width), block_in)


def flat_source(value: Value, block_in: int) -> Source:
    """All elements of a (K,) value as the lanes of one pixel, whole maps being read as one."""
    blocks = np.array([m.blocks for m in value.maps], np.int32)
    return source_of(
        value.maps, value.number, value.pixel * blocks[value.number] * block_in + value.lane, (1, 1), block_in
    )


def join(values: Sequence[Value]) -> tuple[tuple[Map, ...], list[Value]]:
    """Renumber several values over one list of maps."""
    maps: list[Map] = []
    index: dict[int, int] = {}
    for value in values:
        for m in value.maps:
            if id(m) not in index:
                index[id(m)] = len(maps)
                maps.append(m)
    joined = []
    for value in values:
        renumber = np.array([index[id(m)] for m in value.maps] + [CONSTANT], np.int32)  # [-1] is CONSTANT
        joined.append(Value(tuple(maps), renumber[value.number], value.pixel, value.lane, value.moved))
    return tuple(maps), joined


def matching_source(source: Source, value: Value, block_in: int) -> Source | None:
    """The half words of `value` that hold, lane by lane, the channels that `source` holds; None: there are none."""
    number, lane = value.channel_places()
    if len(number) != int((source.lanes >= 0).sum()):
        return None
    blocks: list[tuple[Map, int]] = []
    for channels in source.lanes:
        lanes = np.flatnonzero(channels >= 0)
        held = channels[lanes]
        places = {(int(n), int(p) // block_in) for n, p in zip(number[held], lane[held], strict=True)}
        if len(places) != 1 or (lane[held] % block_in != lanes).any():
            return None
        (place,) = places
        blocks.append((value.maps[place[0]], place[1]))
    first = blocks[0][0]
    return Source(tuple(blocks), source.lanes, first.height, first.width)
