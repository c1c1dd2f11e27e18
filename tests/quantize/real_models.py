"""The classifiers of the shared data, brought to the form that the quantiser expects, with their images."""

from __future__ import annotations

import warnings
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime as ort
from numpy.typing import NDArray
from onnx import numpy_helper, version_converter

from tilewright.frontend.caffe import CaffeWarning, load_caffe
from tilewright.frontend.dataset import open_dataset
from tilewright.frontend.preprocess import Preprocess

Floats = NDArray[np.float32]


@dataclass(frozen=True)
class Case:
    """A model with calibration inputs (N, C, H, W), evaluation inputs and labels."""

    model: onnx.ModelProto
    calibration: Floats
    images: Floats
    labels: NDArray[np.int64]

    def samples(self, count: int) -> list[Mapping[str, NDArray[np.generic]]]:
        """Return the first `count` calibration inputs as the quantiser takes them."""
        name = self.model.graph.input[0].name
        return [{name: image[None]} for image in self.calibration[:count]]


def predictions(model: onnx.ModelProto, images: Floats) -> NDArray[np.int64]:
    """Return the top class of each image, by ONNX Runtime without optimisation."""
    options = ort.SessionOptions()
    options.graph_optimization_level = ort.GraphOptimizationLevel.ORT_DISABLE_ALL
    options.log_severity_level = 4
    session = ort.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
    name = session.get_inputs()[0].name
    return np.array([int(np.argmax(session.run(None, {name: image[None]})[0])) for image in images])


def canonical(path: Path) -> onnx.ModelProto:
    """Return the model with batch 1, opset 21 and batch normalisation folded into convolutions."""
    model = onnx.load(path)
    for item in (*model.graph.input, *model.graph.output):
        item.type.tensor_type.shape.dim[0].dim_value = 1
    model = version_converter.convert_version(model, 21)
    model.ir_version = 10
    model.graph.ClearField("value_info")
    _fold_batch_normalisation(model.graph)
    _drop_identities(model.graph)
    return model


def _fold_batch_normalisation(graph: onnx.GraphProto) -> None:
    constants = {item.name: item for item in graph.initializer}
    producers = {node.output[0]: node for node in graph.node}
    for node in [item for item in graph.node if item.op_type == "BatchNormalization"]:
        conv = producers[node.input[0]]
        assert conv.op_type == "Conv"
        gamma, beta, mean, variance = (numpy_helper.to_array(constants[name]) for name in node.input[1:])
        epsilon = next((item.f for item in node.attribute if item.name == "epsilon"), 1e-5)
        factor = gamma / np.sqrt(variance + epsilon)
        weight = numpy_helper.to_array(constants[conv.input[1]]) * factor[:, None, None, None]
        bias = numpy_helper.to_array(constants[conv.input[2]]) if len(conv.input) > 2 else 0.0
        names = [f"{node.name}.folded_{kind}" for kind in ("weight", "bias")]
        for name, value in zip(names, (weight, (bias - mean) * factor + beta), strict=True):
            graph.initializer.append(numpy_helper.from_array(value.astype(np.float32), name))
        source = conv.input[0]
        conv.ClearField("input")
        conv.input.extend([source, *names])
        conv.output[0] = node.output[0]
        graph.node.remove(node)


def _drop_identities(graph: onnx.GraphProto) -> None:
    for node in [item for item in graph.node if item.op_type == "Identity"]:
        source = node.input[0]
        initializer = next((item for item in graph.initializer if item.name == source), None)
        if initializer is not None:
            copy = onnx.TensorProto()
            copy.CopyFrom(initializer)
            copy.name = node.output[0]
            graph.initializer.append(copy)
        else:
            for other in graph.node:
                for k, name in enumerate(other.output):
                    if name == source:
                        other.output[k] = node.output[0]
                for k, name in enumerate(other.input):
                    if name == source:
                        other.input[k] = node.output[0]
        graph.node.remove(node)


def _drop_dropout(graph: onnx.GraphProto) -> None:
    for node in graph.node:
        if node.op_type == "Dropout":
            node.op_type = "Identity"
            del node.input[1:], node.attribute[:]
    _drop_identities(graph)


@dataclass(frozen=True)
class _Source:
    """Files below the shared folder; `calibration` and `evaluation` with the first and last image to use."""

    model: tuple[str, ...]
    calibration: tuple[str, int, int | None]
    evaluation: tuple[str, int, int | None]
    preprocess: Mapping[str, object]
    mean_file: str = ""
    label_offset: int = 0


_CIFAR = (("cifar10/cifar10_train_b0_lossless.npz", 0, None), ("cifar10/cifar10_test500.npz", 0, None))
_IMAGENET = (("imagenet_calibration", 0, None), ("imagenet_evaluation", 0, None))
_TINY = "mlperf_tiny/"
_NORMALISED = {"mean": (123.675, 116.28, 103.53), "std": (58.395, 57.12, 57.375)}
_CAFFE_MEAN = "caffe/cifar10_full/mean.binaryproto"

_SOURCES: dict[str, _Source] = {
    "squeezenet": _Source(
        ("caffe/squeezenet_v1.1/deploy.prototxt", "caffe/squeezenet_v1.1/squeezenet_v1.1_fp16w.caffemodel"),
        *_IMAGENET,
        {"resize": 256, "crop": 227, "channels": "bgr", "mean": (104, 117, 123)},
    ),
    "m4": _Source(
        tuple(f"caffe/cmsisnn_cifar10/cifar10_m4_{part}" for part in ("deploy.prototxt", "float.caffemodel")),
        *_CIFAR,
        {},
        _CAFFE_MEAN,
    ),
    "m7": _Source(
        tuple(f"caffe/cmsisnn_cifar10/cifar10_m7_{part}" for part in ("deploy.prototxt", "float.caffemodel")),
        *_CIFAR,
        {},
        _CAFFE_MEAN,
    ),
    "lenet": _Source(
        ("caffe/lenet_mnist/lenet_deploy.prototxt", "caffe/lenet_mnist/arm_lenet_iter_9000.caffemodel"),
        ("mnist/mnist_test_2000.npz", 0, 500),
        ("mnist/mnist_test_2000.npz", 500, None),
        {"std": 256},
    ),
    "resnet20": _Source(("onnx/resnet20_cifar10/resnet20_cifar10.onnx",), *_CIFAR, _NORMALISED),
    "resnet8": _Source(("onnx/mlperf_tiny/pretrainedResnet_fp32.onnx",), *_CIFAR, {}),
    "kws": _Source(
        ("onnx/mlperf_tiny/kws_ref_model_float32_fp32.onnx",),
        (f"{_TINY}kws01_calibration_100.npz", 0, None),
        (f"{_TINY}kws01_400.npz", 0, None),
        {"mean": 83, "std": 1.7103},
    ),
    "vww": _Source(
        ("onnx/mlperf_tiny/vww_96_float_fp32.onnx",),
        (f"{_TINY}vww01_calibration_60.npz", 0, None),
        (f"{_TINY}vww01_300.npz", 0, None),
        {"std": 255},
    ),
    "mobilenet_v1": _Source(
        ("onnx/mobilenet_v1_0.25_coral/mobilenet_v1_0.25_128_quant_fp32.onnx",),
        *_IMAGENET,
        {"resize": 146, "crop": 128, "mean": 127.5, "std": 127.5},
        label_offset=1,
    ),
    "shufflenetv2": _Source(("onnx/shufflenetv2_cifar10/shufflenetv2_cifar10.onnx",), *_CIFAR, _NORMALISED),
}

NAMES = tuple(_SOURCES)


def load_case(name: str, data: Path) -> Case:
    """Return one of `NAMES` with its images."""
    source = _SOURCES[name]
    if len(source.model) == 2:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", CaffeWarning)
            model = load_caffe(data / source.model[0], data / source.model[1])
        _drop_dropout(model.graph)
    else:
        model = canonical(data / source.model[0])
    head = model.graph.input[0]
    shapes = {head.name: [dim.dim_value for dim in head.type.tensor_type.shape.dim]}
    settings: dict[str, Any] = dict(source.preprocess)
    if source.mean_file:
        settings["mean"] = data / source.mean_file
    preprocess = Preprocess(**settings)

    def read(part: tuple[str, int, int | None], labels: bool) -> tuple[Floats, NDArray[np.int64]]:
        path, start, stop = part
        found = open_dataset(
            data / "images" / path, input_shapes=shapes, preprocess=preprocess, labels_required=labels
        ).subset(start, stop)
        images = np.concatenate([feeds[head.name] for feeds, _ in found])
        return images, np.asarray(found.labels if labels else [], np.int64) + source.label_offset

    calibration, _ = read(source.calibration, False)
    images, labels = read(source.evaluation, True)
    return Case(model, calibration, images, labels)
