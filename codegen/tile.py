"""Tile programs: instructions with the places they touch, before constants are on chip and tokens are given.

The same list serves the pass that brings weights and parameters on chip (which instruction needs which constants), the
token pass (which orders units by what they touch) and the encoder. A place is a range of one memory's rows: ACT half
words, WGT tiles, PARAM records, displacement entries, ACC halves, half words of a DRAM segment.
"""

from __future__ import annotations

import enum
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

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
    """Rows `start` .. `stop - 1` of a space, read or written; `count` such runs begin `pitch` rows apart."""

    space: Space
    start: int
    stop: int
    write: bool
    count: int = 1
    pitch: int = 0

    @property
    def rows(self) -> slice | NDArray[np.int64]:
        """Index of the rows."""
        if self.count == 1:
            return slice(self.start, self.stop)
        runs = self.start + self.pitch * np.arange(self.count)
        return np.asarray((runs[:, None] + np.arange(self.stop - self.start)).ravel(), np.int64)

    def holds(self, rows: NDArray[np.int64]) -> NDArray[np.bool_]:
        """Which of these rows it names."""
        behind = rows - self.start
        run = np.clip(behind // self.pitch, 0, self.count - 1) if self.pitch else 0
        behind = behind - run * self.pitch
        return np.asarray((behind >= 0) & (behind < self.stop - self.start))


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
