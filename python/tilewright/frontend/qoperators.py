"""The QOperator form of quantised layers -> QDQ, the one form that the compiler works on.

    QLinearConv(x, w, b)  ->  QuantizeLinear(Conv(DequantizeLinear(x), DequantizeLinear(w), DequantizeLinear(b)))
    QLinearMatMul(a, b)   ->  QuantizeLinear(MatMul(DequantizeLinear(a), DequantizeLinear(b)))

Definitions: onnx.ai/onnx/operators. A bias holds integers of scale `x_scale * w_scale`. ONNX Runtime's static
quantisation writes these operators with `QuantFormat.QOperator`.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from ..errors import FaultList, UnsupportedModel
from .graph import Array, Graph, Node
from .qonnx_nodes.integers import F32, Refused, constant


def convert_qoperators(graph: Graph) -> None:
    """Replace the operators above, in place; the last node of each keeps the name.

    Raises:
        UnsupportedModel: scales or zero points that are no constants, all at once.
    """
    faults = FaultList()
    for node in graph:
        if node.domain or node.op not in OPERATORS:
            continue
        try:
            OPERATORS[node.op](graph, node)
        except Refused as no:
            faults.add(f"{node.op}: {no.message}", where=f"node {node.name}", remedy=no.remedy)
    faults.raise_if_any(UnsupportedModel)


def _numbers(graph: Graph, node: Node, index: int, what: str) -> Array:
    """A scale or zero point: () or (channels,)."""
    found = constant(graph, node, index, what)
    return found.reshape(()) if found.size == 1 else found.reshape(-1)


def _dequantise(
    graph: Graph, node: Node, value: str, scale: Array, zero: Array, axis: int, suffix: str
) -> str:
    if scale.ndim != zero.ndim:
        scale, zero = np.broadcast_arrays(scale, zero)
    inputs = [
        value,
        graph.add_constant(f"{node.name}/{suffix}_scale", scale),
        graph.add_constant(f"{node.name}/{suffix}_zero_point", zero),
    ]
    attrs = {"axis": axis} if scale.ndim else {}
    return graph.emit("DequantizeLinear", inputs, origin=node, suffix=suffix, **attrs)


def _operand(graph: Graph, node: Node, index: int, name: str, axis: int) -> tuple[str, F32]:
    """The float value of operand `index`, its scale and zero point behind it; and the scale."""
    scale = _numbers(graph, node, index + 1, f"{name} scale").astype(np.float32)
    zero = _numbers(graph, node, index + 2, f"{name} zero point")
    return _dequantise(graph, node, node.inputs[index], scale, zero, axis, name), scale


def _quantise(graph: Graph, node: Node, value: str, index: int) -> None:
    inputs = [value]
    for i, what in ((index, "scale"), (index + 1, "zero_point")):
        found = _numbers(graph, node, i, f"result {what}")
        inputs.append(graph.add_constant(f"{node.name}/y_{what}", found))
    graph.become(node, "QuantizeLinear", inputs)


def _conv(graph: Graph, node: Node) -> None:
    x, x_scale = _operand(graph, node, 0, "x", 1)
    w, w_scale = _operand(graph, node, 3, "w", 0)
    inputs = [x, w]
    if node.input(8):
        scale = np.asarray(x_scale * w_scale, np.float32)
        zero = np.zeros(scale.shape, np.int32)
        inputs.append(_dequantise(graph, node, node.inputs[8], scale, zero, 0, "b"))
    _quantise(graph, node, graph.emit("Conv", inputs, origin=node, suffix="conv", **node.attrs), 6)


def _matmul(graph: Graph, node: Node) -> None:
    a, _ = _operand(graph, node, 0, "a", -2)
    b, _ = _operand(graph, node, 3, "b", -1)
    _quantise(graph, node, graph.emit("MatMul", [a, b], origin=node, suffix="matmul"), 6)


OPERATORS: dict[str, Callable[[Graph, Node], None]] = {"QLinearConv": _conv, "QLinearMatMul": _matmul}
"""Operator -> its rewrite, which raises Refused where there is no QDQ form."""
