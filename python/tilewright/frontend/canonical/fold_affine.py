"""Fold per-channel scales and shifts into a neighbouring convolution or dense layer.

    s * (W x + b) + t          ->  (s W) x + (s b + t)        backwards: Conv, ConvTranspose, Gemm
    W (s x + t) + b            ->  (W s) x + (b + W t)        forwards: Conv (t = 0 or no padding), Gemm

s, t per output channel; BatchNormalization is s = gamma / sqrt(var + eps), t = beta - mean * s
(Ioffe and Szegedy, arXiv:1502.03167). Forwards, padding would have to be -t/s and not 0.

Why: the folded layer costs nothing, and its output is quantised once and not twice.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np

from ..graph import Graph, Node
from .affine import AFFINE_OPS, Affine, Vector, affine_of
from .base import RewritePass

_LINEAR = ("Conv", "ConvTranspose", "Gemm")


@dataclass(frozen=True)
class FoldAffine(RewritePass):
    """Fold BatchNormalization and per-channel or scalar Mul, Div, Add, Sub into a linear layer."""

    name: ClassVar[str] = "fold_affine"

    def __call__(self, graph: Graph) -> bool:
        """Backwards wherever possible, so that layers keep their names, then forwards."""
        modified = False
        for fold in (_backwards, _forwards):
            for node in graph.of(*AFFINE_OPS):
                affine = affine_of(graph, node)
                modified = (affine is not None and fold(graph, node, affine)) or modified
        return modified


def _backwards(graph: Graph, node: Node, affine: Affine) -> bool:
    layer = graph.producer(affine.source, *_LINEAR)
    if layer is None or graph.sole_user(affine.source) is not node:
        return False
    weight, bias = _parameters(graph, layer)
    if weight is None or bias is None:
        return False
    if layer.op == "ConvTranspose":  # (I, O/g, kh, kw): output channel g*O/g + o
        group = layer.int("group", 1)
        scale = affine.scale.reshape(group, 1, weight.shape[1], *(1,) * (weight.ndim - 2))
        grouped = weight.reshape(group, weight.shape[0] // group, *weight.shape[1:])
        scaled = (grouped * scale).reshape(weight.shape)
    else:
        scaled = weight * affine.scale.reshape(-1, *(1,) * (weight.ndim - 1))
    if not _store(graph, layer, layer.inputs[0], scaled, bias * affine.scale + affine.shift):
        return False
    graph.absorb(layer, node)
    return True


def _forwards(graph: Graph, node: Node, affine: Affine) -> bool:
    layer = graph.sole_user(node.output, "Conv", "Gemm")
    if layer is None or layer.inputs[0] != node.output or layer.inputs.count(node.output) != 1:
        return False
    weight, bias = _parameters(graph, layer)
    padded = any(layer.ints("pads", ())) or layer.text("auto_pad", "NOTSET") != "NOTSET"
    if weight is None or bias is None or (padded and affine.shift.any()):
        return False
    group = layer.int("group", 1)
    grouped = weight.reshape(group, weight.shape[0] // group, *weight.shape[1:])
    shape = (group, 1, weight.shape[1], *(1,) * (weight.ndim - 2))
    added = (grouped * affine.shift.reshape(shape)).reshape(weight.shape[0], -1).sum(axis=1)
    scaled = (grouped * affine.scale.reshape(shape)).reshape(weight.shape)
    if not _store(graph, layer, affine.source, scaled, bias + added):
        return False
    graph.remove(node, into=layer.name)
    return True


def _parameters(graph: Graph, layer: Node) -> tuple[Vector | None, Vector | None]:
    weight = graph.constant(layer.inputs[1])
    if weight is None or not graph.is_float(layer.inputs[1]):
        return None, None
    if layer.op == "Gemm" and layer.attrs != {"transB": 1}:
        return None, None  # gemm_forms comes first
    outputs = weight.shape[1] * layer.int("group", 1) if layer.op == "ConvTranspose" else weight.shape[0]
    bias = graph.constant(layer.input(2)) if layer.input(2) else np.zeros(outputs)
    if bias is None or bias.shape != (outputs,):
        return None, None
    return weight.astype(np.float64), bias.astype(np.float64)


def _store(graph: Graph, layer: Node, source: str, weight: Vector, bias: Vector) -> bool:
    """Give `layer` new parameters; not where they are too large for float32."""
    largest = np.finfo(np.float32).max
    if not (np.abs(weight).max() <= largest and np.abs(bias).max() <= largest):
        return False
    names = [
        graph.add_constant(f"{layer.name}/weight", weight.astype(np.float32)),
        graph.add_constant(f"{layer.name}/bias", bias.astype(np.float32)),
    ]
    graph.set_inputs(layer, [source, *names])
    return True
