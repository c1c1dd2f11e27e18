"""What lies in the scratchpads when: rows in use over time, their peak, and a picture of ACT.

A row is in use from the start of the instruction that writes it to the retirement of the last that reads what was
written; one that nobody reads, until its writer retires. This follows from the stream and its times alone, so it holds
for any plan: tokens order all accesses to a row as the stream does.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from tilewright.report.footprint import I64, footprint, memory_rows, row_bytes
from tilewright.targets.config import Overlay
from tilewright.targets.isa.spec import Instruction, Load, Memory
from tilewright.targets.sim.timing import Timing

PICTURE_ROWS = 192
PICTURE_COLUMNS = 1200


@dataclass(frozen=True)
class Occupancy:
    """Rows of a scratchpad in use over time.

    Attributes:
        capacity_bytes: size of the scratchpad.
        peak_bytes: most in use at once.
        times, used_bytes: from each of these cycles on so many bytes are in use. Shape of each: (changes,).
    """

    capacity_bytes: int
    peak_bytes: int
    times: I64
    used_bytes: I64


@dataclass(frozen=True)
class Picture:
    """What lies where in ACT when.

    Attributes:
        layer: number of the layer whose result lies there (or whose operand, where loaded); -1: nothing. Shape:
            (picture rows, picture columns); rows are addresses from 0 up, columns equal pieces of the run.
        loaded: whether LOAD wrote it. Same shape.
    """

    layer: NDArray[np.int32]
    loaded: NDArray[np.bool_]


@dataclass(frozen=True)
class Residency:
    """The scratchpads during a run."""

    occupancy: Mapping[Memory, Occupancy]
    picture: Picture


def residency(
    instructions: Sequence[Instruction], timing: Timing, layer_of: Sequence[int], overlay: Overlay
) -> Residency:
    """Follow a stream through its scratchpads.

    Args:
        instructions: the decoded stream.
        timing: its times.
        layer_of: for each instruction the number of its layer.
        overlay: the machine.
    """
    followed = {memory: _Rows(rows, timing) for memory, rows in memory_rows(overlay).items()}
    loaded = np.array([isinstance(i, Load) for i in instructions], bool)
    canvas = _Canvas(overlay.act_half_words, timing, np.asarray(layer_of, np.int64), loaded)
    for index, instruction in enumerate(instructions):
        reads, writes = footprint(instruction, overlay)
        for memory, rows in reads.items():
            followed[memory].read(index, rows)
        for memory, rows in writes.items():
            distinct = followed[memory].distinct(rows)
            if memory is Memory.ACT:
                canvas.paint(*followed[memory].lives(distinct))
            followed[memory].write(index, distinct)
    canvas.paint(*followed[Memory.ACT].lives(np.arange(overlay.act_half_words)))
    sizes = row_bytes(overlay)
    occupancy = {memory: rows.occupancy(sizes[memory]) for memory, rows in followed.items()}
    return Residency(occupancy, Picture(canvas.layer, canvas.loaded))


class _Rows:
    """The present life of each row of a scratchpad: instruction that wrote it and last that read it."""

    def __init__(self, rows: int, timing: Timing) -> None:
        self.timing = timing
        self.writer = np.full(rows, -1, np.int64)
        self.reader = np.full(rows, -1, np.int64)
        self.begun = np.zeros(len(timing.opcodes), np.int64)
        self.ended = np.zeros(len(timing.opcodes), np.int64)

    def distinct(self, rows: I64) -> I64:
        """Rows without repeats, ascending; quicker than sorting."""
        marks = np.zeros(len(self.writer), bool)
        marks[rows] = True
        return np.flatnonzero(marks)

    def read(self, index: int, rows: I64) -> None:
        self.reader[rows] = index

    def write(self, index: int, rows: I64) -> None:
        """Rows without repeats."""
        self._end(rows)
        self.begun[index] += len(rows)
        self.writer[rows] = self.reader[rows] = index

    def lives(self, rows: I64) -> tuple[I64, I64, I64]:
        """Those of these rows that hold something, with their writers and last readers."""
        rows = rows[self.writer[rows] >= 0]
        return rows, self.writer[rows], self.reader[rows]

    def occupancy(self, size_bytes: int) -> Occupancy:
        """After the last instruction."""
        self._end(np.arange(len(self.writer)))
        times = np.concatenate([self.timing.start, self.timing.end + 1])
        change = np.concatenate([self.begun, -self.ended])
        moments, place = np.unique(times, return_inverse=True)
        sums = np.zeros(len(moments), np.int64)
        np.add.at(sums, place, change)
        used = np.cumsum(sums) * size_bytes
        changed = np.flatnonzero(np.diff(used, prepend=0))
        peak = int(used.max(initial=0))
        return Occupancy(len(self.writer) * size_bytes, peak, moments[changed], used[changed])

    def _end(self, rows: I64) -> None:
        last = self.reader[rows]
        np.add.at(self.ended, last[self.writer[rows] >= 0], 1)


class _Canvas:
    """Paints lives of ACT's rows into a picture of few rows and columns."""

    def __init__(self, rows: int, timing: Timing, layer_of: I64, loaded: NDArray[np.bool_]) -> None:
        self.height = min(PICTURE_ROWS, rows)
        self.rows, self.layer_of, self.was_load = rows, layer_of, loaded
        cycles = max(timing.cycles, 1)
        self.begin = timing.start * PICTURE_COLUMNS // cycles
        self.end = np.minimum(timing.end * PICTURE_COLUMNS // cycles + 1, PICTURE_COLUMNS)
        self.layer = np.full((self.height, PICTURE_COLUMNS), -1, np.int32)
        self.loaded = np.zeros((self.height, PICTURE_COLUMNS), bool)

    def paint(self, rows: I64, writer: I64, reader: I64) -> None:
        """Paint lives; `rows` ascend. The first row in a line of the picture stands for it."""
        if not len(rows):
            return
        lines, first = np.unique(rows * self.height // self.rows, return_index=True)
        writer, reader = writer[first], reader[first]
        ends = np.flatnonzero((np.diff(lines) != 1) | (np.diff(writer) != 0) | (np.diff(reader) != 0)) + 1
        for low, high in zip([0, *ends.tolist()], [*ends.tolist(), len(lines)], strict=True):
            top, bottom = int(lines[low]), int(lines[high - 1]) + 1
            source = int(writer[low])
            columns = slice(int(self.begin[source]), int(self.end[int(reader[low])]))
            self.layer[top:bottom, columns] = self.layer_of[source]
            self.loaded[top:bottom, columns] = self.was_load[source]
