"""Order the units: a token wherever two of them touch the same rows, and nowhere else.

Each unit works in stream order, so an operation knows what its unit knew before. For every operation the latest
conflicting operation of each other unit is found; where nothing that is known implies it, that one gives a token
and this one waits for it. Waits come in the order of the gives, so the k-th wait takes the k-th give.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from tilewright.codegen.tile import Space, TileProgram
from tilewright.targets.isa.spec import Instruction, Unit

_UNITS = tuple(Unit)


class _History:
    """For every row of a space and every unit: its latest operation that read, and that wrote, the row."""

    def __init__(self, rows: int) -> None:
        self.read: NDArray[np.int32] = np.full((len(_UNITS), rows), -1, np.int32)
        self.written: NDArray[np.int32] = np.full((len(_UNITS), rows), -1, np.int32)


def add_tokens(program: TileProgram, rows: Mapping[Space, int]) -> list[Instruction]:
    """The program's instructions with their `wait` and `give` fields set. `rows`: size of each space."""
    history = {space: _History(n) for space, n in rows.items()}
    known = np.full(
        (len(_UNITS), len(_UNITS)), -1, np.int64
    )  # unit -> latest finished operation of each unit
    after: list[NDArray[np.int64]] = []  # what is known once operation i has finished
    wait = [0] * len(program.operations)
    give = [0] * len(program.operations)
    for i, operation in enumerate(program.operations):
        unit = operation.instruction.unit
        assert unit is not None
        need = np.full(len(_UNITS), -1, np.int64)
        for access in operation.accesses:
            past, cut = history[access.space], access.rows
            need = np.maximum(need, past.written[:, cut].max(axis=1))
            if access.write:
                need = np.maximum(need, past.read[:, cut].max(axis=1))
        need[unit] = -1
        for other in sorted(_UNITS, key=lambda u: -need[u]):
            last = int(need[other])
            if last > known[unit, other]:
                give[last] |= 1 << unit
                wait[i] |= 1 << other
                known[unit] = np.maximum(known[unit], after[last])
        known[unit, unit] = i
        after.append(known[unit].copy())
        for access in operation.accesses:
            past = history[access.space]
            (past.written if access.write else past.read)[unit, access.rows] = i
    return [
        replace(operation.instruction, wait=w, give=g)
        for operation, w, g in zip(program.operations, wait, give, strict=True)
    ]
