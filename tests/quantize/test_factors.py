"""The factors that a quantised model carries are those by which its float twin differs."""

from __future__ import annotations

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import TensorProto, helper, numpy_helper

from tilewright.quantize.factors import KEY, float_factors, has_factors, note_factors
from tilewright.quantize.graph import Graph


def network(factors: NDArray[np.float64], dead: int) -> Graph:
    """conv -> relu -> conv, the map between times factors by channel; one channel is never above 0."""
    rng = np.random.default_rng(1)
    first, second = rng.normal(size=(4, 2, 1, 1)), rng.normal(size=(3, 4, 1, 1))
    bias = np.where(np.arange(4) == dead, -100.0, 1.0)
    weights = {
        "a": first * factors[:, None, None, None],
        "b": second / factors[:, None, None],
        "c": bias * factors,
    }
    nodes = [
        helper.make_node("Conv", ["x", "a", "c"], ["s"], name="first"),
        helper.make_node("Relu", ["s"], ["t"], name="relu"),
        helper.make_node("Conv", ["t", "b"], ["y"], name="second"),
    ]
    graph = helper.make_graph(
        nodes,
        "net",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, (1, 2, 3, 3))],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, (1, 3, 3, 3))],
        [numpy_helper.from_array(w.astype(np.float32), n) for n, w in weights.items()],
    )
    return Graph(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 21)], ir_version=10))


def test_factors() -> None:
    rng = np.random.default_rng(2)
    samples = [{"x": rng.normal(size=(1, 2, 3, 3)).astype(np.float32)} for _ in range(6)]
    factors = np.array([1.0, 4.0, 2.5, 8.0])
    result = onnx.ModelProto()
    assert not has_factors(result) and float_factors(result) == {}
    note_factors(result, network(np.ones(4), 2), network(factors, 2), ["s", "t", "y", "other"], samples)
    assert has_factors(result) and result.metadata_props[0].key == KEY
    found = float_factors(result)
    assert set(found) == {"s", "t"}  # y has the factor 1
    np.testing.assert_allclose(found["s"], factors, rtol=1e-5)
    np.testing.assert_allclose(found["t"], [1.0, 4.0, np.nan, 8.0], rtol=1e-5)


def test_one_factor_for_all_channels() -> None:
    samples = [{"x": np.ones((1, 2, 3, 3), np.float32)}]
    result = onnx.ModelProto()
    note_factors(result, network(np.ones(4), 9), network(np.full(4, 0.75), 9), ["s"], samples)
    assert {name: value.shape for name, value in float_factors(result).items()} == {"s": ()}
    np.testing.assert_allclose(float_factors(result)["s"], 0.75, rtol=1e-6)
