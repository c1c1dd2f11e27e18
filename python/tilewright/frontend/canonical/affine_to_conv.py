"""Turn a per-channel scale and shift that no layer can take in into a depthwise 1x1 convolution.

    s[c] * x[c] + t[c]         ->  Conv(x, s as (C,1,1,1), t), group = C

Where the input has no spatial dimensions, or one, a Reshape on either side adds them.
Why: BatchNormalization after a Concat (DenseNet) or on the input stays an operation; a depthwise
convolution is one that the VECTOR unit has and the quantiser knows (weights and bias per channel).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from ..graph import Graph, Node
from .affine import affine_of
from .base import NodePass


@dataclass(frozen=True)
class AffineToConv(NodePass):
    """Turn per-channel affine operators into depthwise 1x1 convolutions; scalar ones stay."""

    name: ClassVar[str] = "affine_to_conv"
    ops: ClassVar[tuple[str, ...]] = ("BatchNormalization", "Mul", "Div", "Add", "Sub")

    def rewrite(self, graph: Graph, node: Node) -> bool:
        """Replace `node` if its constant differs over channels."""
        affine = affine_of(graph, node)
        shape = graph.shape(node.output)
        if affine is None or affine.scalar or shape is None or len(shape) > 4:
            return False
        largest = np.finfo(np.float32).max
        if max(np.abs(affine.scale).max(), np.abs(affine.shift).max()) > largest:
            return False
        source, channels = affine.source, shape[1]
        full = {2: (*shape, 1, 1), 3: (*shape[:2], 1, *shape[2:])}.get(len(shape), shape)
        if full != shape:
            target = graph.add_constant(f"{node.name}/map", np.array(full, np.int64))
            source = graph.emit("Reshape", [source, target], origin=node, suffix="to_map")
        weight = affine.scale.astype(np.float32).reshape(channels, 1, 1, 1)
        names = [
            graph.add_constant(f"{node.name}/weight", weight),
            graph.add_constant(f"{node.name}/bias", affine.shift.astype(np.float32)),
        ]
        if len(node.outputs) > 1:
            graph.drop_outputs(node, 1)
        graph.become(
            node,
            "Conv",
            [source, *names],
            kernel_shape=[1, 1],
            strides=[1, 1],
            dilations=[1, 1],
            pads=[0, 0, 0, 0],
            group=channels,
        )
        if full != shape:
            target = graph.add_constant(f"{node.name}/shape", np.array(shape, np.int64))
            graph.wrap_output(node, "Reshape", [target], suffix="from_map")
        return True
