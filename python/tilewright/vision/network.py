"""The stages of a pipeline of one network."""

from __future__ import annotations

import json

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from tilewright.errors import ConfigError, DataError, Fault, FaultList
from tilewright.frontend.pixels import times
from tilewright.frontend.preprocess import Float32, Preprocess
from tilewright.runtime.session import Backend, Session
from tilewright.targets.package import Package
from tilewright.vision.decoders import Decoder, decoder_for
from tilewright.vision.draw import draw as draw_found
from tilewright.vision.geometry import Geometry
from tilewright.vision.stages import Frame, Stage


def network_stages(
    package: Package, decoder: str | Decoder = "classes", *, draw: bool = True, backend: Backend = "sim"
) -> list[Stage]:
    """resize, layout and normalise as `Preprocess.apply` does, infer, decode, draw.

    The package's own host operators, such as quantising its input, run within infer.

    Raises:
        ConfigError: the package takes several inputs, or no image, or a batch; or the decoder is not for it.
    """
    faults = FaultList()
    if len(package.inputs) != 1:
        names = ", ".join(tensor.name for tensor in package.inputs)
        faults.add(f"expected one input, found {names}", where="package")
    elif len(package.inputs[0].shape) != 4:
        faults.add(
            f"expected an image as input, found {times(package.inputs[0].shape)}",
            where=f"input {package.inputs[0].name}",
        )
    if package.batch != 1:
        faults.add(
            f"expected a batch of 1, found {package.batch}",
            where="package",
            remedy="compile it for a batch of 1",
        )
    faults.raise_if_any(ConfigError)
    (tensor,) = package.inputs
    name, shape = tensor.name, tensor.shape
    preprocess = preprocess_of(package)
    preprocess.check(shape)
    decode = decoder_for(decoder, package)
    session = Session(package, backend)

    def geometry(frame: Frame) -> Geometry:
        return Geometry.of(preprocess, image_of(frame).size, shape)

    def fitted(values: Float32) -> NDArray[np.generic]:
        if tensor.dtype == "float32":
            return values
        from tilewright.frontend.model import fit_input  # starts ONNX, which a board may not have

        faults = FaultList()
        array = fit_input(values, np.dtype(tensor.dtype), name, faults)
        faults.raise_if_any(DataError)
        return array

    stages = [
        Stage("resize", lambda frame: preprocess.scale(image_of(frame), shape)),
        Stage("layout", lambda frame: preprocess.layout(frame.value)),
        Stage("normalise", lambda frame: fitted(preprocess.normalise(frame.value, shape))),
        Stage("infer", lambda frame: session.run({name: frame.value}).outputs, "accelerator"),
        Stage("decode", lambda frame: decode(frame.value, geometry(frame))),
    ]
    return [*stages, Stage("draw", drawn)] if draw else stages


def preprocess_of(package: Package) -> Preprocess:
    """The preprocessing that a package keeps."""
    return (
        Preprocess() if package.preprocess is None else Preprocess.from_json(json.dumps(package.preprocess))
    )


def image_of(frame: Frame) -> Image.Image:
    """The frame's image; stages run on frames that have one."""
    if frame.image is None:
        raise DataError(Fault("has no image", frame.name))
    return frame.image


def drawn(frame: Frame) -> object:
    """Draw the value into the frame's picture, and hand it on."""
    frame.picture = draw_found(image_of(frame), frame.value)
    return frame.value
