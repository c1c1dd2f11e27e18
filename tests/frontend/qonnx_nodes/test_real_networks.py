"""The QONNX networks give the bits that qonnx's executor gives, and none of its operators are left."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
from tests.frontend.qonnx_nodes.graphs import imported, run
from tests.frontend.qonnx_nodes.oracle import execute

NETWORKS = (
    "espcn/nn_resize_quant.onnx",
    "espcn/subpixel_quant.onnx",
    "qonnx/TFC_1W1A.onnx",
    "qonnx/TFC_2W2A.onnx",
)


@pytest.mark.parametrize("name", NETWORKS)
def test_bits(shared_data: Path, name: str) -> None:
    model = onnx.load(shared_data / "onnx" / name)
    found = imported(model)
    assert {n.domain for n in found.graph.node} == {""}
    (value,) = found.graph.input
    shape = [d.dim_value for d in value.type.tensor_type.shape.dim]
    feeds = {value.name: np.random.default_rng(1).random(shape, dtype=np.float32)}
    for got, want in zip(run(found, feeds), execute(model, feeds), strict=True):
        np.testing.assert_array_equal(got, want)
