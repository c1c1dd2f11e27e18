"""What each instruction does, in order: the steps of a MATRIX, the reads of a VECTOR, the bursts of a copy.

Plain lists and generators for `targets/sim/stepping.py`; the rules are in `targets/timing.md`.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from dataclasses import dataclass

from tilewright.targets.config import Overlay
from tilewright.targets.isa.spec import Load, Loop, Matrix, Source, Store, Vector, VectorOp
from tilewright.targets.sim.rules import Rules, bank_pair_half_words

Banks = frozenset[int]
NONE: Banks = frozenset()


class Act:
    """Which banks addresses of ACT lie in; none for those outside, which functional simulators refuse."""

    def __init__(self, o: Overlay) -> None:
        self.rows, self.pair = o.act_half_words, bank_pair_half_words(o)

    def bank(self, address: int) -> Banks:
        """The bank of a half word."""
        if not 0 <= address < self.rows:
            return NONE
        return frozenset({address // self.pair * 2 + address % 2})

    def pairs(self, lo: int, hi: int) -> Banks:
        """Both banks of the pairs from that of `lo` to that of `hi`."""
        hi = min(hi, self.rows - 1)
        first = max(lo, 0) // self.pair
        return frozenset(b for p in range(first, hi // self.pair + 1) for b in (2 * p, 2 * p + 1))


@dataclass(frozen=True)
class Step:
    """A step of MATRIX; `banks` are those that it reads."""

    tile: int
    vector: int
    fresh: bool
    banks: Banks


def matrix_steps(i: Matrix, o: Overlay) -> Iterator[Step]:
    """The steps of a MATRIX in order."""
    act = Act(o)
    counts = (i.n_oc, i.n_ic, i.n_ky, i.n_kx, i.n_y, i.n_x)
    for values in itertools.product(*(range(counts[loop]) for loop in i.order)):
        at = dict(zip(i.order, values, strict=True))
        oc, ic, ky, kx, y, x = (at[loop] for loop in Loop)
        block = i.ic_first + oc * i.ic_stride_o + ic
        py = y * i.stride_y + ky * i.dilation_y + i.offset_y
        px = x * i.stride_x + kx * i.dilation_x + i.offset_x
        banks = NONE
        if 0 <= py < i.height and 0 <= px < i.width:
            base = i.act_base + block * i.act_ic
            if i.displaced:
                lo, hi = o.displacement_min, o.displacement_max
                for dy in range(lo, hi + 1):
                    row = base + ((py + dy) % i.ring if i.ring else py + dy) * i.act_row
                    banks |= act.pairs(row + (px + lo) * i.act_x, row + (px + hi) * i.act_x)
            else:
                banks = act.bank(base + (py % i.ring if i.ring else py) * i.act_row + px * i.act_x)
        tile = i.wgt_base + oc * i.wgt_oc + ic * i.wgt_ic + ky * i.wgt_ky + kx * i.wgt_kx
        vector = i.acc_base + oc * i.acc_oc + y * i.acc_y + x * i.acc_x
        yield Step(tile, vector, bool(i.fresh) and ic == ky == kx == 0, banks)


@dataclass
class Read:
    """A read of VECTOR, and the results that it completes: for each the banks written in one cycle, in the next."""

    banks: Banks
    results: list[list[Banks]]


@dataclass
class Group:
    """One or two half words of channels: records to load before, and reads."""

    records: int
    reads: list[Read]


def vector_groups(i: Vector, o: Overlay, r: Rules) -> list[Group]:
    """The groups of channels of a VECTOR, each with the records that it loads and its reads in order."""
    act = Act(o)
    acc, two = i.source == Source.ACC, i.op in (VectorOp.SCALED_ADD, VectorOp.MULTIPLY)
    beside = o.block_out == 2 * o.block_in if acc else i.src_c == 1
    pairs = o.vector_lanes == 2 * o.block_in and i.dst_c == 1 and beside and (not two or i.src2_c == 1)
    sets = 2 if i.negative or i.op == VectorOp.SCALED_ADD else 1
    planes = 1 << i.in_planes
    reuse = i.dilation_x == 1 or i.kernel_x == 1
    passes = -(-min(i.n_x, -(-i.kernel_x // i.stride_x)) // r.window_reuse) if reuse else 1
    groups: list[Group] = []
    c = 0
    while c < i.n_c:
        size = 2 if pairs and c + 1 < i.n_c and (not acc or c % 2 == 0) else 1
        records = 0
        if i.param_c or c == 0:
            records += sets * o.block_in * (size if i.param_c else 1)
        if i.op == VectorOp.DEPTHWISE and (i.depthwise_c or c == 0):
            records += i.kernel_y * i.kernel_x * (o.block_in // 8) * (size if i.depthwise_c else 1)

        def halves(a: int, size: int = size) -> Banks:
            return act.bank(a) | (act.bank(a + 1) if size == 2 else NONE)

        reads: list[Read] = []
        for y in range(i.n_y):
            rows = [y * i.stride_y + k * i.dilation_y + i.offset_y for k in range(i.kernel_y)]
            rows = [py for py in rows if 0 <= py < i.height]
            for px, done in _columns(i, reuse):
                for py in rows:
                    at = i.src_base + (py % i.ring if i.ring else py) * i.src_row + px * i.src_x + c * i.src_c
                    for _ in range(passes):
                        for plane in range(planes):
                            reads.append(Read(NONE if acc else halves(at + plane * i.src_plane), []))
                if two and done and (done[0] == 0 or i.src2_x):
                    py = rows[0]
                    at = i.src2_base + (py % i.ring if i.ring else py) * i.src2_row + px * i.src2_x
                    for plane in range(1 << i.in2_planes):
                        reads.append(Read(halves(at + c * i.src2_c + plane * i.src2_plane), []))
                for x in done:
                    row = (i.dst_y + y) % i.dst_ring if i.dst_ring else i.dst_y + y
                    to = i.dst_base + row * i.dst_row + x * i.dst_x + c * i.dst_c
                    written = [halves(to + plane * i.dst_plane) for plane in range(1 << i.out_planes)]
                    reads[-1].results.append(written)
        groups.append(Group(records, reads))
        c += size
    return groups


def _columns(i: Vector, reuse: bool) -> list[tuple[int, list[int]]]:
    """Source columns in the order read, with the results that each completes."""
    taps = [[x * i.stride_x + k * i.dilation_x + i.offset_x for k in range(i.kernel_x)] for x in range(i.n_x)]
    inside = [[px for px in window if 0 <= px < i.width] for window in taps]
    if not reuse:
        return [(px, [x] if k + 1 == len(w) else []) for x, w in enumerate(inside) for k, px in enumerate(w)]
    columns = sorted({px for window in inside for px in window})
    return [(px, [x for x, window in enumerate(inside) if window[-1] == px]) for px in columns]


@dataclass
class Burst:
    """A burst, and the cycles that forming it takes."""

    bytes: int
    beats: int
    cycles: int


def bursts(i: Load | Store, element: int, beat: int, most: int) -> list[Burst]:
    """The bursts of a copy: pieces that follow on are joined up to the next multiple of `most`."""
    together = i.n2 == 1 or i.dram_stride2 == element
    inner = [(0, i.n2 * element)] if together else [(k * i.dram_stride2, element) for k in range(i.n2)]
    runs = [
        (i.dram_offset + a * i.dram_stride0 + b * i.dram_stride1 + start, size)
        for a in range(i.n0)
        for b in range(i.n1)
        for start, size in inner
    ]
    pieces: list[tuple[int, int]] = []
    for start, size in runs:
        while size:
            piece = min(size, most - start % most)
            pieces.append((start, piece))
            start, size = start + piece, size - piece
    found: list[list[tuple[int, int]]] = []
    for start, size in pieces:
        if found and start % most and sum(found[-1][-1]) == start:
            found[-1].append((start, size))
        else:
            found.append([(start, size)])
    result = []
    for joined in found:
        first, end = joined[0][0], sum(joined[-1])
        result.append(Burst(end - first, (end - 1) // beat - first // beat + 1, len(joined)))
    return result


def places_of(i: Load | Store) -> list[int]:
    """The scratchpad address of each element, in order."""
    return [
        i.address + a * i.stride0 + b * i.stride1 + c * i.stride2
        for a in range(i.n0)
        for b in range(i.n1)
        for c in range(i.n2)
    ]
