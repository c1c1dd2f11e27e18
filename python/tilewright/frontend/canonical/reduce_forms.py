"""Reductions over the whole map as poolings.

    ReduceMean(x, axes = H, W)     ->  GlobalAveragePool(x)            (+ Reshape where keepdims = 0)
    ReduceSum(x, axes = H, W)      ->  Mul(GlobalAveragePool(x), H*W)
    ReduceMax(x, axes = H, W), GlobalMaxPool(x)   ->  MaxPool(x, kernel H x W)

Why: they are windows of the size of the map on the VECTOR unit.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from ..graph import Graph, Node
from .base import NodePass


@dataclass(frozen=True)
class ReduceForms(NodePass):
    """ReduceMean, ReduceSum, ReduceMax over H and W, and GlobalMaxPool -> poolings."""

    name: ClassVar[str] = "reduce_forms"
    ops: ClassVar[tuple[str, ...]] = ("ReduceMean", "ReduceSum", "ReduceMax", "GlobalMaxPool")

    def rewrite(self, graph: Graph, node: Node) -> bool:
        """Replace `node` if it reduces a float NCHW map over exactly H and W."""
        shape, result = graph.shape(node.inputs[0]), graph.shape(node.output)
        if shape is None or result is None or len(shape) != 4 or not graph.is_float(node.output):
            return False
        source = node.inputs[0]
        if node.op != "GlobalMaxPool":
            axes = graph.constant(node.input(1))
            if axes is None or sorted(int(a) % 4 for a in axes.reshape(-1)) != [2, 3]:
                return False
        if node.op == "ReduceMean":
            graph.become(node, "GlobalAveragePool", [source])
        elif node.op == "ReduceSum":
            mean = graph.emit("GlobalAveragePool", [source], origin=node, suffix="mean")
            count = graph.add_constant(f"{node.name}/count", np.array(shape[2] * shape[3], np.float32))
            graph.become(node, "Mul", [mean, count])
        else:
            graph.become(
                node,
                "MaxPool",
                [source],
                kernel_shape=list(shape[2:]),
                strides=[1, 1],
                dilations=[1, 1],
                pads=[0, 0, 0, 0],
                ceil_mode=0,
            )
        if len(result) != 4:
            target = graph.add_constant(f"{node.name}/shape", np.array(result, np.int64))
            graph.wrap_output(node, "Reshape", [target], suffix="drop_axes")
        return True
