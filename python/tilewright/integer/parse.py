"""Body in Relax -> operator: the inverse of `emit`."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Literal, TypeAlias, cast

import numpy as np
from numpy.typing import NDArray
from tvm import relax

from tilewright.integer.emit import COMPOSITE_PREFIX
from tilewright.integer.ops import (
    I64,
    Add,
    Conv2d,
    ConvTranspose2d,
    Dense,
    DType,
    Layout,
    LayoutStep,
    MaxPool2d,
    Multiply,
    Operator,
    Pads,
    Pair,
    Rescale,
    Shift,
    SumPool2d,
    Table,
)

Expr: TypeAlias = relax.Expr


class Body:
    """The bindings of a composite's body, walked from the result upwards."""

    def __init__(self, function: relax.Function) -> None:
        self.params = list(function.params)
        self.calls: dict[str, Expr] = {}
        for block in function.body.blocks:
            for binding in block.bindings:
                self.calls[binding.var.name] = binding.value
        self.result = self.resolve(function.body.body)

    def resolve(self, expr: Expr) -> Expr:
        """The value that a variable is bound to; parameters stay."""
        while isinstance(expr, relax.Var) and expr.name in self.calls:
            expr = self.calls[expr.name]
        return expr

    def expect(self, expr: Expr, op: str) -> Expr:
        """The call of operator `relax.<op>` bound to `expr`."""
        call = self.resolve(expr)
        if not isinstance(call, relax.Call) or call.op.name != f"relax.{op}":
            found = call.op.name if isinstance(call, relax.Call) else type(call).__name__
            raise ValueError(f"expected relax.{op} in the body of a composite, found {found}")
        return call

    def through(self, expr: Expr, *ops: str) -> Expr:
        """First operand of a chain of calls, outermost first."""
        for op in ops:
            expr = self.expect(expr, op).args[0]
        return expr


def _array(expr: Expr) -> NDArray[Any]:
    """A constant's array, which is TVM's own memory: composites are read several times, and weights are large."""
    return np.from_dlpack(expr.value)


def _ints(values: object) -> tuple[int, ...]:
    return tuple(int(v) for v in values)  # type: ignore[attr-defined]


def _pair(values: object) -> Pair:
    return cast(Pair, _ints(values))


def _pads(values: object) -> Pads:
    return cast(Pads, _ints(values))


def _dtype(expr: Expr) -> DType:
    return cast(DType, str(expr.ty.dtype))


def _operand(body: Body, expr: Expr) -> int:
    """Zero point of an operand read as `astype(x) - zero_point`."""
    return int(_array(body.expect(expr, "subtract").args[1]))


def _finish(body: Body) -> tuple[Expr, I64, int, int, DType]:
    """p, s, lo, hi and type of a requantised result."""
    cast_ = body.expect(body.result, "astype")
    clip = body.expect(cast_.args[0], "clip")
    shift = body.expect(clip.args[0], "right_shift")
    p = body.expect(body.expect(shift.args[0], "add").args[0], "add").args[0]
    return p, _array(shift.args[1]), int(clip.args[1]), int(clip.args[2]), _dtype(cast_)


def _affine(body: Body, expr: Expr) -> tuple[Expr, I64, I64]:
    """acc, m, b of acc * m + b."""
    total = body.expect(expr, "add")
    product = body.expect(total.args[0], "multiply")
    return product.args[0], _array(product.args[1]), _array(total.args[1])


def _rescale(body: Body) -> tuple[Expr, Rescale]:
    p, s, lo, hi, dtype = _finish(body)
    m_neg = b_neg = None
    zero_point = 0
    value = body.resolve(p)
    if isinstance(value, relax.Call) and value.op.name == "relax.where":
        below = body.expect(value.args[0], "less")
        zero_point = int((_array(below.args[1]) >> s).reshape(-1)[0])
        _, m_neg, b_neg = _affine(body, value.args[1])
        p = value.args[2]
    acc, m, b = _affine(body, p)
    return body.through(acc, "astype"), Rescale(m, s, b, lo, hi, dtype, m_neg, b_neg, zero_point)


def _conv2d(body: Body) -> Operator:
    acc, rescale = _rescale(body)
    call = body.expect(acc, "nn.conv2d")
    a = call.attrs
    return Conv2d(
        _array(call.args[1]),
        _operand(body, call.args[0]),
        rescale,
        _pair(a.strides),
        _pads(a.padding),
        _pair(a.dilation),
        int(a.groups),
    )


def _conv2d_transpose(body: Body) -> Operator:
    acc, rescale = _rescale(body)
    call = body.expect(acc, "nn.conv2d_transpose")
    a = call.attrs
    return ConvTranspose2d(
        _array(call.args[1]).astype(np.int16),
        _operand(body, call.args[0]),
        rescale,
        _pair(a.strides),
        _pads(a.padding),
        _pair(a.output_padding),
        _pair(a.dilation),
        int(a.groups),
    )


def _dense(body: Body) -> Operator:
    acc, rescale = _rescale(body)
    call = body.expect(acc, "matmul")
    return Dense(_array(call.args[1]).T, _operand(body, call.args[0]), rescale)


def _max_pool2d(body: Body) -> Operator:
    a = body.expect(body.result, "nn.max_pool2d").attrs
    return MaxPool2d(_pair(a.pool_size), _pair(a.strides), _pads(a.padding), _pair(a.dilation))


def _sum_pool2d(body: Body) -> Operator:
    acc, rescale = _rescale(body)
    call = body.expect(acc, "nn.conv2d")
    kernel = _pair(_array(call.args[1]).shape[2:])
    zero_point = _operand(body, call.args[0])
    return SumPool2d(kernel, zero_point, rescale, _pair(call.attrs.strides), _pads(call.attrs.padding))


def _add(body: Body) -> Operator:
    p, s, lo, hi, dtype = _finish(body)
    total = body.expect(p, "add")
    both = body.expect(total.args[0], "add")
    a, b = (body.expect(arg, "multiply") for arg in both.args)
    rescale = Rescale(_array(a.args[1]), s, _array(total.args[1]), lo, hi, dtype)
    m2 = int(_array(b.args[1]))
    return Add(_operand(body, a.args[0]), _operand(body, b.args[0]), m2, rescale)


def _multiply(body: Body) -> Operator:
    acc, rescale = _rescale(body)
    a, b = body.expect(acc, "multiply").args
    return Multiply(_operand(body, a), _operand(body, b), rescale)


def _table(body: Body) -> Operator:
    call = body.expect(body.result, "take")
    return Table(_array(call.args[0]), _dtype(call))


def _shift(body: Body) -> Operator:
    total = body.expect(body.expect(body.result, "astype").args[0], "add")
    call = body.expect(total.args[0], "nn.conv2d")
    kernel = _array(call.args[1])
    tap = kernel.reshape(len(kernel), -1).argmax(1)
    before = _pads(call.attrs.padding)[:2]
    displacement = np.stack(np.divmod(tap, kernel.shape[3]), axis=1) - np.array(before)
    size = _pair(call.ty.shape.values[2:])
    return Shift(displacement.astype(np.int64), int(_array(total.args[1])), _pair(call.attrs.strides), size)


def _step(body: Body, call: Expr) -> tuple[LayoutStep, Expr]:
    """A layout step and the expression that it works on."""
    name, args, shape = call.op.name, call.args, call.ty.shape.values
    rank = len(shape)
    if name == "relax.reshape":
        return LayoutStep("reshape", (_ints(shape),)), args[0]
    if name == "relax.permute_dims":
        return LayoutStep("transpose", (_ints(call.attrs.axes),)), args[0]
    if name == "relax.strided_slice":
        return LayoutStep("slice", tuple(_ints(v.fields) for v in args[2:5])), args[0]
    if name == "relax.nn.pad":
        width = _ints(call.attrs.pad_width)
        return LayoutStep("pad", (width[::2], width[1::2], (int(call.attrs.pad_value),))), args[0]
    if name == "relax.concat":
        return LayoutStep("concat", ((int(call.attrs.axis),),)), args[0]
    if name == "relax.repeat":
        factors, axis = [1] * rank, rank
        expr: Expr = call
        # Repeats over descending axes are one step; `emit` wrote them in ascending order.
        while isinstance(expr, relax.Call) and expr.op.name == "relax.repeat" and int(expr.attrs.axis) < axis:
            axis = int(expr.attrs.axis)
            factors[axis] = int(expr.attrs.repeats)
            source = expr.args[0]
            expr = body.resolve(source)
        return LayoutStep("repeat", (tuple(factors),)), source
    raise ValueError(f"expected a layout operator in the body of a composite, found {name}")


def _layout(body: Body) -> Operator:
    steps: list[LayoutStep] = []
    expr = body.result
    while isinstance(expr, relax.Call):
        step, source = _step(body, expr)
        steps.append(step)
        expr = body.resolve(source)
    return Layout(tuple(reversed(steps)))


_PARSERS: dict[str, Callable[[Body], Operator]] = {
    "conv2d": _conv2d,
    "conv2d_transpose": _conv2d_transpose,
    "dense": _dense,
    "max_pool2d": _max_pool2d,
    "sum_pool2d": _sum_pool2d,
    "add": _add,
    "multiply": _multiply,
    "table": _table,
    "shift": _shift,
    "layout": _layout,
}


def kind_of(function: object) -> str | Literal[""]:
    """The operator kind of a composite function; empty for any other object."""
    if (
        not isinstance(function, relax.Function)
        or function.attrs is None
        or "Composite" not in function.attrs
    ):
        return ""
    name = str(function.attrs["Composite"])
    return name.removeprefix(COMPOSITE_PREFIX) if name.startswith(COMPOSITE_PREFIX) else ""


def parse(function: relax.Function) -> Operator:
    """Read an operator from its composite function. Raises ValueError on a body that `emit` did not write."""
    kind = kind_of(function)
    if kind not in _PARSERS:
        raise ValueError(f"expected a composite {COMPOSITE_PREFIX}<kind>, found {kind or 'another function'}")
    return _PARSERS[kind](Body(function))
