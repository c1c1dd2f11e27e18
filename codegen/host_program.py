"""The host part of a partitioned module -> the list of operators that a package holds.

`main` of a partitioned module calls region functions and Relax operators; `host_lowerings.py` writes each of those as
steps.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, TypeAlias, cast

import numpy as np
from tvm import ir, relax
from tvm.ir import IRModule

from tilewright.codegen.host_lowerings import (
    LOWERINGS,
    Builder,
    Call,
    Ints,
    NotInTable,
    called_by_name,
    shape_of,
)
from tilewright.errors import Fault, UnsupportedModel
from tilewright.frontend.relax_import import Sources
from tilewright.targets.host_ops import OPERATOR_FUNCTION, read_call
from tilewright.targets.program import HostProgram, HostStep, HostTensor

REMEDY = "compile with tvm.compile, whose host part is native code"

Value: TypeAlias = "int | tuple[int, ...]"
"""A tensor's number, or those of a tuple's fields."""


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


class _Reader:
    """Goes through `main` once; reasons are gathered by node, a result of a faulty call is absent."""

    def __init__(self, regions: Sequence[str]) -> None:
        self.build = Builder()
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
            raise NotInTable("a tuple within a tuple")
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
            shapes = [shape_of(f, name) for f in ty.fields]
            return tuple(self.build.tensor(f"{name}/{i}", *s) for i, s in enumerate(shapes))
        shape, dtype = shape_of(ty, name)
        if dtype == "bool":  # kept as 0 and 1, between the operators of the table only
            self.truth.append(self.build.tensor(name, shape, "float32"))
            return self.truth[-1]
        return self.build.tensor(name, shape, dtype)

    def call(self, name: str, call: Any) -> Value:
        """Steps of a call. Raises NotInTable where it has none, KeyError where an operand is missing."""
        outputs: Value
        if isinstance(call.op, ir.GlobalVar):
            if call.op.name_hint not in self.regions:
                raise NotInTable(f"calls {call.op.name_hint}, which is no region")
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
            lowering = called_by_name if operator == OPERATOR_FUNCTION else None
        if lowering is None:
            raise NotInTable(f"{operator} is no operator of packages")
        inputs = self.operands(args)
        if any(-1 in self.build.tensors[n].shape for n in inputs):
            raise NotInTable(f"{operator} of a tensor whose shape is known at run time only")
        if lowering is called_by_name and read_call(str(args[-1].value))[0] == "detection_output":
            outputs = self.build.tensor(name, (1, 1, -1, 7), "float32")  # as many rows as it finds
        else:
            outputs = self.results(name, call.ty)
        numbers = outputs if isinstance(outputs, tuple) else (outputs,)
        lowering(Call(self.build, name, tuple(args), call.attrs, inputs, numbers))
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
                except NotInTable as reason:
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
            inputs.append(build.tensor(str(parameter.name), *shape_of(parameter.ty, str(parameter.name))))
        except NotInTable as reason:
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
