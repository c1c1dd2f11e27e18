"""The event-driven timing simulator against the stepping one, cycle for cycle."""

from __future__ import annotations

from collections import deque
from dataclasses import replace

import numpy as np
import pytest

from tilewright.targets.config import Overlay
from tilewright.targets.isa.codec import encode_stream
from tilewright.targets.isa.spec import Base, Finish, Instruction, Load, Matrix, Memory, Store, Unit, Vector
from tilewright.targets.sim.program import Program
from tilewright.targets.sim.stepping import Stepped, step_through
from tilewright.targets.sim.testing import random_matrix, random_vector
from tilewright.targets.sim.timing import Timing, run


def with_random_tokens(
    body: list[Instruction], rng: np.random.Generator, density: float
) -> list[Instruction]:
    """Waits for tokens given before, and no token left over; otherwise units run side by side."""
    given: dict[tuple[int, int], deque[int]] = {(a, b): deque() for a in Unit for b in Unit}
    wait, give = [0] * len(body), [0] * len(body)
    for index, x in enumerate(body):
        assert x.unit is not None
        for a in Unit:
            if given[a, x.unit] and rng.random() < 0.5:
                give[given[a, x.unit].popleft()] |= 1 << x.unit
                wait[index] |= 1 << a
        for b in Unit:
            if b != x.unit and rng.random() < density:
                given[x.unit, b].append(index)
    return [replace(x, wait=w, give=g) for x, w, g in zip(body, wait, give, strict=True)]


def fifo_gives(body: list[Instruction]) -> bool:
    """Whether tokens match in stream order, which the generator's late choice of givers keeps."""
    count = {(a, b): 0 for a in Unit for b in Unit}
    for x in body:
        assert x.unit is not None
        for a in Unit:
            count[a, x.unit] -= x.wait >> a & 1
            if count[a, x.unit] < 0:
                return False
        for b in Unit:
            count[x.unit, b] += x.give >> b & 1
    return not any(count.values())


def windows_have_taps(v: Vector) -> bool:
    """Whether every window has a tap inside the map, as the machine asks for."""

    def inside(n: int, stride: int, k: int, dilation: int, offset: int, size: int) -> bool:
        return all(any(0 <= x * stride + t * dilation + offset < size for t in range(k)) for x in range(n))

    return inside(v.n_y, v.stride_y, v.kernel_y, v.dilation_y, v.offset_y, v.height) and inside(
        v.n_x, v.stride_x, v.kernel_x, v.dilation_x, v.offset_x, v.width
    )


def random_copy(o: Overlay, rng: np.random.Generator, store: bool) -> Instruction:
    """A strided copy of any memory, rows joined or not."""
    memory = Memory(int(rng.integers(0, 4 if o.disp_entries else 3)))
    if store:
        memory = Memory.ACT
    size = {
        Memory.ACT: o.half_word_bytes, Memory.WGT: o.tile_bytes, Memory.PARAM: 16, Memory.DISP: o.entry_bytes
    }[memory]  # fmt: skip
    n0, n1, n2 = int(rng.integers(1, 3)), int(rng.integers(1, 4)), int(rng.choice([1, 3, 7, 40]))
    if rng.random() < 0.1:
        n0, n1, n2 = 1, 1, 400  # long enough for bursts to come in an even rhythm
    stride2 = size if rng.random() < 0.7 else 2 * size
    stride1 = n2 * stride2 if rng.random() < 0.4 else int(rng.integers(1, 30)) * size
    fields = {
        "dram_offset": int(rng.integers(0, 40)) * o.half_word_bytes, "dram_stride2": stride2,
        "dram_stride1": stride1, "dram_stride0": int(rng.integers(1, 90)) * size,
        "address": int(rng.integers(0, 60)), "stride1": int(rng.integers(0, 50)), "stride0": int(rng.integers(0, 99)),
        "stride2": int(rng.integers(1, 3)), "n0": n0, "n1": n1, "n2": n2,
    }  # fmt: skip
    return Store(base=Base.OUTPUT, **fields) if store else Load(memory=memory, **fields)


def with_long_runs(i: Matrix, rng: np.random.Generator) -> Matrix:
    """Many vectors for each tile, y and x innermost as the compiler has it; oc blocks may share some."""
    outer = rng.permutation(4)
    n_y, n_x = int(rng.integers(1, 9)), int(rng.integers(3, 30))
    acc_y = n_x + int(rng.integers(0, 2))
    last = (n_y - 1) * acc_y + n_x - 1
    return replace(
        i, n_y=n_y, n_x=n_x, **{f"order_{k}": int(v) for k, v in enumerate(outer)}, order_4=4, order_5=5,
        n_oc=2, acc_y=acc_y, acc_x=1, acc_oc=int(rng.choice([0, last - 2, last - 1, last + 1])),
        act_x=int(rng.choice([1, 2, 64])), height=9, width=30,
    )  # fmt: skip


def random_stream(o: Overlay, rng: np.random.Generator, length: int) -> bytes:
    """Instructions of all units, ordered here and there."""
    body: list[Instruction] = []
    while len(body) < length:
        match int(rng.integers(0, 4)):
            case 0:
                body.append(random_copy(o, rng, store=False))
            case 1:
                matrix = random_matrix(o, rng, most=int(rng.choice([2, 4])))
                long = rng.random() < 0.4
                body.append(with_long_runs(random_matrix(o, rng, most=2), rng) if long else matrix)
            case 2:
                v = random_vector(o, rng, o.act_half_words // 2)
                if windows_have_taps(v):
                    body.append(replace(v, negative=int(rng.integers(0, 2)) * v.negative))
            case _:
                body.append(random_copy(o, rng, store=True))
    ordered = with_random_tokens(body, rng, float(rng.choice([0.0, 0.3, 0.8])))
    assert fifo_gives(ordered)
    return encode_stream([*ordered, Finish()])


def assert_equal(timing: Timing, stepped: Stepped) -> None:
    """All that both simulators say."""
    times = list(zip(timing.dispatched.tolist(), timing.start.tolist(), timing.end.tolist(), strict=True))
    assert times == stepped.times
    assert timing.cycles == stepped.cycles
    assert timing.activity == stepped.activity
    moved = (timing.dram_read_bytes, timing.dram_write_bytes, timing.fetch_bytes)
    assert moved == stepped.dram_bytes


@pytest.mark.parametrize(
    "name", ["pynq-z1-w8", "ultra96-w8", "8x8-w8", "8x16-w8-acc20", "32x32-w4", "128x128-w1"]
)
@pytest.mark.parametrize("seed", range(4))
def test_the_two_agree_on_random_streams(machines: dict[str, Overlay], name: str, seed: int) -> None:
    """Units side by side, ports shared, every cause of a stall: no cycle differs."""
    o, rng = machines[name], np.random.default_rng([seed, len(name)])
    o = replace(o, board=replace(o.board, dram_read_ports=1 + seed % 3))
    program = Program(random_stream(o, rng, 24), o)
    timing = run(program)
    assert_equal(timing, step_through(program))
    for kinds in timing.activity.values():
        assert sum(kinds.values()) == timing.cycles


@pytest.mark.parametrize("seed", range(20))
def test_leaps_change_nothing(machines: dict[str, Overlay], seed: int) -> None:
    """Longer streams than the stepping simulator has time for, on slow and fast DRAM, with and without leaps."""
    for number, machine in enumerate(machines.values()):
        rng = np.random.default_rng([seed, number, 3])
        latency, outstanding = int(rng.choice([1, 20, 100])), int(rng.choice([1, 2, 8]))
        ports = int(rng.integers(1, 4))
        board = replace(
            machine.board, dram_latency_cycles=latency, dram_outstanding=outstanding, dram_read_ports=ports
        )
        program = Program(random_stream(machine, rng, 60), replace(machine, board=board))
        leapt, stepped = run(program), run(program, leap=False)
        assert leapt.cycles == stepped.cycles
        assert leapt.activity == stepped.activity
        for name in ("dispatched", "start", "end"):
            np.testing.assert_array_equal(getattr(leapt, name), getattr(stepped, name))
