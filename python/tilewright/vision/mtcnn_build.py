"""MTCNN from its Caffe files to packages: calibrated by what the float cascade shows to each network."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import onnxruntime

from tilewright.errors import DataError
from tilewright.frontend.model import Model, load
from tilewright.frontend.onnx_loader import load_onnx
from tilewright.frontend.preprocess import Float32
from tilewright.pipeline import compile as compile_model
from tilewright.pipeline import quantize
from tilewright.targets.config import Overlay
from tilewright.vision.mtcnn import OUTPUT, REFINE, Cascade, Outputs, Packages, Runner, Settings
from tilewright.vision.sources import Source, open_source


@dataclass(frozen=True)
class Networks:
    """The float networks; PNet has the input of the pyramid's first level."""

    pnet: Model
    rnet: Model
    onet: Model
    settings: Settings

    @staticmethod
    def load(folder: str | Path, settings: Settings | None = None) -> Networks:
        """From det1 to det3, .prototxt and .caffemodel, in a folder. Raises ModelError."""
        chosen = settings or Settings()
        sizes = (chosen.levels[0], (REFINE, REFINE), (OUTPUT, OUTPUT))
        models: list[Model] = []
        for number, size in enumerate(sizes, start=1):
            stem = Path(folder) / f"det{number}"
            shapes = {"data": chosen.input_shape(*size)}
            files = (stem.with_suffix(".prototxt"), stem.with_suffix(".caffemodel"))
            models.append(load(*files, preprocess=chosen.preprocess, input_shapes=shapes))
        return Networks(models[0], models[1], models[2], chosen)

    def cascade(self) -> Cascade:
        """The float cascade in ONNX Runtime."""
        levels = [resized(self.pnet, self.settings.input_shape(*size)) for size in self.settings.levels]
        pnet = tuple(float_runner(level) for level in levels)
        return Cascade(pnet, float_runner(self.rnet), float_runner(self.onet), self.settings)

    def compile(
        self,
        photographs: Source,
        target: str | Overlay = "ultra96-w8",
        *,
        batch: int = 8,
        bits: int = 8,
    ) -> Packages:
        """Quantise and compile.

        Args:
            photographs: a folder, or files or images, with faces, for calibration: the float cascade runs on them,
                and each network is calibrated by the inputs that it gets there.
            target: an overlay.
            batch: crops that RNet and ONet take at a time.
            bits: of weights and activations.

        Raises DataError for what is no image, and where the float cascade finds nothing to judge in the photographs.
        """
        samples = self.samples(photographs)
        pnet, rnet, onet = (
            quantize(model, [{"data": x} for x in inputs], bits, target=target)
            for model, inputs in zip((self.pnet, self.rnet, self.onet), samples, strict=True)
        )
        shapes = [self.settings.input_shape(*size) for size in self.settings.levels]
        return Packages(
            tuple(compile_model(resized(pnet, shape), target) for shape in shapes),
            compile_model(replace(rnet, batch=batch), target),
            compile_model(replace(onet, batch=batch), target),
            self.settings,
        )

    def samples(self, photographs: Source) -> tuple[list[Float32], ...]:
        """What PNet, RNet and ONet get of photographs; smaller levels of the pyramid are padded to the first."""
        float_cascade, seen = self.cascade(), ([], [], [])  # type: tuple[Cascade, tuple[list[Float32], ...]]
        shape = self.settings.input_shape(*self.settings.levels[0])
        for _, read in open_source(photographs):
            image = read().convert("RGB")
            levels = float_cascade.pyramid(image)
            for level in levels:
                margin = [(0, whole - part) for whole, part in zip(shape, level.shape, strict=True)]
                seen[0].append(np.pad(level, margin))
            boxes = float_cascade.propose(image, float_cascade.run_pnet(levels))
            seen[1].extend(float_cascade.crops(image, boxes, REFINE))
            boxes = float_cascade.refine(boxes, float_cascade.rnet(float_cascade.crops(image, boxes, REFINE)))
            seen[2].extend(float_cascade.crops(image, boxes, OUTPUT))
        if not all(seen):
            raise DataError(
                "expected photographs with faces for calibration, found none by the float networks"
            )
        return seen


def resized(model: Model, shape: Sequence[int]) -> Model:
    """A fully convolutional network, float or quantised, for another size of its only input. Raises ModelError."""
    shapes = {name: tuple(shape) for name in model.input_shapes}
    float_proto = None if model.float_proto is None else load_onnx(model.float_proto, shapes)
    return replace(model, proto=load_onnx(model.proto, shapes), float_proto=float_proto)


def float_runner(model: Model) -> Runner:
    """Runs a float network of one input in ONNX Runtime."""
    session = onnxruntime.InferenceSession(
        model.proto.SerializeToString(), providers=["CPUExecutionProvider"]
    )
    (name,) = model.input_shapes
    outputs = list(model.output_shapes)

    def run(inputs: Sequence[Float32]) -> list[Outputs]:
        return [dict(zip(outputs, session.run(outputs, {name: x}), strict=True)) for x in inputs]

    return run
