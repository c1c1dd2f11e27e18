"""Normalisation over channels as operators that the machine has.

    y = x / f(sum over c of x[c]^2)          f unary, e.g. sqrt(. + eps), max(sqrt(.), eps)
      ->  q = Mul(x, x);  s = Conv1x1(q, ones CxC);  p = 1/f(s);  y = Mul(x, p)
    scale[c] * x * (s + eps)^-0.5  ->  x * (s / scale[c]^2 + eps / scale[c]^2)^-0.5      (scale > 0)

The sum arrives as ReduceL2, ReduceSumSquare, or ReduceSum of a square, over the channels; or all of it as
LpNormalization (p = 2). Source: Liu et al., "ParseNet", arXiv:1506.04579, section 3.3.

Why: the sum over channels is a 1x1 convolution of ones, which gives it to every channel, so that the
product needs no broadcast over lanes; the rest of f is a table.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from ..graph import Graph, Node
from .affine import affine_of
from .base import NodePass
from .lower_lrn import POINTWISE

_UNARY = frozenset({"Sqrt", "Add", "Clip", "Max", "Pow", "Mul"})
_SUMS = ("ReduceL2", "ReduceSumSquare", "ReduceSum")
# Where the file has no epsilon, a map of zeros would give 0 * inf; far below float32's resolution of any sum.
_TINY = 1e-12


@dataclass(frozen=True)
class LowerNormalize(NodePass):
    """Div(x, f(Reduce(x))) and LpNormalization -> Mul, Conv 1x1, unary operators, Mul."""

    name: ClassVar[str] = "lower_normalize"
    ops: ClassVar[tuple[str, ...]] = ("Div", "LpNormalization", "Mul", "Conv")

    def rewrite(self, graph: Graph, node: Node) -> bool:
        """Replace the division, or fold a scale that follows the product."""
        if node.op in ("Mul", "Conv"):
            return _fold_scale(graph, node)
        shape = graph.shape(node.output)
        source = node.inputs[0]
        if shape is None or len(shape) != 4 or not graph.is_float(source) or graph.shape(source) != shape:
            return False
        if node.op == "LpNormalization":
            if node.int("axis", -1) % 4 != 1 or node.int("p", 2) != 2:
                return False
            value = graph.emit("Sqrt", [_sum(graph, node, source)], origin=node, suffix="norm")
            graph.become(node, "Div", [source, value])
            return True
        chain = _chain(graph, node)
        if chain is None:
            return False
        value = _sum(graph, node, source)
        for step in chain:
            if step.op == "ReduceL2":
                value = graph.emit("Sqrt", [value], origin=node, suffix="norm")
            elif step.op in _UNARY:
                value = graph.emit(
                    step.op, [value, *step.inputs[1:]], origin=node, suffix=step.op.lower(), **step.attrs
                )
        last = graph.producer(value)
        if last is None or last.op not in ("Sqrt", "Pow"):
            minus = graph.add_constant(f"{node.name}/exponent", np.array(-1.0, np.float32))
            value = graph.emit("Pow", [value, minus], origin=node, suffix="inverse")
            graph.become(node, "Mul", [source, value])
        else:
            graph.become(node, "Div", [source, value])  # div_to_mul does the rest
        for step in reversed(chain):
            graph.remove(step, into=node.name)
        return True


def _sum(graph: Graph, node: Node, source: str) -> str:
    """The sum of squares over the channels, for every channel."""
    shape = graph.shape(source)
    assert shape is not None
    channels = shape[1]
    square = graph.emit("Mul", [source, source], origin=node, suffix="square")
    names = [
        graph.add_constant(f"{node.name}/ones", np.ones((channels, channels, 1, 1), np.float32)),
        graph.add_constant(f"{node.name}/epsilon", np.full(channels, _TINY, np.float32)),
    ]
    return graph.emit("Conv", [square, *names], origin=node, suffix="sum", **POINTWISE)


def _chain(graph: Graph, node: Node) -> list[Node] | None:
    """The operators from the sum over channels to the divisor, or None if this is no normalisation.

    Each is read by the next one only, is unary with scalar constants, and the sum is one of squares of x.
    """
    steps: list[Node] = []
    reader = node
    value = node.inputs[1]
    while True:
        made = graph.producer(value)
        if made is None or made.domain or graph.sole_user(value) is not reader:
            return None
        steps.insert(0, made)
        if made.op in _SUMS:
            break
        if made.op == "Expand":
            if graph.constant(made.inputs[1]) is None:
                return None
        elif made.op not in _UNARY or any(graph.scalar(v) is None for v in made.inputs[1:] if v):
            return None
        reader, value = made, made.inputs[0]
    total = steps[0]
    axes = graph.constant(total.input(1))
    if axes is None or [int(a) % 4 for a in axes.reshape(-1)] != [1] or not total.int("keepdims", 1):
        return None
    if total.op != "ReduceSum":
        return steps if total.inputs[0] == node.inputs[0] else None
    square = graph.producer(total.inputs[0], "Mul", "Pow")
    if square is None or square.inputs[0] != node.inputs[0]:
        return None
    if square.op == "Mul":
        return steps if square.inputs[1] == node.inputs[0] else None
    return steps if graph.scalar(square.inputs[1]) == 2.0 else None


def _fold_scale(graph: Graph, node: Node) -> bool:
    """scale * x * s^-0.5 -> x * (s / scale^2)^-0.5, where s comes from a convolution."""
    affine = affine_of(graph, node)
    if affine is None or affine.shift.any() or not (affine.scale > 0).all():
        return False
    product = graph.producer(affine.source, "Mul")
    if product is None or graph.sole_user(product.output) is not node:
        return False
    power = graph.producer(product.inputs[1], "Pow")
    if power is None or graph.scalar(power.inputs[1]) != -0.5 or graph.sole_user(power.output) is not product:
        return False
    layer = graph.producer(power.inputs[0], "Conv")
    if layer is None or graph.sole_user(layer.output) is not power:
        return False
    weight, bias = graph.constant(layer.inputs[1]), graph.constant(layer.input(2))
    if weight is None or bias is None or weight.shape[0] != affine.scale.size:
        return False
    factor = affine.scale**-2.0
    scaled = weight.astype(np.float64) * factor[:, None, None, None]
    if max(np.abs(scaled).max(), (np.abs(bias) * factor).max()) > np.finfo(np.float32).max:
        return False
    names = [
        graph.add_constant(f"{layer.name}/weight", scaled.astype(np.float32)),
        graph.add_constant(f"{layer.name}/bias", (bias.astype(np.float64) * factor).astype(np.float32)),
    ]
    graph.set_inputs(layer, [layer.inputs[0], *names])
    graph.absorb(product, node)
    return True
