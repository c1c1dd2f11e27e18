"""Writing the quantised model: Quantize - Dequantize pairs between units, integer weights and biases.

Nodes and tensors of the float model keep their names. Around tensor `t` stand `t_QuantizeLinear` and
`t_DequantizeLinear`, with results `t_quantized` and `t_dequantized`; tensors that share parameters read the
same `<first of them>_scale` and `_zero_point`. A graph output keeps its name for the dequantised value;
what its operator makes is then called `t_float`. Below 8 bits Clip bounds the integers (QCDQ), and -1 and +1 are made
by GreaterOrEqual and Where.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import helper, numpy_helper

from tilewright.quantize.affine import Affine
from tilewright.quantize.graph import IR_VERSION, Graph, unique_name
from tilewright.quantize.grouping import Scheme
from tilewright.quantize.options import WHOLE_BITS
from tilewright.quantize.units import Unit
from tilewright.quantize.weights import IntegerWeights


def write_qdq(
    graph: Graph, units: list[Unit], scheme: Scheme, weights: Mapping[str, IntegerWeights]
) -> onnx.ModelProto:
    """Return the QDQ model; `weights` holds each MAC unit's constants by its first node's name."""
    return _Writer(graph, units, scheme, weights).write()


def integer_steps(
    affine: Affine,
    value: str,
    parameters: list[str],
    between: str,
    integers: str,
    constant: Callable[[int, type[np.generic]], str],
) -> list[tuple[str, list[str], str]]:
    """Return what makes integers of a tensor: operators with their inputs and output.

    Args:
        affine: the tensor's parameters.
        value: the tensor.
        parameters: names of its scale and zero point.
        between: name of a tensor that is needed below 8 bits.
        integers: name of the result.
        constant: returns the name of a scalar.
    """
    if affine.bipolar:
        signs = [between, constant(1, np.int8), constant(-1, np.int8)]
        return [("GreaterOrEqual", [value, constant(0, np.float32)], between), ("Where", signs, integers)]
    if affine.largest == np.iinfo(affine.dtype).max:
        return [("QuantizeLinear", [value, *parameters], integers)]
    bounds = [constant(bound, affine.dtype) for bound in (0, affine.largest)]
    return [("QuantizeLinear", [value, *parameters], between), ("Clip", [between, *bounds], integers)]


class _Writer:
    def __init__(
        self, graph: Graph, units: list[Unit], scheme: Scheme, weights: Mapping[str, IntegerWeights]
    ) -> None:
        self.graph, self.scheme, self.weights = graph, scheme, weights
        self.nodes: list[onnx.NodeProto] = []
        self.constants: list[onnx.TensorProto] = []
        self.dequantised: dict[str, str] = {}
        self.written_parameters: dict[str, list[str]] = {}
        self.shared: dict[str, str] = {}
        self.taken = set(graph.names)
        self.shifted = {
            unit.outputs[0] for unit in units if unit.kind == "move" and unit.head.op_type == "Conv"
        } - set(graph.outputs)
        # Values that stay within a unit are read as they are, all others as what the integers stand for.
        self.inner = {
            name for unit in units for node in unit.nodes for name in node.output if name not in unit.outputs
        }

    def write(self) -> onnx.ModelProto:
        for name in self.graph.inputs:
            if name in self.scheme:
                self._round_trip(name, name)
        for node in self.graph.nodes:
            self._write_node(node)
        result = onnx.ModelProto()
        result.CopyFrom(self.graph.model)
        result.ir_version = IR_VERSION
        result.producer_name = "tilewright"
        target = result.graph
        kept = {name for node in self.nodes for name in node.input} | {item.name for item in target.output}
        constants = [item for item in self.graph.initializers.values() if item.name in kept]
        made = {name for node in self.nodes for name in node.output}
        infos = [item for item in self.graph.model.graph.value_info if item.name in made]
        inputs = [item for item in self.graph.model.graph.input if item.name in self.graph.inputs]
        for field in ("node", "initializer", "value_info", "input"):
            target.ClearField(field)
        target.input.extend(inputs)
        target.node.extend(self.nodes)
        target.initializer.extend([*constants, *self.constants])
        target.value_info.extend(infos)
        return result

    def _write_node(self, node: onnx.NodeProto) -> None:
        copy = onnx.NodeProto()
        copy.CopyFrom(node)
        for k, name in enumerate(node.input):
            if name not in self.inner:
                copy.input[k] = self.dequantised.get(name, name)
        if node.name in self.weights:
            self._write_weights(copy, self.weights[node.name])
        rounded = [(k, name) for k, name in enumerate(node.output) if name in self.scheme]
        for k, name in rounded:
            if name in self.graph.outputs:
                copy.output[k] = self._unique(f"{name}_float")
        self.nodes.append(copy)
        for k, name in rounded:
            if self.scheme[name].bipolar and name in self.shifted:
                continue  # the zeros that come in at the border are neither -1 nor +1
            self._round_trip(name, copy.output[k])

    def _round_trip(self, name: str, made: str) -> None:
        """Add the pair for tensor `name`, whose float value is called `made`."""
        parameters = self._parameters(self.scheme.group[name])
        integers = self._unique(f"{name}_quantized")
        back = name if made != name else self._unique(f"{name}_dequantized")
        between = self._unique(f"{name}_unclipped") if self.scheme[name].bits < WHOLE_BITS else ""
        for step in integer_steps(self.scheme[name], made, parameters, between, integers, self._shared):
            self._add(*step, name)
        self._add("DequantizeLinear", [integers, *parameters], back, name)
        self.dequantised[name] = back

    def _shared(self, value: int, dtype: type[np.generic]) -> str:
        """Return the name of a scalar constant, which all nodes share."""
        constant = np.asarray(value, dtype)
        key = f"{constant.dtype}_{value}"
        if key not in self.shared:
            self.shared[key] = self._constant(key, constant)
        return self.shared[key]

    def _parameters(self, first: str) -> list[str]:
        """Return the names of scale and zero point of the group whose first tensor is `first`."""
        if first not in self.written_parameters:
            affine = self.scheme.parameters[first]
            scale = self._constant(f"{first}_scale", np.asarray(affine.scale, np.float32))
            zero_point = self._constant(f"{first}_zero_point", np.asarray(affine.zero_point, affine.dtype))
            self.written_parameters[first] = [scale, zero_point]
        return self.written_parameters[first]

    def _write_weights(self, node: onnx.NodeProto, integers: IntegerWeights) -> None:
        weight, bias = node.input[1], node.input[2] if len(node.input) > 2 else ""
        bias = bias or f"{node.name}_bias"
        first, data = node.input[0], [weight, bias]
        scales = [integers.scale, integers.bias_scale]
        axes = [integers.axis, 0]
        values: list[NDArray[np.generic]] = [integers.weight, integers.bias]
        names = []
        for name, value, scale, axis in zip(data, values, scales, axes, strict=True):
            stored = self._constant(f"{name}_quantized", value)
            scale_name = self._constant(f"{name}_scale", scale)
            zeros = self._constant(f"{name}_zero_point", np.zeros(scale.shape, value.dtype))
            result = self._unique(f"{name}_dequantized")
            self._add("DequantizeLinear", [stored, scale_name, zeros], result, name, axis=axis)
            names.append(result)
        node.ClearField("input")
        node.input.extend([first, *names])

    def _constant(self, name: str, value: NDArray[np.generic]) -> str:
        unique = self._unique(name)
        self.constants.append(numpy_helper.from_array(value, unique))
        return unique

    def _unique(self, name: str) -> str:
        """Return a name that neither the graph nor this model has."""
        return unique_name(name, self.taken)

    def _add(self, operator: str, inputs: list[str], output: str, base: str, axis: int | None = None) -> None:
        node = helper.make_node(operator, inputs, [output], name=self._unique(f"{base}_{operator}"))
        if axis is not None:
            node.attribute.append(helper.make_attribute("axis", axis))
        self.nodes.append(node)
