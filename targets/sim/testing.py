"""Random programs, with which simulators are compared.

A program fills the scratchpads from constants, executes random instructions, and stores what they left. All
its instructions are ordered by tokens. Most programs are legal; where an instruction is not (operands
overlap, say), every simulator has to refuse it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from tilewright.targets.config import Overlay
from tilewright.targets.isa.codec import encode_stream
from tilewright.targets.isa.spec import (
    RECORD_BYTES,
    Base,
    Finish,
    Instruction,
    Load,
    Matrix,
    Memory,
    Source,
    Store,
    Vector,
    VectorOp,
)
from tilewright.targets.sim.program import Bytes, DramImage, Program

VECTORS = 160
"""ACC vectors that every program fills and that random instructions use."""
TILES = 24
M_MAX = (1 << 24) - 1
B_MIN, B_MAX = -(1 << 47), (1 << 47) - 1


def chain(instructions: Sequence[Instruction]) -> list[Instruction]:
    """Order instructions one after the other by tokens, and end them with FINISH."""
    result = [replace(x, wait=0, give=0) for x in instructions]
    for i in range(len(result) - 1):
        a, b = result[i].unit, result[i + 1].unit
        if a is None or b is None:
            raise ValueError("a chain holds no FINISH")
        if a != b:
            result[i] = replace(result[i], give=1 << b)
            result[i + 1] = replace(result[i + 1], wait=1 << a)
    return [*result, Finish()]


def record(m: int, s: int, b: int) -> bytes:
    """A record of channel parameters, see :class:`tilewright.targets.isa.spec.Vector`."""
    return b"".join(v.to_bytes(n, "little", signed=True) for v, n in ((m, 4), (s, 4), (b, 8)))


@dataclass(frozen=True)
class Scene:
    """Filled scratchpads.

    Attributes:
        overlay: the machine.
        constants: what fills them, and `windows` behind it.
        loads: instructions that do so; ACT is filled up to `filled`, ACC up to VECTORS.
        filled: half words of ACT that hold values.
        windows: DRAM address of records that show sums bit by bit, see `show_sums`.
    """

    overlay: Overlay
    constants: Bytes
    loads: tuple[Instruction, ...]
    filled: int
    windows: int

    def program(self, body: Sequence[Instruction]) -> tuple[Program, DramImage]:
        """The scene followed by `body`, whose STOREs write OUTPUT from 0 up."""
        half = self.overlay.half_word_bytes
        stores = [x for x in body if isinstance(x, Store)]
        size = max((x.dram_offset + x.n2 * half for x in stores), default=0)
        stream = encode_stream(chain([*self.loads, *body]))
        none = np.zeros(0, np.uint8)
        return Program(stream, self.overlay), DramImage(self.constants, none, 0, size)

    def show_sums(self) -> list[Instruction]:
        """Store the ACC vectors. A result has two planes, so several shifts of each sum are shown."""
        o = self.overlay
        r, planes = o.halves_per_vector, (1 << 2 * o.inp_bits) - 1
        count = VECTORS * r
        body: list[Instruction] = []
        for k in range(0, o.acc_bits, o.inp_bits):
            body += [
                Load(memory=Memory.PARAM, dram_offset=self.windows + k * _pitch(o), n2=o.block_in),
                Vector(source=Source.ACC, n_c=r, n_y=VECTORS, height=VECTORS, src_row=1, src_c=0, hi=planes,
                       dst_base=self.filled, dst_row=r, out_planes=1, dst_plane=count),
                Store(base=Base.OUTPUT, dram_offset=len(body) // 3 * 2 * count * o.half_word_bytes,
                      dram_stride2=o.half_word_bytes, address=self.filled, n2=2 * count),
            ]  # fmt: skip
        return body

    def show_act(self) -> list[Instruction]:
        """Store the filled half words."""
        half = self.overlay.half_word_bytes
        return [Store(base=Base.OUTPUT, dram_stride2=half, n2=self.filled)]


def _pitch(o: Overlay) -> int:
    return max(RECORD_BYTES, o.half_word_bytes)


def scene(o: Overlay, rng: np.random.Generator) -> Scene:
    """Fill the scratchpads of an overlay with random values; PARAM holds legal parameters."""
    filled = o.act_half_words // 2
    tiles = min(TILES, o.wgt_tiles)
    parts: list[Bytes] = []
    loads: list[Instruction] = []

    def add(data: Bytes, memory: Memory, size: int, count: int) -> None:
        offset = sum(map(len, parts))
        padded = np.zeros(-(-len(data) // 64) * 64, np.uint8)
        padded[: len(data)] = data
        parts.append(padded)
        loads.append(Load(memory=memory, dram_offset=offset, dram_stride2=size, n2=count))

    add(rng.integers(0, 256, filled * o.half_word_bytes, np.uint8), Memory.ACT, o.half_word_bytes, filled)
    add(rng.integers(0, 256, tiles * o.tile_bytes, np.uint8), Memory.WGT, o.tile_bytes, tiles)
    if o.disp_entries:
        size = o.disp_entries * o.block_in
        dy, dx = rng.integers(o.displacement_min, o.displacement_max + 1, (2, size))
        add(((dy & 15) | (dx & 15) << 4).astype(np.uint8), Memory.DISP, o.block_in, o.disp_entries)
    parameters = b"".join(_random_record(rng) for _ in range(o.param_records))
    add(np.frombuffer(parameters, np.uint8), Memory.PARAM, RECORD_BYTES, o.param_records)
    windows = sum(map(len, parts))
    middle = 1 << (2 * o.inp_bits - 1)
    for k in range(o.acc_bits):
        shown = np.zeros(_pitch(o), np.uint8)
        shown[:RECORD_BYTES] = np.frombuffer(record(2, 1 + k, min(middle << (1 + k), B_MAX)), np.uint8)
        parts.append(shown)
    loads.append(Matrix(n_x=VECTORS, width=VECTORS, act_x=1, acc_x=1, shift=int(rng.integers(0, 12))))
    return Scene(o, np.concatenate(parts), tuple(loads), filled, windows)


def _random_record(rng: np.random.Generator) -> bytes:
    if rng.random() < 0.3:
        m = int(rng.choice([-M_MAX, -1, 0, 1, M_MAX]))
        return record(m, int(rng.choice([1, 2, 31, 47, 62])), int(rng.choice([B_MIN, B_MAX, 0, 1 << 46])))
    return record(int(rng.integers(-300, 300)), int(rng.integers(1, 12)), int(rng.integers(-9000, 40000)))


def random_matrix(o: Overlay, rng: np.random.Generator, most: int = 3) -> Matrix:
    """An instruction with all fields random, counts up to `most`; legal in a scene."""

    def pick(low: int, high: int) -> int:
        return int(rng.integers(low, high + 1))

    while True:
        n = [pick(1, most) for _ in range(6)]
        x = Matrix(
            n_oc=n[0], n_ic=n[1], n_ky=n[2], n_kx=n[3], n_y=n[4], n_x=n[5],
            **{f"order_{i}": int(v) for i, v in enumerate(rng.permutation(6))},
            wgt_base=pick(0, 2), wgt_oc=pick(0, 3), wgt_ic=pick(0, 3), wgt_ky=pick(0, 3), wgt_kx=pick(0, 1),
            acc_base=pick(0, 40), acc_oc=pick(0, 40), acc_y=pick(0, 12), acc_x=pick(0, 12),
            act_base=pick(0, 50), act_row=pick(0, 40), act_x=pick(0, 9), act_ic=pick(0, 30),
            ring=pick(0, 4), ic_first=pick(0, 5), ic_stride_o=pick(0, 2),
            stride_y=pick(1, 3), stride_x=pick(1, 3), dilation_y=pick(1, 3), dilation_x=pick(1, 3),
            offset_y=pick(-3, 3), offset_x=pick(-3, 3), height=pick(1, 12), width=pick(1, 12),
            pad=pick(0, o.inp_max), displaced=pick(0, 1) if o.disp_entries else 0, disp_base=pick(0, 9),
            fresh=pick(0, 1), w_signed=pick(0, 15), lane_shift=pick(0, 1), shift=pick(0, 31) * pick(0, 1),
        )  # fmt: skip
        last = x.acc_base + (n[0] - 1) * x.acc_oc + (n[4] - 1) * x.acc_y + (n[5] - 1) * x.acc_x
        oc, y, column = np.ogrid[: n[0], : n[4], : n[5]]
        vectors = np.unique(oc * x.acc_oc + y * x.acc_y + column * x.acc_x)
        tile = x.wgt_base + (n[0] - 1) * x.wgt_oc + (n[1] - 1) * x.wgt_ic
        tile += (n[2] - 1) * x.wgt_ky + (n[3] - 1) * x.wgt_kx
        if len(vectors) == n[0] * n[4] * n[5] and last < VECTORS and tile < min(TILES, o.wgt_tiles):
            return x


def random_vector(o: Overlay, rng: np.random.Generator, filled: int) -> Vector:
    """An instruction with all fields random and small counts; mostly legal in a scene."""

    def pick(low: int, high: int) -> int:
        return int(rng.integers(low, high + 1))

    op = VectorOp(pick(0, 4))
    two = op in (VectorOp.SCALED_ADD, VectorOp.MULTIPLY)
    acc = 0 if two else pick(0, 1)
    table = int(pick(0, 3) == 0)
    widest = (16 // o.inp_bits).bit_length() - 1
    planes = pick(0, widest) * pick(0, 1)
    most = 255 if table else (1 << (o.inp_bits << planes)) - 1
    lo, hi = sorted((pick(0, most), pick(0, most)))
    n_c, n_y, n_x = pick(1, 3), pick(1, 4), pick(1, 4) if pick(0, 3) else pick(33, 40)
    kernel_y, kernel_x = (1, 1) if two else (pick(1, 3), pick(1, 3))
    stride_y, stride_x = pick(1, 2), pick(1, 2) if n_x < 9 else 1
    return Vector(
        op=op, source=acc, n_c=n_c, n_y=n_y, n_x=n_x, kernel_y=kernel_y, kernel_x=kernel_x,
        stride_y=stride_y, stride_x=stride_x, dilation_y=pick(1, 2), dilation_x=pick(1, 2),
        offset_y=pick(1 - kernel_y, 0), offset_x=pick(1 - kernel_x, 0),
        height=(n_y - 1) * stride_y + pick(1, 3), width=(n_x - 1) * stride_x + pick(1, 3),
        src_base=pick(0, 60), src_row=pick(0, 9), src_x=pick(0, 1 if acc else 5), src_c=pick(0, 9),
        ring=0 if acc else pick(0, 4), src2_base=pick(0, 200), src2_row=pick(0, 40), src2_x=pick(0, 5),
        src2_c=pick(0, 9), dst_base=pick(0, filled // 2), dst_row=pick(n_x, 60), dst_x=pick(1, 2),
        dst_c=pick(0, 200), dst_ring=pick(n_y, 9) * pick(0, 1), dst_y=pick(0, 9),
        param_base=pick(0, 40), param_c=pick(0, 20), depthwise_base=pick(0, 40), depthwise_c=pick(0, 20),
        table=table, table_base=pick(0, 40), negative=0 if two else pick(0, 1), lo=lo, hi=hi,
        src_zp=pick(0, o.inp_max), src2_zp=pick(0, o.inp_max), out_zp=pick(0, most),
        in_planes=0 if acc else pick(0, min(3, widest)) * pick(0, 1), out_planes=planes,
        src_plane=pick(0, 99), dst_plane=pick(0, 400),
        in2_planes=pick(0, min(3, widest)) * pick(0, 1) if two else 0, src2_plane=pick(0, 99),
    )  # fmt: skip
