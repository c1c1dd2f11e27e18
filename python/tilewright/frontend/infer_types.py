"""Infer element types and shapes of all values of a graph."""

from __future__ import annotations

import math

import onnx

from ..errors import Fault, FaultList, ModelError
from .graph import Graph, ValueType

_SMALL = 1024  # elements; larger constants decide no shape


def infer_types(graph: Graph) -> None:
    """Infer the types of all values anew with onnx's strict inference.

    Raises:
        ModelError: shapes or types contradict each other; the message names the node.
    """
    model = graph.to_model(largest_constant=_SMALL)
    del model.graph.value_info[:]
    own = {v for n in graph.nodes if n.domain for v in n.outputs}
    for name in sorted(own & set(graph.types)):
        model.graph.value_info.add(name=name, type=graph.types[name].proto())
    for output in model.graph.output:
        if output.name not in own and output.type.WhichOneof("value") == "tensor_type":
            output.type.tensor_type.ClearField("shape")
    try:
        inferred = onnx.shape_inference.infer_shapes(model, strict_mode=True, data_prop=True)
    except (
        onnx.shape_inference.InferenceError,
        onnx.checker.ValidationError,
        RuntimeError,
        ValueError,
        MemoryError,  # damaged attributes may ask for any number of dimensions
    ) as exc:
        lines = [line.strip() for line in str(exc).splitlines() if line.strip()]
        message = f"shapes do not fit together: {' '.join(lines)}"
        raise ModelError(Fault(message, "graph", "check the input shape and the model")) from None
    for value in [*inferred.graph.value_info, *inferred.graph.output]:
        kind = ValueType.of(value.type)
        if kind is not None and value.name not in graph.constants:
            graph.types[value.name] = kind
    _check_reshapes(graph)


def _check_reshapes(graph: Graph) -> None:
    """onnx takes any constant target of a Reshape for the shape of its output."""
    faults = FaultList()
    for node in graph.of("Reshape"):
        before, after = graph.shape(node.inputs[0]), graph.shape(node.output)
        if before is None or after is None or math.prod(before) == math.prod(after):
            continue
        if len(after) == len(before) + 1 > 2 and (before[0], *before[2:]) == (after[0], *after[3:]):
            groups = after[1]
            faults.add(
                f"{groups} groups of a channel shuffle do not divide {before[1]} channels",
                where=f"node {node.name}",
                remedy=f"choose a number of groups that divides {before[1]}",
            )
        else:
            faults.add(
                f"{list(before)} has {math.prod(before)} elements, {list(after)} has {math.prod(after)}",
                where=f"node {node.name}",
                remedy="check the input shape and the batch",
            )
    faults.raise_if_any(ModelError)
