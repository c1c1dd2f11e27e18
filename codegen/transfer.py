"""LOAD and STORE operations: rectangles of maps, weight tiles, parameter records."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from tilewright.codegen.constants import Pool
from tilewright.codegen.layers import Geometry
from tilewright.codegen.scratchpad import Twin
from tilewright.codegen.tile import Access, Space, TileProgram
from tilewright.codegen.values import Map, Source
from tilewright.targets.config import Overlay
from tilewright.targets.isa.spec import RECORD_BYTES, Base, Load, Memory, Store, field_limit

if TYPE_CHECKING:
    from tilewright.codegen.matrix_tiles import WeightLoad

MOST_INNER = field_limit(Load, "n2")
_SPACE = {Base.WORKSPACE: Space.WORKSPACE, Base.OUTPUT: Space.OUTPUT}


@dataclass(frozen=True)
class Rectangle:
    """Rows and columns of a map, and where they lie in ACT if they do."""

    y: int
    x: int
    rows: int
    columns: int
    address: int = 0


def rectangles(size: tuple[int, int], cut: tuple[int, int]) -> Iterator[Rectangle]:
    """Cut `size` rows and columns into rectangles of `cut`, the last ones smaller."""
    for y in range(0, size[0], cut[0]):
        for x in range(0, size[1], cut[1]):
            yield Rectangle(y, x, min(cut[0], size[0] - y), min(cut[1], size[1] - x))


@dataclass(eq=False)
class Transfer:
    """Emits copies between DRAM and scratchpads into a program."""

    overlay: Overlay
    pool: Pool
    program: TileProgram

    @property
    def table_records(self) -> int:
        """Records of a lookup table."""
        return 256 // RECORD_BYTES

    @staticmethod
    def table_bytes(table: NDArray[np.uint8] | None) -> bytes:
        """A table as constants; nothing where there is none."""
        return b"" if table is None else table.tobytes()

    def output_lanes(self, channels: int, first: int, count: int) -> NDArray[np.int32]:
        """Channels of the lanes of half words `first` .. of a map whose channels lie in order."""
        lanes = np.arange(
            first * self.overlay.block_in, (first + count) * self.overlay.block_in, dtype=np.int32
        )
        return np.where(lanes < channels, lanes, -1).reshape(count, self.overlay.block_in).astype(np.int32)

    def load_records(self, layer: str, offset: int, records: int, twin: Twin) -> int:
        """Bring parameter records on chip, unless they are there. Returns their PARAM address."""
        return self._load_constant(layer, Memory.PARAM, Space.PARAM, offset, records, RECORD_BYTES, twin)

    def load_tiles(self, layer: str, load: WeightLoad, twin: Twin) -> int:
        """Bring weight tiles on chip, unless they are there. Returns their WGT address."""
        unit = self.overlay.tile_bytes
        return self._load_constant(layer, Memory.WGT, Space.WGT, load.offset, load.tiles, unit, twin)

    def _load_constant(
        self, layer: str, memory: Memory, space: Space, offset: int, count: int, unit: int, twin: Twin
    ) -> int:
        key = (offset, count)
        if key in twin.holds:
            return twin.holds[key]
        address = twin.next(key)
        self.program.add(
            layer,
            Load(
                memory=memory,
                base=Base.CONSTANT,
                dram_offset=offset,
                dram_stride2=unit,
                address=address,
                n2=count,
            ),
            Access(space, address, address + count, True),
        )
        return address

    def load_source(
        self,
        layer: str,
        source: Source,
        geometry: Geometry,
        stripe: Rectangle,
        twin: Twin,
        first: int = 0,
        count: int | None = None,
    ) -> Rectangle:
        """Bring what a stripe of results reads on chip: half words `first` .. of each pixel, side by side."""
        y, rows = geometry.span(0, stripe.y, stripe.rows, source.height)
        x, columns = geometry.span(1, stripe.x, stripe.columns, source.width)
        held = Rectangle(y, x, rows, columns, twin.next())
        self.load_rectangle(layer, source, held, first, len(source.blocks) if count is None else count)
        return held

    def load_rectangle(self, layer: str, source: Source, held: Rectangle, first: int, count: int) -> None:
        """Load a rectangle of a source to `held.address`."""
        unit = self.overlay.half_word_bytes
        for m, block, n, position in source.runs(first, count):
            start = (held.y * m.width + held.x) * m.blocks + block
            row = m.width * m.blocks
            load = Load(
                memory=Memory.ACT,
                base=m.segment,
                dram_offset=m.offset + start * unit,
                address=held.address + position,
                **self.steps(held, n, (row, m.blocks), count),
            )
            accesses = [
                Access(Space.ACT, held.address, held.address + held.rows * held.columns * count, True),
            ]
            if m.segment in _SPACE:
                last = start + (held.rows - 1) * row + (held.columns - 1) * m.blocks + n
                accesses.append(self.dram(m, start, last, False))
            self.program.add(layer, load, *accesses)

    def steps(self, r: Rectangle, count: int, stride: tuple[int, int], pitch: int) -> dict[str, int]:
        """Counts and strides of a copy of `count` half words a pixel, in as few dimensions as it takes.

        `stride`: half words in DRAM from row to row and from column to column; `pitch`: from pixel to pixel in ACT.
        """
        unit = self.overlay.half_word_bytes
        row = r.columns * pitch
        down = (
            {"dram_stride": stride[0] * unit, "stride": row}
            if r.rows > 1
            else {"dram_stride": 0, "stride": 0}
        )
        across = (
            {"dram_stride": stride[1] * unit, "stride": pitch}
            if r.columns > 1
            else {"dram_stride": 0, "stride": 0}
        )
        dense = stride[1] == count == pitch  # pixels are side by side on both sides
        if dense and (r.rows == 1 or stride[0] == row) and r.rows * row <= MOST_INNER:
            return {"dram_stride2": unit, "n2": r.rows * row}
        if dense:
            outer = {f"{k}1": v for k, v in down.items()}
            return {"dram_stride2": unit, "n1": r.rows, "n2": row, **outer}
        outer = {f"{k}0": v for k, v in down.items()} | {f"{k}1": v for k, v in across.items()}
        return {"dram_stride2": unit, "n0": r.rows, "n1": r.columns, "n2": count, **outer}

    def dram(self, m: Map, start: int, stop: int, write: bool) -> Access:
        """Half words `start` .. `stop - 1` of a map."""
        base = m.offset // self.overlay.half_word_bytes
        return Access(_SPACE[m.segment], base + start, base + stop, write)

    def store_result(
        self,
        layer: str,
        output: Map,
        geometry: Geometry,
        stripe: Rectangle,
        address: int,
        first: int,
        count: int,
    ) -> None:
        """Store a stripe of results, `count` half words a pixel, to half words `first` .. of the output's pixels.

        Of several planes each has its half words side by side, in ACT and in the output's pixels.
        """
        for plane in range(output.planes):
            at = first + plane * (output.blocks // output.planes)
            start = address + plane * count
            self._store_plane(layer, output, geometry, stripe, start, at, count, count * output.planes)

    def _store_plane(
        self,
        layer: str,
        output: Map,
        geometry: Geometry,
        stripe: Rectangle,
        address: int,
        first: int,
        count: int,
        pixel: int,
    ) -> None:
        unit = self.overlay.half_word_bytes
        pitch = (output.width * output.blocks, output.blocks)
        along = pitch[::-1] if geometry.swapped else pitch
        stride = (geometry.step[0] * along[0], geometry.step[1] * along[1])
        if geometry.swapped:
            stride = (geometry.step[1] * along[0], geometry.step[0] * along[1])
        start = geometry.first[0] * pitch[0] + geometry.first[1] * pitch[1]
        start += stripe.y * stride[0] + stripe.x * stride[1] + first
        last = start + (stripe.rows - 1) * stride[0] + (stripe.columns - 1) * stride[1] + count
        store = Store(
            base=output.segment,
            dram_offset=output.offset + start * unit,
            address=address,
            **self.steps(stripe, count, stride, pixel),
        )
        pixels = stripe.rows * stripe.columns
        self.program.add(
            layer,
            store,
            Access(Space.ACT, address, address + (pixels - 1) * pixel + count, False),
            self.dram(output, start, last, True),
        )
