"""Random operators and graphs of the integer level."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np

from tilewright.codegen.graph import Graph, Node, Tensor
from tilewright.integer import ops
from tilewright.targets.arithmetic import Requant, requantisation
from tilewright.targets.storage import Range


@dataclass
class Builder:
    """Builds a graph node by node with seeded weights and rescales that keep results in range."""

    seed: int = 0
    nodes: list[Node] = field(default_factory=list)
    inputs: list[Tensor] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.rng = np.random.default_rng(self.seed)

    def input(self, *shape: int, dtype: ops.DType = "uint8", bits: int | None = None) -> Tensor:
        tensor = Tensor(f"in{len(self.inputs)}", (1, *shape), dtype, held(dtype, bits))
        self.inputs.append(tensor)
        return tensor

    def node(
        self, operator: ops.Operator, shape: tuple[int, ...], dtype: ops.DType, *inputs: Tensor
    ) -> Tensor:
        name = f"{operator.kind}{len(self.nodes)}"
        values = ops.result_range(operator, [t.range for t in inputs], dtype)
        tensor = Tensor(name + "_out", (1, *shape), dtype, values)
        self.nodes.append(Node(name, operator, inputs, tensor))
        return tensor

    def rescale(
        self,
        ratio: float,
        channels: int,
        dtype: ops.DType = "uint8",
        *,
        sums: np.ndarray | int = 0,
        zero_in: int = 0,
        dims: int = 3,
        prelu: bool = False,
        phases: bool = False,
        bits: int | None = None,
    ) -> ops.Rescale:
        """Parameters chosen as the passes choose them: so that the machine's own B fits."""
        limits = held(dtype, bits)
        if bits == 1:  # the sign of a sum against a threshold
            t, up = self.rng.integers(-2, 3, channels), 2 * self.rng.integers(0, 2, channels) - 1
            one = np.ones(channels, np.int64)
            m, s, b = (a.reshape((-1, 1, 1)[:dims]) for a in (4 * up, one, (1 - 2 * up * t) * 2))
            return ops.Rescale(m, s, b, -1, 1, dtype)
        zero = int(self.rng.integers(limits.lo, limits.hi + 1))
        offset = ops.storage_offset(dtype)
        ratio *= (limits.hi - limits.lo + 1) / 256
        ratios = ratio * self.rng.uniform(0.5, 1.5, channels)
        limit = int(20 * (limits.hi - limits.lo + 1) / 256 / ratio)
        bias = self.rng.integers(-limit, limit + 1, channels)
        q = requantisation(ratios, bias - zero_in * np.asarray(sums), zero + offset)
        if prelu or phases:  # B of the negative side, and of every phase, must fit as well
            s = np.minimum(q.s, 38)
            m = q.m >> (q.s - s)
            q = Requant(m, s, (bias - zero_in * np.asarray(sums)) * m + (np.int64(zero + offset) << s))
        b = q.b + q.m * zero_in * np.asarray(sums) - (np.int64(offset) << q.s)
        shape = (-1, 1, 1)[:dims] if channels > 1 or dims == 1 else (1, 1, 1)
        negative = {}
        if prelu:
            m2 = np.rint(q.m * self.rng.uniform(0, 0.5, channels)).astype(np.int64)
            b2 = (q.b - (np.int64(zero + offset) << q.s)) * 0 + (np.int64(zero) << q.s) + m2 * bias
            negative = {"m_neg": m2.reshape(shape), "b_neg": b2.reshape(shape), "zero_point": zero}
        return ops.Rescale(
            q.m.reshape(shape),
            q.s.reshape(shape),
            b.reshape(shape),
            limits.lo,
            limits.hi,
            dtype,
            **negative,
        )

    def conv(
        self,
        x: Tensor,
        outputs: int,
        kernel: ops.Pair,
        *,
        strides: ops.Pair = (1, 1),
        padding: ops.Pads = (0, 0, 0, 0),
        dilation: ops.Pair = (1, 1),
        groups: int = 1,
        dtype: ops.DType = "uint8",
        wide: bool = False,
        prelu: bool = False,
        bits: int | None = None,
        w_bits: int = 8,
        zero_point: int | None = None,
        single: Mapping[tuple[int, ...], int] | None = None,
    ) -> Tensor:
        """`bits` of the result and `w_bits` of the weights; 9 if they are `wide`. `single` weights by place."""
        _, channels, height, width = x.shape
        limit = 255 if wide else max((1 << (w_bits - 1)) - 1, 1)
        w = self.rng.integers(-limit, limit + 1, (outputs, channels // groups, *kernel)).astype(
            np.int16 if wide else np.int8
        )
        if w_bits == 1:
            w = (2 * self.rng.integers(0, 2, w.shape) - 1).astype(np.int8)
        if single:
            w = w.astype(np.int16)
            for place, value in single.items():
                w[place] = value
        zero = self.zero(x) if zero_point is None else zero_point
        sums = w.sum((1, 2, 3), dtype=np.int64)
        size = float(np.sqrt(w[0].size)) * (x.range.hi - x.range.lo + 1) / 256
        depthwise = groups == channels == outputs
        r = self.rescale(
            80 / (70 * size * limit),
            outputs,
            dtype,
            sums=0 if depthwise else sums,
            zero_in=zero + ops.storage_offset(x.dtype),
            prelu=prelu,
            bits=bits,
        )
        oh = (height + padding[0] + padding[2] - (kernel[0] - 1) * dilation[0] - 1) // strides[0] + 1
        ow = (width + padding[1] + padding[3] - (kernel[1] - 1) * dilation[1] - 1) // strides[1] + 1
        op = ops.Conv2d(w, zero, r, strides, padding, dilation, groups)
        return self.node(op, (outputs, oh, ow), dtype, x)

    def conv_transpose(
        self,
        x: Tensor,
        outputs: int,
        kernel: ops.Pair,
        strides: ops.Pair,
        padding: ops.Pads,
        output_padding: ops.Pair = (0, 0),
        dilation: ops.Pair = (1, 1),
        groups: int = 1,
    ) -> Tensor:
        _, channels, height, width = x.shape
        w = self.rng.integers(-127, 128, (channels, outputs // groups, *kernel)).astype(np.int8)
        zero = self.zero(x)
        r = self.rescale(1 / (3000 * kernel[0] * kernel[1]), outputs, x.dtype, phases=True)
        oh = (
            (height - 1) * strides[0]
            + (kernel[0] - 1) * dilation[0]
            + 1
            - padding[0]
            - padding[2]
            + output_padding[0]
        )
        ow = (
            (width - 1) * strides[1]
            + (kernel[1] - 1) * dilation[1]
            + 1
            - padding[1]
            - padding[3]
            + output_padding[1]
        )
        op = ops.ConvTranspose2d(w, zero, r, strides, padding, output_padding, dilation, groups)
        return self.node(op, (outputs, oh, ow), x.dtype, x)

    def dense(
        self, x: Tensor, outputs: int, dtype: ops.DType = "int8", w_bits: int = 8, bits: int | None = None
    ) -> Tensor:
        limit = max((1 << (w_bits - 1)) - 1, 1)
        w = self.rng.integers(-limit, limit + 1, (outputs, x.shape[1])).astype(np.int8)
        if w_bits == 1:
            w = (2 * self.rng.integers(0, 2, w.shape) - 1).astype(np.int8)
        zero = self.zero(x)
        ratio = (1 if bits is None else 40) / (
            70 * limit * float(np.sqrt(x.shape[1])) * (x.range.hi - x.range.lo + 1) / 256
        )
        sums = w.sum(1, dtype=np.int64)
        zero_in = zero + ops.storage_offset(x.dtype)
        r = self.rescale(ratio, outputs, dtype, sums=sums, zero_in=zero_in, dims=1, bits=bits)
        return self.node(ops.Dense(w, zero, r), (outputs,), dtype, x)

    def max_pool(
        self, x: Tensor, kernel: ops.Pair, strides: ops.Pair, padding: ops.Pads = (0, 0, 0, 0)
    ) -> Tensor:
        _, c, h, w = x.shape
        oh = (h + padding[0] + padding[2] - kernel[0]) // strides[0] + 1
        ow = (w + padding[1] + padding[3] - kernel[1]) // strides[1] + 1
        return self.node(ops.MaxPool2d(kernel, strides, padding), (c, oh, ow), x.dtype, x)

    def sum_pool(
        self,
        x: Tensor,
        kernel: ops.Pair,
        strides: ops.Pair,
        padding: ops.Pads = (0, 0, 0, 0),
        clipped: bool = False,
        dtype: ops.DType | None = None,
        bits: int | None = None,
    ) -> Tensor:
        """Average pooling; with `clipped` each window is divided by its part inside the map."""
        _, c, h, w = x.shape
        oh = (h + padding[0] + padding[2] - kernel[0]) // strides[0] + 1
        ow = (w + padding[1] + padding[3] - kernel[1]) // strides[1] + 1
        zero = self.zero(x)
        r = self.rescale(1 / (kernel[0] * kernel[1]), 1, dtype or x.dtype, bits=bits)
        if clipped:
            inside = [
                [min(j * s - p + k, n) - max(j * s - p, 0) for j in range(o)]
                for s, p, k, n, o in (
                    (strides[0], padding[0], kernel[0], h, oh),
                    (strides[1], padding[1], kernel[1], w, ow),
                )
            ]
            offset = np.int64(ops.storage_offset(x.dtype))
            rows, columns = (np.array(n, np.float64) for n in inside)
            q = requantisation(1 / (rows[:, None] * columns).reshape(-1), 0, int(offset))
            m, s, b = (a.reshape(1, oh, ow) for a in (q.m, q.s, q.b - (offset << q.s)))
            r = ops.Rescale(m, s, b, r.lo, r.hi, x.dtype)
        return self.node(ops.SumPool2d(kernel, zero, r, strides, padding), (c, oh, ow), r.dtype, x)

    def zero(self, x: Tensor) -> int:
        return 0 if x.range.bipolar else int(self.rng.integers(x.range.lo, x.range.hi + 1))

    def add(self, a: Tensor, b: Tensor, dtype: ops.DType | None = None, bits: int | None = None) -> Tensor:
        ratio = 0.3 * 256 / (a.range.hi - a.range.lo + 1)
        r = self.rescale(ratio, 1, dtype or a.dtype, dims=1, bits=bits)
        m2 = int(r.m[0] * self.rng.uniform(-1, 1))
        za, zb = self.zero(a), self.zero(b)
        return self.node(ops.Add(za, zb, m2, r), a.shape[1:], r.dtype, a, b)

    def multiply(self, a: Tensor, b: Tensor) -> Tensor:
        r = self.rescale(0.01, 1, a.dtype, dims=1)
        za, zb = self.zero(a), self.zero(b)
        return self.node(ops.Multiply(za, zb, r), a.shape[1:], a.dtype, a, b)

    def table(self, x: Tensor, dtype: ops.DType = "uint8") -> Tensor:
        return self.node(
            ops.Table(self.rng.integers(0, 256, 256).astype(np.uint8).view(dtype), dtype),
            x.shape[1:],
            dtype,
            x,
        )

    def layout(self, steps: list[ops.LayoutStep], *inputs: Tensor) -> Tensor:
        op = ops.Layout(tuple(steps))
        shape = op.apply([np.zeros(t.shape, np.int8) for t in inputs]).shape
        return self.node(op, shape[1:], inputs[0].dtype, *inputs)

    def shift(
        self, x: Tensor, moves: np.ndarray, strides: ops.Pair = (1, 1), zero_point: int | None = None
    ) -> Tensor:
        """Moves (C, 2); the result is as large as its strides leave it."""
        info = np.iinfo(x.dtype)
        zero = int(self.rng.integers(info.min, info.max + 1)) if zero_point is None else zero_point
        size = (-(-x.shape[2] // strides[0]), -(-x.shape[3] // strides[1]))
        op = ops.Shift(np.asarray(moves, np.int64), zero, strides, size)
        return self.node(op, (x.shape[1], *size), x.dtype, x)

    def graph(self, *outputs: Tensor) -> Graph:
        return Graph("region", tuple(self.inputs), outputs, tuple(self.nodes))

    def feeds(self) -> dict[str, np.ndarray]:
        return {
            t.name: (
                t.range.lo
                + t.range.step * self.rng.integers(0, (t.range.hi - t.range.lo) // t.range.step + 1, t.shape)
            ).astype(t.dtype)
            for t in self.inputs
        }


def held(dtype: str, bits: int | None) -> Range:
    """The values of a width; all of the type's where it is None."""
    if bits is None:
        return Range.of(dtype)
    if bits == 1:
        return Range(-1, 1, 2)
    low = -(1 << (bits - 1)) if dtype.startswith("int") else 0
    return Range(low, low + (1 << bits) - 1)


def shuffle(groups: int, shape: tuple[int, ...]) -> list[ops.LayoutStep]:
    """Channel shuffle of a (1, C, H, W) tensor."""
    n, c, h, w = shape
    return [
        ops.LayoutStep("reshape", ((n, groups, c // groups, h, w),)),
        ops.LayoutStep("transpose", ((0, 2, 1, 3, 4),)),
        ops.LayoutStep("reshape", ((n, c, h, w),)),
    ]


CONCAT = ops.LayoutStep("concat", ((1,),))
