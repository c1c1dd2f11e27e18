"""Speed of the fast simulator on low-bit overlays, one thread, all checks on.

Single instructions first: MATRIX with a lane displacement table, in `lane_shift` mode and with shifted sums, VECTOR on
one plane and on two. Then a stream like a whole network: the blocks of DiracDeltaNet (Yang et al., "Synetgy",
FPGA 2019), 1x1 convolutions of which every second one is displaced, with weights and parameters loaded from DRAM.
VTA's figure is the upper end of what its fast simulator is reported to do, 0.26 to 0.52 GMAC/s.
"""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray
from rich.table import Table

from tilewright.targets.config import Overlay
from tilewright.targets.isa.codec import encode_stream
from tilewright.targets.isa.spec import (
    Base,
    Instruction,
    Load,
    Matrix,
    Memory,
    Source,
    Store,
    Vector,
    VectorOp,
)
from tilewright.targets.sim.fast import FastSimulator
from tilewright.targets.sim.program import DramImage, Program
from tilewright.targets.sim.testing import chain, record

OVERLAYS = ("ultra96-w8", "ultra96-a8w4", "ultra96-w4", "ultra96-w1")
VTA_GMACS = 0.52
SIZE = 14
"""Rows and columns of the map that single instructions work on."""
STAGES = ((28, 64, 4), (14, 128, 8), (7, 256, 4))
"""Rows and columns, half of the channels, and blocks of DiracDeltaNet's stages."""
DIRECTIONS = ((-1, 0), (0, -1), (0, 0), (0, 1), (1, 0))
ALIGNMENT = 256
Bytes = NDArray[np.uint8]


@dataclass(frozen=True)
class LowBitRow:
    """A measurement.

    Attributes:
        overlay, what: the machine, and the instruction or stream.
        seconds: of processor time, for one of them.
        work: multiply-accumulates of MATRIX, or lanes times taps of VECTOR.
        matrix: which of the two.
    """

    overlay: str
    what: str
    seconds: float
    work: float
    matrix: bool

    @property
    def giga(self) -> float:
        """10^9 multiply-accumulates, or lanes times taps, a second."""
        return self.work / self.seconds / 1e9


class Constants:
    """Random weights, legal parameters and a displacement table in which neighbouring lanes move differently."""

    def __init__(self, o: Overlay, seed: int = 0) -> None:
        self.overlay, self._rng = o, np.random.default_rng(seed)
        self._parts: list[Bytes] = []
        self._end = 0

    def _add(self, data: Bytes) -> int:
        offset, padded = self._end, -(-len(data) // ALIGNMENT) * ALIGNMENT
        self._parts.append(np.pad(data, (0, padded - len(data))))
        self._end += padded
        return offset

    def weights(self, tiles: int) -> Load:
        """To the start of WGT."""
        size = self.overlay.tile_bytes
        data = self._rng.integers(0, 256, tiles * size, np.uint8)
        return Load(memory=Memory.WGT, dram_offset=self._add(data), dram_stride2=size, n2=tiles)

    def parameters(self, records: int) -> Load:
        """To the start of PARAM."""
        values = self._rng.integers(1, 64, records)
        data = b"".join(record(int(m), 9, int(64 * m)) for m in values)
        offset = self._add(np.frombuffer(data, np.uint8))
        return Load(memory=Memory.PARAM, dram_offset=offset, dram_stride2=16, n2=records)

    def displacements(self) -> Load:
        """The whole table."""
        o = self.overlay
        moves = np.array([(dy & 15) | (dx & 15) << 4 for dy, dx in DIRECTIONS], np.uint8)
        data = moves[np.arange(o.disp_entries * o.block_in) % len(moves)]
        return Load(
            memory=Memory.DISP, dram_offset=self._add(data), dram_stride2=o.block_in, n2=o.disp_entries
        )

    def image(self, input_bytes: int, output_bytes: int = ALIGNMENT) -> DramImage:
        """With a random input."""
        inputs = self._rng.integers(0, 256, input_bytes, np.uint8)
        return DramImage(np.concatenate(self._parts), inputs, 0, output_bytes)


def _seconds(o: Overlay, stream: bytes, image: DramImage, budget: float) -> float:
    simulator, best, end, runs = FastSimulator(o), float("inf"), time.perf_counter() + budget, 0
    while runs < 3 or time.perf_counter() < end:
        start = time.thread_time()
        simulator.run(stream, image)
        best = min(best, time.thread_time() - start)
        runs += 1
    return best


def instructions(o: Overlay) -> list[tuple[str, Instruction, float]]:
    """Instructions on a map of 14 x 14, what they are, and their work (see :class:`LowBitRow`)."""
    blocks, pixels = max(256 // o.block_in, 1), SIZE * SIZE
    m = Matrix(
        n_oc=2, n_ic=blocks, n_y=SIZE, n_x=SIZE, wgt_oc=blocks, wgt_ic=1, acc_oc=pixels, acc_y=SIZE, acc_x=1,
        act_row=SIZE * blocks, act_x=blocks, height=SIZE, width=SIZE, fresh=1, w_signed=15,
    )  # fmt: skip
    macs = float(pixels * m.n_oc * blocks * o.block_in * o.block_out)
    made: list[tuple[str, Instruction, float]] = [
        ("MATRIX 1x1", m, macs),
        ("MATRIX 1x1, displaced", replace(m, displaced=1), macs),
        ("MATRIX 1x1, sums shifted", replace(m, shift=o.inp_bits), macs),
        ("MATRIX 1x1, lane_shift", replace(m, lane_shift=1, w_signed=0b1010), macs),
        ("MATRIX 1x1, lane_shift, displaced", replace(m, lane_shift=1, w_signed=0b1010, displaced=1), macs),
    ]
    half = o.act_half_words // 2
    v = Vector(
        source=Source.ACC, n_c=2 * o.halves_per_vector, n_y=SIZE, n_x=SIZE, height=SIZE, width=SIZE, src_row=SIZE,
        src_x=1, src_c=pixels, hi=o.inp_max, param_c=o.block_in, dst_base=half, dst_row=SIZE * 4, dst_x=4, dst_c=1,
    )  # fmt: skip
    act = replace(v, source=Source.ACT, src_row=SIZE * 4, src_x=4, src_c=1, dst_base=half)
    pool = {"op": VectorOp.MAX, "kernel_y": 2, "kernel_x": 2, "stride_y": 2, "stride_x": 2}
    pool |= {"n_y": SIZE // 2, "n_x": SIZE // 2}
    wide = {"hi": (1 << 2 * o.inp_bits) - 1, "out_planes": 1, "dst_plane": 4 * pixels}
    vectors = {
        "VECTOR sums to ACT": v,
        "VECTOR sums to ACT, two planes": replace(v, **wide),
        "VECTOR 2x2 maximum of sums": replace(v, **pool),
        "VECTOR 2x2 maximum": replace(act, **pool),
        "VECTOR addition": replace(act, op=VectorOp.SCALED_ADD, src2_row=SIZE * 4, src2_x=4),
        "VECTOR two planes to one": replace(act, in_planes=1, src_plane=4 * pixels),
    }
    for name, x in vectors.items():
        made.append((name, x, float(x.n_c * x.n_y * x.n_x * x.kernel_y * x.kernel_x * o.block_in)))
    return made


def instruction_row(o: Overlay, name: str, x: Instruction, work: float, budget: float) -> LowBitRow:
    """The time of a stream with many of them, less that of one with one."""
    filled = o.act_half_words // 2
    constants = Constants(o)
    head: list[Instruction] = [
        Load(base=Base.INPUT, memory=Memory.ACT, dram_stride2=o.half_word_bytes, n2=filled),
        constants.weights(min(o.wgt_tiles, 2 * max(256 // o.block_in, 1))),
        constants.parameters(o.param_records),
        constants.displacements(),
    ]
    matrix = isinstance(x, Matrix)
    if isinstance(x, Vector):
        if x.source == Source.ACT:  # reads what it wrote, or what the instruction before did
            head.append(replace(x, op=VectorOp.SUM, source=Source.ACT, n_y=SIZE, n_x=SIZE, kernel_y=1, kernel_x=1,
                                stride_y=1, stride_x=1, src_base=0, in_planes=0, out_planes=1,
                                dst_plane=4 * SIZE * SIZE, hi=o.inp_max))  # fmt: skip
            x = replace(x, src_base=x.dst_base, src2_base=x.dst_base)
        else:
            pixels = SIZE * SIZE
            head.append(Matrix(n_oc=2, n_x=pixels, acc_x=1, acc_oc=pixels, act_x=1, width=pixels, fresh=1))
    image, many = constants.image(filled * o.half_word_bytes), 9
    once, often = (_seconds(o, encode_stream(chain([*head, *[x] * n])), image, budget / 2) for n in (1, many))
    return LowBitRow(o.name, name, max(often - once, 1e-9) / (many - 1), work, matrix)


def network(o: Overlay, stages: Sequence[tuple[int, int, int]] = STAGES) -> tuple[Program, DramImage, float]:
    """Blocks like DiracDeltaNet's, one after the other; the last number is their multiply-accumulates.

    Args:
        stages: rows and columns, half of the channels, and blocks of each.
    """
    constants, body, macs = Constants(o), list[Instruction](), 0.0
    blocks_out = max(size * size * -(-2 * half // o.block_out) for size, half, _ in stages)
    words = blocks_out * o.halves_per_vector
    body.append(Load(base=Base.INPUT, memory=Memory.ACT, dram_stride2=o.half_word_bytes, n2=words))
    body.append(constants.displacements())
    for size, half, blocks in stages:
        for _ in range(blocks):
            for n_in, n_out, displaced in ((half, 2 * half, 0), (2 * half, half, 1)):
                ic, oc = -(-n_in // o.block_in), -(-n_out // o.block_out)
                there, back = (0, words) if not displaced else (words, 0)
                body += [constants.weights(ic * oc), constants.parameters(oc * o.block_out)]
                body += _convolution(o, size, ic, oc, there, back, displaced)
                macs += float(size * size * n_in * n_out)
    size, half, _ = stages[-1]
    out = size * size * -(-half // o.block_out) * o.halves_per_vector
    body.append(Store(base=Base.OUTPUT, dram_stride2=o.half_word_bytes, n2=out))
    image = constants.image(words * o.half_word_bytes, out * o.half_word_bytes)
    return Program(encode_stream(chain(body)), o), image, macs


def _convolution(
    o: Overlay, size: int, ic: int, oc: int, source: int, target: int, displaced: int
) -> list[Instruction]:
    """1x1, in stripes of rows and pairs of output blocks that fill a half of ACC."""
    r, made, half = o.halves_per_vector, list[Instruction](), 0
    for first in range(0, oc, 2):
        count = min(2, oc - first)
        rows = max(o.acc_half_vectors // (size * count), 1)
        for y in range(0, size, rows):
            n_y, acc = min(rows, size - y), half * o.acc_half_vectors
            half = 1 - half
            made.append(
                Matrix(n_oc=count, n_ic=ic, n_y=n_y, n_x=size, wgt_base=first * ic, wgt_oc=ic, wgt_ic=1,
                       acc_base=acc, acc_oc=n_y * size, acc_y=size, acc_x=1, act_base=source, act_row=size * ic,
                       act_x=ic, offset_y=y, height=size, width=size, fresh=1, w_signed=15, displaced=displaced)
            )  # fmt: skip
            made.append(
                Vector(source=Source.ACC, n_c=count * r, n_y=n_y, n_x=size, height=n_y, width=size, src_base=acc,
                       src_row=size, src_x=1, src_c=n_y * size, hi=o.inp_max, param_base=first * o.block_out,
                       param_c=o.block_in, dst_base=target + first * r + y * size * oc * r,
                       dst_row=size * oc * r, dst_x=oc * r, dst_c=1)
            )  # fmt: skip
    return made


def measure(o: Overlay, budget: float) -> list[LowBitRow]:
    """All rows of an overlay; `budget` seconds for each."""
    rows = [instruction_row(o, *case, budget) for case in instructions(o)]
    program, image, macs = network(o)
    seconds = _seconds(o, program.stream, image, budget)
    return [*rows, LowBitRow(o.name, "DiracDeltaNet's blocks", seconds, macs, True)]


def table(rows: Sequence[LowBitRow]) -> Table:
    """To print; VECTOR, in taps of a lane, has no counterpart in VTA's figure."""
    made = Table(title=f"one thread, all checks on; VTA: {VTA_GMACS} GMAC/s")
    for heading in ("overlay", "", "us", "GMAC/s", "x VTA", "10^9 taps/s"):
        text = heading in ("overlay", "")
        made.add_column(heading, justify="left" if text else "right", no_wrap=text)
    for r in rows:
        macs = (f"{r.giga:.1f}", f"{r.giga / VTA_GMACS:.0f}", "") if r.matrix else ("", "", f"{r.giga:.2f}")
        made.add_row(r.overlay, r.what, f"{r.seconds * 1e6:.1f}", *macs)
    return made
