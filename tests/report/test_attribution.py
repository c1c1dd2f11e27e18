"""Cycles by layer against the rule applied cycle by cycle."""

from __future__ import annotations

import numpy as np
import pytest
from tests.targets.sim.test_timing import fifo_gives, windows_have_taps, with_random_tokens

from tilewright.report.attribution import NO_UNIT, PRIORITY, attribute
from tilewright.targets.config import overlay
from tilewright.targets.isa.codec import encode_stream
from tilewright.targets.isa.spec import Base, Finish, Instruction, Load, Memory, Opcode, Store, Unit, Vector
from tilewright.targets.sim.program import Program
from tilewright.targets.sim.testing import random_matrix, random_vector
from tilewright.targets.sim.timing import Timing, run

U96 = overlay("ultra96-w8")


def timed(body: list[Instruction]) -> Timing:
    return run(Program(encode_stream([*body, Finish()]), U96))


def cycle_by_cycle(timing: Timing, layer_of: list[int], layers: int) -> list[list[int]]:
    """The rule as it is written down, slowly."""
    found = [[0] * (NO_UNIT + 1) for _ in range(layers)]
    real = [i for i, opcode in enumerate(timing.opcodes.tolist()) if opcode != Opcode.FINISH]
    for now in range(timing.cycles):
        working: dict[Unit, int] = {}
        for i in real:  # the oldest of a unit comes first in the stream
            unit = Unit(int(timing.opcodes[i]) - 1)
            if unit not in working and timing.start[i] <= now <= timing.end[i]:
                working[unit] = i
        first = next((u for u in PRIORITY if u in working), None)
        if first is not None:
            found[layer_of[working[first]]][first] += 1
            continue
        later = [i for i in real if timing.start[i] >= now]
        waited = (
            min(later, key=lambda i: (timing.start[i], i))
            if later
            else max(real, key=lambda i: timing.end[i])
        )
        found[layer_of[waited]][NO_UNIT] += 1
    return found


@pytest.mark.parametrize("seed", range(12))
def test_against_the_rule(seed: int) -> None:
    rng = np.random.default_rng(seed)
    body: list[Instruction] = []
    while len(body) < 10:
        kind = rng.integers(4)
        if kind == 0:
            body.append(
                Load(memory=Memory.ACT, base=Base.CONSTANT, n2=int(rng.integers(1, 200)), dram_stride2=16)
            )
        elif kind == 1:
            body.append(Store(base=Base.OUTPUT, n2=int(rng.integers(1, 60)), dram_stride2=16))
        elif kind == 2:
            body.append(random_matrix(U96, rng))
        elif windows_have_taps(v := random_vector(U96, rng, 200)):
            body.append(v)
    body = with_random_tokens(body, rng, 0.3)
    assert fifo_gives(body)
    timing = timed(body)
    layer_of = rng.integers(0, 4, len(body) + 1).tolist()
    found = attribute(timing, layer_of, 4)
    assert found.sum() == timing.cycles
    assert found.tolist() == cycle_by_cycle(timing, layer_of, 4)


def test_merged_layers_take_turns() -> None:
    """Two layers stripe by stripe: each gets its own instructions' cycles, though they are interleaved."""
    stripes = [
        Vector(n_y=4, n_x=20, height=100, width=100, src_row=20, src_x=1, dst_base=4000) for _ in range(6)
    ]
    timing = timed(list(stripes))
    found = attribute(timing, [0, 1, 0, 1, 0, 1, 1], 2)
    assert found[:, Unit.VECTOR].sum() + found[:, NO_UNIT].sum() == timing.cycles
    # The first stripe's set-up is longer by the pipeline that later ones find filled.
    assert abs(int(found[0, Unit.VECTOR]) - int(found[1, Unit.VECTOR])) <= 40


def test_a_stream_that_does_nothing() -> None:
    timing = timed([])
    assert attribute(timing, [0], 1).tolist() == [[0, 0, 0, 0, timing.cycles]]
