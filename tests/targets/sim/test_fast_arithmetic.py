"""VECTOR in the fast simulator against exact Python integers: ties, signs, extremes of m, B and s."""

from __future__ import annotations

from fractions import Fraction

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tilewright.targets.config import overlay
from tilewright.targets.isa.codec import encode_stream
from tilewright.targets.isa.spec import Base, Instruction, Load, Memory, Store, Vector, VectorOp
from tilewright.targets.sim.fast import FastSimulator, simd_levels
from tilewright.targets.sim.program import DramImage
from tilewright.targets.sim.testing import B_MAX, B_MIN, M_MAX, chain, record

OVERLAY = overlay("pynq-z1-w8")
LANES = OVERLAY.block_in
SIMULATORS = {level: FastSimulator(OVERLAY, level) for level in simd_levels()}
HIGHEST = (1 << 16) - 1

multipliers = st.one_of(
    st.integers(-M_MAX, M_MAX), st.sampled_from([-M_MAX, -1, 0, 1, M_MAX, 1 << 23, -(1 << 23)])
)
shifts = st.one_of(st.integers(1, 62), st.sampled_from([1, 2, 31, 32, 33, 46, 47, 61, 62]))
words = st.one_of(st.integers(0, HIGHEST), st.sampled_from([0, 1, 255, 256, HIGHEST]))
weights = st.one_of(
    st.integers(-(1 << 15), (1 << 15) - 1), st.sampled_from([-(1 << 15), -1, 0, 1, (1 << 15) - 1])
)
# Where the sum lies beside a tie: B is chosen so that p is a multiple of 2^s plus this, in halves and units.
ties = st.tuples(st.integers(-3, 70000), st.sampled_from([0, 1]), st.integers(-1, 1))
lanes = st.tuples(words, weights, multipliers, multipliers, shifts, ties, st.integers(0, 255))


def wrap32(v: int) -> int:
    return (v + (1 << 31)) % (1 << 32) - (1 << 31)


def steer(p: int, s: int, tie: tuple[int, int, int]) -> int:
    """B that takes p + B to the tie, or to the end of B's range that is next to it."""
    quotient, halves, units = tie
    return min(max((quotient << s) + (halves << (s - 1)) + units - p, B_MIN), B_MAX)


def run(
    op: VectorOp, rows: list[tuple[int, int, int, int, int, int, int]], negative: bool, zero: int, out: int
) -> list[int]:
    """One half word through VECTOR; a row is (value, weight, m, m2, s, B, second operand), B2 is B."""
    value, weight, m, m2, s, b, second = (np.array(column, object) for column in zip(*rows, strict=True))
    planes = np.concatenate([value & 255, value >> 8, second]).astype(np.uint8)
    parameters = b"".join(record(int(m[i]), int(s[i]), int(b[i])) for i in range(LANES))
    parameters += b"".join(record(int(m2[i]), 0, int(b[i])) for i in range(LANES))
    parameters += weight.astype("<i2").tobytes()
    constants = np.concatenate([planes, np.frombuffer(parameters, np.uint8)])
    stream: list[Instruction] = [
        Load(memory=Memory.ACT, dram_stride2=LANES, n2=3),
        Load(memory=Memory.PARAM, dram_offset=3 * LANES, dram_stride2=16, n2=len(parameters) // 16),
        Vector(op=op, in_planes=1, src_plane=1, out_planes=1, dst_base=8, dst_plane=1, hi=HIGHEST,
               src2_base=2, src_zp=zero, src2_zp=zero & 255, depthwise_base=2 * LANES,
               negative=int(negative), out_zp=out),
        Store(base=Base.OUTPUT, dram_stride2=LANES, address=8, n2=2),
    ]  # fmt: skip
    image = DramImage(constants, constants[:0], 0, 2 * LANES)
    encoded = encode_stream(chain(stream))
    results = []
    for simulator in SIMULATORS.values():
        low, high = simulator.run(encoded, image).outputs.reshape(2, LANES).astype(int)
        results.append((low + 256 * high).tolist())
    assert all(r == results[0] for r in results), (
        f"levels differ: {dict(zip(SIMULATORS, results, strict=True))}"
    )
    return list(results[0])


@pytest.mark.parametrize(
    ("op", "negative"),
    [
        (VectorOp.SUM, False),
        (VectorOp.SUM, True),
        (VectorOp.DEPTHWISE, False),
        (VectorOp.DEPTHWISE, True),
        (VectorOp.SCALED_ADD, False),
        (VectorOp.MULTIPLY, False),
    ],
)
@settings(max_examples=60, deadline=None, derandomize=True)
@given(drawn=st.lists(lanes, min_size=LANES, max_size=LANES), zero=words, out=words)
def test_requantisation(
    op: VectorOp,
    negative: bool,
    drawn: list[tuple[int, int, int, int, int, tuple[int, int, int], int]],
    zero: int,
    out: int,
) -> None:
    rows, expected = [], []
    for value, weight, m, m2, s, tie, second in drawn:
        v = wrap32((value - zero) * weight) if op == VectorOp.DEPTHWISE else value - zero
        w = second - (zero & 255)
        product = {VectorOp.SCALED_ADD: v * m + w * m2, VectorOp.MULTIPLY: v * w * m}.get(op, v * m)
        b = steer(product, s, tie)
        p = product + b
        if negative and p < out << s:
            p = v * m2 + b
        rows.append((value, weight, m, m2, s, b, second))
        expected.append(min(max(round(Fraction(p, 1 << s)), 0), HIGHEST))
    assert run(op, rows, negative, zero, out) == expected


@pytest.mark.parametrize("sign", [1, -1])
def test_every_tie_of_small_shifts(sign: int) -> None:
    """p = -2^s .. 2^s around every quotient parity, s = 1..6: each p once, results shifted up by 100."""
    cases = [(p, s) for s in range(1, 7) for p in range(-(4 << s), (4 << s) + 1)]
    cases += [(0, 1)] * (-len(cases) % LANES)
    for i in range(0, len(cases), LANES):
        part = cases[i : i + LANES]
        rows = [(abs(p), 1, sign if p >= 0 else -sign, 0, s, 100 << s, 0) for p, s in part]
        expected = [round(Fraction(sign * p, 1 << s)) + 100 for p, s in part]
        assert run(VectorOp.SUM, rows, False, 0, 0) == expected
