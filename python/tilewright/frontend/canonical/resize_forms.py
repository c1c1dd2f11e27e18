"""One form for nearest-neighbour enlargement by whole factors.

    Resize(x, nearest, any way of writing it), y[i] = x[i // f]
        ->  Resize(x, scales = (1, 1, fh, fw), mode nearest, asymmetric, floor)

The source index of every row and column is computed by the formulas of the ONNX operator specification
(Resize) and compared with i // f; a Resize that differs anywhere stays as it is.

Why: y[i] = x[i // f] is addressing (strides of 0 and 1) on the VECTOR unit and needs no arithmetic.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from ..graph import Graph, Node
from .base import NodePass

# source coordinate of output i: scale s, lengths n (input), m (output)
_COORDINATES: dict[str, Callable[[int, float, int, int], float]] = {
    "asymmetric": lambda i, s, n, m: i / s,
    "half_pixel": lambda i, s, n, m: (i + 0.5) / s - 0.5,
    "half_pixel_symmetric": lambda i, s, n, m: (i + 0.5) / s - 0.5,  # the same where s = m / n
    "pytorch_half_pixel": lambda i, s, n, m: (i + 0.5) / s - 0.5 if m > 1 else 0.0,
    "align_corners": lambda i, s, n, m: i * (n - 1) / (m - 1) if m > 1 else 0.0,
}
_ROUNDINGS: dict[str, Callable[[float], int]] = {
    "floor": math.floor,
    "ceil": math.ceil,
    "round_prefer_floor": lambda v: math.ceil(v - 0.5),
    "round_prefer_ceil": lambda v: math.floor(v + 0.5),
}


@dataclass(frozen=True)
class ResizeForms(NodePass):
    """Write nearest enlargement by whole factors in one way."""

    name: ClassVar[str] = "resize_forms"
    on_quantised: ClassVar[bool] = True
    ops: ClassVar[tuple[str, ...]] = ("Resize",)

    def rewrite(self, graph: Graph, node: Node) -> bool:
        """Normalise `node` if it repeats rows and columns."""
        shape, result = graph.shape(node.inputs[0]), graph.shape(node.output)
        if shape is None or result is None or len(shape) != 4 or shape[:2] != result[:2]:
            return False
        plain = {
            "mode": b"nearest",
            "coordinate_transformation_mode": b"asymmetric",
            "nearest_mode": b"floor",
        }
        factors = [m // n for n, m in zip(shape, result, strict=True)]
        scales = graph.constant(node.input(2))
        done = node.attrs == plain and len(node.inputs) == 3 and not node.inputs[1]
        if done and scales is not None and scales.tolist() == factors:
            return False
        if not _repeats(node, shape[2:], result[2:], factors[2:]):
            return False
        name = graph.add_constant(f"{node.name}/scales", np.array(factors, np.float32))
        graph.become(node, "Resize", [node.inputs[0], "", name], **plain)
        return True


def _repeats(node: Node, size: tuple[int, ...], out: tuple[int, ...], factors: list[int]) -> bool:
    coordinate = _COORDINATES.get(node.text("coordinate_transformation_mode", "half_pixel"))
    rounding = _ROUNDINGS.get(node.text("nearest_mode", "round_prefer_floor"))
    if coordinate is None or rounding is None or node.text("mode", "nearest") != "nearest":
        return False
    for n, m, factor in zip(size, out, factors, strict=True):
        if n * factor != m:
            return False
        for i in range(m):
            source = min(max(rounding(coordinate(i, float(factor), n, m)), 0), n - 1)
            if source != i // factor:
                return False
    return True
