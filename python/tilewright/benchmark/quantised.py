"""Quantised networks for studies of speed, kept in a folder between runs.

Ranges come from seeded noise, for no figure of speed depends on them. A file's name holds a digest of everything that
it is made from, so that a changed network, setting or version is quantised anew.
"""

from __future__ import annotations

import os
import zlib
from importlib import metadata
from pathlib import Path

import onnx

from tilewright.benchmark.networks import LIGHT, NOISE, Network
from tilewright.errors import ConfigError, Fault
from tilewright.frontend.dataset import open_dataset
from tilewright.frontend.model import Model
from tilewright.pipeline import quantize
from tilewright.quantize.options import QuantizeOptions
from tilewright.zoo import LIGHT_MODELS

FAST = QuantizeOptions(method="minmax", bias_correction=False, equalise=False)
SAMPLES = 1


def quantise(model: Model) -> Model:
    """A float network quantised on noise; a quantised one as it is."""
    if model.is_quantised:
        return model
    noise = open_dataset(NOISE, input_shapes=model.input_shapes, preprocess=model.preprocess, count=SAMPLES)
    return quantize(model, noise, options=FAST)


class Quantised:
    """Quantised networks by row of the table.

    Args:
        data: the shared folder; not needed for rows without files there.
        folder: where they are kept; None keeps nothing.
    """

    def __init__(self, data: Path | None, folder: Path | None) -> None:
        self._data = data
        self._folder = folder

    def model(self, row: Network) -> Model:
        """Read it from the folder, or quantise it. Raises TilewrightError where it cannot be read or quantised."""
        if self._folder is None or row.quantised:
            return quantise(row.open(self._data).model)
        path = self.path(row)
        return Model(onnx.load(path), row.name, random_weights=True, random_calibration=True)

    def path(self, row: Network) -> Path:
        """The file of the quantised network, which is made where it is missing."""
        if row.quantised:
            return row.case(self._data).path(row.files[0])
        if self._folder is None:
            raise ConfigError(Fault("expected a folder for quantised networks, found none", "--cache"))
        path = self._folder / f"{row.name}.{self._digest(row):08x}.onnx"
        if not path.exists():
            self._folder.mkdir(parents=True, exist_ok=True)
            part = path.with_suffix(f".{os.getpid()}")
            onnx.save(quantise(row.open(self._data).model).proto, part)
            part.replace(path)
        return path

    def _digest(self, row: Network) -> int:
        """A checksum of the network's files and of how it is quantised."""
        first = row.files[0]
        case = row.case(self._data)
        files = [LIGHT / f"light_{first}.onnx"] if first in LIGHT_MODELS else map(case.path, row.files)
        digest = zlib.crc32(repr((row.shapes, FAST, SAMPLES, metadata.version("tilewright"))).encode())
        for file in files:
            digest = zlib.crc32(file.read_bytes() if file.is_file() else b"", digest)
        return digest
