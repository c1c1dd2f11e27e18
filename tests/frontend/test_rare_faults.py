"""Faults of models that the tests of each loader do not bring about."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
from google.protobuf.message import EncodeError
from onnx import ModelProto, TensorProto, helper
from PIL import Image
from tests.frontend.caffe.nets import header, layer
from tests.frontend.caffe.test_faults import message as caffe

from tilewright.errors import DataError, ModelError, TilewrightError, UnsupportedModel
from tilewright.frontend import load_onnx
from tilewright.frontend.caffe import graph as caffe_graph
from tilewright.frontend.caffe import write_caffemodel
from tilewright.frontend.caffe.graph import Graph as CaffeGraph
from tilewright.frontend.graph import Graph
from tilewright.frontend.pixels import of_pillow
from tilewright.frontend.relax_import import to_relax


def build(text: str, opset: int = 21) -> ModelProto:
    return onnx.parser.parse_model(f'<ir_version: 10, opset_import: ["" : {opset}]> g {text}')


def refused(model: ModelProto | bytes, kind: type[TilewrightError]) -> str:
    with pytest.raises(kind) as error:
        load_onnx(model)
    return str(error.value)


def test_names_that_are_no_text() -> None:
    model = build("(float[1,3] x) => (float[1,3] y) { y = Relu (x) }")
    model.graph.node[0].name = "QQQQ"
    data = model.SerializeToString().replace(b"QQQQ", b"\xff\xfe\xff\xfe")
    assert refused(data, ModelError).endswith(
        f"expected an ONNX model, found {len(data)} bytes with names that are no text (UTF-8); "
        "export or download the file again"
    )


def test_opsets_that_onnx_does_not_know() -> None:
    newest = onnx.defs.onnx_opset_version()
    model = build("(float[1,3] x) => (float[1,3] y) { y = Relu (x) }")
    model.opset_import[0].version = 9999
    assert refused(model, UnsupportedModel) == (
        f"opset_import: opset 9999 is newer than {newest}, the newest that the installed onnx knows; "
        "export the model with opset 21"
    )


def test_opsets_that_cannot_be_converted() -> None:
    text = '(float[1,2,3,3] x) => (y) { y = Cast <to = "FLOAT"> (x) }'
    found = refused(build(text, 1), UnsupportedModel)
    assert found.startswith("graph: the model cannot be converted from opset 1 to 21: ")
    assert found.endswith("; export the model with opset 21")


def test_tensors_that_are_too_large() -> None:
    model = build(
        "(float[1,1024] x) => (y) { n = Constant <value = int64[2] {1048576, 4}> ()  t = Tile (x, n)  y = Relu (t) }"
    )
    assert "output t of Tile has shape [1048576, 4096], more than 2**31 elements" in refused(
        model, TilewrightError
    )


def test_outputs_that_the_import_does_not_have() -> None:
    model = build(
        "(float[1,2,4,4] x) => (float[1,2,2,2] y, int64[1,2,2,2] i) "
        "{ [pool] y, i = MaxPool <kernel_shape = [2, 2], strides = [2, 2]> (x) }"
    )
    with pytest.raises(UnsupportedModel) as error:
        to_relax(load_onnx(model))
    assert str(error.value) == ("pool: MaxPool: expected 1 outputs, found 2; remove the optional outputs")


def test_a_cycle() -> None:
    nodes = [
        helper.make_node("Relu", ["b"], ["a"], name="one"),
        helper.make_node("Relu", ["a"], ["b"], name="two"),
    ]
    out = helper.make_tensor_value_info("b", TensorProto.FLOAT, (1, 3))
    model = helper.make_model(helper.make_graph(nodes, "g", [], [out]), ir_version=10)
    with pytest.raises(ModelError) as error:
        Graph.from_model(model).sort()
    assert str(error.value) == "node one: the graph has a cycle; export the model again"


def test_pictures_without_a_conversion() -> None:
    with pytest.raises(DataError) as error:
        of_pillow(Image.new("LAB", (2, 2)), "gray")
    assert str(error.value) == "expected an RGB or gray image, found Pillow mode LAB"


def test_layers_of_maps_behind_vectors(tmp_path: Path) -> None:
    text = header(x=(1, 6)) + layer("Pooling", "pooling_param { kernel_size: 2 }")
    assert "expected an input of 4 dimensions (N, C, H, W), found shape (1, 6)" in caffe(tmp_path, text)


def test_networks_beyond_the_format(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    text = header(x=(1, 6)) + layer("InnerProduct", "inner_product_param { num_output: 5 }")
    monkeypatch.setattr(caffe_graph, "MAX_BYTES", 100)
    found = caffe(tmp_path, text)
    assert found.endswith(": the model needs 140 bytes, ONNX files hold 100"), found


def test_a_conversion_that_onnx_refuses() -> None:
    graph = CaffeGraph("net", inputs=["x"], shapes={"x": (1, 3), "y": (1, 3)})
    graph.nodes.append(helper.make_node("Nonsense", ["x"], ["y"]))
    with pytest.raises(ModelError, match=r"^net: the converted network is not valid ONNX: No Op registered"):
        graph.model(["y"])


def test_tensors_in_segments() -> None:
    model = build("(float[1] x) => (float[1] y) { y = Add (x, w) }")
    tensor = model.graph.initializer.add(name="w", data_type=TensorProto.FLOAT, dims=[1], float_data=[1.0])
    tensor.segment.end = 1
    assert refused(model, ModelError).startswith("initialiser w: values cannot be read: ")


def test_weights_beyond_the_format(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """What protobuf raises beyond 2 GiB, which no test writes."""

    def full(path: Path, data: bytes) -> None:
        raise EncodeError

    monkeypatch.setattr(Path, "write_bytes", full)
    with pytest.raises(ModelError) as error:
        write_caffemodel(tmp_path / "net.caffemodel", {"ip": [np.ones((2, 3))]})
    assert str(error.value) == f"{tmp_path / 'net.caffemodel'}: the weights need more than 2 GiB"
