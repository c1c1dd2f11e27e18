"""Give a quantised layer whose sum goes to the model's outputs in float a quantiser of its own.

    y = f(Conv(x, w) + b)       ->  y = f(DequantizeLinear(QuantizeLinear(Conv(x, w))) + b)

x, w quantised, nothing behind y quantised: classifiers of Brevitas, whose logits are float. The scale is a whole
multiple of scale(x) * scale(w), the unit of the sums: 1 where the largest sum fits 8 or 16 bits, so that nothing is
rounded; else, and where the channels' units differ, it covers the largest sum with 16 bits.

Why: a layer runs on the accelerator between two roundings, and the host has no convolutions.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
from numpy.typing import NDArray
from onnx import TensorProto

from ..graph import Array, Graph, Node
from .base import NodePass

_LAYOUTS = ("Transpose", "Reshape", "Flatten", "Squeeze", "Unsqueeze", "Identity")
# Between a DequantizeLinear and a layer these keep its grid.
_ON_GRID = (*_LAYOUTS, "MaxPool", "Pad", "Resize", "DepthToSpace", "SpaceToDepth", "Slice")
_QUANTISERS = ("QuantizeLinear", "GreaterOrEqual")
_OUTPUT_AXIS = {"Conv": 0, "ConvTranspose": 1, "Gemm": 0, "MatMul": -1}
_ENDS: dict[int, tuple[int, int]] = {TensorProto.INT8: (-128, 127), TensorProto.UINT8: (0, 255)}
F64 = NDArray[np.float64]


@dataclass(frozen=True)
class CloseOutputs(NodePass):
    """Put a QuantizeLinear/DequantizeLinear pair behind layers that only float operators follow."""

    name: ClassVar[str] = "close_outputs"
    on_quantised: ClassVar[bool] = True
    rounds_sums: ClassVar[bool] = True
    ops: ClassVar[tuple[str, ...]] = ("Conv", "ConvTranspose", "Gemm", "MatMul")

    def rewrite(self, graph: Graph, node: Node) -> bool:
        """Close `node`."""
        if not _plain(node) or not graph.is_float(node.output) or _meets_quantiser(graph, node):
            return False
        x, _ = _dequantised(graph, node.inputs[0], _ON_GRID)
        w, moves = _dequantised(graph, node.inputs[1], _LAYOUTS)
        if x is None or w is None:
            return False
        weight, ends = _integers(graph, w), _ends(graph, x.inputs[0])
        scale, zero = graph.scalar(x.inputs[1]), graph.scalar(x.input(2)) if x.input(2) else 0.0
        if weight is None or ends is None or scale is None or zero is None:
            return False
        magnitudes, unit = weight
        same = unit.size == 1 or bool((unit == unit.reshape(-1)[0]).all())
        shares = magnitudes if same else magnitudes * unit
        for move in moves:
            shares = _moved(graph, move, shares)
        axis = _OUTPUT_AXIS[node.op] if node.op != "Gemm" or node.int("transB", 0) else 1
        sums = np.moveaxis(shares, axis, 0).reshape(shares.shape[axis], -1).sum(1)
        most = float(sums.max()) * max(abs(ends[0] - zero), abs(ends[1] - zero))
        _close(graph, node, *sum_grid(most, scale * float(unit.reshape(-1)[0]) if same else None, scale))
        return True


def _plain(node: Node) -> bool:
    """Whether a Gemm is no more than a product and a bias."""
    return all(node.float(key, 1.0) == 1.0 for key in ("alpha", "beta")) and not node.int("transA", 0)


def _meets_quantiser(graph: Graph, node: Node) -> bool:
    """Whether a quantiser reads what is made of the result."""
    stack, seen = [node.output], set()
    while stack:
        for user in graph.users(stack.pop()):
            if user.op in _QUANTISERS:
                return True
            if user not in seen:
                seen.add(user)
                stack.extend(user.outputs)
    return False


def _dequantised(graph: Graph, value: str, through: tuple[str, ...]) -> tuple[Node | None, list[Node]]:
    """The DequantizeLinear that a value comes from, and what lies between, first to last."""
    moves: list[Node] = []
    made = graph.producer(value, "DequantizeLinear", *through)
    while made is not None and made.op != "DequantizeLinear":
        moves.insert(0, made)
        made = graph.producer(made.inputs[0], "DequantizeLinear", *through)
    return made, moves


def _moved(graph: Graph, move: Node, array: F64) -> F64:
    """What a change of layout makes of an array."""
    if move.op == "Transpose":
        return array.transpose(move.ints("perm", range(array.ndim)[::-1]))
    return array.reshape(graph.shape(move.output) or array.shape)


def _integers(graph: Graph, w: Node) -> tuple[F64, F64] | None:
    """Magnitudes of a constant's integers less their zero point, and its scale, one or broadcast along its axis."""
    found = [graph.constant(v) for v in w.inputs]
    if any(a is None for a in found):
        return None
    ints, unit, *zeros = (np.asarray(a, np.float64) for a in found)
    zero = zeros[0] if zeros else np.zeros(())
    along = [-1 if i == w.int("axis", 1) % max(ints.ndim, 1) else 1 for i in range(ints.ndim)]
    unit, zero = (a.reshape(along) if a.size > 1 else a.reshape(()) for a in (unit, zero))
    return np.abs(ints - zero), unit


def _ends(graph: Graph, value: str) -> tuple[int, int] | None:
    """Least and largest integer of an 8-bit tensor, by its Clip or its type."""
    made = graph.producer(value, "Clip", "Where")
    if made is not None:
        bounds = [graph.scalar(v) for v in made.inputs[1:]]
        if len(bounds) == 2 and bounds[0] is not None and bounds[1] is not None:
            return int(min(bounds[0], bounds[1])), int(max(bounds[0], bounds[1]))
    return _ENDS.get(graph.element(value))


def sum_grid(most: float, unit: float | None, scale: float) -> tuple[float, Array]:
    """Scale and zero point of a quantiser that holds every sum.

    Args:
        most: largest sum, in units; in units of the operand where channels differ.
        unit: what 1 of the sum is worth; None where channels differ.
        scale: the operand's.
    """
    wide = np.iinfo(np.int16).max
    if unit is None:
        return scale * most / wide, np.zeros((), np.int16)
    if most <= np.iinfo(np.int8).max:
        return unit, np.zeros((), np.int8)
    return unit * max(np.ceil(most / wide), 1.0), np.zeros((), np.int16)


def _close(graph: Graph, node: Node, scale: float, zero: Array) -> None:
    bias = node.input(2)
    if bias and node.op == "Gemm":
        graph.set_inputs(node, node.inputs[:2])
        graph.wrap_output(node, "Add", [bias], suffix="bias")
    elif bias:
        rank = graph.rank(node.output) or 4
        axes = graph.add_constant(f"{node.name}/axes", np.arange(1, rank - 1, dtype=np.int64))
        graph.set_inputs(node, node.inputs[:2])
        shaped = graph.emit("Unsqueeze", [bias, axes], origin=node, suffix="bias_shape")
        graph.wrap_output(node, "Add", [shaped], suffix="bias")
    names = [
        graph.add_constant(f"{node.name}/sum_scale", np.array(scale, np.float32)),
        graph.add_constant(f"{node.name}/sum_zero", zero),
    ]
    rounded = graph.wrap_output(node, "QuantizeLinear", names, suffix="round")
    graph.wrap_output(rounded, "DequantizeLinear", names, suffix="sum")
