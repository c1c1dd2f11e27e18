"""Normalisations whose shapes onnx cannot infer, as the operators that they stand for.

    GroupNormalization         Reshape (N, G, -1) - InstanceNormalization - Reshape (N, C, -1) - Mul - Add - Reshape
    MeanVarianceNormalization  c = x - ReduceMean(x);  c / (Sqrt(ReduceMean(c * c)) + 1e-9)

Definitions: onnx.ai/onnx/operators, GroupNormalization of opset 21 and MeanVarianceNormalization of opset 13.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from ..errors import FaultList, UnsupportedModel
from .graph import Graph, Node
from .qonnx_nodes.integers import Refused, constant

_EPSILON = np.asarray(1e-9, np.float32)


def lower_normalisations(graph: Graph) -> None:
    """Replace the operators above, in place; shapes need not be known.

    Raises:
        UnsupportedModel: a GroupNormalization whose weights are no constants.
    """
    faults = FaultList()
    for node in graph:
        if node.domain or node.op not in _LOWERINGS:
            continue
        try:
            _LOWERINGS[node.op](graph, node)
        except Refused as no:
            faults.add(f"{node.op}: {no.message}", where=f"node {node.name}", remedy=no.remedy)
    faults.raise_if_any(UnsupportedModel)


def _group(graph: Graph, node: Node) -> None:
    x, groups = node.inputs[0], node.int("num_groups", 1)
    scale, bias = (constant(graph, node, i, what).reshape(-1, 1) for i, what in ((1, "scale"), (2, "bias")))

    def shape(*dims: int) -> str:
        return graph.add_constant(f"{node.name}/shape", np.asarray(dims, np.int64))

    def emit(op: str, inputs: list[str], **attrs: float) -> str:
        return graph.emit(op, inputs, origin=node, suffix=op.lower(), **attrs)

    one, zero = (
        graph.add_constant(f"{node.name}/{name}", np.full(groups, value, scale.dtype))
        for name, value in (("one", 1), ("zero", 0))
    )
    size = emit("Shape", [x])
    grouped = emit("Reshape", [x, shape(0, groups, -1)])
    epsilon = float(node.attrs.get("epsilon", 1e-5))
    found = emit("InstanceNormalization", [grouped, one, zero], epsilon=epsilon)
    found = emit("Reshape", [found, shape(0, scale.size, -1)])
    found = emit("Mul", [found, graph.add_constant(f"{node.name}/scale", scale)])
    found = emit("Add", [found, graph.add_constant(f"{node.name}/bias", bias)])
    graph.become(node, "Reshape", [found, size])


def _mean_variance(graph: Graph, node: Node) -> None:
    axes = graph.add_constant(f"{node.name}/axes", np.asarray(node.ints("axes", (0, 2, 3)), np.int64))

    def emit(op: str, *inputs: str) -> str:
        return graph.emit(op, list(inputs), origin=node, suffix=op.lower())

    x = node.inputs[0]
    centred = emit("Sub", x, emit("ReduceMean", x, axes))
    deviation = emit("Sqrt", emit("ReduceMean", emit("Mul", centred, centred), axes))
    epsilon = graph.add_constant(f"{node.name}/epsilon", _EPSILON)
    graph.become(node, "Div", [centred, emit("Add", deviation, epsilon)])


_LOWERINGS: dict[str, Callable[[Graph, Node], None]] = {
    "GroupNormalization": _group,
    "MeanVarianceNormalization": _mean_variance,
}
