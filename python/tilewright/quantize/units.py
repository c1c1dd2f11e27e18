"""Units: the sets of operators that become one operation of the accelerator, with one rounding at their end.

QuantizeLinear stands between units and never within one; this is the contract with the compiler:

==========  ===========================================================================  ==================
kind        operators                                                                    scale of the output
==========  ===========================================================================  ==================
mac         Conv, ConvTranspose, Gemm [then Relu, Clip, LeakyRelu or PRelu]              its own
binary      Add, Sub or Mul of two activations [then Relu or Clip]                       its own
table       elementwise operators with scalar constants that depend on one tensor only   its own
slope       PRelu alone                                                                  its own
clamp       Relu and Clip alone                                                          the input's, always
average     AveragePool, GlobalAveragePool                                               its own, or soft
concat      Concat                                                                       the inputs' (soft)
move        MaxPool, Slice, Split, Reshape, Transpose, DepthToSpace, Resize, Pad, ...,   the input's, always
            Conv that is a shift (its kernel stays float)
==========  ===========================================================================  ==================

A clamp of integers is exact, so that a scale of its own could only add a rounding. *Soft* sharing gives way
where it would cost too much range (`grouping.py`). All other operators stay float
and read dequantised values. What they alone read can have 16 bits (`scores.py`).
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

import numpy as np
import onnx
from onnx import TensorProto, helper, numpy_helper

from tilewright.frontend.shift_kernel import displacements
from tilewright.quantize.graph import Graph

Kind = Literal["mac", "binary", "table", "slope", "clamp", "average", "concat", "move"]

MAC_OPERATORS = frozenset({"Conv", "ConvTranspose", "Gemm"})
_BINARY = frozenset({"Add", "Sub", "Mul"})
_AVERAGE = frozenset({"AveragePool", "GlobalAveragePool"})
_CLAMP = frozenset({"Relu", "Clip"})
_FUSED_INTO_MAC = frozenset({"Relu", "Clip", "LeakyRelu", "PRelu"})
UNARY = {
    *("Abs", "Ceil", "Celu", "Clip", "Cos", "Elu", "Erf", "Exp", "Floor", "Gelu", "HardSigmoid", "HardSwish"),
    *(
        "Identity",
        "LeakyRelu",
        "Log",
        "Mish",
        "Neg",
        "Reciprocal",
        "Relu",
        "Round",
        "Selu",
        "Sigmoid",
        "Sign",
    ),
    *("Sin", "Softplus", "Softsign", "Sqrt", "Tanh", "ThresholdedRelu"),
}
"""Operators of one element, which the accelerator looks up in tables; other inputs are scalar constants."""
_UNARY_WITH_SCALAR = frozenset({"Add", "Sub", "Mul", "Div", "Pow", "Max", "Min", "PRelu"})
# The output holds values of the input, or zero, and nothing else.
_MOVE = frozenset(
    {"DepthToSpace", "Flatten", "MaxPool", "Pad", "Reshape", "Resize", "Slice", "SpaceToDepth", "Split"}
    | {"Squeeze", "Transpose", "Unsqueeze"}
)


@dataclass(frozen=True)
class Unit:
    """Operators between quantised tensors.

    Attributes:
        kind: row of the module's table.
        nodes: in topological order.
        inputs: activations read, without repetition.
        outputs: activations made; several only for Split.
    """

    kind: Kind
    nodes: tuple[onnx.NodeProto, ...]
    inputs: tuple[str, ...]
    outputs: tuple[str, ...]

    @property
    def head(self) -> onnx.NodeProto:
        """The first node, which names the unit."""
        return self.nodes[0]


def attribute(node: onnx.NodeProto, name: str, default: object = None) -> object:
    """Return an attribute's value, strings decoded, or `default`."""
    for item in node.attribute:
        if item.name == name:
            value: object = helper.get_attribute_value(item)
            return value.decode() if isinstance(value, bytes) else value
    return default


def weight_axis(node: onnx.NodeProto, weight_shape: tuple[int, ...]) -> int:
    """Return the axis of a MAC operator's weights along which their scales run.

    It is the axis of output channels. A transposed convolution has `(C_in, C_out/groups, kH, kW)`:
    depthwise ones (one input and one output channel a group) take axis 0, which counts the output channels
    too; other groups share the scales of axis 1.
    """
    if node.op_type == "Conv":
        return 0
    if node.op_type == "Gemm":
        return 0 if attribute(node, "transB", 0) else 1
    groups = attribute(node, "group", 1)
    return 0 if groups == weight_shape[0] and weight_shape[1] == 1 else 1


def find_units(graph: Graph) -> list[Unit]:
    """Return the units of `graph` that are to be quantised, in topological order of their last nodes."""
    units = _mac_units(graph)
    claimed = {id(node) for unit in units for node in unit.nodes}
    units += _elementwise_units(graph, claimed)
    claimed |= {id(node) for unit in units for node in unit.nodes}
    for node in graph.nodes:
        if id(node) not in claimed:
            kind = _single_kind(graph, node)
            if kind is not None:
                outputs = tuple(name for name in node.output if name)
                units.append(Unit(kind, (node,), tuple(graph.activations(node)), outputs))
    units.sort(key=lambda unit: graph.index[id(unit.nodes[-1])])
    return _reachable(graph, units)


def _single_kind(graph: Graph, node: onnx.NodeProto) -> Kind | None:
    """Return the kind of a node that forms a unit alone, or None where it stays float."""
    floats = all(graph.types.get(name) == TensorProto.FLOAT for name in node.output if name)
    inputs = graph.activations(node)
    constants = [name for name in node.input[1:] if name]
    if not floats or not inputs or node.domain not in ("", "ai.onnx"):
        return None
    if node.op_type == "Concat":
        return "concat" if all(graph.is_activation(name) for name in node.input) else None
    if node.input[0] != inputs[0] or not all(name in graph.initializers for name in constants):
        return None
    if node.op_type in _AVERAGE:
        return "average"
    if is_shift(graph, node):
        return "move"
    if node.op_type == "PRelu":
        return "slope"
    rule = _MOVE_RULES.get(node.op_type, _always)
    return "move" if node.op_type in _MOVE and rule(graph, node) else None


def _always(graph: Graph, node: onnx.NodeProto) -> bool:
    return True


def _pads_with_zero(graph: Graph, node: onnx.NodeProto) -> bool:
    if attribute(node, "mode", "constant") != "constant":
        return True
    value = graph.constant(node.input[2]) if len(node.input) > 2 and node.input[2] else None
    return value is None or not np.any(value)


def _resizes_nearest(graph: Graph, node: onnx.NodeProto) -> bool:
    return (
        attribute(node, "mode", "nearest") == "nearest"
        and attribute(node, "coordinate_transformation_mode", "half_pixel") != "tf_crop_and_resize"
    )


_MOVE_RULES: dict[str, Callable[[Graph, onnx.NodeProto], bool]] = {
    "Pad": _pads_with_zero,
    "Resize": _resizes_nearest,
}


def _mac_units(graph: Graph) -> list[Unit]:
    units = []
    for node in graph.nodes:
        if node.op_type not in MAC_OPERATORS or not _is_plain_mac(graph, node) or is_shift(graph, node):
            continue
        nodes, output = _with_activation(graph, node, _FUSED_INTO_MAC)
        units.append(Unit("mac", nodes, (node.input[0],), (output,)))
    return units


def _is_plain_mac(graph: Graph, node: onnx.NodeProto) -> bool:
    """Return whether weights and bias are constants and the product has no factors of its own."""
    constants = [name for name in node.input[1:] if name]
    plain = (
        attribute(node, "alpha", 1.0) == 1.0
        and attribute(node, "beta", 1.0) == 1.0
        and not attribute(node, "transA", 0)
    )
    return (
        plain and graph.is_activation(node.input[0]) and all(name in graph.initializers for name in constants)
    )


def is_shift(graph: Graph, node: onnx.NodeProto) -> bool:
    """Return whether a node moves channels and changes none (`frontend/shift_kernel.py`)."""
    if node.op_type != "Conv" or (len(node.input) > 2 and node.input[2]):
        return False
    weight = graph.initializers.get(node.input[1])
    if weight is None or list(weight.dims[1:2]) != [1]:
        return False
    group = attribute(node, "group", 1)
    pads, dilations = attribute(node, "pads", [0] * 4), attribute(node, "dilations", [1] * 2)
    assert isinstance(group, int) and isinstance(pads, list) and isinstance(dilations, list)
    return attribute(node, "auto_pad", "NOTSET") == "NOTSET" and (
        displacements(numpy_helper.to_array(weight), group, pads, dilations) is not None
    )


def _with_activation(
    graph: Graph, node: onnx.NodeProto, fusible: frozenset[str]
) -> tuple[tuple[onnx.NodeProto, ...], str]:
    """Return `node` with the activation function that alone reads it, and the output of the two."""
    after = graph.only_consumer(node.output[0])
    if after is not None and after.op_type in fusible and after.input[0] == node.output[0]:
        constants = [name for name in after.input[1:] if name]
        if all(name in graph.initializers for name in constants):
            return (node, after), after.output[0]
    return (node,), node.output[0]


def _elementwise_units(graph: Graph, claimed: set[int]) -> list[Unit]:
    """Return table, clamp and binary units.

    Each elementwise result has a *root*, the one tensor that it is a function of. An operator whose inputs
    have one root extends the table; one with two roots is a binary unit, and its inputs end units of their
    own. An intermediate result that feeds two units is made a unit's end as well, until each node has
    exactly one end.
    """
    candidates = [node for node in graph.nodes if id(node) not in claimed and _is_elementwise(graph, node)]
    member = {id(node) for node in candidates}
    ends = {
        name
        for node in candidates
        for name in node.output
        if name in graph.outputs or any(id(reader) not in member for reader in graph.consumers.get(name, []))
    }
    while True:
        root, binary = _roots(graph, candidates, ends)
        new_ends = {name for node in binary for name in (*graph.activations(node), node.output[0])}
        sinks: dict[str, set[str]] = {}
        for node in reversed(candidates):
            name = node.output[0]
            if name in ends | new_ends:
                sinks[name] = {name}
                continue
            reached = {sink for reader in graph.consumers.get(name, []) for sink in sinks[reader.output[0]]}
            sinks[name] = reached
            if len(reached) != 1:
                new_ends.add(name)
        if new_ends <= ends:
            break
        ends |= new_ends
    return _build_elementwise(graph, candidates, ends, root, {id(node) for node in binary})


def _is_elementwise(graph: Graph, node: onnx.NodeProto) -> bool:
    if graph.types.get(node.output[0]) != TensorProto.FLOAT or node.domain not in ("", "ai.onnx"):
        return False
    inputs = [name for name in node.input if name]
    activations = graph.activations(node)
    constant_scalars = all(graph.is_activation(name) or graph.is_scalar(name) for name in inputs)
    if node.op_type in UNARY:
        return activations == [node.input[0]] and constant_scalars
    if node.op_type in _UNARY_WITH_SCALAR and len(activations) == 1:
        same_shape = graph.shapes.get(node.output[0]) == graph.shapes.get(activations[0])
        return constant_scalars and same_shape and len(inputs) == 2
    # Division or a power of a tensor by itself is a table too, of two tensors it is neither table nor binary.
    return node.op_type in _BINARY and len(activations) == 2


def _roots(
    graph: Graph, candidates: list[onnx.NodeProto], ends: set[str]
) -> tuple[dict[str, str], list[onnx.NodeProto]]:
    """Return the root of each candidate's output, and the candidates that join two roots."""
    root: dict[str, str] = {}
    binary = []
    for node in candidates:
        found = {name if name in ends else root.get(name, name) for name in graph.activations(node)}
        name = node.output[0]
        if len(found) > 1:
            binary.append(node)
            root[name] = name
        else:
            root[name] = found.pop()
    return root, binary


def _build_elementwise(
    graph: Graph, candidates: list[onnx.NodeProto], ends: set[str], root: dict[str, str], binary: set[int]
) -> list[Unit]:
    units: list[Unit] = []
    fused: set[int] = set()
    by_end: dict[str, list[onnx.NodeProto]] = {}
    end_of: dict[str, str] = {}
    for node in reversed(candidates):
        name = node.output[0]
        end_of[name] = name if name in ends else end_of[graph.consumers[name][0].output[0]]
        by_end.setdefault(end_of[name], []).append(node)
    for node in candidates:
        if id(node) in binary:
            nodes, output = _with_activation(graph, node, _CLAMP)
            # A clamp within a longer table stays with the table: the unit after the binary one starts there.
            if len(nodes) == 2 and (output not in ends or len(by_end[output]) > 1):
                nodes, output = (node,), node.output[0]
            fused |= {id(item) for item in nodes}
            units.append(Unit("binary", nodes, tuple(graph.activations(node)), (output,)))
    for end, reverse_nodes in by_end.items():
        group = tuple(reversed(reverse_nodes))
        if any(id(node) in fused for node in group):
            continue
        kind: Kind = "clamp" if all(node.op_type in _CLAMP for node in group) else "table"
        if all(node.op_type == "Identity" for node in group):
            kind = "move"
        units.append(Unit(kind, group, (root[end],), (end,)))
    return units


def _reachable(graph: Graph, units: list[Unit]) -> list[Unit]:
    """Drop units whose values never meet arithmetic on integers, such as what follows a softmax.

    A unit is kept where it demands integers, where a kept unit wants its output, or where all its inputs
    come out of kept units or are graph inputs that lead to arithmetic of any kind.
    """
    wanted: set[str] = set()
    arithmetic: set[str] = set()
    for unit in reversed(units):
        if _demands(unit) or wanted & set(unit.outputs):
            wanted |= set(unit.inputs)
        if _demands(unit) or unit.kind != "move" or arithmetic & set(unit.outputs):
            arithmetic |= set(unit.inputs)
    available = arithmetic & set(graph.inputs)
    kept = []
    for unit in units:
        if _demands(unit) or wanted & set(unit.outputs) or available.issuperset(unit.inputs):
            kept.append(unit)
            available |= set(unit.outputs)
    return kept


def _demands(unit: Unit) -> bool:
    return unit.kind in ("mac", "average") or unit.head.op_type in ("Conv", "MaxPool")
