"""The parts of a :class:`~tilewright.frontend.graph.Graph`: value types and nodes."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import NodeProto, TensorProto, helper, numpy_helper

Array = NDArray[Any]
Shape = tuple[int, ...]
AttributeValue = Any  # what onnx.helper.get_attribute_value returns: int, float, bytes, lists of them, protos

OPSET = 21
IR_VERSION = 10


@dataclass(frozen=True)
class ValueType:
    """Element type (``TensorProto.DataType``) and shape of a value; a dimension not known is None."""

    element: int
    dims: tuple[int | None, ...] | None

    @property
    def shape(self) -> Shape | None:
        """The shape if it is wholly known, else None."""
        if self.dims is None or any(d is None for d in self.dims):
            return None
        return tuple(d for d in self.dims if d is not None)

    def proto(self) -> onnx.TypeProto:
        """The same as a TypeProto."""
        return helper.make_tensor_type_proto(self.element, self.dims)

    @staticmethod
    def of(proto: onnx.TypeProto) -> ValueType | None:
        """From a TypeProto; None when it is no tensor or has no element type."""
        if proto.WhichOneof("value") != "tensor_type" or not proto.tensor_type.elem_type:
            return None
        tensor = proto.tensor_type
        if not tensor.HasField("shape"):
            return ValueType(tensor.elem_type, None)
        dims = tuple(d.dim_value if d.HasField("dim_value") else None for d in tensor.shape.dim)
        return ValueType(tensor.elem_type, dims)


@dataclass(eq=False)
class Node:
    """One operator. Change `inputs` and `outputs` only through :class:`Graph`, which indexes them."""

    name: str
    op: str
    inputs: list[str]
    outputs: list[str]
    attrs: dict[str, AttributeValue] = field(default_factory=dict)
    domain: str = ""

    @property
    def output(self) -> str:
        """The first output, for the many operators that have one."""
        return self.outputs[0]

    def input(self, index: int) -> str:
        """Input `index`, or "" where the optional input is absent."""
        return self.inputs[index] if index < len(self.inputs) else ""

    def ints(self, key: str, default: Sequence[int]) -> list[int]:
        """An INTS attribute."""
        return [int(v) for v in self.attrs.get(key, default)]

    def int(self, key: str, default: int) -> int:
        """An INT attribute."""
        return int(self.attrs.get(key, default))

    def float(self, key: str, default: float) -> float:
        """A FLOAT attribute, as the float32 that the file holds."""
        return float(self.attrs.get(key, default))

    def text(self, key: str, default: str) -> str:
        """A STRING attribute."""
        value = self.attrs.get(key, default)
        return value.decode() if isinstance(value, bytes) else str(value)

    def proto(self) -> NodeProto:
        """The same as a NodeProto, attributes in alphabetic order."""
        node = NodeProto(name=self.name, op_type=self.op, domain=self.domain)
        node.input.extend(self.inputs)
        node.output.extend(self.outputs)
        known = onnx.defs.get_schema(self.op, OPSET).attributes if not self.domain else {}
        for key in sorted(self.attrs):
            value = self.attrs[key]
            kind = getattr(known[key].type, "value", None) if key in known else None
            node.attribute.append(helper.make_attribute(key, value, attr_type=kind))
        return node

    @staticmethod
    def of(proto: NodeProto) -> Node:
        """From a NodeProto."""
        attrs = {a.name: helper.get_attribute_value(a) for a in proto.attribute}
        return Node(proto.name, proto.op_type, list(proto.input), list(proto.output), attrs, proto.domain)


def write_tensor(target: TensorProto, name: str, array: Array) -> None:
    """Fill an empty TensorProto in place: large weights are copied once and not three times."""
    plain = array.dtype.kind in "fiub" and array.dtype.isnative and array.dtype.names is None
    if not plain or array.nbytes < 1 << 16:
        target.CopyFrom(numpy_helper.from_array(array, name))
        return
    target.name = name
    target.data_type = helper.np_dtype_to_tensor_dtype(array.dtype)
    target.dims.extend(array.shape)
    little = array if array.dtype.itemsize == 1 else array.astype(array.dtype.newbyteorder("<"), copy=False)
    target.raw_data = np.ascontiguousarray(little).tobytes()
