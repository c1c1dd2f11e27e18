"""VECTOR of the reference simulator against its definition as scalar loops over Python integers."""

from __future__ import annotations

import struct
from fractions import Fraction

import numpy as np
import pytest

from tilewright.targets.config import Overlay
from tilewright.targets.isa.codec import decode, encode
from tilewright.targets.isa.spec import Source, Vector, VectorOp
from tilewright.targets.sim.memory import Memories, Trap
from tilewright.targets.sim.program import DramImage
from tilewright.targets.sim.vector import vector

NAMES = ["8x8-w8", "8x16-w8-acc20", "32x32-w4", "16x32-a8w4", "32x32-w2", "128x128-w1"]


class OverlapError(Exception):
    """A half word was read after it was written."""


def record(m: int, s: int, b: int) -> np.ndarray[tuple[int], np.dtype[np.uint8]]:
    return np.frombuffer(struct.pack("<iiq", m, s, b), np.uint8)


def scalar(x: Vector, mem: Memories, o: Overlay) -> dict[int, list[int]]:
    """The docstring of Vector, executed result by result in a copy of ACT."""
    act = dict(enumerate(mem.act.data.tolist()))
    written: dict[int, list[int]] = {}

    def read(row: int) -> list[int]:
        if row in written:
            raise OverlapError
        return list(act[row])

    def parameters(c: int, lane: int, record_set: int) -> tuple[int, int, int]:
        row = x.param_base + c * x.param_c + lane + record_set * o.block_in
        m, s, b = struct.unpack("<iiq", mem.param.data[row].tobytes())
        return m, s, b

    def value(py: int, px: int, c: int) -> list[int]:
        if x.source == Source.ACC:
            r = o.block_out // o.block_in
            row = x.src_base + py * x.src_row + px * x.src_x + c // r * x.src_c
            lanes: list[int] = mem.acc.data[row].tolist()
            return lanes[c % r * o.block_in : (c % r + 1) * o.block_in]
        row = x.src_base + (py % x.ring if x.ring else py) * x.src_row + px * x.src_x + c * x.src_c
        return joined(row, x.src_plane, x.in_planes)

    def joined(row: int, pitch: int, log2: int) -> list[int]:
        planes = [read(row + k * pitch) for k in range(2**log2)]
        return [sum(v << k * o.inp_bits for k, v in enumerate(lane)) for lane in zip(*planes, strict=True)]

    for c in range(x.n_c):
        for y in range(x.n_y):
            for column in range(x.n_x):
                taps: list[tuple[int, list[int]]] = []
                for ky in range(x.kernel_y):
                    for kx in range(x.kernel_x):
                        py = y * x.stride_y + ky * x.dilation_y + x.offset_y
                        px = column * x.stride_x + kx * x.dilation_x + x.offset_x
                        if 0 <= py < x.height and 0 <= px < x.width:
                            taps.append((ky * x.kernel_x + kx, value(py, px, c)))
                py, px = y * x.stride_y + x.offset_y, column * x.stride_x + x.offset_x
                two = x.op in (VectorOp.SCALED_ADD, VectorOp.MULTIPLY)
                if two:
                    ring = py % x.ring if x.ring else py
                    row2 = x.src2_base + ring * x.src2_row + px * x.src2_x + c * x.src2_c
                    second = joined(row2, x.src2_plane, x.in2_planes)
                results: list[int] = []
                for lane in range(o.block_in):
                    terms = [v[lane] - x.src_zp for _, v in taps]
                    if x.op == VectorOp.DEPTHWISE:
                        for i, (tap, _) in enumerate(taps):
                            base = (x.depthwise_base + c * x.depthwise_c + tap * (o.block_in // 8)) * 16
                            flat = mem.param.data.ravel()[base + 2 * lane : base + 2 * lane + 2]
                            terms[i] *= struct.unpack("<h", flat.tobytes())[0]
                    v = max(terms) if x.op == VectorOp.MAX else sum(terms)
                    half = 1 << (o.acc_bits - 1)
                    v = (v + half) % (2 * half) - half
                    m, s, b = parameters(c, lane, 0)
                    if x.op == VectorOp.SCALED_ADD:
                        p = v * m + (second[lane] - x.src2_zp) * parameters(c, lane, 1)[0] + b
                    elif x.op == VectorOp.MULTIPLY:
                        p = v * (second[lane] - x.src2_zp) * m + b
                    else:
                        p = v * m + b
                    if x.negative and p < x.out_zp << s:
                        m2, _, b2 = parameters(c, lane, 1)
                        p = v * m2 + b2
                    result = min(max(round(Fraction(p, 1 << s)), x.lo), x.hi)
                    if x.table:
                        result = int(mem.param.data.ravel()[x.table_base * 16 + result])
                    results.append(result)
                row = x.dst_y + y
                row = x.dst_base + (row % x.dst_ring if x.dst_ring else row) * x.dst_row
                row += column * x.dst_x + c * x.dst_c
                for k in range(2**x.out_planes):
                    written[row + k * x.dst_plane] = [v >> k * o.inp_bits & o.inp_max for v in results]
    return written


def filled(o: Overlay, rng: np.random.Generator) -> Memories:
    """Memories with random contents, all written; PARAM records are legal parameters."""
    none = np.zeros(0, np.uint8)
    m = Memories(o, DramImage(none, none, 0, 0))
    m.act.data[:] = rng.integers(0, o.inp_max + 1, m.act.data.shape)
    half = 1 << (o.acc_bits - 1)
    m.acc.data[:] = rng.integers(-half, half, m.acc.data.shape)
    m.acc.data[rng.random(m.acc.data.shape) < 0.3] %= 200
    top = (1 << 24) - 1
    for i in range(len(m.param.data)):
        extreme = rng.random() < 0.3
        scale = int(rng.choice([-top, -1, 0, 1, top])) if extreme else int(rng.integers(-300, 300))
        shift = int(rng.choice([1, 2, 31, 47, 62])) if extreme else int(rng.integers(1, 12))
        ends = [-(1 << 47), (1 << 47) - 1, 0, 1 << 46]
        offset = int(rng.choice(ends)) if extreme else int(rng.integers(-9000, 40000))
        m.param.data[i] = record(scale, shift, offset)
    for memory in (m.act, m.acc, m.param):
        memory.written[:] = True
    return m


def random_vector(o: Overlay, rng: np.random.Generator) -> Vector:
    """An instruction with all fields random and small counts; its windows all have a tap inside."""

    def pick(low: int, high: int) -> int:
        return int(rng.integers(low, high + 1))

    op = VectorOp(pick(0, 4))
    two = op in (VectorOp.SCALED_ADD, VectorOp.MULTIPLY)
    acc = 0 if two else pick(0, 1)
    table = int(pick(0, 3) == 0)
    n_y, n_x, stride_y, stride_x = pick(1, 3), pick(1, 3), pick(1, 2), pick(1, 2)
    kernel_y, kernel_x = (1, 1) if two else (pick(1, 3), pick(1, 3))
    offset_y, offset_x = pick(1 - kernel_y, 0), pick(1 - kernel_x, 0)
    lo = pick(0, 40)
    widest = (16 // o.inp_bits).bit_length() - 1
    return Vector(
        op=op, source=acc, n_c=pick(1, 3), n_y=n_y, n_x=n_x, kernel_y=kernel_y, kernel_x=kernel_x,
        stride_y=stride_y, stride_x=stride_x, dilation_y=1, dilation_x=1, offset_y=offset_y, offset_x=offset_x,
        height=(n_y - 1) * stride_y + offset_y + kernel_y + pick(0, 1),
        width=(n_x - 1) * stride_x + offset_x + kernel_x + pick(0, 1),
        src_base=pick(0, 40), src_row=pick(0, 20), src_x=pick(0, 9), src_c=pick(0, 20),
        ring=0 if acc else pick(0, 3),
        src2_base=pick(0, 40), src2_row=pick(0, 20), src2_x=pick(0, 9), src2_c=pick(0, 20),
        dst_base=pick(30, 150), dst_row=pick(9, 12), dst_x=pick(1, 3), dst_c=pick(60, 70),
        dst_ring=pick(3, 5) if pick(0, 1) else 0, dst_y=pick(0, 4),
        param_base=pick(0, 20), param_c=pick(0, 20), depthwise_base=pick(0, 20), depthwise_c=pick(0, 9),
        table=table, table_base=pick(0, 20), negative=0 if two else pick(0, 1),
        lo=lo, hi=pick(lo, 255) if table or pick(0, 1) else 65535,
        src_zp=pick(0, o.inp_max), src2_zp=pick(0, 65535 if pick(0, 1) else 9), out_zp=pick(0, 65535),
        in_planes=0 if acc else pick(0, min(3, widest)) * pick(0, 1), out_planes=pick(0, widest) * pick(0, 1),
        in2_planes=pick(0, min(3, widest)) * pick(0, 1) if two else 0,
        src_plane=pick(0, 20), src2_plane=pick(0, 20), dst_plane=pick(300, 400),
    )  # fmt: skip


@pytest.mark.parametrize("name", NAMES)
def test_random_instructions(machines: dict[str, Overlay], name: str) -> None:
    o = machines[name]
    rng = np.random.default_rng(5)
    m = filled(o, rng)
    equal = overlapping = 0
    for _ in range(2400 // o.block_in):
        x = random_vector(o, rng)
        assert decode(encode(x)) == x
        try:
            expected = scalar(x, m, o)
        except OverlapError:
            with pytest.raises(Trap, match="but reads it at"):
                vector(x, m, o)
            overlapping += 1
            continue
        effect, _ = vector(x, m, o)
        assert sorted(effect.rows.tolist()) == sorted(expected)
        for row, value in zip(effect.rows.tolist(), effect.values.tolist(), strict=True):
            assert value == expected[row], x
        equal += 1
        effect.memory.write(effect.rows, effect.values)
    assert equal >= 8
    assert overlapping >= 1 or o.block_in > 32


def test_in_place_is_allowed_where_reads_come_first(machines: dict[str, Overlay]) -> None:
    o = machines["8x8-w8"]
    rng = np.random.default_rng(1)
    m = filled(o, rng)
    x = Vector(n_c=2, n_y=4, n_x=4, height=4, width=4, src_row=4, src_x=1, src_c=16, dst_row=4, dst_x=1,
               dst_c=16)  # fmt: skip
    m.param.data[:8] = record(1, 1, 0)
    effect, reads = vector(x, m, o)
    assert dict(zip(effect.rows.tolist(), effect.values.tolist(), strict=True)) == scalar(x, m, o)
    assert reads == 32


@pytest.mark.parametrize("s", [1, 2, 7, 24, 47, 62])
def test_requantisation_at_ties_and_extremes(machines: dict[str, Overlay], s: int) -> None:
    """All of m, B and s at their ends and around every kind of tie, through ACC -> ACT in two planes."""
    o = machines["8x8-w8"]
    m = filled(o, np.random.default_rng(2))
    top, big = (1 << 24) - 1, (1 << 47) - 1
    sums = [-(1 << 31), -(1 << 30) - 1, -3, -1, 1, 3, (1 << 30) + 1, (1 << 31) - 1]
    scales = [-top, -(1 << 23), -1, 0, 1, 3, 1 << 23, top]
    tie = 1 << min(s - 1, 46)
    offsets = [-big - 1, -3 * tie, -tie, -tie + 1, tie - 1, tie, min(3 * tie, big), big]
    m.acc.data[0] = sums
    for scale in scales:
        for lane in range(8):
            for offset in range(8):
                m.param.data[offset] = record(scale, s, max(offsets[(offset + lane) % 8], -big - 1))
            x = Vector(source=Source.ACC, hi=65535, out_planes=1, dst_base=100, dst_plane=50)
            effect, _ = vector(x, m, o)
            low, high = effect.values.astype(int)
            for i in range(8):
                p = sums[i] * scale + max(offsets[(i + lane) % 8], -big - 1)
                assert low[i] + 256 * high[i] == min(max(round(Fraction(p, 1 << s)), 0), 65535)


def _trap(x: Vector, m: Memories, o: Overlay) -> str:
    with pytest.raises(Trap) as trap:
        vector(x, m, o)
    return trap.value.message


def test_messages(machines: dict[str, Overlay]) -> None:
    o = machines["8x8-w8"]
    m = filled(o, np.random.default_rng(0))
    acc = int(Source.ACC)
    add, multiply = int(VectorOp.SCALED_ADD), int(VectorOp.MULTIPLY)
    for x, message in (
        (Vector(source=acc, ring=3), "ring=3 with source ACC, which has no rings"),
        (Vector(source=acc, in_planes=1), "in_planes=1 with source ACC, which has no planes"),
        (Vector(op=add, source=acc), "SCALED_ADD with source ACC, both operands must come from ACT"),
        (Vector(op=multiply, kernel_x=2), "MULTIPLY with a 1x2 window, it must be 1x1"),
        (
            Vector(op=add, negative=1),
            "SCALED_ADD with negative=1, which needs the second set of parameters for itself",
        ),
        (Vector(lo=9, hi=8), "lo=9 is above hi=8"),
        (Vector(out_planes=2), "out_planes=2 of 8 bits, a result has 16 at most"),
        (Vector(in_planes=2), "in_planes=2 of 8 bits, a value has 16 at most"),
        (Vector(op=add, in2_planes=2), "in2_planes=2 of 8 bits, a value has 16 at most"),
        (Vector(in2_planes=1), "in2_planes=1 with SUM, which has no second operand"),
        (Vector(table=1, hi=256), "hi=256 is beyond the table of 256 entries"),
        (Vector(n_y=70, n_x=70), "writes 4900 half words, but ACT has 4096"),
        (
            Vector(dst_base=4000, n_x=2, width=2, dst_x=96),
            "writes half word 4096 of ACT, but the last is 4095",
        ),
        (Vector(n_y=5, height=5, dst_row=1, dst_ring=3), "writes half word 0 of ACT more than once"),
        (Vector(offset_y=-1), "the window of (y, x) = (0, 0) has no tap inside the map 1x1"),
        (
            Vector(n_x=2, stride_x=3, kernel_x=2, width=3, dst_base=9, dst_x=1),
            "the window of (y, x) = (0, 1) has no tap inside the map 1x3",
        ),
        (Vector(src_base=4096), "reads half word 4096 of ACT, but the last is 4095"),
        (Vector(source=acc, src_base=1024), "reads vector 1024 of ACC, but the last is 1023"),
        (Vector(param_base=2044), "reads record 2051 of PARAM, but the last is 2047"),
        (
            Vector(n_x=2, width=2, src_x=1, src_base=0, dst_base=1, dst_x=9),
            "writes half word 1 of ACT at (c, y, x) = (0, 0, 0), but reads it at (0, 0, 1)",
        ),
    ):
        assert _trap(x, m, o) == message
    for bad, message in (
        ((1 << 24, 1, 0), "m=16777216 in record 3 of PARAM is not within -16777215..16777215"),
        ((1, 0, 0), "s=0 in record 3 of PARAM is not within 1..62"),
        ((1, 63, 0), "s=63 in record 3 of PARAM is not within 1..62"),
        (
            (1, 1, 1 << 47),
            "B=140737488355328 in record 3 of PARAM is not within -140737488355328..140737488355327",
        ),
    ):
        m.param.data[3] = record(*bad)
        assert _trap(Vector(), m, o) == message
    m.param.data[3] = record(1, 1, 0)
    for memory, x, row in (
        (m.act, Vector(src_base=5), "half word 5 of ACT"),
        (m.act, Vector(in_planes=1, src_plane=5), "half word 5 of ACT"),
        (m.act, Vector(op=add, src2_base=5), "half word 5 of ACT"),
        (m.acc, Vector(source=acc, src_base=5), "vector 5 of ACC"),
        (m.param, Vector(), "record 5 of PARAM"),
        (m.param, Vector(param_base=20, table=1), "record 5 of PARAM"),
        (m.param, Vector(op=int(VectorOp.DEPTHWISE), param_base=20, depthwise_base=5), "record 5 of PARAM"),
    ):
        vector(x, m, o)
        memory.written[5] = False
        assert _trap(x, m, o) == f"reads {row}, which nothing has written"
        memory.written[5] = True


def test_negative_serves_only_what_is_below_the_zero_point(machines: dict[str, Overlay]) -> None:
    """p = 2v - 1 + 2*zp against zp << 1: the second set serves v <= 0 and not v = 1 (p one above the bound)."""
    o = machines["8x8-w8"]
    m = filled(o, np.random.default_rng(0))
    m.acc.data[0] = [-3, -2, -1, 0, 1, 2, 3, 4]
    for lane in range(8):
        m.param.data[lane] = record(2, 1, -1 + 2 * 50)
        m.param.data[8 + lane] = record(10, 1, 2 * 50)
    x = Vector(source=Source.ACC, negative=1, out_zp=50, dst_base=9)
    # rne((2v + 99) / 2) ties to even from v = 1 up; 5v + 50 below.
    assert vector(x, m, o)[0].values[0].tolist() == [35, 40, 45, 50, 50, 52, 52, 54]
    for lane in range(8):
        m.param.data[lane] = record(2, 1, 2 * 50)
    # Now p = zp << s exactly at v = 0, which is not below.
    m.param.data[8:16] = record(10, 1, 7)
    low = [round(Fraction(10 * v + 7, 2)) for v in (-3, -2, -1)]
    assert vector(x, m, o)[0].values[0].tolist() == [*(max(v, 0) for v in low), 50, 51, 52, 53, 54]
