"""Say everything about Slice, Split, Concat, Softmax and Gather along one axis.

    Slice(x, negative or open ends)        ->  Slice(x, starts, ends, axes, steps), 0 <= start < end <= n
    Split(x, num_outputs)                  ->  Split(x, sizes), axis >= 0
    Gather(x, [i, i+1, ..], axis)          ->  Slice(x, i : j)
    Gather(x, i, axis)                     ->  Reshape(Slice(x, i : i+1))
    Concat, Softmax, ArgMax, ... axis < 0  ->  axis >= 0

Why: these choose where channels lie and which are read; the compiler folds them into addresses and needs
plain numbers.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from ...errors import Fault, ModelError
from ..graph import Graph, Node
from .base import NodePass

_AXIS_DEFAULTS = {"Concat": 0, "Softmax": -1, "LogSoftmax": -1, "ArgMax": 0, "ArgMin": 0, "Hardmax": -1}


@dataclass(frozen=True)
class IndexForms(NodePass):
    """Make indices and axes explicit and not negative."""

    name: ClassVar[str] = "index_forms"
    on_quantised: ClassVar[bool] = True
    ops: ClassVar[tuple[str, ...]] = ("Slice", "Split", "Gather", *_AXIS_DEFAULTS)

    def rewrite(self, graph: Graph, node: Node) -> bool:
        """Normalise `node`."""
        shape = graph.shape(node.inputs[0])
        if shape is None or not shape:
            return False
        if node.op == "Slice":
            return _slice(graph, node, shape)
        if node.op == "Split":
            return _split(graph, node, shape)
        if node.op == "Gather":
            return _gather(graph, node, shape)
        axis = node.int("axis", _AXIS_DEFAULTS[node.op]) % len(shape)
        if node.attrs.get("axis") == axis:
            return False
        graph.become(node, node.op, node.inputs, **{**node.attrs, "axis": axis})
        return True


def _slice(graph: Graph, node: Node, shape: tuple[int, ...]) -> bool:
    given = [graph.constant(node.input(i)) for i in range(1, 5)]
    starts, ends, axes, steps = given
    if starts is None or ends is None:
        return False
    if (axes is None and node.input(3)) or (steps is None and node.input(4)):
        return False
    count = starts.size
    if any(a is not None and a.shape != (count,) for a in given):
        shapes = ", ".join("none" if a is None else str(list(a.shape)) for a in given)
        message = f"expected starts, ends, axes and steps of as many numbers, found shapes {shapes}"
        raise ModelError(Fault(message, f"node {node.name}", "export the model again"))
    where = [int(a) % len(shape) for a in (range(count) if axes is None else axes)]
    by = [1] * count if steps is None else [int(s) for s in steps]
    if any(s <= 0 for s in by):
        return False
    numbers: list[list[int]] = [[], [], where, by]
    for axis, start, end in zip(where, starts, ends, strict=True):
        low, high, _ = slice(int(start), int(end)).indices(shape[axis])
        numbers[0].append(low)
        numbers[1].append(high)
    if all(
        a is not None and a.dtype == np.int64 and a.tolist() == b for a, b in zip(given, numbers, strict=True)
    ):
        return False
    _become_slice(graph, node, numbers)
    return True


def _become_slice(graph: Graph, node: Node, numbers: list[list[int]]) -> None:
    hints = ("starts", "ends", "axes", "steps")
    names = [
        graph.add_constant(f"{node.name}/{hint}", np.array(values, np.int64))
        for hint, values in zip(hints, numbers, strict=True)
    ]
    graph.become(node, "Slice", [node.inputs[0], *names])


def _split(graph: Graph, node: Node, shape: tuple[int, ...]) -> bool:
    axis = node.int("axis", 0) % len(shape)
    parts = [graph.shape(v) for v in node.outputs]
    if any(p is None for p in parts):
        return False
    sizes = [p[axis] for p in parts if p is not None]
    given = graph.constant(node.input(1))
    if node.attrs == {"axis": axis} and given is not None and given.tolist() == sizes:
        return False
    name = graph.add_constant(f"{node.name}/sizes", np.array(sizes, np.int64))
    graph.become(node, "Split", [node.inputs[0], name], axis=axis)
    return True


def _gather(graph: Graph, node: Node, shape: tuple[int, ...]) -> bool:
    indices, result = graph.constant(node.inputs[1]), graph.shape(node.output)
    if indices is None or result is None or indices.ndim > 1 or not indices.size:
        return False
    axis = node.int("axis", 0) % len(shape)
    wanted = [int(i) % shape[axis] for i in indices.reshape(-1)]
    if wanted != list(range(wanted[0], wanted[0] + len(wanted))):
        return False
    _become_slice(graph, node, [[wanted[0]], [wanted[-1] + 1], [axis], [1]])
    if indices.ndim == 0:
        target = graph.add_constant(f"{node.name}/shape", np.array(result, np.int64))
        graph.wrap_output(node, "Reshape", [target], suffix="drop_axis")
    return True
