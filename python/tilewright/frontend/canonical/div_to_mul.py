"""Division by a power as multiplication by the inverse power.

    x / b ^ p                  ->  x * b ^ -p          (so does 1 / sqrt)

Why: VECTOR multiplies and has tables of one operand, but does not divide. This also serves the within-channel
LRN of Caffe, which arrives as square, average, scale, add, power, division.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from ..graph import Graph, Node
from .base import NodePass


@dataclass(frozen=True)
class DivToMul(NodePass):
    """Div(x, Pow or Sqrt) -> Mul(x, Pow with the negative exponent)."""

    name: ClassVar[str] = "div_to_mul"
    ops: ClassVar[tuple[str, ...]] = ("Div",)

    def rewrite(self, graph: Graph, node: Node) -> bool:
        """Replace `node` if only it reads the power."""
        power = graph.producer(node.inputs[1], "Pow", "Sqrt")
        if power is None or graph.sole_user(power.output) is not node or node.inputs[0] == power.output:
            return False
        exponent = 0.5 if power.op == "Sqrt" else graph.scalar(power.inputs[1])
        if exponent is None or not graph.is_float(power.output):
            return False
        inverse = graph.add_constant(f"{power.name}/exponent", np.array(-exponent, np.float32))
        graph.become(power, "Pow", [power.inputs[0], inverse])
        graph.become(node, "Mul", [node.inputs[0], power.output])
        return True
