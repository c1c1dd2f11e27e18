"""How many bits each operand has.

Widths below 8 are for what MAC units multiply: their weights, and the activations that they read. What only vector
operations read (operands of additions, of averages, of tables) has 8 bits: the machine stores it as planes, at one more
access each, and a sum of rounded terms is the first to suffer.

The first and last layers, those with no MAC unit before or after them, have `edge_bits` for both operands: they hold
few of the operations and most of the sensitivity (Zhou et al., "DoReFa-Net", 2016, leaves them alone). What
8 bits lose after training is little: Krishnamoorthi, "Quantizing deep convolutional networks for efficient inference",
2018.

Tensors with one scale have one width, the largest that a reader asks for.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from tilewright.quantize.graph import Graph
from tilewright.quantize.options import WHOLE_BITS, QuantizeOptions
from tilewright.quantize.units import Unit


@dataclass(frozen=True)
class Operands:
    """Bits of a MAC unit's weights and of the activations that it reads."""

    weights: int
    activations: int


Widths = Mapping[str, Operands]
"""By the name of the MAC unit's first node."""


def make_widths(graph: Graph, units: list[Unit], options: QuantizeOptions) -> dict[str, Operands]:
    """Return the widths of all MAC units, before mixed precision."""
    inner = Operands(options.bits, options.activation_width)
    edge = inner if options.edge_bits is None else Operands(options.edge_bits, options.edge_bits)
    edges = edge_units(graph, units)
    return {
        unit.head.name: edge if unit.head.name in edges else inner for unit in units if unit.kind == "mac"
    }


def edge_units(graph: Graph, units: list[Unit]) -> set[str]:
    """Return the first and last MAC units, by their first nodes' names."""
    heads = {unit.head.name for unit in units if unit.kind == "mac"}
    behind: set[str] = set()
    first = set()
    for node in graph.nodes:
        follows = not behind.isdisjoint(node.input)
        if node.name in heads and not follows:
            first.add(node.name)
        if follows or node.name in heads:
            behind |= set(node.output)
    before: set[str] = set()
    last = set()
    for node in reversed(graph.nodes):
        leads = not before.isdisjoint(node.output)
        if node.name in heads and not leads:
            last.add(node.name)
        if leads or node.name in heads:
            before |= {name for name in node.input if name}
    return first | last


def wanted_bits(graph: Graph, units: list[Unit], widths: Widths) -> dict[str, int]:
    """Return the bits that MAC units ask of the tensors that they read; graph inputs are integers of 8 bits."""
    wanted: dict[str, int] = {}
    for unit in units:
        if unit.kind == "mac":
            name = unit.inputs[0]
            wanted[name] = max(wanted.get(name, 0), widths[unit.head.name].activations)
    return wanted | dict.fromkeys(graph.inputs, WHOLE_BITS)
