"""Faces by a cascade of three networks over an image pyramid.

Zhang, Zhang, Li and Qiao, "Joint face detection and alignment using multitask cascaded convolutional networks", IEEE
Signal Processing Letters 23(10), 2016. PNet, fully convolutional with a window of 12 pixels every 2, proposes boxes at
each level of a pyramid; RNet (24 x 24) and ONet (48 x 48) judge crops of the original image and move the boxes; ONet
also gives five landmarks. Each network gives two scores, face the second, and four offsets in parts of the box.

The published networks were trained from Matlab, where images lie by columns: they take (1, C, W, H), and their first
offset and coordinate is along the image's x. An accelerator's network has a fixed input, so that images are fitted to a
frame, and each level of its pyramid is a package of its own.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from tilewright.errors import ConfigError, DataError, Fault, FaultList, PackageError
from tilewright.frontend.pixels import brief
from tilewright.frontend.preprocess import Float32, Preprocess
from tilewright.runtime.package import Package
from tilewright.runtime.session import Backend, Session
from tilewright.vision.boxes import Boxes, Floats, nms, squares
from tilewright.vision.detections import Detections
from tilewright.vision.geometry import Geometry
from tilewright.vision.network import drawn, image_of
from tilewright.vision.stages import Frame, Stage

WINDOW, STRIDE = 12, 2  # of PNet, in pixels of its level
REFINE, OUTPUT = 24, 48  # sides of RNet's and ONet's inputs
LANDMARKS = 5  # eyes, nose, corners of the mouth
MOST_SIDE = 4096  # of a frame, in pixels
SETTINGS_FILE = "cascade.json"

Outputs = Mapping[str, NDArray[Any]]
Runner = Callable[[Sequence[Float32]], Sequence[Outputs]]
"""Runs a network on inputs (1, C, W, H)."""


@dataclass(frozen=True)
class Settings:
    """How to search.

    Attributes:
        frame: (height, width) that images are fitted to, their proportions kept.
        smallest: side of the smallest face, in pixels of the frame, 12 or more.
        factor: from a level of the pyramid to the next, between 0 and 1.
        scores: that a face needs in PNet, RNet, ONet.
        most: boxes that PNet and RNet may hand on, the best ones.
        preprocess: mean and std of all three networks.
        transposed: whether they take columns as rows; see the head of this module.
    """

    frame: tuple[int, int] = (480, 640)
    smallest: float = 40.0
    factor: float = 0.709
    scores: tuple[float, float, float] = (0.6, 0.7, 0.7)
    most: int = 200
    preprocess: Preprocess = field(default_factory=lambda: Preprocess(mean=127.5, std=128))
    transposed: bool = True

    def __post_init__(self) -> None:
        """Raise ConfigError with all that is wrong."""
        faults = FaultList()
        if len(self.frame) != 2 or not all(
            isinstance(side, int) and WINDOW <= side <= MOST_SIDE for side in self.frame
        ):
            faults.add(
                f"expected height and width of {WINDOW} to {MOST_SIDE}, found {self.frame}", where="frame"
            )
        elif not WINDOW <= self.smallest <= min(self.frame):
            faults.add(
                f"expected {WINDOW} to {min(self.frame)} pixels, found {self.smallest:g}", where="smallest"
            )
        if not 0.1 <= self.factor <= 0.95:
            faults.add(f"expected 0.1 to 0.95, found {self.factor:g}", where="factor")
        if len(self.scores) != 3 or not all(0 <= score <= 1 for score in self.scores):
            faults.add(f"expected three values of 0 to 1, found {self.scores}", where="scores")
        if not isinstance(self.most, int) or self.most < 1:
            faults.add(f"expected at least 1 box, found {self.most}", where="most")
        faults.raise_if_any(ConfigError)

    def to_json(self) -> str:
        """One JSON object, which :meth:`from_json` reads back to an equal value."""
        values = {f.name: getattr(self, f.name) for f in fields(self)}
        return json.dumps(values | {"preprocess": json.loads(self.preprocess.to_json())})

    @staticmethod
    def from_json(text: str) -> Settings:
        """Read what :meth:`to_json` wrote. Raises ConfigError where it is not such an object."""
        try:
            values = json.loads(text)
            names = [f.name for f in fields(Settings)]
            if not isinstance(values, dict) or sorted(values) != sorted(names):
                raise ValueError(f"expected an object of {', '.join(names)}")
            values["preprocess"] = Preprocess.from_json(json.dumps(values["preprocess"]))
            values |= {name: tuple(values[name]) for name in ("frame", "scores")}
            return Settings(**values)
        except (ValueError, TypeError, RecursionError) as error:
            raise ConfigError(
                Fault(f"is no settings of a cascade ({brief(error)})", SETTINGS_FILE)
            ) from error

    @property
    def levels(self) -> tuple[tuple[int, int], ...]:
        """Height and width of the pyramid's levels: a face of `smallest` fills the window in the first, and so on."""
        found = []
        scale = WINDOW / self.smallest
        while math.ceil(min(self.frame) * scale) >= WINDOW:
            found.append((math.ceil(self.frame[0] * scale), math.ceil(self.frame[1] * scale)))
            scale *= self.factor
        return tuple(found)

    def input_shape(self, height: int, width: int) -> tuple[int, int, int, int]:
        """Of a network that sees `height` x `width` pixels."""
        return (1, 3, width, height) if self.transposed else (1, 3, height, width)


@dataclass(frozen=True)
class Cascade:
    """The three networks, however they are run; each step is a function of its own.

    Attributes:
        pnet: of each level of the pyramid.
        rnet, onet: of crops.
        settings: as the networks were made for.
    """

    pnet: tuple[Runner, ...]
    rnet: Runner
    onet: Runner
    settings: Settings

    def __post_init__(self) -> None:
        """Raise ConfigError where there is not one PNet for each level."""
        if len(self.pnet) != len(self.settings.levels):
            raise ConfigError(
                f"expected a PNet for each of {len(self.settings.levels)} levels, found {len(self.pnet)}"
            )

    def detect(self, image: Image.Image) -> Detections:
        """All steps one after another."""
        picture = image.convert("RGB")
        proposed = self.propose(picture, self.run_pnet(self.pyramid(picture)))
        refined = self.refine(proposed, self.rnet(self.crops(picture, proposed, REFINE)))
        return self.decide(refined, self.onet(self.crops(picture, refined, OUTPUT)))

    def fitting(self, image: Image.Image) -> Geometry:
        """How an image lies in the frame."""
        height, width = self.settings.frame
        return Geometry.fitting(image.size, (width, height))

    def pyramid(self, image: Image.Image) -> list[Float32]:
        """An input of each level; what the image does not fill is black."""
        geometry = self.fitting(image)
        height, width = self.settings.frame
        found = []
        for rows, columns in self.settings.levels:
            inner = (
                max(round(geometry.scale[0] * image.width * columns / width), 1),
                max(round(geometry.scale[1] * image.height * rows / height), 1),
            )
            level = Image.new("RGB", (columns, rows))
            level.paste(image.resize(inner, Image.Resampling.BILINEAR))
            found.append(self._input(level))
        return found

    def run_pnet(self, levels: Sequence[Float32]) -> list[Outputs]:
        """PNet on every level."""
        return [run([level])[0] for run, level in zip(self.pnet, levels, strict=True)]

    def propose(self, image: Image.Image, outputs: Sequence[Outputs]) -> Boxes:
        """PNet's boxes, square, in the image."""
        geometry = self.fitting(image)
        height, width = self.settings.frame
        found = []
        for (rows, columns), maps in zip(self.settings.levels, outputs, strict=True):
            scores, offsets = (self._map(_of_channels(maps, n)) for n in (2, 4))
            y, x = np.nonzero(scores[1] > self.settings.scores[0])
            corners = STRIDE * np.stack([x, y, x, y], axis=1) + np.array([0, 0, WINDOW, WINDOW])
            boxes = corners * np.array([width / columns, height / rows] * 2)
            values = scores[1, y, x]
            kept = nms(boxes, values, 0.5)
            found.append((boxes[kept], values[kept], offsets[:, y[kept], x[kept]].T))
        boxes, values, moves = (np.concatenate(part) for part in zip(*found, strict=True))
        kept = nms(boxes, values, 0.7, limit=self.settings.most)
        return geometry.to_image(squares(_moved(boxes[kept], moves[kept])))

    def crops(self, image: Image.Image, boxes: Boxes, side: int) -> list[Float32]:
        """An input of each box, to the nearest pixel; black outside of the image."""
        corners = np.round(boxes).astype(int)
        corners[:, 2:] = np.maximum(corners[:, 2:], corners[:, :2] + 1)
        return [
            self._input(image.crop(tuple(box)).resize((side, side), Image.Resampling.BILINEAR))
            for box in corners.tolist()
        ]

    def refine(self, boxes: Boxes, outputs: Sequence[Outputs]) -> Boxes:
        """The boxes that RNet takes for faces, moved, square."""
        scores, moves = _columns(outputs, 2)[:, 1], _columns(outputs, 4)
        likely = np.flatnonzero(scores > self.settings.scores[1])
        kept = likely[nms(boxes[likely], scores[likely], 0.7, limit=self.settings.most)]
        return squares(_moved(boxes[kept], moves[kept]))

    def decide(self, boxes: Boxes, outputs: Sequence[Outputs]) -> Detections:
        """The faces: boxes that ONet takes for faces, moved, with their landmarks."""
        scores, moves = _columns(outputs, 2)[:, 1], _columns(outputs, 4)
        points = _columns(outputs, 2 * LANDMARKS)
        likely = np.flatnonzero(scores > self.settings.scores[2])
        corner, size = boxes[likely, None, :2], (boxes[likely, 2:] - boxes[likely, :2])[:, None]
        landmarks = corner + size * points[likely].reshape(-1, 2, LANDMARKS).transpose(0, 2, 1)
        moved = _moved(boxes[likely], moves[likely])
        kept = nms(moved, scores[likely], 0.7, measure="smaller")
        return Detections.of(moved[kept], scores[likely][kept], None, landmarks[kept], ("face",))

    def _input(self, image: Image.Image) -> Float32:
        pixels = np.asarray(image)
        planes = pixels.transpose((2, 1, 0) if self.settings.transposed else (2, 0, 1))
        return self.settings.preprocess.normalise(
            planes, self.settings.input_shape(image.height, image.width)
        )

    def _map(self, output: NDArray[Any]) -> Floats:
        """(1, K, W, H) -> (K, H, W)."""
        planes = output[0].astype(np.float64)
        return np.asarray(planes.transpose(0, 2, 1) if self.settings.transposed else planes)


def _of_channels(outputs: Outputs, count: int) -> NDArray[Any]:
    """The output of that many channels."""
    found = [array for array in outputs.values() if array.shape[1] == count]
    if len(found) != 1:
        shapes = ", ".join(f"{name} of {array.shape}" for name, array in outputs.items())
        raise DataError(f"expected one output of {count} channels, found {shapes}")
    return found[0]


def _columns(outputs: Sequence[Outputs], count: int) -> Floats:
    """The output of that many channels of each crop. Shapes: (N, count), also for no crops."""
    rows = [_of_channels(o, count).astype(np.float64).reshape(count) for o in outputs]
    return np.array(rows).reshape(-1, count)


def _moved(boxes: Boxes, offsets: Floats) -> Boxes:
    """Corners moved by parts of the box's sides."""
    sides = boxes[:, 2:] - boxes[:, :2]
    return np.asarray(boxes + offsets * np.concatenate([sides, sides], axis=1))


@dataclass(frozen=True)
class Packages:
    """The cascade compiled: a PNet for each level of the pyramid; RNet and ONet of any batch."""

    pnet: tuple[Package, ...]
    rnet: Package
    onet: Package
    settings: Settings

    def __iter__(self) -> Iterator[Package]:
        return iter((*self.pnet, self.rnet, self.onet))

    def cascade(self, backend: Backend = "sim") -> Cascade:
        """Ready to run. Raises ConfigError where the packages are not for the settings."""
        settings, faults = self.settings, FaultList()
        sizes = [*zip(self.pnet, settings.levels, strict=False)]
        sizes += [(self.rnet, (REFINE, REFINE)), (self.onet, (OUTPUT, OUTPUT))]
        for package, (height, width) in sizes:
            wanted = settings.input_shape(height, width)[1:]
            shapes = [tensor.shape[1:] for tensor in package.inputs]
            if shapes != [wanted]:
                faults.add(f"expected one input of {wanted}, found {shapes}", where=f"package {package.name}")
        faults.raise_if_any(ConfigError)
        pnet = tuple(package_runner(package, backend) for package in self.pnet)
        return Cascade(pnet, package_runner(self.rnet, backend), package_runner(self.onet, backend), settings)

    def save(self, folder: str | Path) -> None:
        """Write the packages and `cascade.json` into a folder, which is made where it is not there.

        Raises PackageError where it cannot be written.
        """
        path = Path(folder)
        try:
            path.mkdir(parents=True, exist_ok=True)
            for package, name in zip(self, _file_names(self.settings), strict=True):
                package.save(path / name)
            (path / SETTINGS_FILE).write_text(self.settings.to_json(), encoding="utf-8")
        except OSError as error:
            raise PackageError(Fault(f"cannot be written ({brief(error)})", f"{path}")) from error

    @staticmethod
    def load(folder: str | Path) -> Packages:
        """Read what :meth:`save` wrote. Raises ConfigError for the settings, PackageError for the packages."""
        path = Path(folder) / SETTINGS_FILE
        try:
            text = path.read_text(encoding="utf-8")
        except (OSError, UnicodeDecodeError) as error:
            raise ConfigError(Fault(f"cannot be read ({brief(error)})", f"{path}")) from error
        settings = Settings.from_json(text)
        *pnet, rnet, onet = (Package.load(path.parent / name) for name in _file_names(settings))
        return Packages(tuple(pnet), rnet, onet, settings)

    def stages(self, backend: Backend = "sim", *, draw: bool = True) -> list[Stage]:
        """For :class:`tilewright.Pipeline`; values are Detections."""
        return cascade_stages(self.cascade(backend), draw=draw)


def _file_names(settings: Settings) -> list[str]:
    return [*(f"pnet_{height}x{width}.twp" for height, width in settings.levels), "rnet.twp", "onet.twp"]


def package_runner(package: Package, backend: Backend = "sim") -> Runner:
    """Runs a package of one input on any number of inputs, its batch at a time."""
    session = Session(package, backend)
    (tensor,) = package.inputs
    return lambda inputs: session.run_images([{tensor.name: array} for array in inputs])


def cascade_stages(cascade: Cascade, *, draw: bool = True) -> list[Stage]:
    """The cascade for a pipeline: three stages on the accelerator, and the host's between them."""

    def picture(frame: Frame) -> Image.Image:
        image = image_of(frame)
        return image if image.mode == "RGB" else image.convert("RGB")

    def crops(frame: Frame, boxes: Boxes, side: int) -> tuple[Boxes, list[Float32]]:
        return boxes, cascade.crops(picture(frame), boxes, side)

    stages = [
        Stage("pyramid", lambda frame: cascade.pyramid(picture(frame))),
        Stage("pnet", lambda frame: cascade.run_pnet(frame.value), "accelerator"),
        Stage("propose", lambda frame: cascade.propose(picture(frame), frame.value)),
        Stage("crop24", lambda frame: crops(frame, frame.value, REFINE)),
        Stage("rnet", lambda frame: (frame.value[0], cascade.rnet(frame.value[1])), "accelerator"),
        Stage("refine", lambda frame: cascade.refine(*frame.value)),
        Stage("crop48", lambda frame: crops(frame, frame.value, OUTPUT)),
        Stage("onet", lambda frame: (frame.value[0], cascade.onet(frame.value[1])), "accelerator"),
        Stage("decide", lambda frame: cascade.decide(*frame.value)),
    ]
    return [*stages, Stage("draw", drawn)] if draw else stages
