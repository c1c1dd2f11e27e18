"""What the machine does for an operator: layers of the MATRIX and of the VECTOR unit, still untiled."""

from __future__ import annotations

from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from tilewright.codegen.values import Map, Source
from tilewright.targets.isa.spec import VectorOp

I64 = NDArray[np.int64]


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


IDENTITY_M, IDENTITY_S = 1 << 23, 23
"""m / 2^s = 1 exactly."""


def identity(channels: int, hi: int) -> Parameters:
    """Parameters of a copy."""
    ones = np.ones(channels, np.int64)
    return Parameters(ones * IDENTITY_M, ones * IDENTITY_S, ones * 0, 0, hi)


@dataclass(frozen=True, eq=False)
class Geometry:
    """Where the window of each result lies and where the result goes.

    Result (j, i) reads rows j*stride + k*dilation + offset of the source and is written to row first + step*j of the
    output map, columns likewise; with `swapped` row and column of the output change places.
    """

    kernel: tuple[int, int] = (1, 1)
    stride: tuple[int, int] = (1, 1)
    dilation: tuple[int, int] = (1, 1)
    offset: tuple[int, int] = (0, 0)
    count: tuple[int, int] = (1, 1)
    first: tuple[int, int] = (0, 0)
    step: tuple[int, int] = (1, 1)
    swapped: bool = False

    def span(self, axis: int, start: int, count: int, size: int) -> tuple[int, int]:
        """Source rows (axis 0) or columns (1) that results start .. start+count-1 read: first and number.

        At least one is named even where all taps fall outside of 0..size-1.
        """
        low = start * self.stride[axis] + self.offset[axis]
        high = (start + count - 1) * self.stride[axis] + self.offset[axis]
        high += (self.kernel[axis] - 1) * self.dilation[axis]
        low, high = min(max(low, 0), size - 1), max(min(high, size - 1), 0)
        return low, max(high - low + 1, 1)


@dataclass(frozen=True, eq=False)
class MatrixLayer:
    """A convolution on MATRIX, requantised by VECTOR.

    Attributes:
        weight: (O, I, KH, KW) integers of 9 bits at most; I counts the source's channels.
        present: (O, I), False where a weight is zero by structure (other groups, selections); None: all True.
        pad: stored value outside of the map.
        counted: whether its products count as the network's (copies do not).
        table: 256 stored values applied last, or None.
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


def with_table(layer: Layer, table: NDArray[np.uint8]) -> Layer:
    """The layer with a table applied last."""
    return replace(layer, table=table)
