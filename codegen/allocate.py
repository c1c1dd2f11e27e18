"""Places for things that are needed for a while: maps in DRAM, buffers in ACT.

Things are placed in order of falling size, each at the lowest offset at which it meets nothing that is needed at the
same time (greedy by size; Pisarchyk and Lee, "Efficient memory management for deep neural net inference", 2020).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from tilewright.codegen.buffers import Buffer
from tilewright.codegen.values import Map
from tilewright.errors import Fault, ScheduleError
from tilewright.targets.config import Overlay
from tilewright.targets.isa.spec import Base


@dataclass(frozen=True)
class Need:
    """So many units during runs `first` to `last`, both included; `high`: rather at the memory's end."""

    size: int
    first: int
    last: int
    high: bool = False

    def meets(self, other: Need) -> bool:
        """Whether both are needed at some time."""
        return self.first <= other.last and other.first <= self.last


def place(needs: Sequence[Need], capacity: int = 0) -> list[int]:
    """An offset for each; `capacity` is where those that are `high` end."""
    offsets = [0] * len(needs)
    placed = np.zeros((len(needs), 4), np.int64)  # first, last, start, stop; a row each, the largest first
    for count, i in enumerate(sorted(range(len(needs)), key=lambda i: -needs[i].size)):
        need = needs[i]
        known = placed[:count]
        beside = known[(known[:, 0] <= need.last) & (known[:, 1] >= need.first), 2:]
        spans = sorted(map(tuple, beside.tolist()))
        start = _highest(need.size, spans, capacity) if need.high else 0
        if start < 0 or not need.high:
            start = 0
            for other_start, other_stop in spans:
                if other_start < start + need.size and start < other_stop:
                    start = other_stop
        offsets[i] = start
        placed[count] = need.first, need.last, start, start + need.size
    return offsets


def _highest(size: int, spans: Sequence[tuple[int, int]], capacity: int) -> int:
    """The highest offset at which so many units are free of the spans, negative where there is none."""
    start = capacity - size
    for other_start, other_stop in sorted(spans, key=lambda span: -span[1]):
        if other_start < start + size and start < other_stop:
            start = other_start - size
    return start


def peak(needs: Sequence[Need]) -> tuple[int, int]:
    """The most that is needed at a time, and the run in which it is."""
    most, at = 0, 0
    for g in sorted({n.first for n in needs}):
        size = sum(n.size for n in needs if n.first <= g <= n.last)
        if size > most:
            most, at = size, g
    return most, at


def place_buffers(buffers: Sequence[Buffer], overlay: Overlay, run_names: Sequence[str]) -> int:
    """Give every buffer its address in ACT. Returns the half words used.

    Two wishes are granted where there is room: that a buffer is free a run early, so that LOAD can run ahead; and
    that what only VECTOR reads lies at the end, in other banks than what MATRIX reads.

    Raises ScheduleError naming the run that does not fit (`run_names` by number), and by how much.
    """
    needs = [Need(b.half_words, b.first, b.last) for b in buffers]
    capacity = overlay.act_half_words
    offsets = place(needs)
    used = max((o + n.size for o, n in zip(offsets, needs, strict=True)), default=0)
    if used > capacity:
        most, at = peak(needs)
        text = f"needs {max(most, used)} half words of ACT, {max(most, used) - capacity} more than {overlay.name} has"
        remedy = "cut it into more stripes, merge fewer layers or keep fewer maps"
        raise ScheduleError(Fault(text, f"layer {run_names[at]}", remedy))
    early, high = [True] * len(needs), [b.by_vector for b in buffers]
    while any(early) or any(high):
        wanted = [
            replace(n, first=max(n.first - e, 0), high=h) for n, e, h in zip(needs, early, high, strict=True)
        ]
        wished = place(wanted, capacity)
        over = [n for n, o in zip(wanted, wished, strict=True) if o + n.size > capacity]
        if not over:
            offsets = wished
            break
        beside = [any(n.meets(other) for other in over) for n in wanted]
        if not _give_up(early, beside) and not _give_up(high, beside):
            break
    for buffer, offset in zip(buffers, offsets, strict=True):
        buffer.address = offset
    return max((o + n.size for o, n in zip(offsets, needs, strict=True)), default=0)


def _give_up(wishes: list[bool], beside: Sequence[bool]) -> bool:
    """Drop the wishes of what stands beside something that found no place; whether there were any."""
    found = any(w and b for w, b in zip(wishes, beside, strict=True))
    wishes[:] = [w and not b for w, b in zip(wishes, beside, strict=True)]
    return found


def place_maps(
    maps: Sequence[Map], through_dram: Mapping[Map, tuple[int, int]], overlay: Overlay, batch: int = 1
) -> dict[Base, int]:
    """Give every map that DRAM holds its offset, a batch's images one behind the other.

    Returns the bytes of the workspace, input and output segments.
    """
    unit = overlay.half_word_bytes * batch
    sizes = {Base.WORKSPACE: 0, Base.INPUT: 0, Base.OUTPUT: 0}
    shared: list[Map] = []
    for m in maps:
        if m.segment is not Base.WORKSPACE:
            m.offset = sizes[m.segment]
            sizes[m.segment] += m.half_words * unit
        elif m in through_dram:
            shared.append(m)
    needs = [Need(m.half_words * unit, *through_dram[m]) for m in shared]
    for m, need, offset in zip(shared, needs, place(needs), strict=True):
        m.offset = offset
        sizes[Base.WORKSPACE] = max(sizes[Base.WORKSPACE], offset + need.size)
    return sizes
