"""The registers as C++ header and as manual; `python -m tilewright.targets.register_text` writes both files.

A test holds the files equal to `header()` and `manual()`.
"""

from __future__ import annotations

import enum
import textwrap
from pathlib import Path

from tilewright.targets.registers import (
    ALIGNMENT,
    CONFIG_OFFSET,
    CONTRACT,
    ERRORS,
    HASH_WORDS,
    MAGIC,
    PAGE_BYTES,
    REGISTERS,
    RULES,
    TEXT_BYTES,
    Control,
    State,
    UnitState,
    config_fields,
)

FOLDER = Path(__file__).parent
HEADER = FOLDER / "board/native/include/tilewright/registers.h"
MANUAL = FOLDER / "registers.md"


def header() -> str:
    """The text of registers.h."""
    offsets = "".join(
        f"constexpr std::uint32_t k{_camel(r.name)} = 0x{r.offset:03x};"
        f"  // {r.owner}{f', {r.bits} bits' if r.bits == 64 else ''}{f', {r.count}' if r.count > 1 else ''}: {r.doc}\n"
        for r in REGISTERS
    )
    enums = "".join(_enumeration(kind) for kind in (Control, State, UnitState))
    errors = "".join(f'    {{{e.value}, "{e.name}", "{e.meaning}"}},\n' for e in ERRORS)
    codes = "".join(f"  k{_camel(e.name)} = {e.value},\n" for e in ERRORS)
    fields = "".join(
        f'    {{"{f.name}", {f.word}, {f.words}, {str(f.text).lower()}}},\n' for f in config_fields()
    )
    return f"""\
// The registers of the accelerator. Written by `python -m tilewright.targets.register_text` from targets/registers.py;
// targets/registers.md tells the rules; do not edit.
#ifndef TILEWRIGHT_REGISTERS_H_
#define TILEWRIGHT_REGISTERS_H_

#include <cstdint>

namespace tilewright {{
namespace registers {{

constexpr std::uint32_t kPageBytes = {PAGE_BYTES};
constexpr std::uint32_t kMagicValue = 0x{MAGIC:08x};
constexpr std::uint32_t kContractValue = {CONTRACT};
constexpr std::uint32_t kAlignment = {ALIGNMENT};  // bytes, of streams and segments

// Offsets in bytes. A 64-bit value is two registers, the low half first.
{offsets}
{enums}
enum class Error : std::uint32_t {{
{codes}}};

struct ErrorName {{
  std::uint32_t code;
  const char* name;
  const char* meaning;
}};
constexpr ErrorName kErrors[] = {{
{errors}}};

// CONFIG: the SHA-256 of the overlay in the first words, then its fields, texts filled up with zeros.
constexpr std::uint32_t kHashWords = {HASH_WORDS};
struct ConfigField {{
  const char* name;
  int word;
  int words;
  bool text;  // else a signed integer
}};
constexpr ConfigField kConfigFields[] = {{
{fields}}};
constexpr std::uint32_t kConfigWordsValue = {_config_words()};

}}  // namespace registers
}}  // namespace tilewright

#endif  // TILEWRIGHT_REGISTERS_H_
"""


def manual() -> str:
    """The text of registers.md."""
    rows = "".join(
        f"| 0x{r.offset:03x} | {r.name}{f'[{r.count}]' if r.count > 1 else ''} | {r.bits} | {r.owner} | {r.doc} |\n"
        for r in REGISTERS
    )
    errors = "".join(
        f"| {e.value} | {e.name} | {'yes' if e.hardware else 'no'} | {e.meaning} |\n" for e in ERRORS
    )
    fields = f"| 0x{CONFIG_OFFSET:03x} | hash | SHA-256 of the overlay, 32 bytes |\n" + "".join(
        f"| 0x{CONFIG_OFFSET + 4 * f.word:03x} | {f.name} | "
        f"{f'text of {TEXT_BYTES} bytes, zeros behind' if f.text else 'signed 32 bits'} |\n"
        for f in config_fields()
    )
    rules = ""
    for title, items in RULES.items():
        rules += f"\n## {title}\n\n"
        for number, item in enumerate(items, 1):
            mark = f"{number}. "
            rules += textwrap.fill(item, 116, initial_indent=mark, subsequent_indent=" " * len(mark)) + "\n"
    return f"""\
# The registers of the accelerator

Written by `python -m tilewright.targets.register_text` from `registers.py`; do not edit. The block is one page of 4 KiB
on AXI4-Lite, read and written 32 bits at a time, little-endian; what the table does not name reads 0. 64-bit values are
two registers, the low half first. Each register has one owner, who alone changes it (but CONTROL, which the host sets
and the device clears). All are 0 after a reset, but for those that name a constant.

| offset | register | bits | written by | |
|---|---|---|---|---|
{rows}
## CONFIG

The overlay that the bitstream was built from. The host compares it with the one that a package was compiled for: the
hash first, and the fields where it differs, to name them.

| offset | field | |
|---|---|---|
{fields}
## Errors

What the RTL must find, and what only simulators look for: a stream of the compiler has none of them.

| code | name | in hardware | meaning |
|---|---|---|---|
{errors}{rules}"""


def _config_words() -> int:
    last = config_fields()[-1]
    return last.word + last.words


def _enumeration(kind: type[enum.IntEnum] | type[enum.IntFlag]) -> str:
    rows = "".join(f"  k{_camel(str(m.name))} = {int(m)},\n" for m in kind)
    names = ", ".join(f'"{m.name}"' for m in kind)
    listed = (
        ""
        if issubclass(kind, enum.Flag)
        else f"constexpr const char* k{kind.__name__}Names[] = {{{names}}};\n"
    )
    return f"\nenum class {kind.__name__} : std::uint32_t {{\n{rows}}};\n{listed}"


def _camel(name: str) -> str:
    return "".join(part.capitalize() for part in name.split("_"))


def main() -> None:
    """Write both files."""
    HEADER.write_text(header(), encoding="utf-8")
    MANUAL.write_text(manual(), encoding="utf-8")


if __name__ == "__main__":
    main()
