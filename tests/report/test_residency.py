"""Rows in use over time, against a count row by row."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

import tilewright as tw
from tilewright.report.footprint import footprint, memory_rows, row_bytes
from tilewright.report.residency import PICTURE_COLUMNS, Residency, residency
from tilewright.targets.config import overlay
from tilewright.targets.isa.codec import decode_stream, encode_stream
from tilewright.targets.isa.spec import Base, Finish, Instruction, Load, Memory, Store, Unit
from tilewright.targets.sim.program import Program
from tilewright.targets.sim.timing import Timing, run

U96 = overlay("ultra96-w8")
Life = tuple[int, int, int, int]
"""Row, instruction that wrote it, first and last cycle."""


def lives(instructions: list[Instruction], timing: Timing, memory: Memory) -> list[Life]:
    """Each row's lives, one after the other."""
    present: dict[int, tuple[int, int]] = {}
    found: list[Life] = []

    def end(row: int) -> None:
        if row in present:
            writer, last = present.pop(row)
            found.append((row, writer, int(timing.start[writer]), int(timing.end[last])))

    for index, instruction in enumerate(instructions):
        reads, writes = footprint(instruction, U96)
        for row in set(reads.get(memory, np.empty(0, np.int64)).tolist()) & present.keys():
            present[row] = (present[row][0], index)
        for row in set(writes.get(memory, np.empty(0, np.int64)).tolist()):
            end(row)
            present[row] = (index, index)
    for row in list(present):
        end(row)
    return found


def steps(times: NDArray[np.int64], values: NDArray[np.int64], cycles: int) -> NDArray[np.int64]:
    """A step function's value in each cycle."""
    place = np.searchsorted(times, np.arange(cycles), "right") - 1
    return np.where(place < 0, 0, values[np.maximum(place, 0)])


@pytest.mark.parametrize("memory", [Memory.ACT, Memory.WGT, Memory.PARAM])
def test_the_demo(demo: tw.Package, memory: Memory) -> None:
    for region in demo.regions:
        timing = run(Program(region.stream, U96))
        instructions = decode_stream(region.stream)
        found = residency(instructions, timing, region.layer_of, U96).occupancy[memory]
        used = np.zeros(timing.cycles, np.int64)
        for _, _, first, last in lives(instructions, timing, memory):
            used[first : last + 1] += row_bytes(U96)[memory]
        assert used.max() > 0
        assert found.peak_bytes == used.max()
        assert found.capacity_bytes == memory_rows(U96)[memory] * row_bytes(U96)[memory]
        assert steps(found.times, found.used_bytes, timing.cycles).tolist() == used.tolist()


def test_the_picture_of_the_demo(demo: tw.Package) -> None:
    """Every painted point is a life of that layer, and most of them are painted."""
    (region,) = demo.regions
    timing = run(Program(region.stream, U96))
    instructions = decode_stream(region.stream)
    picture = residency(instructions, timing, region.layer_of, U96).picture
    allowed: set[tuple[int, int, int, bool]] = set()
    for row, writer, first, last in lives(instructions, timing, Memory.ACT):
        line = row * len(picture.layer) // U96.act_half_words
        key = (region.layer_of[writer], isinstance(instructions[writer], Load))
        for column in range(
            first * PICTURE_COLUMNS // timing.cycles, last * PICTURE_COLUMNS // timing.cycles + 1
        ):
            allowed.add((line, column, *key))
    painted = {
        (line, column, int(picture.layer[line, column]), bool(picture.loaded[line, column]))
        for line, column in np.argwhere(picture.layer >= 0).tolist()
    }
    assert painted <= allowed
    # A line of the picture shows one of its 128 rows, so what lives beside it is not seen.
    assert len(painted) >= 0.7 * len({place[:2] for place in allowed})


def copy_there_and_back() -> Residency:
    """16 half words loaded, stored, then eight of them overwritten and never read."""
    to_store, to_load = 1 << Unit.STORE, 1 << Unit.LOAD
    stream: list[Instruction] = [
        Load(memory=Memory.ACT, base=Base.INPUT, n2=16, dram_stride2=16, give=to_store),
        Store(base=Base.OUTPUT, n2=16, dram_stride2=16, wait=to_load, give=to_load),
        Load(memory=Memory.ACT, base=Base.INPUT, n2=8, dram_stride2=16, wait=to_store),
        Finish(),
    ]
    return residency(stream, run(Program(encode_stream(stream), U96)), [0, 0, 1, 1], U96)


def test_a_copy() -> None:
    found = copy_there_and_back()
    act = found.occupancy[Memory.ACT]
    assert act.used_bytes.tolist() == [256, 128, 0]  # the second LOAD starts when the STORE has retired
    assert act.peak_bytes == 256
    assert found.occupancy[Memory.WGT].peak_bytes == 0
    picture = found.picture
    assert set(np.unique(picture.layer[0])) == {-1, 0, 1}
    assert (picture.layer[1:] == -1).all()  # 16 half words are less than a line of the picture
    assert picture.loaded[picture.layer >= 0].all()
