"""Products of the network's own weights that a stream makes, counted from its decoded instructions.

The stream is followed in order, which is one of the orders in which the machine may run it: LOADs tell which weight
tile each row of WGT holds and which taps each row of PARAM, and every MATRIX and depthwise VECTOR instruction counts
the products of what it reads. Taps that fall into padding count, as is usual for convolutions; lanes that fill blocks
do not.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from tilewright.targets.config import Overlay
from tilewright.targets.isa.codec import decode_stream
from tilewright.targets.isa.spec import RECORD_BYTES, Base, Load, Matrix, Memory, Vector, VectorOp
from tilewright.targets.region import CompiledRegion

I64 = NDArray[np.int64]

TAP_BYTES = 2
"""Of one lane's depthwise weight in PARAM."""


def count_macs(region: CompiledRegion, overlay: Overlay) -> int:
    """Multiply-accumulates of the network's own weights; `region` must still have its `products`."""
    counter = _Counter(region, overlay)
    total = 0
    for instruction in decode_stream(region.stream):
        if isinstance(instruction, Load):
            counter.load(instruction)
        elif isinstance(instruction, Matrix):
            total += counter.matrix(instruction)
        elif isinstance(instruction, Vector) and instruction.op == VectorOp.DEPTHWISE:
            total += counter.depthwise(instruction)
    return total


@dataclass(eq=False)
class _Counter:
    region: CompiledRegion
    overlay: Overlay

    def __post_init__(self) -> None:
        products = sorted(self.region.products.items())
        self.offsets: I64 = np.array([offset for offset, _ in products], np.int64)
        self.counts: I64 = np.array([count for _, count in products], np.int64)
        # By row: the products of the weights that begin in it.
        self.rows: dict[int, I64] = {
            Memory.WGT: np.zeros(self.overlay.wgt_tiles, np.int64),
            Memory.PARAM: np.zeros(self.overlay.param_records, np.int64),
        }

    def load(self, instruction: Load) -> None:
        """Note what rows of WGT or PARAM hold from now on."""
        rows = self.rows.get(instruction.memory)
        if rows is None:
            return
        index = _grid((instruction.n0, instruction.n1, instruction.n2))
        strides = (instruction.stride0, instruction.stride1, instruction.stride2)
        address = instruction.address + _dot(index, strides)
        if instruction.base != Base.CONSTANT:
            rows[address] = 0
            return
        steps = (instruction.dram_stride0, instruction.dram_stride1, instruction.dram_stride2)
        rows[address] = self.products_at(instruction.dram_offset + _dot(index, steps))

    def products_at(self, offsets: I64) -> I64:
        """Products of the weights at these bytes of the constants; 0 where none begin."""
        if not len(self.offsets):
            return np.zeros_like(offsets)
        place = np.minimum(np.searchsorted(self.offsets, offsets), len(self.offsets) - 1)
        return np.where(self.offsets[place] == offsets, self.counts[place], 0)

    def matrix(self, i: Matrix) -> int:
        """Every tile serves all rows and columns; those that meet a higher plane of values have met the lowest."""
        if i.shift:
            return 0
        index = _grid((i.n_oc, i.n_ic, i.n_ky, i.n_kx))
        tiles = i.wgt_base + _dot(index, (i.wgt_oc, i.wgt_ic, i.wgt_ky, i.wgt_kx))
        return int(self.rows[Memory.WGT][tiles].sum()) * i.n_y * i.n_x

    def depthwise(self, i: Vector) -> int:
        """Every row of taps serves all rows and columns."""
        index = _grid((i.n_c, i.kernel_y * i.kernel_x))
        pitch = self.overlay.block_in * TAP_BYTES // RECORD_BYTES
        records = i.depthwise_base + _dot(index, (i.depthwise_c, pitch))
        return int(self.rows[Memory.PARAM][records].sum()) * i.n_y * i.n_x


def _grid(counts: tuple[int, ...]) -> I64:
    """All counter values, one row each. Shapes: -> (counters, product of `counts`)."""
    return np.indices(counts, np.int64).reshape(len(counts), -1)


def _dot(index: I64, strides: tuple[int, ...]) -> I64:
    return np.asarray(np.array(strides, np.int64) @ index)
