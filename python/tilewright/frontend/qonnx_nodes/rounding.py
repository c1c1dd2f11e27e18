"""The rounding modes of QONNX in NumPy and in ONNX's operators.

ROUND, HALF_EVEN   to the nearest, ties to even        FLOOR, CEIL        down, up
HALF_UP            to the nearest, ties away from 0    DOWN, UP           towards 0, away from 0
HALF_DOWN          to the nearest, ties towards 0
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from ..graph import Graph, Node
from .integers import F32, Refused, steps

_UFUNCS: dict[str, np.ufunc] = {"Round": np.rint, "Floor": np.floor, "Ceil": np.ceil}
_HALF = np.array(0.5, np.float32)


@dataclass(frozen=True)
class Rounding:
    """`op` of the magnitude plus `shift`; of the number itself where `by_sign` is not set."""

    op: str
    shift: float = 0.0
    by_sign: bool = False

    def apply(self, x: F32) -> F32:
        """In float32, as qonnx computes it."""
        rounded = _UFUNCS[self.op]
        if not self.by_sign:
            return np.asarray(rounded(x), np.float32)
        return np.asarray(np.sign(x) * rounded(np.abs(x) + np.float32(self.shift)), np.float32)

    def emit(self, graph: Graph, node: Node, value: str, lo: int) -> str:
        """The same as nodes; `lo` is the least that `value` holds."""
        shifts = {0.5: [("Add", _HALF)], -0.5: [("Sub", _HALF)]}.get(self.shift, [])
        if not self.by_sign or lo >= 0:
            return steps(graph, node, value, [*shifts, (self.op, None)])
        sign = graph.emit("Sign", [value], origin=node, suffix="sign")
        size = steps(graph, node, value, [("Abs", None), *shifts, (self.op, None)])
        return graph.emit("Mul", [sign, size], origin=node, suffix="signed")


MODES: dict[str, Rounding] = {
    "ROUND": Rounding("Round"),
    "HALF_EVEN": Rounding("Round"),
    "FLOOR": Rounding("Floor"),
    "CEIL": Rounding("Ceil"),
    "DOWN": Rounding("Floor", by_sign=True),
    "UP": Rounding("Ceil", by_sign=True),
    "HALF_UP": Rounding("Floor", 0.5, by_sign=True),
    "HALF_DOWN": Rounding("Ceil", -0.5, by_sign=True),
}
TO_NEAREST_EVEN = MODES["ROUND"]


def rounding_of(node: Node, default: str) -> Rounding:
    """The mode that a quantiser names, in upper or lower case."""
    name = node.text("rounding_mode", default).upper()
    if name not in MODES:
        raise Refused(f"expected rounding_mode {', '.join(MODES)}, found {name!r}", "export with ROUND")
    return MODES[name]
