"""Remove operators that give back their input.

    Identity(x), Dropout(x), Cast(x) to x's type, Reshape to x's shape, Transpose in x's order,
    Pad by nothing, x * 1, x + 0, x ** 1, pooling of 1x1 at stride 1, Concat(x), Split into one   ->  x

Why: each operator left is an instruction, and for the quantiser a place where it would round.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from ..graph import Graph, Node
from .base import NodePass


def _always(graph: Graph, node: Node) -> bool:
    return True


def _single(graph: Graph, node: Node) -> bool:
    return len([v for v in node.inputs if v]) == 1


def _dropout(graph: Graph, node: Node) -> bool:
    mode = node.input(2)
    training = graph.constant(mode) if mode else np.zeros(1, bool)
    mask = node.outputs[1] if len(node.outputs) > 1 else ""
    unused = not mask or not (graph.users(mask) or graph.is_output(mask))
    return unused and training is not None and not training.any()


def _cast(graph: Graph, node: Node) -> bool:
    return graph.element(node.inputs[0]) == node.int("to", 0)


def _same_shape(graph: Graph, node: Node) -> bool:
    before = graph.shape(node.inputs[0])
    return before is not None and before == graph.shape(node.output)


def _transpose(graph: Graph, node: Node) -> bool:
    rank = graph.rank(node.inputs[0]) or 0
    return node.ints("perm", range(rank)[::-1]) == list(range(rank))


def _slice(graph: Graph, node: Node) -> bool:
    steps = graph.constant(node.input(4)) if node.input(4) else np.ones(1)
    return _same_shape(graph, node) and steps is not None and bool((steps > 0).all())


def _pad(graph: Graph, node: Node) -> bool:
    pads = graph.constant(node.inputs[1])
    return pads is not None and not pads.any()


def _pool(graph: Graph, node: Node) -> bool:
    # kernel 1 with stride 1 and no padding; Indices, the second output of MaxPool, would be missing
    only = all(s == 1 for key in ("kernel_shape", "strides") for s in node.ints(key, ()))
    return only and not any(node.ints("pads", ())) and _same_shape(graph, node) and len(node.outputs) == 1


def _neutral(value: float) -> Callable[[Graph, Node], bool]:
    def check(graph: Graph, node: Node) -> bool:
        array = graph.constant(node.inputs[1])
        neutral = array is not None and array.dtype.kind == "f" and bool((array == value).all())
        return neutral and _same_shape(graph, node)

    return check


def _split(graph: Graph, node: Node) -> bool:
    return len(node.outputs) == 1


_CHECKS: dict[str, Callable[[Graph, Node], bool]] = {
    "Identity": _always,
    "Dropout": _dropout,
    "Cast": _cast,
    "Reshape": _same_shape,
    "Flatten": _same_shape,
    "Expand": _same_shape,
    "Tile": _same_shape,
    "Transpose": _transpose,
    "Slice": _slice,
    "Pad": _pad,
    "MaxPool": _pool,
    "AveragePool": _pool,
    "Concat": _single,
    "Sum": _single,
    "Max": _single,
    "Min": _single,
    "Mean": _single,
    "Split": _split,
    "Mul": _neutral(1.0),
    "Div": _neutral(1.0),
    "Add": _neutral(0.0),
    "Sub": _neutral(0.0),
    "Pow": _neutral(1.0),
}


@dataclass(frozen=True)
class RemoveIdentity(NodePass):
    """Remove operators that give back their input."""

    name: ClassVar[str] = "remove_identity"
    on_quantised: ClassVar[bool] = True
    ops: ClassVar[tuple[str, ...]] = tuple(_CHECKS)

    def rewrite(self, graph: Graph, node: Node) -> bool:
        """Remove `node`; where it joins a graph input or output to an output it becomes an Identity."""
        if not _CHECKS[node.op](graph, node):
            return False
        if graph.can_bypass(node):
            graph.bypass(node)
            return True
        if node.op == "Identity":
            return False
        graph.become(node, "Identity", node.inputs[:1])
        graph.drop_outputs(node, 1)
        return True
