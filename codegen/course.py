"""How the stripes of a group run through the units, and groups one after another, by estimate.

A group is followed alone, turn by turn, as `emit.py` writes it: each unit takes its layers in order, as soon as
what they read is there. Groups are then put together like tiles: the next one begins as soon as each unit, and what it
reads, is ready for it, so MATRIX goes on with it while VECTOR is busy with the last stripes of the one before.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
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
    """The course of a group, whose layers are given in order, in so many stripes."""
    return _Turns(works, stripes).course()


class _Turns:
    def __init__(self, works: Mapping[int, Work], stripes: int) -> None:
        self.works, self.stripes = works, stripes
        self.depth = max(w.behind for w in works.values())
        self.followed = min(stripes, self.depth + STEADY)
        self.matrix = self.vector = 0.0  # when free
        self.uses: list[list[float]] = [[], []]  # their first use in each turn
        self.reads = 0.0
        self.made: dict[
            tuple[int, int], tuple[float, float]
        ] = {}  # first and last results of a layer's stripe

    def course(self) -> Course:
        """Of the stripes in the middle only some are followed; the turns in which the others begin are like theirs."""
        skip = before = 0.0
        for u in range(self.followed + self.depth):
            self.turn(u)
            if u == self.followed - 2:
                skip = (self.stripes - self.followed) * (max(self.matrix, self.vector) - before)
            before = max(self.matrix, self.vector)
        last = list(self.works)[-1]
        first, end = self.made[last, 0], self.made[last, self.followed - 1]
        return Course(
            (min(self.uses[0], default=0.0), self.matrix + skip),
            (min(self.uses[1], default=0.0), self.vector + skip),
            self.reads + skip,
            (first[self.stripes > 1], end[1] + skip),
        )

    def share(self, t: int, ahead: float) -> float:
        """Share of its rows that a layer makes in stripe t of those followed, the last of which is the last of all."""
        stop = 1.0 if t == self.followed - 1 else min(1.0, (t + 1) / self.stripes + ahead)
        if t == 0:
            return stop
        start = self.stripes - 1 if t == self.followed - 1 else t
        return stop - min(1.0, start / self.stripes + ahead)

    def turn(self, u: int) -> None:
        """Stripe u of the first layer, and those of the others that run beside it."""
        done = busy = self.vector
        for i, w in self.works.items():
            t = u - w.behind
            if not 0 <= t < self.followed:
                continue
            there = [self.made[writer, t] for writer in w.writers]
            first, last = max((a for a, _ in there), default=0.0), max((b for _, b in there), default=0.0)
            share = self.share(t, w.ahead)
            if not share:
                self.made[i, t] = self.made[i, t - 1]
                continue
            vector = w.vector * share + w.vector_start
            portion = vector / w.portions
            busy += vector
            if w.matrix:
                matrix = w.matrix * share + w.matrix_start
                begin = max(self.matrix, last)
                ready = begin + matrix / w.portions + MATRIX_LATENCY
                end = max(busy, begin + matrix + MATRIX_LATENCY + portion)
                # A piece of sums more fits into ACC while VECTOR works on one.
                self.matrix = max(begin + matrix, end - MATRIX_LATENCY - 2 * portion)
                self.uses[0].append(begin)
                reads = begin
            else:
                ready = max(busy - vector, first)
                end = max(busy, first + vector, last + portion)
                reads = end - portion
            if not there:
                self.reads = reads
            self.uses[1].append(ready)
            self.made[i, t] = ready + portion + VECTOR_LATENCY, end + VECTOR_LATENCY
            done = max(done, end)
        self.vector = done
