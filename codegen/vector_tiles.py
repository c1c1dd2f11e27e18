"""A stripe of a VECTOR layer -> instructions: one for each chunk of half words, map, and area of equal parameters."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import product

from tilewright.codegen.buffers import Buffer, Step, Window
from tilewright.codegen.chunks import Area, VectorChunk, parameter_areas
from tilewright.codegen.layers import Layer, VectorLayer
from tilewright.codegen.tile import Access, Portion, Space, TileProgram
from tilewright.codegen.transfer import rows_of
from tilewright.targets.config import Overlay
from tilewright.targets.isa.spec import RECORD_BYTES, Source, Vector, VectorOp

LONGEST = 1024
"""Cycles of VECTOR that an instruction on ACT should take at most: two pieces of MATRIX can wait for it in ACC."""


def destination(
    layer: Layer, result: Buffer, area: Area, block: int
) -> tuple[dict[str, int], tuple[Access, ...]]:
    """Where VECTOR writes results of a layer, from half word `block` of a pixel on: fields, and the rows touched."""
    g, planes = layer.geometry, layer.output.planes
    down, across = result.row, result.blocks
    fields = {
        "out_planes": planes.bit_length() - 1,
        "dst_plane": result.blocks // planes if planes > 1 else 0,
        "dst_c": 1,
    }
    if result.staged or not _scattered(layer):
        base, writes = result.at(area.y), rows_of(result, area.y, area.y + area.rows, True)
        if area.y % result.lines + area.rows > result.lines:
            base = result.address
            fields |= {"dst_ring": result.lines, "dst_y": area.y % result.lines}
    else:
        turned = (across * g.step[1], down * g.step[0])
        base = result.address + g.first[0] * down + g.first[1] * across
        down, across = turned if g.swapped else (down * g.step[0], across * g.step[1])
        base += area.y * down
        writes = [Access(Space.ACT, result.address, result.address + result.half_words, True)]
    fields |= {
        "dst_base": base + area.x * across + block,
        "dst_row": down if area.rows > 1 else 0,
        "dst_x": across if area.columns > 1 else 0,
    }
    return fields, tuple(writes)


def _scattered(layer: Layer) -> bool:
    """Whether the results are not the rows and columns of the map one by one."""
    g = layer.geometry
    return g.swapped or g.first != (0, 0) or g.step != (1, 1)


@dataclass(eq=False)
class VectorEmitter:
    """Makes the instructions of steps."""

    overlay: Overlay

    def emit(
        self, layer: VectorLayer, chunks: tuple[VectorChunk, ...], steps: Sequence[Step]
    ) -> Iterator[Portion]:
        """The instructions of one step of several images, one a portion."""
        areas = [area for area, _ in parameter_areas(layer.parameters, layer.geometry.count)]
        for chunk, step in product(chunks, steps):
            whole = Area(step.start, step.x, step.stop - step.start, step.columns)
            first = max(chunk.first, step.blocks.start)
            blocks = range(first, min(chunk.first + chunk.count, step.blocks.stop))
            if not blocks:
                continue
            for i, area in enumerate(areas):
                part = intersection(area, whole)
                for piece in self.pieces(layer, blocks, step, part) if part is not None else ():
                    program = TileProgram()
                    self.vector(program, layer, chunk, blocks, step, piece, i)
                    yield Portion(step.layer, step.image, tuple(program.operations), blocks, 0)

    def row_cost(self, layer: VectorLayer, blocks: range) -> int:
        """About the cycles of a row of results."""
        g = layer.geometry
        (m, _) = layer.source.blocks[blocks.start]
        reads = g.kernel[0] * min(g.stride[1], g.kernel[1]) * m.planes
        if layer.source2 is not None:
            reads += layer.source2.blocks[blocks.start][0].planes
        lanes = max(1, self.overlay.vector_lanes // self.overlay.block_in)
        return max(1, g.count[1] * reads * -(-len(blocks) // lanes))

    def pieces(self, layer: VectorLayer, blocks: range, step: Step, part: Area) -> Iterator[Area]:
        """The rows of a part in runs short enough that the requantisation of sums need not wait long.

        Those of two operands end where the lines of one wrap as well, for they have one ring.
        """
        rows = max(1, LONGEST // self.row_cost(layer, blocks))
        rows = -(-part.rows // -(-part.rows // rows))
        ends = set(range(part.y + rows, part.y + part.rows, rows)) | {part.y + part.rows}
        if layer.source2 is not None:
            for source in (layer.source, layer.source2):
                b = step.held[source.blocks[blocks.start][0]].buffer
                if b.height > 1:
                    ends |= {stop for _, stop in b.pieces(part.y, part.y + part.rows)}
        start = part.y
        for stop in sorted(ends):
            yield Area(start, part.x, stop - start, part.columns)
            start = stop

    def vector(
        self,
        program: TileProgram,
        layer: VectorLayer,
        chunk: VectorChunk,
        blocks: range,
        step: Step,
        part: Area,
        area: int,
    ) -> None:
        g, parameters = layer.geometry, layer.parameters
        m, block = layer.source.blocks[blocks.start]
        window = step.held[m]
        taps = (
            0 if layer.weight is None else layer.weight.shape[1] * self.overlay.block_in * 2 // RECORD_BYTES
        )
        skipped = blocks.start - chunk.first
        per = 0 if parameters.by_position else self.overlay.block_in * parameters.sets
        at = Area(part.y, part.x - step.x, part.rows, part.columns)
        fields, writes = destination(layer, step.result, at, blocks.start - step.blocks.start)
        first, count = g.span(0, part.y, part.rows, m.height)
        reads = rows_of(window.buffer, first, first + count, False)
        if layer.source2 is None:
            fields |= _operand("src", window, block, 0, window.x) | {
                "ring": window.buffer.ring,
                "height": m.height,
                "width": window.columns,
                "offset_y": part.y * g.stride[0] + g.offset[0],
                "offset_x": part.x * g.stride[1] + g.offset[1] - window.x,
            }
        else:
            second, block2 = layer.source2.blocks[blocks.start]
            window2 = step.held[second]
            start2, count2 = (part.y, part.rows) if second.height > 1 else (0, 1)
            fields |= _operand("src", window, block, part.y, part.x)
            fields |= _operand("src2", window2, block2, start2, part.x)
            fields |= {"height": part.rows, "width": part.columns, "src2_zp": layer.zero_point2}
            fields |= {
                "in2_planes": second.planes.bit_length() - 1,
                "src2_plane": second.plane_blocks if second.planes > 1 else 0,
            }
            reads += rows_of(window2.buffer, start2, start2 + count2, False)
        instruction = Vector(
            op=layer.op,
            source=Source.ACT,
            n_c=len(blocks),
            n_y=part.rows,
            n_x=part.columns,
            kernel_y=g.kernel[0],
            kernel_x=g.kernel[1],
            stride_y=g.stride[0],
            stride_x=g.stride[1],
            dilation_y=g.dilation[0],
            dilation_x=g.dilation[1],
            src_c=1,
            in_planes=m.planes.bit_length() - 1,
            src_plane=m.plane_blocks if m.planes > 1 else 0,
            param_base=area * self.overlay.block_in if parameters.by_position else skipped * per,
            param_c=per,
            depthwise_base=chunk.taps + skipped * taps if layer.op is VectorOp.DEPTHWISE else 0,
            depthwise_c=taps,
            table=int(layer.table is not None),
            table_base=chunk.table if layer.table is not None else 0,
            negative=int(parameters.negative),
            lo=parameters.lo,
            hi=parameters.hi,
            src_zp=layer.zero_point,
            out_zp=parameters.out_zero_point,
            **fields,
        )
        program.add(layer.name, instruction, *reads, *writes, constants=chunk.records)


def _operand(name: str, window: Window, block: int, y: int, x: int) -> dict[str, int]:
    """Address and pitches of an operand from row y and column x on; a map of one row or column serves all."""
    b = window.buffer
    pixel = b.blocks if b.map.width > 1 else 0
    return {
        f"{name}_base": b.at(y) + (x - window.x) * pixel + block - window.block,
        f"{name}_row": b.row if b.height > 1 else 0,
        f"{name}_x": pixel,
    }


def intersection(a: Area, b: Area) -> Area | None:
    """What two areas have in common."""
    y, x = max(a.y, b.y), max(a.x, b.x)
    rows, columns = min(a.y + a.rows, b.y + b.rows) - y, min(a.x + a.columns, b.x + b.columns) - x
    return Area(y, x, rows, columns) if rows > 0 and columns > 0 else None
