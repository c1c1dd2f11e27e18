"""The C++ runtime by ctypes; `targets/board/native/include/tilewright/runtime_c.h` is the interface."""

from __future__ import annotations

import ctypes
from collections.abc import Callable, Mapping, Sequence
from functools import cache
from importlib import metadata
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tilewright.errors import ConfigError, DataError, DeviceError, PackageError, SimError, TilewrightError
from tilewright.targets.host_ops import HOST_DTYPES

ABI = 2
MAX_RANK = 8
_LIBRARY = "libtilewright_runtime.so"

Accelerator = Callable[[int, bytes], bytes]
"""Runs region number n on its input segment and gives its output segment."""


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


class Stats(ctypes.Structure):
    """Counts of a run, over all regions; under a caller's accelerator only `regions` and `instructions`.

    `cycles` are those of an accelerator or device model. Times on the host: `run_ns` of the whole run, and of it
    `pack_ns` of the tensors' way into the regions' segments and back, `device_ns` from a launch until its results
    are there.
    """

    _fields_ = tuple(
        (name, ctypes.c_int64)
        for name in (
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
    )

    def to_dict(self) -> dict[str, int]:
        """The counts by name."""
        return {name: getattr(self, name) for name in _STATS}


_STATS = tuple(name for name, *_ in Stats._fields_)
_DTYPES = {np.dtype(name): number for number, name in enumerate(HOST_DTYPES, 1)}
"""How the interface numbers element types; asking NumPy for a type's name takes longer than all the rest of a call."""

_ACCELERATOR = ctypes.CFUNCTYPE(
    ctypes.c_int32,
    ctypes.c_void_p,
    ctypes.c_uint32,
    ctypes.c_void_p,
    ctypes.c_uint64,
    ctypes.c_void_p,
    ctypes.c_uint64,
)

_ERRORS: Mapping[int, type[TilewrightError]] = {
    1: PackageError,
    2: DataError,
    3: SimError,
    4: DataError,
    7: DeviceError,
    8: ConfigError,
}


def library_path(name: str) -> Path:
    """Where a compiled file of this package is; also right for editable installs. Raises ImportError."""
    path = Path(str(metadata.distribution("tilewright").locate_file(f"tilewright/_native/{name}")))
    if not path.is_file():
        raise ImportError(f"{path} is missing: install tilewright again, its build was not complete")
    return path


@cache
def _library() -> ctypes.CDLL:
    lib = ctypes.CDLL(str(library_path(_LIBRARY)))
    lib.tw_rt_abi.restype = ctypes.c_int32
    if lib.tw_rt_abi() != ABI:
        raise ImportError(
            f"{_LIBRARY} has interface {lib.tw_rt_abi()}, expected {ABI}: install tilewright again"
        )
    pointer, error = ctypes.c_void_p, ctypes.POINTER(_Error)
    lib.tw_rt_open.argtypes = [
        _Bytes,
        ctypes.POINTER(_Bytes),
        ctypes.c_uint32,
        ctypes.POINTER(pointer),
        error,
    ]
    lib.tw_rt_close.argtypes = [pointer]
    lib.tw_rt_close.restype = None
    lib.tw_rt_open_device.argtypes = [pointer, ctypes.c_char_p, error]
    lib.tw_rt_set_accelerator.argtypes = [pointer, _ACCELERATOR, pointer]
    lib.tw_rt_set_accelerator.restype = None
    lib.tw_rt_run.argtypes = [pointer, ctypes.POINTER(_Tensor), ctypes.c_uint32, ctypes.POINTER(Stats), error]
    lib.tw_rt_outputs.argtypes = [pointer]
    lib.tw_rt_outputs.restype = ctypes.c_uint32
    lib.tw_rt_output.argtypes = [pointer, ctypes.c_uint32, ctypes.POINTER(_Tensor)]
    return lib


def _raise(error: _Error) -> None:
    text = error.text.decode(errors="replace")
    kind = _ERRORS.get(error.kind)
    if kind is None:
        raise AssertionError(f"the runtime failed: {text}")
    raise kind(text)


class NativeProgram:
    """A program in the C++ runtime. Not for two threads at once."""

    def __init__(self, program: bytes, regions: Sequence[tuple[bytes, bytes, bytes]]) -> None:
        """Take the program's bytes, and record, stream and constants of each region. Raises PackageError."""
        self._handle = ctypes.c_void_p()
        self._lib = _library()
        self._callback: object = None
        self._failure: BaseException | None = None
        flat = [_Bytes(part, len(part)) for region in regions for part in region]
        error = _Error()
        if self._lib.tw_rt_open(
            _Bytes(program, len(program)),
            (_Bytes * len(flat))(*flat),
            len(regions),
            ctypes.byref(self._handle),
            ctypes.byref(error),
        ):
            _raise(error)

    def __del__(self) -> None:
        self.close()

    def close(self) -> None:
        """Give back memory and device now, not when the last reference goes. It cannot run any more."""
        if getattr(self, "_handle", None):
            self._lib.tw_rt_close(self._handle)
            self._handle = ctypes.c_void_p()

    def open_device(self, uri: str) -> None:
        """Run regions on the device of that text (`sim`, `zynq:registers=..,memory=..`); `device.h` tells its form.

        Raises ConfigError where the text is wrong, DeviceError where no device answers or its memory is too small,
        PackageError where it has another overlay; the program stays on the device that it had.
        """
        error = _Error()
        if self._lib.tw_rt_open_device(self._handle, uri.encode(), ctypes.byref(error)):
            _raise(error)

    def set_accelerator(self, run: Accelerator) -> None:
        """Run regions by a Python function in place of the fast simulator."""

        def call(_: object, region: int, source: int, size: int, target: int, room: int) -> int:
            try:
                result = run(region, ctypes.string_at(source, size) if size else b"")
                if len(result) != room:
                    raise AssertionError(f"region {region}: expected {room} bytes, found {len(result)}")
                ctypes.memmove(target, result, room)
            except BaseException as error:  # noqa: BLE001 - must not pass through C; `run` raises it again
                self._failure = error
                return 1
            return 0

        self._callback = _ACCELERATOR(call)
        self._lib.tw_rt_set_accelerator(self._handle, self._callback, None)

    def run(self, inputs: Sequence[NDArray[Any]]) -> tuple[list[NDArray[Any]], Stats]:
        """Run on arrays in the program's order. Raises DataError, SimError, DeviceError or the accelerator's own."""
        if not self._handle:
            raise DataError("this program was closed")
        arrays = [np.asarray(a, order="C") for a in inputs]
        tensors = (_Tensor * len(arrays))()
        for tensor, array in zip(tensors, arrays, strict=True):
            number = _DTYPES.get(array.dtype)
            if number is None or array.ndim > MAX_RANK:
                raise DataError(
                    f"expected one of {', '.join(HOST_DTYPES)}, found {array.dtype} of rank {array.ndim}"
                )
            tensor.dtype = number
            tensor.rank = array.ndim
            tensor.shape[: array.ndim] = array.shape
            tensor.data, tensor.size = array.ctypes.data, array.nbytes
        stats, error = Stats(), _Error()
        self._failure = None
        if self._lib.tw_rt_run(self._handle, tensors, len(arrays), ctypes.byref(stats), ctypes.byref(error)):
            if self._failure is not None:
                failure, self._failure = self._failure, None
                raise failure
            _raise(error)
        return [self._output(i) for i in range(self._lib.tw_rt_outputs(self._handle))], stats

    def _output(self, index: int) -> NDArray[Any]:
        tensor = _Tensor()
        if self._lib.tw_rt_output(self._handle, index, ctypes.byref(tensor)):
            raise AssertionError(f"output {index} is missing after a run")
        # A copy, for the runtime's memory lives until the next run only.
        array = np.empty(tuple(tensor.shape[: tensor.rank]), HOST_DTYPES[tensor.dtype - 1])
        ctypes.memmove(array.ctypes.data, tensor.data, tensor.size)
        return array
