"""Read protobuf text (prototxt) into a tree of blocks and scalars, with line numbers.

The tree knows nothing of Caffe: old files are upgraded on it (`upgrade.py`) before it is given types
(`records.py`). protobuf's own text parser stops at the first fault, skips unknown fields without a word and
recurses with the input, so files from the field need this one. Its grammar is the one of the protobuf text
format specification, without extensions and `Any` expansion, which Caffe does not use.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal, NamedTuple

from tilewright.errors import Fault, ModelError

MAX_BYTES = 16 << 20
"""Longest prototxt read, in bytes: the largest published ones have 0.2 MB."""

MAX_DEPTH = 64
"""Deepest nesting of blocks read: Caffe's own messages nest 5 deep."""


@dataclass(frozen=True)
class Scalar:
    """A value: a quoted string (unescaped), a number, or a bare word (enum, true, inf)."""

    text: str
    kind: Literal["string", "number", "word"]


@dataclass(frozen=True)
class Field:
    """`name: value` or `name { ... }` at a line (from 1) of the file."""

    name: str
    value: Scalar | Block
    line: int


@dataclass
class Block:
    """The fields between two braces, in the order of the file."""

    fields: list[Field] = field(default_factory=list)
    line: int = 1

    def named(self, name: str) -> list[Field]:
        """All fields of a name, in order."""
        return [f for f in self.fields if f.name == name]

    def blocks(self, name: str) -> Iterator[Block]:
        """All blocks of a name, in order; scalars of that name are left out."""
        return (f.value for f in self.fields if f.name == name and isinstance(f.value, Block))

    def scalar(self, name: str) -> str | None:
        """Text of the first scalar of a name, or None."""
        return next((f.value.text for f in self.named(name) if isinstance(f.value, Scalar)), None)

    def without(self, names: Iterable[str]) -> list[Field]:
        """All fields but those of the given names."""
        dropped = set(names)
        return [f for f in self.fields if f.name not in dropped]


class _Token(NamedTuple):
    kind: str
    text: str
    line: int


_TOKEN = re.compile(
    r"""(?P<skip>[\s\ufeff]+|\#[^\n]*)
      | (?P<string>"(?:[^"\\\n]|\\.)*"|'(?:[^'\\\n]|\\.)*')
      | (?P<number>-?\s*(?:0[xX][0-9a-fA-F]+|(?:\d+(?:\.\d*)?|\.\d+)(?:[eE][+-]?\d+)?[fF]?))(?![\w.])
      | (?P<word>-?\s*[A-Za-z_][\w.]*)
      | (?P<mark>[{}<>:;,\[\]])""",
    re.VERBOSE,
)
_ESCAPE = re.compile(r"\\(?:([0-7]{1,3})|[xX]([0-9a-fA-F]{1,2})|(.))", re.DOTALL)
_ESCAPED = {"n": "\n", "r": "\r", "t": "\t", "a": "\a", "b": "\b", "f": "\f", "v": "\v"}
_CLOSES = {"{": "}", "<": ">"}


def _unescape(match: re.Match[str]) -> str:
    octal, hexadecimal, char = match.groups()
    if octal or hexadecimal:
        return chr(int(octal, 8) if octal else int(hexadecimal, 16))
    return _ESCAPED.get(char, char)


def _tokens(text: str, where: str) -> list[_Token]:
    found: list[_Token] = []
    position, line = 0, 1
    while position < len(text):
        match = _TOKEN.match(text, position)
        if match is None:
            raise ModelError(
                Fault(
                    f"expected a field of protobuf text, found {text[position : position + 20]!r}",
                    f"{where}, line {line}",
                    "check that the file is a prototxt",
                )
            )
        kind, piece = match.lastgroup or "", match.group()
        if kind == "string":
            found.append(_Token(kind, _ESCAPE.sub(_unescape, piece[1:-1]), line))
        elif kind != "skip":
            found.append(_Token(kind, "".join(piece.split()), line))
        line += piece.count("\n")
        position = match.end()
    return found


class _Parser:
    """One pass over the tokens with an explicit stack: the depth of the input is not ours."""

    def __init__(self, tokens: list[_Token], where: str) -> None:
        self.tokens, self.where, self.at = tokens, where, 0

    def fail(self, expected: str, token: _Token | None) -> ModelError:
        found = f"found {token.text[:40]!r}" if token else "found the end of the file"
        line = token.line if token else (self.tokens[-1].line if self.tokens else 1)
        remedy = "" if token else "the file may be cut short"
        return ModelError(Fault(f"expected {expected}, {found}", f"{self.where}, line {line}", remedy))

    def peek(self) -> _Token | None:
        return self.tokens[self.at] if self.at < len(self.tokens) else None

    def take(self) -> _Token | None:
        token = self.peek()
        self.at += 1
        return token

    def takes(self, marks: str) -> _Token | None:
        token = self.peek()
        if token and token.kind == "mark" and token.text in marks:
            self.at += 1
            return token
        return None

    def scalar(self, name: str) -> Scalar:
        token = self.take()
        if token is None or token.kind == "mark":
            raise self.fail(f"a value of field {name!r}", token)
        if token.kind == "string":  # neighbouring literals are one string, as in C
            parts = [token.text]
            while (following := self.peek()) and following.kind == "string":
                parts.append(following.text)
                self.at += 1
            return Scalar("".join(parts), "string")
        return Scalar(token.text, "number" if token.kind == "number" else "word")

    def parse(self) -> Block:
        root = Block()
        stack: list[tuple[Block, str]] = [(root, "")]
        while True:
            block, close = stack[-1]
            token = self.take()
            if token is None:
                if close:
                    raise self.fail(f"{close!r} for the block opened in line {block.line}", None)
                return root
            if close and token.kind == "mark" and token.text == close:
                stack.pop()
                self.takes(";,")
                continue
            if token.kind != "word":
                raise self.fail("a field name", token)
            self._value(token, stack)

    def _value(self, name: _Token, stack: list[tuple[Block, str]]) -> None:
        colon = self.takes(":")
        opened = self.takes("{<")
        if opened:
            self._open(name, opened.text, stack)
            return
        if not colon:
            raise self.fail(f"':' or '{{' after {name.text!r}", self.peek())
        block = stack[-1][0]
        if not self.takes("["):
            block.fields.append(Field(name.text, self.scalar(name.text), name.line))
        elif (opened := self.peek()) and opened.kind == "mark" and opened.text in "{<":
            raise ModelError(
                Fault(
                    f"a list of blocks for field {name.text!r} is not read",
                    f"{self.where}, line {name.line}",
                    f"write `{name.text} {{ ... }}` once for each",
                )
            )
        elif not self.takes("]"):
            while True:
                block.fields.append(Field(name.text, self.scalar(name.text), name.line))
                if self.takes("]"):
                    break
                if not self.takes(","):
                    raise self.fail(f"',' or ']' in the list of field {name.text!r}", self.peek())
        self.takes(";,")

    def _open(self, name: _Token, mark: str, stack: list[tuple[Block, str]]) -> None:
        if len(stack) > MAX_DEPTH:
            raise ModelError(Fault(f"blocks nest deeper than {MAX_DEPTH}", f"{self.where}, line {name.line}"))
        block = Block(line=name.line)
        stack[-1][0].fields.append(Field(name.text, block, name.line))
        stack.append((block, _CLOSES[mark]))


def parse_text(text: str, where: str = "prototxt") -> Block:
    """Parse protobuf text; `where` names it in faults.

    Raises:
        ModelError: the text does not follow the grammar; names the line.

    >>> parse_text("layer { name: 'a' top: ['x', 'y'] }").fields[0].value.scalar("name")
    'a'
    """
    return _Parser(_tokens(text, where), where).parse()


def read_text(path: Path) -> Block:
    """Read and parse a prototxt.

    Bytes that are not UTF-8 are replaced: they stand in comments of files from the field.

    Raises:
        ModelError: no such file, not text, empty, longer than `MAX_BYTES`, or not protobuf text.
    """
    where = str(path)
    data = read_bytes(path, MAX_BYTES, "a prototxt")
    if not data.strip():
        raise ModelError(Fault("the file is empty", where, "give the network's prototxt"))
    if b"\0" in data:
        raise ModelError(
            Fault("expected text, found binary data", where, "give the prototxt first, then the caffemodel")
        )
    return parse_text(data.decode("utf-8", errors="replace"), where)


def read_bytes(path: Path, limit: int, what: str) -> bytes:
    """Read a file of at most `limit` bytes.

    Raises:
        ModelError: no such file, a folder, not readable, or longer.
    """
    try:
        if path.is_dir():
            raise ModelError(Fault("expected a file, found a folder", str(path), f"name {what} in it"))
        size = path.stat().st_size
        if size > limit:
            raise ModelError(Fault(f"{size} bytes are more than {what} may have ({limit})", str(path)))
        return path.read_bytes()
    except FileNotFoundError:
        raise ModelError(Fault("no such file", str(path), f"give the path of {what}")) from None
    except (OSError, ValueError) as error:  # ValueError: a NUL in the name
        raise ModelError(Fault(f"cannot be read: {error}", str(path))) from None
