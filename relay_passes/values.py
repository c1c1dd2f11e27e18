"""A function's float values as expressions over quantised tensors and constants.

`read` walks the bindings of `main` once. Each float variable becomes an expression whose leaves are DequantizeLinear
of a tensor (:class:`Leaf`), constants (:class:`Const`) or what cannot be followed (:class:`Foreign`). A *cone* is the
expression behind a QuantizeLinear: what lies between two roundings of the model.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cached_property, reduce
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray
from tvm import relax
from tvm.ir import GenericConst

from tilewright.relay_passes import refusals
from tilewright.relay_passes.float_ops import ELEMENTWISE, Attrs, elementwise
from tilewright.relay_passes.refusals import Unquantised
from tilewright.relay_passes.shifts import move_of
from tilewright.targets.storage import Range

RelaxExpr: TypeAlias = relax.Expr
Shape: TypeAlias = tuple[int, ...]
TABLE_TYPES = ("int8", "uint8")
"""What a function of one element may read and give."""
ACTIVATION_TYPES = (*TABLE_TYPES, "int16", "uint16")


@dataclass(frozen=True)
class Quant:
    """Per-tensor quantisation: value = (q - zero_point) * scale."""

    scale: float
    zero_point: int
    dtype: str


@dataclass(frozen=True, eq=False)
class Leaf:
    """A quantised tensor, dequantised."""

    var: relax.Var
    shape: Shape
    quant: Quant
    held: Range


@dataclass(frozen=True, eq=False)
class Const:
    """A constant; with `ints` a DequantizeLinear of one: (ints - zero_point) * scale, both broadcast to its shape."""

    shape: Shape
    floats: NDArray[Any] | None = None
    ints: NDArray[np.signedinteger[Any]] | None = None
    scale: NDArray[np.float32] | None = None

    @cached_property
    def real(self) -> NDArray[Any]:
        """The values."""
        if self.ints is not None and self.scale is not None:
            return np.asarray(self.ints.astype(np.float32) * self.scale, np.float32)
        assert self.floats is not None
        return self.floats

    @property
    def is_scalar(self) -> bool:
        """One element only."""
        return int(np.prod(self.shape)) == 1


@dataclass(frozen=True, eq=False)
class Apply:
    """An operator; `name` is its variable."""

    op: str
    args: tuple[Value, ...]
    attrs: Attrs
    shape: Shape
    name: str


@dataclass(frozen=True, eq=False)
class Foreign:
    """A value that the accelerator cannot have."""

    shape: Shape
    name: str
    why: str
    remedy: str

    @staticmethod
    def of(reason: Unquantised, shape: Shape, name: str, **values: object) -> Foreign:
        """One for a reason, with its names filled in."""
        return Foreign(shape, name, reason.why.format(**values), reason.remedy)


Value: TypeAlias = Leaf | Const | Apply | Foreign


@dataclass(frozen=True, eq=False)
class Cone:
    """A tensor to be computed on integers: `value` quantised to `quant` and clipped to lo..hi."""

    var: relax.Var
    value: Value
    shape: Shape
    quant: Quant
    lo: int
    hi: int
    inner: tuple[str, ...] = field(default=(), kw_only=True)
    """Variables of the same tensor before its bounds were narrowed, which nothing else reads."""
    step: int = field(default=1, kw_only=True)
    """Distance of the integers: 2 for one bit, which is +1 where `value` is 0 or more, else -1."""

    @property
    def held(self) -> Range:
        """Its values."""
        return Range(self.lo, self.hi, self.step)


@dataclass
class Values:
    """All cones of a function in order, and the float value of each variable."""

    cones: dict[str, Cone] = field(default_factory=dict)
    of: dict[str, Value] = field(default_factory=dict)


def members(value: Value) -> list[str]:
    """Variables of a cone's operators, outermost first."""
    names: list[str] = []
    stack, seen = [value], set()
    while stack:
        v = stack.pop()
        if isinstance(v, Apply) and id(v) not in seen:
            seen.add(id(v))
            names.append(v.name)
            stack.extend(v.args)
    return names


def foreign(value: Value) -> Foreign | None:
    """Some leaf that cannot be had, if there is one."""
    stack, seen = [value], set()
    while stack:
        v = stack.pop()
        if isinstance(v, Foreign):
            return v
        if isinstance(v, Apply) and id(v) not in seen:
            seen.add(id(v))
            stack.extend(v.args)
    return None


def static_shape(expr: RelaxExpr) -> Shape | None:
    """Shape of a tensor expression if all its dimensions are numbers."""
    ty = expr.ty
    if not isinstance(ty, relax.TensorType) or not isinstance(ty.shape, relax.ShapeExpr):
        return None
    dims = ty.shape.values
    return tuple(int(d) for d in dims) if all(hasattr(d, "value") for d in dims) else None


def dtype_of(expr: RelaxExpr) -> str:
    """Element type of a tensor expression; empty for others."""
    return str(expr.ty.dtype) if isinstance(expr.ty, relax.TensorType) else ""


def _folded(op: str, xs: list[Const], attrs: Attrs, shape: Shape) -> Const | None:
    """Fold an operator on constants, keeping integers and scales through changes of layout."""
    x = xs[0]
    move = {
        "reshape": lambda a: a.reshape(shape),
        "expand_dims": lambda a: a.reshape(shape),
        "squeeze": lambda a: a.reshape(shape),
        "permute_dims": lambda a: a.transpose(
            [int(i) for i in attrs.axes] if attrs.axes is not None else None
        ),
    }.get(op)
    if move is not None:
        if x.ints is not None and x.scale is not None:
            return Const(shape, ints=move(x.ints), scale=move(np.broadcast_to(x.scale, x.ints.shape)))
        return Const(shape, floats=move(x.real))
    if op in ELEMENTWISE and (op != "nn.prelu" or xs[1].is_scalar):
        return Const(shape, floats=np.broadcast_to(elementwise(op, [c.real for c in xs], attrs), shape))
    return None


def _item(whole: Apply, index: int, shape: Shape, name: str) -> Value:
    """An element of a tuple: a part of split, or a normalisation with constant parameters as factor and offset."""
    if whole.op == "split":
        return Apply("item", (whole,), index, shape, name)
    parameters = [a.real.astype(np.float64) for a in whole.args[1:] if isinstance(a, Const)]
    if whole.op != "nn.batch_norm" or index != 0 or len(parameters) != 4 or int(whole.attrs.axis) != 1:
        return Foreign.of(refusals.OTHER_TUPLE, shape, name, op=whole.op)
    gamma, beta, mean, var = parameters
    gain = gamma / np.sqrt(var + float(whole.attrs.epsilon))
    along = (-1,) + (1,) * (len(shape) - 2)
    factor, offset = gain.reshape(along), (beta - mean * gain).reshape(along)
    scaled = Apply(
        "multiply", (whole.args[0], Const(factor.shape, floats=factor)), whole.attrs, shape, whole.name
    )
    return Apply("add", (scaled, Const(offset.shape, floats=offset)), whole.attrs, shape, name)


class _Reader:
    """State of `read`."""

    def __init__(self) -> None:
        self.values = Values()
        self.readers: Counter[str] = Counter()
        self.tuples: dict[str, Apply] = {}

    def value(self, expr: RelaxExpr) -> Value:
        if isinstance(expr, GenericConst):
            array = expr.value.numpy()
            return Const(array.shape, floats=array)
        if isinstance(expr, relax.Var):
            if expr.name in self.values.of:
                return self.values.of[expr.name]
            return Foreign.of(refusals.NO_PAIR, static_shape(expr) or (), expr.name)
        if hasattr(expr, "value") and not isinstance(expr, relax.ShapeExpr | relax.Tuple):
            return Const((), floats=np.asarray(float(expr.value), np.float32))
        return Foreign.of(refusals.NO_TENSOR, (), "")

    def operands(self, call: RelaxExpr) -> list[Value]:
        found: list[Value] = []
        for arg in call.args:
            if isinstance(arg, relax.Tuple):
                found.extend(self.value(a) for a in arg.fields if isinstance(a, relax.Var | GenericConst))
            elif isinstance(arg, relax.Var) and isinstance(arg.ty, relax.TupleType):
                found.append(Foreign.of(refusals.A_TUPLE, (), arg.name))
            elif not isinstance(arg, relax.ShapeExpr):
                found.append(self.value(arg))
        return found

    def dequantise(self, call: RelaxExpr, name: str, shape: Shape) -> Value:
        x, scale, zero = call.args
        if not isinstance(scale, GenericConst) or not isinstance(zero, GenericConst):
            return Foreign.of(refusals.COMPUTED_SCALE, shape, name)
        s, z = scale.value.numpy().astype(np.float32), zero.value.numpy().astype(np.int64)
        if isinstance(x, GenericConst):
            ints = x.value.numpy()
            # 16 bits hold an 8-bit weight less its zero point; wider constants (biases) are small.
            wide = ints.astype(np.int16 if ints.dtype.itemsize == 1 else np.int64)
            if s.size > 1:
                axis = int(call.attrs.axis) % len(shape)
                along = tuple(-1 if i == axis else 1 for i in range(len(shape)))
                s = s.reshape(along)
                z = z.reshape(along) if z.size > 1 else z.reshape(())
            else:
                s, z = s.reshape(()), z.reshape(())
            return Const(shape, ints=wide - z.astype(wide.dtype), scale=s)
        dtype = dtype_of(x)
        if dtype not in ACTIVATION_TYPES or not isinstance(x, relax.Var):
            return Foreign.of(refusals.WIDE_TENSOR, shape, name, dtype=dtype or "no tensor")
        if s.size > 1 or z.size > 1:
            return Foreign.of(refusals.CHANNEL_SCALES, shape, name, count=max(s.size, z.size))
        return Leaf(x, shape, Quant(float(s.reshape(())), int(z.reshape(())), dtype), self.held(x))

    def held(self, x: relax.Var) -> Range:
        """The values of a tensor of integers, as far as they are known."""
        cone = self.values.cones.get(x.name)
        return Range.of(dtype_of(x)) if cone is None else cone.held

    def quantise(self, call: RelaxExpr, var: relax.Var, shape: Shape) -> None:
        x, scale, zero = call.args
        dtype = dtype_of(var)
        if dtype not in ACTIVATION_TYPES:
            return
        if not isinstance(scale, GenericConst) or not isinstance(zero, GenericConst):
            return
        s, z = scale.value.numpy(), zero.value.numpy()
        if s.size > 1 or z.size > 1:
            return
        quant = Quant(float(np.float32(s.reshape(()))), int(z.reshape(())), dtype)
        info = np.iinfo(dtype)
        cone = Cone(var, self.value(x), shape, quant, int(info.min), int(info.max))
        self.values.cones[var.name] = cone

    def clip_integers(self, op: str, call: RelaxExpr, var: relax.Var, shape: Shape) -> bool:
        """QCDQ: a clip of the quantised integers narrows lo..hi."""
        source = call.args[0]
        if not isinstance(source, relax.Var) or source.name not in self.values.cones:
            return False
        bounds = [self.value(a) for a in call.args[1:]]
        if not all(isinstance(b, Const) and b.is_scalar for b in bounds):
            return False
        numbers = [int(b.real.reshape(())) for b in bounds if isinstance(b, Const)]
        cone = self.values.cones[source.name]
        lo, hi = cone.lo, cone.hi
        if op in ("maximum", "clip"):
            lo, hi = max(lo, numbers[0]), max(hi, numbers[0])
        if op in ("minimum", "clip"):
            lo, hi = min(lo, numbers[-1]), min(hi, numbers[-1])
        inner: tuple[str, ...] = ()
        if self.readers[source.name] == 1:
            inner = (*cone.inner, source.name)
            del self.values.cones[source.name]
        self.values.cones[var.name] = Cone(var, cone.value, shape, cone.quant, lo, hi, inner=inner)
        return True

    def bipolar(self, call: RelaxExpr, var: relax.Var, shape: Shape) -> None:
        """One bit: +1 where a value is at least a bound, else -1."""
        bit, *signs = self.operands(call)
        if not isinstance(bit, Apply) or bit.op != "greater_equal" or bit.args[0].shape != shape:
            return
        numbers = [float(a.real.reshape(())) if isinstance(a, Const) and a.is_scalar else 0.0 for a in signs]
        x, least = bit.args
        if numbers != [1.0, -1.0] or not isinstance(least, Const):
            return
        value = x if not least.real.any() else Apply("subtract", (x, least), bit.attrs, shape, bit.name)
        inner = (bit.name,) if self.readers[bit.name] == 1 else ()
        self.values.cones[var.name] = Cone(
            var, value, shape, Quant(1.0, 0, dtype_of(var)), -1, 1, inner=inner, step=2
        )

    def move_integers(self, op: str, call: RelaxExpr, var: relax.Var, shape: Shape) -> None:
        """A layout operator or a pool on the integers themselves."""
        dtype = dtype_of(var)
        quant = Quant(1.0, 0, dtype)
        args: list[Value] = []
        for arg in call.args[0].fields if isinstance(call.args[0], relax.Tuple) else call.args[:1]:
            arg_shape = static_shape(arg)
            if not isinstance(arg, relax.Var) or arg_shape is None or dtype_of(arg) != dtype:
                return
            args.append(Leaf(arg, arg_shape, quant, self.held(arg)))
        value = Apply(op, tuple(args), _Attrs(call), shape, var.name)
        held = reduce(Range.join, [a.held for a in args if isinstance(a, Leaf)])
        if op == "nn.pad":
            fill = int(call.attrs.pad_value)
            held = held.join(Range(fill, fill, held.step))
        self.values.cones[var.name] = Cone(var, value, shape, quant, held.lo, held.hi, step=held.step)

    def bind(self, var: relax.Var, value: RelaxExpr) -> None:
        shape = static_shape(var)
        name = var.name
        if isinstance(value, relax.Var):
            if value.name in self.values.of:
                self.values.of[name] = self.values.of[value.name]
            return
        if isinstance(value, relax.TupleGetItem):
            whole = self.tuples.get(value.tuple_value.name)
            if whole is not None and shape is not None:
                self.values.of[name] = _item(whole, int(value.index), shape, name)
            return
        if not isinstance(value, relax.Call) or not hasattr(value.op, "name"):
            return
        op = str(value.op.name).removeprefix("relax.")
        if isinstance(var.ty, relax.TupleType):
            self.tuples[name] = Apply(op, tuple(self.operands(value)), _Attrs(value), (), name)
            return
        if shape is None:
            return
        if op == "quantize":
            self.quantise(value, var, shape)
        elif op == "dequantize":
            self.values.of[name] = self.dequantise(value, name, shape)
        elif dtype_of(var) in ACTIVATION_TYPES:
            if op in ("maximum", "minimum", "clip") and self.clip_integers(op, value, var, shape):
                return
            if op == "where" and dtype_of(var) == "int8":
                self.bipolar(value, var, shape)
            if op in INTEGER_MOVES:
                self.move_integers(op, value, var, shape)
        else:
            self.values.of[name] = self.apply(op, value, shape, name)

    def apply(self, op: str, call: RelaxExpr, shape: Shape, name: str) -> Value:
        args = self.operands(call)
        consts = [a for a in args if isinstance(a, Const)]
        if args and len(consts) == len(args):
            folded = _folded(op, consts, call.attrs, shape)
            if folded is not None:
                return folded
        if op == "nn.conv2d" and isinstance(args[1], Const) and args[1].shape[1:2] == (1,):
            move = move_of(args[1].real, call.attrs)
            if move is not None:
                return Apply("shift", (args[0],), move, shape, name)
        shifted = op == "add" and isinstance(args[0], Apply) and args[0].op == "shift"
        if shifted and consts and not any(c.real.any() for c in consts):  # a bias of zeros
            return args[0]
        return Apply(op, tuple(args), _Attrs(call), shape, name)


class _Attrs:
    """Attributes of a call, and its operands that are no tensors."""

    def __init__(self, call: RelaxExpr) -> None:
        self.call = call

    def __getattr__(self, key: str) -> Any:
        return getattr(self.call.attrs, key)


INTEGER_MOVES = frozenset(
    {
        "reshape",
        "expand_dims",
        "squeeze",
        "permute_dims",
        "strided_slice",
        "concat",
        "nn.pad",
        "nn.max_pool2d",
    }
)
"""Operators that integers may pass without a DequantizeLinear."""


def _reads(function: relax.Function) -> Iterator[str]:
    """Variables as often as bindings and the result read them."""
    yield from (v.name for v in relax.analysis.free_vars(function.body.body))
    for block in function.body.blocks:
        for binding in block.bindings:
            yield from (v.name for v in relax.analysis.free_vars(binding.value))


def read(function: relax.Function) -> Values:
    """Read a function; bindings outside dataflow blocks are left to the host."""
    reader = _Reader()
    reader.readers.update(_reads(function))
    for block in function.body.blocks:
        if not isinstance(block, relax.DataflowBlock):
            continue
        for binding in block.bindings:
            reader.bind(binding.var, binding.value)
    return reader.values
