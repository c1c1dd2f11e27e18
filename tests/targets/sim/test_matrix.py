"""MATRIX of the reference simulator against its definition as scalar loops over Python integers."""

from __future__ import annotations

import itertools
from dataclasses import replace

import numpy as np
import pytest

from tilewright.targets.config import Overlay
from tilewright.targets.isa.codec import decode, encode
from tilewright.targets.isa.spec import Loop, Matrix
from tilewright.targets.sim.matrix import matrix
from tilewright.targets.sim.memory import Memories, Trap
from tilewright.targets.sim.program import DramImage

NAMES = ["8x8-w8", "8x16-w8-acc20", "32x32-w4", "16x32-a8w4", "32x32-a4w8", "32x32-w2", "128x128-w1"]


def scalar(x: Matrix, m: Memories, o: Overlay) -> dict[int, list[int]]:
    """The docstring of Matrix, counter by counter."""
    counts = {
        Loop.OC: x.n_oc,
        Loop.IC: x.n_ic,
        Loop.KY: x.n_ky,
        Loop.KX: x.n_kx,
        Loop.Y: x.n_y,
        Loop.X: x.n_x,
    }
    acc: dict[int, list[int]] = {}
    for values in itertools.product(*(range(counts[loop]) for loop in x.order)):
        at = dict(zip(x.order, values, strict=True))
        oc, ic, ky, kx, y, xx = (at[loop] for loop in Loop)
        block = x.ic_first + oc * x.ic_stride_o + ic
        py = y * x.stride_y + ky * x.dilation_y + x.offset_y
        px = xx * x.stride_x + kx * x.dilation_x + x.offset_x
        tile = m.wgt.data[x.wgt_base + oc * x.wgt_oc + ic * x.wgt_ic + ky * x.wgt_ky + kx * x.wgt_kx].tolist()
        vector = x.acc_base + oc * x.acc_oc + y * x.acc_y + xx * x.acc_x
        if vector not in acc:
            acc[vector] = m.acc.data[vector].tolist()
        if x.fresh and ic == ky == kx == 0:
            acc[vector] = [0] * o.block_out
        lanes: list[int] = []
        for lane in range(o.block_in):
            dy, dx = m.disp.data[x.disp_base + block][lane].tolist() if x.displaced else (0, 0)
            qy, qx = py + dy, px + dx
            maps = ((py, x.height), (px, x.width), (qy, x.height), (qx, x.width))
            inside = all(0 <= p < n for p, n in maps)
            value = x.pad
            if inside:
                ring_y = qy % x.ring if x.ring else qy
                value = int(
                    m.act.data[x.act_base + ring_y * x.act_row + qx * x.act_x + block * x.act_ic][lane]
                )
            if o.inp_bits == 1:
                value = (1 if value else -1) if inside else 0
            lanes.append(value)
        quarter = o.block_in // 4
        for j in range(o.block_out):
            for lane, value in enumerate(lanes):
                w = tile[j][lane]
                q = lane // quarter
                if o.wgt_bits == 1:
                    w = 1 if w else -1
                elif x.w_signed >> q & 1 and w >> (o.wgt_bits - 1):
                    w -= 1 << o.wgt_bits
                more = (0, 1, 1, 2)[q] * o.wgt_bits if x.lane_shift else 0
                acc[vector][j] += (value * w) << (x.shift + more)
            half = 1 << (o.acc_bits - 1)
            acc[vector][j] = (acc[vector][j] + half) % (2 * half) - half
    return acc


def filled(o: Overlay, rng: np.random.Generator) -> Memories:
    """Memories with random contents, all written."""
    none = np.zeros(0, np.uint8)
    m = Memories(o, DramImage(none, none, 0, 0))
    m.act.data[:] = rng.integers(0, o.inp_max + 1, m.act.data.shape)
    m.wgt.data[:] = rng.integers(0, 1 << o.wgt_bits, m.wgt.data.shape)
    m.disp.data[:] = rng.integers(o.displacement_min, o.displacement_max + 1, m.disp.data.shape)
    half = 1 << (o.acc_bits - 1)
    m.acc.data[:] = rng.integers(-half, half, m.acc.data.shape)
    for memory in (m.act, m.wgt, m.disp, m.acc):
        memory.written[:] = True
    return m


def random_matrix(o: Overlay, rng: np.random.Generator, most: int) -> Matrix:
    """A legal instruction with all fields random and small counts."""

    def pick(low: int, high: int) -> int:
        return int(rng.integers(low, high + 1))

    while True:
        n = [pick(1, most) for _ in range(6)]
        x = Matrix(
            n_oc=n[0], n_ic=n[1], n_ky=n[2], n_kx=n[3], n_y=n[4], n_x=n[5],
            **{f"order_{i}": int(v) for i, v in enumerate(rng.permutation(6))},
            wgt_base=pick(0, 2), wgt_oc=pick(0, 1), wgt_ic=pick(0, 1), wgt_ky=pick(0, 1), wgt_kx=pick(0, 1),
            acc_base=pick(0, 900), acc_oc=pick(0, 12), acc_y=pick(0, 12), acc_x=pick(0, 12),
            act_base=pick(0, 50), act_row=pick(0, 40), act_x=pick(0, 9), act_ic=pick(0, 30),
            ring=pick(0, 4), ic_first=pick(0, 5), ic_stride_o=pick(0, 2),
            stride_y=pick(1, 3), stride_x=pick(1, 3), dilation_y=pick(1, 3), dilation_x=pick(1, 3),
            offset_y=pick(-3, 3), offset_x=pick(-3, 3), height=pick(1, 9), width=pick(1, 9),
            pad=pick(0, o.inp_max), displaced=pick(0, 1), disp_base=pick(0, 9), fresh=pick(0, 1),
            w_signed=pick(0, 15), lane_shift=pick(0, 1), shift=pick(0, 31) if pick(0, 1) else 0,
        )  # fmt: skip
        vectors = [
            oc * x.acc_oc + y * x.acc_y + c * x.acc_x
            for oc in range(x.n_oc) for y in range(x.n_y) for c in range(x.n_x)
        ]  # fmt: skip
        tile = x.wgt_base + (n[0] - 1) * x.wgt_oc + (n[1] - 1) * x.wgt_ic
        tile += (n[2] - 1) * x.wgt_ky + (n[3] - 1) * x.wgt_kx
        if len(set(vectors)) == len(vectors) and tile < o.wgt_tiles:
            return x


@pytest.mark.parametrize("name", NAMES)
def test_random_instructions(machines: dict[str, Overlay], name: str) -> None:
    o = machines[name]
    rng = np.random.default_rng(7)
    m = filled(o, rng)
    changed = 0
    for _ in range(4096 // (o.block_in * o.block_out // 16)):
        x = random_matrix(o, rng, 3 if o.block_in < 64 else 2)
        assert decode(encode(x)) == x
        effect = matrix(x, m, o)
        expected = scalar(x, m, o)
        assert sorted(effect.rows.tolist()) == sorted(expected)
        for row, value in zip(effect.rows.tolist(), effect.values.tolist(), strict=True):
            assert value == expected[row], x
        effect.memory.write(effect.rows, effect.values)
        changed += len(expected)
    assert changed >= 8


def test_order_of_counters_does_not_matter(machines: dict[str, Overlay]) -> None:
    o = machines["8x16-w8-acc20"]
    rng = np.random.default_rng(3)
    m = filled(o, rng)
    x = replace(random_matrix(o, rng, 2), n_ic=2, n_kx=2, n_ky=2)
    results = []
    for order in itertools.permutations(range(6)):
        turned = replace(x, **{f"order_{i}": v for i, v in enumerate(order)})
        results.append(matrix(turned, m, o).values.tolist())
        if len(results) % 60 == 1:
            assert results[-1] == [v for _, v in sorted(_by_rows(turned, m, o))]
    assert all(r == results[0] for r in results)


def _by_rows(x: Matrix, m: Memories, o: Overlay) -> list[tuple[int, list[int]]]:
    """The scalar result in the order in which `matrix` lists the vectors."""
    expected = scalar(x, m, o)
    place = {row: i for i, row in enumerate(matrix(x, m, o).rows.tolist())}
    return [(place[row], value) for row, value in expected.items()]


@pytest.mark.parametrize("name", ["32x32-w4", "8x8-w8"])
def test_lane_shift_multiplies_operands_of_twice_the_width(machines: dict[str, Overlay], name: str) -> None:
    """block_in/4 products of 2h x 2h bits a step: lanes hold (low, high, low, high) against (ll, lh, hl, hh)."""
    o = machines[name]
    rng = np.random.default_rng(11)
    h, quarter = o.wgt_bits, o.block_in // 4
    m = filled(o, rng)
    values = rng.integers(0, 1 << (2 * h), quarter)
    weights = rng.integers(-(1 << (2 * h - 1)), 1 << (2 * h - 1), (o.block_out, quarter))
    mask = (1 << h) - 1
    m.act.data[0] = np.concatenate([values & mask, values >> h, values & mask, values >> h])
    low, high = weights & mask, (weights >> h) & mask
    m.wgt.data[0] = np.concatenate([low, low, high, high], axis=1)
    effect = matrix(Matrix(lane_shift=1, w_signed=0b1100), m, o)
    assert effect.values[0].tolist() == (weights @ values).tolist()


def test_largest_sums_are_exact(machines: dict[str, Overlay]) -> None:
    o = machines["ultra96-w8"]
    m = filled(o, np.random.default_rng(0))
    m.act.data[:] = 255
    m.wgt.data[:] = 255
    effect = matrix(Matrix(w_signed=0, n_ic=200, n_ky=7, n_kx=7, height=9, width=9), m, o)
    exact = 200 * 49 * o.block_in * 255 * 255
    assert effect.values.tolist() == [[(exact + 2**31) % 2**32 - 2**31] * o.block_out]


def _trap(x: Matrix, m: Memories, o: Overlay) -> str:
    with pytest.raises(Trap) as trap:
        matrix(x, m, o)
    return trap.value.message


def test_messages(machines: dict[str, Overlay]) -> None:
    o = machines["32x32-w4"]
    m = filled(o, np.random.default_rng(0))
    last = len(m.act.data) - 1
    assert _trap(Matrix(pad=16), m, o) == "pad=16 does not fit the overlay's inp_bits=4 (0..15)"
    assert _trap(Matrix(n_y=2, n_x=2, acc_y=1, acc_x=1), m, o) == (
        "(oc, y, x) = (0, 0, 1) and (0, 1, 0) meet at vector 1 of ACC"
    )
    assert _trap(Matrix(n_y=1025), m, o) == "n_oc*n_y*n_x = 1025 sums need a vector each, but ACC has 1024"
    assert _trap(Matrix(acc_base=1000, n_x=30, acc_x=1), m, o) == (
        "writes vector 1029 of ACC, but the last is 1023"
    )
    assert _trap(Matrix(wgt_base=63, n_ic=2, wgt_ic=2), m, o) == "reads tile 65 of WGT, but the last is 63"
    assert _trap(Matrix(act_base=last, n_ic=2, act_ic=1), m, o) == (
        f"reads half word {last + 1} of ACT, but the last is {last}"
    )
    assert (
        _trap(Matrix(displaced=1, disp_base=63, n_ic=2), m, o) == "reads entry 64 of DISP, but the last is 63"
    )
    for memory, x, row in (
        (m.act, Matrix(act_base=5), "half word 5 of ACT"),
        (m.wgt, Matrix(wgt_base=5), "tile 5 of WGT"),
        (m.disp, Matrix(displaced=1, disp_base=5), "entry 5 of DISP"),
        (m.acc, Matrix(fresh=0, acc_base=5), "vector 5 of ACC"),
    ):
        matrix(x, m, o)
        memory.written[5] = False
        assert _trap(x, m, o) == f"reads {row}, which nothing has written"
        memory.written[5] = True


def test_what_is_outside_the_map_is_not_read(machines: dict[str, Overlay]) -> None:
    o = machines["8x8-w8"]
    m = filled(o, np.random.default_rng(0))
    m.act.written[:] = False
    effect = matrix(Matrix(offset_y=-1, pad=3, act_base=65535), m, o)
    weights = m.wgt.data[0].astype(np.int8).astype(np.int64)
    assert effect.values[0].tolist() == (3 * weights.sum(axis=1)).tolist()
