"""Read an ONNX file and check what can be checked before any shape is known.

Everything wrong with a file is gathered and reported at once: operators and domains that are not known,
control flow, weights that are damaged, missing, NaN or infinite.
"""

from __future__ import annotations

import difflib
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import onnx
from google.protobuf.descriptor import FieldDescriptor
from google.protobuf.message import DecodeError, Message
from onnx import AttributeProto, GraphProto, ModelProto, NodeProto, TensorProto, helper, numpy_helper

from ..errors import Fault, FaultList, ModelError, UnsupportedModel
from .qonnx_nodes import DOMAINS as QONNX_DOMAINS
from .qonnx_nodes import OPERATORS as QONNX_OPERATORS

OWN_DOMAIN = "tilewright"
_STANDARD = ("", "ai.onnx")
_DOMAIN_REMEDIES = {
    **dict.fromkeys(
        QONNX_DOMAINS, f"of these domains {', '.join(sorted(QONNX_OPERATORS))} are known; export as QCDQ"
    ),
    "com.microsoft": "save the model without ONNX Runtime's optimisations (ORT_DISABLE_ALL)",
    "ai.onnx.ml": "only neural networks are compiled; leave this operator out of the exported graph",
}
_SUBGRAPHS = (AttributeProto.GRAPH, AttributeProto.GRAPHS)
_CONTROL_FLOW = ("If", "Loop", "Scan", "SequenceMap")
_MAX_ELEMENTS = 1 << 31
# Readers for which an infinite constant has a meaning: "no limit", or padding that never wins a maximum.
_INFINITY_IS_FINE = frozenset({"Clip", "Pad", "Min", "Max", "Where", "Constant", "Identity", "Expand"})


def read_model(source: str | Path | ModelProto | bytes) -> ModelProto:
    """Parse a model and load weights kept beside it; nothing else is checked.

    Args:
        source: a path, the bytes of a file, or a model (which is copied).

    Raises:
        ModelError: the file is missing, empty, truncated or no ONNX, or its weights' files are missing.
    """
    if isinstance(source, ModelProto):
        model = ModelProto()
        model.CopyFrom(source)
        return _with_external_data(model, None, "model")
    if isinstance(source, bytes):
        return _with_external_data(_parse(source, "model"), None, "model")
    path = Path(source)
    try:
        data = path.read_bytes()
    except FileNotFoundError:
        raise ModelError(Fault("no such file", str(path), "check the path")) from None
    except (OSError, ValueError) as exc:
        reason = exc.strerror if isinstance(exc, OSError) and exc.strerror else str(exc)
        raise ModelError(Fault(f"cannot be read: {reason}", str(path))) from None
    return _with_external_data(_parse(data, str(path)), path.parent, str(path))


def _parse(data: bytes, where: str) -> ModelProto:
    remedy = "export or download the file again"
    if not data:
        raise ModelError(Fault("expected an ONNX model, found 0 bytes", where, remedy))
    model = ModelProto()
    try:
        model.ParseFromString(data)
    except DecodeError:
        message = (
            f"expected an ONNX model, found {len(data)} bytes that do not decode (truncated, or no ONNX)"
        )
        raise ModelError(Fault(message, where, remedy)) from None
    if not _is_text(model):
        message = f"expected an ONNX model, found {len(data)} bytes with names that are no text (UTF-8)"
        raise ModelError(Fault(message, where, remedy))
    if not model.HasField("graph") or not model.graph.output:
        message = f"expected an ONNX model, found {len(data)} bytes without a graph that has outputs"
        raise ModelError(Fault(message, where, remedy))
    return model


def _is_text(message: Message) -> bool:
    """Whether all strings decode: protobuf hands out those that do not as bytes."""
    for descriptor, value in message.ListFields():
        values = [value] if isinstance(value, (str, bytes, Message)) else value
        if descriptor.type == FieldDescriptor.TYPE_STRING:
            if not all(isinstance(v, str) for v in values):
                return False
        elif descriptor.type == FieldDescriptor.TYPE_MESSAGE and not all(
            isinstance(v, Message) and _is_text(v) for v in values
        ):
            return False
    return True


def _with_external_data(model: ModelProto, folder: Path | None, where: str) -> ModelProto:
    outside = [t for t in _tensors(model.graph) if t.data_location == TensorProto.EXTERNAL]
    if not outside:
        return model
    if folder is None:
        message = f"{len(outside)} weights are in other files ({outside[0].name!r} first)"
        raise ModelError(Fault(message, where, "pass the path of the model, so that they can be found"))
    faults = FaultList()
    missing: dict[str, list[str]] = {}
    for tensor in outside:
        location = next((e.value for e in tensor.external_data if e.key == "location"), "")
        if not location or not _inside(folder, location):
            faults.add(
                f"weights in {location!r}: expected a file beside the model", where=f"tensor {tensor.name}"
            )
        elif not (folder / location).is_file():
            missing.setdefault(location, []).append(tensor.name)
    for location, names in missing.items():
        message = (
            f"file {location!r} with the weights of {len(names)} tensors ({names[0]!r} first) is missing"
        )
        faults.add(message, where=where, remedy=f"put it into {folder}")
    faults.raise_if_any(ModelError)
    for tensor in outside:
        try:
            onnx.external_data_helper.load_external_data_for_tensor(tensor, str(folder))
        except (OSError, ValueError, onnx.checker.ValidationError) as exc:
            faults.add(f"weights cannot be read: {_first_line(exc)}", where=f"tensor {tensor.name}")
        else:
            tensor.data_location = TensorProto.DEFAULT
            del tensor.external_data[:]
    faults.raise_if_any(ModelError)
    return model


def _inside(folder: Path, location: str) -> bool:
    try:
        return (folder / location).resolve().is_relative_to(folder.resolve())
    except (OSError, ValueError):
        return False


def _tensors(graph: GraphProto) -> Iterator[TensorProto]:
    yield from graph.initializer
    for node in graph.node:
        for attribute in node.attribute:
            if attribute.type == AttributeProto.TENSOR:
                yield attribute.t


def opset_of(model: ModelProto) -> int:
    """The version of the standard operators that a model uses.

    Raises:
        ModelError: none or several are named.
        UnsupportedModel: the version is newer than the installed onnx package.
    """
    versions = {o.version for o in model.opset_import if o.domain in _STANDARD}
    if len(versions) != 1 or min(versions) < 1:
        found = ", ".join(str(v) for v in sorted(versions)) or "none"
        raise ModelError(Fault(f"expected one opset version of at least 1, found {found}", "opset_import"))
    version = versions.pop()
    newest = onnx.defs.onnx_opset_version()
    if version > newest:
        message = f"opset {version} is newer than {newest}, the newest that the installed onnx knows"
        raise UnsupportedModel(Fault(message, "opset_import", "export the model with opset 21"))
    return int(version)


def check_operators(model: ModelProto) -> None:
    """Refuse operators that are in no opset, in another domain, or steer control flow; all at once.

    Nodes of domain ``tilewright`` and of functions that the model brings along pass.

    Raises:
        UnsupportedModel: one fault for each kind of operator, naming its first node.
    """
    opset = opset_of(model)
    functions = {(f.domain, f.name) for f in model.functions}
    known = sorted({s.name for s in onnx.defs.get_all_schemas()})
    faults = FaultList()
    found: dict[tuple[str, str], list[NodeProto]] = {}
    for node in model.graph.node:
        found.setdefault((node.domain, node.op_type), []).append(node)
    for (domain, op), nodes in found.items():
        where = _place(nodes)
        if (domain, op) in functions or domain == OWN_DOMAIN:
            continue
        if domain in QONNX_DOMAINS and op in QONNX_OPERATORS:
            continue
        if domain not in _STANDARD:
            remedy = _DOMAIN_REMEDIES.get(domain, "export the model with standard ONNX operators only")
            faults.add(f"operator {domain}.{op} is not a standard ONNX operator", where=where, remedy=remedy)
        elif op in _CONTROL_FLOW or any(a.type in _SUBGRAPHS for n in nodes for a in n.attribute):
            remedy = "export the model with its control flow resolved (trace it with a fixed input)"
            faults.add(
                f"operator {op} holds a subgraph; only static graphs are compiled", where=where, remedy=remedy
            )
        elif not onnx.defs.has(op, opset):
            close = difflib.get_close_matches(op, known, 1)
            remedy = f"did you mean {close[0]}?" if close else ""
            faults.add(f"operator {op!r} is unknown in opset {opset}", where=where, remedy=remedy)
        elif onnx.defs.get_schema(op, opset).deprecated:
            faults.add(
                f"operator {op} was removed in opset {opset}", where=where, remedy="export the model again"
            )
    if model.graph.sparse_initializer:
        faults.add(
            f"{len(model.graph.sparse_initializer)} weights are stored as sparse tensors",
            where="graph",
            remedy="export the model with dense weights",
        )
    faults.raise_if_any(UnsupportedModel)


def _place(nodes: list[NodeProto]) -> str:
    node = nodes[0]
    name = node.name or (node.output[0] if node.output else "") or node.op_type
    return f"node {name}" if len(nodes) == 1 else f"node {name} and {len(nodes) - 1} more"


def check_tensors(model: ModelProto) -> None:
    """Check type, dimensions, length and values of all initialisers and constants, and texts of nodes.

    Raises:
        ModelError: all faults found.
    """
    faults = FaultList()
    readers: dict[str, set[str]] = {}
    for node in model.graph.node:
        for value in node.input:
            readers.setdefault(value, set()).add(node.op_type)
    seen: set[str] = set()
    for tensor in model.graph.initializer:
        if tensor.name in seen or not tensor.name:
            faults.add("initialisers need names of their own", where=f"initialiser {tensor.name!r}")
        seen.add(tensor.name)
        _check_tensor(tensor, f"initialiser {tensor.name}", readers.get(tensor.name, set()), faults)
    for node in model.graph.node:
        for attribute in node.attribute:
            where = f"node {node.name or node.op_type}, attribute {attribute.name}"
            if attribute.ref_attr_name:
                name = attribute.ref_attr_name
                message = f"expected a value, found a reference to {name!r}, which only functions have"
                faults.add(message, where=where)
            elif attribute.type == AttributeProto.TENSOR:
                _check_tensor(attribute.t, where, {node.op_type}, faults)
            elif attribute.type in (AttributeProto.STRING, AttributeProto.STRINGS):
                for text in (attribute.s, *attribute.strings):
                    if not _decodes(text):
                        faults.add(f"expected text (UTF-8), found {text[:40]!r}", where=where)
    faults.raise_if_any(ModelError)


def _decodes(text: bytes) -> bool:
    try:
        text.decode()
    except UnicodeDecodeError:
        return False
    return True


def _check_tensor(tensor: TensorProto, where: str, readers: set[str], faults: FaultList) -> None:
    shape = list(tensor.dims)
    if tensor.data_type in (TensorProto.UNDEFINED, TensorProto.STRING) or tensor.data_type not in _ITEM_BITS:
        kind = (
            TensorProto.DataType.Name(tensor.data_type)
            if tensor.data_type in _TYPE_NUMBERS
            else tensor.data_type
        )
        faults.add(f"expected numbers, found element type {kind}", where=where)
        return
    elements = 1
    for dim in shape:
        elements *= dim
    if any(d < 0 for d in shape) or elements > _MAX_ELEMENTS:
        faults.add(f"expected dimensions with at most 2**31 elements in all, found {shape}", where=where)
        return
    if elements == 0 and len(shape) > 1:
        faults.add(f"expected at least one element, found shape {shape}", where=where)
        return
    expected, found, unit = _lengths(tensor, elements)
    if expected != found:
        remedy = "the file is damaged; export or download it again"
        faults.add(f"expected {expected} {unit} for shape {shape}, found {found}", where=where, remedy=remedy)
        return
    wrong = _out_of_range(tensor)
    if wrong:
        faults.add(wrong, where=where, remedy="the file is damaged; export or download it again")
        return
    try:
        array = numpy_helper.to_array(tensor)
    except (ValueError, TypeError, OverflowError) as exc:
        faults.add(f"values cannot be read: {_first_line(exc)}", where=where)
        return
    if array.dtype.kind != "f" or bool(np.isfinite(array).all()):
        return
    nans, infinities = int(np.isnan(array).sum()), int(np.isinf(array).sum())
    if nans or not (readers and readers <= _INFINITY_IS_FINE and array.size == 1):
        message = f"expected finite numbers, found {nans} NaN and {infinities} infinite of {array.size}"
        faults.add(message, where=where, remedy="train or export the model again")


_TYPE_NUMBERS = frozenset(TensorProto.DataType.values())
_ITEM_BITS: dict[int, int] = {
    TensorProto.FLOAT: 32,
    TensorProto.DOUBLE: 64,
    TensorProto.FLOAT16: 16,
    TensorProto.BFLOAT16: 16,
    TensorProto.INT4: 4,
    TensorProto.UINT4: 4,
    TensorProto.INT8: 8,
    TensorProto.UINT8: 8,
    TensorProto.INT16: 16,
    TensorProto.UINT16: 16,
    TensorProto.INT32: 32,
    TensorProto.UINT32: 32,
    TensorProto.INT64: 64,
    TensorProto.UINT64: 64,
    TensorProto.BOOL: 8,
    **{getattr(TensorProto, name): 2 for name in ("INT2", "UINT2") if hasattr(TensorProto, name)},
}
ELEMENT_TYPES = frozenset(_ITEM_BITS)
"""Types of numbers, as TensorProto counts them."""


def _lengths(tensor: TensorProto, elements: int) -> tuple[int, int, str]:
    """Expected and found length of the tensor's data, and what is counted."""
    bits = _ITEM_BITS[tensor.data_type]
    if tensor.HasField("raw_data"):
        return (elements * bits + 7) // 8, len(tensor.raw_data), "bytes"
    stored = getattr(tensor, helper.tensor_dtype_to_field(tensor.data_type))
    return (-(-elements * bits // 8) if bits < 8 else elements), len(stored), "values"


def _out_of_range(tensor: TensorProto) -> str:
    """What is wrong with numbers in a field for wider ones, whose upper bits would be dropped; "" where nothing is."""
    bits, kind = _ITEM_BITS[tensor.data_type], TensorProto.DataType.Name(tensor.data_type)
    field = helper.tensor_dtype_to_field(tensor.data_type)
    if tensor.HasField("raw_data") or field not in ("int32_data", "uint64_data"):
        return ""
    low, high = 0, 2 ** max(bits, 8) - 1  # floats of 16 bits by their bits, smaller integers in bytes
    if kind == "BOOL":
        high = 1
    elif kind.startswith("INT") and bits >= 8:
        low, high = -(2 ** (bits - 1)), 2 ** (bits - 1) - 1
    stored = getattr(tensor, field)
    outside = [v for v in (min(stored, default=low), max(stored, default=low)) if not low <= v <= high]
    return f"expected {kind} values from {low} to {high}, found {outside[0]}" if outside else ""


def _first_line(exc: Exception) -> str:
    lines = str(exc).strip().splitlines()
    return lines[0] if lines else type(exc).__name__
