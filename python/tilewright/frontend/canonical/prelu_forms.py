"""One form for the slopes of PRelu.

    PRelu(x, slope that broadcasts over channels)   ->  PRelu(x, slope [C,1,1])     ([C] after Gemm)
    PRelu(x, one slope)                             ->  LeakyRelu(x, alpha = slope)

Why: VECTOR has a negative slope per channel as a parameter; with one slope the table does it.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from ..graph import Graph, Node
from .base import NodePass


@dataclass(frozen=True)
class PreluForms(NodePass):
    """Normalise the slope of PRelu."""

    name: ClassVar[str] = "prelu_forms"
    ops: ClassVar[tuple[str, ...]] = ("PRelu",)

    def rewrite(self, graph: Graph, node: Node) -> bool:
        """Normalise `node` if its slope is constant and one number a channel."""
        slope, shape = graph.constant(node.inputs[1]), graph.shape(node.inputs[0])
        if slope is None or shape is None or len(shape) < 2 or not graph.is_float(node.inputs[0]):
            return False
        if slope.ndim > len(shape):
            return False
        if (slope == slope.reshape(-1)[0]).all():
            graph.become(node, "LeakyRelu", [node.inputs[0]], alpha=float(slope.reshape(-1)[0]))
            return True
        aligned = slope.reshape((1,) * (len(shape) - slope.ndim) + slope.shape)
        wanted = (shape[1],) + (1,) * (len(shape) - 2)
        if aligned.size != shape[1] or aligned.shape[1] != shape[1] or slope.shape == wanted:
            return False
        vector = np.ascontiguousarray(slope.reshape(wanted))
        graph.become(node, "PRelu", [node.inputs[0], graph.add_constant(f"{node.name}/slope", vector)])
        return True
