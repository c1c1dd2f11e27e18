"""Trunc: drop low bits of integers, as an average pool does that divides by a shift.

    n = round(x / scale + zero) / 2^k
    5 inputs (version 1):  k = bits before - bits after;                 y = (trunc(n) - zero) * scale
    6 inputs (version 2):  2^k = scale after / scale, n clipped to lo..hi;  y = (trunc(n) - zero / 2^k) * scale after

Version 1 does not say whether the integers are signed: what makes x says it.
"""

from __future__ import annotations

import numpy as np

from ..graph import Array, Graph, Node
from .integers import (
    F32,
    Integers,
    Refused,
    assume_float,
    bit_width,
    dequantise,
    dequantise_constant,
    parameters,
    scales,
    source,
    steps,
    zero_points,
)
from .quant import as_integers, clip
from .rounding import rounding_of

_OPERANDS = 8
# Results of these are negative only if an operand's are.
_KEEPS_SIGN = frozenset(
    {
        *(
            "AveragePool",
            "GlobalAveragePool",
            "MaxPool",
            "GlobalMaxPool",
            "ReduceSum",
            "ReduceMean",
            "ReduceMax",
        ),
        *(
            "Reshape",
            "Flatten",
            "Transpose",
            "Squeeze",
            "Unsqueeze",
            "Concat",
            "Slice",
            "Split",
            "Pad",
            "Identity",
        ),
        *("Resize", "DepthToSpace", "SpaceToDepth", "Dropout", "Cast", "DequantizeLinear", "Clip", "Add"),
    }
)


def trunc(graph: Graph, node: Node) -> None:
    """Rewrite one node in place."""
    scale, zero = scales(graph, node), zero_points(graph, node)
    before = bit_width(graph, node, 3, "bit width before")
    second = len(node.inputs) > 5
    after = bit_width(graph, node, 5 if second else 4, "bit width after")
    rounding = rounding_of(node, "FLOOR")
    if second:
        scale_after = scales(graph, node, 4)
        shift = np.rint(np.log2(scale_after / scale)).astype(np.float32)
        zero_after = zero / np.exp2(shift)
        if (np.rint(zero_after) != zero_after).any():
            raise Refused(
                f"expected a zero point that the shift divides, found {zero.reshape(-1)[0]:g}",
                "export without a zero point",
            )
        signed = bool(node.int("signed", 1))
        narrow = bool(node.int("narrow", 0))
    else:
        scale_after, zero_after, shift = scale, zero, np.float32(before - after)
        signed, narrow = _signed(graph, node), False
    if np.min(shift) < 0:
        raise Refused(
            f"expected fewer bits after than before, found {before} and {after}", "use Quant to widen"
        )
    if after > _OPERANDS:
        raise Refused(
            f"expected at most {_OPERANDS} bits after, found {after}", "truncate to 8 bits or fewer"
        )
    integers = Integers.of(after, signed, narrow)
    less = np.asarray(np.exp2(-shift), np.float32)
    values = source(graph, node)
    if values is not None:
        n = np.round(values.astype(np.float32) / scale + zero) * less
        if second:
            n = np.clip(n, np.float32(integers.lo), np.float32(integers.hi))
        dequantise_constant(graph, node, rounding.apply(n), scale_after, zero_after, integers)
        return
    _write(graph, node, scale, zero, less, scale_after, zero_after, integers)


def _write(
    graph: Graph,
    node: Node,
    scale: F32,
    zero: Array,
    less: F32,
    scale_after: F32,
    zero_after: Array,
    integers: Integers,
) -> None:
    assume_float(graph, node.inputs[0])
    s, z, axis = parameters(scale_after, zero_after, integers)
    by: list[tuple[str, Array | None]] = [("Div", scale)]
    if zero.any():
        by.append(("Add", zero))
    value = steps(graph, node, node.inputs[0], [*by, ("Round", None), ("Mul", less)])
    value = rounding_of(node, "FLOOR").emit(graph, node, value, integers.lo)
    value = as_integers(graph, node, value, integers)
    if not integers.is_whole_type:
        value = clip(graph, node, value, np.array(integers.lo), np.array(integers.hi), integers.dtype)
    dequantise(graph, node, value, s, z, axis)


def _signed(graph: Graph, node: Node) -> bool:
    """Whether the integers may be negative, by the quantisers and Relus that the operand comes from."""
    stack, seen, signed = [node.inputs[0]], set(), False
    while stack:
        value = stack.pop()
        if value in seen:
            continue
        seen.add(value)
        array, made = graph.constant(value), graph.producer(value)
        if array is not None:
            signed |= bool((array < 0).any())
            continue
        known = None if made is None else _sign_of(graph, made)
        if known is not None:
            signed |= known
        elif made is not None and made.op == "Mul":
            stack.extend(made.inputs)
        elif made is not None and not made.domain and made.op in _KEEPS_SIGN:
            stack.extend(made.inputs[: None if made.op in ("Add", "Concat") else 1])
        else:
            raise Refused(
                f"expected an operand whose quantiser says whether it is signed, found {value}",
                "export with qonnx 1.0, whose Trunc says it, or put a Quant before",
            )
    return signed


def _sign_of(graph: Graph, made: Node) -> bool | None:
    """Whether a node gives negative integers or numbers; None where that hangs on its operands."""
    if made.op in ("Relu", "Sigmoid"):
        return False
    if made.op == "QuantizeLinear":
        array = graph.constant(made.input(2)) if made.input(2) else None
        return array is not None and bool(np.iinfo(array.dtype).min < 0)
    return True if made.op == "Where" else None
