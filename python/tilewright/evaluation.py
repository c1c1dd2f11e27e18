"""Accuracy of a package's float, quantised and simulated network, on the same images."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import onnx
from numpy.typing import NDArray

from tilewright.errors import ConfigError, DataError, Fault, FaultList, PackageError
from tilewright.frontend.dataset import Dataset, open_dataset
from tilewright.frontend.labels import ranks, topk
from tilewright.frontend.model import count_classes, fit_input, fit_inputs
from tilewright.frontend.pixels import Pixels
from tilewright.frontend.preprocess import Preprocess
from tilewright.runtime import Session
from tilewright.targets.package import Package

if TYPE_CHECKING:
    import onnxruntime

Array = NDArray[np.generic]
Progress = Callable[[int, int], None]
LABEL_OFFSET = "label_offset"
"""Key of the compile report under which the package keeps what is added to labels."""


@dataclass(frozen=True)
class Accuracy:
    """Percent of the images; `top5` is None below five classes."""

    top1: float
    top5: float | None


@dataclass(frozen=True)
class Flips:
    """Images that the simulated network has right and the float one wrong, and the other way round."""

    won: int
    lost: int


@dataclass(frozen=True)
class Evaluation:
    """Accuracies of one package on one set.

    Attributes:
        images: number of images.
        float: the float network in ONNX Runtime; None where the network came quantised.
        quantised: the quantised ONNX network in ONNX Runtime without optimisations, which are not exact.
        simulated: the package on the fast simulator.
        flips: against float, or against quantised where there is no float.
    """

    images: int
    float: Accuracy | None
    quantised: Accuracy
    simulated: Accuracy
    flips: Flips

    def to_dict(self) -> dict[str, Any]:
        """As plain values for JSON."""
        return asdict(self)


def package_preprocess(package: Package) -> Preprocess:
    """The preprocessing kept in a package. Raises PackageError where it is none."""
    if package.preprocess is None:
        return Preprocess()
    try:
        return Preprocess.from_json(json.dumps(package.preprocess))
    except ConfigError as error:
        raise PackageError(*error.faults) from error


def input_shapes(package: Package) -> dict[str, tuple[int, ...]]:
    """Shapes of a package's inputs by name, for one image."""
    if package.batch == 1:
        return {tensor.name: tensor.shape for tensor in package.inputs}
    return {tensor.name: (1, *tensor.shape[1:]) for tensor in package.inputs}


def package_feeds(package: Package, feeds: Mapping[str, NDArray[np.float32]]) -> dict[str, Array]:
    """Prepared inputs in the types that the package takes. Raises DataError."""
    types = {tensor.name: np.dtype(tensor.dtype) for tensor in package.inputs}
    faults = FaultList()
    fitted = {name: fit_input(array, types[name], name, faults) for name, array in feeds.items()}
    faults.raise_if_any(DataError)
    return fitted


def evaluate(
    package: Package | str | Path,
    data: str | Path | Pixels | Dataset,
    *,
    label_offset: int | None = None,
    layout: str | None = None,
    progress: Progress | None = None,
) -> Evaluation:
    """Run a labelled set through the float, the quantised and the simulated network of a package.

    Args:
        package: or its file.
        data: a folder with labels.csv, an NPZ with labels, or a set that is open already.
        label_offset: added to the set's labels; default: as compiled.
        layout: "nhwc" or "nchw", needed where an array could be either.
        progress: called after each image with the number done and the number of all.

    Raises:
        PackageError: the file is none, or was stripped of the models.
        DataError: no labels, labels that are no classes, images that cannot be read, or a network that is
            no classifier.
        SimError: the simulated machine found a fault.
    """
    if not isinstance(package, Package):
        package = Package.load(package)
    float_bytes, quantised_bytes = package.require_models("evaluate")
    output, classes = _scores(package)
    offset = package.report.get(LABEL_OFFSET, 0) if label_offset is None else label_offset
    dataset = open_dataset(
        data,
        input_shapes=input_shapes(package),
        preprocess=package_preprocess(package),
        labels_required=True,
        layout=layout,
        label_offset=offset,
        classes=classes,
    )
    session = Session(package)
    levels = {"quantised": _onnx_level(quantised_bytes, output, exact=True)}
    if float_bytes is not None:
        levels["float"] = _onnx_level(float_bytes, output, exact=False)
    scores: dict[str, list[Array]] = {level: [] for level in (*levels, "simulated")}
    labels: list[int] = []
    waiting: list[dict[str, Array]] = []
    for feeds, label in dataset:
        assert label is not None  # labels_required
        labels.append(label)
        for level, run in levels.items():
            scores[level].append(run(feeds).reshape(-1))
        waiting.append(package_feeds(package, feeds))
        if len(waiting) == package.batch or len(labels) == len(dataset):
            scores["simulated"] += [found[output].reshape(-1) for found in session.run_images(waiting)]
            waiting.clear()
        if progress is not None:
            progress(len(labels), len(dataset))
    wanted = np.array(labels, np.int64)
    tables = {level: np.stack(rows) for level, rows in scores.items()}
    accuracies = {level: _accuracy(table, wanted) for level, table in tables.items()}
    return Evaluation(
        images=len(labels),
        float=accuracies.get("float"),
        quantised=accuracies["quantised"],
        simulated=accuracies["simulated"],
        flips=_flips(tables["simulated"], tables.get("float", tables["quantised"]), wanted),
    )


def _scores(package: Package) -> tuple[str, int]:
    """Name of the output that holds the scores, and the number of classes. Raises DataError."""
    found = [(tensor.name, count_classes(tensor.shape)) for tensor in package.outputs]
    if len(found) == 1 and found[0][1] is not None:
        return found[0][0], found[0][1]
    shapes = ", ".join(f"{t.name} {'x'.join(map(str, t.shape))}" for t in package.outputs)
    raise DataError(
        Fault(
            f"expected a classifier with one output of scores, found {shapes}",
            f"package {package.name}",
            "use `tilewright run` and compare its outputs",
        )
    )


def onnx_session(model: bytes, exact: bool) -> onnxruntime.InferenceSession:
    """ONNX Runtime on a model; `exact` without its optimisations, which change results of quantised models."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.log_severity_level = 3
    if exact:
        options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    return onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])


def _onnx_level(
    model: bytes, output: str, *, exact: bool
) -> Callable[[Mapping[str, NDArray[np.float32]]], Array]:
    graph = onnx.ModelProto.FromString(model).graph
    session = onnx_session(model, exact)

    def run(feeds: Mapping[str, NDArray[np.float32]]) -> Array:
        return np.asarray(session.run([output], fit_inputs(feeds, graph))[0])

    return run


def _accuracy(scores: Array, labels: NDArray[np.int64]) -> Accuracy:
    top1 = topk(scores, labels, 1)
    assert top1 is not None  # there are at least two classes
    return Accuracy(top1, topk(scores, labels, 5))


def _flips(simulated: Array, reference: Array, labels: NDArray[np.int64]) -> Flips:
    now, before = ranks(simulated, labels) == 0, ranks(reference, labels) == 0
    return Flips(won=int((now & ~before).sum()), lost=int((before & ~now).sum()))
