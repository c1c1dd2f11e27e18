"""A stripe of a MATRIX layer -> instructions.

For each chunk of outputs the rows of the stripe are cut into pieces whose sums fit one half of ACC; the halves take
turns, so that VECTOR requantises one piece while MATRIX sums the next.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from tilewright.codegen.buffers import Step
from tilewright.codegen.chunks import TABLE_RECORDS, Area, MatrixChunk, Pass
from tilewright.codegen.flow import is_flat
from tilewright.codegen.layers import MatrixLayer
from tilewright.codegen.tile import Access, Constants, Portion, Space, TileProgram
from tilewright.codegen.transfer import rows_of
from tilewright.codegen.vector_tiles import destination
from tilewright.targets.config import Overlay
from tilewright.targets.isa.spec import Matrix, Source, Vector, VectorOp


@dataclass(frozen=True)
class Piece:
    """Sums that lie in one half of ACC: output vectors of a chunk, result rows and columns."""

    vector: int
    vectors: int
    y: int
    rows: int
    x: int
    columns: int

    @property
    def area(self) -> int:
        """Results of one output vector."""
        return self.rows * self.columns

    @property
    def size(self) -> int:
        """Sums, in vectors of ACC."""
        return self.vectors * self.area


@dataclass(eq=False)
class MatrixEmitter:
    """Makes the instructions of steps. `half`: of ACC, which takes turns."""

    overlay: Overlay
    half: int = 0

    def emit(
        self, layer: MatrixLayer, chunks: tuple[MatrixChunk, ...], steps: Sequence[Step]
    ) -> Iterator[Portion]:
        """The instructions of one step of several images, a piece a portion.

        The sums of as many images as fit lie in a half side by side, so that a load of weights serves all of them.
        """
        ratio = self.overlay.halves_per_vector
        for chunk in chunks:
            pieces = self.pieces(chunk, steps[0])
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

    def pieces(self, chunk: MatrixChunk, step: Step) -> list[Piece]:
        """Cut a chunk of a step: as many columns, rows, vectors as fit, in parts of about one size."""
        vectors, rows, columns = piece_size(
            chunk.count, step.stop - step.start, step.columns, self.overlay.acc_half_vectors
        )
        return [
            Piece(
                o,
                min(vectors, chunk.count - o),
                y,
                min(rows, step.stop - y),
                x,
                min(columns, step.columns - x),
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
        g, source = layer.geometry, layer.source
        m, block = source.blocks[p.block]
        window = step.held[m]
        buffer = window.buffer
        flat = is_flat(source, m)
        kw = g.kernel[1]
        per_vector = p.count_ic * p.count_ky * kw
        top = p.first_ky * g.dilation[0] + g.offset[0]
        height, width = (1, 1) if flat else (m.height, window.columns)
        instruction = Matrix(
            n_oc=piece.vectors,
            n_ic=p.count_ic,
            n_ky=p.count_ky,
            n_kx=kw,
            n_y=piece.rows,
            n_x=piece.columns,
            wgt_base=p.tile + piece.vector * per_vector,
            wgt_oc=per_vector,
            wgt_ic=p.count_ky * kw,
            wgt_ky=kw,
            wgt_kx=1,
            acc_base=acc,
            acc_oc=piece.area if piece.vectors > 1 else 0,
            acc_y=piece.columns if piece.rows > 1 else 0,
            acc_x=1 if piece.columns > 1 else 0,
            act_base=buffer.address + block - window.block,
            act_row=0 if height == 1 else buffer.row,
            act_x=0 if width == 1 else buffer.blocks,
            act_ic=1,
            ring=0 if flat else buffer.ring,
            stride_y=g.stride[0],
            stride_x=g.stride[1],
            dilation_y=g.dilation[0],
            dilation_x=g.dilation[1],
            offset_y=piece.y * g.stride[0] + top,
            offset_x=(step.x + piece.x) * g.stride[1] + g.offset[1] - window.x,
            height=height,
            width=width,
            pad=layer.pad,
            fresh=int(fresh),
        )
        reads = [Access(Space.ACT, buffer.address, buffer.address + buffer.half_words, False)]
        if not flat:
            first, count = g.span(0, piece.y, piece.rows, m.height)
            reads = rows_of(buffer, first, first + count, False)
        program.add(
            layer.name,
            instruction,
            *reads,
            Access(Space.ACC, self.half, self.half + 1, True),
            constants=tiles,
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
        instruction = Vector(
            op=VectorOp.SUM,
            source=Source.ACC,
            n_c=half_words,
            n_y=piece.rows,
            n_x=piece.columns,
            height=piece.rows,
            width=piece.columns,
            src_base=acc,
            src_row=piece.columns if piece.rows > 1 else 0,
            src_x=1 if piece.columns > 1 else 0,
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
        )
        program.add(
            layer.name,
            instruction,
            Access(Space.ACC, self.half, self.half + 1, False),
            *writes,
            constants=chunk.records,
        )


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
