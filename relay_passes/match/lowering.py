"""What matchers share: the operators written so far, operands, and changes of layout."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import NoReturn, TypeAlias

import numpy as np
from tvm import relax

from tilewright.integer.ops import (
    DType,
    Layout,
    LayoutStep,
    MaxPool2d,
    Operator,
    Table,
    result_range,
)
from tilewright.integer.predicate import Rejected
from tilewright.relay_passes import refusals
from tilewright.relay_passes.float_ops import ELEMENTWISE, F32, elementwise, quantise
from tilewright.relay_passes.match.shift import on_grid, write_shift
from tilewright.relay_passes.refusals import Refusal
from tilewright.relay_passes.values import (
    TABLE_TYPES,
    Apply,
    Cone,
    Const,
    Foreign,
    Leaf,
    Quant,
    Shape,
    Value,
    dtype_of,
)
from tilewright.targets.storage import Range, Storage, storage

Ref: TypeAlias = relax.Var | int
"""An operand: a variable of the function, or the number of an operator of the same cone."""
Post: TypeAlias = Callable[[F32], F32]


@dataclass(frozen=True)
class Draft:
    """An operator of a cone, with its operands and its result's shape and type."""

    operator: Operator
    args: tuple[Ref, ...]
    shape: Shape
    dtype: str
    held: Range


@dataclass(frozen=True)
class Operand:
    """A tensor of integers with its meaning."""

    ref: Ref
    shape: Shape
    quant: Quant
    held: Range


@dataclass(frozen=True)
class Widths:
    """Bits of the machine's activations and sums, and the rule by which it stores a tensor."""

    inp: int = 8
    acc: int = 32

    def storage(self, quant: Quant, held: Range) -> Storage:
        """How a tensor is stored, unless it is joined with a wider one."""
        return storage(quant.dtype, held, self.inp)


_EXACT = 1e-3
"""How far, in steps, a value may be from the grid by float32's rounding."""


def identity(x: F32) -> F32:
    """Change nothing."""
    return x


def sign(x: F32) -> F32:
    """One bit: +1 where x is 0 or more, else -1."""
    return np.where(x >= 0, np.float32(1), np.float32(-1))


@dataclass
class Lowering:
    """A cone being lowered.

    Attributes:
        cone: what is to be computed.
        layer: name of the source layer.
        widths: of the machine's operands and accumulators.
        names: source layer of each variable, for messages.
        ranges: values of variables, where they are not all of their type's.
        drafts: operators so far; the last one gives the cone's result.
    """

    cone: Cone
    layer: str
    widths: Widths
    names: Mapping[str, str] = field(default_factory=dict)
    ranges: Mapping[str, Range] = field(default_factory=dict)
    drafts: list[Draft] = field(default_factory=list)
    rounding: str = ""
    bound: Callable[[float], float] = float
    """How the cone rounds, and rounds its bounds, where that is not to the nearest even."""

    def reject(self, refusal: Refusal, found: str, remedy: str = "", **values: object) -> NoReturn:
        """Leave the match."""
        raise Rejected(refusal.reject(found, self.layer, remedy, **values))

    def source(self, variable: str) -> str:
        """Name of the source layer of a variable; its own where there is none."""
        return self.names.get(variable, variable)

    def add(self, operator: Operator, args: Sequence[Ref], shape: Shape, dtype: str) -> int:
        """Append an operator and return its number."""
        held = result_range(operator, [self.held(a) for a in args], dtype)
        self.drafts.append(Draft(operator, tuple(args), shape, dtype, held))
        return len(self.drafts) - 1

    def held(self, ref: Ref) -> Range:
        """The values of an operand."""
        if isinstance(ref, int):
            return self.drafts[ref].held
        return self.ranges.get(ref.name) or Range.of(dtype_of(ref))

    def reshape_to(self, ref: int, shape: Shape) -> None:
        """Give a result another shape of as many elements."""
        draft = self.drafts[ref]
        if draft.shape != shape:
            self.add(Layout((LayoutStep("reshape", (shape,)),)), [ref], shape, draft.dtype)

    def clamp(self, lo: float, hi: float) -> tuple[int, int]:
        """Quantised bounds: rounding is monotone, so clipping after it is the same as before it."""
        q, cone = self.cone.quant, self.cone
        lo, hi = self.bound(lo), self.bound(hi)
        low = (
            int(quantise(np.asarray(lo, np.float32), q.scale, q.zero_point, q.dtype))
            if lo > -np.inf
            else cone.lo
        )
        high = (
            int(quantise(np.asarray(hi, np.float32), q.scale, q.zero_point, q.dtype))
            if hi < np.inf
            else cone.hi
        )
        return min(max(low, cone.lo), cone.hi), min(max(high, cone.lo), cone.hi)

    def operand(self, value: Value) -> Operand:
        """A value that is a quantised tensor or a change of its layout, on its own grid."""
        if isinstance(value, Leaf):
            return Operand(value.var, value.shape, value.quant, value.held)
        if isinstance(value, Foreign):
            self.reject(refusals.OPERAND, value.why, remedy=value.remedy, layer=self.source(value.name))
        if isinstance(value, Const):
            self.reject(refusals.CONSTANT_OPERAND, "a constant")
        leaves = _leaves(value, through=frozenset(ELEMENTWISE))
        if leaves is None or any(leaf.quant != leaves[0].quant for leaf in leaves):
            self.reject(
                refusals.OPERAND_SCALE,
                f"{value.op} of tensors with different scales" if leaves else f"{value.op} without rounding",
                layer=self.source(value.name),
            )
        quant = leaves[0].quant
        ref = self._move(value, identity, quant, None)
        return Operand(ref, value.shape, quant, self.held(ref))

    def move(self, value: Value, post: Post, target: Quant) -> Ref:
        """Lower layouts, pools and functions of one element to `target`; `post` is applied to the result."""
        return self._move(value, post, target, (self.cone.lo, self.cone.hi))

    def _table(
        self,
        ref: Ref,
        quant: Quant,
        shape: Shape,
        function: Post,
        target: Quant,
        bounds: tuple[int, int] | None,
    ) -> Ref:
        """A function of each element of a tensor; none where it changes nothing."""
        info, held = np.iinfo(quant.dtype), self.held(ref)
        q = np.arange(info.min, info.max + 1)
        x = ((q - quant.zero_point).astype(np.float32) * np.float32(quant.scale)).astype(np.float32)
        real = function(x)
        y = quantise(real, target.scale, target.zero_point, target.dtype)
        used = slice(held.lo - int(info.min), held.hi - int(info.min) + 1, held.step)
        if bounds is not None:
            y = np.clip(y, *bounds)
        if target.dtype == quant.dtype and np.array_equal(y[used], q[used]):
            return ref
        if bounds is None and np.any(
            np.abs(real / np.float32(target.scale) + target.zero_point - y)[used] > _EXACT
        ):
            self.reject(refusals.GRID, "values between its steps")
        for dtype, what in ((quant.dtype, "reads"), (target.dtype, "gives")):
            if dtype not in TABLE_TYPES:
                self.reject(refusals.TABLE_BITS, dtype, does=what)
        result: DType = "int8" if target.dtype == "int8" else "uint8"
        return self.add(Table(y.astype(result), result), [ref], shape, result)

    def _move(self, value: Value, post: Post, target: Quant, bounds: tuple[int, int] | None) -> Ref:
        function = element_function(value)
        if function is not None:
            leaf, inner = function
            return self._table(leaf.var, leaf.quant, leaf.shape, lambda x: post(inner(x)), target, bounds)
        if not isinstance(value, Apply):
            operand = self.operand(value)  # a Leaf is an element function, so this rejects
            raise AssertionError(f"{operand} is no leaf")
        if value.op == "nn.max_pool2d":
            return self._max_pool(value, post, target, bounds)
        if value.op == "shift":
            ref = self._move(value.args[0], post, target, bounds)
            return write_shift(self, value, ref, post, target, exact=bounds is None)
        if value.op in ELEMENTWISE:
            return self._through(value, post, target, bounds)
        steps = layout_steps(value)
        if isinstance(steps, str):
            self.reject(refusals.LAYOUT, f"{value.op} ({steps})")
        inputs = value.args[0].args if value.op == "item" and isinstance(value.args[0], Apply) else value.args
        if value.op == "nn.pad":
            fill = quantise(
                post(np.asarray([value.attrs.pad_value], np.float32)),
                target.scale,
                target.zero_point,
                target.dtype,
            )
            if bounds is None:
                on_grid(self, value.name, float(value.attrs.pad_value), target)
            low, high = bounds or (np.iinfo(target.dtype).min, np.iinfo(target.dtype).max)
            steps = [LayoutStep("pad", (*steps[0].args[:2], (int(np.clip(fill[0], low, high)),)))]
        refs = [self._move(v, post, target, bounds) for v in inputs if not _is_parameter(value, v)]
        return self.add(Layout(tuple(steps)), refs, value.shape, target.dtype)

    def _through(self, value: Apply, post: Post, target: Quant, bounds: tuple[int, int] | None) -> Ref:
        """A function of one element on top of a layout: done before the layout, which commutes."""
        inner = [a for a in value.args if not isinstance(a, Const)]
        others = [a for a in value.args if isinstance(a, Const)]
        if len(inner) != 1 or not all(c.is_scalar for c in others) or inner[0].shape != value.shape:
            self.reject(
                refusals.ELEMENT_FUNCTION,
                f"operands {', '.join(str(list(a.shape)) for a in value.args)}",
                op=value.op,
            )

        def function(x: F32) -> F32:
            args = [a.real.reshape(()) if isinstance(a, Const) else x for a in value.args]
            return post(elementwise(value.op, args, value.attrs))

        return self._move(inner[0], function, target, bounds)

    def _max_pool(self, value: Apply, post: Post, target: Quant, bounds: tuple[int, int] | None) -> Ref:
        """The pool commutes with every function that does not fall; on one grid it goes first, on fewer elements."""
        a = value.attrs
        if len(value.shape) != 4 or a.layout != "NCHW" or a.ceil_mode:
            self.reject(refusals.MAX_POOL, f"layout {a.layout}, ceil_mode {a.ceil_mode}")
        pool = MaxPool2d(*(tuple(int(v) for v in f) for f in (a.pool_size, a.strides, a.padding, a.dilation)))  # type: ignore[arg-type]
        leaves = _leaves(value.args[0])
        if leaves is not None and all(leaf.quant == leaves[0].quant for leaf in leaves):
            quant = leaves[0].quant
            ref = self._move(value.args[0], identity, quant, None)
            ref = self.add(pool, [ref], value.shape, quant.dtype)
            return self._table(ref, quant, value.shape, post, target, bounds)
        ramp = np.linspace(-1e4, 1e4, 4001, dtype=np.float32)
        if np.any(np.diff(post(ramp)) < 0):
            self.reject(refusals.FALLING, "one that falls")
        ref = self._move(value.args[0], post, target, bounds)
        return self.add(pool, [ref], value.shape, target.dtype)


def element_function(value: Value) -> tuple[Leaf, Post] | None:
    """The tensor and the function if a value is a function of single elements of one tensor."""
    leaf: Leaf | None = None
    stack: list[Value] = [value]
    order: list[Apply] = []
    seen: set[int] = set()
    while stack:
        v = stack.pop()
        if isinstance(v, Leaf):
            if leaf is not None and not leaf.var.same_as(v.var):
                return None
            leaf = v
        elif isinstance(v, Apply):
            if v.op not in ELEMENTWISE or v.shape != value.shape:
                return None
            if id(v) not in seen:
                seen.add(id(v))
                order.append(v)
                stack.extend(v.args)
        elif isinstance(v, Foreign) or not v.is_scalar:
            return None
    if leaf is None or leaf.shape != value.shape:
        return None
    base = leaf

    def evaluate(v: Value, x: F32) -> F32:
        if isinstance(v, Leaf):
            # Two dequantisations of one tensor may differ in scale.
            q = x / np.float32(base.quant.scale) + base.quant.zero_point if v.quant != base.quant else None
            return (
                x
                if q is None
                else (np.rint(q) - v.quant.zero_point).astype(np.float32) * np.float32(v.quant.scale)
            )
        if isinstance(v, Const):
            return v.real.reshape(())
        assert isinstance(v, Apply)
        return elementwise(v.op, [evaluate(a, x) for a in v.args], v.attrs)

    return base, lambda x: evaluate(value, x)


def _is_parameter(call: Apply, value: Value) -> bool:
    """Whether an operand of a layout operator is a number and no tensor."""
    return isinstance(value, Const) and call.op in ("strided_slice", "nn.pad", "image.resize2d")


def _leaves(value: Value, through: frozenset[str] = frozenset()) -> list[Leaf] | None:
    """The leaves if a value is made of changes of layout, max pools and the operators in `through` only."""
    found: list[Leaf] = []
    stack = [value]
    while stack:
        v = stack.pop()
        if isinstance(v, Leaf):
            found.append(v)
        elif isinstance(v, Apply) and (
            v.op in LAYOUTS or v.op in through or v.op in ("nn.max_pool2d", "shift", "split")
        ):
            stack.extend(
                a for a in v.args if not (_is_parameter(v, a) or (v.op in through and isinstance(a, Const)))
            )
        else:
            return None
    return found or None


def _reshape(value: Apply) -> list[LayoutStep] | str:
    return [LayoutStep("reshape", (value.shape,))]


def _transpose(value: Apply) -> list[LayoutStep] | str:
    axes = value.attrs.axes
    order = tuple(int(a) for a in axes) if axes is not None else tuple(reversed(range(len(value.shape))))
    return [LayoutStep("transpose", (order,))]


def _slice_step(begin: list[int], end: list[int], stride: list[int]) -> list[LayoutStep]:
    return [LayoutStep("slice", (tuple(begin), tuple(end), tuple(stride)))]


def _strided_slice(value: Apply) -> list[LayoutStep] | str:
    source = value.args[0].shape
    call = value.attrs.call
    lists = [[int(v) for v in arg.fields] for arg in call.args[1:]]
    axes, begins, ends = lists[:3]
    strides = lists[3] if len(lists) > 3 else [1] * len(axes)
    begin, end, stride = [0] * len(source), list(source), [1] * len(source)
    for a, b, e, s in zip(axes, begins, ends, strides, strict=True):
        if s <= 0:
            return f"stride {s}"
        axis = a % len(source)
        begin[axis], end[axis], stride[axis] = *slice(b, e).indices(source[axis])[:2], s
    return _slice_step(begin, end, stride)


def _item(value: Apply) -> list[LayoutStep] | str:
    """An output of split."""
    (whole,) = value.args
    assert isinstance(whole, Apply)
    source = whole.args[0].shape
    axis = int(whole.attrs.axis) % len(source)
    sections = whole.attrs.indices_or_sections
    if hasattr(sections, "__len__"):
        bounds = [0, *(int(v) for v in sections), source[axis]]
    else:
        size = -(-source[axis] // int(sections))
        bounds = [min(i * size, source[axis]) for i in range(int(sections) + 1)]
    begin, end = [0] * len(source), list(source)
    begin[axis], end[axis] = bounds[int(value.attrs)], bounds[int(value.attrs) + 1]
    return _slice_step(begin, end, [1] * len(source))


def _concat(value: Apply) -> list[LayoutStep] | str:
    return [LayoutStep("concat", ((int(value.attrs.axis) % len(value.shape),),))]


def _pad(value: Apply) -> list[LayoutStep] | str:
    if value.attrs.pad_mode != "constant":
        return f"mode {value.attrs.pad_mode}"
    width = [int(w) for w in value.attrs.pad_width]
    return [LayoutStep("pad", (tuple(width[::2]), tuple(width[1::2]), (0,)))]


_COORDINATES: dict[str, Callable[[F32, int], F32]] = {
    "half_pixel": lambda i, f: (i + 0.5) / f - 0.5,
    "pytorch_half_pixel": lambda i, f: (i + 0.5) / f - 0.5,
    "asymmetric": lambda i, f: i / f,
}
_NEAREST: dict[str, Callable[[F32], F32]] = {
    "round": lambda x: np.ceil(x - 0.5),
    "round_prefer_floor": lambda x: np.ceil(x - 0.5),
    "round_prefer_ceil": lambda x: np.floor(x + 0.5),
    "floor": np.floor,
    "ceil": np.ceil,
}


def _resize(value: Apply) -> list[LayoutStep] | str:
    """Nearest resize by whole factors, if the coordinates that ONNX defines repeat each element."""
    a, source = value.attrs, value.args[0].shape
    if a.method != "nearest_neighbor" or a.layout != "NCHW":
        return f"method {a.method}"
    factors = [1, 1]
    coordinates, nearest = (
        _COORDINATES.get(str(a.coordinate_transformation_mode)),
        _NEAREST.get(str(a.rounding_method)),
    )
    for size, new in zip(source[2:], value.shape[2:], strict=True):
        if new % size or coordinates is None or nearest is None:
            return f"{size} to {new}, {a.coordinate_transformation_mode}, {a.rounding_method}"
        factor = new // size
        picked = np.clip(nearest(coordinates(np.arange(new), factor)), 0, size - 1)
        if not np.array_equal(picked, np.arange(new) // factor):
            return (
                f"{a.coordinate_transformation_mode} with {a.rounding_method}, which does not repeat elements"
            )
        factors.append(factor)
    return [LayoutStep("repeat", (tuple(factors),))]


LAYOUTS: dict[str, Callable[[Apply], list[LayoutStep] | str]] = {
    "reshape": _reshape,
    "expand_dims": _reshape,
    "squeeze": _reshape,
    "permute_dims": _transpose,
    "strided_slice": _strided_slice,
    "item": _item,
    "concat": _concat,
    "nn.pad": _pad,
    "image.resize2d": _resize,
}
"""Layout operators: their steps, or what stands in the way."""


def layout_steps(value: Apply) -> list[LayoutStep] | str:
    """Steps of a layout operator, or the reason why it is none."""
    reader = LAYOUTS.get(value.op)
    return "not an operator of the integer level" if reader is None else reader(value)
