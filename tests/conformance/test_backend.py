"""The interface of the back end: inputs by order and by name, devices, single nodes, what it refuses."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
import pytest
from numpy.typing import NDArray
from onnx import TensorProto, helper

from tilewright.errors import ConfigError, DataError, TilewrightError
from tilewright.onnx_backend import TilewrightBackend


def model() -> onnx.ModelProto:
    """y = a - b, reshaped by an input."""
    nodes = [
        helper.make_node("Sub", ["a", "b"], ["d"]),
        helper.make_node("Reshape", ["d", "shape"], ["y"]),
    ]
    graph = helper.make_graph(
        nodes,
        "net",
        [
            helper.make_tensor_value_info("a", TensorProto.FLOAT, ["n", 4]),
            helper.make_tensor_value_info("b", TensorProto.FLOAT, [4]),
            helper.make_tensor_value_info("shape", TensorProto.INT64, [2]),
        ],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, None)],
    )
    made: onnx.ModelProto = helper.make_model(
        graph, opset_imports=[helper.make_opsetid("", 21)], ir_version=10
    )
    return made


A = np.arange(8, dtype=np.float32).reshape(2, 4)
B = np.ones(4, np.float32)


def test_inputs_by_order_and_by_name_and_other_shapes() -> None:
    ready = TilewrightBackend.prepare(model())
    (y,) = ready.run([A, B, np.array([4, 2])])
    np.testing.assert_array_equal(y, (A - B).reshape(4, 2))
    (y,) = ready.run({"shape": np.array([1, 8]), "b": B, "a": A})
    np.testing.assert_array_equal(y, (A - B).reshape(1, 8))
    (y,) = ready.run([A[:1], B, np.array([2, 2])])
    np.testing.assert_array_equal(y, (A[:1] - B).reshape(2, 2))


def test_wrong_inputs() -> None:
    ready = TilewrightBackend.prepare(model())
    with pytest.raises(DataError) as raised:
        ready.run([A, B])
    assert str(raised.value) == "expected 3 inputs (a, b, shape), found 2"
    with pytest.raises(DataError) as raised:
        ready.run({"a": A, "c": B, "b": "ones"})
    assert str(raised.value).splitlines() == [
        "unknown input 'c', the model's are a, b, shape",
        "input b: expected an array of numbers, found str",
        "input shape: expected an array of numbers, found NoneType",
    ]


def test_devices_and_targets() -> None:
    assert TilewrightBackend.supports_device("CPU") and not TilewrightBackend.supports_device("CUDA")
    with pytest.raises(ConfigError) as raised:
        TilewrightBackend.prepare(model(), "CUDA")
    assert str(raised.value) == "expected one of the devices CPU, found 'CUDA'"
    with pytest.raises(ConfigError, match="unknown overlay 'zcu104'"):
        TilewrightBackend.prepare(model(), target="zcu104")


def test_a_node_that_reads_an_operand_twice() -> None:
    (y,) = TilewrightBackend.run_node(helper.make_node("Mul", ["x", "x"], ["y"]), [A, A])
    np.testing.assert_array_equal(y, A * A)


def test_a_node() -> None:
    node = helper.make_node("Clip", ["x", "", "most"], ["y"])
    (y,) = TilewrightBackend.run_node(node, [A, np.float32(3)])
    np.testing.assert_array_equal(y, np.minimum(A, 3))
    node = helper.make_node("Greater", ["x", "y"], ["z"])
    (z,) = TilewrightBackend.run_node(node, [A, B], outputs_info=[(np.dtype(np.bool_), (2, 4))])
    np.testing.assert_array_equal(z, A > B)


X = ("x",)


@pytest.mark.parametrize(
    ("node", "inputs", "message"),
    [
        (
            helper.make_node("BatchNormalization", ["x", "s", "b", "m", "v"], ["y", "mean", "var"], "bn", training_mode=1),
            [A[:, :, None], B, B, B, B + 1],
            "node bn: BatchNormalization is in training mode; export the network for inference",
        ),
        (
            helper.make_node("Dropout", ["x", "ratio", "mode"], ["y"], "drop"),
            [A, np.float32(0.5), np.bool_(True)],
            "node drop: Dropout is in training mode; export the network for inference",
        ),
        (
            helper.make_node("Cast", X, ["y"], "cast", to=TensorProto.FLOAT8E5M2),
            [A],
            "node cast: y holds FLOAT8E5M2, expected float32, integers or booleans; cast it before the model is exported, or cut the model there",
        ),
        (
            helper.make_node("Compress", ["x", "which"], ["y"], "some", axis=0),
            [A, np.array([True, False])],
            "some: Compress cannot be imported: the number of elements that it keeps is known at run time only; see the operator's limits in the manual, or cut the model before it",
        ),
        (
            helper.make_node("TopK", ["x", "k"], ["y", "i"], "best"),
            [A.astype(np.uint64), np.array([2])],
            "best: TopK cannot be imported: expected float or integers up to int64, found uint64; see the operator's limits in the manual, or cut the model before it",
        ),
        (
            helper.make_node("LpNormalization", X, ["y"], "norm", p=3),
            [A],
            "norm: LpNormalization cannot be imported: expected p of 1 or 2, found 3; see the operator's limits in the manual, or cut the model before it",
        ),
    ],
    ids=["training", "dropout", "float8", "compress", "uint64", "norm"],
)  # fmt: skip
def test_what_was_computed_wrongly_is_refused(
    node: onnx.NodeProto, inputs: list[NDArray[Any]], message: str
) -> None:
    types: list[np.dtype[Any]] = [np.dtype(np.float32)] * len(node.output)
    if node.op_type == "TopK":
        types = [np.dtype(np.uint64), np.dtype(np.int64)]
    if node.op_type == "Cast":
        types = [onnx.helper.tensor_dtype_to_np_dtype(TensorProto.FLOAT8E5M2)]
    with pytest.raises(TilewrightError) as raised:
        TilewrightBackend.run_node(node, inputs, outputs_info=[(t, ()) for t in types])
    assert str(raised.value) == message
