"""Seeded random weights that behave like trained ones, for networks without any.

Such a network's weights are ConstantOfShape nodes, as in the nine that the ``onnx`` package ships. With plain random
numbers their maps grow or die from layer to layer; here one forward pass scales each layer so that every channel has
deviation 1, and takes BatchNormalization's statistics from its data. They serve studies of speed and tests of
arithmetic; their classes mean nothing.
"""

from __future__ import annotations

import zlib
from collections.abc import Mapping, Sequence, Set
from typing import Literal

import numpy as np
import onnxruntime
from numpy.typing import NDArray
from onnx import ModelProto, NodeProto, helper, numpy_helper

from tilewright.frontend.graph import IR_VERSION, OPSET, Graph, Node
from tilewright.frontend.graph_parts import write_tensor
from tilewright.frontend.onnx_loader import load_onnx

Floats = NDArray[np.float32]
Role = Literal["weight", "scale", "shift"]

_SHAPE_ONLY = ("Unsqueeze", "Reshape", "Squeeze", "Identity")
_FEW = 16  # values a channel; with fewer a deviation of one channel says nothing
_MANTISSA_BITS = (
    8  # kept in measured factors, so that the last bits of a processor's float sums do not matter
)


def seed_weights(model: ModelProto, seed: int) -> ModelProto:
    """Replace every weight that is a ConstantOfShape by seeded random numbers.

    Weights of Conv and Gemm are He-normal (He et al., arXiv:1502.01852) and then scaled so that each output
    channel has deviation 1 on a seeded random input; gamma is uniform in 0.5..1.5, mean and variance of
    BatchNormalization are those of its input, shifts are normal with deviation 0.1.

    Args:
        model: as read from a file, of any opset; it is not changed.

    Returns:
        the model as `load_onnx` gives it. Weights that were stored in the file keep their values.
    """
    seeded = ModelProto()
    seeded.CopyFrom(model)
    return adapt(seeded, _draw_weights(seeded, seed), seed)


def adapt(model: ModelProto, names: Set[str], seed: int) -> ModelProto:
    """Fit weights to a seeded random input, layer by layer.

    Args:
        model: every weight is stored in it.
        names: weights that may change: factors of Conv and Gemm, statistics of BatchNormalization.

    Returns:
        the model as `load_onnx` gives it.
    """
    graph = Graph.from_model(load_onnx(model))
    values: dict[str, Floats] = {}
    for value in graph.inputs:
        shape = graph.shape(value.name)
        assert shape is not None  # load_onnx fixed it
        values[value.name] = _random(seed, value.name).standard_normal(shape, dtype=np.float32)
    left = {v: len(graph.users(v)) for n in graph.nodes for v in n.outputs}
    for node in graph.nodes:
        for name, array in zip(node.outputs, _forward(graph, node, values, names), strict=False):
            values[name] = array
        for name in set(node.inputs) & set(left):
            left[name] -= 1
            if left[name] == 0:
                values.pop(name, None)
    return graph.to_model()


def _random(seed: int, name: str) -> np.random.Generator:
    """A generator of its own for each tensor, so that the order of tensors does not matter."""
    return np.random.default_rng([seed, zlib.crc32(name.encode())])


def _draw_weights(model: ModelProto, seed: int) -> set[str]:
    """Turn ConstantOfShape nodes into initialisers in place; returns their names."""
    constants = {t.name: t for t in model.graph.initializer}
    readers: dict[str, list[tuple[NodeProto, int]]] = {}
    for node in model.graph.node:
        for index, value in enumerate(node.input):
            readers.setdefault(value, []).append((node, index))
    kept, names = [], set()
    for node in model.graph.node:
        if node.op_type != "ConstantOfShape" or node.input[0] not in constants:
            kept.append(node)
            continue
        shape = [int(d) for d in numpy_helper.to_array(constants[node.input[0]])]
        name = node.output[0]
        write_tensor(model.graph.initializer.add(), name, draw(seed, name, shape, _role(name, readers)))
        names.add(name)
    copies = [NodeProto.FromString(n.SerializeToString()) for n in kept]
    del model.graph.node[:]
    model.graph.node.extend(copies)
    return names


def _role(value: str, readers: Mapping[str, list[tuple[NodeProto, int]]]) -> Role:
    """What a weight is for, by its first reader."""
    for node, index in readers.get(value, []):
        if node.op_type in _SHAPE_ONLY:
            return _role(node.output[0], readers)
        if node.op_type == "Mul" or (node.op_type == "BatchNormalization" and index in (1, 4)):
            return "scale"
        if node.op_type in ("Conv", "ConvTranspose", "Gemm", "MatMul") and index == 1:
            return "weight"
    return "shift"


def draw(seed: int, name: str, shape: Sequence[int], role: Role) -> Floats:
    """Random numbers for one tensor; the same seed and name give the same.

    Args:
        role: "weight" (He-normal), "scale" (uniform in 0.5..1.5) or "shift" (normal, deviation 0.1).
    """
    random = _random(seed, name)
    if role == "scale":
        return random.uniform(0.5, 1.5, shape).astype(np.float32)
    numbers = random.standard_normal(shape, dtype=np.float32)
    fan_in = int(np.prod(shape[1:], dtype=np.int64)) or 1
    numbers *= np.float32(np.sqrt(2.0 / fan_in) if role == "weight" else 0.1)
    return numbers


def _forward(graph: Graph, node: Node, values: Mapping[str, Floats], names: Set[str]) -> list[Floats]:
    """Run one node, after adapting its weights to its input if they are seeded ones."""
    feeds = {v: values[v] if v in values else graph.constants[v] for v in node.inputs if v}
    if node.op == "BatchNormalization" and {node.inputs[3], node.inputs[4]} <= names:
        mean, variance = _statistics(feeds[node.inputs[0]])
        for name, array in ((node.inputs[3], mean), (node.inputs[4], variance)):
            graph.constants[name] = feeds[name] = array
    if node.op not in ("Conv", "Gemm") or node.inputs[1] not in names:
        return _run(graph, node, node.inputs, feeds)
    result = _run(graph, node, node.inputs[:2], feeds)[0]
    _, variance = _statistics(result)
    factor = _rounded(1.0 / np.sqrt(variance))
    weight = graph.constants[node.inputs[1]]
    out_axis = 0 if node.op == "Conv" or node.int("transB", 0) else 1
    shape = [1] * weight.ndim
    shape[out_axis] = -1
    graph.constants[node.inputs[1]] = weight * factor.reshape(shape)
    result *= factor.reshape(1, -1, *(1,) * (result.ndim - 2))
    if node.input(2):
        bias = graph.constants[node.inputs[2]]
        result += bias.reshape(1, -1, *(1,) * (result.ndim - 2))
    return [result]


def _statistics(array: Floats) -> tuple[Floats, Floats]:
    """Mean and variance of each channel (dimension 1), of all together where a channel has few values."""
    channels = array.shape[1]
    axes = tuple(a for a in range(array.ndim) if a != 1)
    together = array.size // channels < _FEW
    mean = array.mean(axis=None if together else axes, dtype=np.float64)
    variance = array.var(axis=None if together else axes, dtype=np.float64)
    variance = np.where(variance > 1e-12, variance, 1.0)  # a dead channel stays as it is
    return _rounded(np.broadcast_to(mean, channels)), _rounded(np.broadcast_to(variance, channels))


def _rounded(array: NDArray[np.floating]) -> Floats:
    mantissa, exponent = np.frexp(array.astype(np.float64))
    kept = np.round(mantissa * 2**_MANTISSA_BITS) / 2**_MANTISSA_BITS
    rounded: Floats = np.ldexp(kept, exponent).astype(np.float32)
    return rounded


def _run(graph: Graph, node: Node, inputs: list[str], feeds: Mapping[str, Floats]) -> list[Floats]:
    """Run a node on ONNX Runtime with all its operands as inputs, which copies no weights."""
    used = list(dict.fromkeys(v for v in inputs if v))
    proto = node.proto()
    del proto.input[:]
    proto.input.extend(inputs)
    if len(inputs) < len(node.inputs):  # Gemm's beta belongs to the bias left out
        for attribute in [a for a in proto.attribute if a.name == "beta"]:
            proto.attribute.remove(attribute)
    graph_proto = helper.make_graph(
        [proto],
        "layer",
        [helper.make_value_info(v, graph.types[v].proto()) for v in used],
        [helper.make_empty_tensor_value_info(v) for v in node.outputs if v],
    )
    opsets = [helper.make_opsetid("", OPSET)]
    model = helper.make_model(graph_proto, opset_imports=opsets, ir_version=IR_VERSION)
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    session = onnxruntime.InferenceSession(
        model.SerializeToString(), options, providers=["CPUExecutionProvider"]
    )
    results: list[Floats] = session.run(None, {v: feeds[v] for v in used})
    return results
