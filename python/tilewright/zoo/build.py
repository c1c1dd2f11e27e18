"""From a table of layers to a model, with given or seeded weights, in float or quantised."""

from __future__ import annotations

import numpy as np
from onnx import ModelProto, numpy_helper

from tilewright.frontend.seeded import Role, adapt, draw
from tilewright.zoo.float_form import NormForm, float_model, float_weights
from tilewright.zoo.fold import dorefa, fold
from tilewright.zoo.form import Array, Bits, Weights
from tilewright.zoo.layers import Network, quantiser
from tilewright.zoo.quantised_form import check_bits, quantised_model, weight_bits

UNIT_SCALE: dict[Bits, float] = {4: 0.1875, 2: 0.625, 1: 1.0}
"""Of activations that a ReLU makes of deviation 1: least mean square error with a mantissa of 3 bits."""
OUTPUT_SCALE = 1 / 32
"""Of an output of deviation 1, in 8 bits around zero."""


def build(network: Network, bits: Bits | None, weights: Weights | None, seed: int) -> ModelProto:
    """Write a network.

    Args:
        bits: None for float, else the width between the first and the last layer, which have 8.
        weights: those that `float_form.py` or, with `bits`, `quantised_form.py` lists; seeded ones if None.
        seed: of seeded weights.

    Raises:
        ConfigError: the width, or everything that is wrong with the weights.
    """
    if bits is None:
        return float_model(network, weights if weights is not None else seeded_weights(network, seed))
    check_bits(bits)
    return quantised_model(
        network, weights if weights is not None else seeded_integers(network, seed, bits), bits
    )


def seeded_weights(network: Network, seed: int) -> Weights:
    """Float weights with which every channel has deviation 1 before its factor gamma (`seeded.py`)."""
    drawn = _drawn(network, seed)
    return _adapted(NormForm(network, drawn), seed, set(drawn))


def seeded_integers(network: Network, seed: int, bits: Bits) -> Weights:
    """Integer weights: codes of seeded weights, and statistics measured behind quantised activations."""
    drawn = _drawn(network, seed)
    for layer in network.convolutions:
        codes = dorefa(drawn[f"{layer.name}.weight"], weight_bits(network, layer, bits))
        drawn[f"{layer.name}.weight"] = codes.astype(np.float32)
        drawn[f"{quantiser(layer)}.scale"] = np.array(UNIT_SCALE[bits], np.float32)
    free = {f"{c.name}.{part}" for c in network.convolutions for part in ("mean", "variance")}
    free |= {f"{dense.name}.weight" for dense in network.dense}
    scales = {f"{dense.name}.scale": np.array(OUTPUT_SCALE, np.float32) for dense in network.dense}
    return fold(network, {**drawn, **_adapted(NormForm(network, drawn, bits), seed, free), **scales}, bits)


def _drawn(network: Network, seed: int) -> dict[str, Array]:
    roles: dict[str, Role] = {"weight": "weight", "gamma": "scale", "variance": "scale"}
    return {
        name: draw(seed, name, shape, roles.get(name.rpartition(".")[2], "shift"))
        for name, (_, shape) in float_weights(network).items()
    }


def _adapted(form: NormForm, seed: int, free: set[str]) -> Weights:
    """The weights after a forward pass of seeded numbers in which those of `free` are adapted."""
    model = adapt(form.model(), free, seed)
    wanted = float_weights(form.network)
    return {t.name: numpy_helper.to_array(t) for t in model.graph.initializer if t.name in wanted}
