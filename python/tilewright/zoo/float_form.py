"""A network in float: Conv, BatchNormalization and Relu.

Weights by name, all float32: `<conv>.weight` (O, I / groups, K, K), `<conv>.gamma`, `.beta`, `.mean`, `.variance` (O,);
`<dense>.weight` (O, I), `<dense>.bias` (O,).
"""

from __future__ import annotations

import numpy as np
from onnx import ModelProto

from tilewright.errors import ConfigError
from tilewright.zoo.form import Bits, Expected, Form, Weights, check_weights
from tilewright.zoo.layers import EPSILON, Average, Conv, Dense, Network, quantiser

NORM = ("gamma", "beta", "mean", "variance")
"""Parts of a BatchNormalization, in ONNX's order."""


def float_model(network: Network, weights: Weights) -> ModelProto:
    """Write the network. Raises ConfigError with everything that is wrong with the weights."""
    faults = check_weights(network, weights, float_weights(network))
    for name in (f"{layer.name}.variance" for layer in network.convolutions):
        if not len(faults) and float(weights[name].astype(np.float64).min()) < 0:
            faults.add(f"weight {name}: expected variances >= 0, found a negative one", where=network.name)
    faults.raise_if_any(ConfigError)
    return NormForm(network, weights).model()


def float_weights(network: Network) -> Expected:
    """Type and shape of every weight."""
    single = np.dtype(np.float32)
    expected: Expected = {}
    for conv in network.convolutions:
        expected[f"{conv.name}.weight"] = (single, network.weight_shape(conv))
        expected |= {f"{conv.name}.{part}": (single, (conv.channels,)) for part in NORM}
    for dense in network.dense:
        expected[f"{dense.name}.weight"] = (single, network.weight_shape(dense))
        expected[f"{dense.name}.bias"] = (single, (dense.outputs,))
    return expected


class NormForm(Form):
    """With BatchNormalization; `bits` other than None puts quantisers behind the activations, as a trainer does."""

    def __init__(self, network: Network, weights: Weights, bits: Bits | None = None) -> None:
        super().__init__(network, weights)
        self.bits = bits

    def conv(self, layer: Conv) -> None:
        name = layer.name
        inputs = [self.value[layer.bottom], self._weight(f"{name}.weight")]
        value = self.node("Conv", inputs, f"{name}/conv", **self.window(layer))
        inputs = [value, *(self._weight(f"{name}.{part}") for part in NORM)]
        plain = self.bits is None and not layer.relu
        norm = self.node("BatchNormalization", inputs, name if plain else f"{name}/norm", epsilon=EPSILON)
        scale = np.float32(self.weights.get(f"{quantiser(layer)}.scale", 1))
        self.value[name] = self.activation(norm, layer, self.bits, scale)

    def average(self, layer: Average) -> None:
        self.value[layer.name] = self.node("GlobalAveragePool", [self.value[layer.bottom]], layer.name)

    def dense(self, layer: Dense) -> None:
        name = layer.name
        flat = self.node("Flatten", [self.value[layer.bottom]], f"{name}/flatten")
        inputs = [flat, self._weight(f"{name}.weight"), self._weight(f"{name}.bias")]
        self.value[name] = self.node("Gemm", inputs, name, transB=1)

    def _weight(self, name: str) -> str:
        return self.constant(name, self.weights[name])
