"""One line of text per instruction, and the assembler that reads it back.

    LOAD memory=WGT address=12 dram_offset=4096 n2=9 give=MATRIX   ; conv1

Fields that have their default are left out; enumerations and units are written by name, sets of units with
`+`. What follows `;` is the source layer, as a JSON string where its name has quotes in front or blanks other than
single spaces. A line with nothing before `;` is a comment.
"""

from __future__ import annotations

import difflib
import json
from collections.abc import Iterable, Sequence
from functools import cache

from tilewright.errors import EncodingError, Fault
from tilewright.targets.isa.codec import encode
from tilewright.targets.isa.spec import INSTRUCTIONS, FieldSpec, Instruction, Unit, layout

_KINDS = {kind.opcode.name: kind for kind in INSTRUCTIONS}
_TOKENS = ("wait", "give")


def line(instruction: Instruction, layer: str = "") -> str:
    """Write an instruction as one line of text."""
    kind = type(instruction)
    defaults = _defaults(kind.opcode.name)
    words = [kind.opcode.name]
    for spec in (*layout(kind)[len(_TOKENS) :], *layout(kind)[: len(_TOKENS)]):
        value = getattr(instruction, spec.name)
        if value != defaults[spec.name]:
            words.append(f"{spec.name}={_write(spec, value)}")
    text = " ".join(words)
    return f"{text}  ; {write_name(layer)}" if layer else text


def write_name(name: str) -> str:
    """A layer's name in a line of text: as it is, or a JSON string; names from models may hold line breaks."""
    return (
        name
        if name == " ".join(name.split()) and name.isprintable() and name[:1] != '"'
        else json.dumps(name)
    )


def read_name(text: str) -> str:
    """The name that :func:`write_name` wrote. Raises EncodingError for a string that does not end."""
    text = text.strip()
    if not text.startswith('"'):
        return text
    try:
        return str(json.loads(text))
    except json.JSONDecodeError as error:
        raise EncodingError(
            Fault(f"expected a name or a JSON string behind ;, found {text}: {error.msg}")
        ) from None


def listing(instructions: Iterable[Instruction], layers: Sequence[str] = ()) -> str:
    """Write a stream, one line an instruction, each ending in a newline."""
    named = enumerate(instructions)
    return "".join(line(x, layers[i] if layers else "") + "\n" for i, x in named)


def parse(text: str) -> tuple[Instruction, str]:
    """Read one line; returns the instruction and the source layer. Raises EncodingError with all faults."""
    body, _, name = text.partition(";")
    layer = read_name(name)
    mnemonic, *pairs = body.split() or [""]
    if mnemonic not in _KINDS:
        near = difflib.get_close_matches(mnemonic.upper(), _KINDS, n=1)
        message = f"unknown mnemonic {mnemonic!r}, legal are {', '.join(_KINDS)}"
        raise EncodingError(Fault(message, remedy=f"did you mean {near[0]}?" if near else ""))
    kind = _KINDS[mnemonic]
    specs = {spec.name: spec for spec in layout(kind)}
    values: dict[str, int] = {}
    faults: list[Fault] = []
    for pair in pairs:
        name, _, word = pair.partition("=")
        if name not in specs:
            near = difflib.get_close_matches(name, specs, n=1)
            hint = f"did you mean {near[0]}?" if near else ""
            faults.append(Fault(f"{mnemonic} has no field {name!r}", remedy=hint))
        elif name in values:
            faults.append(Fault("given twice", f"{mnemonic}.{name}"))
        else:
            value = _read(specs[name], word)
            values[name] = 0 if value is None else value
            if value is None:
                faults.append(
                    Fault(f"expected {_expected(specs[name])}, found {word!r}", f"{mnemonic}.{name}")
                )
    if faults:
        raise EncodingError(*faults)
    instruction = kind(**values)
    encode(instruction)  # checks the ranges
    return instruction, layer


def parse_listing(text: str, first: int = 1) -> tuple[list[Instruction], list[str]]:
    """Read a listing, skipping empty lines and comments; returns instructions and their layers.

    `first` is the number of its first line. Raises EncodingError with all faults, each with its line.
    """
    instructions: list[Instruction] = []
    layers: list[str] = []
    faults: list[Fault] = []
    for number, row in enumerate(text.split("\n"), 1):
        if not row.partition(";")[0].strip():
            continue
        try:
            instruction, layer = parse(row)
        except EncodingError as error:
            faults += (Fault(str(f), f"line {first + number - 1}") for f in error.faults)
            continue
        instructions.append(instruction)
        layers.append(layer)
    if faults:
        raise EncodingError(*faults)
    return instructions, layers


@cache
def _defaults(mnemonic: str) -> dict[str, int]:
    return dict(_KINDS[mnemonic]().__dict__)


def _write(spec: FieldSpec, value: int) -> str:
    if spec.name in _TOKENS:
        return "+".join(unit.name for unit in Unit if value >> unit & 1) or "0"
    return spec.bits.kind(value).name if spec.bits.kind is not None else str(value)


def _read(spec: FieldSpec, word: str) -> int | None:
    if spec.name in _TOKENS:
        names = [] if word == "0" else word.split("+")
        if not all(name in Unit.__members__ for name in names):
            return None
        return sum({1 << Unit[name] for name in names})
    if spec.bits.kind is not None:
        member = spec.bits.kind.__members__.get(word)
        return None if member is None else int(member)
    digits = word.removeprefix("-")
    return int(word) if digits.isascii() and digits.isdigit() and len(digits) <= 20 else None


def _expected(spec: FieldSpec) -> str:
    if spec.name in _TOKENS:
        return "units (" + "+".join(unit.name for unit in Unit) + ")"
    if spec.bits.kind is not None:
        return " or ".join(member.name for member in spec.bits.kind)
    return "an integer"
