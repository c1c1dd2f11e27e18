"""The host part of a partitioned module -> the list of operators that a package holds.

`main` of a partitioned module calls region functions and Relax operators; each operator of the table LOWERINGS becomes
one or a few steps of `targets/host_ops.py`. What is not in the table cannot be in a package; `tvm.compile` still
takes it, for there the host part is native code.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, TypeAlias, cast

import numpy as np
from numpy.typing import NDArray
from tvm import ir, relax
from tvm.ir import IRModule

from tilewright.errors import Fault, UnsupportedModel
from tilewright.frontend.relax_import import Sources
from tilewright.targets.host_ops import (
    BINARY,
    HOST_DTYPES,
    OPERATOR_FUNCTION,
    UNARY,
    AttributeValue,
    read_call,
)
from tilewright.targets.program import HostProgram, HostStep, HostTensor

REMEDY = "compile with tvm.compile, whose host part is native code"

Ints: TypeAlias = tuple[int, ...]
Value: TypeAlias = "int | tuple[int, ...]"
"""A tensor's number, or those of a tuple's fields."""


class _NotInTable(Exception):
    """A call that no package can hold; the text says why."""


class NotInPackage(UnsupportedModel):
    """What of a network no package can hold.

    Attributes:
        reasons: for each node, by name, why its calls cannot be in a package.
    """

    def __init__(self, reasons: Mapping[str, Sequence[str]]) -> None:
        self.reasons = reasons
        super().__init__(
            *(
                Fault(f"the package's host part cannot do this: {', '.join(why)}", where, REMEDY)
                for where, why in reasons.items()
            )
        )


@dataclass
class _Builder:
    """The program under construction."""

    tensors: list[HostTensor] = field(default_factory=list)
    constants: dict[int, NDArray[np.generic]] = field(default_factory=dict)
    steps: list[HostStep] = field(default_factory=list)

    def tensor(self, name: str, shape: Sequence[int], dtype: str) -> int:
        """Add a tensor and give its number."""
        if dtype not in HOST_DTYPES:
            raise _NotInTable(f"expected {', '.join(HOST_DTYPES)}, found {dtype}")
        self.tensors.append(HostTensor(name, tuple(shape), dtype))
        return len(self.tensors) - 1

    def constant(self, array: NDArray[np.generic], name: str = "") -> int:
        """Add a constant and give its number."""
        number = self.tensor(name or f"constant_{len(self.tensors)}", array.shape, array.dtype.name)
        self.constants[number] = array
        return number

    def step(self, op: str, inputs: Sequence[int], output: int, **attributes: AttributeValue) -> None:
        """Add a step with one result."""
        self.steps.append(HostStep.of(op, inputs, (output,), **attributes))


@dataclass(frozen=True)
class _Call:
    """A call as a lowering sees it: operands that are tensors, all arguments, attributes, and where results go."""

    build: _Builder
    name: str
    args: tuple[Any, ...]
    attrs: Any
    inputs: Ints
    outputs: Ints

    @property
    def operand(self) -> HostTensor:
        """The first operand."""
        return self.build.tensors[self.inputs[0]]

    @property
    def result(self) -> HostTensor:
        """The first result."""
        return self.build.tensors[self.outputs[0]]

    def emit(self, op: str, **attributes: AttributeValue) -> None:
        """One step for the whole call."""
        self.build.step(op, self.inputs, self.outputs[0], **attributes)

    def axes(self) -> Ints:
        """Attribute `axis` as a list; none means all."""
        axis = self.attrs.axis
        return () if axis is None else tuple(int(a) for a in axis)


Lowering: TypeAlias = Callable[[_Call], None]


def _same(op: str) -> Lowering:
    return lambda call: call.emit(op)


def _along(op: str) -> Lowering:
    return lambda call: call.emit(op, axis=int(call.attrs.axis))


def _reduce(op: str) -> Lowering:
    return lambda call: call.emit(op, axes=call.axes(), keepdims=int(call.attrs.keepdims))


def _arg(op: str) -> Lowering:
    def lower(call: _Call) -> None:
        if call.attrs.axis is None:
            raise _NotInTable("an index over all axes at once")
        call.emit(op, axis=int(call.attrs.axis), keepdims=int(call.attrs.keepdims))

    return lower


def _reshape(call: _Call) -> None:
    call.build.step("reshape", call.inputs[:1], call.outputs[0], shape=call.result.shape)


def _expand(call: _Call) -> None:
    call.build.step("expand", call.inputs[:1], call.outputs[0], shape=call.result.shape)


def _transpose(call: _Call) -> None:
    axes = call.attrs.axes
    rank = len(call.operand.shape)
    call.emit("transpose", axes=tuple(range(rank))[::-1] if axes is None else tuple(int(a) for a in axes))


def _quantise(op: str) -> Lowering:
    def lower(call: _Call) -> None:
        x, scale, zero = call.inputs
        wanted = call.result.dtype if op == "quantize" else call.operand.dtype
        build = call.build
        if build.tensors[zero].dtype != wanted:
            value = build.constants.get(zero)
            if value is None or np.any(value.astype(wanted).astype(value.dtype) != value):
                raise _NotInTable(
                    f"expected a constant zero point of {wanted}, found {build.tensors[zero].dtype}"
                )
            zero = build.constant(value.astype(wanted))
        build.step(op, (x, scale, zero), call.outputs[0], axis=int(call.attrs.axis))

    return lower


def _numbers(expr: Any) -> Ints:
    return tuple(int(f) for f in expr.fields)


def _slice(call: _Call) -> None:
    rank = len(call.operand.shape)
    axes = [a % rank for a in _numbers(call.args[1])]
    strides = _numbers(call.args[4]) if len(call.args) > 4 else (1,) * len(axes)
    limits = zip(axes, _numbers(call.args[2]), _numbers(call.args[3]), strides, strict=True)
    begin, end, stride = [0] * rank, list(call.operand.shape), [1] * rank
    for axis, *rest in limits:
        begin[axis], end[axis], stride[axis] = rest
    call.build.step(
        "slice", call.inputs[:1], call.outputs[0], begin=tuple(begin), end=tuple(end), stride=tuple(stride)
    )


def _split(call: _Call) -> None:
    shape = call.operand.shape
    axis = int(call.attrs.axis) % len(shape)
    start = 0
    for number in call.outputs:
        begin, end = [0] * len(shape), list(shape)
        begin[axis], end[axis] = start, start + call.build.tensors[number].shape[axis]
        start = end[axis]
        strides = (1,) * len(shape)
        call.build.step("slice", call.inputs, number, begin=tuple(begin), end=tuple(end), stride=strides)


def _flip(call: _Call) -> None:
    shape = call.operand.shape
    begin, end, stride = [0] * len(shape), list(shape), [1] * len(shape)
    axis = int(call.attrs.axis) % len(shape)
    # An end before the first element: -1 would count from the back.
    begin[axis], end[axis], stride[axis] = shape[axis] - 1, -shape[axis] - 1, -1
    call.emit("slice", begin=tuple(begin), end=tuple(end), stride=tuple(stride))


def _repeat(call: _Call) -> None:
    """Each element several times: a new axis behind it, broadcast, and merged again."""
    x = call.operand
    if call.attrs.axis is None:
        raise _NotInTable("a repeat over all axes at once")
    axis, repeats = int(call.attrs.axis) % len(x.shape), int(call.attrs.repeats)
    head, tail = x.shape[: axis + 1], x.shape[axis + 1 :]
    build = call.build
    apart = build.tensor(f"{call.name}/apart", (*head, 1, *tail), x.dtype)
    wide = build.tensor(f"{call.name}/wide", (*head, repeats, *tail), x.dtype)
    build.step("reshape", call.inputs, apart, shape=(*head, 1, *tail))
    build.step("expand", (apart,), wide, shape=(*head, repeats, *tail))
    build.step("reshape", (wide,), call.outputs[0], shape=call.result.shape)


def _pad(call: _Call) -> None:
    if str(call.attrs.pad_mode) != "constant":
        raise _NotInTable(f"padding of mode {call.attrs.pad_mode}")
    width = [int(w) for w in call.attrs.pad_width]
    if min(width, default=0) < 0:
        raise _NotInTable(f"negative padding {width}")
    call.emit("pad", before=tuple(width[::2]), after=tuple(width[1::2]), value=float(call.attrs.pad_value))


def _clip(call: _Call) -> None:
    lo, hi = (float(a.value) for a in call.args[1:])
    call.build.step("clip", call.inputs[:1], call.outputs[0], lo=lo, hi=hi)


def _take(call: _Call) -> None:
    if call.attrs.axis is None:
        raise _NotInTable("a take over all axes at once")
    if str(call.attrs.mode) not in ("fast", "clip"):
        raise _NotInTable(f"a take of mode {call.attrs.mode}")
    index = call.build.constants.get(call.inputs[1])
    length = call.operand.shape[int(call.attrs.axis)]
    if index is None or np.any(index.astype(np.int64) < 0) or np.any(index.astype(np.int64) >= length):
        raise _NotInTable(f"a take whose indices are not constants in 0..{length - 1}")
    call.emit("gather", axis=int(call.attrs.axis))


def _topk(call: _Call) -> None:
    k, kind = int(call.attrs.k), str(call.attrs.ret_type)
    axis = int(call.attrs.axis) % len(call.operand.shape)
    length = call.operand.shape[axis]
    shape = tuple(
        (k if 1 <= k <= length else length) if i == axis else d for i, d in enumerate(call.operand.shape)
    )
    build = call.build
    wide = [
        build.tensor(f"{call.name}/values", shape, call.operand.dtype),
        build.tensor(f"{call.name}/indices", shape, "int64"),
    ]
    build.steps.append(
        HostStep.of("topk", call.inputs, wide, axis=axis, k=shape[axis], largest=int(call.attrs.largest))
    )
    sources = {"both": wide, "values": wide[:1], "indices": wide[1:]}[kind]
    for source, target in zip(sources, call.outputs, strict=True):
        build.step("cast", (source,), target)  # the indices' type is the call's choice


def _at_least(call: _Call) -> None:
    """x >= c: 1 + the floor of the difference, within -1..0; truth values are numbers here."""
    build, shape = call.build, call.result.shape
    one = build.constant(np.array(1, np.float32))
    steps = [build.tensor(f"{call.name}/{part}", shape, "float32") for part in ("difference", "floor", "bit")]
    build.step("subtract", call.inputs, steps[0])
    build.step("floor", steps[:1], steps[1])
    build.step("clip", steps[1:2], steps[2], lo=-1.0, hi=0.0)
    build.step("add", (steps[2], one), call.outputs[0])


def _select(call: _Call) -> None:
    """One of two constants: bit * (yes - no) + no."""
    values = [call.build.constants.get(n) for n in call.inputs[1:]]
    if any(v is None or v.size != 1 for v in values):
        raise _NotInTable("a choice between values that are not two numbers")
    yes, no = (np.asarray(v, np.float32).reshape(()) for v in values)
    build, shape = call.build, call.result.shape
    steps = [build.tensor(f"{call.name}/{part}", shape, "float32") for part in ("scaled", "chosen")]
    build.step("multiply", (call.inputs[0], build.constant(np.asarray(yes - no))), steps[0])
    build.step("add", (steps[0], build.constant(no)), steps[1])
    build.step("cast", steps[1:], call.outputs[0])


LOWERINGS: Mapping[str, Lowering] = {
    "relax.quantize": _quantise("quantize"),
    "relax.dequantize": _quantise("dequantize"),
    "relax.nn.softmax": _along("softmax"),
    "relax.nn.log_softmax": _along("log_softmax"),
    "relax.argmax": _arg("argmax"),
    "relax.argmin": _arg("argmin"),
    "relax.nn.relu": _same("relu"),
    "relax.nn.leakyrelu": lambda call: call.emit("leaky_relu", alpha=float(call.attrs.alpha)),
    "relax.clip": _clip,
    **{f"relax.{name}": _same(name) for name in (*UNARY, *BINARY) if name != "relu"},
    "relax.square": lambda call: call.build.step("multiply", call.inputs * 2, call.outputs[0]),
    "relax.sum": _reduce("reduce_sum"),
    "relax.mean": _reduce("reduce_mean"),
    "relax.max": _reduce("reduce_max"),
    "relax.min": _reduce("reduce_min"),
    "relax.astype": _same("cast"),
    **{
        f"relax.{name}": _reshape
        for name in ("reshape", "squeeze", "expand_dims", "flatten", "nn.batch_flatten")
    },
    "relax.permute_dims": _transpose,
    "relax.concat": _along("concat"),
    "relax.strided_slice": _slice,
    "relax.split": _split,
    "relax.flip": _flip,
    "relax.repeat": _repeat,
    "relax.nn.pad": _pad,
    "relax.broadcast_to": _expand,
    "relax.take": _take,
    "relax.topk": _topk,
    "relax.greater_equal": _at_least,
    "relax.where": _select,
}
"""How each Relax operator is written as steps; the operator table of packages is `targets/host_ops.py`."""


def _shape_of(ty: Any, where: str) -> tuple[Ints, str]:
    """Shape and type of a tensor. Raises _NotInTable where a dimension is not a number."""
    if not isinstance(ty, relax.TensorType) or ty.shape is None:
        raise _NotInTable(f"{where} is no tensor of known shape")
    dims = list(ty.shape.values) if hasattr(ty.shape, "values") else list(ty.shape)
    try:
        return tuple(int(d) for d in dims), str(ty.dtype)
    except (TypeError, ValueError) as error:
        found = ", ".join(str(getattr(d, "value", d)) for d in dims)
        raise _NotInTable(f"{where} has a dynamic shape [{found}]") from error


def _operator(call: _Call) -> None:
    """An operator that is called by name."""
    op, attributes = read_call(str(call.args[-1].value))
    call.emit(op, **attributes)


def single_step(call: Any) -> HostStep | None:
    """A call of a Relax operator as one step on float32 tensors; None where it is more, or no such thing."""
    build = _Builder()
    try:
        operands = [a for a in call.args if isinstance(a.ty, relax.TensorType)]
        inputs = tuple(build.tensor("operand", *_shape_of(a.ty, "operand")) for a in operands)
        output = build.tensor("result", *_shape_of(call.ty, "result"))
        LOWERINGS[str(call.op.name)](_Call(build, "", tuple(call.args), call.attrs, inputs, (output,)))
    except (_NotInTable, KeyError):
        return None
    if len(build.steps) != 1 or any(tensor.dtype != "float32" for tensor in build.tensors):
        return None
    return build.steps[0]


class _Reader:
    """Goes through `main` once; reasons are gathered by node, a result of a faulty call is absent."""

    def __init__(self, regions: Sequence[str]) -> None:
        self.build = _Builder()
        self.regions = {name: i for i, name in enumerate(regions)}
        self.values: dict[str, Value] = {}
        self.reasons: dict[str, list[str]] = {}
        self.truth: list[int] = []
        self.sources: Sources = Sources()

    def value(self, expr: Any) -> Value:
        """Tensor number of an expression. Raises KeyError where it depends on a faulty call."""
        if isinstance(expr, ir.GenericConst):
            return self.build.constant(np.asarray(expr.value.numpy()))
        if isinstance(expr, ir.Tuple):
            return tuple(self.one(f) for f in expr.fields)
        if isinstance(expr, ir.TupleGetItem):
            return cast(Ints, self.value(expr.tuple_value))[int(expr.index)]
        return self.values[expr.name]

    def one(self, expr: Any) -> int:
        """Tensor number of an expression that is no tuple."""
        value = self.value(expr)
        if isinstance(value, tuple):
            raise _NotInTable("a tuple within a tuple")
        return value

    def operands(self, args: Sequence[Any]) -> Ints:
        """Tensor numbers of the arguments that are tensors; tuples of them count as several."""
        found: list[int] = []
        for arg in args:
            if isinstance(arg, ir.Tuple):
                if all(isinstance(f, (ir.Var, ir.GenericConst, ir.TupleGetItem)) for f in arg.fields):
                    found.extend(self.one(f) for f in arg.fields)
            elif isinstance(arg, (ir.Var, ir.GenericConst, ir.TupleGetItem)):
                value = self.value(arg)
                found.extend(value if isinstance(value, tuple) else (value,))
        return tuple(found)

    def results(self, name: str, ty: Any) -> Value:
        """New tensors for a call's result."""
        if isinstance(ty, relax.TupleType):
            shapes = [_shape_of(f, name) for f in ty.fields]
            return tuple(self.build.tensor(f"{name}/{i}", *s) for i, s in enumerate(shapes))
        shape, dtype = _shape_of(ty, name)
        if dtype == "bool":  # kept as 0 and 1, between the operators of the table only
            self.truth.append(self.build.tensor(name, shape, "float32"))
            return self.truth[-1]
        return self.build.tensor(name, shape, dtype)

    def call(self, name: str, call: Any) -> Value:
        """Steps of a call. Raises _NotInTable where it has none, KeyError where an operand is missing."""
        outputs: Value
        if isinstance(call.op, ir.GlobalVar):
            if call.op.name_hint not in self.regions:
                raise _NotInTable(f"calls {call.op.name_hint}, which is no region")
            inputs = self.operands(call.args)
            outputs = self.results(name, call.ty)
            numbers = outputs if isinstance(outputs, tuple) else (outputs,)
            index = self.regions[call.op.name_hint]
            self.build.steps.append(HostStep.of("region", inputs, numbers, index=index))
            return outputs
        operator = str(call.op.name) if isinstance(call.op, ir.Op) else type(call.op).__name__
        args = list(call.args)
        lowering = LOWERINGS.get(operator)
        if operator == "relax.call_pure_packed":
            operator = str(args.pop(0).global_symbol)
            lowering = _operator if operator == OPERATOR_FUNCTION else None
        if lowering is None:
            raise _NotInTable(f"{operator} is no operator of packages")
        inputs = self.operands(args)
        if any(-1 in self.build.tensors[n].shape for n in inputs):
            raise _NotInTable(f"{operator} of a tensor whose shape is known at run time only")
        if lowering is _operator and read_call(str(args[-1].value))[0] == "detection_output":
            outputs = self.build.tensor(name, (1, 1, -1, 7), "float32")  # as many rows as it finds
        else:
            outputs = self.results(name, call.ty)
        numbers = outputs if isinstance(outputs, tuple) else (outputs,)
        lowering(_Call(self.build, name, tuple(args), call.attrs, inputs, numbers))
        return outputs

    def read(self, main: Any) -> Ints:
        """All of `main`; gives the numbers of its results. Raises NotInPackage with every node."""
        self.sources = Sources.of(main)
        for block in main.body.blocks:
            for binding in block.bindings:
                name, value = str(binding.var.name), binding.value
                try:
                    self.values[name] = (
                        self.call(name, value) if isinstance(value, ir.Call) else self.value(value)
                    )
                except _NotInTable as reason:
                    index = self.sources.node_of.get(name)
                    where = name if index is None else self.sources.nodes[index].name
                    why = self.reasons.setdefault(where, [])
                    if str(reason) not in why:
                        why.append(str(reason))
                except KeyError:
                    continue  # an operand's own fault is reported already
        if self.reasons:
            raise NotInPackage(self.reasons)
        result = self.value(main.body.body)
        return result if isinstance(result, tuple) else (result,)


def host_program(
    module: IRModule, regions: Sequence[str], outputs: Sequence[str] | None = None
) -> HostProgram:
    """The host part of a partitioned module.

    Args:
        module: `main` calls region functions and host operators; parameters are the network's inputs.
        regions: symbols of the region functions, in the order of the package.
        outputs: names of the results; None: those of their variables.

    Raises:
        NotInPackage: operators that a package cannot hold, all of them, by node.
        UnsupportedModel: inputs or results that it cannot hold.
    """
    main = module["main"]
    reader = _Reader(regions)
    build = reader.build
    inputs: list[int] = []
    for parameter in main.params:
        try:
            inputs.append(build.tensor(str(parameter.name), *_shape_of(parameter.ty, str(parameter.name))))
        except _NotInTable as reason:
            raise UnsupportedModel(Fault(f"input {parameter.name}: {reason}", remedy=REMEDY)) from reason
        reader.values[str(parameter.name)] = inputs[-1]
    found = reader.read(main)
    if outputs is not None and len(outputs) != len(found):
        raise AssertionError(f"{len(outputs)} names for {len(found)} results")
    results: list[int] = []
    for position, number in enumerate(found):
        tensor = build.tensors[number]
        if number in reader.truth:
            message = "the package's host part cannot do this: truth values as a result"
            raise UnsupportedModel(Fault(message, tensor.name, REMEDY))
        name = tensor.name if outputs is None else outputs[position]
        if number in results or number in inputs or number in build.constants:
            # A tensor has one name, so a second one needs a tensor of its own.
            copy = build.tensor(name, tensor.shape, tensor.dtype)
            build.step("reshape", (number,), copy, shape=tensor.shape)
            number = copy
        build.tensors[number] = HostTensor(name, tensor.shape, tensor.dtype)
        results.append(number)
    return HostProgram(
        tuple(build.tensors), build.constants, tuple(inputs), tuple(results), tuple(build.steps)
    )
