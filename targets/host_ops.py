"""The host operators that a package may use, each once: name, operands, attributes, meaning.

A package's host part is a list of these, run by the C++ interpreter in `targets/board/native` on x86 and Arm alike.
`python -m tilewright.targets.host_ops` prints the C++ header made from this table (`host_ops.inc`, committed; a test
holds it equal), so an operator without a C++ kernel does not link. Layers that do real work (convolution, dense,
pooling) are not here on purpose: they belong to the accelerator.

All attributes are required. Tensors are float32 or integers of 8, 16, 32 or 64 bits; an operator that takes "any" type
gives the same type. Result types and shapes are declared by the program and checked by the interpreter.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Literal, TypeAlias

AttributeType = Literal["int", "ints", "float"]
ATTRIBUTE_TYPES: tuple[AttributeType, ...] = ("int", "ints", "float")
"""Position in this tuple + 1 is the type's number in the program's bytes."""

HostDType = Literal["float32", "int8", "uint8", "int32", "int64", "int16", "uint16"]
HOST_DTYPES: tuple[HostDType, ...] = ("float32", "int8", "uint8", "int32", "int64", "int16", "uint16")
"""Position in this tuple + 1 is the type's number in the program's bytes and in the C ABI."""

MANY = 255
"""Upper limit of operands and results of a step."""


@dataclass(frozen=True)
class Attribute:
    """One attribute. int: 64 bits; ints: a list of those; float: 64-bit binary."""

    name: str
    type: AttributeType
    doc: str


@dataclass(frozen=True)
class HostOp:
    """One operator.

    Attributes:
        name: as in the program.
        inputs, outputs: least and largest number of operands and of results.
        attributes: all of them, in the order in which a step holds them.
        doc: meaning.
        types: what the first operand may be.
    """

    name: str
    inputs: tuple[int, int]
    doc: str
    attributes: tuple[Attribute, ...] = ()
    outputs: tuple[int, int] = (1, 1)
    types: tuple[HostDType, ...] = HOST_DTYPES


_FLOAT: tuple[HostDType, ...] = ("float32",)
_AXIS = Attribute("axis", "int", "axis, negative from the end")
_AXES = Attribute("axes", "ints", "axes, negative from the end; none means all")
_KEEP = Attribute("keepdims", "int", "1: reduced axes stay with length 1")

UNARY = {
    "relu": "max(x, 0); any type",
    "negative": "-x; any type, integers wrap",
    "abs": "|x|; any type, integers wrap",
    "sigmoid": "1 / (1 + exp(-x)); float32",
    "tanh": "hyperbolic tangent; float32",
    "exp": "e to the x; float32",
    "log": "natural logarithm; float32",
    "sqrt": "square root; float32",
    "rsqrt": "1 / square root; float32",
    "erf": "error function; float32",
    "floor": "largest integer not above x; float32",
    "ceil": "smallest integer not below x; float32",
    "round": "nearest integer, half to even; float32",
}
BINARY = {
    "add": "a + b; any type, integers wrap",
    "subtract": "a - b; any type, integers wrap",
    "multiply": "a * b; any type, integers wrap",
    "divide": "a / b; float32",
    "power": "a to the b; float32",
    "maximum": "the larger; any type; NaN if either is",
    "minimum": "the smaller; any type; NaN if either is",
}
_REDUCTIONS = {
    "sum": "sum over `axes`; float32 (in float64, rounded once), int32 or int64",
    "mean": "mean over `axes`; float32 (in float64, rounded once)",
    "max": "largest over `axes`; any type; NaN if one is",
    "min": "smallest over `axes`; any type; NaN if one is",
}


def _types(doc: str) -> tuple[HostDType, ...]:
    """Types that a one-line doc names; all where it says any type."""
    return HOST_DTYPES if "any type" in doc else tuple(t for t in HOST_DTYPES if t in doc)


OPERATOR_FUNCTION = "tilewright.host.operator"
"""Name by which TVM's modules call one operator: operands, then a JSON text of its name (`op`) and all attributes."""

HOST_OPS: tuple[HostOp, ...] = (
    HostOp(
        "region",
        (1, MANY),
        "Runs an accelerator region; operands and results are int8, uint8, int16 or uint16, as its memory "
        "map says.",
        (Attribute("index", "int", "which region of the package"),),
        (1, MANY),
        types=("int8", "uint8", "int16", "uint16"),
    ),
    HostOp(
        "quantize",
        (3, 3),
        "clip(round_half_even(x / scale) + zero_point), division in float32: ONNX QuantizeLinear. Operands x float32, "
        "scale float32 and zero_point int8, uint8, int16 or uint16 (both scalar, or one per index of `axis`). NaN "
        "gives the lowest value.",
        (_AXIS,),
        types=_FLOAT,
    ),
    HostOp(
        "dequantize",
        (3, 3),
        "(x - zero_point) * scale: ONNX DequantizeLinear. x and zero_point int8, uint8, int16, uint16 or int32, scale "
        "as for quantize.",
        (_AXIS,),
        types=("int8", "uint8", "int32", "int16", "uint16"),
    ),
    HostOp("softmax", (1, 1), "exp(x - max) / sum of it, along `axis`; float32.", (_AXIS,), types=_FLOAT),
    HostOp(
        "log_softmax",
        (1, 1),
        "x - max - log(sum(exp(x - max))), along `axis`; float32.",
        (_AXIS,),
        types=_FLOAT,
    ),
    HostOp(
        "argmax", (1, 1), "Index of the first largest along `axis`, int64 or int32; any type.", (_AXIS, _KEEP)
    ),
    HostOp(
        "argmin",
        (1, 1),
        "Index of the first smallest along `axis`, int64 or int32; any type.",
        (_AXIS, _KEEP),
    ),
    *(HostOp(name, (1, 1), doc, types=_types(doc)) for name, doc in UNARY.items()),
    HostOp(
        "leaky_relu",
        (1, 1),
        "x where x > 0, else alpha*x; float32.",
        (Attribute("alpha", "float", "slope of the negative side"),),
        types=_FLOAT,
    ),
    HostOp(
        "clip",
        (1, 1),
        "min(max(x, lo), hi); any type.",
        (
            Attribute("lo", "float", "lower limit, may be -inf"),
            Attribute("hi", "float", "upper limit, may be inf"),
        ),
    ),
    *(
        HostOp(name, (2, 2), doc + "; shapes broadcast as in NumPy", types=_types(doc))
        for name, doc in BINARY.items()
    ),
    *(
        HostOp("reduce_" + name, (1, 1), doc, (_AXES, _KEEP), types=_types(doc))
        for name, doc in _REDUCTIONS.items()
    ),
    HostOp(
        "cast",
        (1, 1),
        "To the declared type. Floats lose their fraction and saturate, NaN gives 0; integers wrap.",
    ),
    HostOp(
        "reshape",
        (1, 1),
        "Same elements, other shape; any type.",
        (Attribute("shape", "ints", "new shape; one -1 is worked out"),),
    ),
    HostOp(
        "transpose",
        (1, 1),
        "Axis i of the result is axis axes[i] of x; any type.",
        (Attribute("axes", "ints", "a permutation"),),
    ),
    HostOp("concat", (1, MANY), "Joins along `axis`; any type.", (_AXIS,)),
    HostOp(
        "slice",
        (1, 1),
        "x[begin:end:stride] on each axis, limits as in Python; any type.",
        (
            Attribute("begin", "ints", "first index of each axis"),
            Attribute("end", "ints", "end of each axis, exclusive"),
            Attribute("stride", "ints", "step of each axis, not 0"),
        ),
    ),
    HostOp(
        "pad",
        (1, 1),
        "Adds elements of one value around x; any type.",
        (
            Attribute("before", "ints", "elements before each axis"),
            Attribute("after", "ints", "elements after each axis"),
            Attribute("value", "float", "the value, exact in the tensor's type"),
        ),
    ),
    HostOp(
        "expand",
        (1, 1),
        "Broadcasts to `shape` as NumPy does; any type.",
        (Attribute("shape", "ints", "shape of the result"),),
    ),
    HostOp(
        "gather",
        (2, 2),
        "Takes the slices of x along `axis` that the int32 or int64 indices say; negative ones count from the end.",
        (_AXIS,),
    ),
    HostOp(
        "topk",
        (1, 1),
        "Values and int64 indices of the k first in order along `axis`; ties by index; any type, NaN last.",
        (
            _AXIS,
            Attribute("k", "int", "how many"),
            Attribute("largest", "int", "1: descending, 0: ascending"),
        ),
        (2, 2),
    ),
    HostOp(
        "non_max_suppression",
        (2, 2),
        "ONNX NonMaxSuppression: boxes (B, N, 4), scores (B, C, N) float32 -> int64 (M, 3) of batch, class, box.",
        (
            Attribute("max_boxes", "int", "largest number per class; 0 gives none"),
            Attribute("iou_threshold", "float", "a box overlapping a chosen one by more than this goes"),
            Attribute("score_threshold", "float", "scores must be above this; -inf takes all"),
            Attribute("center", "int", "0: boxes are y1, x1, y2, x2; 1: x centre, y centre, width, height"),
        ),
        types=_FLOAT,
    ),
    HostOp(
        "detection_output",
        (3, 3),
        "Caffe SSD's DetectionOutput, as `frontend/caffe/detection_function.py` defines it: location (P * L * 4 "
        "values, L = 1 or classes), confidence (P * classes), prior (1, 2, 4 P), float32 -> (1, 1, N, 7) rows (0, "
        "class, confidence, xmin, ymin, xmax, ymax), by falling confidence, ties by class and then prior; without any "
        "detection the row (0, -1, -1, -1, -1, -1, -1).",
        (
            Attribute("num_classes", "int", "classes with the background"),
            Attribute("share_location", "int", "1: one box per prior, 0: one per prior and class"),
            Attribute("background_label_id", "int", "class that is not reported; -1: none"),
            Attribute("nms_threshold", "float", "overlap above which the lower score goes"),
            Attribute("top_k", "int", "candidates per class before suppression; -1: all"),
            Attribute("keep_top_k", "int", "rows in total; -1: all"),
            Attribute("confidence_threshold", "float", "scores must be above this"),
            Attribute("code_type", "int", "1: CORNER, 2: CENTER_SIZE, 3: CORNER_SIZE"),
            Attribute("variance_encoded_in_target", "int", "1: priors' variances are not applied"),
        ),
        types=_FLOAT,
    ),
)

BY_NAME: dict[str, HostOp] = {op.name: op for op in HOST_OPS}

AttributeValue: TypeAlias = "int | float | tuple[int, ...]"


def call_text(op: str, **attributes: AttributeValue) -> str:
    """The last argument of a call of OPERATOR_FUNCTION.

    >>> call_text("softmax", axis=1)
    '{"axis": 1, "op": "softmax"}'
    """
    return json.dumps({"op": op, **attributes}, sort_keys=True)


def read_call(text: str) -> tuple[str, dict[str, AttributeValue]]:
    """Operator and attributes of a call's text, each of its type.

    >>> read_call('{"axes": [2, 3], "keepdims": 1, "op": "reduce_mean"}')
    ('reduce_mean', {'axes': (2, 3), 'keepdims': 1})
    """
    attributes = json.loads(text)
    op = attributes.pop("op")
    casts = {a.name: _CASTS[a.type] for a in BY_NAME[op].attributes}
    return op, {name: casts[name](value) for name, value in attributes.items()}


_CASTS: dict[AttributeType, Callable[[Any], AttributeValue]] = {"int": int, "ints": tuple, "float": float}


def cpp_header() -> str:
    """The C++ side of the table, as committed in `board/native/src/host_ops.inc`."""
    lines = [
        "// Made by `python -m tilewright.targets.host_ops`; a test holds it equal to targets/host_ops.py.",
        "// TILEWRIGHT_HOST_OP(name, least inputs, most inputs, least outputs, most outputs, types, attributes...)",
        "// types: bit n for a first operand of type n.",
        "// clang-format off",
    ]
    for op in HOST_OPS:
        types = sum(1 << (HOST_DTYPES.index(dtype) + 1) for dtype in op.types)
        numbers = ", ".join(str(n) for n in (*op.inputs, *op.outputs, types))
        attributes = ", ".join(f'{{"{a.name}", {ATTRIBUTE_TYPES.index(a.type) + 1}}}' for a in op.attributes)
        lines.append(f"TILEWRIGHT_HOST_OP({op.name}, {numbers}, {{{attributes}}})")
    return "\n".join(lines) + "\n"


def manual() -> str:
    """The table as Markdown, for the manual page.

    >>> "| softmax |" in manual()
    True
    """
    rows = ["| operator | operands | attributes | meaning |", "|---|---|---|---|"]
    for op in HOST_OPS:
        low, high = op.inputs
        count = str(low) if low == high else f"{low} or more"
        attributes = "; ".join(f"`{a.name}` ({a.type}): {a.doc}" for a in op.attributes)
        rows.append(f"| {op.name} | {count} | {attributes} | {op.doc} |")
    return "\n".join(rows) + "\n"


if __name__ == "__main__":
    import sys

    sys.stdout.write(cpp_header())
