"""Published networks: trained ones against their recorded outputs, all of them against OpenCV."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import onnx
import pytest

from tilewright.frontend.caffe import read_caffe, write_caffemodel

from .nets import TOLERANCE, Array, input_shape, relative_error, run_cv2, run_onnx

TRAINED = {
    "squeezenet_v1.1": ("squeezenet_v1.1/deploy", "squeezenet_v1.1/squeezenet_v1.1_fp16w"),
    "cifar10_full": ("cifar10_full/cifar10_full", "cifar10_full/cifar10_full"),
    "mtcnn_det1": ("mtcnn/det1", "mtcnn/det1"),
    "mtcnn_det2": ("mtcnn/det2", "mtcnn/det2"),
    "mtcnn_det3": ("mtcnn/det3", "mtcnn/det3"),
    "ultraface_slim320": ("ultraface_slim/slim-320", "ultraface_slim/slim-320"),
    "lenet": ("lenet_mnist/lenet_deploy", "lenet_mnist/arm_lenet_iter_9000"),
    "m4": ("cmsisnn_cifar10/cifar10_m4_deploy", "cmsisnn_cifar10/cifar10_m4_float"),
    "m7": ("cmsisnn_cifar10/cifar10_m7_deploy", "cmsisnn_cifar10/cifar10_m7_float"),
}
NO_RECORD = ("lenet", "m4", "m7")

# Layers inside of each net (single writers of their blobs) which are compared as well as its outputs: a
# saturated softmax would hide what comes before it.
SMALL = {
    "squeezenet_v1.0_deploy": ["pool10"],
    "mobilenet_v1_deploy": ["fc7"],
    "mobilenet_v2_deploy": ["fc7"],
    "shufflenet_v1_1x_g3_deploy": [],
    "shufflenet_v2_x1.0_miaow": [],
    "DenseNet_121": [],
    "bvlc_googlenet.deploy": ["loss3/classifier"],
    "mobilenet_ssd_deploy": ["mbox_loc", "mbox_priorbox", "mbox_conf_flatten"],
}
LARGE = {
    "ResNet-50-deploy": ["fc1000"],
    "bvlc_alexnet.deploy": ["fc8"],
    "fcn_alexnet": [],
    "fcn8s": [],
    "ssd300_vgg16": ["mbox_loc", "mbox_priorbox", "mbox_conf_flatten", "conv4_3_norm"],
    "vgg16": ["fc8"],
}


def ordered(rows: Array) -> Array:
    """Detections by class, then falling score: the order is not the same everywhere."""
    return rows[:, :, np.lexsort((-rows[0, 0, :, 2], rows[0, 0, :, 1]))]


def agree(ours: Mapping[str, Array], reference: Mapping[str, Array], names: list[str]) -> None:
    for name in names:
        found, expected = ours[name], reference[name]
        if name == "detection_out":
            found, expected = ordered(found), ordered(expected)
        assert relative_error(found, expected) < TOLERANCE, name
        assert float(expected.std()) > 0, name


def exposed(model: onnx.ModelProto, names: list[str]) -> onnx.ModelProto:
    """The model with more outputs."""
    copy = onnx.ModelProto()
    copy.CopyFrom(model)
    known = {info.name: info for info in model.graph.value_info}
    copy.graph.output.extend(known[name] for name in names)
    return copy


@pytest.mark.parametrize("name", TRAINED)
def test_trained_net(shared_data: Path, name: str) -> None:
    prototxt, weights = (shared_data / "caffe" / part for part in TRAINED[name])
    prototxt = prototxt.with_name(prototxt.name + ".prototxt")
    weights = weights.with_name(weights.name + ".caffemodel")
    model = read_caffe(prototxt, weights).model
    entry = model.graph.input[0].name
    if name in NO_RECORD:
        x = np.random.default_rng(0).uniform(-1, 1, input_shape(model)).astype(np.float32)
        recorded: dict[str, Array] = {}
    else:
        with np.load(shared_data / "golden" / f"caffe_{name}.npz") as file:
            recorded = {key.removeprefix("out_"): file[key] for key in file.files}
        x = recorded.pop("input")
    if x.shape != input_shape(model):
        model = read_caffe(prototxt, weights, input_shapes={entry: x.shape}).model
    outputs = [o.name for o in model.graph.output]
    made = {o for node in model.graph.node for o in node.output}
    in_file_names = {tensor.replace("/", "_"): tensor for tensor in made}
    recorded = {in_file_names[key]: values for key, values in recorded.items()}
    inner = [key for key in recorded if key not in outputs]
    ours = run_onnx(exposed(model, inner), {entry: x})
    if recorded:
        agree(ours, recorded, [*outputs, *inner])
    agree(ours, run_cv2(prototxt, weights, {entry: x}), outputs)


def compare_with_opencv(folder: Path, prototxt: Path, inner: list[str]) -> None:
    net = read_caffe(prototxt, 7)
    onnx.checker.check_model(net.model, full_check=True) if net.model.ByteSize() < 2**28 else None
    assert {(i.domain, i.version) for i in net.model.opset_import} <= {("", 21), ("tilewright", 1)}
    assert net.model.ir_version == 10
    weights = folder / "net.caffemodel"
    write_caffemodel(weights, net.blobs)
    (entry,) = [i.name for i in net.model.graph.input]
    x = np.random.default_rng(0).uniform(-1, 1, input_shape(net.model)).astype(np.float32)
    outputs = [o.name for o in net.model.graph.output]
    names = [*outputs, *inner]
    ours = run_onnx(exposed(net.model, inner), {entry: x})
    agree(ours, run_cv2(prototxt, weights, {entry: x}, *names), names)


@pytest.mark.parametrize("name", SMALL)
def test_net_with_random_weights(shared_data: Path, tmp_path: Path, name: str) -> None:
    compare_with_opencv(tmp_path, shared_data / "caffe" / "prototxt_only" / f"{name}.prototxt", SMALL[name])


@pytest.mark.slow
@pytest.mark.parametrize("name", LARGE)
def test_large_net_with_random_weights(shared_data: Path, tmp_path: Path, name: str) -> None:
    compare_with_opencv(tmp_path, shared_data / "caffe" / "prototxt_only" / f"{name}.prototxt", LARGE[name])


def test_every_published_net_is_tested(shared_data: Path) -> None:
    found = {path.stem for path in (shared_data / "caffe" / "prototxt_only").glob("*.prototxt")}
    assert found == set(SMALL) | set(LARGE)


@pytest.mark.parametrize("name", ["mobilenet_ssd_deploy", "shufflenet_v1_1x_g3_deploy"])
def test_every_tensor_has_its_inferred_shape(shared_data: Path, name: str) -> None:
    """ONNX's shape inference, started from nothing, finds the shapes that the converter wrote down."""
    model = read_caffe(shared_data / "caffe" / "prototxt_only" / f"{name}.prototxt", 7).model
    bare = onnx.ModelProto()
    bare.CopyFrom(model)
    del bare.graph.value_info[:]
    inferred = {
        v.name: v
        for v in onnx.shape_inference.infer_shapes(bare, strict_mode=True, data_prop=True).graph.value_info
    }
    written = {v.name: v for v in model.graph.value_info}
    outputs = {o.name for o in model.graph.output}
    assert set(written) == {o for n in model.graph.node for o in n.output} - outputs
    for tensor, info in written.items():
        assert info.type == inferred[tensor].type, tensor
