"""Products of a graph, counted from its shapes."""

from __future__ import annotations

import math

import onnx
from onnx import shape_inference

BETWEEN = ("Relu", "Add", "Clip", "QuantizeLinear", "DequantizeLinear")
"""What may stand between a convolution and the pool that takes its sums."""


def _shapes(graph: onnx.GraphProto) -> dict[str, tuple[int, ...]]:
    shapes = {t.name: tuple(t.dims) for t in graph.initializer}
    for value in [*graph.input, *graph.value_info, *graph.output]:
        shapes[value.name] = tuple(d.dim_value for d in value.type.tensor_type.shape.dim)
    return shapes


def graph_macs(model: onnx.ModelProto) -> int:
    """Conv: results times weights of one; ConvTranspose: inputs times weights of one; Gemm and MatMul: both."""
    graph = shape_inference.infer_shapes(model, data_prop=True).graph
    shapes = _shapes(graph)
    total = 0
    for node in graph.node:
        if node.op_type == "Conv":
            total += math.prod(shapes[node.output[0]]) * math.prod(shapes[node.input[1]][1:])
        elif node.op_type == "ConvTranspose":
            total += math.prod(shapes[node.input[0]]) * math.prod(shapes[node.input[1]][1:])
        elif node.op_type in ("Gemm", "MatMul"):
            total += math.prod(shapes[node.output[0]]) * shapes[node.input[0]][-1]
    return total


def unread(model: onnx.ModelProto) -> int:
    """Products for results that the pool behind a convolution reads in no window: they are never made."""
    graph = shape_inference.infer_shapes(model, data_prop=True).graph
    shapes = _shapes(graph)
    makers = {name: node for node in graph.node for name in node.output}
    total = 0
    for pool in (node for node in graph.node if node.op_type == "MaxPool"):
        attributes = {a.name: list(a.ints) for a in pool.attribute}
        maker = makers.get(pool.input[0])
        while maker is not None and maker.op_type in BETWEEN:
            maker = makers.get(maker.input[0])
        if maker is None or maker.op_type != "Conv" or any(attributes.get("pads", [])):
            continue
        size, pooled = shapes[maker.output[0]], shapes[pool.output[0]]
        if attributes["kernel_shape"] == attributes["strides"]:
            read = math.prod(n * k for n, k in zip(pooled[2:], attributes["kernel_shape"], strict=True))
            products = size[1] * math.prod(shapes[maker.input[1]][1:])
            total += (math.prod(size[2:]) - read) * products
    return total
