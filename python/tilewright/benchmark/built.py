"""Networks of `tilewright.zoo` as files, which is how benchmarks and the command line read networks."""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Mapping
from functools import cache
from pathlib import Path

import onnx

from tilewright.zoo import diracdeltanet, shufflenet_v2

BUILT: Mapping[str, Callable[[], onnx.ModelProto]] = {
    "diracdeltanet_w4": lambda: diracdeltanet(bits=4),
    "diracdeltanet_w4_no_shift": lambda: diracdeltanet(bits=4, shift=False),
    "shufflenet_v2": shufflenet_v2,
}
"""By name, with seeded weights."""


@cache
def built(name: str) -> Path:
    """The file of a network of BUILT, which is there until the process ends."""
    path = Path(_folder().name) / f"{name}.onnx"
    onnx.save(BUILT[name](), path)
    return path


@cache
def _folder() -> tempfile.TemporaryDirectory[str]:
    return tempfile.TemporaryDirectory(prefix="tilewright-zoo-")
