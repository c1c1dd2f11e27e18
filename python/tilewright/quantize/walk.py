"""A model run piece by piece over a whole calibration set, so that later weights can depend on earlier results."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import helper, numpy_helper

from tilewright.quantize.observe import open_session, run_session
from tilewright.quantize.samples import Sample

Values = list[NDArray[Any]]
"""A tensor's value on each sample."""


class Walk:
    """Runs each node once; the values that nodes still to come read are kept, all others dropped.

    Args:
        model: changed by `replace`.
        samples: values of its inputs.
        targets: tensors that will be asked for, in this order.
    """

    def __init__(self, model: onnx.ModelProto, samples: Sequence[Sample], targets: Sequence[str]) -> None:
        self._constants = {item.name: item for item in model.graph.initializer}
        wanted = set(targets)
        nodes = []
        for node in reversed(model.graph.node):
            if not wanted.isdisjoint(node.output):
                nodes.append(node)
                wanted |= {name for name in node.input if name}
        self._nodes = nodes[::-1]
        self._opsets = model.opset_import
        self._targets = list(targets)
        self._values: dict[str, Values] = {
            name: [np.asarray(sample[name]) for sample in samples] for name in samples[0] if name in wanted
        }
        self._count = len(samples)

    def replace(self, constant: str, value: NDArray[np.generic]) -> None:
        """Change an initialiser that no node run so far has read."""
        self._constants[constant] = numpy_helper.from_array(np.ascontiguousarray(value), constant)

    def reach(self, name: str) -> Values:
        """Run what the tensor `name`, the next target, depends on, and return its values."""
        assert self._targets.pop(0) == name, "targets come in the order in which they were given"
        if name not in self._values:
            self._advance(name)
        found = self._values[name]
        self._drop_unread()
        return found

    def _advance(self, name: str) -> None:
        wanted, run, rest = {name}, [], []
        for node in reversed(self._nodes):
            if wanted.isdisjoint(node.output):
                rest.append(node)
            else:
                run.append(node)
                wanted |= {item for item in node.input if item and item not in self._values}
        run.reverse()
        self._nodes = rest[::-1]
        made = {item for node in run for item in node.output if item}
        kept = sorted(made & ({item for node in rest for item in node.input} | {*self._targets, name}))
        read = {item for node in run for item in node.input}
        inputs = [item for item in self._values if item in read]
        session = open_session(self._model(run, inputs, kept))
        results: list[Values] = []
        for k in range(self._count):
            results.append(run_session(session, kept, {item: self._values[item][k] for item in inputs}))
        self._values |= {item: [row[k] for row in results] for k, item in enumerate(kept)}

    def _model(
        self, nodes: Iterable[onnx.NodeProto], inputs: Iterable[str], outputs: Iterable[str]
    ) -> onnx.ModelProto:
        nodes = list(nodes)
        infos = []
        for name in inputs:
            value = self._values[name][0]
            kind = helper.np_dtype_to_tensor_dtype(value.dtype)
            infos.append(helper.make_tensor_value_info(name, kind, value.shape))
        constants = [
            self._constants[name]
            for name in dict.fromkeys(item for node in nodes for item in node.input)
            if name in self._constants
        ]
        results = [onnx.ValueInfoProto(name=name) for name in outputs]
        graph = helper.make_graph(nodes, "piece", infos, results, constants)
        return helper.make_model(graph, opset_imports=self._opsets, ir_version=10)

    def _drop_unread(self) -> None:
        read = {item for node in self._nodes for item in node.input} | set(self._targets)
        self._values = {name: value for name, value in self._values.items() if name in read}
