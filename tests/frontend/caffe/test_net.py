"""Phases, inputs, names and outputs of converted networks."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest

from tilewright.errors import ModelError
from tilewright.frontend.caffe import CaffeWarning, load_caffe, read_caffe, write_caffemodel

from .nets import header, input_shape, layer, load, noise, run_onnx


def signature(model: onnx.ModelProto) -> list[tuple[str, str, list[str], list[str]]]:
    constants = {i.name for i in model.graph.initializer}
    return [
        (n.name, n.op_type, [i for i in n.input if i not in constants], list(n.output))
        for n in model.graph.node
    ]


def outputs(model: onnx.ModelProto) -> list[str]:
    return [o.name for o in model.graph.output]


CONV = "convolution_param { num_output: 2 kernel_size: 3 }"


def in_place(kind: str, name: str, blob: str, params: str = "") -> str:
    return f'layer {{ name: "{name}" type: "{kind}" bottom: "{blob}" top: "{blob}" {params} }}\n'


def test_names_in_place(tmp_path: Path) -> None:
    text = header(data=(1, 3, 6, 6)) + layer("Convolution", CONV, ["data"], "conv1")
    text += in_place("BatchNorm", "bn1", "conv1") + in_place(
        "Scale", "scale1", "conv1", "scale_param { bias_term: true }"
    )
    text += in_place("ReLU", "relu1", "conv1")
    model = load(tmp_path, text).model
    assert signature(model) == [
        ("conv1", "Conv", ["data"], ["conv1/conv1"]),
        ("bn1", "BatchNormalization", ["conv1/conv1"], ["conv1/bn1"]),
        ("scale1/mul", "Mul", ["conv1/bn1"], ["scale1/mul"]),
        ("scale1", "Add", ["scale1/mul"], ["conv1/scale1"]),
        ("relu1", "Relu", ["conv1/scale1"], ["conv1"]),
    ]
    assert outputs(model) == ["conv1"]
    assert {i.name for i in model.graph.initializer} >= {
        "conv1/weight",
        "conv1/bias",
        "scale1/gain",
        "scale1/bias",
    }


def test_an_input_changed_in_place_keeps_its_name(tmp_path: Path) -> None:
    model = load(tmp_path, header(data=(1, 3, 6, 6)) + in_place("BatchNorm", "bn", "data")).model
    assert signature(model) == [("bn", "BatchNormalization", ["data"], ["data/bn"])]
    assert outputs(model) == ["data/bn"]


def test_a_blob_read_before_and_after_an_in_place_layer(tmp_path: Path) -> None:
    text = header(x=(1, 2, 3, 3)) + layer("Power", "power_param { shift: -1 }", name="a")
    text += layer("Power", "power_param { scale: 2 }", ["a"], "before") + in_place("ReLU", "relu", "a")
    text += layer("Eltwise", "", ["a", "before"])
    x = noise((1, 2, 3, 3))
    found = run_onnx(load(tmp_path, text).model, {"x": x})["y"]
    assert np.array_equal(found, np.maximum(x - 1, 0) + (x - 1) * 2)


def test_names_that_collide(tmp_path: Path) -> None:
    """Blobs called like our in-between tensors and constants, and two layers of one name."""
    text = header(x=(1, 2, 3, 3)) + layer("Power", "power_param { scale: 2 }", name="y/weight")
    text += layer("InnerProduct", "inner_product_param { num_output: 2 }", ["y/weight"])
    text += 'layer { name: "same" type: "ReLU" bottom: "y" top: "y/flatten" }'
    text += 'layer { name: "same" type: "TanH" bottom: "y/flatten" top: "z" }'
    model = load(tmp_path, text).model
    tensors = [t for n in model.graph.node for t in n.output] + [i.name for i in model.graph.initializer]
    assert len(set(tensors)) == len(tensors)
    assert [n.name for n in model.graph.node] == ["y/weight", "y/flatten", "y", "same", "same#2"]
    assert outputs(model) == ["z"]


def test_unnamed_layers_are_called_after_type_and_line(tmp_path: Path) -> None:
    model = load(tmp_path, header(x=(1, 2)) + 'layer { type: "ReLU" bottom: "x" top: "y" }').model
    assert [n.name for n in model.graph.node] == ["ReLU_2"]


def test_outputs_are_blobs_that_nobody_reads(tmp_path: Path) -> None:
    text = header(x=(1, 4, 3, 3))
    text += 'layer { name: "s" type: "Slice" bottom: "x" top: "a" top: "b" top: "c" top: "d" }'
    text += 'layer { name: "q" type: "Silence" bottom: "b" }'
    text += 'layer { name: "p" type: "Split" bottom: "c" top: "c1" top: "c2" }'
    text += 'layer { name: "loss" type: "SoftmaxWithLoss" bottom: "c1" bottom: "label" top: "loss" }'
    text += layer("ReLU", "", ["a"])
    model = load(tmp_path, text).model
    assert outputs(model) == ["d", "c1", "c2", "y"]


TRAIN_VAL = """
name: "train_val"
layer { name: "data" type: "Data" top: "data" top: "label" include { phase: TRAIN }
        transform_param { crop_size: 9 mean_value: 1 mean_value: 2 mean_value: 3 } data_param { source: "t"
        batch_size: 64 } }
layer { name: "data" type: "Data" top: "data" top: "label" include { phase: TEST }
        transform_param { crop_size: 8 mean_value: 1 mean_value: 2 mean_value: 3 } data_param { source: "v"
        batch_size: 50 } }
layer { name: "conv" type: "Convolution" bottom: "data" top: "conv" convolution_param { num_output: 2
kernel_size: 3 } } layer { name: "drop" type: "Dropout" bottom: "conv" top: "conv" include { phase: TRAIN } }
layer { name: "late" type: "ReLU" bottom: "conv" top: "conv" include { min_level: 1 } }
layer { name: "stage" type: "TanH" bottom: "conv" top: "conv" include { stage: "deploy" } include { phase:
TRAIN } } layer { name: "not" type: "AbsVal" bottom: "conv" top: "conv" exclude { phase: TEST not_stage:
"deploy" } } layer { name: "fc" type: "InnerProduct" bottom: "conv" top: "fc" inner_product_param {
num_output: 5 } } layer { name: "acc" type: "Accuracy" bottom: "fc" bottom: "label" top: "acc" include {
phase: TEST } } layer { name: "loss" type: "SoftmaxWithLoss" bottom: "fc" bottom: "label" top: "loss" }
"""


def test_training_file_in_its_test_phase(tmp_path: Path) -> None:
    model = load(tmp_path, TRAIN_VAL).model
    assert [n.name for n in model.graph.node] == ["conv", "fc/flatten", "fc"]
    assert [i.name for i in model.graph.input] == ["data"]
    assert input_shape(model) == (1, 3, 8, 8)
    assert outputs(model) == ["fc"]


def test_level_and_stages_of_the_file(tmp_path: Path) -> None:
    model = load(tmp_path, 'state { level: 2 stage: "deploy" }' + TRAIN_VAL).model
    assert [n.name for n in model.graph.node] == ["conv", "late", "stage", "not", "fc/flatten", "fc"]


@pytest.mark.parametrize(
    ("data", "shape"),
    [
        ('type: "ImageData" image_data_param { new_height: 7 new_width: 9 }', (1, 3, 7, 9)),
        (
            'type: "ImageData" image_data_param { new_height: 7 new_width: 9 is_color: false crop_size: 5 }',
            (1, 1, 5, 5),
        ),
        ('type: "Data" transform_param { crop_h: 6 crop_w: 8 force_gray: true }', (1, 1, 6, 8)),
        ('type: "Data" data_param { crop_size: 6 force_encoded_color: true }', (1, 3, 6, 6)),
        (
            'type: "MemoryData" memory_data_param { batch_size: 9 channels: 2 height: 4 width: 5 }',
            (1, 2, 4, 5),
        ),
        ('type: "DummyData" dummy_data_param { num: 4 channels: 2 height: 4 width: 5 }', (1, 2, 4, 5)),
        (
            'type: "DummyData" dummy_data_param { shape { dim: 4 dim: 2 dim: 5 dim: 6 } shape { dim: 4 } }',
            (1, 2, 5, 6),
        ),
        ('type: "Input" input_param { shape { dim: 10 dim: 3 dim: 4 dim: 4 } }', (1, 3, 4, 4)),
    ],
)
def test_data_layers_become_inputs(tmp_path: Path, data: str, shape: tuple[int, ...]) -> None:
    text = f'layer {{ name: "d" top: "data" top: "label" {data} }}' + layer("ReLU", "", ["data"])
    assert input_shape(load(tmp_path, text).model) == shape


def test_channels_come_from_the_weights_or_are_assumed(tmp_path: Path) -> None:
    text = 'layer { name: "d" type: "Data" top: "data" transform_param { crop_size: 6 } }'
    text += layer("Convolution", CONV + " ", ["data"])
    path, weights = tmp_path / "n.prototxt", tmp_path / "w.caffemodel"
    path.write_text(text, encoding="utf-8")
    with pytest.warns(
        CaffeWarning, match="line 1: input 'data': the file does not say its channels, 3 are assumed"
    ):
        assert input_shape(load_caffe(path, 1)) == (1, 3, 6, 6)
    write_caffemodel(weights, {"y": [noise((2, 5, 3, 3)), noise((2,))]})
    assert input_shape(load_caffe(path, weights)) == (1, 5, 6, 6)


def test_batch_and_input_shapes(tmp_path: Path) -> None:
    path = tmp_path / "n.prototxt"
    text = 'input: "x" input_dim: 10 input_dim: 3 input_dim: 8 input_dim: 8 '
    text += layer("Convolution", CONV, ["x"], "c") + layer(
        "Reshape", "reshape_param { shape { dim: 10 dim: -1 } }", ["c"]
    )
    path.write_text(text, encoding="utf-8")
    assert load_caffe(path, 1).graph.output[0].type.tensor_type.shape.dim[1].dim_value == 72
    assert input_shape(load_caffe(path, 1, batch=4)) == (4, 3, 8, 8)
    assert input_shape(load_caffe(path, 1, input_shapes={"x": [1, 3, 5, 6]})) == (1, 3, 5, 6)
    with pytest.raises(ModelError) as caught:
        load_caffe(path, 1, input_shapes={"X": [1, 3, 8, 8], "x": [1, 0, 8, 8]})
    assert [str(f) for f in caught.value.faults] == [
        f"{path}: input shape given for 'X', which is no input; the inputs are x",
        f"{path}: input shape (1, 0, 8, 8) of 'x': each size has to be 1 or more",
    ]
    with pytest.raises(ModelError, match="batch is 0: has to be 1 or more"):
        load_caffe(path, 1, batch=0)


def test_weights_shared_by_name(tmp_path: Path) -> None:
    shared = ' param { name: "w" } param { name: "b" } '
    text = header(x=(1, 3, 6, 6), x2=(1, 3, 6, 6)) + layer("Convolution", CONV + shared, ["x"], "left")
    text += layer("Convolution", CONV + shared, ["x2"], "right")
    net = load(tmp_path, text)
    assert all(np.array_equal(a, b) for a, b in zip(net.blobs["left"], net.blobs["right"], strict=True))
    weights = tmp_path / "w.caffemodel"
    write_caffemodel(weights, {"left": net.blobs["left"]})  # the file may hold the owner's blobs only
    assert np.array_equal(
        read_caffe(tmp_path / "net.prototxt", weights).blobs["right"][0], net.blobs["left"][0]
    )


def test_the_model_is_the_same_each_time(tmp_path: Path) -> None:
    text = header(x=(1, 3, 6, 6)) + layer("Convolution", CONV)
    first = load(tmp_path, text, 4).model.SerializeToString(deterministic=True)
    assert load(tmp_path, text, 4).model.SerializeToString(deterministic=True) == first
    assert load(tmp_path, text, 5).model.SerializeToString(deterministic=True) != first


def test_unknown_fields_outside_of_parameters_are_warned_about(tmp_path: Path) -> None:
    text = 'solver: "SGD"\n' + header(x=(1, 3)) + layer("ReLU", "colour: 3 relu_parm { negative_slope: 1 }")
    with pytest.warns(CaffeWarning) as caught:
        load(tmp_path, text)
    path = tmp_path / "net.prototxt"
    assert [str(w.message) for w in caught] == [
        f"{path}, line 1: unknown field 'solver' is ignored",
        f"{path}, line 3: unknown field 'colour' is ignored",
        f"{path}, line 3: unknown field 'relu_parm' is ignored",
    ]


def test_known_but_idle_fields_say_nothing(tmp_path: Path) -> None:
    text = 'engine: "MKLDNN" force_backward: true ' + header(x=(1, 3))
    text += layer(
        "ReLU", "relu_param { engine: CUDNN } param { lr_mult: 1 } loss_weight: 1 blobs { data: 1 }"
    )
    assert outputs(load(tmp_path, text).model) == ["y"]
