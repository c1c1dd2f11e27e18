"""Real quantised networks: one region each, and every layer within a step of ONNX Runtime on its own integers."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import onnx
import pytest
from tvm import relax

from tilewright.codegen.lift import lift
from tilewright.frontend.relax_import import to_relax
from tilewright.integer_level import integer_module, layerwise_compare
from tilewright.relay_passes.partition import is_region
from tilewright.relay_passes.pipeline import partitioned
from tilewright.relay_passes.rewrite import bindings_of
from tilewright.relay_passes.supported import supported_rows
from tilewright.targets.config import overlay

OVERLAY = overlay("ultra96-w8")
EDGES = {"quantize", "dequantize", "nn.softmax", "reshape"}
"""What may stay on the host; a reshape only where nothing but the host reads it."""

MODELS = {
    # file: least and largest value of the input
    "mlperf_tiny/pretrainedResnet_quant_qdq.onnx": (0, 255),
    "mlperf_tiny/kws_ref_model_qdq.onnx": (-2, 2),
    "mlperf_tiny/vww_96_int8_qdq.onnx": (0, 1),
    "mlperf_tiny/ad01_int8_qdq.onnx": (-20, 20),
    "mobilenet_v1_0.25_coral/mobilenet_v1_0.25_128_quant_qdq.onnx": (-1, 1),
    "mobilenet_v2_coral/mobilenet_v2_1.0_224_quant_qdq.onnx": (-1, 1),
}


def load(shared_data: Path, name: str) -> onnx.ModelProto:
    return onnx.load(shared_data / "onnx" / name)


def products(model: onnx.ModelProto) -> dict[str, int]:
    """Multiply-accumulates of convolutions and dense layers, from ONNX's own shapes."""
    graph = onnx.shape_inference.infer_shapes(model).graph
    shapes = {
        v.name: [d.dim_value for d in v.type.tensor_type.shape.dim]
        for v in (*graph.value_info, *graph.output)
    }
    found: dict[str, int] = {}
    for node in graph.node:
        if node.op_type in ("Conv", "Gemm"):
            weight = shapes[node.input[1]]
            positions = math.prod(shapes[node.output[0]][2:])
            found[node.name or node.output[0]] = math.prod(weight) * positions
    return found


@pytest.mark.parametrize("name", MODELS)
def test_one_region(shared_data: Path, name: str) -> None:
    model = load(shared_data, name)
    module = partitioned(to_relax(model), OVERLAY)
    (region,) = (f for f in module.functions.values() if is_region(f))
    graph = lift(region)
    assert len({n.name for n in graph.nodes}) == len(graph.nodes)
    host = {
        str(b.value.op.name).removeprefix("relax.")
        for b in bindings_of(module["main"])
        if isinstance(b.value, relax.Call) and hasattr(b.value.op, "name")
    }
    assert host <= EDGES
    rows = supported_rows(model, OVERLAY)
    assert [r.name for r in rows] == [n.name or n.output[0] for n in model.graph.node]
    assert all(r.reason for r in rows if r.place == "host")
    assert {r.name: r.macs for r in rows if r.macs} == products(model)
    assert all(r.place == "accelerator" for r in rows if r.macs)


@pytest.mark.parametrize("name", MODELS)
def test_layers_agree(shared_data: Path, name: str) -> None:
    """All steps within 1 and 99.9 % of all elements equal; a single element of a small layer may be a tie."""
    model = load(shared_data, name)
    least, largest = MODELS[name]
    (value,) = model.graph.input
    shape = [d.dim_value for d in value.type.tensor_type.shape.dim]
    x = np.random.default_rng(0).uniform(least, largest, shape).astype(np.float32)
    rows = layerwise_compare(model, {value.name: x}, integer_module(model), engine="numpy")
    assert len(rows) > 9
    for row in rows:
        assert row.largest <= 1, row
        assert row.equal >= row.elements * 0.999 - 1, row
    assert sum(r.equal for r in rows) >= 0.999 * sum(r.elements for r in rows)


@pytest.mark.slow
@pytest.mark.parametrize("name", list(MODELS)[:4])
def test_layers_agree_by_llvm(shared_data: Path, name: str) -> None:
    """The composites' own bodies, compiled."""
    model = load(shared_data, name)
    (value,) = model.graph.input
    shape = [d.dim_value for d in value.type.tensor_type.shape.dim]
    x = np.random.default_rng(1).uniform(*MODELS[name], shape).astype(np.float32)
    rows = layerwise_compare(model, {value.name: x})
    assert all(r.largest <= 1 and r.equal >= r.elements * 0.999 - 1 for r in rows)
