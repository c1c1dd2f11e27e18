"""Write constants as the second operand.

    Add(c, x), Mul(c, x), Max(c, x), Min(c, x)   ->  Add(x, c), Mul(x, c), Max(x, c), Min(x, c)

Exact. Why: every later pass and pattern has one place to look.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from ..graph import Graph, Node
from .base import NodePass


@dataclass(frozen=True)
class ConstantSecond(NodePass):
    """Swap the operands of a commutative operator whose first one is constant."""

    name: ClassVar[str] = "constant_second"
    on_quantised: ClassVar[bool] = True
    ops: ClassVar[tuple[str, ...]] = ("Add", "Mul", "Max", "Min")

    def rewrite(self, graph: Graph, node: Node) -> bool:
        """Swap if only the first operand is constant."""
        if len(node.inputs) != 2 or graph.constant(node.inputs[0]) is None:
            return False
        if graph.constant(node.inputs[1]) is not None:
            return False
        graph.set_inputs(node, node.inputs[::-1])
        return True
