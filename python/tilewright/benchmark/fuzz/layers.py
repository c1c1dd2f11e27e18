"""Random networks: a plan names the layers, a sink writes them as float or as QDQ ONNX.

What does not fit the map that it meets is made smaller or left out, so every part of a plan is a plan: tests let
hypothesis choose plans, `fuzz networks` a seed, and both shrink them by leaving layers out.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Literal, Protocol

import numpy as np
import onnx
from numpy.typing import ArrayLike, NDArray

from tilewright.frontend.shift_kernel import one_hot

Kind = Literal[
    "conv", "depthwise", "grouped", "transposed", "max", "average", "global", "add", "multiply", "concat", "slice",
    "shuffle", "resize", "depth_to_space", "dense", "shift",
]  # fmt: skip
KINDS: tuple[Kind, ...] = Kind.__args__  # type: ignore[attr-defined]
AFTER = ("", "Relu", "Clip", "PRelu", "Sigmoid", "Tanh", "HardSwish", "LeakyRelu")
TABLES = ("Sigmoid", "Tanh", "HardSwish")
MAX_SIDE, MAX_CHANNELS = 24, 72
"""Larger maps are not made larger, so that an example takes a second or two."""


@dataclass(frozen=True)
class LayerPlan:
    """What to build; what does not fit the map it meets is made smaller.

    Attributes:
        kind: of layer.
        source, other: which of the maps so far it reads, counted from the last.
        kernel, strides, dilation: by row and column.
        pads: top, left, bottom, right.
        channels: of the result.
        after: activation, within the same rounding unless it is one of TABLES.
        signed: whether the result is int8.
    """

    kind: Kind
    source: int
    other: int
    kernel: tuple[int, int]
    strides: tuple[int, int]
    dilation: tuple[int, int]
    pads: tuple[int, int, int, int]
    channels: int
    after: str


@dataclass(frozen=True)
class NetworkPlan:
    """A whole network: `shape` is (channels, height, width) of its inputs, `dtype` theirs where they are quantised."""

    seed: int
    shape: tuple[int, int, int]
    dtype: Literal["uint8", "int8"]
    layers: tuple[LayerPlan, ...]
    inputs: int = 1


class Sink(Protocol):
    """What a network is written to.

    Attributes:
        rng: for weights and scales.
        dtype: of quantised activations.
        xs: the inputs, dequantised.
    """

    rng: np.random.Generator
    dtype: str
    xs: list[str]

    def const(self, value: ArrayLike, dtype: str = "float32") -> str: ...
    def op(self, kind: str, *inputs: str, outputs: int = 1, **attrs: Any) -> str: ...
    def q(self, value: str, scale: float, zero_point: int) -> str: ...
    def weights(self, shape: tuple[int, ...], axis: int | None = 0) -> str: ...
    def model(self, *outputs: str) -> onnx.ModelProto: ...


@dataclass(frozen=True)
class Value:
    """A float tensor of the graph behind a DequantizeLinear; `rms` is roughly its root mean square."""

    name: str
    shape: tuple[int, ...]
    rms: float


class Writer:
    """Writes a plan's layers to a sink."""

    def __init__(self, plan: NetworkPlan, graph: Sink) -> None:
        self.graph = graph
        self.values = [Value(x, (1, *plan.shape), 4.0) for x in graph.xs]
        self.read: set[str] = set()

    def model(self, layers: tuple[LayerPlan, ...]) -> onnx.ModelProto:
        """All layers; maps that none of them reads are the outputs, and every input is read."""
        for layer in layers:
            getattr(self, f"_{layer.kind}")(layer, self._map(layer.source))
        for x in self.values[: len(self.graph.xs)]:
            if x.name not in self.read:  # no layer that reads it fitted: one that always does
                self._add_value(
                    self.graph.op("GlobalAveragePool", x.name), (*x.shape[:2], 1, 1), x.rms, "", x
                )
        outputs = [v.name for v in self.values if v.name not in self.read]
        return self.graph.model(*outputs)

    def _map(self, back: int) -> Value:
        maps = [v for v in self.values if len(v.shape) == 4]
        return maps[-1 - min(back, len(maps) - 1)]

    def _like(self, x: Value, back: int) -> Value:
        same = [v for v in self.values if v.shape == x.shape]
        return same[-1 - min(back, len(same) - 1)]

    def _add_value(self, name: str, shape: tuple[int, ...], rms: float, after: str, *sources: Value) -> None:
        graph = self.graph
        self.read.update(v.name for v in sources)
        if after in TABLES:  # behind a rounding of its own
            name = graph.q(name, rms / 50, 128 * (graph.dtype == "uint8"))
        if after == "Clip":
            name = graph.op("Clip", name, graph.const(-0.5 * rms), graph.const(1.5 * rms))
        elif after == "PRelu":
            slopes = graph.rng.uniform(0.0, 0.5, (shape[1], *[1] * (len(shape) - 2)))
            name = graph.op("PRelu", name, graph.const(slopes))
        elif after == "LeakyRelu":
            name = graph.op("LeakyRelu", name, alpha=0.125)
        elif after:
            name = graph.op(after, name)
        rms = {"Sigmoid": 0.5, "Tanh": 0.7}.get(after, rms)
        signed = graph.dtype == "int8"
        low = 0 if after in ("Relu", "Sigmoid") else int(graph.rng.integers(100, 156))
        scale = rms * float(graph.rng.uniform(0.5, 1.5)) / (60.0 if low else 100.0)
        self.values.append(Value(graph.q(name, scale, low - 128 * signed), shape, rms))

    @staticmethod
    def _window(layer: LayerPlan, x: Value) -> tuple[list[int], list[int], list[int]]:
        """Kernel, dilation and pads that fit a map, with pads below the kernel."""
        pads = [min(p, k - 1) for p, k in zip(layer.pads, layer.kernel * 2, strict=True)]
        room = [x.shape[2 + a] + pads[a] + pads[2 + a] for a in range(2)]
        kernel = [min(k, r) for k, r in zip(layer.kernel, room, strict=True)]
        dilation = [d if (k - 1) * d < r else 1 for k, d, r in zip(kernel, layer.dilation, room, strict=True)]
        pads = [min(p, kernel[i % 2] - 1) for i, p in enumerate(pads)]
        return kernel, dilation, pads

    @staticmethod
    def _size(
        x: Value, kernel: list[int], dilation: list[int], pads: list[int], strides: tuple[int, int]
    ) -> list[int]:
        return [
            (x.shape[2 + a] + pads[a] + pads[2 + a] - (kernel[a] - 1) * dilation[a] - 1) // strides[a] + 1
            for a in range(2)
        ]

    def _convolve(self, layer: LayerPlan, x: Value, outputs: int, groups: int) -> None:
        kernel, dilation, pads = self._window(layer, x)
        size = self._size(x, kernel, dilation, pads, layer.strides)
        if min(size) < 1:
            return
        shape = (outputs, x.shape[1] // groups, *kernel)
        rms = x.rms * 0.45 * float(np.sqrt(np.prod(shape[1:])))
        bias = self.graph.const(self.graph.rng.normal(0, rms / 3, outputs))
        name = self.graph.op(
            "Conv", x.name, self.graph.weights(shape), bias,
            kernel_shape=kernel, strides=list(layer.strides), dilations=dilation, pads=pads, group=groups,
        )  # fmt: skip
        self._add_value(name, (1, outputs, *size), rms, layer.after, x)

    def _conv(self, layer: LayerPlan, x: Value) -> None:
        self._convolve(layer, x, layer.channels, 1)

    def _depthwise(self, layer: LayerPlan, x: Value) -> None:
        self._convolve(layer, x, x.shape[1], x.shape[1])

    def _grouped(self, layer: LayerPlan, x: Value) -> None:
        groups = next(g for g in (4, 3, 2, 1) if x.shape[1] % g == 0)
        self._convolve(layer, x, groups * max(1, layer.channels // groups), groups)

    def _transposed(self, layer: LayerPlan, x: Value) -> None:
        kernel, strides = list(layer.kernel), list(layer.strides)
        size = [(x.shape[2 + a] - 1) * strides[a] + kernel[a] for a in range(2)]
        if max(size) > MAX_SIDE:
            return
        shape = (x.shape[1], layer.channels, *kernel)
        rms = (
            x.rms
            * 0.45
            * float(np.sqrt(shape[0] * max(1, kernel[0] // strides[0]) * max(1, kernel[1] // strides[1])))
        )
        weights = self.graph.weights(shape, axis=1)
        name = self.graph.op("ConvTranspose", x.name, weights, kernel_shape=kernel, strides=strides)
        self._add_value(name, (1, layer.channels, *size), rms, layer.after, x)

    def _pool(self, kind: str, layer: LayerPlan, x: Value, **attributes: int) -> None:
        kernel, _, pads = self._window(layer, x)
        size = self._size(x, kernel, [1, 1], pads, layer.strides)
        if min(size) < 1:
            return
        name = self.graph.op(
            kind, x.name, kernel_shape=kernel, strides=list(layer.strides), pads=pads, **attributes
        )
        self._add_value(name, (*x.shape[:2], *size), x.rms, "", x)

    def _max(self, layer: LayerPlan, x: Value) -> None:
        self._pool("MaxPool", layer, x)

    def _average(self, layer: LayerPlan, x: Value) -> None:
        self._pool("AveragePool", layer, x, count_include_pad=layer.channels % 2)

    def _global(self, layer: LayerPlan, x: Value) -> None:
        self._add_value(self.graph.op("GlobalAveragePool", x.name), (*x.shape[:2], 1, 1), x.rms, "", x)

    def _two(self, kind: str, layer: LayerPlan, x: Value, rms: float) -> None:
        y = self._like(x, layer.other)
        after = layer.after if layer.after in ("", "Relu", "Clip") else ""
        self._add_value(self.graph.op(kind, x.name, y.name), x.shape, rms, after, x, y)

    def _add(self, layer: LayerPlan, x: Value) -> None:
        self._two("Add", layer, x, x.rms + self._like(x, layer.other).rms)

    def _multiply(self, layer: LayerPlan, x: Value) -> None:
        self._two("Mul", layer, x, x.rms * self._like(x, layer.other).rms)

    def _concat(self, layer: LayerPlan, x: Value) -> None:
        same = [v for v in self.values if len(v.shape) == 4 and v.shape[2:] == x.shape[2:]]
        y = same[-1 - min(layer.other, len(same) - 1)]
        channels = x.shape[1] + y.shape[1]
        if channels <= MAX_CHANNELS:
            name = self.graph.op("Concat", x.name, y.name, axis=1)
            self._add_value(name, (1, channels, *x.shape[2:]), max(x.rms, y.rms), "", x, y)

    def _slice(self, layer: LayerPlan, x: Value) -> None:
        first = layer.channels % x.shape[1]
        starts, ends, axes = (self.graph.const([n], "int64") for n in (first, x.shape[1], 1))
        name = self.graph.op("Slice", x.name, starts, ends, axes)
        self._add_value(name, (1, x.shape[1] - first, *x.shape[2:]), x.rms, "", x)

    def _shuffle(self, layer: LayerPlan, x: Value) -> None:
        groups = next(g for g in (4, 3, 2, 1) if x.shape[1] % g == 0)
        split = self.graph.const([1, groups, x.shape[1] // groups, *x.shape[2:]], "int64")
        name = self.graph.op("Transpose", self.graph.op("Reshape", x.name, split), perm=[0, 2, 1, 3, 4])
        name = self.graph.op("Reshape", name, self.graph.const(x.shape, "int64"))
        self._add_value(name, x.shape, x.rms, "", x)

    def _resize(self, layer: LayerPlan, x: Value) -> None:
        if 2 * max(x.shape[2:]) > MAX_SIDE:
            return
        scales = self.graph.const([1, 1, 2, 2])
        name = self.graph.op(
            "Resize", x.name, "", scales,
            mode="nearest", coordinate_transformation_mode="asymmetric", nearest_mode="floor",
        )  # fmt: skip
        self._add_value(name, (*x.shape[:2], 2 * x.shape[2], 2 * x.shape[3]), x.rms, "", x)

    def _depth_to_space(self, layer: LayerPlan, x: Value) -> None:
        if x.shape[1] % 4 or 2 * max(x.shape[2:]) > MAX_SIDE:
            return
        mode = "DCR" if layer.channels % 2 else "CRD"
        name = self.graph.op("DepthToSpace", x.name, blocksize=2, mode=mode)
        self._add_value(name, (1, x.shape[1] // 4, 2 * x.shape[2], 2 * x.shape[3]), x.rms, "", x)

    def _shift(self, layer: LayerPlan, x: Value) -> None:
        """Read by the next layer with its own scale, or behind a QuantizeLinear/DequantizeLinear pair."""
        kernel = one_hot(shift_moves(layer, x.shape[1]))
        size = [-(-n // s) for n, s in zip(x.shape[2:], layer.strides, strict=True)]
        pads = [kernel.shape[2] // 2] * 4
        name = self.graph.op(
            "Conv", x.name, self.graph.const(kernel),
            kernel_shape=kernel.shape[2:], strides=list(layer.strides), pads=pads, group=x.shape[1],
        )  # fmt: skip
        shape = (*x.shape[:2], *size)
        if layer.other % 2:
            self._add_value(name, shape, x.rms, "", x)
            return
        outputs = layer.channels
        weights = self.graph.weights((outputs, x.shape[1], 1, 1))
        name = self.graph.op("Conv", name, weights)
        rms = x.rms * 0.45 * float(np.sqrt(x.shape[1]))
        self._add_value(name, (1, outputs, *size), rms, layer.after, x)

    def _dense(self, layer: LayerPlan, x: Value) -> None:
        flats = [v for v in self.values if len(v.shape) == 2]
        if layer.other == 3 and flats:  # behind another dense layer
            x = flats[-1]
        inputs = int(np.prod(x.shape[1:]))
        rms = x.rms * 0.45 * float(np.sqrt(inputs))
        weights = self.graph.weights((layer.channels, inputs))
        bias = self.graph.const(self.graph.rng.normal(0, rms / 3, layer.channels))
        flat = x.name if len(x.shape) == 2 else self.graph.op("Flatten", x.name)
        name = self.graph.op("Gemm", flat, weights, bias, transB=1)
        after = layer.after if layer.after != "PRelu" else ""
        self._add_value(name, (1, layer.channels), rms, after, x)


def shift_moves(layer: LayerPlan, channels: int) -> NDArray[np.int64]:
    """Displacements of a shift: neighbours move differently, by one pixel mostly. Shape: (channels, 2)."""
    rng = np.random.default_rng(layer.channels)
    farthest = 2 if layer.source == 3 else 1
    return rng.integers(-farthest, farthest + 1, (channels, 2))
