"""Give every convolution a bias.

    Conv(x, W)                 ->  Conv(x, W, 0)

Why: the machine's requantiser always adds a bias; later passes need not ask whether there is one. A shift computes
nothing and gets none.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from ..graph import Graph, Node
from .base import NodePass
from .shift_forms import is_shift


@dataclass(frozen=True)
class AddBias(NodePass):
    """Give Conv and ConvTranspose a bias of zeros where they have none."""

    name: ClassVar[str] = "add_bias"
    ops: ClassVar[tuple[str, ...]] = ("Conv", "ConvTranspose")

    def rewrite(self, graph: Graph, node: Node) -> bool:
        """Add the third input."""
        shape = graph.shape(node.output)
        if node.input(2) or shape is None or graph.constant(node.inputs[1]) is None or is_shift(graph, node):
            return False
        zeros = np.zeros(shape[1], np.float32)
        graph.set_input(node, 2, graph.add_constant(f"{node.name}/bias", zeros))
        return True
