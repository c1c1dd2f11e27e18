"""Quant (IntQuant): `y = (round(clip(x / scale + zero, lo, hi)) - zero) * scale`.

Bounds are those of `bits`, `signed` and `narrow`; clipping before or after rounding is the same. QuantizeLinear
rounds before it adds the zero point: with an odd one it differs at ties, so such a quantiser is written out. Signed
one-bit quantisers are bipolar, as in qonnx.
"""

from __future__ import annotations

import numpy as np

from ..graph import Array, Graph, Node
from .bipolar_quant import write_bipolar
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
from .rounding import TO_NEAREST_EVEN, Rounding, rounding_of

_WIDEST = 16


def quant(graph: Graph, node: Node) -> None:
    """Rewrite one node in place."""
    scale, zero = scales(graph, node), zero_points(graph, node)
    bits = bit_width(graph, node, 3)
    rounding = rounding_of(node, "ROUND")
    signed, narrow = bool(node.int("signed", 1)), bool(node.int("narrow", 1))
    if bits == 1 and signed:
        if zero.any():
            raise Refused(
                f"expected a zero point of 0 for one signed bit, found {zero.reshape(-1)[0]:g}",
                "export without a zero point",
            )
        write_bipolar(graph, node, scale)
        return
    integers = Integers.of(bits, signed, narrow)
    values = source(graph, node)
    if values is not None:
        with np.errstate(over="ignore"):  # infinity is cut off like all that is too large
            steps_ = values.astype(np.float32) / scale + zero
        clipped = np.clip(steps_, np.float32(integers.lo), np.float32(integers.hi))
        dequantise_constant(graph, node, rounding.apply(clipped), scale, zero, integers)
        return
    if bits > _WIDEST:
        raise Refused(
            f"expected at most {_WIDEST} bits for a tensor computed at run time, found {bits}",
            "quantise it to 8 bits, or leave the quantiser out",
        )
    write_quant(graph, node, node.inputs[0], scale, zero, integers, rounding)


def write_quant(
    graph: Graph, node: Node, value: str, scale: F32, zero: Array, integers: Integers, rounding: Rounding
) -> None:
    """Turn `node` into a quantiser of `value` in standard operators."""
    assume_float(graph, value)
    s, z, axis = parameters(scale, zero, integers)
    attrs = {} if axis is None else {"axis": axis}
    wide = integers.dtype.itemsize > 1
    if rounding == TO_NEAREST_EVEN and not (z.astype(np.int64) % 2).any():
        if (
            wide and not integers.is_whole_type
        ):  # ONNX Runtime has no Clip of 16 bits; before rounding it is the same
            value = clip(graph, node, value, (integers.lo - zero) * scale, (integers.hi - zero) * scale)
        names = [
            graph.add_constant(f"{node.name}/scale", s),
            graph.add_constant(f"{node.name}/zero_point", z),
        ]
        value = graph.emit("QuantizeLinear", [value, *names], origin=node, suffix="quantise", **attrs)
    else:
        value = steps(graph, node, value, [("Div", scale), ("Add", zero)] if zero.any() else [("Div", scale)])
        if wide:
            value = clip(
                graph, node, value, np.array(integers.lo, np.float32), np.array(integers.hi, np.float32)
            )
        value = rounding.emit(graph, node, value, integers.lo)
        value = as_integers(graph, node, value, integers)
    if not wide and not integers.is_whole_type:
        value = clip(graph, node, value, np.array(integers.lo), np.array(integers.hi), integers.dtype)
    dequantise(graph, node, value, s, z, axis)


def as_integers(graph: Graph, node: Node, value: str, integers: Integers) -> str:
    """Whole numbers in float as integers of the type; it saturates."""
    names = [
        graph.add_constant(f"{node.name}/one", np.array(1, np.float32)),
        graph.add_constant(f"{node.name}/none", np.array(0, integers.dtype)),
    ]
    return graph.emit("QuantizeLinear", [value, *names], origin=node, suffix="quantise")


def clip(
    graph: Graph, node: Node, value: str, lo: Array, hi: Array, dtype: np.dtype[np.generic] | None = None
) -> str:
    """Clip, with one bound each; several become Max and Min."""
    bounds = [np.asarray(b, dtype or np.float32) for b in (lo, hi)]
    if bounds[0].size == bounds[1].size == 1:
        names = [
            graph.add_constant(f"{node.name}/{n}", b.reshape(()))
            for n, b in zip(("lo", "hi"), bounds, strict=True)
        ]
        return graph.emit("Clip", [value, *names], origin=node, suffix="clip")
    return steps(graph, node, value, [("Max", bounds[0]), ("Min", bounds[1])])
