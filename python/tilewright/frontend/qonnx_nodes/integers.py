"""What the quantisers of QONNX share: their parameters, the integers they give, and the nodes that hold them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray
from onnx import TensorProto

from ..canonical.fold_constants import evaluate
from ..graph import Array, Graph, Node, ValueType

F32 = NDArray[np.float32]
_BITS = 32


class Refused(Exception):
    """A quantiser without a standard form; `message` says what was expected and found."""

    def __init__(self, message: str, remedy: str) -> None:
        super().__init__(message)
        self.message, self.remedy = message, remedy


@dataclass(frozen=True)
class Integers:
    """The integers lo..hi and the type that holds them."""

    lo: int
    hi: int
    dtype: np.dtype[np.integer[Any]]

    @staticmethod
    def of(bits: int, signed: bool, narrow: bool) -> Integers:
        """Those of a quantiser: narrow leaves one out, the lowest if signed, else the highest."""
        if signed:
            lo, hi = -(1 << (bits - 1)) + narrow, (1 << (bits - 1)) - 1
        else:
            lo, hi = 0, (1 << bits) - 1 - narrow
        if lo == hi:
            raise Refused(
                f"expected a range of two or more integers, found {lo}..{hi} ({bits} bits, narrow={int(narrow)})",
                "export with narrow range off",
            )
        size = 8 if bits <= 8 else 16 if bits <= 16 else 32
        return Integers(lo, hi, np.dtype(f"{'' if signed else 'u'}int{size}"))

    @property
    def is_whole_type(self) -> bool:
        """Whether the type saturates at these bounds by itself."""
        info = np.iinfo(self.dtype)
        return self.lo == info.min and self.hi == info.max


def constant(graph: Graph, node: Node, index: int, what: str) -> Array:
    """Input `index` as an array, computed where the file computes it from constants.

    Raises:
        Refused: it depends on the model's input.
    """
    array = _evaluated(graph, node.input(index)) if node.input(index) else None
    if array is None:
        raise Refused(
            f"expected a constant as {what}, found {node.input(index) or 'none'}",
            "export the model in evaluation mode, with its quantisers' parameters fixed",
        )
    return array


def _evaluated(graph: Graph, value: str) -> Array | None:
    array = graph.constant(value)
    producer = graph.producer(value)
    if array is not None or producer is None or producer.domain or producer.op in ("Shape", "Size"):
        return array
    for name in producer.inputs:
        if name and graph.constant(name) is None:
            found = _evaluated(graph, name)
            if found is None:
                return None
    if len(producer.outputs) != 1 or any(v and graph.constant(v) is None for v in producer.inputs):
        return None
    (array,) = evaluate(graph, producer)
    if not graph.is_output(value):
        reader = graph.users(value)[0]
        graph.remove(producer, into=reader.name)
        graph.set_constant(value, array)
    return array


def source(graph: Graph, node: Node) -> Array | None:
    """What is quantised, where it is a constant."""
    return _evaluated(graph, node.inputs[0])


def scales(graph: Graph, node: Node, index: int = 1) -> F32:
    """The scale: all positive and finite; one number, or one for each index of one axis."""
    found = constant(graph, node, index, "scale").astype(np.float32)
    if not found.size or not (np.isfinite(found).all() and (found > 0).all()):
        bad = found[~(np.isfinite(found) & (found > 0))].reshape(-1)
        raise Refused(
            f"expected scales above 0, found {bad[0] if bad.size else 'none'}", "train or export again"
        )
    if sum(d != 1 for d in found.shape) > 1:
        raise Refused(
            f"expected one scale or one for each channel, found shape {list(found.shape)}",
            "quantise per tensor or per channel",
        )
    return found


def zero_points(graph: Graph, node: Node, index: int = 2) -> Array:
    """The zero point, whole numbers in a float array; one, or one for each index of one axis."""
    found = constant(graph, node, index, "zero point").astype(np.float32)
    if not np.isfinite(found).all() or (np.rint(found) != found).any():
        bad = found[~(np.isfinite(found) & (np.rint(found) == found))].reshape(-1)
        raise Refused(f"expected whole numbers as zero points, found {bad[0]:g}", "round the zero points")
    return found


def bit_width(graph: Graph, node: Node, index: int, what: str = "bit width") -> int:
    """A width in bits, 1..32."""
    found = constant(graph, node, index, what).reshape(-1)
    if found.size != 1 or found[0] != np.rint(found[0]) or not 1 <= found[0] <= _BITS:
        shown = f"{float(found[0]):g}" if found.size == 1 else f"{found.size} numbers"
        raise Refused(
            f"expected a whole {what} of 1..{_BITS}, found {shown}", "export with a fixed bit width"
        )
    return int(found[0])


def parameters(scale: F32, zero: Array, integers: Integers) -> tuple[F32, Array, int | None]:
    """Scale and zero point as DequantizeLinear takes them.

    Returns:
        both () or both (C,), and the axis, counted from the last as shapes broadcast; None where there is one scale.
    """
    info = np.iinfo(integers.dtype)
    if zero.size and (zero.min() < info.min or zero.max() > info.max):
        raise Refused(
            f"expected zero points of {integers.dtype} ({info.min}..{info.max}), found {zero.min():g}..{zero.max():g}",
            "quantise with a zero point within the range",
        )
    shape = np.broadcast_shapes(scale.shape, zero.shape)
    long = [i for i, d in enumerate(shape) if d != 1]
    if len(long) > 1:
        raise Refused(
            f"expected scales and zero points along one axis, found {list(scale.shape)} and {list(zero.shape)}",
            "quantise per tensor or per channel",
        )
    if not long:
        return scale.reshape(()), zero.reshape(()).astype(integers.dtype), None
    spread = [np.broadcast_to(a, shape).reshape(-1) for a in (scale, zero)]
    return spread[0], spread[1].astype(integers.dtype), long[0] - len(shape)


def assume_float(graph: Graph, value: str) -> None:
    """Give a value whose type is not inferred yet the only one that a quantiser takes."""
    if value not in graph.types:
        graph.types[value] = ValueType(TensorProto.FLOAT, None)


def dequantise(graph: Graph, node: Node, value: str, scale: F32, zero: Array, axis: int | None) -> None:
    """Turn `node` into the DequantizeLinear of `value`."""
    inputs = [value, graph.add_constant(f"{node.name}/scale", scale)]
    if zero.any() or zero.dtype.itemsize == 1:
        inputs.append(graph.add_constant(f"{node.name}/zero_point", zero))
    node.domain = ""
    graph.become(node, "DequantizeLinear", inputs, **({} if axis is None else {"axis": axis}))


def dequantise_constant(
    graph: Graph, node: Node, values: F32, scale: F32, zero: Array, integers: Integers
) -> None:
    """Turn a quantiser of a constant into the DequantizeLinear of its integers `values`."""
    found = integers
    if integers.dtype == np.uint32:
        found = Integers(integers.lo, integers.hi, np.dtype(np.int32))
        if values.size and values.max() > np.iinfo(np.int32).max:
            raise Refused(f"expected integers of 31 bits, found {values.max():g}", "quantise to fewer bits")
    s, z, axis = parameters(scale, zero, found)
    stored = graph.add_constant(f"{node.name}/integers", values.astype(np.int64).astype(found.dtype))
    dequantise(graph, node, stored, s, z, axis)


def steps(
    graph: Graph, node: Node, value: str, operators: Sequence[tuple[str, Array | None]], suffix: str = ""
) -> str:
    """A chain of operators on `value`, each with the constant as its second operand where there is one."""
    for op, operand in operators:
        inputs = [value]
        if operand is not None:
            inputs.append(graph.add_constant(f"{node.name}/{op.lower()}_by", operand))
        value = graph.emit(op, inputs, origin=node, suffix=f"{suffix}{op.lower()}")
    return value
