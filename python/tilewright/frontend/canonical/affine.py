"""What counts as ``y = scale[c] * x + shift[c]``, shared by the passes that fold and lower it."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from ...errors import Fault, ModelError
from ..graph import Array, Graph, Node

Vector = NDArray[np.float64]

AFFINE_OPS = ("BatchNormalization", "Mul", "Div", "Add", "Sub", "Neg", "Conv")


@dataclass(frozen=True)
class Affine:
    """``y = scale[c] * source + shift[c]`` over channel c, which is dimension 1.

    Attributes:
        scale, shift: (C,), in double so that folding rounds once.
        scalar: the file has one number for all channels (a unary operation, which a table can hold).
    """

    source: str
    scale: Vector
    shift: Vector
    scalar: bool


def affine_of(graph: Graph, node: Node) -> Affine | None:
    """`node` as an affine map over channels, or None where it is not one."""
    source = node.inputs[0]
    shape = graph.shape(node.output)
    if node.domain or shape is None or len(shape) < 2 or not graph.is_float(node.output):
        return None
    if node.op == "BatchNormalization":
        return _batch_norm(graph, node)
    if node.op == "Conv":
        return _pointwise(graph, node, shape[1])
    if node.op == "Neg":
        return Affine(source, np.full(shape[1], -1.0), np.zeros(shape[1]), True)
    if node.op not in ("Mul", "Div", "Add", "Sub"):
        return None
    side = next((i for i in (1, 0) if graph.constant(node.inputs[i]) is not None), None)
    if side is None or graph.shape(node.inputs[1 - side]) != shape:
        return None
    constant = graph.constants[node.inputs[side]]
    vector = _per_channel(constant, len(shape), shape[1])
    if vector is None:
        return None
    return _binary(node, side, vector, constant.size == 1)


def _binary(node: Node, side: int, vector: Vector, scalar: bool) -> Affine | None:
    source, one, zero = node.inputs[1 - side], np.ones_like(vector), np.zeros_like(vector)
    if node.op == "Mul":
        return Affine(source, vector, zero, scalar)
    if node.op == "Add":
        return Affine(source, one, vector, scalar)
    if node.op == "Sub":
        return Affine(source, one, -vector, scalar) if side == 1 else Affine(source, -one, vector, scalar)
    if side == 0 or not vector.all():
        return None
    return Affine(source, one / vector, zero, scalar)


def _per_channel(constant: Array, rank: int, channels: int) -> Vector | None:
    if constant.ndim > rank or constant.dtype.kind != "f":
        return None
    aligned = constant.reshape((1,) * (rank - constant.ndim) + constant.shape)
    first = aligned[(slice(0, 1), slice(None), *(slice(0, 1),) * (rank - 2))]
    if aligned.size != first.size and not (aligned == first).all():
        return None  # a number for each position
    return np.broadcast_to(first.reshape(-1).astype(np.float64), (channels,))


def _batch_norm(graph: Graph, node: Node) -> Affine | None:
    found = [graph.constant(v) for v in node.inputs[1:5]]
    if node.int("training_mode", 0) or any(a is None for a in found):
        return None
    gamma, beta, mean, variance = (np.asarray(a, np.float64).reshape(-1) for a in found)
    spread = variance + node.float("epsilon", 1e-5)
    if not (spread > 0).all():
        worst = int(np.argmin(spread))
        message = f"variance + epsilon must be above 0, found {spread[worst]:g} in channel {worst}"
        raise ModelError(Fault(message, f"node {node.name}", "train or export the model again"))
    scale = gamma / np.sqrt(spread)
    return Affine(node.inputs[0], scale, beta - mean * scale, False)


def _pointwise(graph: Graph, node: Node, channels: int) -> Affine | None:
    weight = graph.constant(node.inputs[1])
    bias = graph.constant(node.input(2)) if node.input(2) else np.zeros(channels)
    if weight is None or bias is None or node.int("group", 1) != channels:
        return None
    if weight.shape != (channels,) + (1,) * (weight.ndim - 1):
        return None
    if any(s != 1 for s in node.ints("strides", ())) or any(node.ints("pads", ())):
        return None
    if node.text("auto_pad", "NOTSET") != "NOTSET":
        return None
    return Affine(node.inputs[0], weight.reshape(-1).astype(np.float64), bias.astype(np.float64), False)
