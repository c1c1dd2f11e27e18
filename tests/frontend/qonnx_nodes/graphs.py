"""Small QONNX graphs."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import onnx
import onnxruntime
from numpy.typing import ArrayLike, NDArray
from onnx import TensorProto, helper, numpy_helper

from tilewright.frontend import canonicalise, load_onnx

Array = NDArray[Any]
DOMAIN = "qonnx.custom_op.general"


def node(op: str, inputs: Sequence[str], output: str, domain: str = DOMAIN, **attrs: Any) -> onnx.NodeProto:
    """A node named like its output."""
    return helper.make_node(op, list(inputs), [output], name=output, domain=domain, **attrs)


def model_of(
    nodes: Sequence[onnx.NodeProto],
    constants: Mapping[str, ArrayLike],
    shape: Sequence[int],
    outputs: Sequence[str] = ("y",),
    opset: int = 21,
) -> onnx.ModelProto:
    """A model with the float input `x`; constants without a type are float32."""
    tensors = [
        numpy_helper.from_array(a if isinstance(a, np.ndarray) else np.asarray(a, np.float32), n)
        for n, a in constants.items()
    ]
    results = [helper.make_tensor_value_info(o, TensorProto.FLOAT, None) for o in outputs]
    graph = helper.make_graph(
        list(nodes), "g", [helper.make_tensor_value_info("x", TensorProto.FLOAT, shape)], results, tensors
    )
    opsets = [helper.make_opsetid("", opset), helper.make_opsetid(DOMAIN, 1)]
    return helper.make_model(graph, opset_imports=opsets, ir_version=10)


def imported(model: onnx.ModelProto) -> onnx.ModelProto:
    """The model as it is after import."""
    return canonicalise(load_onnx(model), debug=True)


def run(model: onnx.ModelProto, feeds: Mapping[str, Array]) -> list[Array]:
    """Outputs by ONNX Runtime without its optimisations."""
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    options.log_severity_level = 3
    session = onnxruntime.InferenceSession(model.SerializeToString(), options)
    return [np.asarray(v) for v in session.run(None, dict(feeds))]


def operators(model: onnx.ModelProto) -> list[str]:
    """Operators in order."""
    return [n.op_type for n in model.graph.node]
