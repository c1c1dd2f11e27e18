"""What the machine does for an operator: layers of the MATRIX and of the VECTOR unit, still untiled."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TypeVar

import numpy as np
from numpy.typing import NDArray

from tilewright.codegen.values import I32, Map, Source
from tilewright.integer import ops
from tilewright.targets.arithmetic import S_MIN
from tilewright.targets.isa.spec import VectorOp
from tilewright.targets.storage import Storage

I64 = NDArray[np.int64]
Scalar = TypeVar("Scalar", bound=np.generic)


@dataclass(frozen=True, eq=False)
class Parameters:
    """Requantisation as the machine does it, on unsigned values.

    Shapes: `m`, `s`, `b` (and `m2`, `b2`, the second set) (channels,), or (OH, OW) where `by_position`.
    """

    m: I64
    s: I64
    b: I64
    lo: int
    hi: int
    m2: I64 | None = None
    b2: I64 | None = None
    negative: bool = False
    out_zero_point: int = 0
    by_position: bool = False

    @property
    def sets(self) -> int:
        """Parameter sets of a channel."""
        return 1 if self.m2 is None else 2


def machine_parameters(
    rescale: ops.Rescale,
    stored: Storage,
    channels: int,
    added: NDArray[np.int64] | None = None,
) -> Parameters:
    """Rescale of an integer operator -> the machine's parameters for a result that is `stored` so.

    The machine stores value + offset and, on MATRIX, sums raw stored values: what that has `added` leaves B.
    Of a bipolar result it stores (value + 1) / 2, and odd values need no rounding for that.
    """
    offset = stored.offset
    if stored.bits == 1:
        one = np.int64(1) << rescale.s
        rescale = replace(rescale, s=rescale.s + 1, b=rescale.b + one, lo=0, hi=1)
    spread = np.zeros(channels, np.int64)
    m, s, b = (np.asarray(a, np.int64).reshape(-1) + spread for a in (rescale.m, rescale.s, rescale.b))
    extra = spread if added is None else added
    shift = np.int64(offset) << s
    parameters = Parameters(m, s, b - m * extra + shift, rescale.lo + offset, rescale.hi + offset)
    if rescale.m_neg is None or rescale.b_neg is None:
        return parameters
    m2, b2 = (np.asarray(a, np.int64).reshape(-1) + spread for a in (rescale.m_neg, rescale.b_neg))
    return replace(
        parameters,
        m2=m2,
        b2=b2 - m2 * extra + shift,
        negative=True,
        out_zero_point=rescale.zero_point + offset,
    )


def stored_table(op: ops.Table, operand: Storage, result: Storage) -> NDArray[np.uint8]:
    """The table as stored numbers, by stored numbers."""
    lowest = int(np.iinfo(operand.dtype).min)
    values = np.clip(operand.values(np.arange(256)) - lowest, 0, 255)
    return np.clip(result.stored(op.table[values]), 0, 255).astype(np.uint8)


IDENTITY_M, IDENTITY_S = 1 << 23, 23
"""m / 2^s = 1 exactly."""


def identity(channels: int, bits: int) -> Parameters:
    """Parameters of a copy of stored numbers of so many bits."""
    ones = np.ones(channels, np.int64)
    return Parameters(ones * IDENTITY_M, ones * IDENTITY_S, ones * 0, 0, (1 << bits) - 1)


def arranged(
    weight: NDArray[np.integer], present: NDArray[np.bool_] | None, parameters: Parameters, places: I32
) -> tuple[NDArray[np.integer], NDArray[np.bool_], Parameters]:
    """A MATRIX layer's constants with channel c as output `places[c]`; outputs between have no weights and give `lo`.

    Shapes: weight (O, I, KH, KW), present (O, I, KW), as in :class:`MatrixLayer`.
    """
    p = parameters
    real = np.ones((*weight.shape[:2], weight.shape[3]), np.bool_) if present is None else present
    own = replace(
        p, m=_moved(p.m, places), s=_moved(p.s, places, S_MIN), b=_moved(p.b, places, p.lo << S_MIN)
    )
    if p.m2 is not None and p.b2 is not None:
        own = replace(own, m2=_moved(p.m2, places), b2=_moved(p.b2, places, p.lo << S_MIN))
    return _moved(weight, places), _moved(real, places), own


def _moved(rows: NDArray[Scalar], places: I32, fill: int = 0) -> NDArray[Scalar]:
    spread = np.full((int(places.max()) + 1, *rows.shape[1:]), fill, rows.dtype)
    spread[places] = rows
    return spread


@dataclass(frozen=True)
class Extent:
    """What cutting one axis into equal pieces reads of the source: in all, at most for a piece; and the pieces."""

    total: int
    largest: int
    pieces: int


@dataclass(frozen=True, eq=False)
class Geometry:
    """Where the window of each result lies and where the result goes.

    Result (j, i) reads rows j*stride + k*dilation + offset of the source and is written to row first + step*j of the
    output map, columns likewise; with `swapped` row and column of the output change places. Displaced lanes read up to
    `above` rows (columns) before and `below` behind.
    """

    kernel: tuple[int, int] = (1, 1)
    stride: tuple[int, int] = (1, 1)
    dilation: tuple[int, int] = (1, 1)
    offset: tuple[int, int] = (0, 0)
    count: tuple[int, int] = (1, 1)
    first: tuple[int, int] = (0, 0)
    step: tuple[int, int] = (1, 1)
    swapped: bool = False
    above: tuple[int, int] = (0, 0)
    below: tuple[int, int] = (0, 0)

    def span(self, axis: int, start: int, count: int, size: int) -> tuple[int, int]:
        """Source rows (axis 0) or columns (1) that results start .. start+count-1 read: first and number.

        At least one is named even where all taps fall outside of 0..size-1.
        """
        low = start * self.stride[axis] + self.offset[axis]
        high = (start + count - 1) * self.stride[axis] + self.offset[axis]
        low, high = low - self.above[axis], high + self.below[axis]
        high += (self.kernel[axis] - 1) * self.dilation[axis]
        low, high = min(max(low, 0), size - 1), max(min(high, size - 1), 0)
        return low, max(high - low + 1, 1)

    def rows(self, start: int, count: int, size: int) -> tuple[int, int]:
        """First source row that results start .. start+count-1 read, and the row behind the last; equal for none."""
        low = start * self.stride[0] + self.offset[0]
        high = (start + count - 1) * self.stride[0] + self.offset[0] + (self.kernel[0] - 1) * self.dilation[0]
        if high < 0 or low >= size:  # displaced lanes as well read nothing
            return 0, 0
        first, number = self.span(0, start, count, size)
        return first, first + number

    def reads(self, axis: int, size: int) -> bool:
        """Whether every result has a tap inside a source of `size`; VECTOR has nothing to give for one without."""
        starts = np.arange(self.count[axis]) * self.stride[axis] + self.offset[axis]
        taps = starts[:, None] + np.arange(self.kernel[axis]) * self.dilation[axis]
        return bool(((taps >= 0) & (taps < size)).any(axis=1).all())

    def extent(self, axis: int, cut: int, size: int) -> Extent:
        """What pieces of `cut` results read along an axis of a source of `size`."""
        total = self.count[axis]
        spans = [self.span(axis, start, min(cut, total - start), size)[1] for start in range(0, total, cut)]
        return Extent(sum(spans), max(spans), len(spans))


@dataclass(frozen=True, eq=False)
class MatrixLayer:
    """A convolution on MATRIX, requantised by VECTOR.

    Attributes:
        weight: (O, I, KH, KW) integers; I counts the source's channels.
        present: (O, I, KW), False where weights are zero by structure (other groups, selections, kernel columns that
            fill a packed pixel); None: all True.
        pad: stored value outside of the map.
        counted: whether its products count as the network's (copies do not).
        table: 256 stored values applied last, or None.
        quartered: the source's half words hold digits of values by quarters (`packing.py`).
        pool: windows over the sums, the largest of each being requantised; None: every sum is a result. `sums` is then
            the convolution, `geometry` both together.
    """

    name: str
    source: Source
    output: Map
    geometry: Geometry
    weight: NDArray[np.integer]
    parameters: Parameters
    pad: int = 0
    present: NDArray[np.bool_] | None = None
    counted: bool = True
    table: NDArray[np.uint8] | None = None
    quartered: bool = False
    pool: Geometry | None = None
    sums: Geometry | None = None

    @property
    def convolution(self) -> Geometry:
        """Where the sums lie."""
        return self.sums or self.geometry

    @property
    def sums_per_result(self) -> int:
        """Vectors of ACC that a result takes."""
        return 1 if self.pool is None else self.pool.stride[0] * self.pool.stride[1]

    def pooled(self, pool: Geometry, output: Map) -> MatrixLayer:
        """The layer with the largest sum of each window. Windows must not overlap, and m must not be negative."""
        c = self.geometry
        (ky, kx), (sy, sx) = (
            tuple(
                (p - 1) * s + (k - 1) * d + 1
                for p, s, k, d in zip(pool.kernel, c.stride, c.kernel, c.dilation, strict=True)
            ),
            tuple(p * s for p, s in zip(pool.stride, c.stride, strict=True)),
        )
        whole = replace(
            c,
            kernel=(ky, kx),
            stride=(sy, sx),
            dilation=(1, 1),
            offset=(pool.offset[0] * c.stride[0] + c.offset[0], pool.offset[1] * c.stride[1] + c.offset[1]),
            count=pool.count,
        )
        return replace(self, output=output, geometry=whole, pool=pool, sums=c)


@dataclass(frozen=True, eq=False)
class VectorLayer:
    """An operation on VECTOR. The output map has the source's half words in the source's order.

    Attributes:
        source2: second operand with the same lanes; 1 x 1 maps are broadcast.
        weight: (channels, KH*KW) for DEPTHWISE.
        zero_point, zero_point2: stored values subtracted from the operands.
    """

    name: str
    op: VectorOp
    source: Source
    output: Map
    geometry: Geometry
    parameters: Parameters
    zero_point: int = 0
    source2: Source | None = None
    zero_point2: int = 0
    weight: NDArray[np.integer] | None = None
    counted: bool = True
    table: NDArray[np.uint8] | None = None


Layer = MatrixLayer | VectorLayer
