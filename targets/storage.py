"""How the machine stores a tensor's values: unsigned, in the fewest of 1, 2, 4, 8 or 16 bits that hold them.

A map of more bits than the overlay's operands lies in *planes* of `inp_bits` each, low ones first.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

I64 = NDArray[np.int64]

WIDTHS = (1, 2, 4, 8, 16)
"""Bits that a tensor's values may have; 1 is bipolar: -1 and +1."""


@dataclass(frozen=True)
class Range:
    """The values of a tensor: lo, lo + step, .. hi. Bipolar is -1..1 in steps of 2.

    >>> Range(-8, 7).bits(signed=True), Range(0, 15).bits(signed=False), Range(-1, 1, 2).bits(signed=True)
    (4, 4, 1)
    """

    lo: int
    hi: int
    step: int = 1

    @staticmethod
    def of(dtype: str) -> Range:
        """All values of an integer type."""
        info = np.iinfo(dtype)
        return Range(int(info.min), int(info.max))

    @property
    def bipolar(self) -> bool:
        """Whether one bit holds it."""
        return (self.lo, self.hi, self.step) in ((-1, 1, 2), (-1, -1, 2), (1, 1, 2))

    def bits(self, signed: bool) -> int:
        """The narrowest width that holds it."""
        if signed and self.bipolar:
            return 1
        for bits in WIDTHS[1:]:
            low = -(1 << (bits - 1)) if signed else 0
            if low <= self.lo and self.hi < low + (1 << bits):
                return bits
        raise ValueError(f"no width holds {self.lo}..{self.hi}")

    def join(self, other: Range) -> Range:
        """The values of both."""
        step = 2 if self.step == other.step == 2 and (self.lo - other.lo) % 2 == 0 else 1
        return Range(min(self.lo, other.lo), max(self.hi, other.hi), step)


@dataclass(frozen=True)
class Storage:
    """Values of an integer type, stored in `bits`: value + offset, or for 1 bit 0 for -1 and 1 for +1."""

    dtype: str
    bits: int

    @property
    def offset(self) -> int:
        """What a stored number lies above its value; 0 for 1 bit, which the machine reads as -1 and +1."""
        return 1 << (self.bits - 1) if self.dtype.startswith("int") and self.bits > 1 else 0

    @property
    def largest(self) -> int:
        """Largest stored number."""
        return (1 << self.bits) - 1

    def planes(self, inp_bits: int) -> int:
        """Planes that it takes with operands of so many bits."""
        return -(-self.bits // inp_bits)

    def stored(self, values: ArrayLike) -> I64:
        """Values -> stored numbers; those outside of 0..largest do not fit."""
        wide = np.asarray(values, np.int64)
        if self.bits == 1:
            return np.asarray(np.where(np.abs(wide) == 1, (wide + 1) >> 1, -1), np.int64)
        return np.asarray(wide + self.offset, np.int64)

    def values(self, stored: ArrayLike) -> I64:
        """Stored numbers -> values."""
        wide = np.asarray(stored, np.int64)
        return np.asarray(2 * wide - 1 if self.bits == 1 else wide - self.offset, np.int64)

    def in_planes(self, stored: int, inp_bits: int) -> Iterator[int]:
        """A stored number's planes, low first."""
        for plane in range(self.planes(inp_bits)):
            yield stored >> plane * inp_bits & (1 << inp_bits) - 1


def storage(dtype: str, values: Range, inp_bits: int) -> Storage:
    """How an overlay with operands of `inp_bits` stores these values: in its own bits where they are fewer."""
    bits = values.bits(dtype.startswith("int"))
    return Storage(dtype, max(bits, inp_bits, 1 if inp_bits == 1 else 2))
