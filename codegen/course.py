"""How the stripes of a group run through the units, and groups one after another, by estimate.

A group is followed alone, turn by turn, as `emit.py` writes it: each unit takes its layers in order, as soon as
what they read is there. Groups are then put together like tiles: the next one begins as soon as each unit, and what it
reads, is ready for it, so MATRIX goes on with it while VECTOR is busy with the last stripes of the one before.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import NamedTuple

from tilewright.targets.sim.rules import Rules

RULES = Rules()
MATRIX_LATENCY = RULES.matrix_depth + RULES.start_cycles + 10
VECTOR_LATENCY = RULES.vector_depth + RULES.start_cycles + 10
"""Cycles from a layer's last step (read) to the first of one that reads its result: pipeline, token, start."""
STEADY = 3
"""Turns with all layers at work that are followed; those after them are taken to be alike."""


@dataclass(frozen=True)
class Course:
    """When a group that runs alone needs units and inputs, in cycles from its begin.

    Attributes:
        matrix, vector: first use of the unit, and end of the last.
        reads: when its first layer must have the last of what it reads; it must have the first at once.
        makes: when the first of its results are there, and the last.
    """

    matrix: tuple[float, float]
    vector: tuple[float, float]
    reads: float
    makes: tuple[float, float]

    def an_image(self, images: int) -> Course:
        """What is followed for some images side by side, for one of them."""
        if images == 1:
            return self
        matrix, vector, makes = ((a / images, b / images) for a, b in (self.matrix, self.vector, self.makes))
        return Course(matrix, vector, self.reads / images, makes)


class Work(NamedTuple):
    """A layer's work.

    Attributes:
        matrix, vector: cycles in all, without the starts of instructions.
        matrix_start, vector_start: cycles of starts for each stripe.
        portions: in which VECTOR's results of a stripe come.
        ahead: share of its rows that it is ahead of the group's last layer, for what windows overlap.
        writers: layers of the group that make what it reads.
        behind: stripes by which it runs behind the group's first layer.
    """

    matrix: float
    vector: float
    matrix_start: float
    vector_start: float
    portions: int
    ahead: float
    writers: Sequence[int]
    behind: int


@dataclass(frozen=True)
class Clock:
    """When units are free again after the groups so far.

    Attributes:
        matrix, vector, dram: of the units.
        makes: when the first of the last group's results are there, and the last.
        begin: of the last group. LOAD runs a group ahead.
    """

    matrix: float = 0.0
    vector: float = 0.0
    dram: float = 0.0
    makes: tuple[float, float] = (0.0, 0.0)
    begin: float = 0.0

    @property
    def end(self) -> float:
        """When all is done."""
        return max(self.matrix, self.vector, self.dram)

    def after(self, course: Course, dram: float, first: float, late: float) -> Clock:
        """With a group more, which moves data for `dram` cycles: `first` before it begins, `late` not before that."""
        begin = max(
            max(self.dram, self.begin) + first,
            self.matrix - course.matrix[0],
            self.vector - course.vector[0],
            self.makes[0],
            self.makes[1] - course.reads,
        )
        moved = max(max(self.dram, self.begin) + dram, begin + late)
        shift = max(begin, moved - max(course.matrix[1], course.vector[1]))
        return Clock(
            max(self.matrix, shift + course.matrix[1]),
            max(self.vector, shift + course.vector[1]),
            moved,
            (shift + course.makes[0], shift + course.makes[1]),
            begin,
        )


def follow(works: Mapping[int, Work], stripes: int) -> Course:
    """The course of a group, whose layers are given in order, in so many stripes.

    Of the stripes in the middle only some are followed; the turns in which the others begin are like theirs.
    """
    depth = max(w.behind for w in works.values())
    followed = min(stripes, depth + STEADY)
    turns = _Turns(works, stripes, followed)
    skip = before = 0.0
    for u in range(followed + depth):
        turns.turn(u)
        if u == followed - 2:
            skip = (stripes - followed) * (max(turns.matrix, turns.vector) - before)
        before = max(turns.matrix, turns.vector)
    first, last = turns.first[-1], turns.last[-1]
    return Course(
        (turns.uses[0], turns.matrix + skip),
        (turns.uses[1], turns.vector + skip),
        turns.reads + skip,
        ((last if stripes > 1 else first)[0], last[-1] + skip),
    )


@lru_cache(maxsize=1 << 14)
def shares(stripes: int, followed: int, ahead: float) -> list[float]:
    """Shares of its rows that a layer makes in the stripes that are followed, the last of which is the last of all."""
    starts = [*range(followed - 1), stripes - 1]
    begin = [0.0, *(min(1.0, t / stripes + ahead) for t in starts[1:])]
    stop = [*(min(1.0, (t + 1) / stripes + ahead) for t in starts[:-1]), 1.0]
    return [b - a for a, b in zip(begin, stop, strict=True)]


class _Turns:
    """Turn by turn: for each layer and stripe when its first results are there, and the last.

    This is the planner's innermost loop, so it is written flat.
    """

    def __init__(self, works: Mapping[int, Work], stripes: int, followed: int) -> None:
        self.followed = followed
        self.matrix = self.vector = 0.0  # when free
        self.uses = [0.0, 0.0]  # their first use
        self.used = [False, False]
        self.reads = 0.0
        place = {i: k for k, i in enumerate(works)}
        self.first: list[list[float]] = [[] for _ in works]
        self.last: list[list[float]] = [[] for _ in works]
        self.layers = [
            (k, w, [place[i] for i in w.writers], shares(stripes, followed, w.ahead))
            for k, w in enumerate(works.values())
        ]

    def turn(self, u: int) -> None:
        """Stripe u of the first layer, and those of the others that run beside it."""
        done = busy = self.vector
        for k, w, writers, parts in self.layers:
            t = u - w.behind
            if t < 0 or t >= self.followed:
                continue
            share = parts[t]
            if not share:
                self.first[k].append(self.first[k][-1])
                self.last[k].append(self.last[k][-1])
                continue
            first = last = 0.0
            for i in writers:
                if self.first[i][t] > first:
                    first = self.first[i][t]
                if self.last[i][t] > last:
                    last = self.last[i][t]
            vector = w.vector * share + w.vector_start
            portion = vector / w.portions
            busy += vector
            if w.matrix:
                matrix = w.matrix * share + w.matrix_start
                reads = begin = self.matrix if self.matrix > last else last
                ready = begin + matrix / w.portions + MATRIX_LATENCY
                end = begin + matrix + MATRIX_LATENCY + portion
                if busy > end:
                    end = busy
                # A piece of sums more fits into ACC while VECTOR works on one.
                self.matrix = max(begin + matrix, end - MATRIX_LATENCY - 2 * portion)
                self.use(0, begin)
            else:
                ready = max(busy - vector, first)
                end = max(busy, first + vector, last + portion)
                reads = end - portion
            if not writers:
                self.reads = reads
            self.use(1, ready)
            self.first[k].append(ready + portion + VECTOR_LATENCY)
            self.last[k].append(end + VECTOR_LATENCY)
            if end > done:
                done = end
        self.vector = done

    def use(self, unit: int, time: float) -> None:
        if not self.used[unit] or time < self.uses[unit]:
            self.uses[unit], self.used[unit] = time, True
