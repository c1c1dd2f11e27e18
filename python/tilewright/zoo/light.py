"""The nine well-known networks that the ``onnx`` package ships without weights, with seeded ones."""

from __future__ import annotations

from pathlib import Path

import onnx
from onnx import ModelProto

from tilewright.errors import ConfigError, Fault
from tilewright.frontend.onnx_file import read_model
from tilewright.frontend.seeded import seed_weights

LIGHT_MODELS = (
    "bvlc_alexnet",
    "densenet121",
    "inception_v1",
    "inception_v2",
    "resnet50",
    "shufflenet",
    "squeezenet",
    "vgg19",
    "zfnet512",
)


def light(name: str, seed: int = 0) -> ModelProto:
    """One of the architectures of the ``onnx`` package, with seeded weights, as `load_onnx` gives it.

    Args:
        name: one of :data:`LIGHT_MODELS`.
        seed: the same seed gives the same weights.

    Raises:
        ConfigError: there is no such architecture.
    """
    if name not in LIGHT_MODELS:
        remedy = f"choose one of {', '.join(LIGHT_MODELS)}"
        raise ConfigError(Fault(f"there is no light model {name!r}", "zoo", remedy))
    folder = Path(onnx.__file__).parent / "backend" / "test" / "data" / "light"
    return seed_weights(read_model(folder / f"light_{name}.onnx"), seed)
