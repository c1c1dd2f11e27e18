"""Fold a Pad into the window of the operator that follows.

    Conv(Pad(x, p, 0))                   ->  Conv(x, pads + p)
    AveragePool(Pad(x, p, 0))            ->  AveragePool(x, pads + p, count_include_pad = 1)
    MaxPool(Pad(x, p, v))                ->  MaxPool(x, pads + p)   v lowest, or v <= 0 <= x

Exact: the window saw v at those places before and skips them, or counts them as 0, now; in a maximum
they never win (x >= 0 is known after Relu and the like). A pooling
window must keep at least one element of x. Other Pads stay.

Why: padding inside a window costs neither memory nor time on the machine, a Pad of its own costs a copy.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from ..graph import Graph, Node
from .base import NodePass

_NEVER_NEGATIVE = ("Relu", "Sigmoid", "HardSigmoid", "Softmax", "Abs", "Exp", "Sqrt")


@dataclass(frozen=True)
class FoldPad(NodePass):
    """Fold constant padding of the spatial dimensions into Conv, AveragePool and MaxPool."""

    name: ClassVar[str] = "fold_pad"
    ops: ClassVar[tuple[str, ...]] = ("Conv", "AveragePool", "MaxPool")

    def rewrite(self, graph: Graph, node: Node) -> bool:
        """Let `node` read what the Pad before it reads, if that is exact."""
        pad = graph.producer(node.inputs[0], "Pad")
        if pad is None or node.text("auto_pad", "NOTSET") != "NOTSET":
            return False
        found = _padding(graph, pad)
        if found is None:
            return False
        extra, value = found
        kernel = node.ints("kernel_shape", ())
        own = node.ints("pads", [0] * len(extra))
        pads = [a + b for a, b in zip(own, extra, strict=True)]
        attrs = {**node.attrs, "pads": pads}
        if node.op == "Conv":
            if value != 0.0:
                return False
        else:
            if node.int("ceil_mode", 0) or any(d != 1 for d in node.ints("dilations", ())):
                return False
            if any(p >= k for p, k in zip(pads, [*kernel, *kernel], strict=True)):
                return False
            if node.op == "AveragePool":
                if value != 0.0 or (any(own) and not node.int("count_include_pad", 0)):
                    return False
                attrs["count_include_pad"] = 1
            elif not _never_wins(graph, pad.inputs[0], value):
                return False
        graph.become(node, node.op, [pad.inputs[0], *node.inputs[1:]], **attrs)
        if not graph.users(pad.output) and not graph.is_output(pad.output):
            graph.remove(pad, into=node.name)
        return True


def _padding(graph: Graph, pad: Node) -> tuple[list[int], float] | None:
    """Spatial pads (all begins, then all ends) and the value; None where the Pad does something else."""
    amounts, rank = graph.constant(pad.inputs[1]), graph.rank(pad.inputs[0])
    value = graph.scalar(pad.input(2)) if pad.input(2) else 0.0
    if pad.text("mode", "constant") != "constant" or amounts is None or rank is None or value is None:
        return None
    full = np.zeros((2, rank), np.int64)
    if pad.input(3):
        axes = graph.constant(pad.input(3))
        if axes is None:
            return None
        full[:, [int(a) % rank for a in axes]] = amounts.reshape(2, -1)
    else:
        full[:] = amounts.reshape(2, rank)
    if full[:, :2].any() or (full < 0).any():
        return None
    return [int(p) for p in full[:, 2:].reshape(-1)], value


def _never_wins(graph: Graph, value: str, padding: float) -> bool:
    if padding <= float(np.finfo(np.float32).min):
        return True
    made = graph.producer(value)
    if padding > 0.0 or made is None or made.domain:
        return False
    if made.op == "Clip":
        low = graph.scalar(made.input(1))
        return low is not None and low >= 0.0
    return made.op in _NEVER_NEGATIVE
