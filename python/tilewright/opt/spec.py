"""`-p` texts: `fold_pad,(fold_constants,remove_dead)*,qdq_to_integer{acc_bits=27}` to rows of the registry.

    sequence := item {"," item}
    item     := name [ "{" option "=" value {"," option "=" value} "}" ] | "(" sequence ")*"

Names are those of passes, or of sequences, which stand for their items. A sequence in parentheses with a star is run
again and again until nothing changes.
"""

from __future__ import annotations

import difflib
import re
import types
import typing
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal, TypeAlias

from tilewright.errors import ConfigError, Fault, FaultList
from tilewright.opt.registry import PASSES, SEQUENCES, Option, PassRow
from tilewright.opt.state import Level
from tilewright.quantize.options import Mixed

_WHERE = "-p"
_TOKEN = re.compile(r"\s*(?:(?P<name>\w+)|(?P<braced>\{[^{}]*\})|(?P<mark>\)\s*\*|[(),{}*])|(?P<other>.))")
_EXAMPLE = "write for instance fold_constants,(fold_pad,remove_dead)*,quantise{bits=4}"


@dataclass(frozen=True)
class Call:
    """A pass with the options that were given."""

    row: PassRow
    options: Mapping[str, Any]

    def __str__(self) -> str:
        given = ",".join(f"{name}={_text(value)}" for name, value in self.options.items())
        return f"{self.row.name}{{{given}}}" if given else self.row.name


@dataclass(frozen=True)
class Repeat:
    """Passes that run until nothing changes."""

    items: tuple[Item, ...]

    def __str__(self) -> str:
        return f"({write(self.items)})*"


Item: TypeAlias = Call | Repeat


def write(items: Iterable[Item]) -> str:
    """The text of a sequence, with its names of sequences written out; :func:`parse` reads it back."""
    return ",".join(map(str, items))


def parse(text: str) -> tuple[Item, ...]:
    """Read a sequence. Raises ConfigError with all faults: unknown passes and options, values, missing brackets."""
    faults = FaultList()
    items = _Reader(text, faults).read()
    faults.raise_if_any(ConfigError)
    return items


def check_levels(items: Sequence[Item], level: Level) -> Level:
    """The level that a sequence leads to from `level`.

    Raises ConfigError with every pass that does not run at the level where it stands.
    """
    faults = FaultList()
    end = _check(items, level, faults, inside=False)
    faults.raise_if_any(ConfigError)
    return end


def _check(items: Sequence[Item], level: Level, faults: FaultList, inside: bool) -> Level:
    for item in items:
        if isinstance(item, Repeat):
            start = level
            level = _check(item.items, level, faults, inside=True)
            if level != start:
                faults.add(
                    f"a sequence that is repeated must end where it starts, found {start} to {level}",
                    where=_WHERE,
                    remedy="take the pass that changes the level out of the parentheses",
                )
            continue
        row = item.row
        if level in row.takes:
            level = row.gives or level
        elif not (inside and "float" in row.takes and level == "quantised"):
            # Of a repeated sequence those passes run that leave a quantised network's arithmetic alone.
            faults.add(
                f"{row.name} runs at level {' or '.join(row.takes)}, the network is at {level} there",
                where=_WHERE,
                remedy=_way(level, row.takes),
            )
            level = row.gives or row.takes[0]
    return level


def _way(start: Level, ends: Sequence[Level]) -> str:
    """Which passes lead from a level to one of others."""
    ways: dict[Level, tuple[str, ...]] = {start: ()}
    queue = [start]
    while queue:
        level = queue.pop(0)
        if level in ends:
            return f"put {', '.join(ways[level])} before it"
        for row in PASSES.values():
            if level in row.takes and row.gives and row.gives not in ways:
                ways[row.gives] = (*ways[level], row.name)
                queue.append(row.gives)
    return "no pass leads back up: put it earlier"


class _Reader:
    """Reads a sequence and notes what is wrong."""

    def __init__(self, text: str, faults: FaultList, names: tuple[str, ...] = ()) -> None:
        self.tokens = [m for m in _TOKEN.finditer(text) if m[0].strip()]
        self.at = 0
        self.faults = faults
        self.names = names

    def read(self) -> tuple[Item, ...]:
        items = self.sequence()
        if self.at < len(self.tokens):
            self.unexpected()
        return items

    def mark(self) -> str:
        """The next token with its blanks taken out, "" at the end."""
        return "".join(self.tokens[self.at][0].split()) if self.at < len(self.tokens) else ""

    def unexpected(self) -> None:
        found = f"{self.mark()!r} at character {self.tokens[self.at].end()}" if self.mark() else "the end"
        self.faults.add(f"expected a pass, found {found}", where=_WHERE, remedy=_EXAMPLE)
        self.at = len(self.tokens)

    def sequence(self) -> tuple[Item, ...]:
        items = self.item()
        while self.mark() == ",":
            self.at += 1
            items += self.item()
        return items

    def item(self) -> tuple[Item, ...]:
        if self.mark() == "(":
            self.at += 1
            inner = self.sequence()
            if self.mark() == ")*":
                self.at += 1
            elif self.at < len(self.tokens) or self.mark() == "":
                found = self.mark() or "the end"
                self.faults.add(
                    f"expected )* behind a sequence in parentheses, found {found!r}",
                    where=_WHERE,
                    remedy=_EXAMPLE,
                )
                self.at = len(self.tokens)
            return (Repeat(inner),)
        if self.at == len(self.tokens) or not self.tokens[self.at]["name"]:
            self.unexpected()
            return ()
        name = self.tokens[self.at]["name"]
        self.at += 1
        given = ""
        if self.at < len(self.tokens) and self.tokens[self.at]["braced"]:
            given = self.mark_raw()
        return self.called(name, given)

    def mark_raw(self) -> str:
        text = self.tokens[self.at]["braced"][1:-1]
        self.at += 1
        return str(text)

    def called(self, name: str, given: str) -> tuple[Item, ...]:
        if name in SEQUENCES:
            if given:
                self.faults.add(
                    f"{name} is a sequence and has no options",
                    where=_WHERE,
                    remedy="give them to one of its passes",
                )
            return _Reader(SEQUENCES[name], self.faults).read()
        row = PASSES.get(name)
        if row is None:
            self.faults.add(
                f"there is no pass {name!r}",
                where=_WHERE,
                remedy=near(name, (*PASSES, *SEQUENCES), "--list has all"),
            )
            return ()
        return (Call(row, self.options(row, given)),)

    def options(self, row: PassRow, given: str) -> dict[str, Any]:
        found: dict[str, Any] = {}
        for part in filter(None, (p.strip() for p in given.split(","))):
            name, _, text = (p.strip() for p in part.partition("="))
            where = f"{_WHERE} {row.name}"
            option = row.options.get(name)
            if option is None:
                known = f"it has {', '.join(row.options)}" if row.options else "it has none"
                self.faults.add(
                    f"there is no option {name!r}", where=where, remedy=near(name, row.options, known)
                )
            elif name in found:
                self.faults.add(f"{name} is given twice", where=where, remedy="leave one out")
            else:
                try:
                    found[name] = value_of(option.kind, text)
                except ValueError:
                    self.faults.add(
                        f"expected {option.type_text} for {name}, found {text!r}",
                        where=where,
                        remedy=f"the default is {_text(option.default)}",
                    )
                except ConfigError as error:
                    self.faults.faults += [Fault(f.message, where, f.remedy) for f in error.faults]
        return found


def near(name: str, known: Iterable[str], otherwise: str) -> str:
    """`did you mean X?`, or what there is."""
    close = difflib.get_close_matches(name, list(known), n=1)
    return f"did you mean {close[0]}?" if close else otherwise


def value_of(kind: Any, text: str) -> Any:
    """A text as a value of an annotation. Raises ValueError where it is none."""
    origin, arguments = typing.get_origin(kind), typing.get_args(kind)
    if origin is Literal:
        for choice in arguments:
            if str(choice) == text:
                return choice
        raise ValueError(text)
    if origin in (typing.Union, types.UnionType):
        if text == "none" and type(None) in arguments:
            return None
        (kind,) = (a for a in arguments if a is not type(None))
        return value_of(kind, text)
    if kind is bool:
        return {"true": True, "false": False}[text] if text in ("true", "false") else _no(text)
    if kind is int:
        return int(text) if re.fullmatch(r"-?[0-9]{1,18}", text) else _no(text)
    if kind is float:
        return float(text)
    if kind is Mixed:
        return Mixed.parse(text)
    return kind(text) if text else _no(text)


def _no(text: str) -> Any:
    raise ValueError(text)


def _text(value: Any) -> str:
    """A value as it is written."""
    if value is None:
        return "none"
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, Mixed):
        return f"points={value.points:g}" if value.points is not None else f"width={value.width:g}"
    return str(value)


def describe(option: Option) -> str:
    """`bits: int = 8`, for lists."""
    return f"{option.name}: {option.type_text} = {_text(option.default)}"
