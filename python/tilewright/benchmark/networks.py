"""Every network that the project promises to run, with its images: one row each.

Rows name files below the shared data folder, the architectures of the `onnx` package (`zoo.light`, seeded weights),
networks that are built (`built.py`), or the demo. Preprocessing is what the network was trained with, as its authors
publish it or as measured accuracy shows.
"""

from __future__ import annotations

import os
import warnings
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

import onnx

from tilewright.benchmark.built import BUILT, built
from tilewright.errors import ConfigError, Fault
from tilewright.frontend.caffe import CaffeWarning
from tilewright.frontend.dataset import Dataset, open_dataset
from tilewright.frontend.model import Model, load
from tilewright.frontend.preprocess import Preprocess
from tilewright.pipeline import quantize
from tilewright.quantize.options import QuantizeOptions
from tilewright.zoo import LIGHT_MODELS

Kind = Literal["classifier", "other"]
BOTH = ("ultra96-w8", "pynq-z1-w8")
ONE = ("ultra96-w8",)
NOISE = "random:1"
SEEDED = "random:0"
"""Weights of networks that come without."""
LIGHT = Path(str(onnx.__file__)).parent / "backend" / "test" / "data" / "light"
QUICK = QuantizeOptions(method="minmax", bias_correction=False)
"""Settings for where only the instructions matter, not the accuracy."""
NOISE_COUNT = 4
"""Noisy inputs in a set whose length is not asked for."""
DEMO_NAME = "demo"
DEMO = Path(__file__).resolve().parents[3] / "tutorials" / "demo"
LARGEST_WHOLE = 400
"""Millions of MACs up to which a network is compared whole with the reference simulator."""


@dataclass(frozen=True)
class Images:
    """A set of images below `images/`, from the first to before the last; or NOISE: seeded numbers."""

    path: str
    first: int = 0
    last: int | None = None


@dataclass(frozen=True)
class Network:
    """A row of the table.

    Attributes:
        name: of the row.
        files: ONNX file, or prototxt and caffemodel, below the data folder; a prototxt alone or the name of a light
            model gets seeded weights; or the name of a network of BUILT.
        macs: multiply-accumulates in millions, of convolutions and dense layers.
        kind: a trained classifier with images, or another net.
        calibration, evaluation: its images; calibration is not used where it came quantised.
        preprocess: options of `Preprocess`; a `mean` that ends in .binaryproto is below the data folder.
        label_offset: added to the labels of the set.
        overlays: that it is compiled for.
        shapes: of inputs, in place of those of the file.
        quantised: it comes quantised.
        regions: that it may have.
        quick: it is tested in the default suite.
        bits: of its activations; below 8 its speed is measured on `overlays`, which are made for it.
    """

    name: str
    files: tuple[str, ...]
    macs: float
    kind: Kind = "classifier"
    calibration: Images = Images(NOISE)
    evaluation: Images = Images(NOISE)
    preprocess: Mapping[str, Any] = field(default_factory=dict)
    label_offset: int = 0
    overlays: tuple[str, ...] = BOTH
    shapes: Mapping[str, tuple[int, ...]] | None = None
    quantised: bool = False
    regions: int = 1
    quick: bool = False
    bits: int = 8

    @property
    def needs_data(self) -> bool:
        """Whether its files are in the shared folder."""
        return self.files[0] not in (*LIGHT_MODELS, *BUILT) and self.name != DEMO_NAME

    @property
    def big(self) -> bool:
        """Whether the reference simulator takes minutes for it."""
        return self.macs > LARGEST_WHOLE

    def open(self, data: Path | None) -> Case:
        """Read the network; `data` is the shared folder, not needed where `needs_data` is false."""
        case = self.case(data)
        _ = case.model
        return case

    def case(self, data: Path | None) -> Case:
        """The network, not read yet."""
        return Case(self, DEMO if self.name == DEMO_NAME else data)


@dataclass(frozen=True)
class Case:
    """A network with its images; `root` is the folder of its files."""

    row: Network
    root: Path | None

    def path(self, *parts: str) -> Path:
        """A file below the folder, or one that is built. Raises ConfigError where there is none."""
        if parts[0] in BUILT:
            return built(parts[0])
        if self.root is None:
            raise ConfigError(
                Fault(
                    f"{self.row.name} needs the folder of models and images",
                    "TILEWRIGHT_DATA",
                    "give --data DIR",
                )
            )
        return self.root.joinpath(*parts)

    @cached_property
    def model(self) -> Model:
        """The network as imported, float or quantised."""
        row = self.row
        options = dict(row.preprocess)
        if isinstance(options.get("mean"), str):
            options["mean"] = self.path(options["mean"])
        weights: str | Path | None = None
        if row.files[0] in LIGHT_MODELS:
            path = LIGHT / f"light_{row.files[0]}.onnx"
            weights = SEEDED
        else:
            path = self.path(row.files[0])
            seeded = SEEDED if path.suffix == ".prototxt" else None
            weights = self.path(row.files[1]) if len(row.files) == 2 else seeded
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", CaffeWarning)
            return load(
                path,
                weights,
                preprocess=Preprocess(**options),
                input_shapes=row.shapes,
                label_offset=row.label_offset,
                name=row.name,
            )

    def images(self, source: Images, count: int | None = None) -> Dataset:
        """A set, or its first `count` images (all if None)."""
        if source.path == NOISE:
            path: str | Path = source.path
        else:
            path = self.path(source.path) if self.row.name == DEMO_NAME else self.path("images", source.path)
        found = open_dataset(
            path,
            input_shapes=self.model.input_shapes,
            preprocess=self.model.preprocess,
            label_offset=self.row.label_offset,
            count=count or NOISE_COUNT,
        ).subset(source.first, source.last)
        return found if count is None else found.subset(0, min(count, len(found)))

    def calibration(self, count: int | None = None) -> Dataset:
        """Its calibration set."""
        return self.images(self.row.calibration, count)

    def evaluation(self, count: int | None = None) -> Dataset:
        """Its evaluation set."""
        return self.images(self.row.evaluation, count)

    def quantised(self, count: int | None = None, options: QuantizeOptions | None = None) -> Model:
        """Quantised on `count` calibration images (all if None); as it came where it came quantised."""
        if self.model.is_quantised:
            return self.model
        return quantize(self.model, self.calibration(count), options=options)


def find_data(option: str | None = None) -> Path | None:
    """The folder of models and images: `option`, else TILEWRIGHT_DATA, else `../shared/data` of the repository."""
    default = Path(__file__).resolve().parents[4] / "shared" / "data"
    path = Path(option or os.environ.get("TILEWRIGHT_DATA") or default)
    return path if path.is_dir() else None


_CIFAR: dict[str, Any] = {
    "calibration": Images("cifar10/cifar10_train_b0_lossless.npz", 0, 200),
    "evaluation": Images("cifar10/cifar10_test500.npz"),
}
_IMAGENET: dict[str, Any] = {
    "calibration": Images("imagenet_calibration"),
    "evaluation": Images("imagenet_evaluation"),
}
_MNIST: dict[str, Any] = {
    "calibration": Images("mnist/mnist_test_2000.npz", 0, 100),
    "evaluation": Images("mnist/mnist_test_2000.npz", 500, 1000),
}
_KWS: dict[str, Any] = {
    "calibration": Images("mlperf_tiny/kws01_calibration_100.npz"),
    "evaluation": Images("mlperf_tiny/kws01_400.npz"),
    "preprocess": {"mean": 83, "std": 1.7103},
}
_VWW: dict[str, Any] = {
    "calibration": Images("mlperf_tiny/vww01_calibration_60.npz"),
    "evaluation": Images("mlperf_tiny/vww01_300.npz"),
    "preprocess": {"std": 255},
}
_PHOTOS: dict[str, Any] = {"calibration": Images("voc"), "evaluation": Images("faces"), "kind": "other"}
_NORMALISED: dict[str, Any] = {"mean": (123.675, 116.28, 103.53), "std": (58.395, 57.12, 57.375)}
_CAFFE_CIFAR: dict[str, Any] = {**_CIFAR, "preprocess": {"mean": "caffe/cifar10_full/mean.binaryproto"}}
_MTCNN: dict[str, Any] = {**_PHOTOS, "preprocess": {"mean": 127.5, "std": 128}}
_MOBILENET: dict[str, Any] = {"mean": 127.5, "std": 127.5}
_TINY = "onnx/mlperf_tiny"
_V1 = "onnx/mobilenet_v1_0.25_coral/mobilenet_v1_0.25_128_quant"


def _caffe(stem: str, weights: str) -> tuple[str, str]:
    return f"caffe/{stem}.prototxt", f"caffe/{weights}.caffemodel"


def _light(name: str, macs: float, **options: Any) -> Network:
    return Network(f"light_{name}", (name,), macs, "other", overlays=ONE, **options)


NETWORKS: dict[str, Network] = {
    n.name: n
    for n in (
        Network(
            DEMO_NAME,
            ("digits.prototxt", "digits.caffemodel"),
            6.8,
            calibration=Images("digits_calibration.npz"),
            evaluation=Images("digits_test.npz"),
            preprocess={"mean": 128, "std": 128},
            quick=True,
        ),
        Network(
            "squeezenet_v1.1",
            _caffe("squeezenet_v1.1/deploy", "squeezenet_v1.1/squeezenet_v1.1_fp16w"),
            388,
            **_IMAGENET,
            preprocess={"resize": 256, "crop": 227, "channels": "bgr", "mean": (104, 117, 123)},
            overlays=ONE,
        ),
        Network(
            "m4",
            _caffe("cmsisnn_cifar10/cifar10_m4_deploy", "cmsisnn_cifar10/cifar10_m4_float"),
            6.6,
            **_CAFFE_CIFAR,
        ),
        Network(
            "m7",
            _caffe("cmsisnn_cifar10/cifar10_m7_deploy", "cmsisnn_cifar10/cifar10_m7_float"),
            12.3,
            **_CAFFE_CIFAR,
        ),
        Network(
            "cifar10_full",
            _caffe("cifar10_full/cifar10_full", "cifar10_full/cifar10_full"),
            12.4,
            **_CAFFE_CIFAR,
        ),
        Network(
            "lenet",
            _caffe("lenet_mnist/lenet_deploy", "lenet_mnist/arm_lenet_iter_9000"),
            2.3,
            **_MNIST,
            preprocess={"std": 256},
            quick=True,
        ),
        Network("det1", _caffe("mtcnn/det1", "mtcnn/det1"), 18, **_MTCNN, shapes={"data": (1, 3, 120, 96)}),
        Network("det2", _caffe("mtcnn/det2", "mtcnn/det2"), 1.5, **_MTCNN, quick=True),
        Network("det3", _caffe("mtcnn/det3", "mtcnn/det3"), 13, **_MTCNN),
        Network(
            "ultraface_slim",
            _caffe("ultraface_slim/slim-320", "ultraface_slim/slim-320"),
            81.4,
            **_PHOTOS,
            preprocess={"mean": 127, "std": 128},
            overlays=ONE,
        ),
        Network("resnet8", (f"{_TINY}/pretrainedResnet_fp32.onnx",), 12.5, **_CIFAR),
        Network("resnet8_qdq", (f"{_TINY}/pretrainedResnet_quant_qdq.onnx",), 12.5, **_CIFAR, quantised=True),
        Network("kws", (f"{_TINY}/kws_ref_model_float32_fp32.onnx",), 2.7, **_KWS, quick=True),
        Network("kws_qdq", (f"{_TINY}/kws_ref_model_qdq.onnx",), 2.7, **_KWS, quantised=True),
        Network("vww", (f"{_TINY}/vww_96_float_fp32.onnx",), 7.5, **_VWW),
        Network("vww_qdq", (f"{_TINY}/vww_96_int8_qdq.onnx",), 7.5, **_VWW, quantised=True),
        Network("ad01", (f"{_TINY}/ad01_fp32_fp32.onnx",), 0.26, "other"),
        Network("ad01_qdq", (f"{_TINY}/ad01_int8_qdq.onnx",), 0.26, "other", quantised=True, quick=True),
        Network(
            "resnet20", ("onnx/resnet20_cifar10/resnet20_cifar10.onnx",), 41, **_CIFAR, preprocess=_NORMALISED
        ),
        Network(
            "shufflenetv2_cifar10",
            ("onnx/shufflenetv2_cifar10/shufflenetv2_cifar10.onnx",),
            9.65,
            **_CIFAR,
            preprocess=_NORMALISED,
        ),
        Network(
            "mobilenet_v2",
            ("onnx/mobilenet_v2_coral/mobilenet_v2_1.0_224_quant_qdq.onnx",),
            300,
            **_IMAGENET,
            preprocess={"resize": 256, "crop": 224, **_MOBILENET},
            label_offset=1,
            overlays=ONE,
            quantised=True,
        ),
        Network(
            "mobilenet_v1_0.25",
            (f"{_V1}_fp32.onnx",),
            14,
            **_IMAGENET,
            preprocess={"resize": 146, "crop": 128, **_MOBILENET},
            label_offset=1,
        ),
        Network(
            "mobilenet_v1_0.25_qdq",
            (f"{_V1}_qdq.onnx",),
            14,
            **_IMAGENET,
            preprocess={"resize": 146, "crop": 128, **_MOBILENET},
            label_offset=1,
            quantised=True,
        ),
        Network("mnist", ("onnx/mnist/mnist.onnx",), 0.8, **_MNIST),
        _light("bvlc_alexnet", 726),
        _light("densenet121", 2845),
        _light("inception_v1", 1555),
        _light("inception_v2", 2019),
        _light("resnet50", 4089),
        _light("shufflenet", 125),
        _light("squeezenet", 349),
        _light("vgg19", 19632),
        _light("zfnet512", 1632),
    )
}
"""By name, smallest promise first: the demo, Caffe, ONNX, the light models of the `onnx` package."""
