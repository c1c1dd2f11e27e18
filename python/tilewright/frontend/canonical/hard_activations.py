"""Recognise HardSigmoid and HardSwish that were written out.

    Clip(x + c, 0, d) / d                       ->  HardSigmoid(x, alpha = 1/d, beta = c/d)
    x * HardSigmoid(x, 1/6, 1/2), x * Clip(x + 3, 0, 6) / 6   ->  HardSwish(x)

Source: Howard et al., "Searching for MobileNetV3", arXiv:1905.02244, section 5.2.
Why: written out, three roundings to 8 bits and a product of two maps; as one unary operator one table.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import ClassVar

from ..graph import Graph, Node
from .base import NodePass

_RELATIVE = 1e-5  # exporters write 1/6 with as few as six digits


@dataclass(frozen=True)
class HardActivations(NodePass):
    """Written-out HardSigmoid and HardSwish -> one operator."""

    name: ClassVar[str] = "hard_activations"
    tolerance: ClassVar[float] = _RELATIVE
    ops: ClassVar[tuple[str, ...]] = ("Mul", "Div")

    def rewrite(self, graph: Graph, node: Node) -> bool:
        """Match `node` as the last operator of one of the patterns."""
        return _swish(graph, node) or _scaled(graph, node)


def _same(found: float | None, wanted: float) -> bool:
    return found is not None and math.isclose(found, wanted, rel_tol=_RELATIVE)


def _factor(graph: Graph, node: Node) -> tuple[str, float] | None:
    """`node` as value * number."""
    for side in (1, 0):
        number = graph.scalar(node.inputs[side])
        if number is not None and graph.shape(node.inputs[1 - side]) == graph.shape(node.output):
            if node.op == "Mul":
                return node.inputs[1 - side], number
            return (node.inputs[0], 1.0 / number) if side == 1 and number else None
    return None


def _ramp(graph: Graph, value: str) -> tuple[str, float, float] | None:
    """`value` as Clip(x + c, 0, d): x, c, d."""
    clip = graph.producer(value, "Clip")
    if clip is None or graph.scalar(clip.input(1)) != 0.0:
        return None
    high = graph.scalar(clip.input(2))
    add = graph.producer(clip.inputs[0], "Add")
    if high is None or high <= 0 or add is None:
        return None
    for side in (1, 0):
        shift = graph.scalar(add.inputs[side])
        if shift is not None and graph.shape(add.inputs[1 - side]) == graph.shape(add.output):
            return add.inputs[1 - side], shift, high
    return None


def _scaled(graph: Graph, node: Node) -> bool:
    found = _factor(graph, node)
    if found is None:
        return False
    value, factor = found
    ramp = _ramp(graph, value)
    if ramp is not None and _same(factor, 1.0 / ramp[2]):
        source, shift, high = ramp
        _take_over(graph, node, value, "HardSigmoid", source, alpha=1.0 / high, beta=shift / high)
        return True
    product = graph.producer(value, "Mul")
    if product is None or not _same(factor, 1.0 / 6.0):
        return False
    for side in (0, 1):
        ramp = _ramp(graph, product.inputs[side])
        if (
            ramp is not None
            and ramp[0] == product.inputs[1 - side]
            and _same(ramp[1], 3.0)
            and _same(ramp[2], 6.0)
        ):
            _take_over(graph, node, value, "HardSwish", ramp[0])
            return True
    return False


def _swish(graph: Graph, node: Node) -> bool:
    if node.op != "Mul":
        return False
    for side in (0, 1):
        gate = graph.producer(node.inputs[side], "HardSigmoid")
        if gate is None or gate.inputs[0] != node.inputs[1 - side]:
            continue
        if _same(gate.float("alpha", 0.2), 1.0 / 6.0) and _same(gate.float("beta", 0.5), 0.5):
            _take_over(graph, node, node.inputs[side], "HardSwish", gate.inputs[0])
            return True
    return False


def _take_over(graph: Graph, node: Node, value: str, op: str, source: str, **attrs: float) -> None:
    """Let `node` compute `op` of `source`, and remove what led to `value` if nobody else reads it."""
    graph.become(node, op, [source], **attrs)
    pending = [value]
    while pending:
        made = graph.producer(pending.pop())
        if made is None or made.output == source or graph.users(made.output) or graph.is_output(made.output):
            continue
        graph.remove(made, into=node.name)
        pending += [v for v in made.inputs if v and v != source]
