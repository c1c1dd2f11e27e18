"""ONNX -> Relax by TVM's importer, with source names kept and opaque converters replaced.

TVM's importer loses node names and turns Clip, Pad, Sum, Max, Min into `call_tir`, which no pass can look into. The
subclass here binds every result to a variable named after its node and writes what it knows of the source into the
attribute `tilewright.sources` of `main` (see :class:`Sources`), which later passes and reports read.
"""

from __future__ import annotations

import contextlib
import functools
import json
import sys
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from typing import Any

import numpy as np
import onnx
from tvm import relax
from tvm.ir import GenericConst, IRModule, StringImm
from tvm.relax.frontend.onnx.onnx_frontend import ONNXGraphImporter, _get_convert_map, onnx_input

from tilewright.errors import FaultList, UnsupportedModel
from tilewright.frontend import converters
from tilewright.frontend.converters import Attributes, Converter, Expr, constant, dims_of, value_of
from tilewright.targets.host_ops import OPERATOR_FUNCTION, call_text

SOURCES = "tilewright.sources"
CODE_TYPES: dict[Any, int] = {b"CORNER": 1, b"CENTER_SIZE": 2, b"CORNER_SIZE": 3}
"""Caffe's ways to write a box, as the host operator numbers them."""

_STANDARD_DOMAINS = ("", "ai.onnx")
# What TVM's converters raise on inputs that they cannot take.
_CONVERTER_ERRORS = (
    ValueError,
    TypeError,
    KeyError,
    IndexError,
    AttributeError,
    AssertionError,
    RuntimeError,
    NotImplementedError,
)


@dataclass
class SourceNode:
    """A node of the ONNX graph: its name (or first output where it has none), operator and output tensors."""

    name: str
    op: str
    outputs: list[str]


@dataclass
class Sources:
    """Where the variables of an imported module come from.

    Attributes:
        nodes: all nodes of the ONNX graph in order.
        node_of: variable name -> index in `nodes`; helper variables of a node included.
        variable_of: ONNX tensor -> variable that holds it (absent for constants).
    """

    nodes: list[SourceNode] = field(default_factory=list)
    node_of: dict[str, int] = field(default_factory=dict)
    variable_of: dict[str, str] = field(default_factory=dict)

    def dump(self) -> str:
        """Write as JSON."""
        return json.dumps(asdict(self))

    def put(self, function: relax.Function) -> relax.Function:
        """The function with this as its attribute."""
        return function.with_attr(SOURCES, self.dump())

    @staticmethod
    def of(function: relax.Function) -> Sources:
        """Read from a function's attribute; empty where it has none (modules not imported by us)."""
        if function.attrs is None or SOURCES not in function.attrs:
            return Sources()
        data = json.loads(str(function.attrs[SOURCES]))
        return Sources([SourceNode(**n) for n in data["nodes"]], data["node_of"], data["variable_of"])


def _ints(attributes: Attributes, key: str, default: Sequence[int]) -> list[int]:
    return [int(v) for v in attributes.get(key, default)]  # type: ignore[attr-defined]


def _clip(bb: relax.BlockBuilder, inputs: Sequence[Expr], attributes: Attributes) -> Expr:
    x, dtype = inputs[0], str(inputs[0].ty.dtype)
    bounds: list[Expr | None] = list(inputs[1:3]) + [None] * (3 - len(inputs))
    for i, key in enumerate(("min", "max")):
        if bounds[i] is None and key in attributes:
            bounds[i] = constant(np.asarray(attributes[key], dtype))
    for bound, op in zip(bounds, (relax.op.maximum, relax.op.minimum), strict=True):
        if bound is not None:
            x = bb.normalize(op(x, bound))
    return x


def _pad(bb: relax.BlockBuilder, inputs: Sequence[Expr], attributes: Attributes) -> Expr | None:
    x = inputs[0]
    if attributes.get("mode", b"constant") != b"constant":
        return None
    rank = len(dims_of(x))
    pads = value_of(inputs[1]) if len(inputs) > 1 else np.asarray(_ints(attributes, "pads", ()))
    fill = value_of(inputs[2]) if len(inputs) > 2 else np.asarray(attributes.get("value", 0.0))
    axes = value_of(inputs[3]) if len(inputs) > 3 else None
    if pads is None or np.any(pads < 0):
        raise ValueError(f"expected pads of 0 and more, found {None if pads is None else pads.tolist()}")
    chosen = list(range(rank)) if axes is None else [int(a) % rank for a in axes.tolist()]
    width = [0] * (2 * rank)
    for i, axis in enumerate(chosen):
        width[2 * axis], width[2 * axis + 1] = int(pads[i]), int(pads[i + len(chosen)])
    return relax.op.nn.pad(x, width, "constant", 0.0 if fill is None else float(fill.reshape(-1)[0]))


def _chain(op: Callable[[Expr, Expr], Expr]) -> Converter:
    def convert(bb: relax.BlockBuilder, inputs: Sequence[Expr], attributes: Attributes) -> Expr:
        return functools.reduce(lambda a, b: bb.normalize(op(a, b)), inputs)

    return convert


def _lrn(bb: relax.BlockBuilder, inputs: Sequence[Expr], attributes: Attributes) -> Expr:
    """`x / (bias + alpha/size * sum x^2)^beta` over `size` channels (ONNX LRN, also with an even size)."""
    x, size = inputs[0], int(attributes["size"])  # type: ignore[call-overload]
    dtype = str(x.ty.dtype)

    def scalar(key: str, default: float) -> Expr:
        return constant(np.asarray(attributes.get(key, default), dtype))

    square = relax.op.expand_dims(relax.op.multiply(x, x), axis=1)
    mean = relax.op.nn.avg_pool3d(
        bb.normalize(square),
        (size, 1, 1),
        (1, 1, 1),
        [(size - 1) // 2, 0, 0, size // 2, 0, 0],
        layout="NCDHW",
        count_include_pad=True,
    )
    mean = relax.op.squeeze(bb.normalize(mean), axis=[1])
    base = relax.op.add(relax.op.multiply(mean, scalar("alpha", 1e-4)), scalar("bias", 1.0))
    return relax.op.divide(x, relax.op.power(base, scalar("beta", 0.75)))


def _same_pads(x: Expr, kernel: list[int], strides: list[int], dilation: list[int], mode: bytes) -> list[int]:
    before, after = [], []
    for size, k, s, d in zip(dims_of(x)[2:], kernel, strides, dilation, strict=True):
        total = max((-(-size // s) - 1) * s + d * (k - 1) + 1 - size, 0)
        small = total // 2
        before.append(total - small if mode == b"SAME_LOWER" else small)
        after.append(small if mode == b"SAME_LOWER" else total - small)
    return before + after


def _window(x: Expr, attributes: Attributes) -> tuple[list[int], list[int], list[int], list[int]]:
    kernel = _ints(attributes, "kernel_shape", ())
    strides = _ints(attributes, "strides", [1] * len(kernel))
    dilation = _ints(attributes, "dilations", [1] * len(kernel))
    mode = attributes.get("auto_pad", b"NOTSET")
    pads = _ints(attributes, "pads", [0] * (2 * len(kernel)))
    if mode in (b"SAME_UPPER", b"SAME_LOWER"):
        pads = _same_pads(x, kernel, strides, dilation, mode)
    return kernel, strides, pads, dilation


def _explicit_pads(node: onnx.NodeProto, attributes: Attributes, inputs: Sequence[Expr]) -> None:
    """Replace a convolution's auto_pad by pads: TVM's own way pads with an opaque function."""
    if node.op_type != "Conv" or attributes.get("auto_pad", b"NOTSET") not in (b"SAME_UPPER", b"SAME_LOWER"):
        return
    attributes.setdefault("kernel_shape", tuple(dims_of(inputs[1])[2:]))
    attributes["pads"] = tuple(_window(inputs[0], attributes)[2])
    del attributes["auto_pad"]


def _max_pool(bb: relax.BlockBuilder, inputs: Sequence[Expr], attributes: Attributes) -> Expr | None:
    """ceil_mode becomes explicit padding, by the output size of the ONNX operator (windows start inside)."""
    x = inputs[0]
    if len(dims_of(x)) != 4:
        return None
    kernel, strides, pads, dilation = _window(x, attributes)
    if attributes.get("ceil_mode", 0):
        for i, size in enumerate(dims_of(x)[2:]):
            span = dilation[i] * (kernel[i] - 1) + 1
            steps = -(-(size + pads[i] + pads[i + 2] - span) // strides[i])
            if steps * strides[i] >= size + pads[i]:
                steps -= 1
            pads[i + 2] = max(pads[i + 2], steps * strides[i] + span - size - pads[i])
    return relax.op.nn.max_pool2d(x, kernel, strides, pads, dilation)


def _average_pool(bb: relax.BlockBuilder, inputs: Sequence[Expr], attributes: Attributes) -> Expr | None:
    x = inputs[0]
    if len(dims_of(x)) != 4:
        return None
    kernel, strides, pads, dilation = _window(x, attributes)
    if any(d != 1 for d in dilation):
        raise ValueError(f"expected dilations of 1, found {dilation}")
    ceil = bool(attributes.get("ceil_mode", 0))
    include = bool(attributes.get("count_include_pad", 0))
    return relax.op.nn.avg_pool2d(x, kernel, strides, pads, dilation, ceil, include)


def _detection_output(bb: relax.BlockBuilder, inputs: Sequence[Expr], attributes: Attributes) -> Expr:
    """A call of the runtime's operator.

    The result (1, 1, N, 7) has as many rows (0, class, confidence, xmin, ymin, xmax, ymax) as there are detections.
    """
    plain: dict[str, Any] = {k: CODE_TYPES.get(v, v) for k, v in attributes.items() if k != "tvm_custom"}
    return relax.call_pure_packed(
        OPERATOR_FUNCTION,
        *inputs,
        StringImm(call_text("detection_output", **plain)),
        ty_args=relax.TensorType(dtype="float32", ndim=4),
    )


CONVERTERS: dict[tuple[str, str], Converter] = {
    **{("", op): convert for op, convert in converters.CONVERTERS.items()},
    ("", "Clip"): _clip,
    ("", "Pad"): _pad,
    ("", "Sum"): _chain(relax.op.add),
    ("", "Max"): _chain(relax.op.maximum),
    ("", "Min"): _chain(relax.op.minimum),
    ("", "LRN"): _lrn,
    ("", "MaxPool"): _max_pool,
    ("", "AveragePool"): _average_pool,
    ("tilewright", "DetectionOutput"): _detection_output,
}
"""Converters of our own, by domain and operator; all others are TVM's."""


def _domain(node: onnx.NodeProto) -> str:
    return "" if node.domain in _STANDARD_DOMAINS else str(node.domain)


def node_name(node: onnx.NodeProto) -> str:
    """Name of a node; its first output where it has none."""
    return str(node.name or node.output[0])


class _Importer(ONNXGraphImporter):  # type: ignore[misc]
    """TVM's importer with names, our converters, and faults gathered over all nodes."""

    def __init__(self, shapes: dict[str, list[int]]) -> None:
        super().__init__(shapes, None, sanitize=False)
        self.sources = Sources()
        self.faults = FaultList()

    def _check_for_unsupported_ops(self, graph: onnx.GraphProto) -> None:
        known = _get_convert_map()
        for node in graph.node:
            domain, op = _domain(node), node.op_type
            if (domain, op) in CONVERTERS or (
                domain == "" and (op in known or op == "Constant") and op != "If"
            ):
                continue
            where = f"{domain}::{op}" if domain else op
            self.faults.add(
                f"operator {where} is not supported",
                where=node_name(node),
                remedy="express it by other ONNX operators, or cut the model before it",
            )
        self.faults.raise_if_any(UnsupportedModel)

    def _convert(self, node: onnx.NodeProto) -> Expr:
        inputs = onnx_input(self._nodes[i] if i else None for i in node.input)
        attributes = self._parse_attr(node.attribute)
        attributes["tvm_custom"] = {"name": node_name(node), "num_outputs": len(node.output)}
        _explicit_pads(node, attributes, list(inputs))
        own = CONVERTERS.get((_domain(node), node.op_type))
        result = None if own is None else own(self.bb, list(inputs), attributes)
        if result is None:
            result = self._convert_operator(node.op_type, inputs, attributes, self.opset)
        else:
            result = self.bb.normalize(result)
        if not isinstance(result, relax.Expr):
            raise ValueError(f"expected an expression, found {type(result).__name__}")
        return result

    def _bind(self, expr: Expr, name: str, index: int) -> Expr:
        """Bind to a variable of this name and note the source."""
        held = isinstance(expr, relax.Var | GenericConst | relax.ShapeExpr)
        bound = expr if held else self.bb.emit(expr, name)
        if isinstance(bound, relax.Var):
            self.sources.node_of.setdefault(bound.name, index)
        return bound

    def _construct_nodes(self, graph: onnx.GraphProto) -> None:
        for index, node in enumerate(graph.node):
            name = node_name(node)
            self.sources.nodes.append(SourceNode(name, node.op_type, [o for o in node.output if o]))
            if any(i and i not in self._nodes for i in node.input):
                continue  # an operand failed already; its fault is noted
            try:
                result = self._convert(node)
            except _CONVERTER_ERRORS as err:
                text = str(err).strip().splitlines() or [type(err).__name__]
                self.faults.add(
                    f"{node.op_type} cannot be imported: {text[-1]}",
                    where=name,
                    remedy="see the operator's limits in the manual, or cut the model before it",
                )
                continue
            if isinstance(result, relax.Tuple):
                parts = [self._bind(f, name, index) for f in result.fields]
            elif isinstance(result.ty, relax.TupleType):
                whole = self._bind(result, name, index)
                count = len(result.ty.fields)
                parts = [self._bind(relax.TupleGetItem(whole, i), name, index) for i in range(count)]
            else:
                parts = [self._bind(result, name, index)]
            if len(parts) < len([o for o in node.output if o]):
                self.faults.add(
                    f"{node.op_type}: expected {len(parts)} outputs, found {len(node.output)}",
                    where=name,
                    remedy="remove the optional outputs",
                )
                continue
            for output, part in zip(node.output, parts, strict=False):
                self._nodes[output] = part
                if output and isinstance(part, relax.Var):
                    self.sources.variable_of[output] = part.name
        self.faults.raise_if_any(UnsupportedModel)


def _static_shapes(graph: onnx.GraphProto) -> dict[str, list[int]]:
    """Shapes of the inputs with the batch set to 1. Raises UnsupportedModel where another dimension is open."""
    faults = FaultList()
    shapes: dict[str, list[int]] = {}
    constants = {i.name for i in graph.initializer}
    for value in graph.input:
        if value.name in constants:
            continue
        dims = [d.dim_value if d.HasField("dim_value") else None for d in value.type.tensor_type.shape.dim]
        if any(d is None or d <= 0 for d in dims[1:]):
            faults.add(
                f"expected a fixed input shape, found {[d if d else '?' for d in dims]}",
                where=value.name,
                remedy=f"give --input-shape {value.name}=1,...",
            )
        shapes[value.name] = [int(d) if d else 1 for d in dims]
    faults.raise_if_any(UnsupportedModel)
    return shapes


def _note_helpers(function: relax.Function, sources: Sources) -> None:
    """Assign each anonymous variable to the node whose result follows it."""
    waiting: list[str] = []
    for block in function.body.blocks:
        for binding in block.bindings:
            name = binding.var.name
            if isinstance(binding.value, relax.Var) and binding.value.name in sources.node_of:
                # The function's result is another name of a node's; passes may keep either.
                sources.node_of.setdefault(name, sources.node_of[binding.value.name])
            if name in sources.node_of:
                for helper in waiting:
                    sources.node_of[helper] = sources.node_of[name]
                waiting = []
            else:
                waiting.append(name)


def to_relax(model: onnx.ModelProto) -> IRModule:
    """Import an ONNX model.

    Every result is bound to a variable named after its node (made unique by a number) in one dataflow block of
    `main`; constants stay constants. An open batch dimension becomes 1.

    Raises:
        UnsupportedModel: with one fault for each node that cannot be imported.
    """
    graph = model.graph
    opset = next((o.version for o in model.opset_import if o.domain in _STANDARD_DOMAINS), 1)
    importer = _Importer(_static_shapes(graph))
    # TVM prints to stdout while it fails, which would break --json.
    with contextlib.redirect_stdout(sys.stderr):
        module = importer.from_onnx(graph, opset)
    function = module["main"]
    for value in graph.input:
        if isinstance(importer._inputs.get(value.name), relax.Var):
            importer.sources.variable_of[value.name] = importer._inputs[value.name].name
    _note_helpers(function, importer.sources)
    names = [str(o.name) for o in graph.output]
    attributes = {SOURCES: importer.sources.dump(), "tilewright.outputs": json.dumps(names)}
    module["main"] = function.with_attrs(attributes)
    return module
