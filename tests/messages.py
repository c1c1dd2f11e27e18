"""Which messages of the source no test holds: `python -m tests.messages`.

Collects the texts of Fault(...), faults.add(...) and ModelError("...") in the source by its syntax, cuts them at what is
filled in, and looks for the longest piece in the tests' texts, with regular expressions' backslashes taken out.
"""

from __future__ import annotations

import ast
import re
import sys
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from tilewright.errors import TilewrightError

ROOT = Path(__file__).resolve().parents[1]
FOLDERS = ("python/tilewright", "relay_passes", "codegen", "targets")
_MAKERS = {"Fault", "Refusal", "Unquantised", *(kind.__name__ for kind in TilewrightError.__subclasses__())}
"""What makes a message; errors that are no TilewrightError are bugs of ours or become faults elsewhere."""
_SHORTEST = 5
"""Letters of a piece that tells a message from others."""


@dataclass(frozen=True)
class Message:
    """A text that a user may see.

    Attributes:
        file, line: where it is made.
        pieces: the text without what is filled in.
    """

    file: str
    line: int
    pieces: tuple[str, ...]

    def __str__(self) -> str:
        return f"{self.file}:{self.line}: {' .. '.join(self.pieces)}"


def sources() -> Iterator[Path]:
    """All Python files of the project but its tests."""
    for folder in FOLDERS:
        for path in sorted((ROOT / folder).rglob("*.py")):
            linked = any(parent.is_symlink() for parent in path.parents if parent != ROOT)
            if not linked:
                yield path


def messages(path: Path) -> Iterator[Message]:
    """The messages that a file makes."""
    tree = ast.parse(path.read_text(encoding="utf-8"))
    for node in ast.walk(tree):
        if isinstance(node, ast.Call) and node.args and _makes_fault(node):
            for text in _texts(node.args[0]):
                pieces = tuple(piece for piece in text if len(piece.strip()) >= _SHORTEST)
                if pieces:
                    yield Message(str(path.relative_to(ROOT)), node.lineno, pieces)


def _makes_fault(call: ast.Call) -> bool:
    function = call.func
    name = function.attr if isinstance(function, ast.Attribute) else getattr(function, "id", "")
    if name == "add":
        owner = function.value if isinstance(function, ast.Attribute) else None
        return "fault" in ast.dump(owner).lower() if owner is not None else False
    return name in _MAKERS


def _texts(node: ast.expr) -> Iterator[list[str]]:
    """The texts that an expression may be, each in pieces."""
    if isinstance(node, ast.Constant) and isinstance(node.value, str):
        yield re.split(r"\{\w*\}", node.value)
    elif isinstance(node, ast.JoinedStr):
        yield [
            part.value
            for part in node.values
            if isinstance(part, ast.Constant) and isinstance(part.value, str)
        ]
    elif isinstance(node, ast.BinOp) and isinstance(node.op, ast.Add):
        yield [piece for side in (node.left, node.right) for text in _texts(side) for piece in text]
    elif isinstance(node, ast.IfExp):
        yield from _texts(node.body)
        yield from _texts(node.orelse)


def held() -> str:
    """What the tests say, with backslashes of regular expressions taken out."""
    texts = [p.read_text(encoding="utf-8") for p in sorted((ROOT / "tests").rglob("*.py"))]
    texts += [p.read_text(encoding="utf-8") for p in sources() if ">>> " in p.read_text(encoding="utf-8")]
    return _plain(" ".join(_strings(texts)))


def _strings(texts: list[str]) -> Iterator[str]:
    for text in texts:
        for node in ast.walk(ast.parse(text)):
            if isinstance(node, ast.JoinedStr):
                yield "".join(p.value if isinstance(p, ast.Constant) else "\0" for p in node.values)  # type: ignore
            elif isinstance(node, ast.Constant) and isinstance(node.value, str):
                yield node.value


def _plain(text: str) -> str:
    return " ".join(text.replace("\\", "").split())


def is_held(message: Message, tests: str) -> bool:
    """Whether a test has the longest piece of a message."""
    longest = max(message.pieces, key=len)
    return _plain(longest).strip(" ,;:.()'") in tests


def untested() -> tuple[list[Message], int]:
    """Messages that no test holds, and how many there are in all."""
    tests = held()
    found = [m for path in sources() for m in messages(path)]
    return [m for m in found if not is_held(m, tests)], len(found)


if __name__ == "__main__":
    missing, count = untested()
    sys.stdout.write("".join(f"{m}\n" for m in missing))
    sys.stdout.write(
        f"{count - len(missing)} of {count} messages ({1 - len(missing) / count:.0%}) are in a test\n"
    )
