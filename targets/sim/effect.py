"""What an instruction would do, computed before anything is changed."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from numpy.typing import NDArray

from tilewright.targets.sim.memory import I64, Rows


@dataclass(frozen=True)
class Effect:
    """Accesses of an instruction.

    Attributes:
        reads: memories and the rows read of them.
        memory, rows, values: what is written; no row twice.
    """

    reads: list[tuple[Rows, I64]]
    memory: Rows
    rows: I64
    values: NDArray[Any]
