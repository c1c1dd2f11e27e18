"""Run a package: host operators in C++, regions on the fast or the reference simulator."""

from __future__ import annotations

import difflib
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from types import TracebackType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tilewright.errors import ConfigError, DataError, Fault, FaultList, SimError
from tilewright.runtime.native import NativeProgram
from tilewright.targets.package import Package
from tilewright.targets.program import encode_program, encode_region
from tilewright.targets.region import MapLayout
from tilewright.targets.sim import reference
from tilewright.targets.sim.program import DramImage, Program

Backend = str
"""`sim`, `reference`, or the text of a device, `zynq:registers=PATH,memory=PATH` (`board/native/.../device.h`)."""
BACKENDS = ("sim", "reference", "zynq:registers=PATH,memory=PATH")
Array = NDArray[Any]


@dataclass(frozen=True)
class RunResult:
    """What a run gave.

    Attributes:
        outputs: the network's outputs by name.
        counts: of the accelerator, summed over the regions: `regions`, `instructions`, and with back end sim
            `matrix_steps`, `vector_reads`, `dram_read_bytes`, `dram_write_bytes`, `fetch_bytes`; with a device or a
            device model `cycles` too.
        seconds: on the host: `run`, all of the runtime's; of it `pack`, tensors into the regions' segments and back;
            `device`, from a launch until its results are there. The rest of `run` is the host operators'.
    """

    outputs: dict[str, Array]
    counts: dict[str, int]
    seconds: dict[str, float] = field(default_factory=dict)


class Session:
    """A package that is ready to run, any number of times. Not for two threads at once."""

    def __init__(self, package: Package, backend: Backend = "sim") -> None:
        """Load a package into the runtime.

        Raises ConfigError for an unknown back end, PackageError where the runtime finds the package illegal or the
        device has another overlay, DeviceError where no device answers or its memory is too small.
        """
        device = backend.partition(":")[0] == "zynq"
        if backend not in ("sim", "reference") and not device:
            near = difflib.get_close_matches(str(backend), BACKENDS, n=1)
            raise ConfigError(
                Fault(
                    f"unknown back end {backend!r}, known are {', '.join(BACKENDS)}",
                    remedy=f"did you mean {near[0]}?" if near else "",
                )
            )
        self._take(package)
        self._native = NativeProgram(
            encode_program(package.program),
            [(encode_region(r, package.overlay), r.stream, r.constants) for r in package.regions],
        )
        if device:
            self._native.open_device(backend)
        elif backend == "reference":
            self._native.set_accelerator(self._reference)

    def _take(self, package: Package) -> None:
        self._package = package
        self._inputs = [(tensor, np.dtype(tensor.dtype)) for tensor in package.inputs]
        self._outputs = [tensor.name for tensor in package.outputs]

    @property
    def package(self) -> Package:
        """The package it runs."""
        return self._package

    def close(self) -> None:
        """Give back the device and the memory that it has there, which otherwise happens when the session goes."""
        self._native.close()

    def __enter__(self) -> Session:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def run(self, feeds: Mapping[str, Array]) -> RunResult:
        """Run once on one array for each input; of a batch the first dimension counts the images.

        Raises DataError, with every fault, where names, shapes or types of the feeds are not the network's;
        SimError where the simulated machine finds a fault; DeviceError, with its cause, where a device fails. The next
        run is not affected by either.
        """
        arrays = self._checked(feeds)
        outputs, stats = self._native.run(arrays)
        counts = stats.to_dict()
        seconds = {name: counts.pop(f"{name}_ns") / 1e9 for name in ("run", "pack", "device")}
        return RunResult(dict(zip(self._outputs, outputs, strict=True)), counts, seconds)

    def run_images(self, images: Sequence[Mapping[str, Array]]) -> list[dict[str, Array]]:
        """Run on any number of images, the package's batch at a time; a batch that is not full repeats the last.

        Args:
            images: of each its inputs, with a first dimension of 1.

        Returns each image's outputs, with a first dimension of 1. Raises as :meth:`run` does.
        """
        found: list[dict[str, Array]] = []
        batch = self._package.batch
        if batch == 1:
            return [self.run(image).outputs for image in images]
        for first in range(0, len(images), batch):
            some = images[first : first + batch]
            full = [*some, *[some[-1]] * (batch - len(some))]
            feeds = {name: np.concatenate([image[name] for image in full]) for name in some[0]}
            outputs = self.run(feeds).outputs
            found += [{name: y[i : i + 1] for name, y in outputs.items()} for i in range(len(some))]
        return found

    def _checked(self, feeds: Mapping[str, Array]) -> list[Array]:
        faults = FaultList()
        known = [tensor.name for tensor, _ in self._inputs]
        for name in feeds:
            if name not in known:
                faults.add(f"unknown input {name!r}, the network's are {', '.join(known)}")
        arrays: list[Array] = []
        for tensor, dtype in self._inputs:
            if tensor.name not in feeds:
                faults.add(
                    f"is missing, expected {tensor.dtype} {tensor.shape}", where=f"input {tensor.name}"
                )
                continue
            array = np.asarray(feeds[tensor.name])
            fits = array.dtype == dtype or array.dtype.name == tensor.dtype  # in either order of bytes
            if array.shape != tensor.shape or not fits:
                faults.add(
                    f"expected {tensor.dtype} {tensor.shape}, found {array.dtype.name} {array.shape}",
                    where=f"input {tensor.name}",
                )
            # The program's bytes are little-endian, and so are all hosts that the runtime is built for.
            arrays.append(array.astype(dtype, copy=False))
        faults.raise_if_any(DataError)
        return arrays

    def _reference(self, number: int, inputs: bytes) -> bytes:
        region = self._package.regions[number]
        program = Program(
            region.stream, self._package.overlay, tuple(region.layers[i] for i in region.layer_of)
        )
        image = DramImage(
            constants=np.frombuffer(region.constants, np.uint8),
            inputs=np.frombuffer(inputs, np.uint8),
            workspace_bytes=region.workspace_bytes,
            output_bytes=region.output_bytes,
        )
        try:
            result = reference.run(program, image)
        except SimError as error:
            where = f"region {region.name}"
            raise SimError(
                *(
                    Fault(f.message, f"{where}, {f.where}" if f.where else where, f.remedy)
                    for f in error.faults
                )
            ) from error
        for layout in region.outputs:
            held = _bytes_of(layout, self._package.overlay.inp_bits, region.batch)
            missing = int(np.count_nonzero(~result.outputs_written[held]))
            if missing:
                raise SimError(
                    f"region {region.name}: {missing} bytes of output {layout.name} were never written"
                )
        return result.outputs.tobytes()


def _bytes_of(layout: MapLayout, inp_bits: int, batch: int) -> NDArray[np.int64]:
    """Bytes of the segment that hold elements of a tensor."""
    pixels = batch * math.prod(layout.shape[2:])
    lanes = np.flatnonzero(np.asarray(layout.lanes) >= 0)
    values = np.arange(pixels)[:, np.newaxis] * len(layout.lanes) + lanes
    return np.unique(layout.offset + values * inp_bits // 8)


def run(package: Package, feeds: Mapping[str, Array], backend: Backend = "sim") -> dict[str, Array]:
    """Run a package once; see :class:`Session` for repeated runs and for what is raised."""
    return Session(package, backend).run(feeds).outputs
