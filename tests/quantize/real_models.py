"""The classifiers of the shared data, brought to the form that the quantiser expects, with their images."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnx
import onnxruntime as ort
from numpy.typing import NDArray
from onnx import numpy_helper, version_converter

Floats = NDArray[np.float32]

IMAGENET_MEAN, IMAGENET_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


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


def _nchw(images: NDArray[np.generic], scale: float = 1.0) -> Floats:
    return np.ascontiguousarray(images.astype(np.float32).transpose(0, 3, 1, 2) * np.float32(scale))


def _cifar(data: Path) -> tuple[NDArray[np.uint8], NDArray[np.uint8], NDArray[np.int64]]:
    train = np.load(data / "images/cifar10/cifar10_train_b0_lossless.npz")
    test = np.load(data / "images/cifar10/cifar10_test500.npz")
    return train["images"], test["images"], test["labels"].astype(np.int64)


def _normalised(images: NDArray[np.uint8]) -> Floats:
    scaled = images.astype(np.float32) / 255.0
    return _nchw((scaled - np.array(IMAGENET_MEAN, np.float32)) / np.array(IMAGENET_STD, np.float32))


def _resnet20(data: Path) -> Case:
    train, test, labels = _cifar(data)
    model = canonical(data / "onnx/resnet20_cifar10/resnet20_cifar10.onnx")
    return Case(model, _normalised(train), _normalised(test), labels)


def _shufflenet(data: Path) -> Case:
    train, test, labels = _cifar(data)
    model = canonical(data / "onnx/shufflenetv2_cifar10/shufflenetv2_cifar10.onnx")
    return Case(model, _normalised(train), _normalised(test), labels)


def _resnet8(data: Path) -> Case:
    train, test, labels = _cifar(data)
    model = canonical(data / "onnx/mlperf_tiny/pretrainedResnet_fp32.onnx")
    return Case(model, _nchw(train), _nchw(test), labels)


def _kws(data: Path) -> Case:
    folder = data / "images/mlperf_tiny"
    test = np.load(folder / "kws01_400.npz")
    train = np.load(folder / "kws01_calibration_100.npz")["x"]
    model = canonical(data / "onnx/mlperf_tiny/kws_ref_model_float32_fp32.onnx")
    return Case(model, _features(train), _features(test["x"]), test["y"])


def _features(codes: NDArray[np.int8]) -> Floats:
    """Return what the int8 codes of the speech set stand for."""
    return _nchw((codes.astype(np.float32) - 83) / np.float32(1.7103))


def _vww(data: Path) -> Case:
    folder = data / "images/mlperf_tiny"
    test = np.load(folder / "vww01_300.npz")
    train = np.load(folder / "vww01_calibration_60.npz")["x"]
    model = canonical(data / "onnx/mlperf_tiny/vww_96_float_fp32.onnx")
    return Case(model, _nchw(train, 1 / 255), _nchw(test["x"], 1 / 255), test["y"])


def _mobilenet(data: Path) -> Case:
    from PIL import Image

    def read(folder: Path) -> tuple[Floats, NDArray[np.int64]]:
        images, labels = [], []
        for line in (folder / "labels.csv").read_text().splitlines()[1:]:
            file, label = line.split(",")[:2]
            image = Image.open(folder / "images" / file).convert("RGB")
            ratio = 146 / min(image.size)
            image = image.resize(
                (round(image.width * ratio), round(image.height * ratio)), Image.Resampling.BILINEAR
            )
            left, top = (image.width - 128) // 2, (image.height - 128) // 2
            images.append(np.asarray(image.crop((left, top, left + 128, top + 128))))
            labels.append(int(label) + 1)  # class 0 is the background
        return _nchw(np.stack(images).astype(np.float32) / 127.5 - 1), np.array(labels)

    calibration, _ = read(data / "images/imagenet_calibration")
    images, labels = read(data / "images/imagenet_evaluation")
    model = canonical(data / "onnx/mobilenet_v1_0.25_coral/mobilenet_v1_0.25_128_quant_fp32.onnx")
    return Case(model, calibration, images, labels)


CASES: dict[str, Callable[[Path], Case]] = {
    "resnet20": _resnet20,
    "resnet8": _resnet8,
    "kws": _kws,
    "vww": _vww,
    "mobilenet_v1": _mobilenet,
    "shufflenetv2": _shufflenet,
}
