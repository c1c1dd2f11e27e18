"""Shift and ChannelShuffle as custom operators."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import TensorProto, helper, numpy_helper

from tilewright.errors import ModelError, UnsupportedModel
from tilewright.frontend import canonicalise, load_onnx

MOVES = [[-1, 0], [0, 1], [0, 0], [2, -1]]
X = np.random.default_rng(0).normal(size=(1, 4, 5, 6)).astype(np.float32)


def model(
    op: str, *constants: onnx.TensorProto, domain: str = "custom", **attributes: Any
) -> onnx.ModelProto:
    node = helper.make_node(
        op, ["x", *(c.name for c in constants)], ["y"], "layer", domain=domain, **attributes
    )
    graph = helper.make_graph(
        [node, helper.make_node("Relu", ["y"], ["z"], "relu")],
        "g",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, X.shape)],
        [helper.make_tensor_value_info("z", TensorProto.FLOAT, None)],
        list(constants),
    )
    opsets = [helper.make_opsetid("", 17), helper.make_opsetid("custom", 1)]
    return helper.make_model(graph, opset_imports=opsets, ir_version=8)


def run(proto: onnx.ModelProto) -> np.ndarray:
    found = canonicalise(load_onnx(proto))
    return np.asarray(onnxruntime.InferenceSession(found.SerializeToString()).run(None, {"x": X})[0])


def shifted(strides: tuple[int, int] = (1, 1)) -> np.ndarray:
    wide = np.pad(X, ((0, 0), (0, 0), (2, 2), (2, 2)))
    rows = [wide[:, c, 2 + dy : 7 + dy, 2 + dx : 8 + dx] for c, (dy, dx) in enumerate(MOVES)]
    return np.maximum(np.stack(rows, axis=1), 0)[:, :, :: strides[0], :: strides[1]]


@pytest.mark.parametrize(
    "attributes",
    [
        {"dy": [d[0] for d in MOVES], "dx": [d[1] for d in MOVES]},
        {"displacement": np.array(MOVES).reshape(-1).tolist()},
        {"shifts": numpy_helper.from_array(np.array(MOVES))},
        {"offsets": np.array(MOVES, float).reshape(-1).tolist(), "domain": ""},
    ],
)
def test_a_shift_gives_its_displacements(attributes: dict[str, Any]) -> None:
    np.testing.assert_array_equal(run(model("Shift", **attributes)), shifted())


def test_a_shift_with_an_input_and_a_stride() -> None:
    moves = numpy_helper.from_array(np.array(MOVES, np.float32), "moves")
    np.testing.assert_array_equal(run(model("Shift", moves, strides=[2, 1])), shifted((2, 1)))
    np.testing.assert_array_equal(run(model("Shift", moves, stride=2)), shifted((2, 2)))


@pytest.mark.parametrize(
    ("attributes", "message"),
    [
        ({}, "a Shift must give its displacements in one way, as pairs (dy, dx), found 0 ways"),
        (
            {"dy": [0] * 4, "dx": [1] * 4, "shift": [0] * 8},
            "a Shift must give its displacements in one way, as pairs (dy, dx), found 2 ways",
        ),
        ({"shift": [1, 2, 3]}, "found 3 numbers"),
        ({"dy": [0] * 4, "dx": [1] * 3}, "a Shift has 4 dy and 3 dx"),
        ({"shift": [0] * 8, "stride": 0}, "the stride of a Shift must be one or two numbers from 1 up, found [0]"),
    ],
)  # fmt: skip
def test_what_a_shift_must_say(attributes: dict[str, Any], message: str) -> None:
    with pytest.raises(UnsupportedModel) as caught:
        load_onnx(model("Shift", **attributes))
    assert message in str(caught.value)
    assert "node layer" in str(caught.value)


@pytest.mark.parametrize("key", ["group", "groups"])
def test_a_channel_shuffle(key: str) -> None:
    expected = np.maximum(X.reshape(1, 2, 2, 5, 6).swapaxes(1, 2).reshape(X.shape), 0)
    attributes: dict[str, Any] = {key: 2}
    proto = model("ChannelShuffle", **attributes)
    np.testing.assert_array_equal(run(proto), expected)
    kinds = {n.op_type for n in canonicalise(load_onnx(proto)).graph.node}
    assert kinds == {"Reshape", "Transpose", "Relu"}


def test_groups_must_divide_the_channels() -> None:
    with pytest.raises(ModelError) as caught:
        load_onnx(model("ChannelShuffle", group=3))
    assert "3 groups of a channel shuffle do not divide 4 channels" in str(caught.value)
    assert "node layer/split" in str(caught.value)
    assert "choose a number of groups that divides 4" in str(caught.value)


def test_a_shuffle_without_groups() -> None:
    with pytest.raises(UnsupportedModel, match="must have one number of groups from 1 up, found \\[0\\]"):
        load_onnx(model("ChannelShuffle"))
