"""The accelerator's registers and the rules of its DMA, described once: what host and RTL are held to.

`register_text.py` makes the C++ header `board/native/include/tilewright/registers.h` and the manual `registers.md` of
the tables below; tests hold both to them. The block is one page of 4 KiB on AXI4-Lite; registers are 32 bits,
little-endian, a 64-bit value being two of them, the low half first. Every register has one owner, who alone changes
it, so that the block can be a page of shared memory with the device in another process.
"""

from __future__ import annotations

import enum
import struct
from collections.abc import Mapping
from dataclasses import dataclass
from types import MappingProxyType
from typing import Literal

from tilewright.targets.config import Overlay

PAGE_BYTES = 4096
MAGIC = int.from_bytes(b"TWRM", "little")
CONTRACT = 1
"""Raised whenever a register or a rule changes."""
ALIGNMENT = 256
"""Bytes that DRAM segments and streams start at a multiple of: a burst, and whole cache lines (32 or 64 bytes)."""
TEXT_BYTES = 32
HASH_WORDS = 8
CONFIG_OFFSET = 0x200


class Control(enum.IntFlag):
    """Bits of CONTROL; the device sets it back to 0 when it has taken the command."""

    START = 1
    RESET = 2


class State(enum.IntEnum):
    """Values of STATE."""

    IDLE = 0
    RUNNING = 1
    DONE = 2
    ERROR = 3


class UnitState(enum.IntEnum):
    """What a unit does now: a byte of UNITS, LOAD's the lowest."""

    EMPTY = 0
    BUSY = 1
    TOKEN = 2
    DRAM = 3


@dataclass(frozen=True)
class ErrorCode:
    """A value of ERROR_CODE. `hardware`: the RTL must find it; the others only simulators do."""

    name: str
    value: int
    hardware: bool
    meaning: str


ERRORS: tuple[ErrorCode, ...] = (
    ErrorCode("NONE", 0, True, "no error"),
    ErrorCode("ENCODING", 1, True, "an unknown opcode, or bits behind the last field"),
    ErrorCode("OPERAND", 2, False, "fields that are illegal together"),
    ErrorCode(
        "ADDRESS", 3, True, "a DRAM address outside of its segment, or a scratchpad address outside of it"
    ),
    ErrorCode("ALIGNMENT", 4, False, "a DRAM address that is no multiple of the half word"),
    ErrorCode("READ_ONLY", 5, True, "a STORE to segment 0 or 2"),
    ErrorCode("UNINITIALISED", 6, False, "a read of what nothing has written"),
    ErrorCode("OVERLAP", 7, False, "an instruction that meets its own destination"),
    ErrorCode("RACE", 8, False, "accesses of two units that no token orders"),
    ErrorCode("TOKEN", 9, True, "a token counter above 255, or tokens left over at FINISH"),
    ErrorCode("FINISH", 10, True, "the stream's bytes end without FINISH, or go on behind it"),
    ErrorCode(
        "LAUNCH", 16, True, "an address or size in the registers that is not aligned, or a stream of no bytes"
    ),
    ErrorCode("BUS", 17, True, "a SLVERR or DECERR answer on AXI; ERROR_ADDRESS says where"),
    ErrorCode("INTERNAL", 18, True, "the device cannot go on by no fault of the stream"),
)

Owner = Literal["host", "device"]


@dataclass(frozen=True)
class Register:
    """One register, or `count` of them one behind the other.

    Attributes:
        name: as in the header.
        offset: bytes from the block's start.
        owner: who writes it.
        doc: meaning, with unit.
        bits: 32, or 64 in two registers, the low half first.
        count: how many.
    """

    name: str
    offset: int
    owner: Owner
    doc: str
    bits: Literal[32, 64] = 32
    count: int = 1

    @property
    def size(self) -> int:
        """Bytes."""
        return self.bits // 8 * self.count


REGISTERS: tuple[Register, ...] = (
    Register("MAGIC", 0x000, "device", f"0x{MAGIC:08x}, `TWRM`"),
    Register("CONTRACT", 0x004, "device", f"{CONTRACT}: version of this page"),
    Register("CONFIG_WORDS", 0x008, "device", "32-bit words of CONFIG"),
    Register(
        "CONTROL", 0x040, "host", "bit 0 START, bit 1 RESET; the device sets it to 0 when it has taken it"
    ),
    Register("TICKET", 0x044, "host", "number of the launch, not 0, chosen by the host"),
    Register("INTERRUPT_ENABLE", 0x048, "host", "1: the line is INTERRUPT_STATUS; 0: the line is low"),
    Register("STREAM_ADDRESS", 0x050, "host", "physical address of the stream", bits=64),
    Register("STREAM_BYTES", 0x058, "host", "bytes of the stream, FINISH included"),
    Register("BASE", 0x060, "host", "physical addresses of the DRAM segments, by base register", 64, 4),
    Register("SIZE", 0x080, "host", "bytes of the DRAM segments, by base register", count=4),
    Register("STATE", 0x0C0, "device", "0 IDLE, 1 RUNNING, 2 DONE, 3 ERROR"),
    Register("FINISHED", 0x0C4, "device", "TICKET of the last launch that ended; 0 after a reset"),
    Register("INTERRUPT_STATUS", 0x0C8, "device", "1 while STATE is DONE or ERROR"),
    Register(
        "UNITS", 0x0CC, "device", "a byte a unit: 0 empty, 1 busy, 2 waits for a token, 3 waits for DRAM"
    ),
    Register("FETCHED", 0x0D0, "device", "instructions handed to the units' queues"),
    Register("ERROR_CODE", 0x0D4, "device", "see the table of errors; 0 unless STATE is ERROR"),
    Register(
        "ERROR_INSTRUCTION", 0x0D8, "device", "number in the stream of the faulting one; 0xffffffff: none"
    ),
    Register("ERROR_ADDRESS", 0x0E0, "device", "physical address of a BUS error", bits=64),
    Register("CYCLES", 0x100, "device", "from START until STATE changes", bits=64),
    Register("DRAM_READ_BYTES", 0x108, "device", "by LOAD", bits=64),
    Register("DRAM_WRITE_BYTES", 0x110, "device", "by STORE", bits=64),
    Register("FETCH_BYTES", 0x118, "device", "of the stream", bits=64),
    Register("MATRIX_STEPS", 0x120, "device", "each block_in * block_out products", bits=64),
    Register(
        "VECTOR_READS", 0x128, "device", "half words, or halves of a vector, of the first operand", bits=64
    ),
    Register("RETIRED", 0x130, "device", "instructions retired by LOAD, MATRIX, VECTOR, STORE", count=4),
    Register("CONFIG", CONFIG_OFFSET, "device", "the overlay, see its table", count=128),
)
BY_NAME: Mapping[str, Register] = MappingProxyType({r.name: r for r in REGISTERS})


@dataclass(frozen=True)
class ConfigField:
    """A field of the overlay in CONFIG: `words` from word number `word` on, a text or a signed integer."""

    name: str
    word: int
    words: int
    text: bool


def _identity_types() -> list[tuple[str, bool]]:
    """Names of the fields of `Overlay.identity`, and whether each is a text."""
    from tilewright.targets.config import overlays

    example = next(iter(overlays().values()))
    return [(name, isinstance(value, str)) for name, value in example.identity.items()]


def config_fields() -> tuple[ConfigField, ...]:
    """What CONFIG holds behind the hash, in the order of `Overlay.identity`."""
    fields: list[ConfigField] = []
    at = HASH_WORDS
    for name, text in _identity_types():
        words = TEXT_BYTES // 4 if text else 1
        fields.append(ConfigField(name, at, words, text))
        at += words
    return tuple(fields)


def config_words(overlay: Overlay) -> tuple[int, ...]:
    """The CONFIG registers of a device with that overlay: SHA-256, then the fields; texts cut to 32 bytes."""
    data = bytes.fromhex(overlay.hash)
    for value in overlay.identity.values():
        if isinstance(value, str):
            data += value.encode()[:TEXT_BYTES].ljust(TEXT_BYTES, b"\0")
        else:
            data += struct.pack("<i", value)
    return struct.unpack(f"<{len(data) // 4}I", data)


RULES: Mapping[str, tuple[str, ...]] = MappingProxyType(
    {
        "Launch": (
            "The host writes stream, constants and inputs to DRAM and makes them visible to the device "
            "(see Memory).",
            "It reads STATE. RUNNING or ERROR: it resets first. START is taken in IDLE and DONE only "
            "and ignored else.",
            "It writes STREAM_ADDRESS, STREAM_BYTES, BASE, SIZE, and a TICKET that is not 0 and not the "
            "last one; in any order. The device reads them when it takes START; writes while it is "
            "RUNNING have no effect.",
            "It issues a barrier, so that all these writes have arrived, and writes START to CONTROL.",
            "The device sets FINISHED, ERROR_*, FETCHED and all counters to 0 and STATE to RUNNING, "
            "then CONTROL to 0. On AXI this is done before START's write is answered.",
            "When FINISH has retired - all STOREs answered, so results are in DRAM - it writes the "
            "counters, then STATE = DONE, then FINISHED = TICKET. After an error it lets bursts on "
            "their way end, then writes ERROR_*, the counters, STATE = ERROR, FINISHED = TICKET, in "
            "that order.",
            "The host waits until FINISHED is the TICKET that it wrote: an older launch's end is never "
            "mistaken. Then it reads STATE, then the counters, then makes outputs visible to itself, "
            "then reads them.",
        ),
        "Interrupt": (
            "The line is a level: INTERRUPT_ENABLE and INTERRUPT_STATUS. Nothing is acknowledged in the "
            "device: START and RESET clear INTERRUPT_STATUS, and the host sets INTERRUPT_ENABLE to 0 "
            "when the launch has ended.",
            "The host writes 1 to INTERRUPT_ENABLE behind START, in program order. Under UIO it first "
            "writes 1 (32 bits) to the UIO file, which unmasks the line in the kernel, and reads 4 "
            "bytes when the file is readable.",
            "An interrupt is a hint: the host looks at FINISHED whenever it wakes up, at least every 10 "
            "ms, so that a lost or a spurious one costs time and no result.",
        ),
        "Timeout": (
            "The device has no watchdog. When the host's time is over it reports STATE, FETCHED, "
            "RETIRED and UNITS, and resets before the next launch.",
            "A block that reads as 0xffffffff, or whose MAGIC or CONTRACT is another, is no device: "
            "nothing is written.",
        ),
        "Reset": (
            "RESET is taken in every state. The device stops FETCH, lets AXI bursts on their way end, "
            "empties queues, tokens and ERROR_*, and writes FINISHED = 0 and STATE = IDLE, then CONTROL "
            "= 0. It takes at most 1 ms.",
            "The host waits until CONTROL, STATE and FINISHED are 0. DRAM, scratchpads and the host's "
            "registers keep what they held; a stream reads nothing that it has not written, so it does "
            "not matter.",
            "After power-on and configuration the device is as after RESET.",
        ),
        "Memory": (
            f"Streams and segments start at multiples of {ALIGNMENT} bytes, in one physically contiguous "
            "buffer, and share no cache line with anything else. A segment of 0 bytes has any address.",
            "The device writes segments 1 and 3 alone. Offsets at or behind SIZE are an ADDRESS error, "
            "found before the burst is sent, so a wrong stream cannot touch memory of others.",
            "The device reads DRAM as it is in memory. Where its port is not coherent (Zynq HP ports) "
            "the host cleans the cache over stream, constants and inputs, and cleans and invalidates it "
            "over workspace and outputs, before START (u-dma-buf: sync_for_device), and invalidates it "
            "over the outputs before it reads them (sync_for_cpu). On a coherent port (ACP, HPC) or "
            "uncached memory that is left out.",
            "Stream and constants may stay in memory for any number of launches; the device does not "
            "cache them beyond a launch. Segments of several networks may lie side by side; one launch "
            "runs at a time.",
        ),
        "Counters": (
            "They count one launch and hold their values until the next START or RESET. A 64-bit "
            "counter is read while STATE is not RUNNING; while it runs, the halves may belong to "
            "different moments.",
        ),
    }
)
"""Rules by title; the first of them is in order of time."""
