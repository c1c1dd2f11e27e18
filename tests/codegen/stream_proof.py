"""Proofs about streams that owe nothing to the simulators' race detectors: what is ordered, and what is computed.

Two instructions are ordered where a path leads from one to the other along the units' queues and the tokens. Which rows
an instruction reads, in which order, and which it writes is noted while the reference simulator's units work.

What a row holds is a term: bytes that are always the same, a place of the inputs, a copy of such terms, or the n-th
result of an instruction on the terms that it reads, in order. Streams whose outputs are the same terms compute the
same, whatever the inputs.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, fields, replace

import numpy as np

from tilewright.targets.config import Overlay
from tilewright.targets.isa.spec import Base, Finish, Instruction, Load, Matrix, Store, Unit, Vector, VectorOp
from tilewright.targets.sim.memory import I64, Memories, Rows, Trap
from tilewright.targets.sim.program import DramImage, Statistics
from tilewright.targets.sim.reference import effect_of

PLACES = frozenset(
    [
        "wait",
        "give",
        "address",
        "dram_offset",
        "wgt_base",
        "acc_base",
        "act_base",
        "act_row",
        "ring",
        "disp_base",
        "src_base",
        "src_row",
        "src2_base",
        "src2_row",
        "dst_base",
        "dst_row",
        "dst_y",
        "dst_ring",
        "param_base",
        "depthwise_base",
        "table_base",
    ]
)
"""Fields that say where something lies. What an instruction computes depends on them by what it reads there only."""


@dataclass(frozen=True)
class Token:
    """Instruction `giver` gives what `taker` waits for."""

    giver: int
    taker: int


def tokens(stream: Sequence[Instruction]) -> Iterator[Token]:
    """Each give with the wait that takes it, the k-th of a pair of units with the k-th."""
    given: dict[tuple[Unit, Unit], deque[int]] = {}
    for i, instruction in enumerate(stream):
        unit = instruction.unit
        if unit is None:
            continue
        for other in Unit:
            if instruction.wait >> other & 1:
                yield Token(given[other, unit].popleft(), i)
        for other in Unit:
            if instruction.give >> other & 1:
                given.setdefault((unit, other), deque()).append(i)
    assert not any(given.values())


def without(stream: Sequence[Instruction], token: Token) -> list[Instruction]:
    """The stream without a token: its give and its wait."""
    changed = list(stream)
    giver, taker = stream[token.giver], stream[token.taker]
    assert giver.unit is not None
    assert taker.unit is not None
    changed[token.giver] = replace(giver, give=giver.give & ~(1 << taker.unit))
    changed[token.taker] = replace(taker, wait=taker.wait & ~(1 << giver.unit))
    return changed


class Reached:
    """Which instructions have ended when another one begins."""

    def __init__(self, stream: Sequence[Instruction]) -> None:
        before: dict[int, list[int]] = {}
        for token in tokens(stream):
            before.setdefault(token.taker, []).append(token.giver)
        last: dict[Unit | None, int] = {}
        self.sets: list[int] = []  # a bit for each
        for i, instruction in enumerate(stream):
            known = 0
            for j in [*before.get(i, []), *([last[instruction.unit]] if instruction.unit in last else [])]:
                known |= self.sets[j] | 1 << j
            self.sets.append(known)
            last[instruction.unit] = i

    def __call__(self, first: int, then: int) -> bool:
        """Whether `first` has ended when `then` begins."""
        return bool(self.sets[then] >> first & 1)


def implied(stream: Sequence[Instruction], token: Token) -> bool:
    """Whether what is left without a token orders its two instructions."""
    return Reached(without(stream, token))(token.giver, token.taker)


class _Noted(Rows):
    """Rows that note what is read, value by value, and that know the term in each of them."""

    def __init__(self, rows: Rows, first: int) -> None:
        vars(self).update(vars(rows))
        self.noted: list[I64] = []
        self.terms = np.arange(first, first + len(self.data), dtype=np.int64)
        self.last = np.full(
            (2, len(Unit), len(self.last_read[0])), -1, np.int64
        )  # reader, writer of each unit

    def fix(self, other: Rows, terms: Terms) -> None:
        """Rows that hold the same in another memory always hold it."""
        for row in np.flatnonzero((self.data == other.data).all(axis=1)).tolist():
            self.terms[row] = terms.number("always", self.data[row].tobytes())

    def check_written(self, rows: I64) -> None:
        super().check_written(rows)
        self.noted.append(np.ravel(rows).copy())

    def meet(self, unit: Unit, index: int, rows: I64, write: bool) -> set[tuple[int, int]]:
        """Note an access; gives the pairs of instructions of different units that meet, one of them writing."""
        rows = np.unique(rows >> self.race_shift)
        others = [other for other in Unit if other != unit]
        before = self.last[0 if write else 1 :, others][:, :, rows]
        self.last[int(write), unit, rows] = index
        return {(j, index) for j in np.unique(before).tolist() if j >= 0}


@dataclass
class Terms:
    """Numbers of terms; streams that are compared share them."""

    numbers: dict[tuple[object, ...], int] = field(default_factory=dict)

    def number(self, *term: object) -> int:
        """The same for the same term."""
        return self.numbers.setdefault(term, len(self.numbers) + 1) << RESULT_BITS

    def copied(self, x: Load | Store, read: I64, results: int) -> I64:
        """Terms of a copy's results, where a row on one side may be several on the other."""
        if len(read) == results:
            return read
        if isinstance(x, Store):
            return np.array(
                [self.number("part", e, k) for e in read.tolist() for k in range(results // len(read))]
            )
        return np.array([self.number("joined", *e) for e in read.reshape(results, -1).tolist()])

    def computed(self, x: Matrix | Vector, read: Sequence[I64], results: int) -> I64:
        """Terms of what an instruction makes of those that it reads, by memory in the order of SCRATCHPADS."""
        rule = {f.name: getattr(x, f.name) for f in fields(x) if f.name not in PLACES}
        if not isinstance(x, Vector) or x.op not in (VectorOp.SCALED_ADD, VectorOp.MULTIPLY):
            return self.number(type(x), *rule.values(), *(r.tobytes() for r in read)) + np.arange(results)
        # Element by element, so that it may be cut into rows.
        act, _, parameters = (read[SCRATCHPADS.index(name)] for name in ("act", "wgt", "param"))
        shape = (x.n_c, x.n_y, x.n_x)
        plain = tuple(v for name, v in rule.items() if name not in ("n_y", "n_x", "height", "width"))
        operands = act.reshape(-1, math.prod(shape)).T.tolist()
        channels = np.indices(shape)[0].ravel().tolist()
        common = parameters.tobytes()
        made = [self.number(plain, common, c, *e) for c, e in zip(channels, operands, strict=True)]
        return np.concatenate([np.array(made) + plane for plane in range(1 << x.out_planes)])


RESULT_BITS = 20
"""An instruction has at most 2^16 results."""


@dataclass(frozen=True)
class Meaning:
    """What a stream does, whatever the values.

    Attributes:
        outputs: terms of the output segment's rows.
        unordered: pairs of instructions of different units that meet at a row, one of them writing, and that nothing
            orders.
        trap: what the machine refuses else, or nothing.
    """

    outputs: I64
    unordered: frozenset[tuple[int, int]]
    trap: str = ""


def meaning(
    stream: Sequence[Instruction], overlay: Overlay, dram: DramImage, other: DramImage, terms: Terms
) -> Meaning:
    """Follow a stream in order; in `other` each value that depends on the network's input is another."""
    memories, trap = Memories(overlay, dram), ""
    kept = [_Noted(getattr(memories, name), 0) for name in SCRATCHPADS]
    for name, rows in zip(SCRATCHPADS, kept, strict=True):
        setattr(memories, name, rows)
    others = Memories(overlay, other).dram
    for base in Base:
        kept.append(_Noted(memories.dram[base], -(base + 1) << SEGMENT_BITS))
        memories.dram[base] = kept[-1]
        if base in (Base.CONSTANT, Base.INPUT):
            kept[-1].fix(others[base], terms)
    met: set[tuple[int, int]] = set()
    for i, x in enumerate(stream):
        if isinstance(x, Finish):
            continue
        for rows in kept:
            rows.noted.clear()
        try:
            effect = effect_of(x, memories, overlay, Statistics())
        except Trap as fault:
            trap = fault.message
            break
        assert isinstance(x, Load | Store | Matrix | Vector) and x.unit is not None
        read = [np.concatenate([np.zeros(0, np.int64), *rows.noted]) for rows in kept]
        for rows, touched in zip(kept, read, strict=True):
            met |= rows.meet(x.unit, i, touched, write=False)
        found = [rows.terms[touched] for rows, touched in zip(kept, read, strict=True)]
        (target,) = (rows for rows in kept if rows is effect.memory)
        met |= target.meet(x.unit, i, effect.rows, write=True)
        if isinstance(x, Load | Store):
            made = terms.copied(x, np.concatenate(found), len(effect.rows))
        else:
            made = terms.computed(x, found, len(effect.rows))
        target.terms[effect.rows] = made
        target.write(effect.rows, effect.values)
    ordered = Reached(stream)
    unordered = frozenset(pair for pair in met if not ordered(*pair))
    return Meaning(kept[-1].terms, unordered, trap)


SCRATCHPADS = ("act", "wgt", "param", "disp", "acc")
SEGMENT_BITS = 34
"""DRAM offsets have 32 bits."""
