"""What a group of layers costs, by estimate: cycles of the units, DRAM bytes, half words of ACT.

The estimate is for choosing plans: cheap, and not right to the cycle; the timing simulator is the judge.
It knows the steps of MATRIX, the reads of VECTOR, the start of each instruction, the bytes moved, and what of it cannot
overlap: a stripe's way through the layers of its group.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise

from tilewright.codegen.chunks import MatrixChunk, VectorChunk, parameter_areas
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
LATENCY = RULES.matrix_depth + RULES.vector_depth + 2 * RULES.start_cycles + 20
"""From a layer's last step to the first of a layer that reads its result."""
TURN = 40
"""Cycles by which a turn of stripes is longer than its busiest unit."""


@dataclass(frozen=True)
class Work:
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
) -> Work:
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
        return Work(
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
        reads += layer.source2.height * layer.source2.width
    vector = sum(-(-c.count // lanes) for c in chunks if isinstance(c, VectorChunk))
    cycles = vector * max(reads, rows * columns * layer.output.planes) * slow
    areas = len(list(parameter_areas(layer.parameters, layer.geometry.count)))
    return Work(0, cycles, cycles, 0, records, rows, columns, len(chunks) * areas)


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
    chunks: int


@dataclass(frozen=True)
class Cost:
    """Of a group or a plan: cycles in all and of the units, DRAM bytes."""

    cycles: float
    matrix: int
    vector: int
    read_bytes: int
    write_bytes: int

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
        self.turns: dict[tuple[int, int, int, int], list[tuple[int, float, float, float]]] = {}
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
                min(w.chunks for w in works),
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
        if stripes == 1:
            matrix = images * t.matrix + t.own / max(1, t.chunks)
            cycles = max(matrix, images * t.vector, dram) + len(layers) * LATENCY
        else:
            cycles = self.pipelined(layers, stripes, lag, dram, images)
        return Cost(cycles, images * t.matrix, images * t.vector, read, write_bytes)

    def pipelined(self, layers: range, stripes: int, lag: int, dram: float, images: int) -> float:
        """Cycles of stripes that run one behind the other: in each turn the busiest unit counts.

        Within a turn a layer that reads what another has just made waits for it: for the first results; for all of
        them where VECTOR made them for MATRIX; and VECTOR is left with the last chunk where MATRIX made them.
        """
        key = layers.start, layers.stop, stripes, lag
        if key not in self.turns:
            self.turns[key] = list(self.turns_of(layers, stripes, lag))
        return sum(
            n * max(images * matrix, images * vector, dram / stripes) + n * wait
            for n, matrix, vector, wait in self.turns[key]
        )

    def turns_of(self, layers: range, stripes: int, lag: int) -> Iterator[tuple[int, float, float, float]]:
        """Runs of equal turns: how many, MATRIX's and VECTOR's cycles of each, and what nobody can use."""
        flow = self.prepared.flow
        behind = lags(flow, layers, lag)
        edges = sorted({0, *behind.values(), *(b + stripes for b in behind.values())})
        for first, last in pairwise(edges):
            active = [i for i in layers if behind[i] <= first < behind[i] + stripes]
            matrix = vector = waits = 0.0
            for i in active:
                work = self.works[i]
                starts = self.starts(i, -(-work.rows // stripes))
                matrix += work.matrix / stripes + starts[0] * MATRIX_START
                vector += work.vector / stripes + starts[1] * VECTOR_START
                for m in flow.read_by(i):
                    for w in flow.writers.get(m, ()):
                        if w in active and behind[w] == behind[i]:
                            waits += LATENCY
                            if work.matrix:
                                waits += self.works[w].own_vector / stripes
                            else:
                                waits += work.own_vector / stripes / self.works[w].chunks
            yield last - first, matrix, vector, waits + TURN
