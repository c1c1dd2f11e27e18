"""The instruction table as a C++17 header; `python -m tilewright.targets.isa.header` prints it.

`targets/isa/isa.h` is this text (a test holds them equal). Each instruction becomes a struct of integers with
a function that decodes it from 64 bytes; a table of names, ranges and meanings serves messages.
"""

from __future__ import annotations

import enum
import sys

from tilewright.targets.isa.spec import (
    INSTRUCTION_BITS,
    INSTRUCTION_BYTES,
    INSTRUCTIONS,
    OPCODE_BITS,
    RECORD_BYTES,
    TOKEN_MAX,
    Base,
    FieldSpec,
    Instruction,
    Loop,
    Memory,
    Opcode,
    Source,
    Unit,
    VectorOp,
    layout,
)

_ENUMS: tuple[type[enum.IntEnum], ...] = (Unit, Opcode, Memory, Base, VectorOp, Source, Loop)

_PROLOGUE = f"""\
// The instruction set of the Tilewright machine. Printed by `python -m tilewright.targets.isa.header`
// from targets/isa/spec.py, which tells what the instructions do; do not edit.
#ifndef TILEWRIGHT_TARGETS_ISA_ISA_H_
#define TILEWRIGHT_TARGETS_ISA_ISA_H_

#include <cstddef>
#include <cstdint>

namespace tilewright {{
namespace isa {{

constexpr int kInstructionBits = {INSTRUCTION_BITS};
constexpr int kInstructionBytes = {INSTRUCTION_BYTES};
constexpr int kOpcodeBits = {OPCODE_BITS};
constexpr int kRecordBytes = {RECORD_BYTES};
constexpr int kTokenMax = {TOKEN_MAX};

// A field: the bits [offset, offset + width) of an instruction, bit 0 the lowest of byte 0.
struct Field {{
  const char* name;
  int offset;
  int width;
  bool is_signed;
  std::int64_t lo;  // smallest legal value
  std::int64_t hi;  // largest legal value
  const char* doc;
}};

// Bits [offset, offset + width) of 64 little-endian bytes, width <= 32.
inline std::uint64_t GetBits(const std::uint8_t* bytes, int offset, int width) {{
  std::uint64_t value = 0;
  const int last = (offset + width - 1) / 8;
  for (int i = last; i >= offset / 8; --i) value = value << 8 | bytes[i];
  return value >> (offset % 8) & ((std::uint64_t{{1}} << width) - 1);
}}

inline std::int64_t GetSigned(const std::uint8_t* bytes, int offset, int width) {{
  const std::uint64_t value = GetBits(bytes, offset, width);
  const std::uint64_t sign = std::uint64_t{{1}} << (width - 1);
  return static_cast<std::int64_t>(value ^ sign) - static_cast<std::int64_t>(sign);
}}

inline int GetOpcode(const std::uint8_t* bytes) {{
  return static_cast<int>(GetBits(bytes, 0, kOpcodeBits));
}}
"""

_EPILOGUE = """
}  // namespace isa
}  // namespace tilewright

#endif  // TILEWRIGHT_TARGETS_ISA_ISA_H_
"""


def header() -> str:
    """The text of isa.h."""
    parts = [_PROLOGUE, *map(_enumeration, _ENUMS), *map(_structure, INSTRUCTIONS), _EPILOGUE]
    return "".join(parts)


def _enumeration(kind: type[enum.IntEnum]) -> str:
    rows = "".join(f"  k{_camel(m.name)} = {int(m)},\n" for m in kind)
    names = ", ".join(f'"{m.name}"' for m in kind)
    first = min(kind)
    return (
        f"\nenum class {kind.__name__} : std::uint8_t {{\n{rows}}};\n"
        f"constexpr int k{kind.__name__}First = {int(first)};\n"
        f"constexpr const char* k{kind.__name__}Names[] = {{{names}}};  // from k{kind.__name__}First up\n"
    )


def _structure(kind: type[Instruction]) -> str:
    name = kind.__name__
    specs = layout(kind)
    members = "".join(f"  {_type(s)} {s.name};  // {s.bits.doc}\n" for s in specs)
    reads = "".join(f"  x.{s.name} = {_read(s)};\n" for s in specs)
    rows = "".join(
        f'    {{"{s.name}", {s.offset}, {s.bits.width}, {str(s.bits.signed).lower()}, '
        f'{_least(s)}, {_most(s)}, "{s.bits.doc}"}},\n'
        for s in specs
    )
    end = specs[-1].offset + specs[-1].bits.width
    return (
        f"\nstruct {name} {{\n{members}}};\n"
        f"\nconstexpr int k{name}Bits = {end};  // those from here up are 0\n"
        f"\ninline {name} Decode{name}(const std::uint8_t* bytes) {{\n  {name} x;\n{reads}  return x;\n}}\n"
        f"\nconstexpr Field k{name}Fields[] = {{\n{rows}}};\n"
    )


def _least(spec: FieldSpec) -> int:
    return min(spec.bits.kind) if spec.bits.kind is not None else spec.bits.lo


def _most(spec: FieldSpec) -> int:
    return max(spec.bits.kind) if spec.bits.kind is not None else spec.bits.hi


def _type(spec: FieldSpec) -> str:
    if spec.bits.signed:
        return "std::int32_t"
    return "std::uint32_t"


def _read(spec: FieldSpec) -> str:
    get = "GetSigned" if spec.bits.signed else "GetBits"
    return f"static_cast<{_type(spec)}>({get}(bytes, {spec.offset}, {spec.bits.width}))"


def _camel(name: str) -> str:
    return "".join(part.capitalize() for part in name.split("_"))


if __name__ == "__main__":
    sys.stdout.write(header())
