"""Write the clip that PACT learns as a clip.

    (|x| - |x - a| + a) * 0.5      ->  Clip(x, 0, a)       also (...) / 2; a one number above 0

Why: it is how the paper defines it and how many trained networks were exported (Choi et al., PACT, arXiv:1805.06085,
equation 1); a clamp is two fields of the requantising instruction, three sums of two functions are not.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from ..graph import Graph, Node
from .base import NodePass


@dataclass(frozen=True)
class PactForms(NodePass):
    """The difference of two magnitudes that is a clip -> Clip."""

    name: ClassVar[str] = "pact_forms"
    on_quantised: ClassVar[bool] = True
    ops: ClassVar[tuple[str, ...]] = ("Mul", "Div")

    def rewrite(self, graph: Graph, node: Node) -> bool:
        """Rewrite `node` if it ends the pattern; what it leaves unread goes with the dead."""
        half = _with_number(graph, node)
        if half is None or half[1] != (0.5 if node.op == "Mul" else 2.0):
            return False
        total = graph.producer(half[0], "Add")
        found = None if total is None else _with_number(graph, total)
        if found is None or found[1] <= 0:
            return False
        difference = graph.producer(found[0], "Sub")
        if difference is None:
            return False
        sizes = [graph.producer(v, "Abs") for v in difference.inputs]
        if sizes[0] is None or sizes[1] is None:
            return False
        x, shifted = sizes[0].inputs[0], graph.producer(sizes[1].inputs[0], "Sub", "Add")
        by = None if shifted is None else _with_number(graph, shifted)
        if shifted is None or by is None or by[0] != x or shifted.inputs[0] != x:
            return False
        if by[1] * (1 if shifted.op == "Sub" else -1) != found[1]:
            return False
        numbers = {"low": 0.0, "high": found[1]}
        bounds = [graph.add_constant(f"{node.name}/{n}", np.array(v, np.float32)) for n, v in numbers.items()]
        graph.become(node, "Clip", [x, *bounds])
        return True


def _with_number(graph: Graph, node: Node) -> tuple[str, float] | None:
    """The operand of a binary operator that is computed, and the one that is a number."""
    side = 0 if graph.scalar(node.inputs[0]) is not None and node.op in ("Add", "Mul") else 1
    number = graph.scalar(node.inputs[side])
    value = node.inputs[1 - side]
    if number is None or graph.shape(value) != graph.shape(node.output) or not graph.is_float(value):
        return None
    return value, number
