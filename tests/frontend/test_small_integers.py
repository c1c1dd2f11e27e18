"""Types of 4 bits become 8-bit storage with the same values, by ONNX Runtime before and after."""

from __future__ import annotations

import numpy as np
import pytest
from onnx import ModelProto, TensorProto, helper
from tests.frontend.qonnx_nodes.graphs import imported, operators, run

from tilewright.errors import UnsupportedModel
from tilewright.frontend import load_onnx

SHAPE = (1, 3, 4, 4)


def network(kind: int) -> ModelProto:
    """Activations and weights of a 4-bit type, with a zero point each."""
    values = list(range(*((-8, 8) if kind == TensorProto.INT4 else (0, 16))))
    weights = [values[i % 16] for i in range(2 * 3 * 5)]
    nodes = [
        helper.make_node("QuantizeLinear", ["x", "s", "z"], ["q"]),
        helper.make_node("DequantizeLinear", ["q", "s", "z"], ["d"]),
        helper.make_node("DequantizeLinear", ["w", "ws", "wz"], ["wd"], axis=0),
        helper.make_node("Conv", ["d", "wd"], ["c"]),
        helper.make_node("QuantizeLinear", ["c", "s"], ["cq"], output_dtype=kind),
        helper.make_node("DequantizeLinear", ["cq", "s"], ["y"]),
    ]
    tensors = [
        helper.make_tensor("s", TensorProto.FLOAT, [], [0.3]),
        helper.make_tensor("z", kind, [], [3]),
        helper.make_tensor("w", kind, [2, 3, 1, 1], weights[:6]),
        helper.make_tensor("ws", TensorProto.FLOAT, [2], [0.25, 0.5]),
        helper.make_tensor("wz", kind, [2], [1, 2]),
    ]
    graph = helper.make_graph(
        nodes,
        "g",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, SHAPE)],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, None)],
        tensors,
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 21)], ir_version=10)


@pytest.mark.parametrize("kind", [TensorProto.INT4, TensorProto.UINT4])
def test_same_values(kind: int) -> None:
    model = network(kind)
    found = imported(model)
    assert operators(found) == [
        *("QuantizeLinear", "Clip", "DequantizeLinear", "DequantizeLinear", "Conv"),
        *("QuantizeLinear", "Clip", "DequantizeLinear"),
    ]
    values = [*found.graph.value_info, *found.graph.output]
    wide = {TensorProto.FLOAT, TensorProto.INT8, TensorProto.UINT8}
    assert {v.type.tensor_type.elem_type for v in values} <= wide
    assert {t.data_type for t in found.graph.initializer} <= wide
    x = np.random.default_rng(1).normal(0, 3, SHAPE).astype(np.float32)
    np.testing.assert_array_equal(run(found, {"x": x})[0], run(model, {"x": x})[0])


def test_what_has_no_wide_form_is_named() -> None:
    model = network(TensorProto.INT4)
    model.graph.node.append(helper.make_node("Cast", ["x"], ["n"], name="narrow", to=TensorProto.INT4))
    model.graph.output.append(helper.make_tensor_value_info("q", TensorProto.INT4, SHAPE))
    with pytest.raises(UnsupportedModel) as caught:
        load_onnx(model)
    assert str(caught.value).splitlines() == [
        "value q: expected numbers of 8 bits or more, found INT4; store it as int8 or uint8",
        "node narrow: Cast to INT4 is not supported; store it as int8 or uint8",
    ]
