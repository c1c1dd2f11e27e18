"""The table of `tilewright.zoo.dirac_delta` as a torch module, in float or with quantisers."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
import numpy.typing as npt
import torch
from quantisers import Pact, Sign, dorefa_weights, power_of_two_weights, straight
from torch import nn
from torch.nn import functional

from tilewright.zoo.fold import dorefa
from tilewright.zoo.form import Bits
from tilewright.zoo.layers import (
    EPSILON,
    INPUT,
    SHIFT_TAPS,
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
    quantiser,
)
from tilewright.zoo.quantised_form import mean_scale, weight_bits

Array = npt.NDArray[Any]
OUTPUT_SCALE = 1 / 16
FIRST_CLIP = 3.0
"""Of activations of deviation 1, before anything is learned."""
LEAST_GAMMA = 0.05


class Net(nn.Module):
    """What the table describes; `bits` None trains in float."""

    def __init__(self, network: Network, bits: Bits | None) -> None:
        super().__init__()
        self.network, self.bits = network, bits
        self.weighted, self.norms, self.quantisers = nn.ModuleDict(), nn.ModuleDict(), nn.ModuleDict()
        for conv in network.convolutions:
            inputs = network.maps[conv.bottom][0]
            self.weighted[conv.name] = nn.Conv2d(inputs, conv.channels, conv.kernel, bias=False)
            self.norms[conv.name] = nn.BatchNorm2d(conv.channels, eps=EPSILON)
            if bits is not None and quantiser(conv) not in self.quantisers:
                self.quantisers[quantiser(conv)] = Sign() if bits == 1 else Pact(bits, FIRST_CLIP)
        for dense in network.dense:
            self.weighted[dense.name] = nn.Linear(network.maps[dense.bottom][0], dense.outputs)

    def forward(self, images: torch.Tensor) -> torch.Tensor:
        """(N, C, H, W) -> scores (N, classes)."""
        maps = {INPUT: images}
        for layer in self.network.layers:
            x = maps[bottoms(layer)[0]]
            match layer:
                case Conv():
                    maps[layer.name] = self._conv(layer, x)
                case MaxPool():
                    maps[layer.name] = functional.max_pool2d(x, layer.kernel, layer.stride, layer.pad)
                case Shift():
                    maps[layer.name] = shifted(x)
                case Split():
                    maps[layer.low], maps[layer.high] = x.chunk(2, dim=1)
                case Concat():
                    maps[layer.name] = torch.cat([maps[bottom] for bottom in layer.bottoms], dim=1)
                case Rotate():
                    maps[layer.name] = x.roll(layer.count, dims=1)
                case Average():
                    maps[layer.name] = self._average(x)
                case Dense():
                    return self._dense(layer, x)
                case _:
                    raise TypeError(f"no module for {layer}")
        raise TypeError("the table ends with a dense layer")

    def _conv(self, layer: Conv, x: torch.Tensor) -> torch.Tensor:
        module, norm = self.weighted[layer.name], self.norms[layer.name]
        if self.bits is None:
            return torch.relu(norm(module(x)))
        weights = dorefa_weights(module.weight, weight_bits(self.network, layer, self.bits))
        result: torch.Tensor = self.quantisers[quantiser(layer)](norm(functional.conv2d(x, weights)))
        return result

    def _average(self, x: torch.Tensor) -> torch.Tensor:
        mean = x.mean(dim=(2, 3))
        if self.bits is None:
            return mean
        last = quantiser(self.network.convolutions[-1])
        scale = float(mean_scale(np.float32(self.quantisers[last].scale.item()), self.bits))
        return straight(mean, (mean / scale).round() * scale)

    def _dense(self, layer: Dense, x: torch.Tensor) -> torch.Tensor:
        module = self.weighted[layer.name]
        if self.bits is None:
            scores: torch.Tensor = module(x)
            return scores
        scores = functional.linear(x, power_of_two_weights(module.weight), module.bias)
        return straight(scores, (scores / OUTPUT_SCALE).round().clamp(-128, 127) * OUTPUT_SCALE)

    def start_from(self, weights: Mapping[str, Array]) -> None:
        """Take the weights of a float network of the same table, by the names of `float_form.py`."""
        with torch.no_grad():
            for name, module in self.weighted.items():
                module.weight.copy_(torch.from_numpy(weights[f"{name}.weight"]))
                if module.bias is not None:
                    module.bias.copy_(torch.from_numpy(weights[f"{name}.bias"]))
            for name, norm in self.norms.items():
                parts = {"gamma": norm.weight, "beta": norm.bias}
                parts |= {"mean": norm.running_mean, "variance": norm.running_var}
                for part, tensor in parts.items():
                    tensor.copy_(torch.from_numpy(weights[f"{name}.{part}"]))

    def clips(self) -> list[torch.Tensor]:
        """The learned clips."""
        return [module.clip for module in self.quantisers.values() if isinstance(module, Pact)]

    def keep_legal(self) -> None:
        """Keep BatchNorm's factors positive: they become scales."""
        with torch.no_grad():
            for norm in self.norms.values():
                norm.weight.clamp_(min=LEAST_GAMMA)

    def weights(self) -> dict[str, Array]:
        """By the names of `float_form.py`, or what `fold` takes."""
        found: dict[str, Array] = {}
        for conv in self.network.convolutions:
            weight, norm = _array(self.weighted[conv.name].weight), self.norms[conv.name]
            factor = 1.0
            if self.bits is not None:
                width = weight_bits(self.network, conv, self.bits)
                weight = dorefa(weight, width)
                factor = 2.0 ** (width - 1)  # codes are that many times the weights of `dorefa_weights`
                found[f"{quantiser(conv)}.scale"] = _array(self.quantisers[quantiser(conv)].scale)
            found[f"{conv.name}.weight"] = weight
            found[f"{conv.name}.gamma"] = _array(norm.weight)
            found[f"{conv.name}.beta"] = _array(norm.bias)
            found[f"{conv.name}.mean"] = _array(norm.running_mean * factor)
            variance = (norm.running_var + EPSILON) * factor**2 - EPSILON
            found[f"{conv.name}.variance"] = _array(variance)
        for dense in self.network.dense:
            module = self.weighted[dense.name]
            found |= {
                f"{dense.name}.weight": _array(module.weight),
                f"{dense.name}.bias": _array(module.bias),
            }
            if self.bits is not None:
                found[f"{dense.name}.scale"] = np.array(OUTPUT_SCALE, np.float32)
        return found


def shifted(x: torch.Tensor) -> torch.Tensor:
    """Channel i reads its neighbour of tap i mod 5; zero beyond the border."""
    height, width = x.shape[2:]
    padded = functional.pad(x, (1, 1, 1, 1))
    result = torch.empty_like(x)
    for first, (ky, kx) in enumerate(SHIFT_TAPS):
        step = slice(first, None, len(SHIFT_TAPS))
        result[:, step] = padded[:, step, ky : ky + height, kx : kx + width]
    return result


def _array(value: torch.Tensor) -> Array:
    return value.detach().numpy().copy()
