"""An index over an ONNX graph: who makes and who reads each tensor, its type and its constant value."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, numpy_helper

from tilewright.errors import FaultList, ModelError, UnsupportedModel
from tilewright.frontend.quantised import is_quantised

OPSET = 21
IR_VERSION = 10
_SMALL = 1024
"""Elements; larger constants decide no shape."""


def unique_name(name: str, taken: set[str]) -> str:
    """Return `name`, or `name` with a number where that is in `taken`, and add it there."""
    found, count = name, 1
    while found in taken:
        count += 1
        found = f"{name}_{count}"
    taken.add(found)
    return found


class Graph:
    """A float model with its lookups; the nodes are in topological order, as ONNX demands.

    Args:
        model: not changed; the index holds a copy in which every node has a name of its own and all shapes
        are
            inferred.

    Raises:
        UnsupportedModel: another opset, control flow, or quantised already.
        ModelError: shapes contradict each other, or weights hold NaN or infinity.
    """

    def __init__(self, model: onnx.ModelProto) -> None:
        self.model = _checked(model)
        graph = self.model.graph
        self.nodes = list(graph.node)
        self.index = {id(node): k for k, node in enumerate(self.nodes)}
        self.initializers = {item.name: item for item in graph.initializer}
        self.inputs = [item.name for item in graph.input if item.name not in self.initializers]
        self.outputs = [item.name for item in graph.output]
        self.producer = {name: node for node in self.nodes for name in node.output if name}
        self.consumers: dict[str, list[onnx.NodeProto]] = {}
        for node in self.nodes:
            for name in dict.fromkeys(node.input):
                if name:
                    self.consumers.setdefault(name, []).append(node)
        infos = [*graph.input, *graph.value_info, *graph.output]
        self.types = {item.name: item.type.tensor_type.elem_type for item in infos}
        self.shapes = {
            item.name: tuple(dim.dim_value for dim in item.type.tensor_type.shape.dim) for item in infos
        }
        self.names = {name for node in self.nodes for name in (*node.input, *node.output, node.name)}
        self.names |= self.initializers.keys() | set(self.inputs) | set(self.outputs)

    def is_activation(self, name: str) -> bool:
        """Return whether `name` is a float32 tensor that depends on the input."""
        return name not in self.initializers and self.types.get(name) == TensorProto.FLOAT

    def activations(self, node: onnx.NodeProto) -> list[str]:
        """Return the distinct activations that `node` reads, in order."""
        return [name for name in dict.fromkeys(node.input) if name and self.is_activation(name)]

    def constant(self, name: str) -> NDArray[np.generic] | None:
        """Return the value of an initialiser, or None where `name` is none."""
        item = self.initializers.get(name)
        return None if item is None else np.asarray(numpy_helper.to_array(item))

    def is_scalar(self, name: str) -> bool:
        """Return whether `name` is an initialiser of one element."""
        item = self.initializers.get(name)
        return item is not None and int(np.prod(item.dims)) == 1

    def only_consumer(self, name: str) -> onnx.NodeProto | None:
        """Return the node that alone reads `name`, or None where several read it or it is a graph output."""
        readers = self.consumers.get(name, [])
        return readers[0] if len(readers) == 1 and name not in self.outputs else None

    def unique(self, name: str) -> str:
        """Return `name`, or `name` with a number where that is taken, and take it."""
        return unique_name(name, self.names)

    def slice_model(self, outputs: Iterable[str]) -> onnx.ModelProto:
        """Return a model of the nodes that `outputs` depend on, with those outputs.

        Operators that ONNX Runtime lacks, such as detection output, are left out in this way.
        """
        wanted = list(dict.fromkeys(outputs))
        needed, nodes = set(wanted), []
        for node in reversed(self.nodes):
            if needed & set(node.output):
                nodes.append(node)
                needed |= set(node.input)
        result = onnx.ModelProto()
        result.CopyFrom(self.model)
        graph = result.graph
        kept_inputs = [item for item in graph.input if item.name in self.inputs]
        kept_constants = [item for item in graph.initializer if item.name in needed]
        infos = {item.name: item for item in (*graph.input, *graph.value_info, *graph.output)}
        made = {name for node in nodes for name in node.output} & infos.keys()
        del result.functions[:]
        for field in ("node", "input", "initializer", "output", "value_info"):
            graph.ClearField(field)
        graph.node.extend(reversed(nodes))
        graph.input.extend(kept_inputs)
        graph.initializer.extend(kept_constants)
        graph.output.extend(infos[name] for name in wanted)
        graph.value_info.extend(infos[name] for name in sorted(made - set(wanted)))
        return result


def _checked(model: onnx.ModelProto) -> onnx.ModelProto:
    """Return a copy with named nodes and inferred shapes, or raise with every fault."""
    if is_quantised(model):
        raise UnsupportedModel(
            "the model is quantised already: expected a float model without QuantizeLinear or Quant nodes;"
            " compile it as it is, its own scales are kept"
        )
    faults = FaultList()
    opset = next((item.version for item in model.opset_import if item.domain in ("", "ai.onnx")), 0)
    if opset != OPSET:
        faults.add(f"expected opset {OPSET}, found {opset}", remedy="bring the model to canonical form first")
    for node in model.graph.node:
        if any(
            item.type in (onnx.AttributeProto.GRAPH, onnx.AttributeProto.GRAPHS) for item in node.attribute
        ):
            faults.add(f"{node.op_type} with a subgraph is not supported", where=f"node {node.name!r}")
    faults.raise_if_any(UnsupportedModel)
    for item in model.graph.initializer:
        if item.data_type == TensorProto.FLOAT:
            bad = int(np.count_nonzero(~np.isfinite(numpy_helper.to_array(item))))
            if bad:
                faults.add(f"{bad} of {int(np.prod(item.dims))} weights are NaN or infinite", where=item.name)
    faults.raise_if_any(ModelError)
    copy = onnx.ModelProto()
    copy.CopyFrom(model)
    try:
        inferred = onnx.shape_inference.infer_shapes(_skeleton(copy), strict_mode=True)
    except onnx.shape_inference.InferenceError as error:
        raise ModelError(f"shapes cannot be inferred: {error}") from error
    for values in ("value_info", "output"):
        del getattr(copy.graph, values)[:]
        getattr(copy.graph, values).extend(getattr(inferred.graph, values))
    taken = {node.name for node in copy.graph.node}
    seen: set[str] = set()
    for node in copy.graph.node:
        if not node.name or node.name in seen:
            base = name = f"{node.op_type}_{next(filter(None, node.output), 'none')}"
            count = 1
            while name in taken:
                count += 1
                name = f"{base}_{count}"
            node.name = name
            taken.add(name)
        seen.add(node.name)
    return copy


def _skeleton(model: onnx.ModelProto) -> onnx.ModelProto:
    """The model with its weights as inputs: onnx writes and reads all of a model whose shapes it infers.

    Small constants stay, for they may be shapes.
    """
    skeleton = onnx.ModelProto(ir_version=model.ir_version, opset_import=model.opset_import)
    skeleton.functions.extend(model.functions)
    graph = skeleton.graph
    graph.name = model.graph.name
    for values in ("node", "input", "output", "value_info"):
        getattr(graph, values).extend(getattr(model.graph, values))
    inputs = {item.name for item in model.graph.input}
    for item in model.graph.initializer:
        if np.prod(item.dims, dtype=np.int64) <= _SMALL:
            graph.initializer.append(item)
        elif item.name not in inputs:
            graph.input.append(onnx.helper.make_tensor_value_info(item.name, item.data_type, item.dims))
    return skeleton
