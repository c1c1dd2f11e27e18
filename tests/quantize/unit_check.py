"""Each unit of a quantised model against the float operators, fed with the quantised model's own inputs.

The bound is derived: the result is rounded once, which errs by half a step at most; the weights of output
channel c err by `sw[c]/2` each and the bias by `sx*sw[c]/2`, so that a sum errs by `sw[c]/2 * sum|x| + sx*sw[c]/2`;
activation functions with slopes of at most 1, and saturation, make no difference larger.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper
from tests.quantize.builders import Feed, constants_of, run

from tilewright.quantize import Unit, find_units
from tilewright.quantize.graph import Graph

# float32 sums of a few hundred terms: 2^-24 * 256 of the result.
RELATIVE_ROUNDING = 2.0**-16


@dataclass(frozen=True)
class Quantised:
    """A tensor's parameters as the model's nodes hold them."""

    scale: float
    zero_point: int
    names: tuple[str, str]
    bits: int

    def saturate(self, values: NDArray[Any]) -> NDArray[Any]:
        low, high = (np.array([0, 2**self.bits - 1]) - self.zero_point) * self.scale
        return np.asarray(np.clip(values, low, high))


def parameters(model: onnx.ModelProto) -> dict[str, Quantised]:
    """Return the parameters of each quantised activation, by the float model's name of it."""
    constants = constants_of(model)
    backs = {item.input[0]: item.output[0] for item in model.graph.node if item.op_type == "DequantizeLinear"}
    outputs = {item.name for item in model.graph.output}
    result: dict[str, Quantised] = {}
    for item in model.graph.node:
        if item.op_type == "QuantizeLinear":
            back = backs[item.output[0]]
            name = back if back in outputs else item.input[0]
            assert name not in result, "every quantised tensor has one QuantizeLinear"
            scale, zero_point = constants[item.input[1]], constants[item.input[2]]
            assert zero_point.dtype in (np.uint8, np.uint16) and scale.shape == zero_point.shape == ()
            result[name] = Quantised(
                float(scale), int(zero_point), (item.input[1], item.input[2]), 8 * zero_point.itemsize
            )
    return result


def dequantised_names(model: onnx.ModelProto) -> dict[str, str]:
    """Return for each quantised activation the name of its dequantised value."""
    backs = {item.input[0]: item.output[0] for item in model.graph.node if item.op_type == "DequantizeLinear"}
    outputs = {item.name for item in model.graph.output}
    result = {}
    for item in model.graph.node:
        if item.op_type == "QuantizeLinear":
            back = backs[item.output[0]]
            result[back if back in outputs else item.input[0]] = back
    return result


def observe(model: onnx.ModelProto, feed: Feed) -> dict[str, NDArray[Any]]:
    """Run the quantised model and return the dequantised value of each quantised tensor."""
    names = dequantised_names(model)
    copy = onnx.ModelProto()
    copy.CopyFrom(model)
    present = {item.name for item in copy.graph.output}
    copy.graph.output.extend(
        helper.make_tensor_value_info(name, TensorProto.FLOAT, None)
        for name in names.values()
        if name not in present
    )
    return dict(zip(names, run(copy, feed, list(names.values())), strict=True))


def check_units(float_model: onnx.ModelProto, quantised: onnx.ModelProto, feed: Feed) -> int:
    """Check every unit within its bound and return how many there were."""
    graph = Graph(float_model)
    units = find_units(graph)
    values, found = observe(quantised, feed), parameters(quantised)
    for unit in units:
        inputs = {name: values[name] for name in unit.inputs}
        exact = run(_unit_model(graph, unit), inputs)
        slack = _weight_error(graph, unit, inputs, found) if unit.kind == "mac" else np.zeros(())
        for name, expected in zip(unit.outputs, exact, strict=True):
            affine = found[name]
            error = np.abs(values[name] - affine.saturate(expected))
            largest = float(np.abs(expected).max(initial=0.0))
            bound = 0.5 * affine.scale + slack + RELATIVE_ROUNDING * (largest + affine.scale)
            assert (error <= bound).all(), (unit.kind, name, float((error - bound).max()), affine)
        if unit.kind == "move":
            assert len({found[name].names for name in (*unit.inputs, *unit.outputs)}) == 1, unit
    return len(units)


def _unit_model(graph: Graph, unit: Unit, nodes: list[onnx.NodeProto] | None = None) -> onnx.ModelProto:
    chosen = list(unit.nodes) if nodes is None else nodes
    used = {name for item in chosen for name in item.input}
    outputs = unit.outputs if nodes is None else (chosen[-1].output[0],)
    made = helper.make_graph(
        chosen,
        "unit",
        [helper.make_tensor_value_info(name, TensorProto.FLOAT, graph.shapes[name]) for name in unit.inputs],
        [helper.make_tensor_value_info(name, TensorProto.FLOAT, None) for name in outputs],
        [item for name, item in graph.initializers.items() if name in used],
    )
    return helper.make_model(made, opset_imports=[helper.make_opsetid("", 21)], ir_version=10)


def _weight_error(graph: Graph, unit: Unit, inputs: Feed, found: dict[str, Quantised]) -> NDArray[Any]:
    """Return what rounding of weights and bias can change in each sum: the operator on |x| and half steps."""
    head = unit.head
    weight = numpy_helper.to_array(graph.initializers[head.input[1]])
    axis = {"Conv": 0, "Gemm": 0, "ConvTranspose": 1}[head.op_type]
    others = tuple(k for k in range(weight.ndim) if k != axis)
    # Groups of a transposed convolution share scales: the largest of the tensor bounds them.
    scale = np.abs(weight).max(axis=others, keepdims=True) / 127
    if head.op_type == "ConvTranspose":
        scale = np.full_like(scale, scale.max())
    half = np.broadcast_to(scale / 2 * (1 + 2.0**-20), weight.shape).astype(np.float32)
    copy = onnx.NodeProto()
    copy.CopyFrom(head)
    copy.input[1] = "half steps"
    del copy.input[2:]
    model = _unit_model(graph, unit, [copy])
    model.graph.initializer.append(numpy_helper.from_array(half, "half steps"))
    source = unit.inputs[0]
    sums = run(model, {source: np.abs(inputs[source])})[0]
    return np.asarray(sums + found[source].scale * float(scale.max()))
