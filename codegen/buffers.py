"""What a schedule is made of: buffers in ACT; fills, steps and drains in turns."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field

from tilewright.codegen.values import Map


@dataclass(eq=False)
class Buffer:
    """Lines of a map in ACT.

    Attributes:
        map: what it holds; the layer's results as they are made, row by row, where `staged`.
        lines: rows held at a time; row y lies in line y modulo `lines`.
        height: rows in all.
        columns: of a line.
        blocks: half words of a pixel that are held.
        staged: lines are rows of results, which STORE puts into their places in the map.
        by_vector: VECTOR reads it, and MATRIX does not.
        first, last: runs of groups during which it is needed.
        address: half word of line 0, set by the allocator.
    """

    map: Map
    lines: int
    height: int
    columns: int
    blocks: int
    staged: bool
    first: int
    last: int
    by_vector: bool = False
    address: int = -1

    @property
    def half_words(self) -> int:
        """Size."""
        return self.lines * self.row

    @property
    def row(self) -> int:
        """Half words of a line."""
        return self.columns * self.blocks

    @property
    def ring(self) -> int:
        """Rows after which the lines wrap; 0 where they never do."""
        return self.lines if self.lines < self.height else 0

    def at(self, y: int) -> int:
        """Half word of row y."""
        return self.address + (y % self.lines) * self.row

    def pieces(self, start: int, stop: int) -> Iterator[tuple[int, int]]:
        """Rows start .. stop-1 in runs that lie side by side."""
        while start < stop:
            end = min(stop, start - start % self.lines + self.lines)
            yield start, end
            start = end


@dataclass(frozen=True, eq=False)
class Window:
    """Columns x .. x+columns-1 of a map, half words `block` .. of each pixel, which a buffer holds."""

    buffer: Buffer
    x: int
    columns: int
    block: int = 0


@dataclass(frozen=True, eq=False)
class Fill:
    """LOAD rows start .. stop-1 of an image's map into its buffer, `blocks` half words a pixel, for a layer."""

    window: Window
    start: int
    stop: int
    blocks: int
    reader: int
    image: int


@dataclass(frozen=True, eq=False)
class Step:
    """Make rows start .. stop-1 and columns x .. x+columns-1 of a layer's results for an image.

    `blocks`: of the source's half words those that a VECTOR layer works on; `held`: where the maps that it reads are.
    """

    layer: int
    start: int
    stop: int
    x: int
    columns: int
    blocks: range
    held: Mapping[Map, Window]
    result: Buffer
    image: int


@dataclass(frozen=True, eq=False)
class Drain:
    """STORE rows start .. stop-1 and columns x .. of a layer's results, from half word `block` of a plane's on."""

    layer: int
    buffer: Buffer
    start: int
    stop: int
    x: int
    columns: int
    block: int
    blocks: int
    image: int


Action = Fill | Step | Drain


@dataclass(eq=False)
class Schedule:
    """What happens, turn by turn; the buffers, without addresses yet.

    In a turn every layer of a group makes a stripe of each of the group's images at most. Fills come first, drains
    last. A group runs once for every so many images; those runs are numbered through.

    Attributes:
        groups: of each run the number of its group in the plan.
        through_dram: maps that DRAM must hold, with the first and last run that touches them there.
    """

    turns: list[list[Action]] = field(default_factory=list)
    buffers: list[Buffer] = field(default_factory=list)
    groups: list[int] = field(default_factory=list)
    through_dram: dict[Map, tuple[int, int]] = field(default_factory=dict)

    def sizes(self) -> list[int]:
        """Half words of ACT that each run needs."""
        found = [0] * len(self.groups)
        for buffer in self.buffers:
            for run in range(buffer.first, buffer.last + 1):
                found[run] += buffer.half_words
        return found

    def touch(self, m: Map, run: int) -> None:
        """Note that DRAM holds a map during a run."""
        first, last = self.through_dram.get(m, (run, run))
        self.through_dram[m] = (min(first, run), max(last, run))
