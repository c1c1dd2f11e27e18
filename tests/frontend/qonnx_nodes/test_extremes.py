"""Weights far outside of a quantiser's range, and steps next to nothing."""

from __future__ import annotations

import numpy as np
from onnx import numpy_helper
from tests.frontend.qonnx_nodes.graphs import imported, model_of, node


def test_weights_that_overflow_in_steps_are_cut_off() -> None:
    """No warning comes: what is too large for float32 is too large for four bits."""
    nodes = [
        node("Quant", ["w", "s", "z", "b"], "q", signed=1, narrow=0, rounding_mode="ROUND"),
        node("Conv", ["x", "q"], "y", domain=""),
    ]
    weights = np.array([1e30, -1e30, 0.0, 1e-20], np.float32).reshape(1, 4, 1, 1)
    model = imported(model_of(nodes, {"w": weights, "s": 1e-20, "z": 0.0, "b": 4.0}, (1, 4, 2, 2)))
    found = [numpy_helper.to_array(t) for t in model.graph.initializer]
    assert any(np.array_equal(a.reshape(-1), [7, -8, 0, 1]) for a in found)
