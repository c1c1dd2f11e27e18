"""A package that can run itself."""

from __future__ import annotations

import dataclasses
from collections.abc import Mapping
from functools import cached_property
from pathlib import Path

from tilewright.runtime.session import Array, Backend, Session
from tilewright.targets import package as file_format


class Package(file_format.Package):
    """A compiled network; see `tilewright.targets.package.Package` for what it holds."""

    @cached_property
    def _session(self) -> Session:
        return Session(self)

    def run(self, feeds: Mapping[str, Array], backend: Backend = "sim") -> dict[str, Array]:
        """Run once on one array for each input; gives the outputs by name.

        With `backend="sim"` what is loaded once serves all runs. Not for two threads at once.

        Raises:
            DataError: the arrays are not the network's inputs; all faults together.
            ConfigError: there is no such back end.
            SimError: the simulated machine found a fault.
            DeviceError: the device failed.
        """
        session = self._session if backend == "sim" else Session(self, backend)
        return session.run(feeds).outputs

    def strip(self) -> Package:
        """The same without the float and quantised models."""
        return _runnable(super().strip())

    @staticmethod
    def load(path: Path | str) -> Package:
        """Read and check a file. Raises PackageError for anything but a sound package."""
        return _runnable(file_format.Package.load(path))

    @staticmethod
    def from_bytes(data: bytes, source: str = "package") -> Package:
        """Read and check the bytes of a file; `source` names it in messages. Raises PackageError."""
        return _runnable(file_format.Package.from_bytes(data, source))


def _runnable(package: file_format.Package) -> Package:
    return Package(**{f.name: getattr(package, f.name) for f in dataclasses.fields(package)})
