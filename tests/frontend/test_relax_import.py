"""The importer: names, our converters against ONNX Runtime, and what it says about models that it cannot take."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
import tvm
from numpy.typing import NDArray
from onnx import TensorProto, helper
from tvm import relax

from tilewright.errors import UnsupportedModel
from tilewright.frontend.relax_import import Sources, to_relax
from tilewright.targets.host_ops import OPERATOR_FUNCTION

Array = NDArray[Any]


def model_of(
    nodes: list[onnx.NodeProto],
    shape: tuple[int | str, ...] = (1, 4, 6, 5),
    constants: dict[str, Any] | None = None,
    outputs: tuple[str, ...] = ("y",),
) -> onnx.ModelProto:
    initialisers = [onnx.numpy_helper.from_array(np.asarray(v), k) for k, v in (constants or {}).items()]
    x = helper.make_tensor_value_info("x", TensorProto.FLOAT, shape)
    ys = [helper.make_empty_tensor_value_info(o) for o in outputs]
    graph = helper.make_graph(nodes, "test", [x], ys, initialisers)
    opsets = [helper.make_opsetid("", 21), helper.make_opsetid("tilewright", 1)]
    return helper.make_model(graph, opset_imports=opsets, ir_version=10)


def by_tvm(module: tvm.IRModule, x: Array) -> Array:
    executable = tvm.compile(module, target=tvm.target.Target({"kind": "llvm"}))
    result = relax.VirtualMachine(executable, tvm.cpu())["main"](tvm.runtime.tensor(x))
    return np.asarray(result.numpy())


def by_onnxruntime(model: onnx.ModelProto, x: Array) -> Array:
    inferred = onnx.shape_inference.infer_shapes(model)
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    session = onnxruntime.InferenceSession(
        inferred.SerializeToString(), options, providers=["CPUExecutionProvider"]
    )
    return np.asarray(session.run(None, {"x": x})[0])


F = np.float32
PADS = np.array([0, 1, 0, 2, 0, 0, 3, 1], np.int64)
CASES: dict[str, tuple[onnx.NodeProto, dict[str, Any]]] = {
    "clip": (helper.make_node("Clip", ["x", "lo", "hi"], ["y"]), {"lo": F(-0.5), "hi": F(0.7)}),
    "clip_below": (helper.make_node("Clip", ["x", "lo"], ["y"]), {"lo": F(-0.5)}),
    "clip_above": (helper.make_node("Clip", ["x", "", "hi"], ["y"]), {"hi": F(0.7)}),
    "pad": (helper.make_node("Pad", ["x", "p", "v"], ["y"]), {"p": PADS, "v": F(1.5)}),
    "pad_axes": (
        helper.make_node("Pad", ["x", "p", "", "a"], ["y"]),
        {"p": np.array([1, 2, 0, 3], np.int64), "a": np.array([-1, 1], np.int64)},
    ),
    "sum": (helper.make_node("Sum", ["x", "a", "b"], ["y"]), {"a": np.arange(5, dtype=F), "b": F(2)}),
    "max": (helper.make_node("Max", ["x", "a"], ["y"]), {"a": np.arange(-2, 3, dtype=F)}),
    "min": (helper.make_node("Min", ["x", "a", "b"], ["y"]), {"a": np.arange(-2, 3, dtype=F), "b": F(1)}),
    "lrn": (helper.make_node("LRN", ["x"], ["y"], size=3, alpha=0.5, bias=2.0), {}),
    "max_pool_ceil": (
        helper.make_node("MaxPool", ["x"], ["y"], kernel_shape=[3, 3], strides=[2, 2], ceil_mode=1),
        {},
    ),
    "max_pool_ceil_padding": (
        helper.make_node(
            "MaxPool", ["x"], ["y"], kernel_shape=[2, 2], strides=[3, 2], pads=[0, 1, 0, 1], ceil_mode=1
        ),
        {},
    ),
    "max_pool_dilated": (
        helper.make_node("MaxPool", ["x"], ["y"], kernel_shape=[2, 2], dilations=[3, 2]),
        {},
    ),
    "max_pool_same": (
        helper.make_node("MaxPool", ["x"], ["y"], kernel_shape=[3, 2], strides=[2, 2], auto_pad="SAME_LOWER"),
        {},
    ),
    "average_pool_same": (
        helper.make_node(
            "AveragePool", ["x"], ["y"], kernel_shape=[3, 2], strides=[2, 2], auto_pad="SAME_UPPER"
        ),
        {},
    ),
    "conv_same": (
        helper.make_node("Conv", ["x", "w"], ["y"], strides=[2, 1], auto_pad="SAME_LOWER"),
        {"w": np.linspace(-1, 1, 4 * 4 * 3 * 2, dtype=F).reshape(4, 4, 3, 2)},
    ),
    "transpose": (helper.make_node("Transpose", ["x"], ["y"], perm=[0, 2, 3, 1]), {}),
}


@pytest.mark.parametrize("case", CASES)
def test_converter(case: str) -> None:
    """Equal to ONNX Runtime; sums of up to 24 products of size 1 in another order differ by 24 * 2^-24."""
    node, constants = CASES[case]
    model = model_of([node], constants=constants)
    x = np.random.default_rng(0).normal(0, 1, (1, 4, 6, 5)).astype(np.float32)
    module = to_relax(model)
    assert "call_tir" not in str(module)
    want = by_onnxruntime(model, x)
    found = by_tvm(module, x)
    assert found.shape == want.shape
    np.testing.assert_allclose(found, want, rtol=4e-6, atol=4e-6)


def test_lrn_of_even_size() -> None:
    """ONNX Runtime refuses it; the window reaches one channel further up than down."""
    x = np.random.default_rng(0).normal(0, 1, (1, 4, 2, 2)).astype(np.float32)
    node = helper.make_node("LRN", ["x"], ["y"], size=2, alpha=0.5, beta=0.5)
    square = x.astype(np.float64) ** 2
    total = square + np.concatenate([square[:, 1:], np.zeros((1, 1, 2, 2))], axis=1)
    found = by_tvm(to_relax(model_of([node], (1, 4, 2, 2))), x)
    np.testing.assert_allclose(found, x / np.sqrt(1 + 0.25 * total), rtol=1e-6)


def test_names_survive() -> None:
    nodes = [
        helper.make_node("Relu", ["x"], ["a"], name="block/relu.1"),
        helper.make_node("DepthToSpace", ["a"], ["b"], name="block/shuffle", blocksize=2),
        helper.make_node("Split", ["b"], ["c", "d"], axis=2, num_outputs=2),
        helper.make_node("Add", ["c", "d"], ["e"], name="block/relu.1"),
        helper.make_node("Identity", ["e"], ["y"]),
    ]
    module = to_relax(model_of(nodes))
    sources = Sources.of(module["main"])
    assert [(n.name, n.op) for n in sources.nodes] == [
        ("block/relu.1", "Relu"),
        ("block/shuffle", "DepthToSpace"),
        ("c", "Split"),
        ("block/relu.1", "Add"),
        ("y", "Identity"),
    ]
    assert sources.variable_of["a"] == "block/relu_1"
    assert sources.variable_of["y"] == sources.variable_of["e"] != "block/relu_1"
    of_shuffle = [v for v, n in sources.node_of.items() if n == 1]
    assert len(of_shuffle) == 3 and "block/shuffle" in of_shuffle


def test_all_unsupported_nodes_at_once() -> None:
    nodes = [
        helper.make_node("Relu", ["x"], ["a"], name="fine"),
        helper.make_node("Quant", ["a"], ["b"], name="quant_1", domain="qonnx.custom_op.general"),
        helper.make_node("StringNormalizer", ["b"], ["y"]),
    ]
    with pytest.raises(UnsupportedModel) as error:
        to_relax(model_of(nodes))
    assert str(error.value).splitlines() == [
        "quant_1: operator qonnx.custom_op.general::Quant is not supported; express it by other ONNX operators, or cut the model before it",
        "y: operator StringNormalizer is not supported; express it by other ONNX operators, or cut the model before it",
    ]


def test_faults_of_several_nodes(capfd: pytest.CaptureFixture[str]) -> None:
    """Nodes behind a faulty one add no faults of their own, and nothing is printed to stdout."""
    nodes = [
        helper.make_node("Pad", ["x", "p"], ["a"], name="negative"),
        helper.make_node("Relu", ["a"], ["y"], name="behind"),
        helper.make_node("AveragePool", ["x"], ["z"], name="dilated", kernel_shape=[2, 2], dilations=[2, 2]),
    ]
    model = model_of(nodes, constants={"p": -PADS}, outputs=("y", "z"))
    with pytest.raises(UnsupportedModel) as error:
        to_relax(model)
    assert str(error.value).splitlines() == [
        "negative: Pad cannot be imported: expected pads of 0 and more, found [0, -1, 0, -2, 0, 0, -3, -1]; see the operator's limits in the manual, or cut the model before it",
        "dilated: AveragePool cannot be imported: expected dilations of 1, found [2, 2]; see the operator's limits in the manual, or cut the model before it",
    ]
    assert capfd.readouterr().out == ""


def test_open_dimensions() -> None:
    relu = [helper.make_node("Relu", ["x"], ["y"])]
    module = to_relax(model_of(relu, ("N", 3, 4, 4)))
    assert [int(d) for d in module["main"].params[0].ty.shape.values] == [1, 3, 4, 4]
    text = r"^x: expected a fixed input shape, found \['\?', 3, '\?', 4\]; give --input-shape x=1,\.\.\.$"
    with pytest.raises(UnsupportedModel, match=text):
        to_relax(model_of(relu, ("N", 3, "H", 4)))


def test_detection_output_is_a_call_of_the_runtime() -> None:
    node = helper.make_node(
        "DetectionOutput",
        ["x", "c", "p"],
        ["y"],
        name="detect",
        domain="tilewright",
        num_classes=2,
        code_type="CORNER",
    )
    constants = {"c": np.zeros((1, 8), F), "p": np.zeros((1, 2, 16), F)}
    module = to_relax(model_of([node], (1, 16), constants))
    text = str(module)
    assert OPERATOR_FUNCTION in text
    assert '{\\"code_type\\": 1, \\"num_classes\\": 2, \\"op\\": \\"detection_output\\"}' in text
