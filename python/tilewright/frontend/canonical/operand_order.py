"""Write constants, and operands that are broadcast, second.

    Add(c, x), Mul(c, x), Max(c, x), Min(c, x)     ->  Add(x, c), Mul(x, c), Max(x, c), Min(x, c)
    Mul(gate [1,C,1,1], x [1,C,H,W])               ->  Mul(x, gate)

Exact. Why: VECTOR's second operand may have strides of zero (squeeze-and-excite), its first may not; and
every later pass has one place to look.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from ..graph import Graph, Node
from .base import NodePass


@dataclass(frozen=True)
class OperandOrder(NodePass):
    """Swap the operands of a commutative operator whose first one is constant or broadcast."""

    name: ClassVar[str] = "operand_order"
    on_quantised: ClassVar[bool] = True
    ops: ClassVar[tuple[str, ...]] = ("Add", "Mul", "Max", "Min")

    def rewrite(self, graph: Graph, node: Node) -> bool:
        """Swap if only the second operand is a full map."""
        if len(node.inputs) != 2:
            return False
        first, second = node.inputs
        if graph.constant(second) is not None:
            return False
        if graph.constant(first) is None:
            shapes = [graph.shape(v) for v in (first, second, node.output)]
            if None in shapes or shapes[0] == shapes[2] or shapes[1] != shapes[2]:
                return False
        graph.set_inputs(node, [second, first])
        return True
