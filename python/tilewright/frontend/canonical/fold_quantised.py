"""Store quantised weights as the integers that they are.

    QuantizeLinear(c, scale, zero point)       ->  integers        (c constant)

Why: exporters of QCDQ write weights as float constants behind Quantize - Clip - Dequantize. A Clip between is folded
like any operator on constants; the DequantizeLinear stays, it is the model's statement of its number format.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
from onnx import TensorProto, helper

from ..graph import Array, Graph, Node
from .base import NodePass


@dataclass(frozen=True)
class FoldQuantised(NodePass):
    """Compute QuantizeLinear of constants, with one scale or one for each index of an axis."""

    name: ClassVar[str] = "fold_quantised"
    on_quantised: ClassVar[bool] = True
    ops: ClassVar[tuple[str, ...]] = ("QuantizeLinear",)

    def rewrite(self, graph: Graph, node: Node) -> bool:
        """Fold `node`."""
        values = _integers(graph, node)
        if values is None or graph.is_output(node.output):
            return False
        reader = next((u.name for u in graph.users(node.output)), "")
        graph.remove(node, into=reader)
        graph.set_constant(node.output, values)
        return True


def _integers(graph: Graph, node: Node) -> Array | None:
    x, scale = graph.constant(node.inputs[0]), graph.constant(node.inputs[1])
    zero = graph.constant(node.input(2)) if node.input(2) else np.zeros((), _type(node))
    if x is None or scale is None or zero is None or node.int("block_size", 0) or x.dtype != np.float32:
        return None
    axis = node.int("axis", 1)
    if not (np.isfinite(scale) & (scale > 0)).all():
        return None
    if scale.size > 1:
        along = [-1 if i == axis % x.ndim else 1 for i in range(x.ndim)]
        scale, zero = scale.reshape(along), (zero.reshape(along) if zero.size > 1 else zero.reshape(()))
    else:
        scale, zero = scale.reshape(()), zero.reshape(())
    info = np.iinfo(zero.dtype)
    with np.errstate(over="ignore"):  # infinity is cut off like all that is too large
        steps = np.rint(x / scale).astype(np.float64) + zero
    return np.asarray(np.clip(steps, info.min, info.max).astype(zero.dtype))


def _type(node: Node) -> np.dtype[np.generic]:
    return np.dtype(helper.tensor_dtype_to_np_dtype(node.int("output_dtype", 0) or TensorProto.UINT8))
