"""A network in QCDQ: integer weights behind DequantizeLinear, activations as QuantizeLinear - Clip - DequantizeLinear.

Weights by name:

* `<conv>.weight` int8 (O, I / groups, K, K), in -2^(b-1)..2^(b-1)-1, for one bit -1 or 1; `<conv>.weight_scale`
  float32 (O,); `<conv>.bias` int32 (O,), whose unit is input scale times weight scale. BatchNormalization is in the
  last two.
* `<quantiser>.scale` float32 (): activations are `scale` times 0..2^b-1, for one bit times -1 or 1.
* `<dense>.weight`, `.weight_scale`, `.bias` likewise, in 8 bits; `<dense>.scale` of the output, which is uint8 around
  128.

The first convolution's weights have 8 bits, so have the input (`INPUT_SCALE`, zero point 128: bytes as they are) and
the mean before the dense layer: `mean_scale` makes each of its steps an exact fraction of a step of the map.
"""

from __future__ import annotations

import numpy as np
from onnx import ModelProto

from tilewright.errors import ConfigError, Fault, FaultList
from tilewright.zoo.form import INPUT_SCALE, MIDDLE, Bits, Expected, Form, Weights, check_weights
from tilewright.zoo.layers import INPUT, Average, Conv, Dense, Network, bottoms, quantiser


def quantised_model(network: Network, weights: Weights, bits: Bits) -> ModelProto:
    """Write the network. Raises ConfigError with everything that is wrong with width or weights."""
    check_bits(bits)
    faults = check_weights(network, weights, quantised_weights(network))
    if not len(faults):
        _check_values(network, weights, bits, faults)
    faults.raise_if_any(ConfigError)
    return _QuantisedForm(network, weights, bits).model()


def check_bits(bits: int) -> None:
    """Raise ConfigError for a width that there is not."""
    if bits not in (1, 2, 4):
        remedy = "for 8 bits quantise the float network"
        raise ConfigError(Fault(f"expected 1, 2 or 4 bits, found {bits}", "bits", remedy))


def quantised_weights(network: Network) -> Expected:
    """Type and shape of every weight."""
    expected: Expected = {}
    for layer in network.weighted:
        shape = network.weight_shape(layer)
        expected[f"{layer.name}.weight"] = (np.dtype(np.int8), shape)
        expected[f"{layer.name}.weight_scale"] = (np.dtype(np.float32), shape[:1])
        expected[f"{layer.name}.bias"] = (np.dtype(np.int32), shape[:1])
    names = [quantiser(layer) for layer in network.convolutions] + [d.name for d in network.dense]
    expected |= {f"{name}.scale": (np.dtype(np.float32), ()) for name in names}
    return expected


def weight_bits(network: Network, layer: Conv | Dense, bits: Bits) -> int:
    """The width of a layer's weights: 8 in the first and in dense ones."""
    return 8 if isinstance(layer, Dense) or layer == network.convolutions[0] else bits


def weight_codes(bits: int) -> tuple[int, int]:
    """The least and the largest weight; -1 and 1 for one bit, without the zero between them."""
    return (-1, 1) if bits == 1 else (-(2 ** (bits - 1)), 2 ** (bits - 1) - 1)


def mean_scale(scale: np.float32, bits: Bits) -> np.float32:
    """The scale of a mean of values with `scale`: 16 steps a step for 4 bits, so that 8 bits are used well.

    A power of two part of `scale`: then a mean of an odd number of values never lies in the middle of two results.
    """
    return np.float32(scale / (64 if bits == 1 else 2 ** (8 - bits)))


def _check_values(network: Network, weights: Weights, bits: Bits, faults: FaultList) -> None:
    for layer in network.weighted:
        name, width = f"{layer.name}.weight", weight_bits(network, layer, bits)
        least, most = weight_codes(width)
        values = weights[name].astype(np.int64)
        if values.min() < least or values.max() > most or (width == 1 and not values.all()):
            allowed = "-1 or 1" if width == 1 else f"{least}..{most}"
            faults.add(
                f"weight {name}: expected {allowed}, found {values.min()}..{values.max()}", where=network.name
            )
    for name, array in weights.items():
        if name.endswith("scale") and not (np.isfinite(array).all() and (array > 0).all()):
            faults.add(f"weight {name}: expected scales > 0, found {np.min(array)}", where=network.name)


class _QuantisedForm(Form):
    def __init__(self, network: Network, weights: Weights, bits: Bits) -> None:
        super().__init__(network, weights)
        self.bits = bits
        self.value[INPUT] = self.quantised(INPUT, INPUT, INPUT_SCALE, zero=MIDDLE)

    def conv(self, layer: Conv) -> None:
        name = layer.name
        value = self.node("Conv", self._operands(layer), f"{name}/conv", **self.window(layer))
        self.value[name] = self.activation(value, layer, self.bits, self._scale(name))

    def average(self, layer: Average) -> None:
        name = layer.name
        value = self.node("GlobalAveragePool", [self.value[layer.bottom]], f"{name}/mean")
        scale, zero = self._scale(name), MIDDLE if self.bits == 1 else 0
        self.value[name] = self.quantised(value, name, scale, zero=zero)

    def dense(self, layer: Dense) -> None:
        name = layer.name
        flat = self.node("Flatten", [self.value[layer.bottom]], f"{name}/flatten")
        _, *operands = self._operands(layer)
        value = self.node("Gemm", [flat, *operands], f"{name}/gemm", transB=1)
        self.value[name] = self.quantised(value, name, self._scale(name), zero=MIDDLE)

    def _operands(self, layer: Conv | Dense) -> list[str]:
        """The input, and weight and bias as DequantizeLinear of integers."""
        name, weights = layer.name, self.weights
        scale = weights[f"{name}.weight_scale"]
        unit = np.asarray(self._scale(layer.bottom) * scale, np.float32)
        scale_name = self.constant(f"{name}.weight_scale", scale)
        unit_name = self.constant(f"{name}.bias_scale", unit)
        operands = [self.value[layer.bottom]]
        for part, factor in (("weight", scale_name), ("bias", unit_name)):
            stored = self.constant(f"{name}.{part}", weights[f"{name}.{part}"])
            node = f"{name}/{part}"
            operands.append(self.node("DequantizeLinear", [stored, factor], node, axis=0))
        return operands

    def _scale(self, name: str) -> np.float32:
        return result_scale(self.network, self.weights, name, self.bits)


def result_scale(network: Network, weights: Weights, name: str, bits: Bits) -> np.float32:
    """The scale of the result `name`: layers that only move or compare values keep that of their input."""
    if name == INPUT:
        return INPUT_SCALE
    layer = network.producer[name]
    if isinstance(layer, Conv | Dense):
        group = quantiser(layer) if isinstance(layer, Conv) else name
        return np.float32(weights[f"{group}.scale"])
    scale = result_scale(network, weights, bottoms(layer)[0], bits)
    return mean_scale(scale, bits) if isinstance(layer, Average) else scale
