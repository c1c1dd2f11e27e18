"""Region function of the integer level -> :class:`Graph`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import cast

from tvm import relax

from tilewright.codegen.graph import Graph, Node, Tensor
from tilewright.relay_passes.integer.emit import LAYER
from tilewright.relay_passes.integer.ops import DType
from tilewright.relay_passes.integer.parse import kind_of, parse


def tensor(var: relax.Var) -> Tensor:
    """A variable as a tensor."""
    shape = tuple(int(d) for d in var.ty.shape.values)
    return Tensor(var.name, shape, cast(DType, str(var.ty.dtype)))


def node(var: relax.Var, args: Sequence[relax.Var], composite: relax.Function) -> Node:
    """A call of a composite as a node."""
    layer = str(composite.attrs[LAYER]) if LAYER in composite.attrs else var.name
    return Node(layer or var.name, parse(composite), tuple(tensor(a) for a in args), tensor(var))


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
                nodes.append(node(binding.var, args, composites[value.op.name]))
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
    return Graph(
        symbol, tuple(tensor(p) for p in function.params), tuple(tensor(o) for o in outputs), tuple(nodes)
    )
