"""Compute equal things once.

    a = op(x), b = op(x)       ->  a = op(x), b = a

Why: exporters repeat activations and reshapes before each reader; each would cost an instruction, a map in
the scratchpad and a quantiser of its own.

QuantizeLinear and DequantizeLinear are left: a later pass gives each reader its own.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from typing import ClassVar

from ..graph import Graph, Node
from .base import RewritePass

_KEEP = frozenset({"QuantizeLinear", "DequantizeLinear", "Bernoulli", "Multinomial"})
_LARGE_BYTES = 1 << 16  # larger constants are equal only if they are the same one


@dataclass(frozen=True)
class MergeDuplicates(RewritePass):
    """Merge nodes that have the same operator, attributes and inputs."""

    name: ClassVar[str] = "merge_duplicates"
    on_quantised: ClassVar[bool] = True

    def __call__(self, graph: Graph) -> bool:
        """In topological order, so that equal chains merge in one run."""
        graph.sort()
        first: dict[tuple[str, ...], Node] = {}
        constants: dict[str, str] = {}
        modified = False
        for node in graph:
            if node.domain or node.op in _KEEP or node.op.startswith("Random"):
                continue
            proto = node.proto()
            proto.ClearField("name")
            proto.ClearField("output")
            proto.ClearField("input")
            inputs = [_constant_key(graph, v, constants) for v in node.inputs]
            key = (proto.SerializeToString(deterministic=True).hex(), str(len(node.outputs)), *inputs)
            twin = first.setdefault(key, node)
            if twin is node or any(graph.is_output(v) for v in node.outputs):
                continue
            for old, new in zip(node.outputs, twin.outputs, strict=True):
                if old:
                    graph.redirect(old, new)
            graph.remove(node, into=twin.name)
            modified = True
        return modified


def _constant_key(graph: Graph, value: str, known: dict[str, str]) -> str:
    array = graph.constant(value)
    if array is None or array.nbytes > _LARGE_BYTES:
        return value
    if value not in known:
        digest = hashlib.sha256(array.tobytes()).hexdigest()
        known[value] = f"={array.dtype}{array.shape}{digest}"
    return known[value]
