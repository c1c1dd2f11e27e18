"""A quantised network of the zoo in integers, from its table and its weights: no float sum, no ONNX."""

from __future__ import annotations

from fractions import Fraction
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tilewright.zoo.form import Bits, Weights
from tilewright.zoo.layers import (
    INPUT,
    Average,
    Concat,
    Conv,
    Dense,
    MaxPool,
    Network,
    Rotate,
    Shift,
    Split,
    bottoms,
)
from tilewright.zoo.quantised_form import result_scale

Integers = NDArray[np.int64]
MOVES = ((-1, 0), (0, -1), (0, 0), (0, 1), (1, 0))
"""(dy, dx) of the value that channels 0..4 read: up, left, none, right, down."""


def evaluate(network: Network, weights: Weights, bits: Bits, pixels: Integers) -> Integers:
    """Bytes (C, H, W) -> bytes of the output, without zero point: -128..127. Only 1x1 convolutions."""
    maps: dict[str, Integers] = {INPUT: pixels - 128}

    def rounded(sums: Integers, unit: Any, scale: np.float32) -> Integers:
        # Scales have short mantissas: their float64 quotient is right to a part in 2^53, no half is lost.
        steps = np.rint(sums * (unit.astype(np.float64) / float(scale))[:, None, None])
        return np.asarray(steps, np.int64)

    for layer in network.layers:
        x = maps[bottoms(layer)[0]]
        match layer:
            case Conv() | Dense():
                w = weights[f"{layer.name}.weight"].reshape(-1, len(x)).astype(np.int64)
                sums = np.einsum("oi,ihw->ohw", w, x)
                sums += weights[f"{layer.name}.bias"].astype(np.int64)[:, None, None]
                unit = (
                    result_scale(network, weights, layer.bottom, bits) * weights[f"{layer.name}.weight_scale"]
                )
                steps = rounded(sums, unit, result_scale(network, weights, layer.name, bits))
                if isinstance(layer, Dense):
                    maps[layer.name] = np.clip(steps, -128, 127)
                elif bits == 1:
                    maps[layer.name] = np.where(sums >= 0, 1, -1)
                else:
                    maps[layer.name] = np.clip(steps, 0, 2**bits - 1)
            case MaxPool():
                padded = np.pad(x, ((0, 0), (layer.pad,) * 2, (layer.pad,) * 2), constant_values=-(2**40))
                windows = np.lib.stride_tricks.sliding_window_view(padded, (layer.kernel,) * 2, (1, 2))
                maps[layer.name] = windows[:, :: layer.stride, :: layer.stride].max(axis=(3, 4))
            case Shift():
                padded = np.pad(x, ((0, 0), (1, 1), (1, 1)))
                height, width = x.shape[1:]
                maps[layer.name] = np.stack(
                    [
                        padded[c, 1 + dy : 1 + dy + height, 1 + dx : 1 + dx + width]
                        for c, (dy, dx) in ((c, MOVES[c % 5]) for c in range(len(x)))
                    ]
                )
            case Split():
                maps[layer.low], maps[layer.high] = x[: len(x) // 2], x[len(x) // 2 :]
            case Concat():
                maps[layer.name] = np.concatenate([maps[b] for b in layer.bottoms])
            case Rotate():
                maps[layer.name] = np.roll(x, layer.count, axis=0)
            case Average():
                source = Fraction(float(result_scale(network, weights, layer.bottom, bits)))
                step = source / Fraction(float(result_scale(network, weights, layer.name, bits)))
                means = [round(int(channel.sum()) * step / channel.size) for channel in x]
                maps[layer.name] = np.array(means, np.int64).reshape(-1, 1, 1)
            case _:
                raise AssertionError(layer)
    return maps[network.layers[-1].name].reshape(-1)
