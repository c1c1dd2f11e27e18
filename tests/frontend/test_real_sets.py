"""Every real set of images opens as its networks want it.

The oracles are ONNX Runtime and OpenCV, and accuracies that were measured before with other code (all but
those of kws, vww and mnist, which guard against change): a wrong channel order, mean, size or layout would
lower them.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import numpy.typing as npt
import onnxruntime
import pytest

from tilewright.frontend.dataset import Dataset, Feeds, open_dataset
from tilewright.frontend.labels import topk
from tilewright.frontend.preprocess import Preprocess

Scores = npt.NDArray[np.float32]
KWS = Preprocess(mean=83, std=1.7103)  # its set is int8: scale 1/1.7103, zero point 83
IMAGENET = Preprocess(mean=(123.675, 116.28, 103.53), std=(58.395, 57.12, 57.375))


def _scores(data: Dataset, run: Callable[[Feeds], Scores]) -> Scores:
    return np.concatenate([run(feeds).reshape(1, -1) for feeds, _ in data])


ONNX = [
    ("resnet20_cifar10/resnet20_cifar10.onnx", "cifar10/cifar10_test500.npz", IMAGENET, 91.0),
    ("mlperf_tiny/pretrainedResnet_fp32.onnx", "cifar10/cifar10_test500.npz", None, 89.0),
    ("mlperf_tiny/pretrainedResnet_fp32.onnx", "mlperf_tiny/ic01_cifar10_200.npz", None, 85.5),
    ("mlperf_tiny/kws_ref_model_float32_fp32.onnx", "mlperf_tiny/kws01_400.npz", KWS, 86.75),
    ("mlperf_tiny/vww_96_float_fp32.onnx", "mlperf_tiny/vww01_300.npz", Preprocess(std=255), 87.0),
    ("mnist/mnist.onnx", "mnist/mnist_test_2000.npz", None, 98.4),
]  # fmt: skip


@pytest.mark.parametrize(("model", "images", "preprocess", "expected"), ONNX)
def test_onnx(
    shared_data: Path, model: str, images: str, preprocess: Preprocess | None, expected: float
) -> None:
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = 1
    session = onnxruntime.InferenceSession(shared_data / "onnx" / model, options)
    (head,) = session.get_inputs()
    shapes = {head.name: [1, *head.shape[1:]]}
    path = shared_data / "images" / images
    data = open_dataset(path, input_shapes=shapes, preprocess=preprocess, labels_required=True)
    scores = _scores(data, lambda feeds: session.run(None, feeds)[0])
    assert data.labels is not None
    # Another processor may round one image to the other side.
    assert topk(scores, data.labels, 1) == pytest.approx(expected, abs=100 / len(data) + 1e-9)


CIFAR = ("cifar10/cifar10_test500.npz", {"mean": "cifar10_full/mean.binaryproto"})
MNIST = ("mnist/mnist_test_2000.npz", {"std": "256"})
CAFFE = [
    ("cmsisnn_cifar10/cifar10_m4_deploy", "cmsisnn_cifar10/cifar10_m4_float", *CIFAR, (1, 3, 32, 32), 80.4),
    ("cmsisnn_cifar10/cifar10_m7_deploy", "cmsisnn_cifar10/cifar10_m7_float", *CIFAR, (1, 3, 32, 32), 79.4),
    ("cifar10_full/cifar10_full", "cifar10_full/cifar10_full", *CIFAR, (1, 3, 32, 32), 70.4),
    ("lenet_mnist/lenet_deploy", "lenet_mnist/arm_lenet_iter_9000", *MNIST, (1, 1, 28, 28), 98.65),
    (
        "squeezenet_v1.1/deploy",
        "squeezenet_v1.1/squeezenet_v1.1_fp16w",
        "imagenet_calibration",
        {"resize": "256", "crop": "227", "channels": "bgr", "mean": "104,117,123"},
        (1, 3, 227, 227),
        63.0,
    ),
]


@pytest.mark.parametrize(("net", "weights", "images", "options", "shape", "expected"), CAFFE)
def test_caffe(
    shared_data: Path,
    net: str,
    weights: str,
    images: str,
    options: dict[str, str],
    shape: tuple[int, ...],
    expected: float,
) -> None:
    cv2 = pytest.importorskip("cv2")
    caffe = shared_data / "caffe"
    network = cv2.dnn.readNetFromCaffe(f"{caffe / net}.prototxt", f"{caffe / weights}.caffemodel")
    if "mean" in options and options["mean"].endswith(".binaryproto"):
        options = {**options, "mean": str(caffe / options["mean"])}
    data = open_dataset(
        shared_data / "images" / images,
        input_shapes={"data": shape},
        preprocess=Preprocess.parse(**options),
        labels_required=True,
    )

    def run(feeds: Feeds) -> Scores:
        network.setInput(feeds["data"])
        return np.array(network.forward(), np.float32)

    assert data.labels is not None
    assert topk(_scores(data, run), data.labels, 1) == pytest.approx(expected, abs=100 / len(data) + 1e-9)


@pytest.mark.parametrize(
    ("images", "shape", "count"),
    [
        ("cifar10/cifar10_train_b0_lossless.npz", (1, 3, 32, 32), 1000),
        ("mlperf_tiny/kws01_calibration_100.npz", (1, 1, 49, 10), 100),
        ("mlperf_tiny/vww01_calibration_60.npz", (1, 3, 96, 96), 60),
        ("imagenet_calibration", (1, 3, 224, 224), 200),
        ("faces", (1, 3, 240, 320), 4),
        ("voc", (1, 3, 300, 300), 5),
    ],
)
def test_calibration_sets(shared_data: Path, images: str, shape: tuple[int, ...], count: int) -> None:
    data = open_dataset(shared_data / "images" / images, input_shapes={"data": shape})
    assert len(data) == count
    feeds, _ = next(iter(data))
    assert feeds["data"].shape == shape
    assert feeds["data"].std() > 1


def test_label_offset_of_a_net_of_1001_classes(shared_data: Path) -> None:
    path, shapes = shared_data / "images" / "imagenet_evaluation", {"data": (1, 3, 224, 224)}
    plain = open_dataset(path, input_shapes=shapes, labels_required=True, classes=1000)
    moved = open_dataset(path, input_shapes=shapes, labels_required=True, classes=1001, label_offset=1)
    assert plain.labels is not None and moved.labels is not None
    assert np.array_equal(plain.labels + 1, moved.labels)
    assert moved.class_names[4] == "tiger shark, Galeocerdo cuvieri"
