"""Collect ONNX nodes, constants and shapes, and make the model of them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt
import onnx
from onnx import TensorProto, helper, numpy_helper

from tilewright.errors import Fault, ModelError
from tilewright.frontend.caffe.weights import MAX_BYTES, Shape

OPSET = 21
IR_VERSION = 10
MAX_ELEMENTS = 1 << 29
"""Most elements of one tensor (2 GiB of float32): larger shapes come from damaged files."""

_SMALL = 1024  # elements; larger constants take no part in shape inference
Attribute = int | float | str | Sequence[int] | TensorProto


@dataclass
class Graph:
    """The ONNX graph being built. All tensors are float32 and of known shape but those in `dynamic`."""

    name: str
    nodes: list[onnx.NodeProto] = field(default_factory=list)
    constants: dict[str, npt.NDArray[np.generic]] = field(default_factory=dict)
    shapes: dict[str, Shape] = field(default_factory=dict)
    dynamic: dict[str, tuple[int | str, ...]] = field(default_factory=dict)
    inputs: list[str] = field(default_factory=list)
    functions: dict[str, onnx.FunctionProto] = field(default_factory=dict)
    tensor_names: dict[str, int] = field(default_factory=dict)
    node_names: dict[str, int] = field(default_factory=dict)

    @staticmethod
    def _unique(name: str, taken: dict[str, int]) -> str:
        """The name, numbered where it is taken; `taken` keeps the last number of each name."""
        candidate = name
        while candidate in taken:
            taken[name] += 1
            candidate = f"{name}#{taken[name]}"
        taken[candidate] = 1
        return candidate

    def tensor(self, name: str) -> str:
        """Reserve a tensor name: `name`, or `name#2`, ... where it is taken."""
        return self._unique(name, self.tensor_names)

    def constant(self, name: str, values: npt.NDArray[np.generic]) -> str:
        """Add an initialiser and return its name."""
        name = self.tensor(name)
        self.constants[name] = values
        return name

    def node(
        self,
        op: str,
        inputs: Sequence[str],
        outputs: Sequence[str],
        name: str,
        *,
        domain: str = "",
        attributes: Mapping[str, Attribute] | None = None,
    ) -> None:
        """Add a node whose outputs are reserved names with known shapes."""
        unique = self._unique(name, self.node_names)
        node = helper.make_node(op, inputs, outputs, name=unique, domain=domain)
        node.attribute.extend(helper.make_attribute(key, value) for key, value in (attributes or {}).items())
        self.nodes.append(node)

    def _info(self, name: str) -> onnx.ValueInfoProto:
        shape = self.dynamic.get(name) or self.shapes[name]
        return helper.make_tensor_value_info(name, TensorProto.FLOAT, shape)

    def model(self, outputs: Sequence[str]) -> onnx.ModelProto:
        """The finished model, checked, with the shape of every tensor.

        Raises:
            ModelError: the model needs more than 2 GiB, or ONNX refuses it.
        """
        size = sum(values.nbytes for values in self.constants.values())
        if size > MAX_BYTES:
            raise ModelError(Fault(f"the model needs {size} bytes, ONNX files hold {MAX_BYTES}", self.name))
        used = {name for node in self.nodes for name in node.input}
        constants = {name: values for name, values in self.constants.items() if name in used}
        final = set(outputs)
        made = [name for node in self.nodes for name in node.output if name not in final]
        skeleton = helper.make_model(
            helper.make_graph(
                self.nodes,
                self.name or "net",
                [self._info(name) for name in self.inputs],
                [self._info(name) for name in outputs],
                [numpy_helper.from_array(v, n) for n, v in constants.items() if v.size <= _SMALL],
                value_info=[self._info(name) for name in made if name in self.shapes],
            ),
            opset_imports=[helper.make_opsetid("", OPSET)],
            ir_version=IR_VERSION,
            producer_name="tilewright",
        )
        if self.functions:
            skeleton.opset_import.append(helper.make_opsetid("tilewright", 1))
            skeleton.functions.extend(self.functions.values())
        large = [n for n, v in constants.items() if v.size > _SMALL]
        self._check(skeleton, large)
        for name in large:  # added in place: extend() would copy the weights once more
            values = constants[name]
            kind = helper.np_dtype_to_tensor_dtype(values.dtype)
            skeleton.graph.initializer.add(
                name=name, data_type=kind, dims=values.shape, raw_data=values.tobytes()
            )
        return skeleton

    def _check(self, skeleton: onnx.ModelProto, large: Sequence[str]) -> None:
        """ONNX's checker and shape inference, with large constants as inputs: no copy of the weights."""
        trial = onnx.ModelProto()
        trial.CopyFrom(skeleton)
        trial.graph.input.extend(
            helper.make_tensor_value_info(
                n, helper.np_dtype_to_tensor_dtype(self.constants[n].dtype), self.constants[n].shape
            )
            for n in large
        )
        try:
            onnx.checker.check_model(trial)
            onnx.shape_inference.infer_shapes(trial, check_type=True, strict_mode=True, data_prop=True)
        except (onnx.checker.ValidationError, onnx.shape_inference.InferenceError) as error:
            raise ModelError(Fault(f"the converted network is not valid ONNX: {error}", self.name)) from None
