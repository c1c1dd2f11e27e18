"""One-dimensional layers as two-dimensional ones of height 1.

    Conv(x [N,C,L], W [O,I,K])     ->  Reshape(Conv(Reshape(x, [N,C,1,L]), W [O,I,1,K]), [N,O,L'])
    relu(Reshape(x, [N,C,L]))      ->  Reshape(relu(x), [N,C,L])       x [N,C,1,L]; any elementwise operator

The second rule moves the inner Reshapes together, where they cancel.
Why: the machine's maps have two spatial dimensions; a height of 1 costs nothing.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np

from ..graph import Graph, Node, Shape
from .base import NodePass

_WINDOWS = ("Conv", "ConvTranspose", "MaxPool", "AveragePool")
_GLOBAL = ("GlobalAveragePool", "GlobalMaxPool", "LRN")
_UNARY = (
    *("Relu", "Clip", "LeakyRelu", "Sigmoid", "Tanh", "HardSigmoid", "HardSwish", "Elu", "Selu", "Celu"),
    *("Softplus", "Softsign", "Abs", "Exp", "Log", "Sqrt", "Neg", "Erf", "Gelu", "Mish"),
    "BatchNormalization",
)
_BINARY = ("Add", "Sub", "Mul", "Div", "Max", "Min", "PRelu", "Pow", "Sum")


@dataclass(frozen=True)
class Lift1d(NodePass):
    """Give one-dimensional convolutions and poolings a height of 1."""

    name: ClassVar[str] = "lift_1d"
    ops: ClassVar[tuple[str, ...]] = (*_WINDOWS, *_GLOBAL, *_UNARY, *_BINARY, "Concat")

    def rewrite(self, graph: Graph, node: Node) -> bool:
        """Lift `node`, or move the Reshape before it behind it."""
        shape = graph.shape(node.output)
        if shape is None or len(shape) != 3 or not graph.is_float(node.output):
            return False
        if node.op in _WINDOWS or node.op in _GLOBAL:
            return _lift(graph, node, shape)
        return _sink(graph, node, shape)


def _lift(graph: Graph, node: Node, result: Shape) -> bool:
    source = graph.shape(node.inputs[0])
    if source is None or len(node.outputs) > 1:
        return False
    inputs = list(node.inputs)
    if node.op in ("Conv", "ConvTranspose"):
        weight = graph.constant(inputs[1])
        if weight is None:
            return False
        inputs[1] = graph.add_constant(f"{node.name}/weight", np.expand_dims(weight, 2))
    target = graph.add_constant(f"{node.name}/map", np.array([*source[:2], 1, source[2]], np.int64))
    inputs[0] = graph.emit("Reshape", [inputs[0], target], origin=node, suffix="to_map")
    graph.become(node, node.op, inputs, **_lifted(node))
    target = graph.add_constant(f"{node.name}/shape", np.array(result, np.int64))
    graph.wrap_output(node, "Reshape", [target], suffix="from_map")
    return True


def _lifted(node: Node) -> dict[str, Any]:
    attrs = dict(node.attrs)
    neutral = {"kernel_shape": 1, "strides": 1, "dilations": 1, "output_padding": 0, "output_shape": 1}
    for key, value in neutral.items():
        if key in attrs:
            attrs[key] = [value, *attrs[key]]
    if "pads" in attrs:
        begin, end = attrs["pads"]
        attrs["pads"] = [0, begin, 0, end]
    return attrs


def _sink(graph: Graph, node: Node, result: Shape) -> bool:
    """op(Reshape(a), Reshape(b), constants) -> Reshape(op(a, b, constants))."""
    inputs: list[str] = []
    moved = False
    for index, value in enumerate(node.inputs):
        constant = graph.constant(value)
        if constant is not None and node.op not in _BINARY:
            inputs.append(value)
        elif constant is not None:
            if constant.size == 1 or constant.ndim < 2:
                inputs.append(value)
            else:
                lifted = np.expand_dims(constant, constant.ndim - 1)
                inputs.append(graph.add_constant(f"{node.name}/constant_{index}", lifted))
        else:
            before = graph.producer(value, "Reshape")
            shape = graph.shape(before.inputs[0]) if before else None
            if before is None or shape is None or len(shape) != 4 or shape[2] != 1:
                return False
            if (*shape[:2], shape[3]) != graph.shape(value):
                return False
            if node.op != "Concat" and graph.shape(value) != result:
                return False
            inputs.append(before.inputs[0])
            moved = True
    if not moved or len(node.outputs) > 1 or (node.op == "Concat" and node.int("axis", 1) % 3 != 1):
        return False
    graph.become(node, node.op, inputs, **node.attrs)
    target = graph.add_constant(f"{node.name}/shape", np.array(result, np.int64))
    graph.wrap_output(node, "Reshape", [target], suffix="from_map")
    return True
