"""A network as a table of layers: what builders write, and ONNX and the trainer of `tutorials/lowbit` are made from.

A layer's result has the layer's name; `bottom` is the name of the result that it reads, "data" the network's input.
Every convolution is followed by BatchNormalization. Maps are (channels, height, width).
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from functools import cached_property

Map = tuple[int, int, int]
INPUT = "data"
EPSILON = 1e-5
"""Of every BatchNormalization."""


@dataclass(frozen=True)
class Conv:
    """Convolution without bias, BatchNormalization, and an activation if `relu`; pads keep the size at stride 1.

    Attributes:
        quantiser: name of the quantiser after the activation; layers that are concatenated share one, so that the
            concat stays a matter of addresses. Its own where empty.
    """

    name: str
    bottom: str
    channels: int
    kernel: int = 1
    stride: int = 1
    groups: int = 1
    relu: bool = True
    quantiser: str = ""


@dataclass(frozen=True)
class MaxPool:
    """Maximum of a window."""

    name: str
    bottom: str
    kernel: int
    stride: int
    pad: int = 0


@dataclass(frozen=True)
class Shift:
    """Channel i reads its neighbour of `SHIFT_TAPS[i % 5]`; zero beyond the border."""

    name: str
    bottom: str


SHIFT_TAPS = ((0, 1), (1, 0), (1, 1), (1, 2), (2, 1))
"""(ky, kx) of the one in the 3x3 kernel of channels 0..4: up, left, none, right, down."""


@dataclass(frozen=True)
class Split:
    """The first half of the channels, and the second: results `<name>/low` and `<name>/high`."""

    name: str
    bottom: str

    @property
    def low(self) -> str:
        """Result with the first half."""
        return f"{self.name}/low"

    @property
    def high(self) -> str:
        """Result with the second half."""
        return f"{self.name}/high"


@dataclass(frozen=True)
class Concat:
    """Maps one after the other along the channels."""

    name: str
    bottoms: tuple[str, ...]


@dataclass(frozen=True)
class Rotate:
    """The last `count` channels come first."""

    name: str
    bottom: str
    count: int


@dataclass(frozen=True)
class Shuffle:
    """Channel shuffle (Zhang et al., ShuffleNet): channel g * n + i of `groups` groups of n becomes i * groups + g."""

    name: str
    bottom: str
    groups: int


@dataclass(frozen=True)
class Average:
    """Mean of each channel."""

    name: str
    bottom: str


@dataclass(frozen=True)
class Dense:
    """Fully connected, with bias; reads a map of 1x1."""

    name: str
    bottom: str
    outputs: int


Layer = Conv | MaxPool | Shift | Split | Concat | Rotate | Shuffle | Average | Dense


@dataclass(frozen=True)
class Network:
    """Layers in order; the last one is the output.

    Attributes:
        name: of the graph.
        shape: of the input: channels, height, width.
        layers: each after those that it reads.
    """

    name: str
    shape: Map
    layers: tuple[Layer, ...]

    @cached_property
    def maps(self) -> dict[str, Map]:
        """The shape of every result."""
        found: dict[str, Map] = {INPUT: self.shape}
        for layer in self.layers:
            found |= _maps(layer, found)
        return found

    @cached_property
    def producer(self) -> dict[str, Layer]:
        """The layer that makes each result."""
        return {name: layer for layer in self.layers for name in results(layer)}

    @property
    def convolutions(self) -> tuple[Conv, ...]:
        """The convolutions in order."""
        return tuple(layer for layer in self.layers if isinstance(layer, Conv))

    @property
    def dense(self) -> tuple[Dense, ...]:
        """The fully connected layers in order."""
        return tuple(layer for layer in self.layers if isinstance(layer, Dense))

    @property
    def weighted(self) -> tuple[Conv | Dense, ...]:
        """The convolutions, then the fully connected layers."""
        return (*self.convolutions, *self.dense)

    def weight_shape(self, layer: Conv | Dense) -> tuple[int, ...]:
        """(O, I / groups, K, K), or (O, I) of a dense layer."""
        inputs = self.maps[layer.bottom][0]
        if isinstance(layer, Dense):
            return layer.outputs, inputs
        return layer.channels, inputs // layer.groups, layer.kernel, layer.kernel

    @property
    def macs(self) -> int:
        """Multiply-accumulates of convolutions and dense layers for one image."""
        return sum(
            math.prod(self.weight_shape(layer)) * math.prod(self.maps[layer.name][1:])
            for layer in self.weighted
        )

    @property
    def weights(self) -> int:
        """Weights of convolutions and dense layers, and the biases of the latter."""
        convolutions = sum(math.prod(self.weight_shape(layer)) for layer in self.convolutions)
        return convolutions + sum(math.prod(self.weight_shape(d)) + d.outputs for d in self.dense)

    @property
    def norm_parameters(self) -> int:
        """Trained factors and offsets of BatchNormalization."""
        return 2 * sum(layer.channels for layer in self.convolutions)


def quantiser(layer: Conv) -> str:
    """The name of the quantiser of a convolution's result."""
    return layer.quantiser or layer.name


def results(layer: Layer) -> tuple[str, ...]:
    """The names of a layer's results."""
    return (layer.low, layer.high) if isinstance(layer, Split) else (layer.name,)


def bottoms(layer: Layer) -> tuple[str, ...]:
    """The names of what a layer reads."""
    return layer.bottoms if isinstance(layer, Concat) else (layer.bottom,)


def _maps(layer: Layer, maps: dict[str, Map]) -> dict[str, Map]:
    if isinstance(layer, Concat):
        first = maps[layer.bottoms[0]]
        return {layer.name: (sum(maps[b][0] for b in layer.bottoms), *first[1:])}
    channels, height, width = maps[layer.bottom]
    match layer:
        case Conv():
            size = tuple((side - 1) // layer.stride + 1 for side in (height, width))
            return {layer.name: (layer.channels, size[0], size[1])}
        case MaxPool():
            size = tuple(
                (side + 2 * layer.pad - layer.kernel) // layer.stride + 1 for side in (height, width)
            )
            return {layer.name: (channels, size[0], size[1])}
        case Split():
            half = channels // 2
            return {layer.low: (half, height, width), layer.high: (channels - half, height, width)}
        case Average():
            return {layer.name: (channels, 1, 1)}
        case Dense():
            return {layer.name: (layer.outputs, 1, 1)}
        case _:
            return {layer.name: (channels, height, width)}
