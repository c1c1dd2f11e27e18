"""MATRIX layers -> tile operations.

A layer is cut three ways: its result into rectangles (stripes), its outputs into chunks whose weights and parameters
lie on chip at once, and a stripe's rows into pieces whose sums fit one half of ACC. For every stripe the source is
loaded once; for every chunk its weights, unless they lie there already. Every buffer has a twin, so that LOAD fills
one while MATRIX and VECTOR use the other, and the halves of ACC take turns.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np

from tilewright.codegen.constants import Tiles, pack_bits, parameter_records, tile_weights
from tilewright.codegen.layers import MatrixLayer
from tilewright.codegen.scratchpad import STRIPE_BYTES, Buffers, Scratchpads
from tilewright.codegen.tile import Access, Space
from tilewright.codegen.transfer import Rectangle, Transfer, rectangles
from tilewright.errors import Fault, ScheduleError
from tilewright.targets.isa.spec import Matrix, Source, Vector, VectorOp, field_limit

MOST_IC = field_limit(Matrix, "n_ic")
MOST_OC = field_limit(Matrix, "n_oc")
MOST_KY = field_limit(Matrix, "n_ky")
MOST_HALF_WORDS = field_limit(Vector, "n_c")


@dataclass(frozen=True)
class Range:
    """Tiles of one part of the weights: input half words ic .., kernel rows ky .., all columns."""

    part: int
    ic: int
    n_ic: int
    ky: int
    n_ky: int

    def size(self, columns: int) -> int:
        """Tiles for one output vector."""
        return self.n_ic * self.n_ky * columns


@dataclass(frozen=True)
class Pass:
    """One MATRIX instruction's share of a chunk: input half words and kernel rows, and where its tiles lie."""

    first_ic: int
    count_ic: int
    first_ky: int
    count_ky: int
    tile: int  # within the load


@dataclass(frozen=True)
class WeightLoad:
    """Tiles that are loaded together."""

    offset: int
    tiles: int
    passes: tuple[Pass, ...]


@dataclass(frozen=True)
class Chunk:
    """Output vectors whose weights are on chip together; only a single one may need several loads."""

    first: int
    count: int
    loads: tuple[WeightLoad, ...]
    records: int
    record_offset: int
    half_words: int


@dataclass(frozen=True)
class Cut:
    """Rows and columns of a stripe, and what they amount to in half words.

    Attributes:
        stripes: how many there are.
        traffic: what all stripes load of the source.
        source, result: the largest stripe's source, and a stripe's results of one chunk.
    """

    rows: int
    columns: int
    stripes: int
    traffic: int
    source: int
    result: int

    @property
    def copies(self) -> int:
        """Source buffers: a twin where there are several stripes."""
        return 1 if self.stripes == 1 else 2

    @property
    def need(self) -> int:
        """Half words of ACT that the buffers take."""
        return self.source * self.copies + self.result * 2


def emit_matrix(layer: MatrixLayer, pads: Scratchpads, transfer: Transfer) -> None:
    """Append the layer's tile operations."""
    _MatrixEmitter(layer, pads, transfer).emit()


@dataclass(eq=False)
class _MatrixEmitter:
    layer: MatrixLayer
    pads: Scratchpads
    transfer: Transfer

    def __post_init__(self) -> None:
        self.overlay = self.pads.overlay
        self.geometry = self.layer.geometry
        self.blocks = len(self.layer.source.blocks)
        self.ratio = self.overlay.halves_per_vector
        self.half_words = -(-self.layer.weight.shape[0] // self.overlay.block_in)

    def emit(self) -> None:
        chunks = list(self.chunks())
        cut = self.cut(chunks)
        buffers = self.pads.layer_buffers(cut.source, cut.copies, cut.result)
        for stripe in rectangles(self.geometry.count, (cut.rows, cut.columns)):
            source = self.transfer.load_source(
                self.layer.name, self.layer.source, self.geometry, stripe, buffers.source
            )
            for chunk in chunks:
                self.chunk(chunk, stripe, source, buffers)

    # Weights.

    def chunks(self) -> Iterator[Chunk]:
        """Cut the outputs so that a chunk's tiles and records take half of WGT and PARAM at most."""
        tiles = tile_weights(self.layer.weight, self.layer.present, self.layer.source.lanes, self.overlay)
        vectors = tiles.parts[0].shape[0]
        records = self.overlay.block_out * self.layer.parameters.sets
        table = 0 if self.layer.table is None else self.transfer.table_records
        most = min(MOST_OC, (self.pads.param_half - table) // records, MOST_HALF_WORDS // self.ratio)
        if most < 1:
            raise self.fail(
                f"parameters of {self.overlay.block_out} channels need {records + table} records of PARAM, "
                f"half of it has {self.pads.param_half}"
            )
        passes = [self.passes(tiles, vector) for vector in range(vectors)]
        first = 0
        while first < vectors:
            count = 1
            size = sum(r.size(tiles.parts[0].shape[3]) for r in passes[first])
            while (
                first + count < vectors
                and count < most
                and passes[first + count] == passes[first]
                and size * (count + 1) <= self.pads.wgt_half
            ):
                count += 1
            yield self.make_chunk(tiles, first, count, passes[first])
            first += count

    def passes(self, tiles: Tiles, vector: int) -> tuple[Range, ...]:
        """What an output vector needs, in ranges small enough for half of WGT."""
        kh, kw = tiles.parts[0].shape[2:4]
        rows = min(kh, MOST_KY, max(1, self.pads.wgt_half // kw))
        deep = min(MOST_IC, max(1, self.pads.wgt_half // (rows * kw)))
        found = []
        for part in range(len(tiles.parts)):
            used = tiles.used(part, vector)
            for ic in range(used[0], used[-1] + 1, deep) if used else ():
                for ky in range(0, kh, rows):
                    found.append(Range(part, ic, min(deep, used[-1] + 1 - ic), ky, min(rows, kh - ky)))
        return tuple(found) or (Range(0, 0, 1, 0, 1),)  # all weights absent: one row of zeros

    def make_chunk(self, tiles: Tiles, first: int, count: int, ranges: tuple[Range, ...]) -> Chunk:
        """Store weights and records. Loads are filled with passes while they fit half of WGT."""
        kw = tiles.parts[0].shape[3]
        loads: list[WeightLoad] = []
        passes: list[Pass] = []
        content: list[bytes] = []
        products: list[int] = []

        def flush() -> None:
            if passes:
                packed = b"".join(content)
                offset = self.transfer.pool.add_weights(packed, products, self.overlay.tile_bytes)
                loads.append(WeightLoad(offset, len(products), tuple(passes)))
                for part in (passes, content, products):
                    part.clear()

        for r in ranges:
            size = count * r.size(kw)
            if len(products) + size > self.pads.wgt_half:
                flush()
            passes.append(Pass(r.ic, r.n_ic, r.ky, r.n_ky, len(products)))
            cut = tiles.parts[r.part][first : first + count, r.ic : r.ic + r.n_ic, r.ky : r.ky + r.n_ky]
            content.append(pack_bits(cut, self.overlay.wgt_bits).tobytes())
            own = tiles.products[first : first + count, r.ic : r.ic + r.n_ic]
            counted = self.layer.counted and r.part == 0
            products += np.repeat(own if counted else 0 * own, r.n_ky, axis=1).ravel().tolist()
        flush()
        half_word = first * self.ratio
        half_words = min(count * self.ratio, self.half_words - half_word)
        lanes = self.transfer.output_lanes(self.layer.weight.shape[0], half_word, half_words)
        records = parameter_records(self.layer.parameters, lanes, self.zero_point)
        records += self.transfer.table_bytes(self.layer.table)
        return Chunk(
            first,
            count,
            tuple(loads),
            len(records) // 16,
            self.transfer.pool.add(records),
            half_words,
        )

    @property
    def zero_point(self) -> int:
        """What lanes without a channel hold; nothing reads them with a weight."""
        return self.layer.parameters.lo

    # The cut.

    def cut(self, chunks: list[Chunk]) -> Cut:
        """The stripe with the least DRAM traffic that fits, waiting counted as traffic."""
        best: tuple[int, Cut] | None = None
        reload = sum(len(c.loads) for c in chunks) > 2
        weights = sum(load.tiles for c in chunks for load in c.loads) * self.overlay.tile_bytes
        for cut in self.cuts(chunks):
            if cut.need > self.overlay.act_half_words:
                continue
            traffic = cut.traffic * self.overlay.half_word_bytes + weights * (cut.stripes if reload else 1)
            traffic += cut.stripes * STRIPE_BYTES
            if best is None or traffic < best[0]:
                best = (traffic, cut)
        if best is None:
            least = min(cut.need for cut in self.cuts(chunks))
            raise self.fail(
                f"one result needs {least} half words of ACT, {self.overlay.name} has {self.overlay.act_half_words}"
            )
        return best[1]

    def cuts(self, chunks: list[Chunk]) -> Iterator[Cut]:
        """Every cut worth trying."""
        g, source = self.geometry, self.layer.source
        half_words = max(c.half_words for c in chunks) * self.layer.output.planes
        heights = [(rows, g.extent(0, rows, source.height)) for rows in sizes(g.count[0], g.count[0])]
        for columns in sizes(g.count[1], self.overlay.acc_half_vectors):
            across = g.extent(1, columns, source.width)
            for rows, down in heights:
                yield Cut(
                    rows,
                    columns,
                    down.pieces * across.pieces,
                    down.total * across.total * self.blocks,
                    down.largest * across.largest * self.blocks,
                    rows * columns * half_words,
                )

    # Instructions.

    def chunk(self, chunk: Chunk, stripe: Rectangle, source: Rectangle, buffers: Buffers) -> None:
        name, geometry = self.layer.name, self.geometry
        records = self.transfer.load_records(name, chunk.record_offset, chunk.records, self.pads.param)
        result = buffers.result.next()
        rows = min(stripe.rows, self.overlay.acc_half_vectors // stripe.columns)
        held = (
            self.transfer.load_tiles(name, chunk.loads[0], self.pads.wgt) if len(chunk.loads) == 1 else None
        )
        for y in range(0, stripe.rows, rows):
            count_y = min(rows, stripe.rows - y)
            area = count_y * stripe.columns
            group = max(1, min(chunk.count, self.overlay.acc_half_vectors // area))
            for o in range(0, chunk.count, group):
                vectors = min(group, chunk.count - o)
                acc = self.pads.next_acc()
                for load in chunk.loads:
                    tiles = held if held is not None else self.transfer.load_tiles(name, load, self.pads.wgt)
                    for p in load.passes:
                        self.matrix(
                            p,
                            load,
                            tiles,
                            chunk,
                            (o, vectors),
                            stripe,
                            (y, count_y),
                            source,
                            acc,
                            p is first_pass(chunk),
                        )
                self.vector(chunk, (o, vectors), stripe, (y, count_y), acc, records, result)
        self.transfer.store_result(
            name,
            self.layer.output,
            geometry,
            stripe,
            result,
            chunk.first * self.ratio,
            chunk.half_words,
        )

    def matrix(
        self,
        p: Pass,
        load: WeightLoad,
        tiles: int,
        chunk: Chunk,
        outputs: tuple[int, int],
        stripe: Rectangle,
        rows: tuple[int, int],
        source: Rectangle,
        acc: int,
        fresh: bool,
    ) -> None:
        g = self.geometry
        kw = g.kernel[1]
        area = rows[1] * stripe.columns
        per_vector = p.count_ic * p.count_ky * kw
        pixel = self.blocks
        instruction = Matrix(
            n_oc=outputs[1],
            n_ic=p.count_ic,
            n_ky=p.count_ky,
            n_kx=kw,
            n_y=rows[1],
            n_x=stripe.columns,
            wgt_base=tiles + p.tile + outputs[0] * per_vector,
            wgt_oc=per_vector,
            wgt_ic=p.count_ky * kw,
            wgt_ky=kw,
            wgt_kx=1,
            acc_base=acc * self.overlay.acc_half_vectors,
            acc_oc=area if outputs[1] > 1 else 0,
            acc_y=stripe.columns if rows[1] > 1 else 0,
            acc_x=1 if stripe.columns > 1 else 0,
            act_base=source.address + p.first_ic,
            act_row=source.columns * pixel if source.rows > 1 else 0,
            act_x=pixel if source.columns > 1 else 0,
            act_ic=1,
            stride_y=g.stride[0],
            stride_x=g.stride[1],
            dilation_y=g.dilation[0],
            dilation_x=g.dilation[1],
            offset_y=(stripe.y + rows[0]) * g.stride[0] + g.offset[0] + p.first_ky * g.dilation[0] - source.y,
            offset_x=stripe.x * g.stride[1] + g.offset[1] - source.x,
            height=source.rows,
            width=source.columns,
            pad=self.layer.pad,
            fresh=int(fresh),
        )
        self.transfer.program.add(
            self.layer.name,
            instruction,
            Access(Space.ACT, source.address, source.address + source.rows * source.columns * pixel, False),
            Access(Space.WGT, tiles, tiles + load.tiles, False),
            Access(Space.ACC, acc, acc + 1, True),
        )

    def vector(
        self,
        chunk: Chunk,
        outputs: tuple[int, int],
        stripe: Rectangle,
        rows: tuple[int, int],
        acc: int,
        records: int,
        result: int,
    ) -> None:
        parameters = self.layer.parameters
        first = outputs[0] * self.ratio
        half_words = min(outputs[1] * self.ratio, chunk.half_words - first)
        per = self.overlay.block_in * parameters.sets
        pixel = chunk.half_words * self.layer.output.planes
        instruction = Vector(
            op=VectorOp.SUM,
            source=Source.ACC,
            n_c=half_words,
            n_y=rows[1],
            n_x=stripe.columns,
            height=rows[1],
            width=stripe.columns,
            src_base=acc * self.overlay.acc_half_vectors,
            src_row=stripe.columns if rows[1] > 1 else 0,
            src_x=1 if stripe.columns > 1 else 0,
            src_c=rows[1] * stripe.columns if outputs[1] > 1 else 0,
            dst_base=result + rows[0] * stripe.columns * pixel + first,
            dst_row=stripe.columns * pixel if rows[1] > 1 else 0,
            dst_x=pixel if stripe.columns > 1 else 0,
            dst_c=1,
            param_base=records + first * per,
            param_c=per,
            lo=parameters.lo,
            hi=parameters.hi,
            negative=int(parameters.negative),
            out_planes=self.layer.output.planes - 1,
            dst_plane=chunk.half_words if self.layer.output.planes > 1 else 0,
            out_zp=parameters.out_zero_point,
            table=int(self.layer.table is not None),
            table_base=records + chunk.records - self.transfer.table_records
            if self.layer.table is not None
            else 0,
        )
        size = stripe.rows * stripe.columns * pixel
        self.transfer.program.add(
            self.layer.name,
            instruction,
            Access(Space.ACC, acc, acc + 1, False),
            Access(Space.PARAM, records, records + chunk.records, False),
            Access(Space.ACT, result, result + size, True),
        )

    def fail(self, message: str) -> ScheduleError:
        return ScheduleError(Fault(message, f"layer {self.layer.name}", "choose an overlay with more memory"))


def first_pass(chunk: Chunk) -> Pass:
    """The pass that begins a chunk's sums."""
    return chunk.loads[0].passes[0]


def sizes(total: int, most: int) -> list[int]:
    """Sizes worth trying for a cut of `total`: those that give 1, 2, 3, .. equal parts, `most` at the largest."""
    return sorted(
        {-(-total // parts) for parts in range(1, total + 1) if -(-total // parts) <= most}, reverse=True
    )
