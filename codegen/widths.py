"""In how many bits each tensor of a region is stored."""

from __future__ import annotations

from functools import reduce

from tilewright.codegen.graph import Graph, Tensor
from tilewright.integer import ops
from tilewright.targets.config import Overlay
from tilewright.targets.storage import Range, Storage, storage

KEEPING = (ops.Layout, ops.Shift, ops.MaxPool2d)
"""Operators that move stored numbers as they are."""


def storages(graph: Graph, overlay: Overlay) -> dict[str, Storage]:
    """How each tensor is stored, by name.

    Signed tensors that layouts and pools join have one offset, so all of them have the bits of the widest; unsigned
    ones have none, and keep their own.
    """
    leader: dict[str, str] = {}

    def find(name: str) -> str:
        while leader.setdefault(name, name) != name:
            name = leader[name]
        return name

    tensors: dict[str, Tensor] = {t.name: t for t in (*graph.inputs, *graph.outputs)}
    for node in graph.nodes:
        tensors |= {t.name: t for t in (*node.inputs, node.output)}
        if isinstance(node.operator, KEEPING) and node.output.dtype.startswith("int"):
            for t in node.inputs:
                leader[find(t.name)] = find(node.output.name)
    together: dict[str, list[Range]] = {}
    for t in tensors.values():
        together.setdefault(find(t.name), []).append(t.range)
    return {
        t.name: storage(t.dtype, reduce(Range.join, together[find(t.name)]), overlay.inp_bits)
        for t in tensors.values()
    }
