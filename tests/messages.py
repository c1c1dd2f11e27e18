"""Which messages of the source no test holds: `python -m tests.messages`.

Python: collects by syntax the texts that faults and errors are made of, wherever they stand: in the call, in a name or
table that the function or file gives it, or in a call of a function or class that passes its parameter on. C++: the
literals of Fail(...) and Require(...). Each text is cut at what is filled in, and its longest piece looked for in the
tests' texts, with regular expressions' backslashes taken out.
"""

from __future__ import annotations

import ast
import re
import sys
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from tilewright.errors import TilewrightError

ROOT = Path(__file__).resolve().parents[1]
FOLDERS = ("python/tilewright", "relay_passes", "codegen", "targets")
_MAKERS = {"Fault", "Refusal", "Unquantised", "Rule", "Trap", "Race", "Reject", "_NotInTable"} | {
    kind.__name__ for kind in TilewrightError.__subclasses__()
}
"""What makes a message; errors that are no TilewrightError are bugs of ours or become faults elsewhere."""
_TEXTS = ("message", "text", "rule", "why")
"""Names of a maker's parameter that holds the text."""
_SHORTEST = 5
"""Letters of a piece that tells a message from others."""
_FILLED = "\0"
_NATIVE = re.compile(r"\b(?:Fail|Require)\(")
_INTERNAL = re.compile(r"\s*TW_RT_INTERNAL\b")
"""Of what only a bug of the runtime brings about."""
_CONVERSION = re.compile(r"%(?:ll|z)?[dusx]")
_STRING = re.compile(r'"((?:[^"\\]|\\.)*)"')


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


def sources(*suffixes: str) -> Iterator[Path]:
    """All files of the project but its tests; Python's where no suffixes are given."""
    for folder in FOLDERS:
        for path in sorted((ROOT / folder).rglob("*")):
            linked = any(parent.is_symlink() for parent in path.parents if parent != ROOT)
            if path.suffix in (suffixes or (".py",)) and not linked:
                yield path


def messages(path: Path) -> list[Message]:
    """The messages that a file makes."""
    source = path.read_text(encoding="utf-8")
    found = _Python(source).messages() if path.suffix == ".py" else _native(source)
    name = str(path.relative_to(ROOT))
    made = (
        Message(name, line, tuple(p for p in re.split(_FILLED, text) if len(p.strip()) >= _SHORTEST))
        for line, text in found
    )
    return [message for message in dict.fromkeys(made) if message.pieces]


class _Python:
    """A file's messages, by its syntax."""

    def __init__(self, source: str) -> None:
        self.tree = ast.parse(source)
        self.scope: dict[ast.AST, ast.AST] = {}
        self.bound: dict[tuple[ast.AST | None, str], list[ast.expr]] = {}
        self.makers: dict[str, int] = dict.fromkeys(_MAKERS, 0)
        self._read(self.tree, None)
        functions = [n for n in ast.walk(self.tree) if isinstance(n, ast.FunctionDef)]
        while sum(self._passes_on(function) for function in functions):
            pass

    def _read(self, node: ast.AST, scope: ast.AST | None) -> None:
        """Note of each node its function, and of each name what it is bound to there."""
        for child in ast.iter_child_nodes(node):
            if scope is not None:
                self.scope[child] = scope
            for target, value in _bindings(child):
                self.bound.setdefault((scope, target), []).append(value)
            inner = child if isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef) else scope
            self._read(child, inner)

    def _passes_on(self, function: ast.FunctionDef) -> bool:
        """Whether a function is newly found to make a message of its parameter."""
        names = [a.arg for a in function.args.args]
        first = 1 if names[:1] in (["self"], ["cls"]) else 0
        if function.name in self.makers or function.name.startswith("__") or function.name == "add":
            return False
        for node in ast.walk(function):
            if isinstance(node, ast.Call) and (text := self._argument(node)) is not None:
                for name in (n.id for n in ast.walk(text) if isinstance(n, ast.Name)):
                    if name in names[first:] and (isinstance(text, ast.Name) or name in _TEXTS):
                        self.makers[function.name] = names.index(name) - first
                        return True
        return False

    def _argument(self, call: ast.Call) -> ast.expr | None:
        """The text of a call that makes a message."""
        function = call.func
        name = function.attr if isinstance(function, ast.Attribute) else getattr(function, "id", "")
        place = self.makers.get(name)
        if name == "add":
            owner = function.value if isinstance(function, ast.Attribute) else None
            place = 0 if owner is not None and "fault" in ast.dump(owner).lower() else None
        if place is None:
            return None
        for keyword in call.keywords:
            if keyword.arg in _TEXTS:
                return keyword.value
        return call.args[place] if len(call.args) > place else None

    def messages(self) -> Iterator[tuple[int, str]]:
        """Line and text, with what is filled in as a mark."""
        for node in ast.walk(self.tree):
            if isinstance(node, ast.Call) and (argument := self._argument(node)) is not None:
                for text in self._texts(argument, node):
                    yield node.lineno, text

    def _texts(self, node: ast.expr, call: ast.AST, seen: frozenset[str] = frozenset()) -> Iterator[str]:
        """The texts that an expression of a call may be."""
        if isinstance(node, ast.Constant) and isinstance(node.value, str):
            yield re.sub(r"\{\w*\}", _FILLED, node.value)
        elif isinstance(node, ast.JoinedStr):
            yield "".join(
                str(part.value) if isinstance(part, ast.Constant) else _FILLED for part in node.values
            )
        elif isinstance(node, ast.BinOp) and isinstance(node.op, ast.Add):
            sides = [list(self._texts(side, call, seen)) or [_FILLED] for side in (node.left, node.right)]
            yield from (left + right for left in sides[0] for right in sides[1])
        elif isinstance(node, ast.IfExp):
            yield from self._texts(node.body, call, seen)
            yield from self._texts(node.orelse, call, seen)
        elif isinstance(node, ast.BoolOp):
            for value in node.values:
                yield from self._texts(value, call, seen)
        elif (
            isinstance(node, ast.Call) and isinstance(node.func, ast.Attribute) and node.func.attr == "format"
        ):
            yield from self._texts(node.func.value, call, seen)
        elif isinstance(node, ast.Name) and node.id not in seen:
            values = self.bound.get((self.scope.get(call), node.id)) or self.bound.get((None, node.id), [])
            for value in values:
                yield from self._texts(value, call, seen | {node.id})


def _bindings(node: ast.AST) -> Iterator[tuple[str, ast.expr]]:
    """Names that a statement binds to an expression."""
    if (
        isinstance(node, ast.Assign | ast.AnnAssign | ast.NamedExpr | ast.AugAssign)
        and node.value is not None
    ):
        targets = node.targets if isinstance(node, ast.Assign) else [node.target]
        for target in targets:
            if isinstance(target, ast.Name):
                yield target.id, node.value
            elif isinstance(target, ast.Tuple) and isinstance(node.value, ast.Tuple):
                for name, value in zip(target.elts, node.value.elts, strict=False):
                    if isinstance(name, ast.Name):
                        yield name.id, value


def _native(source: str) -> Iterator[tuple[int, str]]:
    """Line and text of each call of C++ that reports a fault."""
    for match in _NATIVE.finditer(source):
        depth, end = 1, match.end()
        while depth and end < len(source):
            string = _STRING.match(source, end)
            end = string.end() if string else end + 1
            if not string:
                depth += {"(": 1, ")": -1}.get(source[end - 1], 0)
        if _INTERNAL.match(source, match.end()):
            continue
        call = re.sub(r'"\s*"', "", source[match.end() : end])
        texts = [text.encode().decode("unicode_escape") for text in _STRING.findall(call)]
        yield source.count("\n", 0, match.start()) + 1, _CONVERSION.sub(_FILLED, _FILLED.join(texts))


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


def untested(*suffixes: str) -> tuple[list[Message], int]:
    """Messages of files with these suffixes that no test holds, and how many there are in all."""
    tests = held()
    found = [m for path in sources(*suffixes) for m in messages(path)]
    return [m for m in found if not is_held(m, tests)], len(found)


LANGUAGES: Mapping[str, tuple[str, ...]] = {"Python": (".py",), "C++": (".cc", ".h")}

if __name__ == "__main__":
    for language, suffixes in LANGUAGES.items():
        missing, count = untested(*suffixes)
        sys.stdout.write("".join(f"{m}\n" for m in missing))
        sys.stdout.write(f"{language}: {count - len(missing)} of {count} messages are in a test\n")
