"""Integers of 4 and 2 bits -> 8-bit storage with the same values.

    initialiser int4              ->  int8
    QuantizeLinear to int4        ->  QuantizeLinear to int8 - Clip(-8, 7)        likewise uint4, int2, uint2

Why: Relax has no such types, and the quantised form has one way to write a narrow tensor.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray
from onnx import AttributeProto, ModelProto, NodeProto, TensorProto, helper, numpy_helper

from ..errors import FaultList, UnsupportedModel

_RANGES: dict[int, tuple[str, int, int]] = {
    getattr(TensorProto, name): (wide, lo, hi)
    for name, wide, lo, hi in (
        ("INT4", "int8", -8, 7),
        ("UINT4", "uint8", 0, 15),
        ("INT2", "int8", -2, 1),
        ("UINT2", "uint8", 0, 3),
    )
    if hasattr(TensorProto, name)  # older onnx has no 2-bit types
}
_REMEDY = "store it as int8 or uint8"


def widen_integers(model: ModelProto) -> None:
    """Rewrite a model in place; value_info of narrow types is dropped.

    Raises:
        UnsupportedModel: inputs, outputs or operators other than QuantizeLinear that give such types; all at once.
    """
    kinds = {t.name: t.data_type for t in model.graph.initializer if t.data_type in _RANGES}
    for tensor in model.graph.initializer:
        if tensor.data_type in _RANGES:
            tensor.CopyFrom(_widened(tensor))
    faults = FaultList()
    for value in [*model.graph.input, *model.graph.output]:
        element = value.type.tensor_type.elem_type
        if element in _RANGES:
            message = f"expected numbers of 8 bits or more, found {TensorProto.DataType.Name(element)}"
            faults.add(message, where=f"value {value.name}", remedy=_REMEDY)
    nodes: list[NodeProto] = []
    for node in model.graph.node:
        nodes.append(node)
        for attribute in node.attribute:
            if attribute.type == AttributeProto.TENSOR and attribute.t.data_type in _RANGES:
                kinds[node.output[0]] = attribute.t.data_type
                attribute.t.CopyFrom(_widened(attribute.t))
            elif attribute.name in ("to", "dtype") and attribute.i in _RANGES:
                message = f"{node.op_type} to {TensorProto.DataType.Name(attribute.i)} is not supported"
                faults.add(message, where=f"node {node.name}", remedy=_REMEDY)
        if node.op_type == "QuantizeLinear" and not node.domain:
            nodes.extend(_clipped(model, node, kinds))
    faults.raise_if_any(UnsupportedModel)
    if len(nodes) > len(model.graph.node):
        del model.graph.node[:]
        model.graph.node.extend(nodes)
    kept = [v for v in model.graph.value_info if v.type.tensor_type.elem_type not in _RANGES]
    if len(kept) < len(model.graph.value_info):
        del model.graph.value_info[:]
        model.graph.value_info.extend(kept)


def _clipped(model: ModelProto, node: NodeProto, kinds: dict[str, int]) -> list[NodeProto]:
    """Let a QuantizeLinear to a narrow type give the wide one; the Clip that follows it, if it does."""
    kind = kinds.get(node.input[2], 0) if len(node.input) > 2 else 0
    for attribute in node.attribute:
        if attribute.name == "output_dtype" and attribute.i in _RANGES:
            kind = attribute.i
            attribute.i = helper.np_dtype_to_tensor_dtype(np.dtype(_RANGES[kind][0]))
    if not kind:
        return []
    wide, *bounds = _RANGES[kind]
    result = node.output[0]
    inner = f"{result}/unclipped"
    node.output[0] = inner
    names = [f"{result}/{which}" for which in ("lo", "hi")]
    for name, bound in zip(names, bounds, strict=True):
        model.graph.initializer.append(numpy_helper.from_array(np.array(bound, wide), name))
    return [helper.make_node("Clip", [inner, *names], [result], name=f"{node.name}/clip")]


def _widened(tensor: TensorProto) -> TensorProto:
    array: NDArray[np.generic] = numpy_helper.to_array(tensor)
    return numpy_helper.from_array(array.astype(_RANGES[tensor.data_type][0]), tensor.name)
