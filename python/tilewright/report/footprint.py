"""Which rows of the scratchpads an instruction reads and writes, from its fields alone.

Sets of addresses, in no order and perhaps with repeats. `targets/sim/reference.py` finds the same while it executes;
here nothing is executed, so a report on a large network takes moments.
"""

from __future__ import annotations

from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray

from tilewright.targets.config import Overlay
from tilewright.targets.isa.spec import (
    RECORD_BYTES,
    Instruction,
    Load,
    Matrix,
    Memory,
    Source,
    Store,
    Vector,
    VectorOp,
)

I64 = NDArray[np.int64]
Rows = Mapping[Memory, I64]

TABLE_RECORDS = 256 // RECORD_BYTES
_WITH_SECOND = (VectorOp.SCALED_ADD, VectorOp.MULTIPLY)
_NOTHING: dict[Memory, I64] = {}


def memory_rows(overlay: Overlay) -> dict[Memory, int]:
    """Rows of each scratchpad that a report follows."""
    return {
        Memory.ACT: overlay.act_half_words,
        Memory.WGT: overlay.wgt_tiles,
        Memory.PARAM: overlay.param_records,
    }


def row_bytes(overlay: Overlay) -> dict[Memory, int]:
    """Bytes of a row of each."""
    return {
        Memory.ACT: overlay.half_word_bytes,
        Memory.WGT: overlay.tile_bytes,
        Memory.PARAM: RECORD_BYTES,
        Memory.DISP: overlay.entry_bytes,
    }


def footprint(instruction: Instruction, overlay: Overlay) -> tuple[Rows, Rows]:
    """Rows read and rows written, by memory; ACC, DISP and addresses outside are left out.

    A displaced MATRIX counts all rows within the overlay's displacements: which of them it reads is data.
    """
    rows = memory_rows(overlay)
    if isinstance(instruction, Load | Store):
        i = instruction
        memory = Memory(i.memory) if isinstance(i, Load) else Memory.ACT
        if memory not in rows:
            return _NOTHING, _NOTHING
        axes = ((i.n0, i.stride0), (i.n1, i.stride1), (i.n2, i.stride2))
        touched = {memory: _sums(rows[memory], i.address, *(_axis(n, s) for n, s in axes))}
        return (_NOTHING, touched) if isinstance(i, Load) else (touched, _NOTHING)
    if isinstance(instruction, Matrix):
        return _matrix(instruction, overlay, rows), _NOTHING
    if isinstance(instruction, Vector):
        return _vector_reads(instruction, overlay, rows), {
            Memory.ACT: _vector_writes(instruction, rows[Memory.ACT])
        }
    return _NOTHING, _NOTHING


def transfer_bytes(instruction: Load | Store, overlay: Overlay) -> int:
    """Bytes that a copy moves."""
    memory = Memory(instruction.memory) if isinstance(instruction, Load) else Memory.ACT
    return instruction.n0 * instruction.n1 * instruction.n2 * row_bytes(overlay)[memory]


def matrix_steps(instruction: Matrix) -> int:
    """Steps of a MATRIX instruction."""
    i = instruction
    return i.n_oc * i.n_ic * i.n_ky * i.n_kx * i.n_y * i.n_x


def _axis(count: int, stride: int) -> I64:
    return np.arange(count, dtype=np.int64) * stride


def _sums(rows: int, base: int, *axes: I64) -> I64:
    """All sums of `base` and an element of each axis that are rows of the memory; no element is negative."""
    found = np.array([base], np.int64)
    for axis in axes:
        found = np.add.outer(found, axis[axis < rows]).ravel()
        if len(found) > rows:
            found = np.unique(found[found < rows])
    return found[found < rows]


def _inside(count: int, stride: int, taps: int, dilation: int, offset: int, size: int) -> I64:
    """Coordinates inside the map that windows along one axis touch."""
    starts = np.arange(count, dtype=np.int64) * stride + offset
    found = np.unique(np.add.outer(starts, np.arange(taps, dtype=np.int64) * dilation))
    return found[(found >= 0) & (found < size)]


def _taps(count: int, stride: int, taps: int, dilation: int, offset: int, size: int) -> I64:
    """Taps along one axis that lie inside the map for some window."""
    starts = np.arange(count, dtype=np.int64) * stride + offset
    places = np.add.outer(np.arange(taps, dtype=np.int64) * dilation, starts)
    return np.flatnonzero(((places >= 0) & (places < size)).any(axis=1))


def _ring(rows: I64, ring: int) -> I64:
    return np.unique(rows % ring) if ring else rows


def _displaced(places: I64, overlay: Overlay, size: int) -> I64:
    reach = np.arange(overlay.displacement_min, overlay.displacement_max + 1)
    found = np.unique(np.add.outer(places, reach))
    return found[(found >= 0) & (found < size)]


def _matrix(i: Matrix, o: Overlay, rows: Mapping[Memory, int]) -> Rows:
    py = _inside(i.n_y, i.stride_y, i.n_ky, i.dilation_y, i.offset_y, i.height)
    px = _inside(i.n_x, i.stride_x, i.n_kx, i.dilation_x, i.offset_x, i.width)
    if i.displaced:
        py, px = _displaced(py, o, i.height), _displaced(px, o, i.width)
    blocks = np.unique(np.add.outer(np.arange(i.n_oc) * i.ic_stride_o, np.arange(i.n_ic))) + i.ic_first
    act = _sums(rows[Memory.ACT], i.act_base, _ring(py, i.ring) * i.act_row, px * i.act_x, blocks * i.act_ic)
    axes = ((i.n_oc, i.wgt_oc), (i.n_ic, i.wgt_ic), (i.n_ky, i.wgt_ky), (i.n_kx, i.wgt_kx))
    wgt = _sums(rows[Memory.WGT], i.wgt_base, *(_axis(n, s) for n, s in axes))
    return {Memory.ACT: act, Memory.WGT: wgt}


def _vector_reads(i: Vector, o: Overlay, rows: Mapping[Memory, int]) -> Rows:
    lanes = np.arange(o.block_in, dtype=np.int64)
    sets = 2 if i.negative or i.op == VectorOp.SCALED_ADD else 1
    param = [_sums(rows[Memory.PARAM], i.param_base, _axis(i.n_c, i.param_c), _axis(sets, o.block_in), lanes)]
    if i.op == VectorOp.DEPTHWISE:
        records = o.block_in // 8
        ky = _taps(i.n_y, i.stride_y, i.kernel_y, i.dilation_y, i.offset_y, i.height) * i.kernel_x * records
        kx = _taps(i.n_x, i.stride_x, i.kernel_x, i.dilation_x, i.offset_x, i.width) * records
        channels = _axis(i.n_c, i.depthwise_c)
        param.append(_sums(rows[Memory.PARAM], i.depthwise_base, channels, ky, kx, _axis(records, 1)))
    if i.table:
        param.append(_sums(rows[Memory.PARAM], i.table_base, _axis(TABLE_RECORDS, 1)))
    found = {Memory.PARAM: np.concatenate(param)}
    if i.source == Source.ACT:
        act = [_operand(i, rows[Memory.ACT], second=False)]
        if i.op in _WITH_SECOND:
            act.append(_operand(i, rows[Memory.ACT], second=True))
        found[Memory.ACT] = np.concatenate(act)
    return found


def _operand(i: Vector, rows: int, *, second: bool) -> I64:
    """ACT rows of the first or the second operand."""
    py = _ring(_inside(i.n_y, i.stride_y, i.kernel_y, i.dilation_y, i.offset_y, i.height), i.ring)
    px = _inside(i.n_x, i.stride_x, i.kernel_x, i.dilation_x, i.offset_x, i.width)
    if second:
        planes = _axis(1 << i.in2_planes, i.src2_plane)
        return _sums(rows, i.src2_base, py * i.src2_row, px * i.src2_x, _axis(i.n_c, i.src2_c), planes)
    planes = _axis(1 << i.in_planes, i.src_plane)
    return _sums(rows, i.src_base, py * i.src_row, px * i.src_x, _axis(i.n_c, i.src_c), planes)


def _vector_writes(i: Vector, rows: int) -> I64:
    y = _ring(np.arange(i.n_y, dtype=np.int64) + i.dst_y, i.dst_ring) * i.dst_row
    planes = _axis(1 << i.out_planes, i.dst_plane)
    return _sums(rows, i.dst_base, y, _axis(i.n_x, i.dst_x), _axis(i.n_c, i.dst_c), planes)
