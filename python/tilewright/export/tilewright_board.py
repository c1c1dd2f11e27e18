#!/usr/bin/env python3
"""A network on this board, in PYNQ's manner. Needs Python 3.8, NumPy, and libtilewright_runtime.so beside this file.

    from tilewright_board import Overlay

    with Overlay("net.twp", device="zynq:registers=/dev/uio0,memory=/dev/udmabuf0") as overlay:
        overlay.buffers["data"][:] = image      # inputs as NumPy arrays, allocated once
        scores = overlay.run()["prob"]          # or overlay.run(image), overlay.run({"data": image})
        print(overlay.counts["cycles"])

    python3 tilewright_board.py net.twp --check check --device zynq:registers=/dev/uio0,memory=/dev/udmabuf0

`device="sim"` runs the accelerator's simulator on this processor: slow, equal bits, no hardware.
"""

from __future__ import annotations

import argparse
import ctypes
import sys
import threading
import time
from collections import namedtuple
from pathlib import Path
from typing import TYPE_CHECKING, Any, Mapping, Sequence  # noqa: UP035 - Python 3.8

import numpy as np

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Array = NDArray[Any]

LIBRARY = "libtilewright_runtime.so"
ABI = 2
MAX_RANK = 8
DTYPES = ("float32", "int8", "uint8", "int32", "int64", "int16", "uint16")
COUNTS = (
    "regions",
    "instructions",
    "matrix_steps",
    "vector_reads",
    "dram_read_bytes",
    "dram_write_bytes",
    "fetch_bytes",
    "cycles",
    "run_ns",
    "pack_ns",
    "device_ns",
)
DIFFERENCE = 2.0**-20
"""Largest difference of floats that a check lets pass: another C library has another exp. Integers are equal."""

Tensor = namedtuple("Tensor", "name dtype shape")
"""An input or output: `shape` has the batch first, and -1 where a length is known after a run only."""


class OverlayError(Exception):
    """What is wrong with a package, a device or inputs; `faults` lists all of it."""

    def __init__(self, *faults: str) -> None:
        super().__init__("\n".join(faults))
        self.faults = faults


class _Bytes(ctypes.Structure):
    _fields_ = (("data", ctypes.c_char_p), ("size", ctypes.c_uint64))


class _Tensor(ctypes.Structure):
    _fields_ = (
        ("dtype", ctypes.c_int32),
        ("rank", ctypes.c_int32),
        ("shape", ctypes.c_int64 * MAX_RANK),
        ("data", ctypes.c_void_p),
        ("size", ctypes.c_uint64),
    )


class _Error(ctypes.Structure):
    _fields_ = (("kind", ctypes.c_int32), ("text", ctypes.c_char * 1024))

    def raise_if(self, failed: int) -> None:
        if failed:
            raise OverlayError(*self.text.decode(errors="replace").split("\n"))


class _Stats(ctypes.Structure):
    _fields_ = tuple((name, ctypes.c_int64) for name in COUNTS)


class Overlay:
    """A package that is ready to run on a device.

    Args:
        package: the `.twp` file.
        device: `zynq:registers=PATH,memory=PATH`, or `sim`.
        library: the runtime; by default the one beside this file.

    Attributes:
        name: of the network.
        overlay: name of the accelerator's configuration that it was compiled for.
        inputs, outputs: `Tensor`s in the network's order.
        buffers: an array for each input, by name; what `run()` without arguments reads.
        counts: of the last run: `cycles` and bytes of the device, `device_ns`, `pack_ns`; see runtime_c.h.

    Raises OverlayError where the package is damaged, does not fit the device, or the device does not answer.
    """

    def __init__(
        self,
        package: str | Path,
        device: str = "sim",
        library: str | Path | None = None,
    ) -> None:
        self._program = ctypes.c_void_p()
        self._file = ctypes.c_void_p()
        self._lock = threading.Lock()
        self._lib = _load(Path(library) if library else Path(__file__).resolve().parent / LIBRARY)
        try:
            data = Path(package).read_bytes()
        except OSError as error:
            raise OverlayError(f"{package}: cannot read: {error.strerror or error}") from None
        try:
            self._open(data, device)
        except OverlayError as error:
            self.close()
            raise OverlayError(*(f"{package}: {fault}" for fault in error.faults)) from None
        self.buffers: dict[str, Array] = {t.name: np.zeros(t.shape, t.dtype) for t in self.inputs}
        self.counts: dict[str, int] = {}

    def _open(self, data: bytes, device: str) -> None:
        lib, error = self._lib, _Error()
        file = _Bytes(data, len(data))
        error.raise_if(lib.tw_package_open(file, ctypes.byref(self._file), ctypes.byref(error)))
        self.name = lib.tw_package_name(self._file).decode()
        self.overlay = lib.tw_package_overlay(self._file).decode()
        self.inputs, self.outputs = self._tensors(0), self._tensors(1)
        regions = ctypes.POINTER(_Bytes)()
        count = lib.tw_package_regions(self._file, ctypes.byref(regions))
        program = lib.tw_package_program(self._file)
        error.raise_if(
            lib.tw_rt_open(program, regions, count, ctypes.byref(self._program), ctypes.byref(error))
        )
        error.raise_if(lib.tw_rt_open_device(self._program, device.encode(), ctypes.byref(error)))

    def _tensors(self, edge: int) -> tuple[Tensor, ...]:
        found = []
        for i in range(self._lib.tw_package_tensors(self._file, edge)):
            tensor = _Tensor()
            name = self._lib.tw_package_tensor(self._file, edge, i, ctypes.byref(tensor))
            found.append(Tensor(name.decode(), DTYPES[tensor.dtype - 1], tuple(tensor.shape[: tensor.rank])))
        return tuple(found)

    def run(self, feeds: Any = None) -> dict[str, Array]:
        """Run once.

        Args:
            feeds: arrays by input name; for a network with one input its array; None: what `buffers` hold.

        Returns arrays by output name, which are the caller's. Raises OverlayError: the inputs, all that is wrong with
        them; or the device's fault, after which the next run is a new one.
        """
        arrays = self._checked(feeds)
        tensors = (_Tensor * len(arrays))()
        for tensor, array in zip(tensors, arrays):  # noqa: B905 - Python 3.8
            tensor.dtype, tensor.rank = DTYPES.index(array.dtype.name) + 1, array.ndim
            tensor.shape[: array.ndim] = array.shape
            tensor.data, tensor.size = array.ctypes.data, array.nbytes
        stats, error = _Stats(), _Error()
        with self._lock:
            if not self._program:
                raise OverlayError("this overlay is closed: open the package again")
            failed = self._lib.tw_rt_run(
                self._program, tensors, len(arrays), ctypes.byref(stats), ctypes.byref(error)
            )
            error.raise_if(failed)
            found = {t.name: self._output(i) for i, t in enumerate(self.outputs)}
            self.counts = {name: int(getattr(stats, name)) for name in COUNTS}
        return found

    def _checked(self, feeds: Any) -> list[Array]:
        if feeds is None:
            feeds = self.buffers
        if not isinstance(feeds, Mapping):
            if len(self.inputs) != 1:
                raise OverlayError("expected a dict of " + ", ".join(t.name for t in self.inputs))
            feeds = {self.inputs[0].name: feeds}
        known = [t.name for t in self.inputs]
        listed = ", ".join(known)
        faults = [f"unknown input {name!r}, known are {listed}" for name in feeds if name not in known]
        arrays = []
        for t in self.inputs:
            if t.name not in feeds:
                faults.append(f"input {t.name}: is missing, expected {t.dtype} {t.shape}")
                continue
            array = np.asarray(feeds[t.name])
            if array.shape != t.shape or array.dtype.name != t.dtype:
                faults.append(
                    f"input {t.name}: expected {t.dtype} {t.shape}, found {array.dtype.name} {array.shape}"
                )
            arrays.append(np.ascontiguousarray(array).reshape(array.shape))
        if faults:
            raise OverlayError(*faults)
        return arrays

    def _output(self, index: int) -> Array:
        tensor = _Tensor()
        if self._lib.tw_rt_output(self._program, index, ctypes.byref(tensor)):
            raise OverlayError(f"output {index} is missing after a run")
        data = ctypes.string_at(tensor.data, tensor.size) if tensor.size else b""
        flat: Array = np.frombuffer(data, DTYPES[tensor.dtype - 1])
        return flat.reshape(tuple(tensor.shape[: tensor.rank])).copy()

    def check(self, folder: str | Path) -> None:
        """Run the inputs `input0.npy`, .. of a folder and compare with its `output0.npy`, ..

        Raises OverlayError with each output that differs, and how.
        """
        folder = Path(folder)
        try:
            feeds = {t.name: np.load(str(folder / f"input{i}.npy")) for i, t in enumerate(self.inputs)}
            wanted = [np.load(str(folder / f"output{i}.npy")) for i in range(len(self.outputs))]
        except (OSError, ValueError) as error:
            raise OverlayError(f"{folder}: {error}") from None
        faults = []
        for (name, found), expected in zip(self.run(feeds).items(), wanted):  # noqa: B905
            text = _difference(found, expected)
            if text:
                faults.append(f"output {name}: {text}")
        if faults:
            raise OverlayError(*faults)

    def close(self) -> None:
        """Give the device back. Safe to call twice."""
        with self._lock:
            for handle, close in ((self._program, "tw_rt_close"), (self._file, "tw_package_close")):
                if handle:
                    getattr(self._lib, close)(handle)
                    handle.value = None

    def __enter__(self) -> Overlay:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def __del__(self) -> None:
        if getattr(self, "_lib", None) is not None:
            self.close()


def _difference(found: Array, expected: Array) -> str:
    """What differs more than it may; nothing where nothing does."""
    if found.shape != expected.shape or found.dtype != expected.dtype:
        return f"expected {expected.dtype} {expected.shape}, found {found.dtype} {found.shape}"
    if found.dtype.kind == "f":
        near = np.isclose(found, expected, rtol=DIFFERENCE, atol=DIFFERENCE, equal_nan=True)
    else:
        near = found == expected
    wrong = np.argwhere(~near)
    if not len(wrong):
        return ""
    at = tuple(int(n) for n in wrong[0])
    text = f"{len(wrong)} of {found.size} values differ, the first at {at}"
    return f"{text}: {found[at]} where {expected[at]} was expected"


def _load(path: Path) -> Any:
    try:
        lib = ctypes.CDLL(str(path))
    except OSError as error:
        raise OverlayError(f"{path}: cannot be loaded: {error}; copy the whole folder again") from None
    lib.tw_rt_abi.restype = ctypes.c_int32
    if lib.tw_rt_abi() != ABI:
        text = f"{path}: has interface {lib.tw_rt_abi()}, expected {ABI}"
        raise OverlayError(f"{text}: library and class are of two exports")
    handle, failure, tensor = ctypes.c_void_p, ctypes.POINTER(_Error), ctypes.POINTER(_Tensor)
    chars, count, number = ctypes.c_char_p, ctypes.c_uint32, ctypes.c_int32
    stats, out, regions = ctypes.POINTER(_Stats), ctypes.POINTER(handle), ctypes.POINTER(_Bytes)
    signatures = {
        "tw_package_open": (number, [_Bytes, out, failure]),
        "tw_package_close": (None, [handle]),
        "tw_package_name": (chars, [handle]),
        "tw_package_overlay": (chars, [handle]),
        "tw_package_program": (_Bytes, [handle]),
        "tw_package_regions": (count, [handle, ctypes.POINTER(regions)]),
        "tw_package_tensors": (count, [handle, number]),
        "tw_package_tensor": (chars, [handle, number, count, tensor]),
        "tw_rt_open": (number, [_Bytes, regions, count, out, failure]),
        "tw_rt_close": (None, [handle]),
        "tw_rt_open_device": (number, [handle, chars, failure]),
        "tw_rt_run": (number, [handle, tensor, count, stats, failure]),
        "tw_rt_output": (number, [handle, count, tensor]),
    }
    for name, (result, arguments) in signatures.items():
        function = getattr(lib, name)
        function.restype, function.argtypes = result, arguments
    return lib


def main(arguments: Sequence[str] | None = None) -> int:
    """Say what is in a package, or check it on a device."""
    parser = argparse.ArgumentParser(description="Say what is in a package, or check it on a device.")
    parser.add_argument("package", help="the .twp file")
    parser.add_argument(
        "--device", default="sim", help="sim, or zynq:registers=PATH,memory=PATH; default: sim"
    )
    parser.add_argument("--check", metavar="FOLDER", help="run its inputs, compare with its outputs")
    parser.add_argument("--repeat", type=int, default=1, metavar="N", help="runs; tells the mean time")
    given = parser.parse_args(arguments)
    try:
        with Overlay(given.package, given.device) as overlay:
            lines = [f"{overlay.name} for {overlay.overlay}"]
            for what, tensors in (("input", overlay.inputs), ("output", overlay.outputs)):
                lines += [f"{what} {t.name}: {t.dtype} {t.shape}" for t in tensors]
            if given.check:
                since = time.perf_counter()
                for _ in range(max(1, given.repeat)):
                    overlay.check(given.check)
                spent = (time.perf_counter() - since) / max(1, given.repeat)
                lines.append(f"check: outputs as expected, {spent * 1e3:.3f} ms a run")
                lines += [
                    f"{n}: {overlay.counts[n]}" for n in ("cycles", "instructions") if overlay.counts[n]
                ]
    except OverlayError as error:
        sys.stderr.write("".join(f"error: {fault}\n" for fault in error.faults))
        return 2
    sys.stdout.write("\n".join(lines) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
