"""The figures of the timing rules; `targets/timing.md` tells which circuit each stands for.

One table for both timing simulators: the C++ one is handed these numbers, the stepping one reads them.
"""

from __future__ import annotations

import enum
from dataclasses import dataclass

from tilewright.targets.config import Overlay


@dataclass(frozen=True)
class Rules:
    """Figures that no overlay file holds, because every overlay has the same circuit.

    Attributes:
        queue_depth: instructions that a unit's queue holds.
        fetch_instructions: instructions in FETCH's buffer, on their way counted.
        start_cycles: from taking the tokens until the counters are set.
        tile_cycles: a tile through the port of WGT, a quarter of a tile wide.
        acc_cycles: between two steps on one vector of ACC that is not the last one's.
        matrix_depth: from a step's read of ACT to the write of ACC, in cycles.
        vector_depth: from the read that completes a window to the write of ACT, in cycles.
        window_reuse: running windows that one read updates.
        param_records: records of PARAM read in a cycle.
        table_cycles: for the 16 records of a table.
        load_instructions: LOADs that are on their way at once.
        load_buffer_bytes: between a read port of DRAM and the scratchpads.
        store_instructions: STOREs whose answers are awaited at once.
        store_buffer_bytes: between ACT and DRAM.
    """

    queue_depth: int = 16
    fetch_instructions: int = 8
    start_cycles: int = 2
    tile_cycles: int = 4
    acc_cycles: int = 4
    matrix_depth: int = 16
    vector_depth: int = 20
    window_reuse: int = 3
    param_records: int = 4
    table_cycles: int = 16
    load_instructions: int = 4
    load_buffer_bytes: int = 512
    store_instructions: int = 8
    store_buffer_bytes: int = 512


class Activity(enum.IntEnum):
    """What a unit does in a cycle; each cycle of each unit counts as exactly one."""

    BUSY = 0
    EMPTY = 1
    TOKEN_LOAD = 2
    TOKEN_MATRIX = 3
    TOKEN_VECTOR = 4
    TOKEN_STORE = 5
    START = 6
    TILE = 7
    ACC = 8
    PARAM = 9
    PORT = 10
    RESULT = 11
    DRAM = 12


ACTIVITY_MEANING = {
    Activity.BUSY: "works",
    Activity.EMPTY: "its queue is empty",
    Activity.TOKEN_LOAD: "waits for a token from LOAD",
    Activity.TOKEN_MATRIX: "waits for a token from MATRIX",
    Activity.TOKEN_VECTOR: "waits for a token from VECTOR",
    Activity.TOKEN_STORE: "waits for a token from STORE",
    Activity.START: "start-up of an instruction",
    Activity.TILE: "the shadow tile is not loaded yet",
    Activity.ACC: "read-modify-write of ACC",
    Activity.PARAM: "channel parameters are not loaded yet",
    Activity.PORT: "the port of an ACT bank has gone to another unit",
    Activity.RESULT: "the write port still has an earlier result",
    Activity.DRAM: "waits for DRAM",
}

OVERLAY_FIELDS = (
    "block_in", "block_out", "inp_bits", "wgt_bits", "act_half_words", "vector_lanes",
    "displacement_min", "displacement_max",
)  # fmt: skip
BOARD_FIELDS = (
    "dram_read_ports", "dram_read_bytes_per_cycle", "dram_write_bytes_per_cycle", "dram_bytes_per_cycle",
    "dram_burst_bytes", "dram_outstanding", "dram_latency_cycles",
)  # fmt: skip
BANK_ROWS_BITS = 2048 * 8
"""Bits of a bank's column, one BRAM18: 2048 rows of 8 bits, 4096 of 4, and so on."""


def bank_pair_half_words(overlay: Overlay) -> int:
    """Half words of a pair of banks."""
    return 2 * BANK_ROWS_BITS // overlay.inp_bits
