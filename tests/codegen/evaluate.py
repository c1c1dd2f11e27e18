"""Operators of the integer level in plain NumPy integers, and regions run on a simulator: what the tests compare."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from tilewright.codegen.graph import Graph
from tilewright.integer import ops
from tilewright.targets.arithmetic import rne
from tilewright.targets.config import Overlay
from tilewright.targets.region import CompiledRegion, MapLayout, Packing
from tilewright.targets.sim.program import DramImage, Program, RunResult

Array = NDArray[np.generic]
I64 = NDArray[np.int64]


def rescale(acc: I64, r: ops.Rescale) -> Array:
    """`acc` (1, C, H, W) or (1, C)."""
    p = acc * r.m + r.b
    if r.m_neg is not None and r.b_neg is not None:
        p = np.where(p < np.left_shift(np.int64(r.zero_point), r.s), acc * r.m_neg + r.b_neg, p)
    return np.clip(rne(p, np.broadcast_to(r.s, p.shape)), r.lo, r.hi).astype(r.dtype)


def convolve(x: I64, w: I64, strides: ops.Pair, padding: ops.Pads, dilation: ops.Pair, groups: int) -> I64:
    """x (1, I, H, W) zero padded, w (O, I/groups, KH, KW)."""
    top, left, bottom, right = padding
    x = np.pad(x, ((0, 0), (0, 0), (top, bottom), (left, right)))
    _, _, height, width = x.shape
    outputs, per_group, kh, kw = w.shape
    oh = (height - (kh - 1) * dilation[0] - 1) // strides[0] + 1
    ow = (width - (kw - 1) * dilation[1] - 1) // strides[1] + 1
    acc = np.zeros((1, outputs, oh, ow), np.int64)
    for g in range(groups):
        rows = slice(g * outputs // groups, (g + 1) * outputs // groups)
        part = x[0, g * per_group : (g + 1) * per_group]
        for ky in range(kh):
            for kx in range(kw):
                y0, x0 = ky * dilation[0], kx * dilation[1]
                cut = part[
                    :,
                    y0 : y0 + (oh - 1) * strides[0] + 1 : strides[0],
                    x0 : x0 + (ow - 1) * strides[1] + 1 : strides[1],
                ]
                acc[0, rows] += np.einsum("oi,iyx->oyx", w[rows, :, ky, kx], cut)
    return acc


def convolve_transposed(op: ops.ConvTranspose2d, x: I64, shape: tuple[int, ...]) -> I64:
    """Scatter every product to its result, as ONNX ConvTranspose is defined."""
    w = op.weight.astype(np.int64)
    _, channels, height, width = x.shape
    _, _, oh, ow = shape
    acc = np.zeros((1, shape[1], oh, ow), np.int64)
    per_in, per_out = channels // op.groups, w.shape[1]
    for c in range(channels):
        g = c // per_in
        for ky in range(w.shape[2]):
            for kx in range(w.shape[3]):
                for y in range(height):
                    for i in range(width):
                        oy = y * op.strides[0] + ky * op.dilation[0] - op.padding[0]
                        ox = i * op.strides[1] + kx * op.dilation[1] - op.padding[1]
                        if 0 <= oy < oh and 0 <= ox < ow:
                            acc[0, g * per_out : (g + 1) * per_out, oy, ox] += w[c, :, ky, kx] * x[0, c, y, i]
    return acc


def max_pool(x: Array, op: ops.MaxPool2d) -> Array:
    """Windows of the padded map, padding being below everything."""
    top, left, bottom, right = op.padding
    wide = np.pad(
        x.astype(np.int64), ((0, 0), (0, 0), (top, bottom), (left, right)), constant_values=-(1 << 30)
    )
    _, _, height, width = wide.shape
    oh = (height - (op.kernel[0] - 1) * op.dilation[0] - 1) // op.strides[0] + 1
    ow = (width - (op.kernel[1] - 1) * op.dilation[1] - 1) // op.strides[1] + 1
    taps = [
        wide[
            :,
            :,
            ky : ky + (oh - 1) * op.strides[0] + 1 : op.strides[0],
            kx : kx + (ow - 1) * op.strides[1] + 1 : op.strides[1],
        ]
        for ky in range(0, op.kernel[0] * op.dilation[0], op.dilation[0])
        for kx in range(0, op.kernel[1] * op.dilation[1], op.dilation[1])
    ]
    return np.asarray(np.max(np.array(taps), axis=0), x.dtype)


def shifted(x: Array, op: ops.Shift) -> Array:
    """Element by element, as a shift is defined."""
    _, channels, height, width = x.shape
    y = np.full((1, channels, *op.size), op.zero_point, x.dtype)
    for c, (dy, dx) in enumerate(op.displacement.tolist()):
        for j in range(op.size[0]):
            for i in range(op.size[1]):
                row, column = j * op.strides[0] + dy, i * op.strides[1] + dx
                if 0 <= row < height and 0 <= column < width:
                    y[0, c, j, i] = x[0, c, row, column]
    return y


def evaluate(op: ops.Operator, inputs: Sequence[Array], shape: tuple[int, ...]) -> Array:
    """One operator on arrays with their batch axis."""
    wide = [np.asarray(x).astype(np.int64) for x in inputs]
    if isinstance(op, ops.Conv2d):
        acc = convolve(
            wide[0] - op.zero_point,
            op.weight.astype(np.int64),
            op.strides,
            op.padding,
            op.dilation,
            op.groups,
        )
        return rescale(acc, op.rescale)
    if isinstance(op, ops.ConvTranspose2d):
        return rescale(convolve_transposed(op, wide[0] - op.zero_point, shape), op.rescale)
    if isinstance(op, ops.Dense):
        return rescale((wide[0] - op.zero_point) @ op.weight.astype(np.int64).T, op.rescale)
    if isinstance(op, ops.MaxPool2d):
        return max_pool(np.asarray(inputs[0]), op)
    if isinstance(op, ops.SumPool2d):
        channels = wide[0].shape[1]
        ones = np.ones((channels, 1, *op.kernel), np.int64)
        return rescale(
            convolve(wide[0] - op.zero_point, ones, op.strides, op.padding, (1, 1), channels), op.rescale
        )
    if isinstance(op, ops.Add):
        r = op.rescale
        p = (wide[0] - op.zero_point_a) * r.m.item() + (wide[1] - op.zero_point_b) * op.m2 + r.b.item()
        return np.clip(rne(p, r.s.item()), r.lo, r.hi).astype(r.dtype)
    if isinstance(op, ops.Multiply):
        r = op.rescale
        p = (wide[0] - op.zero_point_a) * (wide[1] - op.zero_point_b) * r.m.item() + r.b.item()
        return np.clip(rne(p, r.s.item()), r.lo, r.hi).astype(r.dtype)
    if isinstance(op, ops.Table):
        low = np.iinfo(str(inputs[0].dtype)).min
        return op.table.astype(op.dtype)[wide[0] - low]
    if isinstance(op, ops.Shift):
        return shifted(np.asarray(inputs[0]), op)
    assert isinstance(op, ops.Layout)
    return op.apply([np.asarray(x) for x in inputs])


def evaluate_graph(graph: Graph, feeds: Mapping[str, Array]) -> dict[str, Array]:
    """All tensors of a graph."""
    values = dict(feeds)
    for node in graph.nodes:
        values[node.output.name] = evaluate(
            node.operator, [values[t.name] for t in node.inputs], node.output.shape
        )
        assert values[node.output.name].shape == node.output.shape, node.name
    return values


def pack(layout: MapLayout, x: Array, segment: NDArray[np.uint8], inp_bits: int) -> None:
    """Write a tensor to the input segment, element by element as `MapLayout` says."""
    c, h, w = (*x.shape[1:], 1, 1)[:3]
    wide = x.astype(np.int64).reshape(c, h, w)
    stored = (wide + 1) // 2 if layout.bits == 1 else wide + offset(layout)
    assert stored.min() >= 0 and stored.max() < 1 << layout.bits
    p = layout.packing or Packing(w, h, 1)
    lane = np.array(layout.lanes)
    plane = lane // (c * p.taps)
    column = np.arange(p.columns)[:, None] * p.stride + lane // c % p.taps * p.dilation + p.offset
    row = np.arange(p.rows) + p.top
    inside = ((column >= 0) & (column < w))[:, :, None] & ((row >= 0) & (row < h))
    at = (lane % c)[:, None], np.clip(row, 0, h - 1), np.clip(column, 0, w - 1)[:, :, None]
    values = np.where(inside, stored[at], p.fill)  # (columns, lanes, rows)
    values = values >> plane[:, None] * inp_bits
    pixels = np.where(lane[:, None] < 0, 0, values).transpose(2, 0, 1).astype(np.uint8)
    bits = np.unpackbits(pixels.reshape(-1, 1), axis=1, bitorder="little")[:, :inp_bits]
    data = np.packbits(bits.reshape(-1), bitorder="little")
    segment[layout.offset : layout.offset + data.size] = data


def unpack(layout: MapLayout, segment: NDArray[np.uint8], inp_bits: int) -> Array:
    """Read a tensor from the output segment."""
    c, h, w = (*layout.shape[1:], 1, 1)[:3]
    lanes = np.array(layout.lanes)
    data = segment[layout.offset : layout.offset + h * w * len(lanes) * inp_bits // 8]
    bits = np.unpackbits(data, bitorder="little").reshape(h * w, len(lanes), inp_bits).astype(np.int64)
    pixels = (bits << np.arange(inp_bits)).sum(2)
    x = np.zeros((c, h * w), np.int64)
    for number in np.flatnonzero(lanes >= 0):
        plane, channel = divmod(int(lanes[number]), c)
        x[channel] += pixels[:, number] << plane * inp_bits
    x = 2 * x - 1 if layout.bits == 1 else x - offset(layout)
    return x.astype(layout.dtype).reshape(layout.shape)


def offset(layout: MapLayout) -> int:
    return 1 << (layout.bits - 1) if layout.dtype in ("int8", "int16") else 0


def of_image(layout: MapLayout, image: int, inp_bits: int) -> MapLayout:
    """Where a tensor of an image lies, of a batch whose images lie one behind the other."""
    _, _, h, w = (*layout.shape, 1, 1)[:4]
    p = layout.packing or Packing(w, h, 1)
    size = p.rows * p.columns * len(layout.lanes) * inp_bits // 8
    return replace(layout, offset=layout.offset + image * size)


def run_region(
    region: CompiledRegion,
    overlay: Overlay,
    feeds: Mapping[str, Array],
    simulator: Callable[[Program, DramImage], RunResult],
) -> dict[str, Array]:
    """Run a compiled region on a simulator."""
    (outputs,) = run_images(region, overlay, [feeds], simulator)
    return outputs


def dram_image(region: CompiledRegion, overlay: Overlay, images: Sequence[Mapping[str, Array]]) -> DramImage:
    """DRAM before a region runs on its batch of images."""
    inputs = np.zeros(region.input_bytes, np.uint8)
    for image, feeds in enumerate(images):
        for layout in region.inputs:
            pack(of_image(layout, image, overlay.inp_bits), feeds[layout.name], inputs, overlay.inp_bits)
    return DramImage(
        np.frombuffer(region.constants, np.uint8), inputs, region.workspace_bytes, region.output_bytes
    )


def run_images(
    region: CompiledRegion,
    overlay: Overlay,
    images: Sequence[Mapping[str, Array]],
    simulator: Callable[[Program, DramImage], RunResult],
) -> list[dict[str, Array]]:
    """Run a compiled region on its batch of images."""
    dram = dram_image(region, overlay, images)
    layers = [region.layers[i] for i in region.layer_of]
    result = simulator(Program(region.stream, overlay, layers), dram)
    return [
        {
            layout.name: unpack(of_image(layout, image, overlay.inp_bits), result.outputs, overlay.inp_bits)
            for layout in region.outputs
        }
        for image in range(len(images))
    ]
