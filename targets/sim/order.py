"""Which instructions are ordered: tokens, and races found with vector clocks.

Happens-before is the order within a unit plus an edge from the k-th give of a pair of units to its k-th wait.
Each unit has a clock: for every other unit, the last instruction that is known to have retired. A row keeps
the last reader and the last writer of each unit; an access by another unit that the clock has not reached is
a race.

A counter is held to its width in stream order; how far a unit runs ahead beyond that is bounded by its queue.
"""

from __future__ import annotations

from collections import deque

import numpy as np

from tilewright.targets.isa.spec import TOKEN_MAX, Instruction, Unit
from tilewright.targets.sim.memory import I64, Rows, Trap


class Race(Trap):
    """A race with the instruction of index `other`."""

    def __init__(self, message: str, remedy: str, other: int) -> None:
        super().__init__(message, remedy)
        self.other = other


class Order:
    """Token counters and clocks."""

    def __init__(self) -> None:
        self.clocks = np.full((len(Unit), len(Unit)), -1, np.int64)
        self.tokens: dict[tuple[Unit, Unit], deque[I64]] = {
            (a, b): deque() for a in Unit for b in Unit if a != b
        }

    def start(self, unit: Unit, instruction: Instruction) -> None:
        """Take the tokens that the instruction waits for."""
        for giver in _units(instruction.wait):
            queue = self.tokens[giver, unit]
            if not queue:
                raise Trap(
                    f"waits for a token from {giver.name}, but none was given before",
                    f"an earlier {giver.name} must give to {unit.name}",
                )
            self.clocks[unit] = np.maximum(self.clocks[unit], queue.popleft())

    def retire(self, unit: Unit, index: int, instruction: Instruction) -> None:
        """Give the instruction's tokens."""
        self.clocks[unit, unit] = index
        for taker in _units(instruction.give):
            queue = self.tokens[unit, taker]
            queue.append(self.clocks[unit].copy())
            if len(queue) > TOKEN_MAX:
                raise Trap(
                    f"token counter {unit.name}->{taker.name} reaches {len(queue)}, it holds {TOKEN_MAX}"
                )

    def finish(self) -> None:
        """Trap where a counter is not zero."""
        left = [f"{a.name}->{b.name} {len(q)}" for (a, b), q in self.tokens.items() if q]
        if left:
            raise Trap(f"tokens are left: {', '.join(left)}", "each token given must be waited for")

    def access(self, unit: Unit, memory: Rows, rows: I64, write: bool) -> None:
        """Trap where another unit's access to one of the rows is not ordered before this one."""
        rows = rows >> memory.race_shift
        for other in Unit:
            if other == unit:
                continue
            known = self.clocks[unit, other]
            before = [(memory.last_write, "writes")] + ([(memory.last_read, "reads")] if write else [])
            for last, verb in before:
                late = last[other][rows] > known
                if late.any():
                    row = int(rows[late].min())
                    where = memory.race_label.format(row * memory.scale)
                    raise Race(
                        f"{'writes' if write else 'reads'} {where}, which {{other}} {verb}, and no token "
                        f"orders the two",
                        f"{unit.name} must wait for {other.name}",
                        int(last[other][row]),
                    )

    def record(self, unit: Unit, index: int, memory: Rows, rows: I64, write: bool) -> None:
        """Note an access that was found to be ordered."""
        last = memory.last_write if write else memory.last_read
        last[unit][rows >> memory.race_shift] = index


def _units(bits: int) -> list[Unit]:
    return [unit for unit in Unit if bits >> unit & 1]
