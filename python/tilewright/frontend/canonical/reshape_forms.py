"""One operator for every change of shape.

    Flatten, Squeeze, Unsqueeze, Reshape(x, with 0 or -1)   ->  Reshape(x, constant full shape)
    Transpose(x) that moves only dimensions of size 1       ->  Reshape
    Reshape(Reshape(x))                                     ->  Reshape(x)
    Transpose(Transpose(x))                                 ->  Transpose(x)

Why: the accelerator moves no data for a reshape; the compiler has one operator to look through.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from ..graph import Graph, Node
from .base import NodePass


@dataclass(frozen=True)
class ReshapeForms(NodePass):
    """Write changes of shape as Reshape with a constant, and merge chains."""

    name: ClassVar[str] = "reshape_forms"
    on_quantised: ClassVar[bool] = True
    ops: ClassVar[tuple[str, ...]] = ("Reshape", "Flatten", "Squeeze", "Unsqueeze", "Transpose")

    def rewrite(self, graph: Graph, node: Node) -> bool:
        """Normalise `node`, then merge it with the one before."""
        if node.op == "Transpose":
            return _transpose(graph, node)
        shape = graph.shape(node.output)
        if shape is None or 0 in shape:
            return False
        target = graph.constant(node.input(1))
        done = node.op == "Reshape" and not node.attrs and target is not None and tuple(target) == shape
        before = graph.producer(node.inputs[0], "Reshape")
        if done and before is None:
            return False
        source = before.inputs[0] if before else node.inputs[0]
        name = node.input(1) if done else graph.add_constant(f"{node.name}/shape", np.array(shape, np.int64))
        graph.become(node, "Reshape", [source, name])
        return True


def _transpose(graph: Graph, node: Node) -> bool:
    shape = graph.shape(node.inputs[0])
    if shape is None:
        return False
    order = node.ints("perm", range(len(shape))[::-1])
    moved = [axis for axis in order if shape[axis] != 1]
    if moved == sorted(moved):
        target = np.array([shape[axis] for axis in order], np.int64)
        graph.become(node, "Reshape", [node.inputs[0], graph.add_constant(f"{node.name}/shape", target)])
        return True
    before = graph.producer(node.inputs[0], "Transpose")
    if before is not None:
        first = before.ints("perm", range(len(shape))[::-1])
        graph.become(node, "Transpose", [before.inputs[0]], perm=[first[axis] for axis in order])
        return True
    if node.attrs.get("perm") is None:
        graph.become(node, "Transpose", node.inputs, perm=order)
        return True
    return False
