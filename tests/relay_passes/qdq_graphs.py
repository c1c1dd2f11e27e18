"""Small quantised ONNX graphs for tests, written by hand so that every scale and zero point is chosen."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
from numpy.typing import ArrayLike, NDArray
from onnx import TensorProto, helper, numpy_helper

Array = NDArray[Any]


class QdqGraph:
    """Builds a graph: float tensors are names; `q` puts a QuantizeLinear/DequantizeLinear pair behind one."""

    def __init__(self, shape: tuple[int, ...] = (1, 4, 6, 5), dtype: str = "uint8", seed: int = 0) -> None:
        self.rng = np.random.default_rng(seed)
        self.dtype = dtype
        self.nodes: list[onnx.NodeProto] = []
        self.constants: list[onnx.TensorProto] = []
        self.inputs = [helper.make_tensor_value_info("input", TensorProto.FLOAT, shape)]
        self.shape = shape
        self.count = 0
        self.x = self.q("input", 0.0517, 117 if dtype == "uint8" else -11)
        self.xs = [self.x]

    def name(self, stem: str) -> str:
        self.count += 1
        return f"{stem}{self.count}"

    def const(self, value: ArrayLike, dtype: str = "float32") -> str:
        name = self.name("const")
        self.constants.append(numpy_helper.from_array(np.array(value, dtype), name))
        return name

    def op(self, kind: str, *inputs: str, outputs: int = 1, **attrs: Any) -> str:
        """A node; returns its (first) output. Further outputs are `<name>:1`.."""
        name = self.name(kind.lower())
        outs = [name if i == 0 else f"{name}:{i}" for i in range(outputs)]
        self.nodes.append(helper.make_node(kind, list(inputs), outs, name=name, **attrs))
        return name

    def dq(self, quantised: str, scale: ArrayLike, zero: str, **attrs: Any) -> str:
        return self.op("DequantizeLinear", quantised, self.const(scale), zero, **attrs)

    def q(
        self, value: str, scale: float, zero_point: int, dtype: str | None = None, bits: int | None = None
    ) -> str:
        """Quantise, clip where `bits` are fewer than the type's (QCDQ), dequantise."""
        kind = dtype or self.dtype
        zero = self.const(zero_point, kind)
        s = self.const(scale)
        q = self.op("QuantizeLinear", value, s, zero)
        if bits is not None and bits < np.iinfo(kind).bits:
            low = -(1 << (bits - 1)) if kind.startswith("int") else 0
            q = self.op("Clip", q, self.const(low, kind), self.const(low + (1 << bits) - 1, kind))
        return self.op("DequantizeLinear", q, s, zero)

    def sign(self, value: str, scale: float = 1.0) -> str:
        """Bipolar: +1 where the value is 0 or more, else -1, dequantised."""
        positive = self.op("GreaterOrEqual", value, self.const(0.0))
        chosen = self.op("Where", positive, self.const(1, "int8"), self.const(-1, "int8"))
        return self.dq(chosen, scale, self.const(0, "int8"))

    def weights(
        self,
        shape: tuple[int, ...],
        axis: int | None = 0,
        dtype: str = "int8",
        zero_point: int = 0,
        bits: int | None = None,
    ) -> str:
        """Random weights behind a DequantizeLinear; of 1 bit they are -1 and +1."""
        info = np.iinfo(dtype)
        low, high = (info.min, info.max) if bits is None else (-(1 << bits) // 2, (1 << bits) // 2 - 1)
        ints = self.const(self.rng.integers(low, high + 1, shape), dtype)
        if bits == 1:
            ints = self.const(2 * self.rng.integers(0, 2, shape) - 1, dtype)
        if axis is None:
            return self.dq(ints, 0.01, self.const(zero_point, dtype))
        count = shape[axis]
        scale = self.rng.uniform(0.002, 0.01, count)
        return self.dq(ints, scale, self.const(np.full(count, zero_point), dtype), axis=axis)

    def model(self, *outputs: str) -> onnx.ModelProto:
        infos = [helper.make_empty_tensor_value_info(o) for o in outputs]
        graph = helper.make_graph(self.nodes, "test", self.inputs, infos, self.constants)
        opsets = [helper.make_opsetid("", 21), helper.make_opsetid("tilewright", 1)]
        model = helper.make_model(graph, opset_imports=opsets, ir_version=10)
        return onnx.shape_inference.infer_shapes(model)

    def input(self) -> dict[str, Array]:
        """Values that reach all of the input's quantised range."""
        return {"input": self.rng.uniform(-6.5, 7.5, self.shape).astype(np.float32)}
