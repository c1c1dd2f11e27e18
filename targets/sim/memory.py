"""Memories of the reference simulator: rows that know if they were written; lanes from bytes and back."""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from tilewright.targets.config import ACC_HALF_VECTORS, Overlay
from tilewright.targets.isa.spec import RECORD_BYTES, Base, Unit
from tilewright.targets.sim.program import Bytes, DramImage

I64 = NDArray[np.int64]


class Trap(Exception):
    """A fault of the instruction at hand; the simulator adds which one it is."""

    def __init__(self, message: str, remedy: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.remedy = remedy


class Rows:
    """A memory of equal rows.

    Attributes:
        label: text that names a row, `half word {} of ACT`.
        data: shape (rows, ...), one element per lane or byte.
        written: shape (rows,); reading a row that is not is an error.
        last_read, last_write: shape (units, rows of races); index of the last instruction that did, or -1.
    """

    def __init__(
        self,
        label: str,
        data: NDArray[Any],
        *,
        written: bool = False,
        scale: int = 1,
        race_label: str = "",
        race_shift: int = 0,
    ) -> None:
        self.label = label
        self.data = data
        self.scale = scale  # what a row counts in messages: bytes of a DRAM granule
        self.written = np.full(len(data), written)
        self.race_label = race_label or label
        self.race_shift = race_shift  # 2^race_shift rows are one for races
        races = (len(Unit), -(-len(data) >> race_shift) if race_shift else len(data))
        self.last_read = np.full(races, -1, np.int64)
        self.last_write = np.full(races, -1, np.int64)

    def name(self, row: int) -> str:
        """Name a row."""
        return self.label.format(row * self.scale)

    def check_range(self, rows: I64, verb: str) -> None:
        """Trap where a row is outside the memory."""
        if rows.size:
            self.check_extremes(int(rows.min()), int(rows.max()), verb)

    def check_extremes(self, least: int, most: int, verb: str) -> None:
        """Trap where the smallest or the largest row is outside the memory."""
        for row in (least, most):
            if not 0 <= row < len(self.data):
                size = len(self.data)
                last = f"the last is {(size - 1) * self.scale}" if size else "there is none"
                raise Trap(f"{verb} {self.name(row)}, but {last}")

    def check_written(self, rows: I64) -> None:
        """Trap where a row was never written."""
        missing = ~self.written[rows]
        if missing.any():
            row = int(rows[missing].min())
            raise Trap(f"reads {self.name(row)}, which nothing has written")

    def read(self, rows: I64) -> NDArray[Any]:
        """The rows' data, after both checks."""
        self.check_range(rows, "reads")
        self.check_written(rows)
        return np.asarray(self.data[rows])

    def write(self, rows: I64, data: NDArray[Any]) -> None:
        """Set rows that were checked before."""
        self.data[rows] = data
        self.written[rows] = True


class Memories:
    """All memories of a machine."""

    def __init__(self, overlay: Overlay, dram: DramImage) -> None:
        o = overlay
        self.act = Rows("half word {} of ACT", np.zeros((o.act_half_words, o.block_in), np.uint8))
        self.wgt = Rows("tile {} of WGT", np.zeros((o.wgt_tiles, o.block_out, o.block_in), np.uint8))
        self.param = Rows("record {} of PARAM", np.zeros((o.param_records, RECORD_BYTES), np.uint8))
        self.disp = Rows("entry {} of DISP", np.zeros((o.disp_entries, o.block_in, 2), np.int64))
        self.acc = Rows(
            "vector {} of ACC",
            np.zeros((o.acc_vectors, o.block_out), np.int64),
            race_label="half {} of ACC",
            race_shift=ACC_HALF_VECTORS.bit_length() - 1,
        )
        # DRAM in rows of the smallest unit that an address can name.
        self.granule = min(o.half_word_bytes, o.record_alignment)
        self.dram = {
            Base.CONSTANT: self._segment(Base.CONSTANT, dram.constants, True),
            Base.WORKSPACE: self._segment(Base.WORKSPACE, np.zeros(dram.workspace_bytes, np.uint8), False),
            Base.INPUT: self._segment(Base.INPUT, dram.inputs, True),
            Base.OUTPUT: self._segment(Base.OUTPUT, np.zeros(dram.output_bytes, np.uint8), False),
        }

    def _segment(self, base: Base, data: Bytes, written: bool) -> Rows:
        whole = len(data) // self.granule * self.granule
        rows = np.array(data[:whole], np.uint8).reshape(-1, self.granule)
        return Rows(f"byte {{}} of {base.name}", rows, written=written, scale=self.granule)


def unpack(data: Bytes, bits: int) -> Bytes:
    """Lanes from bytes, lane 0 in the lowest bits.

    Shapes: (..., n) -> (..., n*8/bits).

    >>> unpack(np.array([0x21], np.uint8), 4).tolist()
    [1, 2]
    """
    shifts = np.arange(0, 8, bits, dtype=np.uint8)
    lanes = (data[..., None] >> shifts) & np.uint8((1 << bits) - 1)
    return np.asarray(lanes.reshape(*data.shape[:-1], -1), np.uint8)


def pack(lanes: Bytes, bits: int) -> Bytes:
    """Bytes from lanes; the inverse of `unpack`.

    >>> pack(np.array([1, 2], np.uint8), 4).tolist()
    [33]
    """
    shifts = np.arange(0, 8, bits, dtype=np.uint8)
    groups = lanes.reshape(*lanes.shape[:-1], -1, 8 // bits)
    return np.asarray((groups << shifts).sum(axis=-1, dtype=np.uint8))


def unpack_entries(data: Bytes) -> I64:
    """Displacements from bytes: dy in the low nibble, dx in the high. Shapes: (..., n) -> (..., n, 2)."""
    nibbles = np.stack([data & 15, data >> 4], axis=-1).astype(np.int64)
    return np.asarray(nibbles - ((nibbles >> 3) << 4), np.int64)
