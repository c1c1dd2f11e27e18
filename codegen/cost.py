"""What a group of layers costs, by estimate: cycles of the units, DRAM bytes, half words of ACT.

The estimate is for choosing plans: cheap, and not right to the cycle; the timing simulator is the judge.
It knows steps of MATRIX, reads of VECTOR, starts of instructions and bytes moved; `course.py` what of it can
overlap.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

from tilewright.codegen.chunks import MatrixChunk, VectorChunk, parameter_areas
from tilewright.codegen.course import Clock, Course, Work, follow
from tilewright.codegen.layers import Geometry, Layer, MatrixLayer
from tilewright.codegen.matrix_tiles import cut_pieces
from tilewright.codegen.prepared import Prepared
from tilewright.codegen.schedule import lags
from tilewright.targets.config import Overlay
from tilewright.targets.isa.spec import INSTRUCTION_BYTES, RECORD_BYTES
from tilewright.targets.sim.rules import Rules

RULES = Rules()
MATRIX_START = RULES.start_cycles + RULES.tile_cycles + 1
"""Cycles of an instruction in which MATRIX makes no step."""
VECTOR_START = RULES.start_cycles + RULES.vector_depth // 2
"""The same of VECTOR, which loads the first parameters meanwhile."""


@dataclass(frozen=True)
class LayerWork:
    """A layer's work, whole and in stripes alike.

    Attributes:
        matrix, vector: cycles of its steps and reads, without those for starting instructions.
        own_vector: of `vector`, what is not requantisation of sums, which runs beside MATRIX anyway.
        tiles, records: tiles of its weights, bytes of its parameters.
        rows, columns: of its results.
        chunks: in which its constants come on chip.
    """

    matrix: int
    vector: int
    own_vector: int
    tiles: int
    records: int
    rows: int
    columns: int
    chunks: int


def work_of(
    layer: Layer, chunks: tuple[MatrixChunk, ...] | tuple[VectorChunk, ...], overlay: Overlay
) -> LayerWork:
    """A layer's work."""
    rows, columns = layer.geometry.count
    lanes = max(1, overlay.vector_lanes // overlay.block_in)
    slow = max(1, overlay.block_in // overlay.vector_lanes)
    records = sum(c.records.count for c in chunks) * RECORD_BYTES
    if isinstance(layer, MatrixLayer):
        matrix = [c for c in chunks if isinstance(c, MatrixChunk)]
        sums = math.prod(layer.convolution.count)
        steps = sum(c.steps for c in matrix) * layer.convolution.kernel[1]
        tiles = sum(load.tiles.count for c in matrix for load in c.loads)
        reads = sum(-(-c.half_words // lanes) for c in matrix)
        taken = rows * columns if layer.pool is None else window_reads(layer.pool, *layer.convolution.count)
        return LayerWork(
            max(steps * sums, tiles * RULES.tile_cycles),
            reads * taken * slow * layer.output.planes,
            0,
            tiles,
            records,
            rows,
            columns,
            len(matrix),
        )
    source = layer.source
    planes = max(m.planes for m, _ in source.blocks)
    reads = window_reads(layer.geometry, source.height, source.width) * planes
    if layer.source2 is not None:
        reads += layer.source2.height * layer.source2.width * max(m.planes for m, _ in layer.source2.blocks)
    vector = sum(-(-c.count // lanes) for c in chunks if isinstance(c, VectorChunk))
    cycles = vector * max(reads, rows * columns * layer.output.planes) * slow
    areas = len(list(parameter_areas(layer.parameters, layer.geometry.count)))
    return LayerWork(0, cycles, cycles, 0, records, rows, columns, len(chunks) * areas)


def window_reads(g: Geometry, height: int, width: int) -> int:
    """Reads of VECTOR for a half word of channels (`targets/timing.md`): rows of windows, columns of the source."""
    rows = 0
    for j in range(g.count[0]):
        start = j * g.stride[0] + g.offset[0]
        rows += sum(0 <= start + k * g.dilation[0] < height for k in range(g.kernel[0]))
    if g.dilation[1] > 1 and g.kernel[1] > 1:
        return rows * g.count[1] * g.kernel[1]
    low = max(g.offset[1], 0)
    high = min((g.count[1] - 1) * g.stride[1] + g.offset[1] + g.kernel[1], width)
    windows = min(g.count[1], -(-g.kernel[1] // g.stride[1]))
    columns = min(high - low, g.count[1] * g.kernel[1])
    return rows * columns * -(-windows // RULES.window_reuse)


@dataclass(frozen=True)
class Totals:
    """Work of several layers, instructions' starts included; `fetch`: bytes of instructions."""

    matrix: int
    vector: int
    own: int
    tiles: int
    records: int
    fetch: int


@dataclass(frozen=True)
class Cost:
    """Of a group: its course, and for all its images cycles of the units and DRAM bytes.

    Attributes:
        course: for an image, as the cycles below are.
        dram: cycles of its transfers.
        first: of them, what must come before the group begins: a stripe of its inputs.
        late: what cannot come before it begins: more than half of WGT holds.
    """

    course: Course
    matrix: int
    vector: int
    read_bytes: int
    write_bytes: int
    dram: float
    first: float
    late: float

    def behind(self, clock: Clock) -> Clock:
        """The group put behind others."""
        return clock.after(self.course, self.dram, self.first, self.late)

    @property
    def dram_bytes(self) -> int:
        """Both ways."""
        return self.read_bytes + self.write_bytes


@dataclass(eq=False)
class Coster:
    """Estimates groups of a region."""

    prepared: Prepared

    def __post_init__(self) -> None:
        p = self.prepared
        self.overlay = p.overlay
        self.works = [
            work_of(layer, p.matrix.get(i) or p.vector[i], p.overlay) for i, layer in enumerate(p.flow.layers)
        ]
        self.started: dict[tuple[int, int], tuple[int, int]] = {}
        self.courses: dict[tuple[int, ...], Course] = {}
        self.inside: dict[tuple[int, int], tuple[dict[int, int], dict[int, list[int]]]] = {}
        self.summed: dict[tuple[int, int, int], Totals] = {}

    def starts(self, i: int, rows: int) -> tuple[int, int]:
        """Instructions of MATRIX and VECTOR for a stripe of so many rows of a layer."""
        key = i, rows
        if key not in self.started:
            w = self.works[i]
            if i in self.prepared.matrix:
                layer = self.prepared.flow.layers[i]
                assert isinstance(layer, MatrixLayer)
                room = self.overlay.acc_half_vectors // layer.sums_per_result
                matrix = vector = 0
                for chunk in self.prepared.matrix[i]:
                    pieces = cut_pieces(chunk.count, rows, w.columns, room)
                    vector += pieces
                    matrix += pieces * sum(len(load.passes) for load in chunk.loads)
                self.started[key] = matrix, vector
            else:
                self.started[key] = 0, w.chunks
        return self.started[key]

    def totals(self, layers: range, stripes: int) -> Totals:
        """Work of some layers in so many stripes."""
        key = layers.start, layers.stop, stripes
        if key not in self.summed:
            works = [self.works[i] for i in layers]
            starts = [self.starts(i, -(-self.works[i].rows // stripes)) for i in layers]
            matrix_starts, vector_starts = sum(m for m, _ in starts), sum(v for _, v in starts)
            self.summed[key] = Totals(
                sum(w.matrix for w in works) + stripes * matrix_starts * MATRIX_START,
                sum(w.vector for w in works) + stripes * vector_starts * VECTOR_START,
                sum(w.own_vector for w in works),
                sum(w.tiles for w in works),
                sum(w.records for w in works),
                stripes * (matrix_starts + vector_starts + 1) * INSTRUCTION_BYTES,
            )
        return self.summed[key]

    def group(
        self, layers: range, stripes: int, lag: int, read_bytes: int, write_bytes: int, images: int = 1
    ) -> Cost:
        """A group that loads and stores so many bytes of maps for each of its images."""
        t = self.totals(layers, stripes)
        read_bytes, write_bytes = images * read_bytes, images * write_bytes
        read = read_bytes + t.tiles * self.overlay.tile_bytes + t.records + images * t.fetch
        if stripes > 1:  # what does not stay on chip from stripe to stripe
            over = max(0, t.tiles - self.overlay.wgt_tiles + 16)
            read += (stripes - 1) * min(over * 2, t.tiles) * self.overlay.tile_bytes
            if t.records > self.overlay.param_kib * 1024:
                read += (stripes - 1) * t.records
        board = self.overlay.board
        dram = max(
            read / board.dram_most_read_bytes_per_cycle,
            write_bytes / board.dram_write_bytes_per_cycle,
            (read + write_bytes) / board.dram_bytes_per_cycle,
        )
        width = board.dram_most_read_bytes_per_cycle
        first = read_bytes / stripes / width + board.dram_latency_cycles
        late = max(0.0, dram - self.overlay.wgt_kib * 512 / width)
        course = self.course(layers, stripes, lag, images)
        return Cost(
            course,
            images * t.matrix,
            images * t.vector,
            read,
            write_bytes,
            dram / images,
            first / images,
            late / images,
        )

    def course(self, layers: range, stripes: int, lag: int, images: int) -> Course:
        """How the stripes of so many images, side by side, run through the units."""
        key = layers.start, layers.stop, stripes, lag, images
        if key not in self.courses:
            flow = self.prepared.flow
            behind = lags(flow, layers, lag)
            ahead, writers = self.within(layers)
            works = {}
            for i in layers:
                w = self.works[i]
                matrix, vector = self.starts(i, -(-w.rows // stripes))
                works[i] = Work(
                    images * w.matrix,
                    images * w.vector,
                    images * matrix * MATRIX_START,
                    images * vector * VECTOR_START,
                    max(1, images * vector),
                    ahead[i] / w.rows if stripes > 1 else 0.0,
                    writers[i],
                    behind[i],
                )
            self.courses[key] = follow(works, stripes).an_image(images)
        return self.courses[key]

    def within(self, layers: range) -> tuple[dict[int, int], dict[int, list[int]]]:
        """For each layer of a group: rows that it must be ahead of the last for the windows of those that read it, and
        the layers of the group that make what it reads.
        """
        key = layers.start, layers.stop
        if key not in self.inside:
            flow = self.prepared.flow
            ahead: dict[int, int] = {}
            for i in reversed(layers):
                rows = 0
                for c in flow.readers.get(flow.layers[i].output, ()):
                    if c in layers and c > i:
                        g = flow.layers[c].geometry
                        reach = g.offset[0] + (g.kernel[0] - 1) * g.dilation[0] + 1
                        rows = max(rows, (ahead[c] - 1) * g.stride[0] + reach)
                ahead[i] = rows
            writers = {
                i: [w for m in flow.read_by(i) for w in flow.writers.get(m, ()) if w in layers]
                for i in layers
            }
            self.inside[key] = ahead, writers
        return self.inside[key]
