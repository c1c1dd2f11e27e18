"""Read an ONNX model into the one form that the rest of the compiler works on.

Whatever a file holds, afterwards it is at opset 21 (ir_version 10), has fixed shapes, a complete
value_info, float32 in place of other float types, 8-bit types in place of narrower integers, standard
operators in place of QONNX's, and a name for every node.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import onnx
from onnx import ModelProto, NodeProto, TensorProto, helper, numpy_helper, version_converter

from ..errors import Fault, FaultList, ModelError, UnsupportedModel
from .custom_ops import expand_custom_ops
from .graph import IR_VERSION, OPSET, Graph
from .normalisations import lower_normalisations
from .onnx_file import OWN_DOMAIN, check_operators, check_tensors, opset_of, read_model
from .onnx_shapes import fix_shapes
from .qonnx_nodes import DOMAINS as QONNX_DOMAINS
from .qonnx_nodes import convert_qonnx
from .qoperators import convert_qoperators
from .small_integers import widen_integers

_SMALL = 1024
_WIDE_FLOATS = (TensorProto.FLOAT16, TensorProto.BFLOAT16, TensorProto.DOUBLE)
_TYPES = frozenset(
    getattr(TensorProto, name)
    for name in ("FLOAT", "BOOL", *(f"{sign}INT{bits}" for sign in ("", "U") for bits in (8, 16, 32, 64)))
)
_TYPE_ATTRIBUTES = frozenset({"to", "dtype", "output_dtype"})
# Wrote 16-bit QDQ models before opset 21 had these types; the semantics are those of the standard operators.
_SAME_AS_STANDARD = frozenset({"QuantizeLinear", "DequantizeLinear"})

# Changed since opset 21 by more types only, but onnx cannot convert them; the operator beside it can be, and has the
# same operands and shapes.
_NO_ADAPTER = {"GlobalMaxPool": "GlobalAveragePool"}


def load_onnx(
    source: str | Path | ModelProto | bytes,
    input_shapes: Mapping[str, Sequence[int]] | None = None,
    batch: int = 1,
) -> ModelProto:
    """Read, check and normalise an ONNX model.

    Args:
        source: path, bytes or model; a model is not changed.
        input_shapes: shapes of inputs by name, in place of those of the file. All others are inferred anew.
        batch: in place of a symbolic first dimension, and of a fixed one where the graph allows it.

    Returns:
        a model at opset 21 with fixed shapes; what it was computed from is in
        :func:`tilewright.frontend.folded_nodes`.

    Raises:
        ModelError: the file is damaged or contradicts itself; all faults of one kind at once.
        UnsupportedModel: operators or types that are not supported, all at once.
    """
    model = read_model(source)
    _adopt_domains(model)
    expand_custom_ops(model)
    check_operators(model)
    check_tensors(model)
    _drop_initialised_inputs(model)
    _unique_names(model)
    _import_domains(model)
    _check(model)
    widen_integers(model)
    _to_opset(model)
    _widen_floats(model)
    _unique_names(model)
    model.ir_version = IR_VERSION  # before 4, inference ignores initialisers that are no inputs
    graph = Graph.from_model(model)
    graph.sort()
    convert_qonnx(graph)
    convert_qoperators(graph)
    lower_normalisations(graph)
    graph = fix_shapes(graph, input_shapes, batch)
    _check_types(graph)
    _check_training(graph)
    _check_constants(graph)
    result = graph.to_model()
    del result.opset_import[:]
    result.opset_import.append(helper.make_opsetid("", OPSET))
    used = {n.domain for n in result.graph.node} - {""}
    result.opset_import.extend(o for o in model.opset_import if o.domain in used)
    return result


def _adopt_domains(model: ModelProto) -> None:
    for node in model.graph.node:
        if node.domain == "ai.onnx" or (node.domain == "com.microsoft" and node.op_type in _SAME_AS_STANDARD):
            node.domain = ""


def _import_domains(model: ModelProto) -> None:
    """Exporters of QONNX leave its domain out of the list."""
    known = {o.domain for o in model.opset_import}
    used = {n.domain for n in model.graph.node} & QONNX_DOMAINS
    model.opset_import.extend(helper.make_opsetid(domain, 1) for domain in sorted(used - known))


def _drop_initialised_inputs(model: ModelProto) -> None:
    constants = {t.name for t in model.graph.initializer}
    real = [v for v in model.graph.input if v.name not in constants]
    del model.graph.input[:]
    model.graph.input.extend(real)


def _without_large(model: ModelProto) -> tuple[ModelProto, list[TensorProto]]:
    """The model with large initialisers as inputs, and those initialisers."""
    small = ModelProto()
    small.ir_version = IR_VERSION
    small.opset_import.extend(model.opset_import)
    small.functions.extend(model.functions)
    small.graph.name = model.graph.name or "graph"
    small.graph.node.extend(model.graph.node)
    small.graph.input.extend(model.graph.input)
    small.graph.output.extend(model.graph.output)
    large = []
    for tensor in model.graph.initializer:
        if int(np.prod(tensor.dims, dtype=np.int64)) > _SMALL:
            large.append(tensor)
            small.graph.input.append(
                helper.make_tensor_value_info(tensor.name, tensor.data_type, list(tensor.dims))
            )
        else:
            small.graph.initializer.append(tensor)
    return small, large


def _check(model: ModelProto) -> None:
    small, _ = _without_large(model)
    for output in small.graph.output:
        if output.type.WhichOneof("value") is None:  # exporters leave it out; it is inferred later
            output.type.tensor_type.elem_type = TensorProto.FLOAT
        if output.type.WhichOneof("value") == "tensor_type" and not output.type.tensor_type.HasField("shape"):
            output.type.tensor_type.shape.SetInParent()
    for value in small.graph.input:
        if value.type.WhichOneof("value") == "tensor_type" and not value.type.tensor_type.HasField("shape"):
            value.type.tensor_type.shape.SetInParent()  # reported later, with the remedy
    try:
        onnx.checker.check_model(small)
    except (onnx.checker.ValidationError, ValueError, RuntimeError) as exc:
        message = f"the model contradicts the ONNX standard: {_one_line(exc)}"
        raise ModelError(Fault(message, "graph", "export the model again")) from None


def _to_opset(model: ModelProto) -> None:
    """Convert the standard operators to opset 21, without copying large weights through the converter."""
    version = opset_of(model)
    if version == OPSET:
        return
    small, large = _without_large(model)
    del small.functions[:]
    disguised = {n.name: n.op_type for n in small.graph.node if n.op_type in _NO_ADAPTER and not n.domain}
    for node in small.graph.node:
        if node.name in disguised:
            node.op_type = _NO_ADAPTER[node.op_type]
    try:
        converted = version_converter.convert_version(small, OPSET)
    except (
        RuntimeError,
        ValueError,
        onnx.checker.ValidationError,
        onnx.shape_inference.InferenceError,
    ) as exc:
        message = f"the model cannot be converted from opset {version} to {OPSET}: {_one_line(exc)}"
        remedy = f"export the model with opset {OPSET}"
        raise UnsupportedModel(Fault(message, _first_unconvertible(model, version), remedy)) from None
    for node in converted.graph.node:
        node.op_type = disguised.get(node.name, node.op_type)
    names = {t.name for t in large}
    nodes, inputs = list(converted.graph.node), [v for v in converted.graph.input if v.name not in names]
    domains = [o for o in model.opset_import if o.domain not in ("", "ai.onnx")]
    del model.graph.node[:], model.graph.input[:], model.graph.value_info[:], model.opset_import[:]
    for index in reversed(range(len(model.graph.initializer))):
        if model.graph.initializer[index].name not in names:
            del model.graph.initializer[index]
    model.graph.initializer.extend(t for t in converted.graph.initializer if t.name not in names)
    model.graph.node.extend(nodes)
    model.graph.input.extend(inputs)
    model.opset_import.extend([helper.make_opsetid("", OPSET), *domains])


def _first_unconvertible(model: ModelProto, version: int) -> str:
    """Where to look: the first operator that is newer than opset 21, if there is one."""
    for node in model.graph.node:
        if not node.domain and not onnx.defs.has(node.op_type, OPSET) and version > OPSET:
            return f"node {node.name} ({node.op_type})"
    return "graph"


def _widen_floats(model: ModelProto) -> None:
    """float16, bfloat16 and double become float32, in weights, inputs, outputs and attributes."""
    for i, tensor in enumerate(model.graph.initializer):
        if tensor.data_type in _WIDE_FLOATS:
            model.graph.initializer[i].CopyFrom(_widened(tensor))
    for value in [*model.graph.input, *model.graph.output]:
        kind = value.type.tensor_type
        if value.type.WhichOneof("value") == "tensor_type" and kind.elem_type in _WIDE_FLOATS:
            kind.elem_type = TensorProto.FLOAT
    changed = [v for v in model.graph.value_info if v.type.tensor_type.elem_type in _WIDE_FLOATS]
    for value in changed:
        value.type.tensor_type.elem_type = TensorProto.FLOAT
    for node in model.graph.node:
        if node.domain == OWN_DOMAIN:
            continue
        for attribute in node.attribute:
            if attribute.type == onnx.AttributeProto.TENSOR and attribute.t.data_type in _WIDE_FLOATS:
                attribute.t.CopyFrom(_widened(attribute.t))
            elif attribute.name in _TYPE_ATTRIBUTES and attribute.i in _WIDE_FLOATS:
                attribute.i = TensorProto.FLOAT


def _widened(tensor: TensorProto) -> TensorProto:
    with np.errstate(over="ignore"):  # an overflow becomes infinite, which _check_constants reports
        return numpy_helper.from_array(numpy_helper.to_array(tensor).astype(np.float32), tensor.name)


def _unique_names(model: ModelProto) -> None:
    """Names that are there stay; a node without one is called like its first output."""
    given = [n.name for n in model.graph.node if n.name]
    used = set(given)
    seen: set[str] = set()
    for node in model.graph.node:
        if not node.name or node.name in seen:
            node.name = _free_name(node, used)
            used.add(node.name)
        seen.add(node.name)


def _free_name(node: NodeProto, used: set[str]) -> str:
    hint = node.name or next((v for v in node.output if v), "") or node.op_type
    name, count = hint, 1
    while name in used:
        count += 1
        name = f"{hint}_{count}"
    return name


def _check_types(graph: Graph) -> None:
    """Numbers that no level of the compiler holds: float8, complex, strings."""
    faults = FaultList()
    values = [(f"input {v.name}", v.name) for v in graph.inputs]
    values += [(f"node {node.name}", v) for node in graph for v in node.outputs if v in graph.types]
    for where, value in values:
        element = graph.element(value)
        if element and element not in _TYPES:
            name = TensorProto.DataType.Name(element)
            faults.add(
                f"{value} holds {name}, expected float32, integers or booleans",
                where=where,
                remedy="cast it before the model is exported, or cut the model there",
            )
    faults.raise_if_any(UnsupportedModel)


def _check_training(graph: Graph) -> None:
    """What a layer gives in training depends on the batch or on chance."""
    faults = FaultList()
    for node in graph:
        if node.op == "BatchNormalization":
            training = node.int("training_mode", 0) != 0
        elif node.op == "Dropout" and node.input(2):
            ratio, mode = (graph.constant(node.input(i)) for i in (1, 2))
            training = (mode is None or bool(mode.any())) and (ratio is None or bool(ratio.any()))
        else:
            continue
        if training:
            message = f"{node.op} is in training mode"
            faults.add(message, where=f"node {node.name}", remedy="export the network for inference")
    faults.raise_if_any(UnsupportedModel)


def _check_constants(graph: Graph) -> None:
    """Constants that folding or narrowing made infinite, where a reader computes with them."""
    faults = FaultList()
    for name, array in graph.constants.items():
        if array.dtype.kind != "f" or array.size == 1 or not graph.users(name) or np.isfinite(array).all():
            continue
        message = (
            f"expected finite numbers, found {int((~np.isfinite(array)).sum())} of {array.size} that are not"
        )
        faults.add(message, where=f"constant {name}", remedy="train or export the model again")
    faults.raise_if_any(ModelError)


def _one_line(exc: Exception) -> str:
    return " ".join(line.strip() for line in str(exc).splitlines() if line.strip())
