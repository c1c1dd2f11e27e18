"""Compute at compile time what does not depend on the input.

    y = op(c1, c2, ...)        ->  y constant          (c1, c2, ... constants)
    s = Shape(x)               ->  s constant          (x of known shape)

Why: exporters compute shapes at run time (Shape - Gather - Concat - Reshape) and reshape or transpose
weights in the graph. The accelerator has fixed loop bounds and reads weights from memory in the layout
that the compiler chose.

QuantizeLinear and DequantizeLinear stay: on a weight they are the model's statement of its number format.
"""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from typing import ClassVar

import numpy as np
from onnx import helper
from onnx.reference import ReferenceEvaluator

from ...errors import Fault, ModelError
from ..graph import IR_VERSION, OPSET, Array, Graph, Node
from .base import RewritePass

_KEEP = frozenset(
    {
        "QuantizeLinear",
        "DequantizeLinear",
        "DynamicQuantizeLinear",
        "RandomNormal",
        "RandomNormalLike",
        "RandomUniform",
        "RandomUniformLike",
        "Bernoulli",
        "Multinomial",
    }
)
_MAX_ELEMENTS = 1 << 28  # 1 GiB of float32; what is larger stays an operator


@dataclass(frozen=True)
class FoldConstants(RewritePass):
    """Replace operators on constants by their result."""

    name: ClassVar[str] = "fold_constants"
    on_quantised: ClassVar[bool] = True

    def __call__(self, graph: Graph) -> bool:
        """Fold in topological order, so that one run folds whole chains."""
        graph.sort()
        modified = False
        for node in graph:
            results = (
                None
                if node.domain or any(graph.is_output(v) for v in node.outputs)
                else self._fold(graph, node)
            )
            if results is None:
                continue
            reader = next((u.name for v in node.outputs for u in graph.users(v)), "")
            graph.remove(node, into=reader)
            for value, array in zip(node.outputs, results, strict=False):
                if value:
                    graph.set_constant(value, array)
            modified = True
        return modified

    def _fold(self, graph: Graph, node: Node) -> list[Array] | None:
        if node.op in ("Shape", "Size"):
            return self._fold_shape(graph, node)
        if node.op in _KEEP or any(v and graph.constant(v) is None for v in node.inputs):
            return None
        graph.infer(node)
        for value in node.outputs:
            shape = graph.shape(value)
            if shape is not None and np.prod(shape, dtype=np.float64) > _MAX_ELEMENTS:
                return None
        return evaluate(graph, node)

    def _fold_shape(self, graph: Graph, node: Node) -> list[Array] | None:
        kind = graph.types.get(node.inputs[0])
        if kind is None or kind.dims is None:
            return None
        if node.op == "Size":
            return None if kind.shape is None else [np.array(np.prod(kind.shape, dtype=np.int64))]
        dims = kind.dims[node.attrs.get("start", 0) :]
        end = node.attrs.get("end")
        if end is not None:
            dims = kind.dims[slice(node.attrs.get("start", 0), end)]
        return None if any(d is None for d in dims) else [np.array(dims, np.int64)]


def evaluate(graph: Graph, node: Node) -> list[Array]:
    """The outputs of a node whose inputs are all constants, by ONNX's reference evaluator.

    Raises:
        ModelError: the operator cannot be computed on these constants.
    """
    names = [v for v in dict.fromkeys(node.inputs) if v]
    used = [v for v in node.outputs if v]
    proto = helper.make_graph(
        [node.proto()],
        "constant",
        [helper.make_value_info(v, graph.types[v].proto()) for v in names],
        [helper.make_empty_tensor_value_info(v) for v in used],
    )
    opsets = [helper.make_opsetid("", OPSET)]
    model = helper.make_model(proto, opset_imports=opsets, ir_version=IR_VERSION)
    try:
        with np.errstate(all="ignore"), warnings.catch_warnings():
            warnings.simplefilter("ignore")
            found = ReferenceEvaluator(model).run(None, {v: graph.constants[v] for v in names})
    except Exception as exc:  # the evaluator raises whatever NumPy raises
        message = f"operator {node.op} cannot be computed on its constant inputs: {exc}"
        raise ModelError(Fault(message, f"node {node.name}")) from exc
    by_name = dict(zip(used, found, strict=True))
    return [np.asarray(by_name[v]) if v else np.zeros(0) for v in node.outputs]
