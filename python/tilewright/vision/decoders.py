"""From a network's outputs to classes or boxes: a table of general decoders.

A decoder is any function of the outputs by name and of the geometry; those here also check that they fit a network.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from tilewright.errors import ConfigError, DataError, Fault, FaultList
from tilewright.frontend.pixels import times
from tilewright.targets.package import Package
from tilewright.vision.boxes import Floats, decode_boxes, nms, prior_boxes
from tilewright.vision.detections import Classes, Detections
from tilewright.vision.geometry import Geometry

Outputs = Mapping[str, NDArray[Any]]
Decoder = Callable[[Outputs, Geometry], Any]
Shape = Sequence[int]


@runtime_checkable
class Fitted(Protocol):
    """A decoder that knows for which networks it is."""

    def fit(self, outputs: Mapping[str, Shape], input_shape: Shape, labels: tuple[str, ...]) -> Decoder:
        """The decoder for a network of these outputs and class names. Raises ConfigError where it is not for it."""


def decoder_for(decoder: str | Decoder, package: Package) -> Decoder:
    """The decoder of that name, or the one given, made for a package.

    Raises ConfigError for an unknown name, and where the package's outputs are not what the decoder takes.
    """
    if isinstance(decoder, str):
        if decoder not in DECODERS:
            raise ConfigError(
                Fault(f"unknown decoder {decoder!r}, known are {', '.join(DECODERS)}", "decoder")
            )
        decoder = DECODERS[decoder]()
    if not isinstance(decoder, Fitted):
        return decoder
    outputs = {tensor.name: tensor.shape for tensor in package.outputs}
    (tensor,) = package.inputs
    return decoder.fit(outputs, tensor.shape, tuple(package.labels or ()))


@dataclass(frozen=True)
class TopClasses:
    """The `count` likeliest classes of the network's only output, (1, classes) or (1, classes, 1, 1)."""

    count: int = 5
    labels: tuple[str, ...] = ()

    def fit(self, outputs: Mapping[str, Shape], input_shape: Shape, labels: tuple[str, ...]) -> Decoder:
        """See :class:`Fitted`."""
        faults = FaultList()
        if isinstance(self.count, bool) or not isinstance(self.count, int) or self.count < 1:
            faults.add(f"expected at least 1 class, found {self.count!r}", where="count")
        if len(outputs) != 1:
            faults.add(f"expected one output, found {', '.join(outputs)}", where="decoder classes")
        for name, shape in outputs.items():
            if sum(side != 1 for side in shape) > 1:
                faults.add(f"expected scores of classes, found {times(shape)}", where=f"output {name}")
        faults.raise_if_any(ConfigError)
        return replace(self, labels=self.labels or labels)

    def __call__(self, outputs: Outputs, geometry: Geometry) -> Classes:
        """Decode."""
        (scores,) = outputs.values()
        values = scores.ravel().astype(np.float64)
        best = np.argsort(-values, kind="stable")[: self.count].astype(np.int64)
        names = tuple(self.labels[i] if i < len(self.labels) else "" for i in best)
        return Classes(best, values[best], names)


ULTRAFACE_PRIORS = ((8, (10, 16, 24)), (16, (32, 48)), (32, (64, 96)), (64, (128, 192, 256)))
"""Stride, and sides of the priors, of each map, in pixels: as UltraFace (Linzaer) publishes them."""


@dataclass(frozen=True)
class SsdBoxes:
    """Boxes of an SSD-like network that ends in regressions and class scores, and non-maximum suppression by class.

    Attributes:
        priors: see `prior_boxes`.
        variances: of centres and sizes.
        score: a box needs more.
        overlap: of intersection over union, above which the lower of two boxes of a class goes.
        most: boxes kept of a class.
        labels: names of classes; class 0 is the background.
        boxes, scores: names of the outputs (1, P, 4) and (1, P, classes); by shape where they are not said.
    """

    priors: tuple[tuple[int, tuple[float, ...]], ...] = ULTRAFACE_PRIORS
    variances: tuple[float, float] = (0.1, 0.2)
    score: float = 0.7
    overlap: float = 0.3
    most: int = 200
    labels: tuple[str, ...] = ("background", "face")
    boxes: str = ""
    scores: str = ""
    table: Floats = field(default_factory=lambda: np.zeros((0, 4)), repr=False, compare=False)

    def fit(self, outputs: Mapping[str, Shape], input_shape: Shape, labels: tuple[str, ...]) -> Decoder:
        """See :class:`Fitted`."""
        table = prior_boxes(input_shape[2], input_shape[3], self.priors)
        faults = FaultList()
        _check_parts({"score": self.score, "overlap": self.overlap}, faults)
        if self.most < 1:
            faults.add(f"expected at least 1 box, found {self.most}", where="most")
        names: list[str] = []
        for kind, name in (("boxes", self.boxes), ("scores", self.scores)):
            near = [n for n, s in outputs.items() if len(s) == 3 and (s[2] == 4) == (kind == "boxes")]
            found = name or (near[0] if len(near) == 1 else "")
            names.append(found)
            wanted = (1, len(table), 4) if kind == "boxes" else (1, len(table))
            if found not in outputs or tuple(outputs[found])[: len(wanted)] != wanted:
                shape = times(wanted) + ("" if kind == "boxes" else "xclasses")
                listed = ", ".join(f"{n} of {times(s)}" for n, s in outputs.items())
                faults.add(
                    f"expected an output of {shape} for the {kind}, found {listed}",
                    where="decoder ssd",
                    remedy="name it, and give the priors that the network was trained with",
                )
        faults.raise_if_any(ConfigError)
        return replace(self, boxes=names[0], scores=names[1], labels=self.labels or labels, table=table)

    def __call__(self, outputs: Outputs, geometry: Geometry) -> Detections:
        """Decode."""
        scores = outputs[self.scores][0].astype(np.float64)
        found: list[tuple[Floats, Floats, NDArray[np.int64]]] = []
        for kind in range(1, scores.shape[1]):
            (likely,) = np.nonzero(scores[:, kind] > self.score)
            regression = outputs[self.boxes][0, likely].astype(np.float64)
            boxes = geometry.from_parts(decode_boxes(regression, self.table[likely], self.variances))
            kept = nms(boxes, scores[likely, kind], self.overlap, limit=self.most)
            found.append((boxes[kept], scores[likely[kept], kind], np.full(len(kept), kind)))
        parts = [np.concatenate(part) for part in zip(*found, strict=True)]
        return Detections.of(parts[0], parts[1], parts[2].astype(np.int64), labels=self.labels)


@dataclass(frozen=True)
class DetectionRows:
    """The rows of Caffe's DetectionOutput, (1, 1, N, 7): image, class, score, corners as parts of the input.

    A class below 0 says that there is none. `score`: a box needs more.
    """

    score: float = 0.5
    labels: tuple[str, ...] = ()

    def fit(self, outputs: Mapping[str, Shape], input_shape: Shape, labels: tuple[str, ...]) -> Decoder:
        """See :class:`Fitted`."""
        faults = FaultList()
        _check_parts({"score": self.score}, faults)
        shapes = [tuple(shape) for shape in outputs.values()]
        if len(shapes) != 1 or len(shapes[0]) != 4 or shapes[0][3] != 7:
            listed = ", ".join(f"{n} of {times(s)}" for n, s in outputs.items())
            faults.add(f"expected one output of 1x1xNx7, found {listed}", where="decoder detection_output")
        faults.raise_if_any(ConfigError)
        return replace(self, labels=self.labels or labels)

    def __call__(self, outputs: Outputs, geometry: Geometry) -> Detections:
        """Decode."""
        (output,) = outputs.values()
        rows = output.reshape(-1, 7).astype(np.float64)
        rows = rows[(rows[:, 1] >= 0) & (rows[:, 2] > self.score)]
        boxes = geometry.from_parts(rows[:, 3:])
        if not np.isfinite(boxes).all():
            raise DataError("expected finite boxes, found NaN or Inf")
        return Detections.of(boxes, rows[:, 2], rows[:, 1].astype(np.int64), labels=self.labels)


def _check_parts(values: Mapping[str, float], faults: FaultList) -> None:
    for name, value in values.items():
        if not 0 <= value <= 1:
            faults.add(f"expected 0 to 1, found {value:g}", where=name)


DECODERS: Mapping[str, Callable[[], Decoder]] = {
    "classes": TopClasses,
    "ssd": SsdBoxes,
    "detection_output": DetectionRows,
}
"""Name -> decoder with its defaults."""
