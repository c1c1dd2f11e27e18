"""QLinearConv and QLinearMatMul: from QOperator to QDQ, against ONNX Runtime bit for bit, and on the accelerator."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

import tilewright as tw
from tilewright.errors import UnsupportedModel
from tilewright.frontend.onnx_loader import load_onnx
from tilewright.onnx_backend import TilewrightBackend

Array = NDArray[np.generic]


def model_of(
    nodes: Sequence[onnx.NodeProto],
    constants: dict[str, Array],
    shape: Sequence[int],
    extra: Sequence[str] = (),
) -> onnx.ModelProto:
    """Float input `x` of this shape, float output `y`, more float inputs `extra`."""
    graph = helper.make_graph(
        list(nodes),
        "net",
        [
            helper.make_tensor_value_info("x", TensorProto.FLOAT, shape),
            *(helper.make_tensor_value_info(n, TensorProto.FLOAT, []) for n in extra),
        ],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, None)],
        [numpy_helper.from_array(value, name) for name, value in constants.items()],
    )
    opsets = [helper.make_opsetid("", 13)]
    return helper.make_model(graph, opset_imports=opsets, ir_version=10)


def scalars(**values: float | int) -> dict[str, Array]:
    """Scales as float32, zero points as uint8."""
    return {
        name: np.asarray(value, np.float32 if isinstance(value, float) else np.uint8)
        for name, value in values.items()
    }


def convolution(per_channel: bool, bias: bool) -> onnx.ModelProto:
    rng = np.random.default_rng(3)
    count = 6 if per_channel else 1
    constants: dict[str, Array] = {
        "w": rng.integers(-127, 128, (6, 4, 3, 3)).astype(np.int8),
        "ws": rng.uniform(0.004, 0.02, count).astype(np.float32),
        "wz": np.zeros(count, np.int8),
        "b": rng.integers(-3000, 3000, 6).astype(np.int32),
        **scalars(xs=0.02, xz=128, ys=0.25, yz=120),
    }
    nodes = [
        helper.make_node("QuantizeLinear", ["x", "xs", "xz"], ["xq"]),
        helper.make_node(
            "QLinearConv",
            ["xq", "xs", "xz", "w", "ws", "wz", "ys", "yz", *(["b"] if bias else [])],
            ["yq"],
            name="layer",
            pads=[1, 1, 1, 1],
            strides=[2, 2],
        ),
        helper.make_node("DequantizeLinear", ["yq", "ys", "yz"], ["y"]),
    ]
    return model_of(nodes, constants, [1, 4, 9, 9])


def product() -> onnx.ModelProto:
    rng = np.random.default_rng(4)
    constants: dict[str, Array] = {
        "w": rng.integers(-127, 128, (20, 7)).astype(np.int8),
        "ws": np.asarray(0.01, np.float32),
        "wz": np.asarray(0, np.int8),
        **scalars(xs=0.02, xz=128, ys=0.05, yz=128),
    }
    nodes = [
        helper.make_node("QuantizeLinear", ["x", "xs", "xz"], ["xq"]),
        helper.make_node(
            "QLinearMatMul", ["xq", "xs", "xz", "w", "ws", "wz", "ys", "yz"], ["yq"], name="layer"
        ),
        helper.make_node("DequantizeLinear", ["yq", "ys", "yz"], ["y"]),
    ]
    return model_of(nodes, constants, [1, 20])


MODELS = {
    "conv": convolution(per_channel=False, bias=False),
    "conv_channels_bias": convolution(per_channel=True, bias=True),
    "matmul": product(),
}


@pytest.mark.parametrize("name", MODELS)
def test_equal_to_onnx_runtime(name: str, tmp_path: Path) -> None:
    """Outputs are multiples of the result's scale; each is the same multiple, and the layer is on the accelerator."""
    model = MODELS[name]
    shape = [d.dim_value for d in model.graph.input[0].type.tensor_type.shape.dim]
    x = np.random.default_rng(8).uniform(-2.5, 2.5, shape).astype(np.float32)
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    session = onnxruntime.InferenceSession(
        model.SerializeToString(), options, providers=["CPUExecutionProvider"]
    )
    (expected,) = session.run(None, {"x": x})
    (found,) = TilewrightBackend.run_model(model, [x])
    np.testing.assert_array_equal(found, expected)
    assert len(np.unique(expected)) > 5
    path = tmp_path / "net.onnx"
    path.write_bytes(model.SerializeToString())
    package = tw.compile(tw.load(path), "ultra96-w8")
    assert (package.report["regions"], package.report["host_macs"]) == (1, 0)
    np.testing.assert_array_equal(tw.Session(package).run({"x": x}).outputs["y"], expected)


def test_names_and_operators() -> None:
    nodes = load_onnx(MODELS["conv_channels_bias"]).graph.node
    assert [node.op_type for node in nodes] == [
        "QuantizeLinear",
        "DequantizeLinear",
        "DequantizeLinear",
        "DequantizeLinear",
        "Conv",
        "QuantizeLinear",
        "DequantizeLinear",
    ]
    assert nodes[5].name == "layer"
    assert nodes[4].name == "layer/conv"


def test_scales_that_are_inputs() -> None:
    model = MODELS["matmul"]
    kept = [t for t in model.graph.initializer if t.name != "ws"]
    changed = model_of(
        model.graph.node, {t.name: numpy_helper.to_array(t) for t in kept}, [1, 20], extra=["ws"]
    )
    message = "node layer: QLinearMatMul: expected a constant as b scale, found ws; export the model in evaluation mode, with its quantisers' parameters fixed"
    with pytest.raises(UnsupportedModel) as raised:
        load_onnx(changed)
    assert str(raised.value) == message
