"""Shifts as displaced reads of MATRIX: nothing is moved, every lane reads at an address of its own.

A shift only marks channels in the table of places: element (c, j, i) is the one dy rows and dx columns from the place
that the table names, or `fill` where that lies outside of the map. A convolution that reads it takes

* *one pass*, with entries of the displacement table, where the overlay has one and the displacements are in its range:
  the machine tests both (py, px) and (py + dy, px + dx) against the map, as the shift does before the convolution's
  own padding;
* *one pass a direction* otherwise: lanes of each displacement on their own, the displacement being part of the
  instruction's offset. That tests (py + dy, px + dx) only, so it is for convolutions that read nothing outside of
  the shifted map.

Everybody else reads a copy, a selection on MATRIX, made so. A shift of a shift copies the first: a displacement twice
as long would see what the first one has moved out.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
from numpy.typing import NDArray

from tilewright.codegen.constants import Pool
from tilewright.codegen.layers import Geometry
from tilewright.codegen.layouts import Gather, gather_of
from tilewright.codegen.tile import Constants
from tilewright.codegen.values import I32, I64, Map, Source, Value, source_of
from tilewright.integer import ops
from tilewright.targets.config import Overlay
from tilewright.targets.isa.spec import Memory

FARTHEST = 511
"""Largest displacement that a table of places can hold."""
_BIAS = FARTHEST + 1


def _encoded(moves: I64, fill: int) -> I64:
    """Marks of channels, 0 for one that stays. Shapes: (C, 2) -> (C,)."""
    marks = (moves[:, 0] + _BIAS) << 32 | (moves[:, 1] + _BIAS) << 16 | fill
    return np.asarray(np.where(moves.any(1), marks, 0), np.int64)


def decoded(marks: I64) -> tuple[I64, I64]:
    """(dy, dx) of each channel, and what the moved ones have outside of the map. Shapes: (C,) -> (C, 2), (n,)."""
    held = marks != 0
    moves = np.stack([(marks >> 32) - _BIAS, (marks >> 16 & 0xFFFF) - _BIAS], axis=1)
    return np.where(held[:, None], moves, 0), np.unique(marks[held] & 0xFFFF)


def rows_left(op: ops.Shift, size: Sequence[int]) -> tuple[int, int]:
    """Rows and columns by which a shift's first place may be moved; negative where its result is too large."""
    rows, columns = (n - 1 - (o - 1) * s for n, o, s in zip(size, op.size, op.strides, strict=True))
    return rows, columns


def place_shift(op: ops.Shift, fill: int, value: Value, overlay: Overlay) -> Value:
    """Mark a shift in the table of places of a value whose channels are in place. `fill` is a stored value."""
    first = []
    for axis, room in enumerate(rows_left(op, value.shape[1:])):
        d = op.displacement[:, axis]
        least, most = d.max() - overlay.displacement_max, d.min() - overlay.displacement_min
        start = min(max(0, int(least)), int(most), room)
        first.append(start if start >= max(0, int(least)) else 0)
    rows, columns = (
        slice(f, f + (n - 1) * s + 1, s) for f, n, s in zip(first, op.size, op.strides, strict=True)
    )
    cut = (slice(None), rows, columns)
    marks = _encoded(op.displacement - np.array(first), fill)
    moved = np.broadcast_to(marks[:, None, None], (len(marks), *op.size))
    return Value(value.maps, value.number[cut], value.pixel[cut], value.lane[cut], moved)


def _read(value: Value) -> Gather | None:
    """A value as whole channels at places of a regular grid, the marked ones of one fill; None: it is none."""
    if len(value.shape) == 1:
        return None
    g = gather_of(value)
    if g is None or g.swapped or g.number.min() < 0 or len(decoded(g.moved)[1]) > 1:
        return None
    return g


def readable(value: Value) -> bool:
    """Whether some convolution can read a value with shifts in it as it is."""
    return _read(value) is not None


@dataclass(frozen=True)
class Displaced:
    """How a convolution reads a shifted value: its source, its geometry over the stored map, the value outside."""

    source: Source
    geometry: Geometry
    pad: int


def fold(value: Value, geometry: Geometry, pad: int, overlay: Overlay) -> Displaced | None:
    """How a convolution with this geometry over `value` reads the stored map; None where it needs a copy.

    `pad` is what the convolution has outside of the value.
    """
    g = _read(value)
    if g is None:
        return None
    moves, fills = decoded(g.moved)
    m = value.maps[int(g.number[0])]
    inside = True
    for axis, size in enumerate((m.height, m.width)):
        taps = np.arange(geometry.count[axis])[:, None] * geometry.stride[axis] + geometry.offset[axis]
        taps = taps + np.arange(geometry.kernel[axis]) * geometry.dilation[axis]
        beyond = taps[(taps < 0) | (taps >= value.shape[1 + axis])]
        places = g.origin[axis] + beyond * g.stride[axis]
        if ((places >= 0) & (places < size)).any():
            return None  # the map goes on where the value ends
        inside = inside and not len(beyond)
    if not inside and len(fills) and int(fills[0]) != pad:
        return None
    source = displaced_source(value.maps, g.number, g.lane, moves, (m.height, m.width), overlay, inside)
    if source is None:
        return None
    along = replace(
        geometry,
        stride=(geometry.stride[0] * g.stride[0], geometry.stride[1] * g.stride[1]),
        dilation=(geometry.dilation[0] * g.stride[0], geometry.dilation[1] * g.stride[1]),
        offset=(
            geometry.offset[0] * g.stride[0] + g.origin[0],
            geometry.offset[1] * g.stride[1] + g.origin[1],
        ),
    )
    return Displaced(source, reaching(along, moves), int(fills[0]) if len(fills) else pad)


def reaching(geometry: Geometry, moves: I64) -> Geometry:
    """A geometry whose spans hold what displaced lanes read."""
    least, most = np.minimum(moves.min(0), 0), np.maximum(moves.max(0), 0)
    return replace(geometry, above=(-int(least[0]), -int(least[1])), below=(int(most[0]), int(most[1])))


def in_range(moves: I64, overlay: Overlay) -> bool:
    """Whether the overlay's displacement table can hold these."""
    low, high = overlay.displacement_min, overlay.displacement_max
    return overlay.disp_entries > 0 and bool(((moves >= low) & (moves <= high)).all())


def displaced_source(
    maps: Sequence[Map],
    number: I32,
    lane: I32,
    moves: I64,
    size: tuple[int, int],
    overlay: Overlay,
    inside: bool,
) -> Source | None:
    """The half words that hold these channels, with the displacement of each lane or half word.

    `inside`: the reader reads nothing outside of the shifted map. None: neither way is exact.
    """
    source = source_of(maps, number, lane, size, overlay.block_in)
    if not moves.any():
        return source
    held = source.lanes >= 0
    by_lane = np.where(held[:, :, None], moves[source.lanes], 0)
    alone = inside and len(np.unique(moves, axis=0)) == 1
    if in_range(moves, overlay) and not alone:
        return replace(source, moves=by_lane)
    if not inside:
        return None
    blocks, lanes, offsets = [], [], []
    for move in np.unique(moves, axis=0):
        for block, channels, theirs in zip(source.blocks, source.lanes, by_lane, strict=True):
            own = (channels >= 0) & (theirs == move).all(1)
            if own.any():
                blocks.append(block)
                lanes.append(np.where(own, channels, -1))
                offsets.append((int(move[0]), int(move[1])))
    return Source(tuple(blocks), np.array(lanes, np.int32), *size, offsets=tuple(offsets))


@dataclass(eq=False)
class Entries:
    """The displacement table's contents: rows that passes need, those that overlap stored once.

    If all rows of a region fit the table they are loaded once. If not, in portions of half a table at most, so that
    one comes in while another is used.
    """

    overlay: Overlay
    pool: Pool
    rows: dict[tuple[bytes, ...], tuple[Constants, int]] = field(default_factory=dict)

    def store(self, runs: Iterable[tuple[bytes, ...]]) -> None:
        """Store all runs of rows that passes need, each `most_rows` long at most."""
        wanted = sorted(set(runs), key=lambda run: (-len(run), run))
        portions = _overlapped(wanted, self.overlay.disp_entries)
        if len(portions) > 1:
            portions = _overlapped(wanted, most_rows(self.overlay))
        for portion in portions:
            offset = self.pool.add(b"".join(portion))
            held = Constants(Memory.DISP, offset, len(portion))
            for run in wanted:
                at = _find(portion, run)
                if at is not None:
                    self.rows.setdefault(run, (held, at))

    def find(self, run: tuple[bytes, ...]) -> tuple[Constants, int]:
        """The portion that holds these rows, and the first one's place in it."""
        return self.rows[run]


def most_rows(overlay: Overlay) -> int:
    """Input half words of a displaced pass at most."""
    return max(1, overlay.disp_entries // 2)


def table_rows(source: Source, first: int, count: int) -> tuple[bytes, ...]:
    """Displacement entries of half words `first` .. of a source; none where its lanes stay."""
    if source.moves is None or not source.moves[first : first + count].any():
        return ()
    nibbles = source.moves[first : first + count] & 15
    packed: NDArray[np.uint8] = (nibbles[:, :, 0] | nibbles[:, :, 1] << 4).astype(np.uint8)
    return tuple(row.tobytes() for row in packed)


def _find(portion: Sequence[bytes], run: Sequence[bytes]) -> int | None:
    places = range(len(portion) - len(run) + 1)
    return next((i for i in places if tuple(portion[i : i + len(run)]) == tuple(run)), None)


def _overlapped(runs: Sequence[tuple[bytes, ...]], most: int) -> list[list[bytes]]:
    """Portions of at most `most` rows that hold all runs; a run that begins as a portion ends shares those rows."""
    portions: list[list[bytes]] = []
    for run in runs:
        if any(_find(portion, run) is not None for portion in portions):
            continue
        best, shared = None, -1
        for portion in portions:
            same = next(n for n in range(len(run), -1, -1) if n == 0 or tuple(portion[-n:]) == run[:n])
            if len(portion) + len(run) - same <= most and same > shared:
                best, shared = portion, same
        if best is None:
            portions.append(list(run))
        else:
            best.extend(run[shared:])
    return portions
