"""Region function of the integer level -> :class:`Graph`."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import cast

from tvm import relax

from tilewright.codegen.graph import Graph, Node, Tensor
from tilewright.integer.emit import LAYER, ranges_of
from tilewright.integer.ops import DType, result_range
from tilewright.integer.parse import kind_of, parse
from tilewright.targets.storage import Range


def tensor(var: relax.Var, held: Range | None = None) -> Tensor:
    """A variable as a tensor of these values."""
    shape = tuple(int(d) for d in var.ty.shape.values)
    return Tensor(var.name, shape, cast(DType, str(var.ty.dtype)), held)


def node(
    var: relax.Var,
    args: Sequence[relax.Var],
    composite: relax.Function,
    known: Mapping[str, Tensor] | None = None,
) -> Node:
    """A call of a composite as a node. Operands in `known` are those tensors, others have the values it names."""
    layer = str(composite.attrs[LAYER]) if LAYER in composite.attrs else var.name
    operator = parse(composite)
    found = known or {}
    inputs = [
        found.get(a.name) or tensor(a, held) for a, held in zip(args, ranges_of(composite), strict=True)
    ]
    result = tensor(var)
    held = result_range(operator, [t.range for t in inputs], result.dtype)
    return Node(layer or var.name, operator, tuple(inputs), replace(result, held=held))


def lift(function: relax.Function, name: str = "") -> Graph:
    """Read a region, as `MergeCompositeFunctions` leaves it.

    Args:
        function: holds its composites as local functions, each called once or more.
        name: the region's symbol; the function's own if empty.

    Raises:
        ValueError: if the function holds anything but composites.
    """
    composites: dict[str, relax.Function] = {}
    aliases: dict[str, relax.Var] = {}
    results: dict[str, list[relax.Var]] = {}
    nodes: list[Node] = []
    known: dict[str, Tensor] = {}

    def real(var: relax.Var) -> relax.Var:
        while var.name in aliases:
            var = aliases[var.name]
        return var

    for block in function.body.blocks:
        for binding in block.bindings:
            value = binding.value
            if kind_of(value):
                composites[binding.var.name] = value
            elif isinstance(value, relax.Call) and getattr(value.op, "name", "") in composites:
                args = [real(a) for a in value.args]
                found = node(binding.var, args, composites[value.op.name], known)
                known |= {t.name: t for t in (*found.inputs, found.output)}
                nodes.append(found)
            elif isinstance(value, relax.Tuple):
                results[binding.var.name] = [real(f) for f in value.fields]
            elif isinstance(value, relax.Var):
                aliases[binding.var.name] = value
            else:
                raise ValueError(f"expected calls of composites in a region, found {value}")
    end = function.body.body
    if isinstance(end, relax.Tuple):
        outputs = [real(f) for f in end.fields]
    else:
        end = real(end)
        outputs = results.get(end.name, [end])
    symbol = name or str(function.attrs["global_symbol"])
    inputs, results_ = ([known.get(v.name) or tensor(v) for v in vs] for vs in (function.params, outputs))
    return Graph(symbol, tuple(inputs), tuple(results_), tuple(nodes))
