"""VECTOR layers -> tile operations.

The result is cut into rectangles and its half words into chunks; every chunk of every rectangle is loaded, computed
and stored by itself, in buffers that take turns.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np

from tilewright.codegen.constants import depthwise_records, parameter_records
from tilewright.codegen.layers import Parameters, VectorLayer
from tilewright.codegen.matrix_tiles import MOST_HALF_WORDS, sizes
from tilewright.codegen.scratchpad import STRIPE_BYTES, Buffers, Scratchpads
from tilewright.codegen.tile import Access, Space
from tilewright.codegen.transfer import Rectangle, Transfer, rectangles
from tilewright.errors import Fault, ScheduleError
from tilewright.targets.isa.spec import RECORD_BYTES, Source, Vector, VectorOp


@dataclass(frozen=True)
class Chunk:
    """Half words `first` .. with their records: parameters, depthwise taps, table, in this order."""

    first: int
    count: int
    offset: int
    records: int
    taps: int  # record of the first tap, after the chunk's first record
    table: int


@dataclass(frozen=True)
class Cut:
    """Rows, columns and half words of a tile, and what they amount to.

    Attributes:
        tiles: how many there are.
        traffic: pixels that all tiles of a chunk load.
        source, result: half words of the largest tile's source and of a tile's results.
        second: whether there is a second source of the same size.
    """

    rows: int
    columns: int
    half_words: int
    tiles: int
    traffic: int
    source: int
    result: int
    second: bool

    @property
    def need(self) -> int:
        """Half words of ACT that the buffers take, each with its twin."""
        return 2 * (self.source * (2 if self.second else 1) + self.result)


def emit_vector(layer: VectorLayer, pads: Scratchpads, transfer: Transfer) -> None:
    """Append the layer's tile operations."""
    _VectorEmitter(layer, pads, transfer).emit()


@dataclass(eq=False)
class _VectorEmitter:
    layer: VectorLayer
    pads: Scratchpads
    transfer: Transfer

    def __post_init__(self) -> None:
        self.overlay = self.pads.overlay
        self.geometry = self.layer.geometry
        self.blocks = len(self.layer.source.blocks)
        self.areas = list(parameter_areas(self.layer.parameters, self.geometry.count))

    def emit(self) -> None:
        cut = self.cut()
        source2 = cut.source if cut.second else 0
        buffers = self.pads.layer_buffers(cut.source, 2, cut.result, source2, 2)
        chunks = [
            self.make_chunk(first, min(cut.half_words, self.blocks - first))
            for first in range(0, self.blocks, cut.half_words)
        ]
        for chunk in chunks:
            for stripe in rectangles(self.geometry.count, (cut.rows, cut.columns)):
                self.tile(chunk, stripe, buffers)

    # Parameters.

    @property
    def records_per_half_word(self) -> int:
        """Records of PARAM that a half word needs of its own."""
        own = 0 if self.layer.parameters.by_position else self.overlay.block_in * self.layer.parameters.sets
        taps = 0 if self.layer.weight is None else self.layer.weight.shape[1]
        return own + taps * self.overlay.block_in * 2 // RECORD_BYTES

    @property
    def records_shared(self) -> int:
        """Records that serve all half words."""
        areas = len(self.areas) * self.overlay.block_in if self.layer.parameters.by_position else 0
        return areas + (0 if self.layer.table is None else self.transfer.table_records)

    def make_chunk(self, first: int, count: int) -> Chunk:
        lanes = self.layer.source.lanes[first : first + count]
        parameters = self.layer.parameters
        if parameters.by_position:
            content = b"".join(
                parameter_records(at, np.zeros((1, self.overlay.block_in), np.int32), parameters.lo)
                for _, at in self.areas
            )
        else:
            content = parameter_records(parameters, lanes, parameters.lo)
        taps = len(content) // RECORD_BYTES
        weight = self.layer.weight
        if weight is not None:
            content += depthwise_records(weight, lanes).tobytes()
        table = len(content) // RECORD_BYTES
        content += self.transfer.table_bytes(self.layer.table)
        offset = self.transfer.pool.add(content)
        if weight is not None and self.layer.counted:
            row = self.overlay.block_in * 2
            held = np.repeat((lanes >= 0).sum(1), weight.shape[1]).tolist()
            start = offset + taps * RECORD_BYTES
            self.transfer.pool.products.update({start + i * row: n for i, n in enumerate(held) if n})
        return Chunk(first, count, offset, len(content) // RECORD_BYTES, taps, table)

    # The cut.

    def cut(self) -> Cut:
        """The cut with the least DRAM traffic that fits, waiting counted as traffic."""
        if self.records_per_half_word + self.records_shared > self.pads.param_half:
            raise self.fail(
                f"parameters need {self.records_per_half_word + self.records_shared} records of PARAM, "
                f"half of it has {self.pads.param_half}"
            )
        best: tuple[int, Cut] | None = None
        for cut in self.cuts():
            if cut.need <= self.overlay.act_half_words:
                traffic = cut.traffic * self.blocks * self.overlay.half_word_bytes + cut.tiles * STRIPE_BYTES
                if best is None or traffic < best[0]:
                    best = (traffic, cut)
        if best is None:
            least = min(cut.need for cut in self.cuts())
            raise self.fail(
                f"one result needs {least} half words of ACT, {self.overlay.name} has {self.overlay.act_half_words}"
            )
        return best[1]

    def cuts(self) -> Iterator[Cut]:
        """Every cut worth trying."""
        g, source = self.geometry, self.layer.source
        room = self.pads.param_half - self.records_shared
        most = min(MOST_HALF_WORDS, room // max(self.records_per_half_word, 1))
        heights = [(rows, g.extent(0, rows, source.height)) for rows in sizes(g.count[0], g.count[0])]
        widths = [(columns, g.extent(1, columns, source.width)) for columns in sizes(g.count[1], g.count[1])]
        for half_words in sizes(self.blocks, most):
            for columns, across in widths:
                for rows, down in heights:
                    yield Cut(
                        rows,
                        columns,
                        half_words,
                        down.pieces * across.pieces * -(-self.blocks // half_words),
                        down.total * across.total,
                        down.largest * across.largest * half_words,
                        rows * columns * half_words * self.layer.output.planes,
                        self.layer.source2 is not None,
                    )

    # Instructions.

    def tile(self, chunk: Chunk, stripe: Rectangle, buffers: Buffers) -> None:
        name, layer = self.layer.name, self.layer
        records = self.transfer.load_records(name, chunk.offset, chunk.records, self.pads.param)
        held = self.transfer.load_source(
            name, layer.source, self.geometry, stripe, buffers.source, chunk.first, chunk.count
        )
        held2 = None
        if layer.source2 is not None:
            second = layer.source2
            held2 = Rectangle(
                held.y if second.height > 1 else 0,
                held.x if second.width > 1 else 0,
                held.rows if second.height > 1 else 1,
                held.columns if second.width > 1 else 1,
                buffers.source2.next(),
            )
            self.transfer.load_rectangle(name, second, held2, chunk.first, chunk.count)
        result = buffers.result.next()
        for i, (area, _) in enumerate(self.areas):
            part = intersection(area, stripe)
            if part is not None:
                self.vector(chunk, stripe, part, i, records, held, held2, result)
        self.transfer.store_result(
            name, layer.output, self.geometry, stripe, result, chunk.first, chunk.count
        )

    def vector(
        self,
        chunk: Chunk,
        stripe: Rectangle,
        part: Rectangle,
        area: int,
        records: int,
        held: Rectangle,
        held2: Rectangle | None,
        result: int,
    ) -> None:
        layer, g, parameters = self.layer, self.geometry, self.layer.parameters
        taps = 0 if layer.weight is None else layer.weight.shape[1]
        per = 0 if parameters.by_position else self.overlay.block_in * parameters.sets
        n = chunk.count
        pixel = n * layer.output.planes
        first = ((part.y - stripe.y) * stripe.columns + part.x - stripe.x) * pixel
        instruction = Vector(
            op=layer.op,
            source=Source.ACT,
            n_c=n,
            n_y=part.rows,
            n_x=part.columns,
            kernel_y=g.kernel[0],
            kernel_x=g.kernel[1],
            stride_y=g.stride[0],
            stride_x=g.stride[1],
            dilation_y=g.dilation[0],
            dilation_x=g.dilation[1],
            offset_y=part.y * g.stride[0] + g.offset[0] - held.y,
            offset_x=part.x * g.stride[1] + g.offset[1] - held.x,
            height=held.rows,
            width=held.columns,
            src_base=held.address,
            src_row=held.columns * n if held.rows > 1 else 0,
            src_x=n if held.columns > 1 else 0,
            src_c=1,
            dst_base=result + first,
            dst_row=stripe.columns * pixel if part.rows > 1 else 0,
            dst_x=pixel if part.columns > 1 else 0,
            dst_c=1,
            out_planes=layer.output.planes - 1,
            dst_plane=n if layer.output.planes > 1 else 0,
            param_base=records + (area * self.overlay.block_in if parameters.by_position else 0),
            param_c=per,
            depthwise_base=records + chunk.taps if layer.op is VectorOp.DEPTHWISE else 0,
            depthwise_c=taps * self.overlay.block_in * 2 // RECORD_BYTES,
            table=int(layer.table is not None),
            table_base=records + chunk.table if layer.table is not None else 0,
            negative=int(parameters.negative),
            lo=parameters.lo,
            hi=parameters.hi,
            src_zp=layer.zero_point,
            out_zp=parameters.out_zero_point,
        )
        accesses = [
            Access(Space.ACT, held.address, held.address + held.rows * held.columns * n, False),
            Access(Space.PARAM, records, records + chunk.records, False),
            Access(Space.ACT, result, result + stripe.rows * stripe.columns * pixel, True),
        ]
        if held2 is not None:
            instruction = replace(
                instruction,
                src2_base=held2.address,
                src2_row=held2.columns * n if held2.rows > 1 else 0,
                src2_x=n if held2.columns > 1 else 0,
                src2_zp=layer.zero_point2,
            )
            size = held2.rows * held2.columns * n
            accesses.append(Access(Space.ACT, held2.address, held2.address + size, False))
        self.transfer.program.add(layer.name, instruction, *accesses)

    def fail(self, message: str) -> ScheduleError:
        return ScheduleError(Fault(message, f"layer {self.layer.name}", "choose an overlay with more memory"))


def parameter_areas(parameters: Parameters, count: tuple[int, int]) -> Iterator[tuple[Rectangle, Parameters]]:
    """Rectangles of results with equal parameters: one, or where they depend on the position a few."""
    if not parameters.by_position:
        yield Rectangle(0, 0, *count), parameters
        return
    stack = np.stack([parameters.m, parameters.s, parameters.b])
    rows = _starts((stack[:, 1:] != stack[:, :-1]).any((0, 2)))
    columns = _starts((stack[:, :, 1:] != stack[:, :, :-1]).any((0, 1)))
    for y, y_end in zip(rows, [*rows[1:], count[0]], strict=True):
        for x, x_end in zip(columns, [*columns[1:], count[1]], strict=True):
            one = replace(
                parameters,
                m=parameters.m[y : y + 1, x],
                s=parameters.s[y : y + 1, x],
                b=parameters.b[y : y + 1, x],
                by_position=False,
            )
            yield Rectangle(y, x, y_end - y, x_end - x), one


def _starts(changes: np.ndarray[tuple[int, ...], np.dtype[np.bool_]]) -> list[int]:
    return [0, *(np.flatnonzero(changes) + 1).tolist()]


def intersection(a: Rectangle, b: Rectangle) -> Rectangle | None:
    """What two rectangles have in common."""
    y, x = max(a.y, b.y), max(a.x, b.x)
    rows, columns = min(a.y + a.rows, b.y + b.rows) - y, min(a.x + a.columns, b.x + b.columns) - x
    return Rectangle(y, x, rows, columns) if rows > 0 and columns > 0 else None
