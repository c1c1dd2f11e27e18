"""One operator for every clamp.

    Max(x, c), Min(x, c)       ->  Clip(x, c, largest), Clip(x, lowest, c)        (c one number)
    Clip(Clip(x))              ->  Clip(x), also through Relu
    Clip(x, 0, largest)        ->  Relu(x)
    Clip with one bound        ->  Clip with both, the other one float32's limit

Why: a clamp is two fields of the requantising instruction; bounds must be known numbers.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from ..graph import Graph, Node
from .base import NodePass

_LIMIT = float(np.finfo(np.float32).max)


@dataclass(frozen=True)
class ClipForms(NodePass):
    """Clip, Relu and Max, Min with a number -> Relu or Clip with two constant bounds."""

    name: ClassVar[str] = "clip_forms"
    ops: ClassVar[tuple[str, ...]] = ("Clip", "Max", "Min", "Relu")

    def rewrite(self, graph: Graph, node: Node) -> bool:
        """Normalise `node`, taking in a clamp before it that only it reads."""
        own = _bounds(graph, node)
        if own is None:
            return False
        source, low, high = own
        before = graph.producer(source, "Clip", "Relu")
        inner = _bounds(graph, before) if before and graph.sole_user(source) is node else None
        if inner is not None and before is not None:
            source = inner[0]
            low, high = min(max(inner[1], low), high), min(max(inner[2], low), high)
        if low <= -_LIMIT and high >= _LIMIT:
            return False
        op = "Relu" if low == 0.0 and high >= _LIMIT else "Clip"
        if inner is None and node.op == op and (op == "Relu" or _is_plain(graph, node)):
            return False
        inputs = [source]
        if op == "Clip":
            for name, value in (("low", low), ("high", high)):
                inputs.append(graph.add_constant(f"{node.name}/{name}", np.array(value, np.float32)))
        graph.become(node, op, inputs)
        if inner is not None and before is not None:
            graph.remove(before, into=node.name)
        return True


def _is_plain(graph: Graph, node: Node) -> bool:
    bounds = [graph.constant(node.input(i)) for i in (1, 2)]
    return all(b is not None and b.shape == () and np.isfinite(b) for b in bounds)


def _bounds(graph: Graph, node: Node) -> tuple[str, float, float] | None:
    """Input, lower and upper bound; None where a bound is no known number."""
    if not graph.is_float(node.output):
        return None
    if node.op == "Relu":
        return node.inputs[0], 0.0, _LIMIT
    if node.op == "Clip":
        found = [
            graph.scalar(node.input(i)) if node.input(i) else limit
            for i, limit in ((1, -_LIMIT), (2, _LIMIT))
        ]
        low, high = found
        if low is None or high is None:
            return None
        high = max(-_LIMIT, min(high, _LIMIT))
        return node.inputs[0], min(max(low, -_LIMIT), high), high
    if len(node.inputs) != 2:
        return None
    side = next((i for i in (1, 0) if graph.scalar(node.inputs[i]) is not None), None)
    if side is None or graph.shape(node.inputs[1 - side]) != graph.shape(node.output):
        return None
    value = graph.scalar(node.inputs[side])
    assert value is not None
    value = max(-_LIMIT, min(value, _LIMIT))
    low, high = (value, _LIMIT) if node.op == "Max" else (-_LIMIT, value)
    return node.inputs[1 - side], low, high
