"""Sums and differences as additions of two.

    Sum(a, b, c)               ->  Add(Add(a, b), c)
    Mean(a, b)                 ->  Mul(Add(a, b), 1/2)
    Sub(a, b)                  ->  Add(a, Mul(b, -1))
    Sub(x, c), Sub(c, x), Neg(x)   ->  Add(x, -c), Add(Mul(x, -1), c), Mul(x, -1)       (c constant)
    Max(a, b, c), Min(a, b, c)     ->  chains of two

All exact but for the order of a float sum. Why: VECTOR adds two maps at a time; the factor -1 folds into the
layer that makes b.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from ..graph import Graph, Node
from .base import NodePass


@dataclass(frozen=True)
class SumToAdd(NodePass):
    """Sum, Mean, Sub, Neg and n-ary Max, Min -> Add, Mul, and Max, Min of two."""

    name: ClassVar[str] = "sum_to_add"
    ops: ClassVar[tuple[str, ...]] = ("Sum", "Mean", "Sub", "Neg", "Max", "Min")

    def rewrite(self, graph: Graph, node: Node) -> bool:
        """Replace `node` (float only)."""
        if not graph.is_float(node.output) or (len(node.inputs) == 1 and node.op != "Neg"):
            return False
        if node.op == "Neg":
            graph.become(node, "Mul", [node.inputs[0], _number(graph, node, -1.0)])
            return True
        if node.op == "Sub":
            return _sub(graph, node)
        if node.op in ("Max", "Min"):
            if len(node.inputs) == 2:
                return False
            graph.become(node, node.op, [_chain(graph, node, node.op), node.inputs[-1]])
            return True
        if node.op == "Sum":
            graph.become(node, "Add", [_chain(graph, node, "Add"), node.inputs[-1]])
            return True
        share = 1.0 / len(node.inputs)
        total = graph.emit("Add", [_chain(graph, node, "Add"), node.inputs[-1]], origin=node, suffix="sum")
        graph.become(node, "Mul", [total, _number(graph, node, share)])
        return True


def _number(graph: Graph, node: Node, value: float) -> str:
    return graph.add_constant(f"{node.name}/factor", np.array(value, np.float32))


def _chain(graph: Graph, node: Node, op: str) -> str:
    """All inputs but the last, combined two by two."""
    value = node.inputs[0]
    for i, other in enumerate(node.inputs[1:-1]):
        value = graph.emit(op, [value, other], origin=node, suffix=f"{op.lower()}_{i}")
    return value


def _sub(graph: Graph, node: Node) -> bool:
    first, second = node.inputs
    constant = graph.constant(second)
    if constant is not None:
        graph.become(node, "Add", [first, graph.add_constant(f"{node.name}/minus", -constant)])
        return True
    minus = graph.emit("Mul", [second, _number(graph, node, -1.0)], origin=node, suffix="minus")
    graph.become(node, "Add", [first, minus])
    return True
