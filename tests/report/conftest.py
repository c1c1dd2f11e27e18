"""The demo network as a package."""

from __future__ import annotations

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper
from tests.cli.commands import DEMO

import tilewright as tw
from tilewright.quantize.options import QuantizeOptions
from tilewright.report import Report, analyse

QUICK = QuantizeOptions(method="minmax", bias_correction=False, equalise=False)


@pytest.fixture(scope="session")
def demo() -> tw.Package:
    """A convolutional network with branches, an addition, pools and a softmax on the host."""
    model = tw.load(DEMO / "digits.onnx")
    return tw.compile(tw.quantize(model, "random:1", options=QUICK), target="ultra96-w8")


@pytest.fixture(scope="session")
def demo_report(demo: tw.Package) -> Report:
    """Its report."""
    return analyse(demo)


@pytest.fixture(scope="session")
def host_only(tmp_path_factory: pytest.TempPathFactory) -> tw.Package:
    """A quantised network of which nothing runs on the accelerator."""
    nodes = [
        helper.make_node("QuantizeLinear", ["x", "s", "z"], ["q"], name="q"),
        helper.make_node("DequantizeLinear", ["q", "s", "z"], ["d"], name="d"),
        helper.make_node("Softmax", ["d"], ["y"], name="soft <max>", axis=1),
    ]
    graph = helper.make_graph(
        nodes,
        "net",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [1, 10])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, [1, 10])],
        [
            numpy_helper.from_array(np.array(0.1, np.float32), "s"),
            numpy_helper.from_array(np.array(3, np.uint8), "z"),
        ],
    )
    path = tmp_path_factory.mktemp("host") / "host.onnx"
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 21)], ir_version=10)
    onnx.save(model, path)
    return tw.compile(tw.load(path), target="ultra96-w8")
