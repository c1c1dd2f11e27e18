"""Local response normalisation across channels as operators that the machine has.

    y[c] = x[c] / (k + alpha/n * sum over i in window(c) of x[i]^2) ^ beta
      ->  q = Mul(x, x);  s = Conv1x1(q, banded alpha/n, bias k);  p = Pow(s, -beta);  y = Mul(x, p)

The window is i = c - floor((n-1)/2) .. c + ceil((n-1)/2), cut at the ends. Source: Krizhevsky et al.,
NIPS 2012, section 3.3; ONNX operator specification, LRN.

Why: square and product are VECTOR operations, the banded sum is a 1x1 convolution on MATRIX, and the power
of one tensor is a table. As operators before quantisation each gets a range of its own.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from ...errors import Fault, ModelError
from ..graph import Graph, Node
from .base import NodePass

POINTWISE = {"kernel_shape": [1, 1], "strides": [1, 1], "dilations": [1, 1], "pads": [0, 0, 0, 0], "group": 1}


@dataclass(frozen=True)
class LowerLrn(NodePass):
    """LRN -> Mul, Conv 1x1, Pow, Mul."""

    name: ClassVar[str] = "lower_lrn"
    ops: ClassVar[tuple[str, ...]] = ("LRN",)

    def rewrite(self, graph: Graph, node: Node) -> bool:
        """Replace `node`, which keeps its name as the last product."""
        source = node.inputs[0]
        shape = graph.shape(source)
        if shape is None or len(shape) != 4 or not graph.is_float(source):
            return False
        channels, size = shape[1], node.int("size", 1)
        if size < 1:
            message = f"LRN's size must be at least 1, found {size}"
            raise ModelError(Fault(message, f"node {node.name}", "export the model again"))
        distance = np.arange(channels)[None, :] - np.arange(channels)[:, None]
        inside = (distance >= -((size - 1) // 2)) & (distance <= size // 2)
        weight = (inside * (node.float("alpha", 1e-4) / size)).astype(np.float32)[:, :, None, None]
        bias = np.full(channels, node.float("bias", 1.0), np.float32)
        square = graph.emit("Mul", [source, source], origin=node, suffix="square")
        names = [graph.add_constant(f"{node.name}/band", weight), graph.add_constant(f"{node.name}/k", bias)]
        total = graph.emit("Conv", [square, *names], origin=node, suffix="sum", **POINTWISE)
        exponent = graph.add_constant(
            f"{node.name}/exponent", np.array(-node.float("beta", 0.75), np.float32)
        )
        power = graph.emit("Pow", [total, exponent], origin=node, suffix="power")
        graph.become(node, "Mul", [source, power])
        return True
