"""Instructions to bytes and back, with every field checked on both ways.

Range errors have the form `LOAD.n0: 70000 does not fit 12 bits (1..4095); outer count`.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from operator import index

import numpy as np
from numpy.typing import NDArray

from tilewright.errors import EncodingError, Fault
from tilewright.targets.isa.spec import (
    INSTRUCTION_BYTES,
    INSTRUCTIONS,
    OPCODE_BITS,
    Bits,
    FieldSpec,
    Instruction,
    Matrix,
    Unit,
    layout,
)

WORDS = INSTRUCTION_BYTES // 8
MAX_FAULTS = 20
"""Faults listed of one stream; damaged bytes would give thousands."""

_BY_OPCODE: dict[int, type[Instruction]] = {int(kind.opcode): kind for kind in INSTRUCTIONS}
_ORDERS = [f"order_{i}" for i in range(6)]


def _legal(bits: Bits) -> range | frozenset[int]:
    return range(bits.lo, bits.hi + 1) if bits.kind is None else frozenset(int(m) for m in bits.kind)


_ROWS = {
    kind: [(s.name, s.offset, (1 << s.bits.width) - 1, _legal(s.bits)) for s in layout(kind)]
    for kind in INSTRUCTIONS
}


def encode(instruction: Instruction, layer: str = "") -> bytes:
    """Encode one instruction to 64 bytes; `layer` is named in errors. Raises EncodingError."""
    kind = type(instruction)
    word = int(kind.opcode)
    values: dict[str, int] = {}
    good = True
    for name, offset, mask, legal in _ROWS[kind]:
        # As a Python integer: a NumPy one would lose its bits when shifted by more than 63.
        values[name] = value = index(getattr(instruction, name))
        good = good and value in legal
        word |= (value & mask) << offset
    faults = [] if good else list(_range_faults(kind, values, layer))
    faults += _rule_faults(kind, values, layer)
    if faults:
        raise EncodingError(*faults)
    return word.to_bytes(INSTRUCTION_BYTES, "little")


def encode_stream(instructions: Iterable[Instruction], layers: Sequence[str] = ()) -> bytes:
    """Encode a stream; `layers`, where given, names each instruction's source layer. Raises EncodingError."""
    parts: list[bytes] = []
    faults: list[Fault] = []
    for i, instruction in enumerate(instructions):
        try:
            parts.append(encode(instruction, layers[i] if layers else ""))
        except EncodingError as error:
            faults += (Fault(f.message, f"instruction {i}: {f.where}", f.remedy) for f in error.faults)
    _raise(faults)
    return b"".join(parts)


def decode(data: bytes) -> Instruction:
    """Decode 64 bytes. Raises EncodingError with all faults."""
    if len(data) != INSTRUCTION_BYTES:
        raise EncodingError(f"an instruction has {INSTRUCTION_BYTES} bytes, found {len(data)}")
    return decode_stream(data)[0]


def decode_stream(data: bytes) -> list[Instruction]:
    """Decode a stream. Raises EncodingError with up to 20 faults, each naming the instruction's index."""
    if len(data) % INSTRUCTION_BYTES:
        raise EncodingError(
            f"a stream is a multiple of {INSTRUCTION_BYTES} bytes, found {len(data)}; is it cut off?"
        )
    words = np.frombuffer(data, dtype="<u8").reshape(-1, WORDS)
    opcodes = (words[:, 0] & ((1 << OPCODE_BITS) - 1)).astype(np.int64)
    faults: list[tuple[int, Fault]] = []
    for i in np.flatnonzero(~np.isin(opcodes, list(_BY_OPCODE)))[:MAX_FAULTS].tolist():
        legal = ", ".join(f"{int(k.opcode)} {k.opcode.name}" for k in INSTRUCTIONS)
        faults.append((i, Fault(f"{opcodes[i]} is not an operation (legal are {legal})", "opcode")))
    result: list[Instruction | None] = [None] * len(words)
    for opcode, kind in _BY_OPCODE.items():
        rows = np.flatnonzero(opcodes == opcode)
        if not rows.size:
            continue
        columns, bad = _columns(kind, words[rows])
        names = [spec.name for spec in layout(kind)]
        for r in np.flatnonzero(bad)[:MAX_FAULTS].tolist():
            values = {name: int(column[r]) for name, column in zip(names, columns, strict=True)}
            found = [*_range_faults(kind, values, ""), *_rule_faults(kind, values, "")]
            found += _unused_faults(kind, words[rows[r]])
            faults += ((int(rows[r]), f) for f in found)
        for i, *row in zip(rows.tolist(), *(column.tolist() for column in columns), strict=True):
            result[i] = _make(kind, names, row)
    faults.sort(key=lambda f: f[0])
    _raise([Fault(f.message, f"instruction {i}: {f.where}", f.remedy) for i, f in faults])
    return [instruction for instruction in result if instruction is not None]


def range_fault(kind: type[Instruction], spec: FieldSpec, value: int, layer: str = "") -> Fault:
    """Say that a field's value is out of its range."""
    bits = spec.bits
    if bits.kind is not None and 0 <= value < 1 << bits.width:
        legal = ", ".join(f"{int(m)} {m.name}" for m in bits.kind)
        message = f"{value} is not a {bits.kind.__name__} (legal are {legal})"
    else:
        message = f"{value} does not fit {bits.width} bits ({bits.lo}..{bits.hi})"
    return Fault(message, f"{kind.opcode.name}.{spec.name}", bits.doc + (f", layer {layer}" if layer else ""))


def _range_faults(kind: type[Instruction], values: dict[str, int], layer: str) -> Iterable[Fault]:
    for spec in layout(kind):
        if values[spec.name] not in _legal(spec.bits):
            yield range_fault(kind, spec, values[spec.name], layer)


def _rule_faults(kind: type[Instruction], values: dict[str, int], layer: str) -> list[Fault]:
    """What a range does not say: enumerations, the unit's own tokens and the order of MATRIX's counters."""
    faults: list[Fault] = []
    behind = f", layer {layer}" if layer else ""
    name = kind.opcode.name
    own = _own_bits(kind)
    for field in ("wait", "give"):
        if values[field] & own:
            units = "+".join(u.name for u in Unit if values[field] >> u & 1)
            rule = "must be 0, for it has no unit" if kind.unit is None else "names the unit itself"
            faults.append(Fault(f"{values[field]} ({units}) {rule}{behind}", f"{name}.{field}"))
    if kind is Matrix:
        order = [int(values[field]) for field in _ORDERS]
        if sorted(order) != list(range(6)):
            message = f"{order} must hold each of 0..5 once"
            faults.append(Fault(message, f"{name}.order_0..5", f"counters, outermost first{behind}"))
    return faults


def _own_bits(kind: type[Instruction]) -> int:
    """The bits of `wait` and `give` that must be 0."""
    return (1 << len(Unit)) - 1 if kind.unit is None else 1 << kind.unit


def _unused_faults(kind: type[Instruction], words: NDArray[np.uint64]) -> list[Fault]:
    last = layout(kind)[-1]
    rest = int.from_bytes(words.tobytes(), "little") >> (last.offset + last.bits.width)
    if not rest:
        return []
    where = f"{kind.opcode.name} bits from {last.offset + last.bits.width} up"
    return [Fault(f"must be 0, found {rest:#x}", where)]


def _columns(
    kind: type[Instruction], words: NDArray[np.uint64]
) -> tuple[list[NDArray[np.int64]], NDArray[np.bool_]]:
    """Take the fields of many instructions out of their 64-bit words; mark the faulty instructions."""
    columns: list[NDArray[np.int64]] = []
    bad = np.zeros(len(words), bool)
    end = OPCODE_BITS
    for spec in layout(kind):
        column = _column(spec, words)
        bits = spec.bits
        bad |= (column < bits.lo) | (column > bits.hi)
        if bits.kind is not None and len(bits.kind) < 1 << bits.width:
            bad |= ~np.isin(column, list(bits.kind))
        if spec.name in ("wait", "give"):
            bad |= (column & _own_bits(kind)) != 0
        columns.append(column)
        end = spec.offset + bits.width
    word, bit = divmod(end, 64)
    if word < words.shape[1]:
        bad |= (words[:, word] >> np.uint64(bit)) != 0
    bad |= words[:, word + 1 :].any(axis=1)
    if kind is Matrix:
        names = [spec.name for spec in layout(kind)]
        order = np.stack([columns[names.index(field)] for field in _ORDERS], axis=1)
        bad |= (np.sort(order, axis=1) != np.arange(6)).any(axis=1)
    return columns, bad


def _column(spec: FieldSpec, words: NDArray[np.uint64]) -> NDArray[np.int64]:
    word, bit = divmod(spec.offset, 64)
    width = spec.bits.width
    value = words[:, word] >> np.uint64(bit)
    if bit + width > 64:
        value = value | (words[:, word + 1] << np.uint64(64 - bit))
    column = (value & np.uint64((1 << width) - 1)).astype(np.int64)
    if spec.bits.signed:
        column -= (column >> (width - 1)) << width
    return column


def _make(kind: type[Instruction], names: list[str], values: list[int]) -> Instruction:
    # Past the constructor, which sets each field of a frozen dataclass through object.__setattr__: ten times
    # the time.
    instruction = object.__new__(kind)
    instruction.__dict__.update(zip(names, values, strict=True))
    return instruction


def _raise(faults: list[Fault]) -> None:
    if not faults:
        return
    shown = faults[:MAX_FAULTS]
    if len(faults) > MAX_FAULTS:
        shown.append(Fault(f"and {len(faults) - MAX_FAULTS} more"))
    raise EncodingError(*shown)
