"""A stripe of a MATRIX layer -> instructions.

For each chunk of outputs the rows of the stripe are cut into pieces whose sums fit one half of ACC; the halves take
turns, so that VECTOR requantises one piece while MATRIX sums the next.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace

from tilewright.codegen.buffers import Step
from tilewright.codegen.chunks import TABLE_RECORDS, Area, MatrixChunk, Pass
from tilewright.codegen.displacement import Entries, reaching, table_rows
from tilewright.codegen.flow import is_flat
from tilewright.codegen.layers import Geometry, MatrixLayer
from tilewright.codegen.tile import Access, Constants, Portion, Space, TileProgram
from tilewright.codegen.transfer import rows_of
from tilewright.codegen.vector_tiles import destination
from tilewright.targets.config import Overlay
from tilewright.targets.isa.spec import Matrix, Source, Vector, VectorOp


@dataclass(frozen=True)
class Piece:
    """Sums that lie in one half of ACC: output vectors of a chunk, result rows and columns.

    `sums_y`, `sums_x`: first row (column) of the sums, and how many there are.
    """

    vector: int
    vectors: int
    y: int
    rows: int
    x: int
    columns: int
    sums_y: tuple[int, int]
    sums_x: tuple[int, int]

    @property
    def area(self) -> int:
        """Sums of one output vector."""
        return self.sums_y[1] * self.sums_x[1]

    @property
    def size(self) -> int:
        """Sums, in vectors of ACC."""
        return self.vectors * self.area


@dataclass(eq=False)
class MatrixEmitter:
    """Makes the instructions of steps. `half`: of ACC, which takes turns."""

    overlay: Overlay
    entries: Entries
    half: int = 0

    def emit(
        self, layer: MatrixLayer, chunks: tuple[MatrixChunk, ...], steps: Sequence[Step]
    ) -> Iterator[Portion]:
        """The instructions of one step of several images, a piece a portion.

        The sums of as many images as fit lie in a half side by side, so that a load of weights serves all of them.
        """
        ratio = self.overlay.halves_per_vector
        for chunk in chunks:
            pieces = self.pieces(layer, chunk, steps[0])
            for piece in pieces:
                beside = max(1, self.overlay.acc_half_vectors // piece.size)
                for first in range(0, len(steps), beside):
                    self.half ^= 1
                    base = self.half * self.overlay.acc_half_vectors
                    placed = [(step, base + i * piece.size) for i, step in enumerate(steps[first:][:beside])]
                    program = TileProgram()
                    passes = [(load.tiles, p) for load in chunk.loads for p in load.passes]
                    for i, (tiles, p) in enumerate(passes):
                        for step, acc in placed:
                            self.matrix(program, layer, step, piece, acc, tiles, p, i == 0)
                    made = chunk.first * ratio + (chunk.half_words if piece is pieces[-1] else 0)
                    for step, acc in placed:
                        self.vector(program, layer, step, chunk, piece, acc)
                        yield Portion(step.layer, step.image, tuple(program.operations), range(0), made)
                        program = TileProgram()

    def pieces(self, layer: MatrixLayer, chunk: MatrixChunk, step: Step) -> list[Piece]:
        """Cut a chunk of a step: as many columns, rows, vectors as fit, in parts of about one size."""
        room = self.overlay.acc_half_vectors // layer.sums_per_result
        vectors, rows, columns = piece_size(chunk.count, step.stop - step.start, step.columns, room)
        return [
            Piece(
                o,
                min(vectors, chunk.count - o),
                y,
                min(rows, step.stop - y),
                x,
                min(columns, step.columns - x),
                sums_of(layer, 0, y, min(rows, step.stop - y)),
                sums_of(layer, 1, step.x + x, min(columns, step.columns - x)),
            )
            for y in range(step.start, step.stop, rows)
            for x in range(0, step.columns, columns)
            for o in range(0, chunk.count, vectors)
        ]

    def matrix(
        self,
        program: TileProgram,
        layer: MatrixLayer,
        step: Step,
        piece: Piece,
        acc: int,
        tiles: Constants,
        p: Pass,
        fresh: bool,
    ) -> None:
        g, source = layer.convolution, layer.source
        m, block = source.blocks[p.block]
        window = step.held[m]
        buffer = window.buffer
        flat = is_flat(source, m)
        kw = g.kernel[1]
        per_vector = p.count_ic * p.count_ky * kw
        top = p.first_ky * g.dilation[0] + g.offset[0]
        height, width = (1, 1) if flat else (m.height, window.columns)
        rows = table_rows(source, p.block, p.count_ic)
        held, entry = self.entries.find(rows) if rows else (None, 0)
        down, right = source.offsets[p.block] if source.offsets else (0, 0)
        instruction = Matrix(
            n_oc=piece.vectors,
            n_ic=p.count_ic,
            n_ky=p.count_ky,
            n_kx=kw,
            n_y=piece.sums_y[1],
            n_x=piece.sums_x[1],
            wgt_base=p.tile + piece.vector * per_vector,
            wgt_oc=per_vector,
            wgt_ic=p.count_ky * kw,
            wgt_ky=kw,
            wgt_kx=1,
            acc_base=acc,
            acc_oc=piece.area if piece.vectors > 1 else 0,
            acc_y=piece.sums_x[1] if piece.sums_y[1] > 1 else 0,
            acc_x=1 if piece.sums_x[1] > 1 else 0,
            act_base=buffer.address + block + p.plane * m.plane_blocks - window.block,
            act_row=0 if height == 1 else buffer.row,
            act_x=0 if width == 1 else buffer.blocks,
            act_ic=1,
            ring=0 if flat else buffer.ring,
            stride_y=g.stride[0],
            stride_x=g.stride[1],
            dilation_y=g.dilation[0],
            dilation_x=g.dilation[1],
            offset_y=piece.sums_y[0] * g.stride[0] + top + down,
            offset_x=piece.sums_x[0] * g.stride[1] + g.offset[1] - window.x + right,
            height=height,
            width=width,
            pad=layer.pad >> p.plane * self.overlay.inp_bits & self.overlay.inp_max,
            displaced=int(bool(rows)),
            disp_base=entry,
            fresh=int(fresh),
            w_signed=p.signed,
            lane_shift=int(p.quartered),
            shift=p.shift,
        )
        if flat:
            reads = [Access(Space.ACT, buffer.address, buffer.address + buffer.half_words, False)]
        else:
            taps = replace(
                g, kernel=(p.count_ky, kw), offset=(top + down, g.offset[1]), above=(0, 0), below=(0, 0)
            )
            if rows and source.moves is not None:
                taps = reaching(taps, source.moves[p.block : p.block + p.count_ic].reshape(-1, 2))
            reads = rows_of(buffer, *taps.rows(*piece.sums_y, m.height), False)
        program.add(
            layer.name,
            instruction,
            *reads,
            Access(Space.ACC, self.half, self.half + 1, True),
            constants=tiles,
            displacements=held,
        )

    def vector(
        self, program: TileProgram, layer: MatrixLayer, step: Step, chunk: MatrixChunk, piece: Piece, acc: int
    ) -> None:
        """Requantise a piece into the layer's result."""
        parameters = layer.parameters
        ratio = self.overlay.halves_per_vector
        first = piece.vector * ratio
        half_words = min(piece.vectors * ratio, chunk.half_words - first)
        per = self.overlay.block_in * parameters.sets
        block = chunk.first * ratio + first
        area = Area(piece.y, piece.x, piece.rows, piece.columns)
        fields, writes = destination(layer, step.result, area, block)
        table = layer.table is not None
        windows = {} if layer.pool is None else window_fields(layer.pool, step, piece)
        instruction = Vector(
            op=VectorOp.SUM if layer.pool is None else VectorOp.MAX,
            source=Source.ACC,
            n_c=half_words,
            n_y=piece.rows,
            n_x=piece.columns,
            height=piece.sums_y[1],
            width=piece.sums_x[1],
            src_base=acc,
            src_row=piece.sums_x[1] if piece.sums_y[1] > 1 else 0,
            src_x=1 if piece.sums_x[1] > 1 else 0,
            src_c=piece.area if piece.vectors > 1 else 0,
            param_base=first * per,
            param_c=per,
            lo=parameters.lo,
            hi=parameters.hi,
            negative=int(parameters.negative),
            out_zp=parameters.out_zero_point,
            table=int(table),
            table_base=chunk.records.count - TABLE_RECORDS if table else 0,
            **fields,
            **windows,
        )
        program.add(
            layer.name,
            instruction,
            Access(Space.ACC, self.half, self.half + 1, False),
            *writes,
            constants=chunk.records,
        )


def sums_of(layer: MatrixLayer, axis: int, start: int, count: int) -> tuple[int, int]:
    """First row (axis 0) or column of the sums behind results start .., and how many there are."""
    if layer.pool is None:
        return start, count
    return layer.pool.span(axis, start, count, layer.convolution.count[axis])


def window_fields(pool: Geometry, step: Step, piece: Piece) -> dict[str, int]:
    """VECTOR's fields of a piece's windows over its sums."""
    return {
        "kernel_y": pool.kernel[0],
        "kernel_x": pool.kernel[1],
        "stride_y": pool.stride[0],
        "stride_x": pool.stride[1],
        "offset_y": piece.y * pool.stride[0] + pool.offset[0] - piece.sums_y[0],
        "offset_x": (step.x + piece.x) * pool.stride[1] + pool.offset[1] - piece.sums_x[0],
    }


def piece_size(vectors: int, rows: int, columns: int, room: int) -> tuple[int, int, int]:
    """Vectors, rows and columns of the largest piece: as many as fit, in parts of about one size."""
    columns = _even(columns, room)
    rows = _even(rows, max(1, room // columns))
    return _even(vectors, max(1, room // (rows * columns))), rows, columns


def cut_pieces(vectors: int, rows: int, columns: int, room: int) -> int:
    """Into how many pieces these are cut."""
    size = piece_size(vectors, rows, columns, room)
    return -(-vectors // size[0]) * -(-rows // size[1]) * -(-columns // size[2])


def _even(total: int, most: int) -> int:
    """The size of parts of `total` that are `most` at the largest and about equal."""
    return -(-total // -(-total // most))
