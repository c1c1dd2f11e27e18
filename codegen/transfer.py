"""Fills and drains: LOAD and STORE operations between maps in DRAM and buffers in ACT."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import product

from tilewright.codegen.buffers import Buffer, Drain, Fill
from tilewright.codegen.flow import Flow
from tilewright.codegen.tile import Access, Space, TileProgram
from tilewright.codegen.values import Map
from tilewright.targets.config import Overlay
from tilewright.targets.isa.spec import Base, Load, Memory, Store, field_limit

MOST_INNER = field_limit(Load, "n2")
_SPACE = {Base.WORKSPACE: Space.WORKSPACE, Base.OUTPUT: Space.OUTPUT}


@dataclass(frozen=True)
class Block:
    """Pixels to be copied: rows x columns of `count` half words, and the half words from one to the next.

    Attributes:
        dram, act: pitches of rows and of pixels on both sides.
    """

    rows: int
    columns: int
    count: int
    dram: tuple[int, int]
    act: tuple[int, int]

    def fields(self, unit: int) -> dict[str, int]:
        """Counts and strides of a copy in as few dimensions as it takes; `unit`: bytes of a half word."""
        row = self.columns * self.count
        if (self.columns == 1 or self.dram[1] == self.count == self.act[1]) and row <= MOST_INNER:
            dense = self.dram[0] == row == self.act[0]
            if self.rows == 1 or (dense and self.rows * row <= MOST_INNER):
                return {"dram_stride2": unit, "n2": self.rows * row}
            return {
                "dram_stride1": self.dram[0] * unit,
                "stride1": self.act[0],
                "n1": self.rows,
                "dram_stride2": unit,
                "n2": row,
            }
        outer = {"dram_stride0": self.dram[0] * unit, "stride0": self.act[0]} if self.rows > 1 else {}
        inner = {"dram_stride1": self.dram[1] * unit, "stride1": self.act[1]} if self.columns > 1 else {}
        return {"n0": self.rows, "n1": self.columns, "n2": self.count, "dram_stride2": unit, **outer, **inner}

    def touched(self, space: Space, start: int, write: bool) -> list[Access]:
        """The places from `start` on; ACT's pitches count in ACT, those of DRAM in its segments."""
        down, across = self.act if space is Space.ACT else self.dram
        if self.columns > 1 and across != self.count:
            starts = range(start, start + self.rows * down, down) if self.rows > 1 else [start]
            return [Access(space, at, at + self.count, write, self.columns, across) for at in starts]
        run = self.columns * self.count
        if self.rows == 1 or down == run:
            return [Access(space, start, start + self.rows * run, write)]
        return [Access(space, start, start + run, write, self.rows, down)]


@dataclass(eq=False)
class Transfer:
    """Emits copies into a program."""

    overlay: Overlay
    flow: Flow
    program: TileProgram

    def fill(self, action: Fill) -> None:
        """LOAD rows of a map, in as many pieces as its lines wrap."""
        w, b, m = action.window, action.window.buffer, action.window.buffer.map
        for start, stop in b.pieces(action.start, action.stop):
            first = action.image * m.half_words + (start * m.width + w.x) * m.blocks + w.block
            pitch = (m.width * m.blocks, m.blocks)
            block = Block(stop - start, w.columns, action.blocks, pitch, (b.row, b.blocks))
            load = Load(
                memory=Memory.ACT,
                base=m.segment,
                dram_offset=m.offset + first * self.overlay.half_word_bytes,
                address=b.at(start),
                **block.fields(self.overlay.half_word_bytes),
            )
            accesses = block.touched(Space.ACT, b.at(start), True)
            if m.segment in _SPACE:
                accesses += block.touched(_SPACE[m.segment], self.place(m, first), False)
            self.program.add(self.flow.layers[action.reader].name, load, *accesses)

    def drain(self, action: Drain) -> None:
        """STORE rows of a layer's results to their places in its output map."""
        b, m = action.buffer, action.buffer.map
        g = self.flow.layers[action.layer].geometry
        row, pixel = m.width * m.blocks, m.blocks
        down, across, start_at = row, pixel, action.image * m.half_words
        if b.staged:
            turned = (pixel * g.step[1], row * g.step[0])
            down, across = turned if g.swapped else (row * g.step[0], pixel * g.step[1])
            start_at += g.first[0] * row + g.first[1] * pixel
        whole = action.blocks * m.planes == b.blocks == m.blocks
        planes, blocks = (1, m.blocks) if whole else (m.planes, action.blocks)
        pieces = list(b.pieces(action.start, action.stop))
        for plane, (start, stop) in product(range(planes), pieces):
            first = start_at + start * down + action.x * across
            first += action.block + plane * (m.blocks // m.planes)
            block = Block(stop - start, action.columns, blocks, (down, across), (b.row, b.blocks))
            store = Store(
                base=m.segment,
                dram_offset=m.offset + first * self.overlay.half_word_bytes,
                address=b.at(start) + plane * (b.blocks // m.planes),
                **block.fields(self.overlay.half_word_bytes),
            )
            self.program.add(
                self.flow.layers[action.layer].name,
                store,
                *block.touched(Space.ACT, store.address, False),
                *block.touched(_SPACE[m.segment], self.place(m, first), True),
            )

    def place(self, m: Map, half_word: int) -> int:
        """Where a map's half word lies in its segment."""
        return m.offset // self.overlay.half_word_bytes + half_word


def rows_of(b: Buffer, start: int, stop: int, write: bool) -> list[Access]:
    """Rows start .. stop-1 of a buffer as places."""
    if stop - start >= b.lines:
        return [Access(Space.ACT, b.address, b.address + b.half_words, write)]
    return [
        Access(Space.ACT, b.at(first), b.at(first) + (end - first) * b.row, write)
        for first, end in b.pieces(start, stop)
    ]
