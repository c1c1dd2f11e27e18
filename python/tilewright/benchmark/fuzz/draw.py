"""Plans of networks, overlays and widths from a seed."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any, Literal

import numpy as np
import onnx
from numpy.typing import ArrayLike, NDArray
from onnx import TensorProto, helper, numpy_helper

from tilewright.benchmark.fuzz.layers import AFTER, KINDS, LayerPlan, NetworkPlan, Writer
from tilewright.errors import ConfigError
from tilewright.targets.config import ACC_HALVES, Overlay, overlays

Array = NDArray[np.float32]
LANES = (8, 16, 32, 64)


def _pair(rng: np.random.Generator, low: int, high: int) -> tuple[int, int]:
    return int(rng.integers(low, high + 1)), int(rng.integers(low, high + 1))


def draw_layer(rng: np.random.Generator) -> LayerPlan:
    """Any layer."""
    return LayerPlan(
        kind=KINDS[rng.integers(len(KINDS))],
        source=int(rng.integers(4)),
        other=int(rng.integers(4)),
        kernel=_pair(rng, 1, 5),
        strides=_pair(rng, 1, 3) if rng.random() < 0.5 else (1, 1),
        dilation=_pair(rng, 1, 2),
        pads=(*_pair(rng, 0, 2), *_pair(rng, 0, 2)),
        channels=int(rng.integers(1, 41)),
        after=AFTER[rng.integers(len(AFTER))],
    )


def draw_network(rng: np.random.Generator, most: int = 10) -> NetworkPlan:
    """Up to `most` layers on one to three inputs of an odd shape."""
    dtype: Literal["uint8", "int8"] = "uint8"
    return NetworkPlan(
        seed=int(rng.integers(1 << 16)),
        shape=(int(rng.integers(1, rng.choice([5, 21]))), *_pair(rng, 1, 14)),
        dtype=dtype,
        layers=tuple(draw_layer(rng) for _ in range(rng.integers(1, most + 1))),
        inputs=int(rng.choice([1, 1, 1, 2, 3])),
    )


def draw_overlay(rng: np.random.Generator) -> Overlay:
    """An installed overlay, or one like it with other lanes, blocks and memories."""
    names = sorted(overlays())
    base = overlays()[names[rng.integers(len(names))]]
    if rng.random() < 0.4:
        return base
    while True:
        lanes = int(rng.choice(LANES))
        out = lanes * int(rng.integers(1, 3))
        pair = 4 * lanes
        bits = int(rng.integers(max(18, base.inp_bits + base.wgt_bits + 10), 33))
        acc_bytes = out * bits * ACC_HALVES * base.acc_half_vectors // 8
        try:
            return replace(
                base,
                name=f"{base.name}-like",
                block_in=lanes,
                block_out=out,
                acc_bits=bits,
                acc_kib=acc_bytes // 1024,
                vector_lanes=int(rng.choice([n for n in LANES if n <= 2 * lanes])),
                act_kib=pair * int(rng.integers(1, 1 + 384 // pair)),
                wgt_kib=int(rng.choice([8, 16, 32, 64, 128])),
                param_kib=int(rng.choice([2, 4, 8, 32])),
                disp_entries=int(rng.choice([0, 8, 64])),
                displacement_min=-int(rng.integers(3)),
                displacement_max=int(rng.integers(3)),
            )
        except ConfigError:
            continue


class FloatSink:
    """Writes float ONNX: nothing is quantised on the way."""

    dtype = "int8"

    def __init__(self, shape: tuple[int, ...], seed: int, inputs: int = 1) -> None:
        self.rng = np.random.default_rng(seed)
        self.nodes: list[onnx.NodeProto] = []
        self.constants: list[onnx.TensorProto] = []
        self.xs = ["input", *(f"input{i}" for i in range(1, inputs))]
        self.shape = shape

    def const(self, value: ArrayLike, dtype: str = "float32") -> str:
        """A constant's name."""
        name = f"const{len(self.constants)}"
        self.constants.append(numpy_helper.from_array(np.array(value, dtype), name))
        return name

    def op(self, kind: str, *inputs: str, outputs: int = 1, **attrs: Any) -> str:
        """A node; returns its (first) output."""
        name = f"{kind.lower()}{len(self.nodes)}"
        names = [name if i == 0 else f"{name}:{i}" for i in range(outputs)]
        self.nodes.append(helper.make_node(kind, list(inputs), names, name=name, **attrs))
        return name

    def q(self, value: str, scale: float, zero_point: int) -> str:
        """The value itself."""
        return value

    def weights(self, shape: tuple[int, ...], axis: int | None = 0) -> str:
        """Normal weights, some channels much larger than others."""
        values = self.rng.normal(0, 0.45, shape)
        if axis is not None:
            wide = [1] * len(shape)
            wide[axis] = shape[axis]
            values *= self.rng.uniform(0.2, 1.5, wide)
        return self.const(values)

    def model(self, *outputs: str, domains: Sequence[str] = ()) -> onnx.ModelProto:
        """The network with these outputs; `domains` of operators that are not standard."""
        infos = [helper.make_empty_tensor_value_info(o) for o in outputs]
        given = [helper.make_tensor_value_info(x, TensorProto.FLOAT, self.shape) for x in self.xs]
        graph = helper.make_graph(self.nodes, "fuzz", given, infos, self.constants)
        opsets = [helper.make_opsetid("", 21), *(helper.make_opsetid(d, 1) for d in domains)]
        model = helper.make_model(graph, opset_imports=opsets, ir_version=10)
        return onnx.shape_inference.infer_shapes(model)


def write_float(plan: NetworkPlan) -> onnx.ModelProto:
    """A plan as a float model."""
    return Writer(plan, FloatSink((1, *plan.shape), plan.seed, plan.inputs)).model(plan.layers)


def draw_feeds(model: onnx.ModelProto, seed: int, count: int) -> list[dict[str, Array]]:
    """Seeded inputs of a model."""
    rng = np.random.default_rng(seed)
    shapes = {v.name: [d.dim_value for d in v.type.tensor_type.shape.dim] for v in model.graph.input}
    return [{n: rng.normal(0, 2.5, s).astype(np.float32) for n, s in shapes.items()} for _ in range(count)]
