"""Weights and parameters of layers in the portions in which they come on chip. No plan changes them.

The outputs of a MATRIX layer are cut into chunks whose weight tiles take a quarter of WGT at most, so that some are on
their way while others are used; so are their parameter records and PARAM, and the half words of a VECTOR layer.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, replace
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from tilewright.codegen.constants import (
    ALL_QUARTERS,
    Pool,
    Tiles,
    depthwise_records,
    pack_bits,
    parameter_records,
    tile_weights,
)
from tilewright.codegen.displacement import most_rows
from tilewright.codegen.layers import MatrixLayer, Parameters, VectorLayer
from tilewright.codegen.tile import Constants
from tilewright.errors import Fault, ScheduleError
from tilewright.targets.config import Overlay
from tilewright.targets.isa.spec import RECORD_BYTES, Matrix, Memory, Vector, field_limit
from tilewright.targets.sim.rules import Rules

MOST_IC = field_limit(Matrix, "n_ic")
MOST_OC = field_limit(Matrix, "n_oc")
MOST_KY = field_limit(Matrix, "n_ky")
MOST_HALF_WORDS = field_limit(Vector, "n_c")
PORTIONS = 4
"""Portions that WGT and PARAM hold at least."""
TABLE_RECORDS = 256 // RECORD_BYTES
START_CYCLES = Rules().start_cycles + Rules().tile_cycles + 1
"""Of an instruction of MATRIX: cycles in which it makes no step."""


@dataclass(frozen=True)
class Pass:
    """One MATRIX instruction's share of a chunk.

    Attributes:
        block, count_ic: half words of the layer's source, all of one map and side by side there.
        first_ky, count_ky: kernel rows.
        tile: its first, within the load.
        plane: of the source's values.
        shift: bits by which sums are worth more, for the plane and for the weights' part.
        signed, quartered: of the weights' part.
    """

    block: int
    count_ic: int
    first_ky: int
    count_ky: int
    tile: int
    plane: int = 0
    shift: int = 0
    signed: int = ALL_QUARTERS
    quartered: bool = False


@dataclass(frozen=True)
class WeightLoad:
    """Tiles that are loaded together, and the instructions that use them."""

    tiles: Constants
    passes: tuple[Pass, ...]


@dataclass(frozen=True)
class MatrixChunk:
    """Output vectors first .. whose weights come together; only a single one may need several loads."""

    first: int
    count: int
    half_words: int
    loads: tuple[WeightLoad, ...]
    records: Constants

    @property
    def steps(self) -> int:
        """MATRIX steps for each pixel of results and kernel column."""
        return self.count * sum(p.count_ic * p.count_ky for load in self.loads for p in load.passes)


@dataclass(frozen=True)
class VectorChunk:
    """Half words `first` .. of a VECTOR layer: their records are parameters, depthwise taps, table, in this order."""

    first: int
    count: int
    records: Constants
    taps: int
    table: int


@dataclass(frozen=True)
class Area:
    """Results with equal parameters: rows y .. and columns x .. ."""

    y: int
    x: int
    rows: int
    columns: int


def matrix_chunks(layer: MatrixLayer, overlay: Overlay, pool: Pool) -> tuple[MatrixChunk, ...]:
    """Cut a layer's outputs, and store its weights and records in the pool."""
    return tuple(_MatrixCutter(layer, overlay, pool).chunks())


@dataclass(frozen=True)
class _Range:
    """Tiles of one part of the weights: input half words ic .., kernel rows ky .., all columns."""

    part: int
    ic: int
    n_ic: int
    ky: int
    n_ky: int


@dataclass(eq=False)
class _MatrixCutter:
    layer: MatrixLayer
    overlay: Overlay
    pool: Pool

    def __post_init__(self) -> None:
        self.most_tiles = self.overlay.wgt_tiles // PORTIONS
        self.ratio = self.overlay.halves_per_vector
        self.tiles = tile_weights(
            self.layer.weight,
            self.layer.present,
            self.layer.source.lanes,
            self.overlay,
            self.layer.quartered,
        )
        self.columns = self.layer.weight.shape[3]
        runs = self.layer.source.runs(0, len(self.layer.source.blocks))
        self.run_ends = [position + n for _, _, n, position in runs]

    def chunks(self) -> Iterator[MatrixChunk]:
        vectors = self.tiles.parts[0].weight.shape[0]
        records = self.overlay.block_out * self.layer.parameters.sets
        table = 0 if self.layer.table is None else TABLE_RECORDS
        room = self.overlay.param_records // PORTIONS - table
        most = max(1, min(MOST_OC, room // records, MOST_HALF_WORDS // self.ratio))
        if records + table > self.overlay.param_records // 2:
            raise too_many_records(self.layer.name, records + table, self.overlay)
        ranges = [self.ranges(self.tiles, vector) for vector in range(vectors)]
        first = 0
        while first < vectors:
            count = 1
            size = sum(r.n_ic * r.n_ky for r in ranges[first]) * self.columns
            while (
                first + count < vectors
                and count < most
                and ranges[first + count] == ranges[first]
                and size * (count + 1) <= self.most_tiles
            ):
                count += 1
            yield self.chunk(first, count, ranges[first])
            first += count

    def ranges(self, tiles: Tiles, vector: int) -> tuple[_Range, ...]:
        """What an output vector needs, in ranges small enough for a portion, each of one map."""
        kh = tiles.parts[0].weight.shape[2]
        rows = min(kh, MOST_KY, max(1, self.most_tiles // self.columns))
        deep = min(MOST_IC, max(1, self.most_tiles // (rows * self.columns)))
        if self.layer.source.moves is not None:
            deep = min(deep, most_rows(self.overlay))
        found = []
        for part in range(len(tiles.parts)):
            for first, stop in self.bridged(tiles.used(part, vector), kh):
                ic = first
                while ic < stop:
                    end = min(ic + deep, stop, next(e for e in self.run_ends if e > ic))
                    for top, bottom in tiles.rows(part, vector, ic, end):
                        for ky in range(top, bottom, rows):
                            found.append(_Range(part, ic, end - ic, ky, min(rows, bottom - ky)))
                    ic = end
        return tuple(found) or (_Range(0, 0, 1, 0, 1),)  # all weights absent: one row of zeros

    def bridged(self, used: list[int], kh: int) -> list[tuple[int, int]]:
        """First and end of runs of used half words: a gap is closed where its steps cost less than a start."""
        results = min(math.prod(self.layer.convolution.count), self.overlay.acc_half_vectors)
        most = START_CYCLES // (results * kh * self.columns)
        cuts = [i for i in range(1, len(used)) if used[i] - used[i - 1] - 1 > most]
        return [(used[a], used[b - 1] + 1) for a, b in pairwise([0, *cuts, len(used)]) if b > a]

    def chunk(self, first: int, count: int, ranges: tuple[_Range, ...]) -> MatrixChunk:
        """Store weights and records; loads are filled with passes while they fit a portion."""
        loads: list[WeightLoad] = []
        passes: list[Pass] = []
        content: list[bytes] = []
        products: list[int] = []

        def flush() -> None:
            offset = self.pool.add_weights(b"".join(content), products, self.overlay.tile_bytes)
            loads.append(WeightLoad(Constants(Memory.WGT, offset, len(products)), tuple(passes)))
            for part in (passes, content, products):
                part.clear()

        for r in ranges:
            if passes and len(products) + count * r.n_ic * r.n_ky * self.columns > self.most_tiles:
                flush()
            part = self.tiles.parts[r.part]
            m, _ = self.layer.source.blocks[r.ic]
            for plane in range(m.planes):
                shift = part.shift + plane * self.overlay.inp_bits
                how = (plane, shift, part.signed, part.quartered)
                passes.append(Pass(r.ic, r.n_ic, r.ky, r.n_ky, len(products), *how))
            cut = part.weight[first : first + count, r.ic : r.ic + r.n_ic, r.ky : r.ky + r.n_ky]
            content.append(pack_bits(cut, self.overlay.wgt_bits).tobytes())
            own = self.tiles.products[first : first + count, r.ic : r.ic + r.n_ic]
            counted = self.layer.counted and r.part == 0
            products += np.repeat(own if counted else 0 * own, r.n_ky, axis=1).ravel().tolist()
        flush()
        half_word = first * self.ratio
        outputs = self.layer.weight.shape[0]
        half_words = min(count * self.ratio, -(-outputs // self.overlay.block_in) - half_word)
        lanes = np.arange(
            half_word * self.overlay.block_in, (half_word + half_words) * self.overlay.block_in
        ).reshape(half_words, -1)
        lanes = np.where(lanes < outputs, lanes, -1).astype(np.int32)
        # Lanes without a channel hold the least result; nothing reads them with a weight.
        records = parameter_records(self.layer.parameters, lanes, self.layer.parameters.lo)
        if self.layer.table is not None:
            records += self.layer.table.tobytes()
        held = Constants(Memory.PARAM, self.pool.add(records), len(records) // RECORD_BYTES)
        return MatrixChunk(first, count, half_words, tuple(loads), held)


def vector_chunks(layer: VectorLayer, overlay: Overlay, pool: Pool) -> tuple[VectorChunk, ...]:
    """Cut a layer's half words, each chunk of one run of its sources, and store their records in the pool."""
    shared, own = _record_counts(layer, overlay)
    if shared + own > overlay.param_records // 2:
        raise too_many_records(layer.name, shared + own, overlay)
    room = overlay.param_records // PORTIONS - shared
    most = max(1, min(MOST_HALF_WORDS, room // max(own, 1)))
    found = []
    ends = {p + n for s in (layer.source, layer.source2) if s for _, _, n, p in s.runs(0, len(s.blocks))}
    first = 0
    while first < len(layer.source.blocks):
        run = min(e for e in ends if e > first) - first
        count = -(-run // -(-run // most))
        found.append(_vector_chunk(layer, first, count, overlay, pool))
        first += count
    return tuple(found)


def _record_counts(layer: VectorLayer, overlay: Overlay) -> tuple[int, int]:
    """Records that all half words share, and those of each."""
    areas = len(list(parameter_areas(layer.parameters, layer.geometry.count)))
    shared = areas * overlay.block_in if layer.parameters.by_position else 0
    own = 0 if layer.parameters.by_position else overlay.block_in * layer.parameters.sets
    taps = 0 if layer.weight is None else layer.weight.shape[1]
    table = 0 if layer.table is None else TABLE_RECORDS
    return shared + table, own + taps * overlay.block_in * 2 // RECORD_BYTES


def _vector_chunk(layer: VectorLayer, first: int, count: int, overlay: Overlay, pool: Pool) -> VectorChunk:
    lanes = layer.source.lanes[first : first + count]
    parameters = layer.parameters
    if parameters.by_position:
        content = b"".join(
            parameter_records(at, np.zeros((1, overlay.block_in), np.int32), parameters.lo)
            for _, at in parameter_areas(parameters, layer.geometry.count)
        )
    else:
        content = parameter_records(parameters, lanes, parameters.lo)
    taps = len(content) // RECORD_BYTES
    weight = layer.weight
    if weight is not None:
        content += depthwise_records(weight, lanes).tobytes()
    table = len(content) // RECORD_BYTES
    if layer.table is not None:
        content += layer.table.tobytes()
    offset = pool.add(content)
    if weight is not None and layer.counted:
        row = overlay.block_in * 2
        held = np.repeat((lanes >= 0).sum(1), weight.shape[1]).tolist()
        start = offset + taps * RECORD_BYTES
        pool.products.update({start + i * row: n for i, n in enumerate(held) if n})
    return VectorChunk(
        first, count, Constants(Memory.PARAM, offset, len(content) // RECORD_BYTES), taps, table
    )


def parameter_areas(parameters: Parameters, count: tuple[int, int]) -> Iterator[tuple[Area, Parameters]]:
    """Rectangles of results with equal parameters: one, or where they depend on the position a few."""
    if not parameters.by_position:
        yield Area(0, 0, *count), parameters
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
            yield Area(y, x, y_end - y, x_end - x), one


def _starts(changes: NDArray[np.bool_]) -> list[int]:
    return [0, *(np.flatnonzero(changes) + 1).tolist()]


def too_many_records(layer: str, records: int, overlay: Overlay) -> ScheduleError:
    """The error of a layer whose smallest portion of parameters leaves no room for another."""
    text = f"its parameters need {records} records of PARAM at a time, half of it has {overlay.param_records // 2}"
    return ScheduleError(Fault(text, f"layer {layer}", "choose an overlay with more memory"))
