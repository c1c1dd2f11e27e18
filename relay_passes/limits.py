"""What an operator must keep to for the machine: limits of instruction fields, and layouts that are free.

The numbers come from the instruction table; the code generator's own check (`codegen/legal.py`) may refuse more.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from tilewright.codegen.graph import Node, Tensor
from tilewright.relay_passes.integer.ops import (
    Conv2d,
    ConvTranspose2d,
    Layout,
    LayoutStep,
    MaxPool2d,
    Operator,
    SumPool2d,
)
from tilewright.relay_passes.predicate import Ok, Reject, Verdict
from tilewright.targets.isa.spec import Load, Matrix, Vector, layout

_MATRIX = {f.name: f.bits.hi for f in layout(Matrix)}
_VECTOR = {f.name: f.bits.hi for f in layout(Vector)}
_CHANNELS = {f.name: f.bits.hi for f in layout(Load)}["n1"]
MAX_PHASES = 8
"""Largest factor of a resize or DepthToSpace."""

Check = Callable[[Node], Verdict]


@dataclass(frozen=True)
class Limit:
    """A field that must hold a value."""

    what: str
    value: int
    limit: int


def _first(node: Node, limits: Sequence[Limit]) -> Verdict:
    for limit in limits:
        if limit.value > limit.limit:
            return Reject(
                f"{limit.what} must be at most {limit.limit}",
                str(limit.value),
                node.name,
                "it runs on the host; split the layer to change that",
            )
    return Ok()


def _maps(node: Node) -> list[Limit]:
    limits = []
    for tensor in (*node.inputs, node.output):
        if len(tensor.shape) == 4:
            limits += [
                Limit(f"the height of {tensor.name}", tensor.shape[2], _MATRIX["height"]),
                Limit(f"the width of {tensor.name}", tensor.shape[3], _MATRIX["width"]),
            ]
    return limits


def _channels(node: Node) -> list[Limit]:
    return [Limit(f"the channels of {t.name}", t.shape[1], _CHANNELS) for t in (*node.inputs, node.output)]


def _window(kernel: Sequence[int], strides: Sequence[int], dilation: Sequence[int], most: int) -> list[Limit]:
    return [
        Limit("the kernel", max(kernel), most),
        Limit("the stride", max(strides), _MATRIX["stride_y"]),
        Limit("the dilation", max(dilation), _MATRIX["dilation_y"]),
    ]


def _conv(node: Node, op: Operator) -> Verdict:
    assert isinstance(op, Conv2d | ConvTranspose2d)
    depthwise = isinstance(op, Conv2d) and op.groups == op.weight.shape[0] > 1
    most = _VECTOR["kernel_y"] if depthwise else _MATRIX["n_ky"]
    return _first(
        node, [*_window(op.weight.shape[2:], op.strides, op.dilation, most), *_maps(node), *_channels(node)]
    )


def _pool(node: Node, op: Operator) -> Verdict:
    assert isinstance(op, MaxPool2d | SumPool2d)
    dilation = op.dilation if isinstance(op, MaxPool2d) else (1, 1)
    return _first(
        node, [*_window(op.kernel, op.strides, dilation, _VECTOR["kernel_y"]), *_maps(node), *_channels(node)]
    )


_ROW, _CHANNEL = 1 << 20, 1 << 40


def element_map(op: Layout, inputs: Sequence[Tensor]) -> NDArray[np.int64]:
    """Where each element of a layout comes from: channel * 2^40 + row * 2^20 + column, -1 for padding.

    Channels are numbered over all operands; a vector (1, K) is K channels of one element.
    """
    arrays, first = [], 0
    for tensor in inputs:
        c, h, w = tensor.shape[1:] if len(tensor.shape) == 4 else (int(np.prod(tensor.shape)), 1, 1)
        index = (
            (np.arange(first, first + c) * _CHANNEL)[:, None, None]
            + (np.arange(h) * _ROW)[:, None]
            + np.arange(w)
        )
        arrays.append(index.reshape(tensor.shape))
        first += c
    steps = [LayoutStep("pad", (*s.args[:2], (-1,))) if s.kind == "pad" else s for s in op.steps]
    return np.asarray(Layout(tuple(steps)).apply(arrays), np.int64)


def _is_affine(block: NDArray[np.int64]) -> bool:
    """Whether a plane is padding around a rectangle that reads one channel with fixed row and column strides."""
    inside = block >= 0
    if not inside.any():
        return True
    rows, cols = np.flatnonzero(inside.any(1)), np.flatnonzero(inside.any(0))
    part = block[rows[0] : rows[-1] + 1, cols[0] : cols[-1] + 1]
    if (part < 0).any() or (part // _CHANNEL != part[0, 0] // _CHANNEL).any():
        return False
    return all(len({int(d) for d in np.diff(part, axis=axis).reshape(-1)}) <= 1 for axis in (0, 1))


def _gathers_channels(index: NDArray[np.int64]) -> bool:
    """Whether each channel, or each of its phases at a common factor, is a channel of the operands."""
    for factor in range(1, MAX_PHASES + 1):
        if factor > 1 and (index.shape[1] % factor or index.shape[2] % factor):
            continue
        phases = [(y, x) for y in range(factor) for x in range(factor)]
        if all(_is_affine(plane[y::factor, x::factor]) for plane in index for y, x in phases):
            return True
    return False


def _layout(node: Node, op: Operator) -> Verdict:
    assert isinstance(op, Layout)
    for tensor in (*node.inputs, node.output):
        if len(tensor.shape) not in (2, 4) or tensor.shape[0] != 1:
            return Reject(
                "a layout must be of maps (1, C, H, W) or vectors (1, K)",
                f"shape {list(tensor.shape)} of {tensor.name}",
                node.name,
                "it runs on the host; keep four dimensions",
            )
    index = element_map(op, node.inputs)
    index = index[0] if index.ndim == 4 else index.reshape(-1, 1, 1)
    if not _gathers_channels(index) and not is_flatten(node):
        return Reject(
            "a layout must move whole channels (slice, concat, shuffle, nearest resize, DepthToSpace, H/W transpose)",
            " -> ".join(s.kind for s in op.steps),
            node.name,
            "it runs on the host; move whole channels to change that",
        )
    return _first(node, _maps(node))


def is_flatten(node: Node) -> bool:
    """Whether a layout makes a vector of a map in the order of its elements."""
    return (
        isinstance(node.operator, Layout)
        and len(node.output.shape) == 2
        and len(node.inputs) == 1
        and len(node.inputs[0].shape) == 4
        and [s.kind for s in node.operator.steps] == ["reshape"]
    )


_RULES: dict[type[Operator], Callable[[Node, Operator], Verdict]] = {
    Conv2d: _conv,
    ConvTranspose2d: _conv,
    MaxPool2d: _pool,
    SumPool2d: _pool,
    Layout: _layout,
}


def check(node: Node) -> Verdict:
    """Whether the machine can take an operator at all."""
    rule = _RULES.get(type(node.operator))
    return _first(node, _maps(node)) if rule is None else rule(node, node.operator)
