"""Write products with a constant matrix as Gemm(x [M,K], weight [N,K], bias [N]), transB = 1.

    alpha * A' B' + beta * C   ->  A' (alpha B'')^T + beta C
    MatMul(x [..,K], B [K,N]) (+ c [N])   ->  Reshape - Gemm(x [M,K], B^T, c) - Reshape

Why: a dense layer is a 1x1 convolution to the MATRIX unit, whose weights are stored output channel first.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from ...errors import Fault, ModelError
from ..graph import Array, Graph, Node
from .base import NodePass


@dataclass(frozen=True)
class GemmForms(NodePass):
    """Bring Gemm and MatMul with a constant second operand into one form."""

    name: ClassVar[str] = "gemm_forms"
    ops: ClassVar[tuple[str, ...]] = ("Gemm", "MatMul")

    def rewrite(self, graph: Graph, node: Node) -> bool:
        """Normalise `node`."""
        return _gemm(graph, node) if node.op == "Gemm" else _matmul(graph, node)


def _gemm(graph: Graph, node: Node) -> bool:
    a, b = node.inputs[0], node.inputs[1]
    weight, shape = graph.constant(b), graph.shape(a)
    bias = graph.constant(node.input(2)) if node.input(2) else np.zeros(1, np.float32)
    if weight is None or shape is None or bias is None or not graph.is_float(a):
        return False
    alpha, beta = node.float("alpha", 1.0), node.float("beta", 1.0)
    stored = node.int("transB", 0) != 0
    count = weight.shape[0 if stored else 1]
    if bias.ndim > 2 or bias.shape[-1:] not in ((), (1,), (count,)):
        message = f"expected a bias for {count} results, found shape {list(bias.shape)}"
        raise ModelError(Fault(message, f"node {node.name}", "export the model again"))
    if node.attrs == {"transB": 1} and bias.shape == (count,) and node.input(2):
        return False
    if node.int("transA", 0):
        a = graph.emit("Transpose", [a], origin=node, suffix="transpose", perm=[1, 0])
    if not stored or alpha != 1.0:
        matrix = weight if stored else weight.T
        scaled = matrix if alpha == 1.0 else (matrix.astype(np.float64) * alpha).astype(np.float32)
        b = graph.add_constant(f"{node.name}/weight", scaled)
    scaled_bias = (bias.astype(np.float64) * beta).astype(np.float32)
    if bias.ndim == 2 and bias.shape[0] > 1:  # a bias for each row is an addition of its own
        zero = graph.add_constant(f"{node.name}/bias", np.zeros(count, np.float32))
        graph.become(node, "Gemm", [a, b, zero], transB=1)
        rows = graph.add_constant(f"{node.name}/rows", scaled_bias)
        graph.wrap_output(node, "Add", [rows], suffix="add")
        return True
    vector = np.broadcast_to(scaled_bias.reshape(-1), (count,))
    graph.become(node, "Gemm", [a, b, graph.add_constant(f"{node.name}/bias", vector)], transB=1)
    return True


def _matmul(graph: Graph, node: Node) -> bool:
    shape, result = graph.shape(node.inputs[0]), graph.shape(node.output)
    weight = graph.constant(node.inputs[1])
    if weight is None or shape is None or result is None or not shape or not graph.is_float(node.inputs[0]):
        return False
    if weight.ndim < 2 or any(d != 1 for d in weight.shape[:-2]) or weight.ndim > max(len(shape), 2):
        return False
    depth, count = weight.shape[-2:]
    rows = int(np.prod(shape[:-1], dtype=np.int64))
    source = node.inputs[0]
    if len(shape) != 2:
        target = graph.add_constant(f"{node.name}/rows", np.array([rows, depth], np.int64))
        source = graph.emit("Reshape", [source, target], origin=node, suffix="rows_in")
    bias = np.zeros(count, np.float32)
    if len(shape) != 2:
        # In rows the channels are last, where no later pass looks for a bias.
        bias = _absorb_bias(graph, node, bias)
    names = [
        graph.add_constant(f"{node.name}/weight", weight.reshape(depth, count).T),
        graph.add_constant(f"{node.name}/bias", bias),
    ]
    graph.become(node, "Gemm", [source, *names], transB=1)
    if len(shape) != 2:
        target = graph.add_constant(f"{node.name}/shape", np.array(result, np.int64))
        graph.wrap_output(node, "Reshape", [target], suffix="rows_out")
    return True


def _absorb_bias(graph: Graph, node: Node, bias: Array) -> Array:
    add = graph.sole_user(node.output, "Add")
    if add is None:
        return bias
    other = add.inputs[1] if add.inputs[0] == node.output else add.inputs[0]
    found = graph.constant(other)
    if found is None or found.shape[-1:] != bias.shape or found.size != bias.size:
        return bias
    if graph.shape(add.output) != graph.shape(node.output):
        return bias
    graph.absorb(node, add)
    return found.reshape(-1)
