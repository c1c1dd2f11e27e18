"""The fast simulator: a thin binding of the C++ library that the build installs (`targets/sim/native`).

It executes the same streams with the same checks as `targets/sim/reference.py`, from an implementation of its
own, so that agreement means something. `run` has the reference's signature.
"""

from __future__ import annotations

import ctypes
import enum
import importlib.metadata
from collections.abc import Sequence
from functools import cache
from pathlib import Path

import numpy as np

from tilewright.errors import ConfigError, Fault, SimError
from tilewright.targets.config import Overlay
from tilewright.targets.isa.codec import decode, decode_stream
from tilewright.targets.isa.listing import line
from tilewright.targets.isa.spec import INSTRUCTION_BYTES, Unit
from tilewright.targets.sim.program import DramImage, Program, RunResult, Statistics

ABI = 1
_LIBRARY = "tilewright/_native/libtilewright_sim.so"
_OVERLAY_FIELDS = (
    "block_in", "block_out", "inp_bits", "wgt_bits", "acc_bits", "act_half_words", "wgt_tiles", "acc_vectors",
    "param_records", "disp_entries", "displacement_min", "displacement_max",
)  # fmt: skip


class SimdLevel(enum.IntEnum):
    """Instruction sets of the host; results are equal at all of them."""

    PLAIN = 0
    AVX2 = 1
    AVX_VNNI = 2
    AVX512 = 3
    AVX512_VNNI = 4


class FaultKind(enum.IntEnum):
    """What kind of fault a stream has, as `FaultKind` of `include/tilewright/simulator.h`."""

    ENCODING = 1
    OPERAND = 2
    ADDRESS = 3
    ALIGNMENT = 4
    READ_ONLY = 5
    UNINITIALISED = 6
    OVERLAP = 7
    RACE = 8
    TOKEN = 9
    FINISH = 10
    ARGUMENT = 11
    MEMORY = 12


class FastSimError(SimError):
    """A fault that the fast simulator found.

    Attributes:
        kind: its kind.
        instruction, other: number of the instruction, and of the other one of a race; -1 where there is none.
    """

    def __init__(self, fault: Fault, kind: FaultKind, instruction: int, other: int) -> None:
        super().__init__(fault)
        self.kind = kind
        self.instruction = instruction
        self.other = other


class _Overlay(ctypes.Structure):
    _fields_ = [(name, ctypes.c_int32) for name in _OVERLAY_FIELDS]


class _Segment(ctypes.Structure):
    _fields_ = [("data", ctypes.c_void_p), ("size", ctypes.c_uint64)]


class _Fault(ctypes.Structure):
    _fields_ = [
        ("kind", ctypes.c_int32),
        ("instruction", ctypes.c_int64),
        ("other", ctypes.c_int64),
        ("text", ctypes.c_char * 512),
    ]


class _Stats(ctypes.Structure):
    _fields_ = [
        ("instructions", ctypes.c_int64 * len(Unit)),
        ("matrix_steps", ctypes.c_int64),
        ("vector_reads", ctypes.c_int64),
        ("dram_read_bytes", ctypes.c_int64),
        ("dram_write_bytes", ctypes.c_int64),
        ("fetch_bytes", ctypes.c_int64),
    ]


def library_path() -> Path:
    """Where the build put the library. Raises ConfigError where it is not.

    By the package's metadata and not by `__file__`: an editable install keeps compiled files in
    site-packages.
    """
    remedy = "install the project (pip install -e .), which compiles it"
    try:
        path = Path(str(importlib.metadata.distribution("tilewright").locate_file(_LIBRARY)))
    except importlib.metadata.PackageNotFoundError as error:
        raise ConfigError(Fault("the fast simulator needs tilewright installed", remedy=remedy)) from error
    if not path.is_file():
        raise ConfigError(Fault("the library of the fast simulator is missing", str(path), remedy))
    return path


@cache
def _library() -> ctypes.CDLL:
    path = library_path()
    try:
        lib = ctypes.CDLL(str(path))
    except OSError as error:
        raise ConfigError(
            Fault(f"the library of the fast simulator does not load: {error}", str(path), "install it again")
        ) from error
    found = int(lib.tw_sim_abi())
    if found != ABI:
        message = f"the library of the fast simulator has interface {found}, expected {ABI}"
        raise ConfigError(Fault(message, str(path), "install the project again"))
    lib.tw_sim_create.restype = ctypes.c_void_p
    lib.tw_sim_create.argtypes = [ctypes.POINTER(_Overlay), ctypes.POINTER(_Fault)]
    lib.tw_sim_destroy.restype = None
    lib.tw_sim_destroy.argtypes = [ctypes.c_void_p]
    lib.tw_sim_run.argtypes = [
        ctypes.c_void_p, ctypes.c_char_p, ctypes.c_uint64, ctypes.POINTER(_Segment), ctypes.POINTER(_Stats),
        ctypes.POINTER(_Fault),
    ]  # fmt: skip
    lib.tw_sim_output_written.restype = None
    lib.tw_sim_output_written.argtypes = [ctypes.c_void_p, ctypes.c_void_p, ctypes.c_uint64]
    lib.tw_sim_simd_level.argtypes = [ctypes.c_void_p]
    lib.tw_sim_set_simd_level.argtypes = [ctypes.c_void_p, ctypes.c_int32]
    return lib


def simd_levels() -> list[SimdLevel]:
    """The levels that this processor and this build have, the slowest first."""
    lib = _library()
    return [level for level in SimdLevel if lib.tw_sim_simd_level_supported(int(level))]


class FastSimulator:
    """A machine of one overlay; it may run many streams, each starts with empty scratchpads.

    Not for use by several threads at once; separate objects are independent. Raises ConfigError where the
    library is missing or the processor lacks `simd`.
    """

    def __init__(self, overlay: Overlay, simd: SimdLevel | None = None) -> None:
        self._handle: int | None = None
        self._lib = _library()
        self.overlay = overlay
        fault = _Fault()
        values = _Overlay(*(int(getattr(overlay, name)) for name in _OVERLAY_FIELDS))
        handle = self._lib.tw_sim_create(ctypes.byref(values), ctypes.byref(fault))
        if not handle:
            raise ConfigError(f"overlay {overlay.name}: {_text(fault)}")
        self._handle = int(handle)
        if simd is not None and not self._lib.tw_sim_set_simd_level(self._handle, int(simd)):
            have = ", ".join(level.name for level in simd_levels())
            raise ConfigError(f"simd={simd.name}: this processor or build lacks it; it has {have}")

    def __del__(self) -> None:
        if self._handle is not None:
            self._lib.tw_sim_destroy(self._handle)
            self._handle = None

    @property
    def simd(self) -> SimdLevel:
        """The instruction set in use."""
        return SimdLevel(self._lib.tw_sim_simd_level(self._handle))

    def run(self, stream: bytes, dram: DramImage, layers: Sequence[str] = ()) -> RunResult:
        """Execute a stream; `layers`, where given, names each instruction's source layer in errors.

        Raises FastSimError (a SimError) where the stream breaks a rule of the machine, and EncodingError
        where it does not decode. `dram` is not changed.
        """
        if layers and len(layers) * INSTRUCTION_BYTES != len(stream):
            raise SimError(f"{len(layers)} layer names for {len(stream) // INSTRUCTION_BYTES} instructions")
        constants = np.ascontiguousarray(dram.constants, np.uint8)
        inputs = np.ascontiguousarray(dram.inputs, np.uint8)
        workspace = np.empty(dram.workspace_bytes, np.uint8)
        outputs = np.zeros(dram.output_bytes, np.uint8)
        arrays = (constants, workspace, inputs, outputs)  # in the order of the base registers
        segments = (_Segment * len(arrays))(*(_Segment(a.ctypes.data, a.size) for a in arrays))
        stats, fault = _Stats(), _Fault()
        failed = self._lib.tw_sim_run(
            self._handle, stream, len(stream), segments, ctypes.byref(stats), ctypes.byref(fault)
        )
        if failed:
            _raise(fault, stream, layers)
        written = np.zeros(dram.output_bytes, bool)
        self._lib.tw_sim_output_written(self._handle, written.ctypes.data, written.size)
        return RunResult(outputs, written, _statistics(stats))


def run(program: Program, dram: DramImage) -> RunResult:
    """Execute a stream, see :meth:`FastSimulator.run`."""
    return FastSimulator(program.overlay).run(program.stream, dram, program.layers)


def _statistics(stats: _Stats) -> Statistics:
    return Statistics(
        instructions={unit.name: int(stats.instructions[unit]) for unit in Unit},
        steps=int(stats.matrix_steps),
        vector_reads=int(stats.vector_reads),
        dram_read_bytes=int(stats.dram_read_bytes),
        dram_write_bytes=int(stats.dram_write_bytes),
    )


def _text(fault: _Fault) -> str:
    return bytes(fault.text).decode("utf-8", "replace")


def _raise(fault: _Fault, stream: bytes, layers: Sequence[str]) -> None:
    kind, instruction, other = FaultKind(fault.kind), int(fault.instruction), int(fault.other)
    if kind is FaultKind.MEMORY:
        raise MemoryError("the fast simulator has no memory left")
    if kind is FaultKind.ENCODING:
        decode_stream(stream)  # raises EncodingError with every fault of the stream, not only the first
    text = _text(fault)
    if other >= 0:  # say of the other instruction what it is
        text = text.replace(f"which instruction {other} ", f"which {_where(other, stream, layers)} ", 1)
    where = _where(instruction, stream, layers) if instruction >= 0 else ""
    raise FastSimError(Fault(text, where), kind, instruction, other)


def _where(index: int, stream: bytes, layers: Sequence[str]) -> str:
    encoded = stream[index * INSTRUCTION_BYTES : (index + 1) * INSTRUCTION_BYTES]
    layer = f", layer {layers[index]}" if layers and layers[index] else ""
    return f"instruction {index} ({line(decode(encoded))}{layer})"
