"""Small float models in canonical form."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import onnx
import onnxruntime as ort
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

Floats = NDArray[np.float32]
Feed = dict[str, NDArray[Any]]
SHIFTS = ((0, 1), (1, 0), (1, 1), (1, 2), (2, 1))
"""Row and column of the 1 in the kernels of five neighbouring channels."""


def node(operator: str, inputs: str, outputs: str, name: str = "", **attributes: Any) -> onnx.NodeProto:
    """Return a node; names are separated by blanks, `_` stands for an input left out."""
    names = ["" if item == "_" else item for item in inputs.split()]
    return helper.make_node(operator, names, outputs.split(), name=name or outputs.split()[0], **attributes)


def build(
    nodes: Sequence[onnx.NodeProto],
    inputs: Mapping[str, Sequence[int]],
    outputs: Sequence[str],
    constants: Mapping[str, Any] | None = None,
) -> onnx.ModelProto:
    """Return a model of opset 21 with float32 inputs; constants are float32 unless they are integers."""
    tensors = []
    for name, value in (constants or {}).items():
        array = np.asarray(value)
        array = array if array.dtype == np.int64 else array.astype(np.float32)
        tensors.append(numpy_helper.from_array(array, name))
    graph = helper.make_graph(
        list(nodes),
        "test",
        [
            helper.make_tensor_value_info(name, TensorProto.FLOAT, list(shape))
            for name, shape in inputs.items()
        ],
        [helper.make_tensor_value_info(name, TensorProto.FLOAT, None) for name in outputs],
        tensors,
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 21)], ir_version=10)
    inferred = onnx.shape_inference.infer_shapes(model)
    inferred.graph.ClearField("value_info")
    return inferred


def normal(shape: Sequence[int], seed: int = 0, scale: float = 1.0) -> Floats:
    """Return seeded normal noise."""
    return (np.random.default_rng(seed).normal(size=tuple(shape)) * scale).astype(np.float32)


def noise_samples(model: onnx.ModelProto, count: int = 4, scale: float = 1.0) -> list[Feed]:
    """Return seeded normal noise for each input of `model`."""
    rng = np.random.default_rng(7)
    shapes = {
        item.name: [dim.dim_value for dim in item.type.tensor_type.shape.dim] for item in model.graph.input
    }
    return [
        {name: (rng.normal(size=shape) * scale).astype(np.float32) for name, shape in shapes.items()}
        for _ in range(count)
    ]


def run(model: onnx.ModelProto, feed: Feed, names: Sequence[str] | None = None) -> list[NDArray[Any]]:
    """Run a model with ONNX Runtime, all optimisation off."""
    options = ort.SessionOptions()
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
    options.log_severity_level = 4
    session = ort.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
    values: list[NDArray[Any]] = session.run(None if names is None else list(names), feed)
    return values


def constants_of(model: onnx.ModelProto) -> dict[str, NDArray[Any]]:
    """Return the initialisers' values."""
    return {item.name: numpy_helper.to_array(item) for item in model.graph.initializer}


def shift_kernel(channels: int) -> NDArray[np.float32]:
    """Channel i moves up, left, not at all, right or down, by its number modulo 5."""
    kernel = np.zeros((channels, 1, 3, 3), np.float32)
    for channel in range(channels):
        row, column = SHIFTS[channel % 5]
        kernel[channel, 0, row, column] = 1.0
    return kernel
