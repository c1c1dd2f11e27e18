"""Tile programs: instructions with the places they touch, before constants are on chip and tokens are given.

The same list serves the pass that brings weights and parameters on chip (which instruction needs which constants), the
token pass (which orders units by what they touch) and the encoder. A place is a range of one memory's rows: ACT half
words, WGT tiles, PARAM records, displacement entries, ACC halves, half words of a DRAM segment.
"""

from __future__ import annotations

import enum
from dataclasses import dataclass, field

from tilewright.targets.isa.spec import Instruction, Memory


class Space(enum.IntEnum):
    """What is shared between units."""

    ACT = 0
    WGT = 1
    PARAM = 2
    ACC = 3
    WORKSPACE = 4
    OUTPUT = 5
    DISP = 6


@dataclass(frozen=True)
class Access:
    """Rows `start` .. `stop - 1` of a space, read or written."""

    space: Space
    start: int
    stop: int
    write: bool


@dataclass(frozen=True)
class Constants:
    """Tiles, records or displacements that come on chip together: `count` units at byte `offset` of the segment."""

    memory: Memory
    offset: int
    count: int


@dataclass(frozen=True)
class TileOperation:
    """An instruction without tokens, what it touches, and its source layer.

    `constants`: what it needs in WGT or PARAM, `displacements`: in DISP; its fields count from where that will lie.
    """

    instruction: Instruction
    accesses: tuple[Access, ...]
    layer: str
    constants: Constants | None = None
    displacements: Constants | None = None


@dataclass(eq=False)
class TileProgram:
    """A region's operations in stream order.

    Attributes:
        turns: how many operations of VECTOR there are up to the end of each turn's steps.
    """

    operations: list[TileOperation] = field(default_factory=list)
    turns: list[int] = field(default_factory=list)

    def add(
        self,
        layer: str,
        instruction: Instruction,
        *accesses: Access,
        constants: Constants | None = None,
        displacements: Constants | None = None,
    ) -> None:
        """Append an operation."""
        self.operations.append(TileOperation(instruction, accesses, layer, constants, displacements))


@dataclass(frozen=True)
class Portion:
    """Operations of a step that stay together.

    Attributes:
        layer, image: of the step.
        reads: half words of the source that a portion of a VECTOR layer reads.
        made: half words of the layer's result that are there afterwards, of those that the step makes.
    """

    layer: int
    image: int
    operations: tuple[TileOperation, ...]
    reads: range
    made: int
