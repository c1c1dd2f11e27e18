"""The marks that networks are measured against (`marks.toml`)."""

from __future__ import annotations

import operator
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any

from tilewright.benchmark.architectures import ZOO

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

FILE = Path(__file__).with_name("marks.toml")
WHOLE_ZOO = "zoo"
FIGURES: Mapping[str, bool] = {
    "fps": True,
    "ratio": True,
    "conv_ratio": True,
    "dram_ratio": False,
    "cycles": False,
    "dram_bytes": False,
    "compile_s": False,
}
"""Figures that can have a mark, and whether more is better."""


@dataclass(frozen=True)
class Mark:
    """What a figure of a network on an overlay is to reach.

    Attributes:
        figure: one of FIGURES.
        must, aim: in its unit.
        source: where the mark comes from.
    """

    figure: str
    must: float
    aim: float
    source: str

    def judge(self, value: float) -> str:
        """`aim`, `pass` or `miss`."""
        reached = operator.ge if FIGURES[self.figure] else operator.le
        return "aim" if reached(value, self.aim) else "pass" if reached(value, self.must) else "miss"

    def __str__(self) -> str:
        """`fps >= 66 (72)`: the figure to reach and the one to go for."""
        return f"{self.figure} {'>=' if FIGURES[self.figure] else '<='} {self.must:,} ({self.aim:,})"


@cache
def _all() -> tuple[tuple[frozenset[str], str, Mark], ...]:
    found = []
    for table in tomllib.loads(FILE.read_text(encoding="utf-8"))["mark"]:
        names = ZOO if table["networks"] == [WHOLE_ZOO] else table["networks"]
        for figure in FIGURES:
            if figure in table:
                mark = Mark(figure, table[figure]["must"], table[figure]["aim"], table["source"])
                found.append((frozenset(names), str(table["overlay"]), mark))
    return tuple(found)


def marks(network: str, overlay: str) -> list[Mark]:
    """The marks of a network on an overlay, in the order of the file."""
    return [mark for names, target, mark in _all() if target == overlay and network in names]


def judged(network: str, overlay: str, figures: Mapping[str, Any]) -> list[tuple[Mark, str]]:
    """The marks whose figures are there, each with its verdict."""
    return [
        (mark, mark.judge(figures[mark.figure]))
        for mark in marks(network, overlay)
        if figures.get(mark.figure) is not None
    ]
