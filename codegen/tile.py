"""Tile programs: instructions with the places they touch, before tokens are given.

The same list serves the token pass (which orders units by what they touch) and the encoder. A place is a range of one
memory's rows: ACT half words, WGT tiles, PARAM records, ACC halves, half words of a DRAM segment.
"""

from __future__ import annotations

import enum
from dataclasses import dataclass, field

from tilewright.targets.isa.spec import Instruction


class Space(enum.IntEnum):
    """What is shared between units."""

    ACT = 0
    WGT = 1
    PARAM = 2
    ACC = 3
    WORKSPACE = 4
    OUTPUT = 5


@dataclass(frozen=True)
class Access:
    """Rows `start` .. `stop - 1` of a space, read or written."""

    space: Space
    start: int
    stop: int
    write: bool


@dataclass(frozen=True)
class TileOperation:
    """An instruction without tokens, what it touches, and its source layer."""

    instruction: Instruction
    accesses: tuple[Access, ...]
    layer: str


@dataclass(eq=False)
class TileProgram:
    """A region's operations in stream order."""

    operations: list[TileOperation] = field(default_factory=list)

    def add(self, layer: str, instruction: Instruction, *accesses: Access) -> None:
        """Append an operation."""
        self.operations.append(TileOperation(instruction, accesses, layer))
