"""What the float and the quantised ONNX of a network have in common: every layer that only moves or compares values."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Literal

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import ModelProto, NodeProto, TensorProto, helper

from tilewright.errors import FaultList
from tilewright.frontend.graph_parts import IR_VERSION, OPSET, write_tensor
from tilewright.zoo.layers import (
    INPUT,
    SHIFT_TAPS,
    Average,
    Concat,
    Conv,
    Dense,
    Layer,
    MaxPool,
    Network,
    Rotate,
    Shift,
    Shuffle,
    Split,
)

Bits = Literal[1, 2, 4]
"""Of weights and activations between the first and the last layer; 1 is bipolar, -1 and 1."""
INPUT_SCALE = np.float32(1 / 64)
MIDDLE = 128
"""Zero point of the input, of means of signed values, and of the output."""
Array = NDArray[Any]
Weights = Mapping[str, Array]
Expected = dict[str, tuple[np.dtype[Any], tuple[int, ...]]]
"""Type and shape of each weight by name."""


class Form:
    """Writes a network node by node; what has weights, or rounds, is left to the subclasses.

    Args:
        network: its layers.
        weights: by name, checked with `check_weights`.
    """

    def __init__(self, network: Network, weights: Weights) -> None:
        self.network = network
        self.weights = weights
        self.nodes: list[NodeProto] = []
        self.constants: dict[str, Array] = {}
        self.value = {INPUT: INPUT}
        """The ONNX value of each result."""

    def model(self) -> ModelProto:
        """The whole network; the output has the name of the last layer."""
        for layer in self.network.layers:
            self._write(layer)
        graph = onnx.GraphProto(name=self.network.name, node=self.nodes)
        channels, height, width = self.network.shape
        shape: tuple[int, ...] = (1, channels, height, width)
        graph.input.append(helper.make_tensor_value_info(INPUT, TensorProto.FLOAT, shape))
        last = self.network.layers[-1]
        shape = (1, *self.network.maps[last.name][: 1 if isinstance(last, Dense) else 3])
        graph.output.append(helper.make_tensor_value_info(last.name, TensorProto.FLOAT, shape))
        for name, array in self.constants.items():
            write_tensor(graph.initializer.add(), name, array)
        opsets = [helper.make_opsetid("", OPSET)]
        model = helper.make_model(
            graph, opset_imports=opsets, ir_version=IR_VERSION, producer_name="tilewright.zoo"
        )
        onnx.checker.check_model(model, full_check=True)
        return model

    def _write(self, layer: Layer) -> None:
        match layer:
            case Conv():
                self.conv(layer)
            case MaxPool():
                self.max_pool(layer)
            case Shift():
                self.shift(layer)
            case Split():
                self.split(layer)
            case Concat():
                self.concat(layer)
            case Rotate():
                self.rotate(layer)
            case Shuffle():
                self.shuffle(layer)
            case Average():
                self.average(layer)
            case Dense():
                self.dense(layer)

    def node(
        self, op: str, inputs: Sequence[str], name: str, outputs: Sequence[str] = (), **attributes: Any
    ) -> str:
        """Add a node; its value has its name where `outputs` gives no others."""
        outputs = outputs or (name,)
        self.nodes.append(helper.make_node(op, inputs, outputs, name=name, **attributes))
        return outputs[0]

    def constant(self, name: str, array: Array) -> str:
        """Store an initialiser under `name`."""
        self.constants[name] = np.asarray(array)
        return name

    def integers(self, name: str, *values: int) -> str:
        """Store the operand of a layer that only moves values."""
        return self.constant(name, np.array(values, np.int64))

    def conv(self, layer: Conv) -> None:
        """Write a convolution with what follows it."""
        raise NotImplementedError

    def average(self, layer: Average) -> None:
        """Write a mean over each channel."""
        raise NotImplementedError

    def dense(self, layer: Dense) -> None:
        """Write a fully connected layer, which reads a map of 1x1."""
        raise NotImplementedError

    def quantised(self, value: str, name: str, scale: np.float32, bits: int = 8, zero: int = 0) -> str:
        """Write QuantizeLinear, Clip below 8 bits, DequantizeLinear; the result is called `name`."""
        parameters = self._parameters(name, scale, np.uint8(zero))
        result = self.node("QuantizeLinear", [value, *parameters], f"{name}/quantize")
        if bits < 8:
            ends = [
                self.constant(f"{name}.{end}", np.array(at, np.uint8))
                for end, at in (("least", 0), ("most", 2**bits - 1))
            ]
            result = self.node("Clip", [result, *ends], f"{name}/clip")
        return self._dequantised(result, name, parameters)

    def bipolar(self, value: str, name: str, scale: np.float32) -> str:
        """Write one bit: `scale` from zero up, else `-scale`."""
        threshold = self.constant(f"{name}.threshold", np.array(0, np.float32))
        positive = self.node("GreaterOrEqual", [value, threshold], f"{name}/sign")
        ends = [
            self.constant(f"{name}.{end}", np.array(at, np.int8)) for end, at in (("plus", 1), ("minus", -1))
        ]
        code = self.node("Where", [positive, *ends], f"{name}/bipolar")
        return self._dequantised(code, name, self._parameters(name, scale, np.int8(0)))

    def activation(self, value: str, layer: Conv, bits: Bits | None, scale: np.float32) -> str:
        """Write what follows a convolution, ReLU and quantiser (none if `bits` is None), and give it its name."""
        name = layer.name
        if bits == 1:
            return self.bipolar(value, name, scale)
        if layer.relu:
            value = self.node("Relu", [value], name if bits is None else f"{name}/relu")
        return value if bits is None else self.quantised(value, name, scale, bits)

    def _parameters(self, name: str, scale: np.float32, zero: np.integer[Any]) -> list[str]:
        return [
            self.constant(f"{name}.scale", np.array(scale, np.float32)),
            self.constant(f"{name}.zero_point", np.array(zero)),
        ]

    def _dequantised(self, code: str, name: str, parameters: list[str]) -> str:
        result = f"{name}/dequantized" if name == INPUT else name
        return self.node("DequantizeLinear", [code, *parameters], f"{name}/dequantize", [result])

    def window(self, layer: Conv) -> dict[str, Any]:
        """The attributes of a convolution."""
        return {
            "kernel_shape": [layer.kernel] * 2,
            "pads": [layer.kernel // 2] * 4,
            "strides": [layer.stride] * 2,
            "group": layer.groups,
        }

    def max_pool(self, layer: MaxPool) -> None:
        """Write a maximum of windows."""
        attributes: dict[str, Any] = {"kernel_shape": [layer.kernel] * 2, "strides": [layer.stride] * 2}
        self.value[layer.name] = self.node(
            "MaxPool", [self.value[layer.bottom]], layer.name, pads=[layer.pad] * 4, **attributes
        )

    def shift(self, layer: Shift) -> None:
        """Write a shift as a depthwise convolution with a one-hot kernel."""
        channels = self.network.maps[layer.name][0]
        kernel = np.zeros((channels, 1, 3, 3), np.float32)
        for channel in range(channels):
            kernel[(channel, 0, *SHIFT_TAPS[channel % len(SHIFT_TAPS)])] = 1
        inputs = [self.value[layer.bottom], self.constant(f"{layer.name}.kernel", kernel)]
        window: dict[str, Any] = {
            "kernel_shape": [3, 3],
            "pads": [1] * 4,
            "strides": [1, 1],
            "group": channels,
        }
        self.value[layer.name] = self.node("Conv", inputs, layer.name, **window)

    def split(self, layer: Split) -> None:
        """Write a split into halves."""
        maps = self.network.maps
        sizes = self.integers(f"{layer.name}.sizes", maps[layer.low][0], maps[layer.high][0])
        results = [layer.low, layer.high]
        self.node("Split", [self.value[layer.bottom], sizes], layer.name, results, axis=1)
        self.value |= {name: name for name in results}

    def concat(self, layer: Concat) -> None:
        """Write a concat along the channels."""
        inputs = [self.value[bottom] for bottom in layer.bottoms]
        self.value[layer.name] = self.node("Concat", inputs, layer.name, axis=1)

    def rotate(self, layer: Rotate) -> None:
        """Write a rotation as exporters do: two slices and a concat."""
        name, channels = layer.name, self.network.maps[layer.name][0]
        axis = self.integers(f"{name}.axis", 1)
        begin, middle, end = (
            self.integers(f"{name}.{what}", at)
            for what, at in (("begin", 0), ("middle", channels - layer.count), ("end", channels))
        )
        bottom = self.value[layer.bottom]
        last = self.node("Slice", [bottom, middle, end, axis], f"{name}/last")
        first = self.node("Slice", [bottom, begin, middle, axis], f"{name}/first")
        self.value[name] = self.node("Concat", [last, first], name, axis=1)

    def shuffle(self, layer: Shuffle) -> None:
        """Write a channel shuffle: groups as a dimension, transposed."""
        name, (channels, height, width) = layer.name, self.network.maps[layer.name]
        inner = self.integers(f"{name}.groups", 1, layer.groups, channels // layer.groups, height, width)
        outer = self.integers(f"{name}.shape", 1, channels, height, width)
        grouped = self.node("Reshape", [self.value[layer.bottom], inner], f"{name}/group")
        turned = self.node("Transpose", [grouped], f"{name}/transpose", perm=[0, 2, 1, 3, 4])
        self.value[name] = self.node("Reshape", [turned, outer], name)


def check_weights(network: Network, weights: Weights, expected: Expected) -> FaultList:
    """Collect what is missing, left over, or of another type or shape."""
    faults = FaultList()
    for name, (dtype, shape) in expected.items():
        found = weights.get(name)
        if found is None:
            faults.add(
                f"weight {name} is missing",
                where=network.name,
                remedy=f"give a {dtype} array of shape {shape}",
            )
        elif found.dtype != dtype or found.shape != shape:
            faults.add(
                f"weight {name}: expected {dtype} {shape}, found {found.dtype} {found.shape}",
                where=network.name,
            )
    for name in sorted(weights.keys() - expected.keys()):
        faults.add(f"weight {name} belongs to no layer", where=network.name, remedy="leave it out")
    return faults
