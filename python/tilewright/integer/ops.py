"""The operators of the integer level, as data.

An accelerator region holds only these. Each is one composite function `tilewright.<kind>` whose body is plain Relax
integer operators; `emit` writes that body and `parse` reads it back, so the body is the only truth. Tensors hold
the quantised model's own int8 or uint8 values, NCHW with N = 1, or (1, K); results for the host may have 16 bits.

Every arithmetic operator ends in one requantisation (`targets/arithmetic.py`); its parameters count the operands as
`q - zero_point`, so zero padding is padding with the zero point.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from functools import reduce
from typing import ClassVar, Literal

import numpy as np
from numpy.typing import NDArray

from tilewright.targets.storage import Range

Array = NDArray[np.generic]
I64 = NDArray[np.int64]
DType = Literal["int8", "uint8", "int16", "uint16"]
"""Types of tensors; how many bits their values take is their range's matter (`targets/storage.py`)."""
Pair = tuple[int, int]
Pads = tuple[int, int, int, int]
"""Top, left, bottom, right; rows and columns of padding."""


def storage_offset(dtype: str) -> int:
    """What the machine adds to a value of this type in its full width: 128 to int8, 32768 to int16."""
    return -int(np.iinfo(dtype).min)


@dataclass(frozen=True)
class Rescale:
    """`y = clip(rne(acc * m + b, s), lo, hi)`, then a cast to `dtype`.

    `m`, `s`, `b` broadcast against (C, H, W) of the result: shape (C, 1, 1) per channel, (1, 1, 1) for all, (1, H, W)
    by position (average pooling whose windows are clipped). With `m_neg` and `b_neg`, results below zero
    (`acc * m + b < zero_point << s`) use those instead, with the same `s` (PReLU, leaky ReLU).
    """

    m: I64
    s: I64
    b: I64
    lo: int
    hi: int
    dtype: DType
    m_neg: I64 | None = None
    b_neg: I64 | None = None
    zero_point: int = 0
    """Zero point of the result; used with `m_neg` only."""

    @property
    def odd(self) -> bool:
        """Whether all results are odd, so that bounds -1..1 mean bipolar: m / 2^s is even and b / 2^s is odd."""
        if self.m_neg is not None or (self.lo, self.hi) != (-1, 1):
            return False
        one = np.int64(1) << self.s
        return bool((self.m % (2 * one) == 0).all() and (self.b % (2 * one) == one).all())


@dataclass(frozen=True)
class Operator:
    """One operator; `kind` is the composite's name after `tilewright.`."""

    kind: ClassVar[str]


@dataclass(frozen=True)
class Conv2d(Operator):
    """acc[o] = sum w[o, i, ky, kx] * (x - zero_point), zero padded.

    Shapes: x (1, I, H, W), weight (O, I/groups, KH, KW) integers in -255..255 (uint8 weights less their zero point
    need 9 bits), result (1, O, OH, OW). Depthwise is groups = I. Dense layers come as 1x1 convolutions' kin:
    :class:`Dense`.
    """

    kind = "conv2d"
    weight: Array
    zero_point: int
    rescale: Rescale
    strides: Pair = (1, 1)
    padding: Pads = (0, 0, 0, 0)
    dilation: Pair = (1, 1)
    groups: int = 1


@dataclass(frozen=True)
class ConvTranspose2d(Operator):
    """The transposed convolution of ONNX ConvTranspose.

    Shapes: x (1, I, H, W), weight (I, O/groups, KH, KW), result (1, O, (H-1)*stride + dilation*(KH-1) + 1 - pads +
    output_padding, ..).
    """

    kind = "conv2d_transpose"
    weight: Array
    zero_point: int
    rescale: Rescale
    strides: Pair = (1, 1)
    padding: Pads = (0, 0, 0, 0)
    output_padding: Pair = (0, 0)
    dilation: Pair = (1, 1)
    groups: int = 1


@dataclass(frozen=True)
class Dense(Operator):
    """acc[n] = sum weight[n, k] * (x[k] - zero_point). Shapes: x (1, K), weight (N, K), result (1, N).

    `rescale` arrays have shape (N,) or (1,) here.
    """

    kind = "dense"
    weight: Array
    zero_point: int
    rescale: Rescale


@dataclass(frozen=True)
class MaxPool2d(Operator):
    """Largest value of each window; padding never wins. The result keeps scale, zero point and type.

    `padding` is explicit: a ceil-mode overhang is part of bottom and right.
    """

    kind = "max_pool2d"
    kernel: Pair
    strides: Pair = (1, 1)
    padding: Pads = (0, 0, 0, 0)
    dilation: Pair = (1, 1)


@dataclass(frozen=True)
class SumPool2d(Operator):
    """acc = sum of (x - zero_point) over the window, zero padded: average pooling, its division in `rescale`."""

    kind = "sum_pool2d"
    kernel: Pair
    zero_point: int
    rescale: Rescale
    strides: Pair = (1, 1)
    padding: Pads = (0, 0, 0, 0)


@dataclass(frozen=True)
class Add(Operator):
    """`y = clip(rne((a - za) * rescale.m + (b - zb) * m2 + rescale.b, s), lo, hi)`; all parameters are scalars.

    Shapes: a and b (1, C, H, W) or (1, K); b may have C, H or W equal to 1 and is broadcast.
    """

    kind = "add"
    zero_point_a: int
    zero_point_b: int
    m2: int
    rescale: Rescale


@dataclass(frozen=True)
class Multiply(Operator):
    """`y = clip(rne((a - za) * (b - zb) * m + b, s), lo, hi)`; scalar parameters, b broadcast as for :class:`Add`."""

    kind = "multiply"
    zero_point_a: int
    zero_point_b: int
    rescale: Rescale


@dataclass(frozen=True)
class Table(Operator):
    """`y = table[x]` for any function of one element: index x - lowest(x's type).

    Shapes: table (256,) of the result's type, element 0 for the lowest value of the operand's type.
    """

    kind = "table"
    table: Array
    dtype: DType


@dataclass(frozen=True)
class Shift(Operator):
    """`y[c, j, i] = x[c, j*sy + dy[c], i*sx + dx[c]]`, `zero_point` outside of the map. Type and scale stay.

    Shapes: x (1, C, H, W), displacement (C, 2) of (dy, dx), result (1, C, *size).
    """

    kind = "shift"
    displacement: I64
    zero_point: int
    strides: Pair
    size: Pair


LayoutKind = Literal["reshape", "transpose", "slice", "concat", "pad", "repeat"]


@dataclass(frozen=True)
class LayoutStep:
    """One step of a :class:`Layout`; the arguments by kind:

    reshape: shape; transpose: axes; slice: begin, end, stride of each axis (three tuples, flattened by `args`);
    concat: (axis,); pad: before and after of each axis, then the value; repeat: factor of each axis (nearest
    resize).
    """

    kind: LayoutKind
    args: tuple[tuple[int, ...], ...]

    def apply(self, arrays: Sequence[Array]) -> list[Array]:
        """Do the step on arrays with their batch axis; only concat takes several."""
        if self.kind == "concat":
            return [np.concatenate(list(arrays), axis=self.args[0][0])]
        (x,) = arrays
        match self.kind:
            case "reshape":
                return [x.reshape(self.args[0])]
            case "transpose":
                return [x.transpose(self.args[0])]
            case "slice":
                return [x[tuple(slice(b, e, s) for b, e, s in zip(*self.args, strict=True))]]
            case "pad":
                before, after, (value,) = self.args
                return [np.pad(x, list(zip(before, after, strict=True)), constant_values=value)]
            case _:
                for axis, factor in enumerate(self.args[0]):
                    x = np.repeat(x, factor, axis)
                return [x]


@dataclass(frozen=True)
class Layout(Operator):
    """Moves elements and changes none: steps applied one after the other.

    Only the first step may be a concat and take several operands. Channel shuffle, split, flatten, nearest resize,
    DepthToSpace and channel padding all are layouts; the code generator looks at the element map that
    the steps amount to, not at the steps.
    """

    kind = "layout"
    steps: tuple[LayoutStep, ...] = field(default=())

    def apply(self, arrays: Sequence[Array]) -> Array:
        """Do all steps."""
        current = list(arrays)
        for step in self.steps:
            current = step.apply(current)
        (result,) = current
        return result


def result_range(op: Operator, operands: Sequence[Range], dtype: str) -> Range:
    """The values that an operator may give, of operands with these."""
    if isinstance(op, MaxPool2d):
        return operands[0]
    if isinstance(op, Shift):
        return operands[0].join(Range(op.zero_point, op.zero_point, operands[0].step))
    if isinstance(op, Layout):
        found = reduce(Range.join, operands)
        fills = [step.args[2][0] for step in op.steps if step.kind == "pad"]
        return reduce(Range.join, (Range(v, v, found.step) for v in fills), found)
    if isinstance(op, Table):
        x = operands[0]
        first = 128 if x.lo < 0 else 0
        held = np.unique(op.table[x.lo + first : x.hi + first + 1]).astype(np.int64)
        step = 2 if len(held) < 3 and (np.abs(held) == 1).all() else 1
        return Range(int(held.min()), int(held.max()), step)
    r: Rescale = op.rescale  # type: ignore[attr-defined]
    return Range(r.lo, r.hi, 2 if r.odd else 1)


OPERATORS: tuple[type[Operator], ...] = (
    Conv2d,
    ConvTranspose2d,
    Dense,
    MaxPool2d,
    SumPool2d,
    Add,
    Multiply,
    Table,
    Shift,
    Layout,
)
