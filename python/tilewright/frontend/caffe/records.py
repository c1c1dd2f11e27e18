"""Give a prototxt's tree its types: every value checked against `schema.py`, all faults at once."""

from __future__ import annotations

import difflib
import math
from dataclasses import dataclass, field

from tilewright.errors import FaultList
from tilewright.frontend.caffe.schema import ENUMS, MESSAGES, FieldType
from tilewright.frontend.caffe.text import Block, Field, Scalar

Value = int | float | bool | str
_BOOL = {"true": True, "t": True, "1": True, "false": False, "f": False, "0": False}
_RANGE = {"int": (-(1 << 63), (1 << 63) - 1), "uint": (0, (1 << 32) - 1)}
_LONGEST_NUMBER = 60  # characters; Python refuses to convert integers of thousands of digits


@dataclass
class Record:
    """One message: its values by field, and the fields that the schema does not know.

    Getters return the schema's default where the file is silent; asking for a field that the schema does not
    have is a bug of ours and raises KeyError.
    """

    message: str
    line: int = 0
    values: dict[str, list[Value]] = field(default_factory=dict)
    records: dict[str, list[Record]] = field(default_factory=dict)
    unknown: list[Field] = field(default_factory=list)

    def _type(self, name: str) -> FieldType:
        return MESSAGES[self.message][name]

    def has(self, name: str) -> bool:
        """Whether the file gives the field."""
        return bool(self._type(name)) and bool(self.values.get(name) or self.records.get(name))

    def _one(self, name: str) -> Value:
        values = self.values.get(name)
        return values[0] if values else self._type(name).default

    def integer(self, name: str) -> int:
        """Value of an int or uint field."""
        return int(self._one(name))

    def integers(self, name: str) -> list[int]:
        """Values of a repeated int or uint field."""
        self._type(name)
        return [int(v) for v in self.values.get(name, [])]

    def number(self, name: str) -> float:
        """Value of a float field."""
        return float(self._one(name))

    def numbers(self, name: str) -> list[float]:
        """Values of a repeated float field."""
        self._type(name)
        return [float(v) for v in self.values.get(name, [])]

    def flag(self, name: str) -> bool:
        """Value of a bool field."""
        return bool(self._one(name))

    def word(self, name: str) -> str:
        """Value of a str or enum field."""
        return str(self._one(name))

    def words(self, name: str) -> list[str]:
        """Values of a repeated str field."""
        self._type(name)
        return [str(v) for v in self.values.get(name, [])]

    def child(self, name: str) -> Record:
        """A message field, or an empty message (all defaults) where the file has none."""
        children = self.children(name)
        return children[0] if children else Record(self._type(name).target, self.line)

    def children(self, name: str) -> list[Record]:
        """A repeated message field."""
        self._type(name)
        return self.records.get(name, [])

    def unknown_fields(self, path: str = "") -> list[tuple[str, int]]:
        """Unknown fields here and below, as (path, line)."""
        found = [(path + f.name, f.line) for f in self.unknown]
        for name, records in self.records.items():
            for record in records:
                found += record.unknown_fields(f"{path}{name}.")
        return found


def suggest(word: str, known: list[str]) -> str:
    """A remedy naming the most similar known word, or nothing.

    >>> suggest("ConvolutoinDepthwise", ["Pooling", "ConvolutionDepthwise"])
    "did you mean 'ConvolutionDepthwise'?"
    """
    if len(known) > 300:  # a search among thousands of names, for thousands of faults, takes minutes
        return ""
    close = difflib.get_close_matches(word, known, n=1)
    return f"did you mean {close[0]!r}?" if close else ""


def _scalar(row: FieldType, scalar: Scalar) -> Value | str:
    """The value, or raises ValueError with what was expected."""
    text = scalar.text
    if row.kind == "str":
        if scalar.kind != "string":
            raise ValueError("a quoted string")
        return text
    if row.kind == "enum":
        words = ENUMS[row.target]
        if scalar.kind == "word" and text in words:
            return text
        for word, number in words.items():
            if scalar.kind == "number" and text == str(number):
                return word
        raise ValueError(f"one of {', '.join(words)}")
    if row.kind == "bool":
        if scalar.kind == "string" or text not in _BOOL:
            raise ValueError("true or false")
        return _BOOL[text]
    if scalar.kind == "string" or len(text) > _LONGEST_NUMBER:
        raise ValueError("a number")
    if row.kind == "float":
        return _float(text)
    return _integer(row.kind, text)


def _float(text: str) -> float:
    try:
        number = float(text.rstrip("fF")) if not text.lower().startswith("0x") else float(int(text, 16))
    except ValueError:
        raise ValueError("a number") from None
    if not math.isfinite(number) or abs(number) > 3.4028235e38:
        raise ValueError("a finite 32-bit number")
    return number


def _integer(kind: str, text: str) -> int:
    low, high = _RANGE[kind]
    digits = text.lstrip("-")
    base = 16 if digits[:2] in ("0x", "0X") else 8 if len(digits) > 1 and digits[0] == "0" else 10
    expected = "an integer" if kind == "int" else f"an integer of 0..{high}"
    try:
        number = int(text, base)
    except ValueError:
        raise ValueError(expected) from None
    if not low <= number <= high:
        raise ValueError(expected)
    return number


def to_record(block: Block, message: str, faults: FaultList, where: str) -> Record:
    """Check a block against a message of the schema.

    Args:
        faults: gets one fault for each value of a wrong type and each single field given twice.
        where: the file, for the faults.

    Recursion follows the schema, whose messages nest five deep, and not the input.
    """
    rows = MESSAGES[message]
    record = Record(message, block.line)
    for entry in block.fields:
        row = rows.get(entry.name)
        place = f"{where}, line {entry.line}"
        if row is None:
            record.unknown.append(entry)
            continue
        if row.kind == "any":
            continue
        if row.kind == "message":
            if not isinstance(entry.value, Block):
                faults.add(f"field {entry.name!r}: expected a block {{ ... }}, found a value", where=place)
                continue
            children = record.records.setdefault(entry.name, [])
            children.append(to_record(entry.value, row.target, faults, where))
            given = len(children)
        else:
            if isinstance(entry.value, Block):
                faults.add(f"field {entry.name!r}: expected a value, found a block {{ ... }}", where=place)
                continue
            try:
                value = _scalar(row, entry.value)
            except ValueError as error:
                faults.add(
                    f"field {entry.name!r}: expected {error}, found {entry.value.text[:40]!r}", where=place
                )
                continue
            values = record.values.setdefault(entry.name, [])
            values.append(value)
            given = len(values)
        if given == 2 and not row.repeated:
            faults.add(f"field {entry.name!r} of {message} is given twice", where=place)
    return record
