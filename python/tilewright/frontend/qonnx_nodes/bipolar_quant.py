"""BipolarQuant: `y = scale` where x is 0 or more, else `-scale`."""

from __future__ import annotations

import numpy as np

from ..graph import Graph, Node
from .integers import (
    F32,
    Integers,
    assume_float,
    dequantise,
    dequantise_constant,
    parameters,
    scales,
    source,
)

_INT8 = Integers(-1, 1, np.dtype(np.int8))
_ZERO = np.zeros((), np.float32)


def bipolar_quant(graph: Graph, node: Node) -> None:
    """Rewrite one node in place."""
    write_bipolar(graph, node, scales(graph, node))


def write_bipolar(graph: Graph, node: Node, scale: F32) -> None:
    """Turn `node` into GreaterOrEqual 0 - Where(+1, -1) - DequantizeLinear of its first input."""
    values = source(graph, node)
    if values is not None:
        signs = np.where(values >= 0, 1, -1).astype(np.float32)
        dequantise_constant(graph, node, signs, scale, _ZERO, _INT8)
        return
    assume_float(graph, node.inputs[0])
    s, z, axis = parameters(scale, _ZERO, _INT8)
    zero = graph.add_constant(f"{node.name}/threshold", _ZERO)
    signs_ = [
        graph.add_constant(f"{node.name}/{n}", np.array(v, np.int8)) for n, v in (("plus", 1), ("minus", -1))
    ]
    bit = graph.emit("GreaterOrEqual", [node.inputs[0], zero], origin=node, suffix="bit")
    value = graph.emit("Where", [bit, *signs_], origin=node, suffix="sign")
    dequantise(graph, node, value, s, z, axis)
