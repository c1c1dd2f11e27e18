"""Quantised networks and packages, made once a session and shared by its processes through files."""

from __future__ import annotations

import os
from collections.abc import Callable
from functools import cache
from pathlib import Path

import onnx

import tilewright as tw
from tilewright.benchmark.accuracy import JUDGED
from tilewright.benchmark.networks import NETWORKS, QUICK, Case
from tilewright.quantize.options import QuantizeOptions

FEW = 2
"""Calibration images of nets whose accuracy nothing is claimed about."""


def _write(path: Path, write: Callable[[Path], object]) -> None:
    """Another process may write the same file at the same time; the last one wins, and both are the same."""
    part = path.with_suffix(f".{os.getpid()}")
    write(part)
    part.replace(path)


class Store:
    """Networks by name, in `folder`; `data` is the shared folder or None."""

    def __init__(self, folder: Path, data: Path | None) -> None:
        self._folder = folder
        self._data = data
        self.case = cache(self._case)
        self.quantised = cache(self._quantised)
        self.package = cache(self._package)

    def has(self, name: str) -> bool:
        """Whether the network's files are there."""
        return self._data is not None or not NETWORKS[name].needs_data

    def _case(self, name: str) -> Case:
        return NETWORKS[name].open(self._data)

    def _quantised(self, name: str) -> tw.Model:
        model = self.case(name).model
        if model.is_quantised:
            return model
        path = self._folder / f"{name}.onnx"
        if not path.exists():
            count, options = settings(name)
            made = self.case(name).quantised(count, options)
            _write(path, lambda part: onnx.save(made.proto, part))
        return model.quantised(onnx.load(path), random_calibration=False)

    def _package(self, name: str, target: str) -> tw.Package:
        path = self._folder / f"{name}.{target}.twp"
        if not path.exists():
            made = tw.compile(self.quantised(name), target)
            _write(path, made.save)
        return tw.Package.load(path)


def settings(name: str) -> tuple[int | None, QuantizeOptions | None]:
    """Calibration images (all if None) and settings of the quantiser."""
    row = NETWORKS[name]
    trained = name in JUDGED or row.kind == "classifier"
    return (None, None) if trained else (FEW, QUICK)
