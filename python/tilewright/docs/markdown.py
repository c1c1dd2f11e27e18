"""Small pieces of Markdown."""

from __future__ import annotations

from collections.abc import Iterable, Sequence


def cell(text: object) -> str:
    """`text` as a cell of a table."""
    return str(text).replace("|", "\\|").replace("\n", " ")


def table(head: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    """A table; cells are Markdown.

    >>> print(table(["bit", "meaning"], [[0, "a | b"]]))
    | bit | meaning |
    |---|---|
    | 0 | a \\| b |
    """
    lines = [head, ["---"] * len(head), *rows]
    return "\n".join(
        "|" + "|".join(str(c) for c in line) + "|"
        if line[0] == "---"
        else "| " + " | ".join(map(cell, line)) + " |"
        for line in lines
    )


def code(text: str, language: str = "text") -> str:
    """A fenced block."""
    return f"```{language}\n{text.rstrip()}\n```"
