"""What a simulator is given and what it gives back; the same for all of them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from tilewright.targets.config import Overlay

Bytes = NDArray[np.uint8]


@dataclass(frozen=True)
class Program:
    """An instruction stream and the overlay it was made for.

    Attributes:
        stream: encoded instructions, 64 bytes each.
        overlay: the machine.
        layers: source layer of each instruction, for messages; empty where unknown.
    """

    stream: bytes
    overlay: Overlay
    layers: Sequence[str] = ()


@dataclass(frozen=True)
class DramImage:
    """DRAM at the start: one array of bytes or one size for each base register.

    Constants and inputs are read-only; workspace and outputs start unwritten.
    """

    constants: Bytes
    inputs: Bytes
    workspace_bytes: int
    output_bytes: int


@dataclass
class Statistics:
    """Counts of a run.

    Attributes:
        instructions: executed, by unit (`FINISH` apart).
        steps: MATRIX steps, each `block_in*block_out` products.
        vector_reads: half words, or halves of a vector, that VECTOR read as first operand.
        dram_read_bytes, dram_write_bytes: moved by LOAD and STORE.
    """

    instructions: dict[str, int] = field(default_factory=dict)
    steps: int = 0
    vector_reads: int = 0
    dram_read_bytes: int = 0
    dram_write_bytes: int = 0


@dataclass(frozen=True)
class RunResult:
    """What a run leaves.

    Attributes:
        outputs: shape (output_bytes,); 0 where nothing was written.
        outputs_written: same shape; whether a STORE wrote the byte.
        statistics: counts.
    """

    outputs: Bytes
    outputs_written: NDArray[np.bool_]
    statistics: Statistics
