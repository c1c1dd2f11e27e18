"""Operator -> its body in plain Relax integer operators.

The body is what TVM llvm runs at the integer level and what `parse` reads back. Products are summed in int32 (the
accumulator is proven to fit before), requantised in int64:

    p = acc * m + b;  y = clip((p + ((p >> s) & 1) + (2^(s-1) - 1)) >> s, lo, hi)

which is division by 2^s rounded half to even: the bit added is that of the quotient, so a tie goes up from an odd
quotient only.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import astuple
from typing import TypeAlias

import numpy as np
from numpy.typing import ArrayLike
from tvm import relax, runtime

from tilewright.integer.ops import (
    Add,
    Conv2d,
    ConvTranspose2d,
    Dense,
    Layout,
    LayoutStep,
    MaxPool2d,
    Multiply,
    Operator,
    Rescale,
    Shift,
    SumPool2d,
    Table,
)
from tilewright.targets.storage import Range

Spec: TypeAlias = tuple[tuple[int, ...], str]
"""Shape and element type of an operand."""
Expr: TypeAlias = relax.Expr

COMPOSITE_PREFIX = "tilewright."
LAYER = "tilewright.layer"
"""Attribute of a composite: name of the source layer."""
RANGES = "tilewright.ranges"
"""Attribute of a composite some of whose operands have not all values of their types: lo, hi, step of each."""


def constant(value: ArrayLike, dtype: str) -> Expr:
    """A Relax constant of exactly this type (`relax.const` narrows int64)."""
    return relax.const(runtime.tensor(np.array(value, dtype, order="C")))


def _shifted(x: Expr, zero_point: int, dtype: str) -> Expr:
    return relax.op.subtract(relax.op.astype(x, dtype), constant(zero_point, dtype))


def _sum_type(x: Expr) -> str:
    """The type in which products' operands are held: 8 bits less a zero point have 9."""
    return "int32" if str(x.ty.dtype).endswith("16") else "int16"


def _finish(p: Expr, r: Rescale) -> Expr:
    s = constant(r.s, "int64")
    odd = relax.op.bitwise_and(relax.op.right_shift(p, s), constant(1, "int64"))
    half = constant((np.int64(1) << (r.s - 1)) - 1, "int64")
    y = relax.op.right_shift(relax.op.add(relax.op.add(p, odd), half), s)
    return relax.op.astype(relax.op.clip(y, r.lo, r.hi), r.dtype)


def _rescale(bb: relax.BlockBuilder, acc: Expr, r: Rescale) -> Expr:
    acc = bb.emit(relax.op.astype(acc, "int64"))
    p = bb.emit(relax.op.add(relax.op.multiply(acc, constant(r.m, "int64")), constant(r.b, "int64")))
    if r.m_neg is not None and r.b_neg is not None:
        below = relax.op.less(p, constant(np.int64(r.zero_point) << r.s, "int64"))
        other = relax.op.add(relax.op.multiply(acc, constant(r.m_neg, "int64")), constant(r.b_neg, "int64"))
        p = bb.emit(relax.op.where(below, other, p))
    return _finish(p, r)


def _conv2d(bb: relax.BlockBuilder, op: Operator, xs: Sequence[Expr]) -> Expr:
    assert isinstance(op, Conv2d)
    acc = relax.op.nn.conv2d(
        _shifted(xs[0], op.zero_point, _sum_type(xs[0])),
        constant(op.weight, _sum_type(xs[0])),
        op.strides,
        op.padding,
        op.dilation,
        op.groups,
        out_dtype="int32",
    )
    return _rescale(bb, acc, op.rescale)


def _conv2d_transpose(bb: relax.BlockBuilder, op: Operator, xs: Sequence[Expr]) -> Expr:
    assert isinstance(op, ConvTranspose2d)
    acc = relax.op.nn.conv2d_transpose(
        _shifted(xs[0], op.zero_point, "int32"),
        constant(op.weight, "int32"),
        op.strides,
        op.padding,
        op.output_padding,
        op.dilation,
        op.groups,
        kernel_layout="IOHW",
        out_dtype="int32",
    )
    return _rescale(bb, acc, op.rescale)


def _dense(bb: relax.BlockBuilder, op: Operator, xs: Sequence[Expr]) -> Expr:
    assert isinstance(op, Dense)
    acc = relax.op.matmul(
        _shifted(xs[0], op.zero_point, _sum_type(xs[0])),
        constant(op.weight.T, _sum_type(xs[0])),
        out_dtype="int32",
    )
    return _rescale(bb, acc, op.rescale)


def _max_pool2d(bb: relax.BlockBuilder, op: Operator, xs: Sequence[Expr]) -> Expr:
    assert isinstance(op, MaxPool2d)
    return relax.op.nn.max_pool2d(xs[0], op.kernel, op.strides, op.padding, op.dilation)


def _sum_pool2d(bb: relax.BlockBuilder, op: Operator, xs: Sequence[Expr]) -> Expr:
    """The sum is a depthwise convolution with ones: Relax has no sum over windows."""
    assert isinstance(op, SumPool2d)
    channels = int(xs[0].ty.shape.values[1])
    acc = relax.op.nn.conv2d(
        _shifted(xs[0], op.zero_point, _sum_type(xs[0])),
        constant(np.ones((channels, 1, *op.kernel)), _sum_type(xs[0])),
        op.strides,
        op.padding,
        groups=channels,
        out_dtype="int32",
    )
    return _rescale(bb, acc, op.rescale)


def _add(bb: relax.BlockBuilder, op: Operator, xs: Sequence[Expr]) -> Expr:
    assert isinstance(op, Add)
    r = op.rescale
    a = relax.op.multiply(_shifted(xs[0], op.zero_point_a, "int64"), constant(r.m, "int64"))
    b = relax.op.multiply(_shifted(xs[1], op.zero_point_b, "int64"), constant(op.m2, "int64"))
    return _finish(bb.emit(relax.op.add(relax.op.add(a, b), constant(r.b, "int64"))), r)


def _multiply(bb: relax.BlockBuilder, op: Operator, xs: Sequence[Expr]) -> Expr:
    assert isinstance(op, Multiply)
    a = _shifted(xs[0], op.zero_point_a, "int32")
    b = _shifted(xs[1], op.zero_point_b, "int32")
    return _rescale(bb, relax.op.multiply(a, b), op.rescale)


def _table(bb: relax.BlockBuilder, op: Operator, xs: Sequence[Expr]) -> Expr:
    assert isinstance(op, Table)
    lowest = -128 if str(xs[0].ty.dtype) == "int8" else 0
    return relax.op.take(constant(op.table, op.dtype), _shifted(xs[0], lowest, "int32"), axis=0, mode="clip")


def _shift(bb: relax.BlockBuilder, op: Operator, xs: Sequence[Expr]) -> Expr:
    """A depthwise convolution with a one-hot kernel, whose window holds tap (0, 0) and leaves `size` results."""
    assert isinstance(op, Shift)
    channels = len(op.displacement)
    low = np.minimum(op.displacement.min(0), 0)
    high = np.maximum(op.displacement.max(0), 0)
    after = [0, 0]
    for axis in range(2):
        held = int(xs[0].ty.shape.values[2 + axis])
        high[axis] = max(high[axis], held - op.size[axis] * op.strides[axis])
        after[axis] = max(0, (op.size[axis] - 1) * op.strides[axis] + int(high[axis]) + 1 - held)
    kernel = np.zeros((channels, 1, *(high - low + 1)), np.int16)
    tap = op.displacement - low
    kernel[np.arange(channels), 0, tap[:, 0], tap[:, 1]] = 1
    moved = relax.op.nn.conv2d(
        _shifted(xs[0], op.zero_point, "int16"),
        constant(kernel, "int16"),
        op.strides,
        (-int(low[0]), -int(low[1]), *after),
        groups=channels,
        out_dtype="int32",
    )
    return relax.op.astype(relax.op.add(moved, constant(op.zero_point, "int32")), str(xs[0].ty.dtype))


def _step(bb: relax.BlockBuilder, step: LayoutStep, xs: Sequence[Expr]) -> Expr:
    if step.kind == "concat":
        return relax.op.concat(list(xs), axis=step.args[0][0])
    (x,) = xs
    match step.kind:
        case "reshape":
            return relax.op.reshape(x, step.args[0])
        case "transpose":
            return relax.op.permute_dims(x, step.args[0])
        case "slice":
            begin, end, stride = step.args
            return relax.op.strided_slice(x, list(range(len(begin))), begin, end, stride)
        case "pad":
            before, after, (value,) = step.args
            width = [n for pair in zip(before, after, strict=True) for n in pair]
            return relax.op.nn.pad(x, width, "constant", value)
        case _:
            for axis, factor in enumerate(step.args[0]):
                if factor > 1:
                    x = bb.emit(relax.op.repeat(x, factor, axis=axis))
            return x


def _layout(bb: relax.BlockBuilder, op: Operator, xs: Sequence[Expr]) -> Expr:
    assert isinstance(op, Layout)
    current = list(xs)
    for step in op.steps:
        current = [bb.emit(_step(bb, step, current))]
    return current[0]


_BODIES: dict[type[Operator], Callable[[relax.BlockBuilder, Operator, Sequence[Expr]], Expr]] = {
    Conv2d: _conv2d,
    ConvTranspose2d: _conv2d_transpose,
    Dense: _dense,
    MaxPool2d: _max_pool2d,
    SumPool2d: _sum_pool2d,
    Add: _add,
    Multiply: _multiply,
    Table: _table,
    Shift: _shift,
    Layout: _layout,
}


def emit(
    op: Operator, operands: Sequence[Spec], layer: str = "", ranges: Sequence[Range] = ()
) -> relax.Function:
    """Write an operator's composite function, marked as `FuseOpsByPattern` marks them.

    Args:
        op: the operator.
        operands: shape and type of each operand, batch axis included.
        layer: name of the source layer, kept as an attribute.
        ranges: of the operands' values, kept as an attribute; all values of their types where none are given.
    """
    params = [relax.Var(f"x{i}", relax.TensorType(shape, dtype)) for i, (shape, dtype) in enumerate(operands)]
    bb = relax.BlockBuilder()
    with bb.function("body", params, private=True):
        with bb.dataflow():
            result = bb.emit_output(_BODIES[type(op)](bb, op, params))
        bb.emit_func_output(result)
    function = bb.get()["body"]
    attrs: dict[str, object] = {"Composite": COMPOSITE_PREFIX + op.kind, "Primitive": True, LAYER: layer}
    if any(r != Range.of(dtype) for r, (_, dtype) in zip(ranges, operands, strict=False)):
        attrs[RANGES] = [n for r in ranges for n in astuple(r)]
    return function.with_attrs(attrs)


def ranges_of(composite: relax.Function) -> list[Range]:
    """The values of a composite's operands."""
    if RANGES not in composite.attrs:
        return [Range.of(str(p.ty.dtype)) for p in composite.params]
    numbers = [int(n) for n in composite.attrs[RANGES]]
    return [Range(*numbers[i : i + 3]) for i in range(0, len(numbers), 3)]
