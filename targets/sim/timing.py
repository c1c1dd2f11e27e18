"""The timing simulator: how long a stream takes on an overlay, by the rules of `targets/timing.md`.

A binding of the C++ event-driven simulator (`targets/sim/native/src/timing*.cc`), which skips from one change of the
machine's state to the next; `targets/sim/stepping.py` is the same machine cycle by cycle in plain Python, and the tests
hold one to the other. Time depends on no value that the machine computes, so a stream is all that it needs, and it runs
apart from the functional simulators: a tuner asks for time often and for results never.
"""

from __future__ import annotations

import ctypes
import dataclasses
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache

import numpy as np
from numpy.typing import NDArray

from tilewright.errors import ConfigError, Fault, SimError
from tilewright.targets.config import Overlay
from tilewright.targets.isa.codec import decode, decode_stream
from tilewright.targets.isa.listing import line
from tilewright.targets.isa.spec import INSTRUCTION_BYTES, Opcode, Unit
from tilewright.targets.sim.fast import FaultKind, library_path
from tilewright.targets.sim.program import Program
from tilewright.targets.sim.rules import BOARD_FIELDS, OVERLAY_FIELDS, Activity, Rules

ABI = 2
CYCLE_LIMIT = 1 << 40
"""More than an hour at any clock: a stream that takes longer is damaged."""
_VALUES = len(OVERLAY_FIELDS) + len(BOARD_FIELDS) + len(dataclasses.fields(Rules))


@dataclass(frozen=True)
class LayerTime:
    """A layer's share of the time.

    Attributes:
        name: source layer; empty where the program names none.
        start: cycle in which its first instruction starts.
        end: cycle after the one in which its last instruction retires.
        cycles: by how much the layer puts off the end of the work done so far. These add up to the total, FINISH
            aside, while `end - start` of neighbours overlap.
        busy: cycles from start to retirement of its instructions, by unit; those of one unit may overlap.
    """

    name: str
    start: int
    end: int
    cycles: int
    busy: Mapping[Unit, int]


@dataclass(frozen=True)
class Timing:
    """What a run takes.

    Attributes:
        overlay: the machine.
        cycles: in all, FINISH included.
        activity: for each unit, cycles by what it did; each adds up to `cycles`.
        dram_read_bytes, dram_write_bytes, fetch_bytes: moved by LOAD, by STORE, and by FETCH.
        dispatched, start, end: for each instruction the cycle in which it entered its queue, took its tokens, and
            retired. Shape of each: (instructions,).
        opcodes: of each instruction. Shape: (instructions,).
        layer_names: source layer of each instruction; empty where unknown.
    """

    overlay: Overlay
    cycles: int
    activity: Mapping[Unit, Mapping[Activity, int]]
    dram_read_bytes: int
    dram_write_bytes: int
    fetch_bytes: int
    dispatched: NDArray[np.int64]
    start: NDArray[np.int64]
    end: NDArray[np.int64]
    opcodes: NDArray[np.uint8]
    layer_names: Sequence[str] = ()

    @property
    def dram_bytes(self) -> int:
        """LOAD, STORE and FETCH together."""
        return self.dram_read_bytes + self.dram_write_bytes + self.fetch_bytes

    @property
    def fps(self) -> float:
        """Runs a second at the overlay's clock, one after the other."""
        return self.overlay.mhz * 1e6 / self.cycles

    def layers(self) -> tuple[LayerTime, ...]:
        """Time by source layer, in the order of the stream."""
        names = list(self.layer_names) or [""] * len(self.opcodes)
        members: dict[str, list[int]] = {}
        for index, opcode in enumerate(self.opcodes.tolist()):
            if opcode != Opcode.FINISH:
                members.setdefault(names[index], []).append(index)
        found = []
        frontier = 0
        for name, indices in members.items():
            first, last = int(self.start[indices].min()), int(self.end[indices].max()) + 1
            busy = dict.fromkeys(Unit, 0)
            for index in indices:
                busy[Unit(int(self.opcodes[index]) - 1)] += int(self.end[index] - self.start[index]) + 1
            found.append(LayerTime(name, first, last, max(last - frontier, 0), busy))
            frontier = max(frontier, last)
        return tuple(found)


class _Config(ctypes.Structure):
    _fields_ = [("values", ctypes.c_int32 * _VALUES)]


class _Timing(ctypes.Structure):
    _fields_ = [
        ("cycles", ctypes.c_int64),
        ("activity", ctypes.c_int64 * len(Activity) * len(Unit)),
        ("dram_read_bytes", ctypes.c_int64),
        ("dram_write_bytes", ctypes.c_int64),
        ("fetch_bytes", ctypes.c_int64),
    ]


class _Fault(ctypes.Structure):
    _fields_ = [
        ("kind", ctypes.c_int32),
        ("instruction", ctypes.c_int64),
        ("other", ctypes.c_int64),
        ("text", ctypes.c_char * 512),
    ]


@cache
def _library() -> ctypes.CDLL:
    path = library_path()
    remedy = "install the project again"
    try:
        lib = ctypes.CDLL(str(path))
        found = int(lib.tw_timing_abi())
    except (OSError, AttributeError) as error:
        message = f"the library of the timing simulator does not load: {error}"
        raise ConfigError(Fault(message, str(path), remedy)) from error
    if found != ABI:
        message = f"the library of the timing simulator has interface {found}, expected {ABI}"
        raise ConfigError(Fault(message, str(path), remedy))
    lib.tw_timing_run.argtypes = [
        ctypes.POINTER(_Config), ctypes.c_char_p, ctypes.c_uint64, ctypes.c_int64, ctypes.c_int32,
        ctypes.POINTER(_Timing), ctypes.c_void_p, ctypes.POINTER(_Fault),
    ]  # fmt: skip
    return lib


def figures(overlay: Overlay, rules: Rules | None = None) -> tuple[int, ...]:
    """What the C++ simulator is handed, in the order of its `TimingConfig`."""
    values = [getattr(overlay, name) for name in OVERLAY_FIELDS]
    values += [getattr(overlay.board, name) for name in BOARD_FIELDS]
    return (*values, *dataclasses.astuple(rules or Rules()))


def run(
    program: Program, rules: Rules | None = None, *, leap: bool = True, limit: int = CYCLE_LIMIT
) -> Timing:
    """Time a stream.

    Args:
        program: stream, overlay, and the source layer of each instruction where known.
        rules: figures of the machine's circuits; the default is the machine.
        leap: skip cycles in which nothing changes. The result is the same without, later.
        limit: cycles after which a stream counts as damaged.

    Raises:
        SimError: tokens do not match, the stream does not end, or `limit` is passed.
        EncodingError: the stream does not decode.
    """
    o, stream = program.overlay, program.stream
    count = len(stream) // INSTRUCTION_BYTES
    if program.layers and len(program.layers) != count:
        raise SimError(f"{len(program.layers)} layer names for {count} instructions")
    config, timing, fault = _Config((ctypes.c_int32 * _VALUES)(*figures(o, rules))), _Timing(), _Fault()
    times = np.zeros((count, 3), np.int64)
    failed = _library().tw_timing_run(
        ctypes.byref(config), stream, len(stream), limit, int(leap), ctypes.byref(timing), times.ctypes.data,
        ctypes.byref(fault),
    )  # fmt: skip
    if failed:
        _raise(fault, program)
    opcodes = np.frombuffer(stream, np.uint8).reshape(count, INSTRUCTION_BYTES)[:, 0] & np.uint8(7)
    activity = {
        unit: {kind: int(timing.activity[unit][kind]) for kind in Activity if timing.activity[unit][kind]}
        for unit in Unit
    }
    return Timing(
        o, int(timing.cycles), activity, int(timing.dram_read_bytes), int(timing.dram_write_bytes),
        int(timing.fetch_bytes), times[:, 0], times[:, 1], times[:, 2], opcodes, program.layers,
    )  # fmt: skip


def _raise(fault: _Fault, program: Program) -> None:
    kind, index = FaultKind(fault.kind), int(fault.instruction)
    text = bytes(fault.text).decode("utf-8", "replace")
    if kind is FaultKind.MEMORY:
        raise MemoryError("the timing simulator has no memory left")
    if kind is FaultKind.ENCODING:
        decode_stream(program.stream)  # raises EncodingError with every fault of the stream
    if kind is FaultKind.ARGUMENT and index < 0 and "cycles" not in text:
        raise ConfigError(Fault(text, f"overlay {program.overlay.name}"))
    where = ""
    if index >= 0:
        encoded = program.stream[index * INSTRUCTION_BYTES : (index + 1) * INSTRUCTION_BYTES]
        layer = f", layer {program.layers[index]}" if program.layers and program.layers[index] else ""
        where = f"instruction {index} ({line(decode(encoded))}{layer})"
    raise SimError(Fault(text, where))
