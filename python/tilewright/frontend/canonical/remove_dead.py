"""Remove nodes that no output depends on.

    y = op(x), y never read    ->  nothing

Why: training leftovers and what other rewrites leave behind would be compiled, calibrated and run.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from ..graph import Graph
from .base import RewritePass


@dataclass(frozen=True)
class RemoveDead(RewritePass):
    """Remove nodes that no output depends on, and optional outputs that nobody reads."""

    name: ClassVar[str] = "remove_dead"
    on_quantised: ClassVar[bool] = True

    def __call__(self, graph: Graph) -> bool:
        """From the outputs backwards, so that one run is enough."""
        modified = False
        graph.sort()
        for node in reversed(graph.nodes.copy()):
            read = [v for v in node.outputs if v and (graph.users(v) or graph.is_output(v))]
            if not read:
                graph.remove(node, into="")
                modified = True
                continue
            optional = node.op in ("MaxPool", "Dropout") and not node.domain and len(node.outputs) > 1
            if optional and node.outputs[1] not in read:
                graph.drop_outputs(node, 1)
                modified = True
        return modified
