"""Write every shift as a depthwise convolution with a one-hot kernel (:mod:`tilewright.frontend.shift_kernel`).

    Conv(x, one-hot, 0)                             ->  Conv(x, one-hot K x K, pads K // 2) without bias
    Slice(Pad(x, 0)), Pad(Slice(x), 0)              ->  the same, if it moves the map and keeps its size
    Concat of such groups of channels, and of zeros ->  the same, then Slice and Concat where channels change places

K is the smallest odd size from 3 up. A shift that moves nothing at stride 1 disappears.

Why: a shift in front of a convolution costs the machine nothing, its parts would be copies; and the quantiser must see
that it changes no value.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import product
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray

from ..graph import Graph, Node
from ..shift_kernel import displacements, one_hot
from .base import RewritePass

I64 = NDArray[np.int64]
_PARTS = ("Slice", "Pad", "Concat", "Split")
_MOST_PARTS = 256
_MOST_ELEMENTS = 1 << 23
_MOST_RUNS = 64
_STRIDES = range(1, 9)


def moves_of(graph: Graph, node: Node) -> I64 | None:
    """Return (dy, dx) of each channel where `node` is a shift, else None. Shapes: (C, 2)."""
    if node.op != "Conv" or node.domain or node.text("auto_pad", "NOTSET") != "NOTSET":
        return None
    weight = graph.constant(node.inputs[1])
    bias = graph.constant(node.input(2)) if node.input(2) else np.zeros(1)
    if weight is None or bias is None or bias.any():
        return None
    return displacements(
        weight, node.int("group", 1), node.ints("pads", [0] * 4), node.ints("dilations", [1, 1])
    )


def is_shift(graph: Graph, node: Node) -> bool:
    """Whether `node` is a shift."""
    return moves_of(graph, node) is not None


@dataclass(frozen=True)
class ShiftForms(RewritePass):
    """Bring shifts into their canonical form."""

    name: ClassVar[str] = "shift_forms"
    on_quantised: ClassVar[bool] = True

    def __call__(self, graph: Graph) -> bool:
        """Convolutions first, then groups, the last node of each before its parts."""
        modified = False
        for node in graph.of("Conv"):
            modified = _normalise(graph, node) or modified
        for node in reversed(list(graph.of("Concat", "Slice", "Pad"))):
            if node in graph:
                modified = _gather_group(graph, node) or modified
        return modified


def _normalise(graph: Graph, node: Node) -> bool:
    moves, before, after = moves_of(graph, node), graph.shape(node.inputs[0]), graph.shape(node.output)
    if moves is None or before is None or after is None:
        return False
    strides = node.ints("strides", [1, 1])
    same = all(a == -(-b // s) for a, b, s in zip(after[2:], before[2:], strides, strict=True))
    if same and not moves.any() and strides == [1, 1] and graph.can_bypass(node):
        graph.bypass(node)
        return True
    kernel = one_hot(moves) if same else None
    size = node.ints("kernel_shape", ())
    if kernel is not None and (size != [*kernel.shape[2:]] or node.ints("dilations", [1, 1]) != [1, 1]):
        _write(graph, node, node.inputs[0], moves, strides)
        return True
    if len(node.inputs) > 2:
        graph.set_inputs(node, node.inputs[:2])
        return True
    return False


def _write(graph: Graph, node: Node, source: str, moves: I64, strides: list[int]) -> None:
    weight = graph.add_constant(f"{node.name}/weight", one_hot(moves))
    graph.become(node, "Conv", [source, weight], **_attributes(moves, strides))


def _attributes(moves: I64, strides: list[int]) -> dict[str, int | list[int]]:
    size = one_hot(moves[:0] if not len(moves) else moves).shape[2]
    return {
        "kernel_shape": [size, size],
        "strides": strides,
        "dilations": [1, 1],
        "pads": [size // 2] * 4,
        "group": len(moves),
    }


def _gather_group(graph: Graph, root: Node) -> bool:
    """Replace `root` and the parts before it if together they shift a tensor's channels."""
    for source in _sources(graph, root):
        index, shape = _index(graph, root.output, source), graph.shape(source)
        if index is None or shape is None:
            return False
        found = _as_shift(index, (shape[1], shape[2], shape[3]))
        if found is None:
            continue
        moves, channels, strides = found
        runs = np.split(channels, np.flatnonzero(np.diff(channels) != 1) + 1)
        if len(runs) > _MOST_RUNS:
            return False
        parts = list(root.inputs)
        if len(runs) == 1 and len(channels) == shape[1]:
            _write(graph, root, source, moves, strides)
        else:
            _reorder(graph, root, source, moves, strides, runs)
        for value in parts:
            _drop(graph, value, root.name)
        return True
    return False


def _reorder(graph: Graph, root: Node, source: str, moves: I64, strides: list[int], runs: list[I64]) -> None:
    """A shift of all channels of `source`, then those that `root` has, in its order."""
    weight = graph.add_constant(f"{root.name}/weight", one_hot(moves))
    attributes = _attributes(moves, strides)
    shifted = graph.emit("Conv", [source, weight], origin=root, suffix="shift", **attributes)
    taken = []
    for i, run in enumerate(runs):
        bounds = (int(run[0]), int(run[-1]) + 1, 1, 1)
        names = [
            graph.add_constant(f"{root.name}/{key}{i}", np.array([n], np.int64))
            for key, n in zip(("start", "end", "axis", "step"), bounds, strict=True)
        ]
        if len(runs) == 1:
            graph.become(root, "Slice", [shifted, *names])
            return
        taken.append(graph.emit("Slice", [shifted, *names], origin=root, suffix=f"run{i}"))
    graph.become(root, "Concat", taken, axis=1)


def _drop(graph: Graph, value: str, into: str) -> None:
    """Remove the parts that only made `value`, which nobody reads any more."""
    node = graph.producer(value, *_PARTS)
    if node is None or any(graph.users(v) or graph.is_output(v) for v in node.outputs):
        return
    inputs = list(node.inputs)
    graph.remove(node, into=into)
    for name in inputs:
        _drop(graph, name, into)


def _sources(graph: Graph, root: Node) -> Iterator[str]:
    """Values that all of `root` is made of by parts, the nearest first."""
    rank = {n: i for i, n in enumerate(graph.nodes)}
    frontier, steps, moved = {root.output}, 0, False
    while steps < _MOST_PARTS:
        makers = {v: graph.producer(v, *_PARTS) for v in frontier}
        known = [(rank[n], v) for v, n in makers.items() if n is not None]
        if steps and len(frontier) == 1 and moved:
            shape = graph.shape(next(iter(frontier)))
            if shape is not None and len(shape) == 4 and np.prod(shape) <= _MOST_ELEMENTS:
                yield next(iter(frontier))
        if not known:
            return
        node = makers[max(known)[1]]
        assert node is not None
        moved = moved or node.op == "Pad" or (node.op == "Concat" and node.int("axis", 1) != 1)
        frontier -= set(node.outputs)
        data = node.inputs if node.op == "Concat" else node.inputs[:1]
        frontier |= {v for v in data if not _is_zero(graph, v)}
        steps += 1


def _is_zero(graph: Graph, value: str) -> bool:
    array = graph.constant(value)
    return array is not None and not array.any()


def _index(graph: Graph, value: str, source: str) -> I64 | None:
    """Number of the element of `source` that each element of `value` is, -1 for zeros. Shapes: (C, H, W)."""
    shape = graph.shape(value)
    if shape is None or len(shape) != 4:
        return None
    if value == source:
        return np.arange(int(np.prod(shape[1:])), dtype=np.int64).reshape(shape[1:])
    if _is_zero(graph, value):
        return np.full(shape[1:], -1, np.int64)
    node = graph.producer(value, *_PARTS)
    if node is None:
        return None
    if node.op == "Concat":
        axis = node.int("axis", 1) % 4
        parts = [_index(graph, v, source) for v in node.inputs]
        known = [p for p in parts if p is not None]
        return np.concatenate(known, axis - 1) if axis and len(known) == len(parts) else None
    whole = _index(graph, node.inputs[0], source)
    if whole is None:
        return None
    if node.op == "Pad":
        return _padded(graph, node, whole)
    return _cut(graph, node, whole, node.outputs.index(value))


def _padded(graph: Graph, node: Node, whole: I64) -> I64 | None:
    amounts = graph.constant(node.inputs[1])
    value = graph.scalar(node.input(2)) if node.input(2) else 0.0
    if node.text("mode", "constant") != "constant" or amounts is None or value != 0.0:
        return None
    axes = graph.constant(node.input(3)) if node.input(3) else np.arange(4)
    if axes is None:
        return None
    full = np.zeros((2, 4), np.int64)
    full[:, [int(a) % 4 for a in axes]] = amounts.reshape(2, -1)
    if full[:, 0].any():
        return None
    for axis in (1, 2, 3):
        before, after = (int(n) for n in full[:, axis])
        width = [(0, 0)] * 3
        width[axis - 1] = (max(before, 0), max(after, 0))
        whole = np.pad(whole, width, constant_values=-1)
        kept = slice(max(-before, 0), whole.shape[axis - 1] - max(-after, 0))
        whole = whole[(slice(None),) * (axis - 1) + (kept,)]
    return whole


def _cut(graph: Graph, node: Node, whole: I64, output: int) -> I64 | None:
    if node.op == "Split":
        sizes, axis = graph.constant(node.input(1)), node.int("axis", 0) % 4
        if sizes is None or axis == 0:
            return None
        first = int(sizes[:output].sum())
        return np.take(whole, np.arange(first, first + int(sizes[output])), axis - 1)
    given = [graph.constant(node.input(i)) for i in range(1, 5)]
    if any(a is None for a in given):  # index_forms comes first
        return None
    for start, end, axis, step in zip(*(a.tolist() for a in given if a is not None), strict=True):
        if axis % 4 == 0:
            return None
        size = whole.shape[axis % 4 - 1]
        whole = np.take(whole, np.arange(*slice(start, end, step).indices(size)), axis % 4 - 1)
    return whole


def _as_shift(index: I64, shape: tuple[int, int, int]) -> tuple[I64, I64, list[int]] | None:
    """Displacement of each channel of the source, the channel that each of the result is, and strides."""
    channels, height, width = shape
    rows, columns = index.shape[1:]
    held = index.reshape(len(index), -1) >= 0
    if not held.any(1).all():
        return None
    at = held.argmax(1)
    first = index.reshape(len(index), -1)[np.arange(len(index)), at]
    source, y, x = first // (height * width), first // width % height, first % width
    for sy, sx in product(_STRIDES, _STRIDES):
        if rows != -(-height // sy) or columns != -(-width // sx):
            continue
        dy, dx = y - at // columns * sy, x - at % columns * sx
        py = dy[:, None, None] + np.arange(rows)[:, None] * sy
        px = dx[:, None, None] + np.arange(columns) * sx
        inside = (py >= 0) & (py < height) & (px >= 0) & (px < width)
        wanted = np.where(inside, (source[:, None, None] * height + py) * width + px, -1)
        if not np.array_equal(wanted, index):
            continue
        moves = np.zeros((channels, 2), np.int64)
        moves[source] = np.stack([dy, dx], 1)
        if (moves[source] != np.stack([dy, dx], 1)).any() or not moves.any():
            return None  # a channel that moves in two ways, or nothing but a layout
        return moves, source, [sy, sx]
    return None
