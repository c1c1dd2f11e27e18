"""MATRIX of the reference simulator; what it does is said at :class:`tilewright.targets.isa.spec.Matrix`.

The counters y and x, the output blocks and the lanes are arrays; ic, ky and kx are loops. In float64 the sums
of products are exact, so BLAS adds them.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from tilewright.targets.arithmetic import wrap
from tilewright.targets.config import Overlay
from tilewright.targets.isa.spec import Matrix
from tilewright.targets.sim.effect import Effect
from tilewright.targets.sim.memory import I64, Memories, Trap

F64 = NDArray[np.float64]
QUARTERS = 4


def matrix(x: Matrix, memories: Memories, o: Overlay) -> Effect:
    """Compute what a MATRIX instruction writes. Raises Trap."""
    if x.pad > o.inp_max:
        raise Trap(f"pad={x.pad} does not fit the overlay's inp_bits={o.inp_bits} (0..{o.inp_max})")
    vectors = _vectors(x, memories)
    tile_last = sum(
        (n - 1) * s
        for n, s in ((x.n_oc, x.wgt_oc), (x.n_ic, x.wgt_ic), (x.n_ky, x.wgt_ky), (x.n_kx, x.wgt_kx))
    )
    memories.wgt.check_extremes(x.wgt_base, x.wgt_base + tile_last, "reads")
    reader = _ActReader(x, memories, o)
    tiles_read = np.zeros(len(memories.wgt.data), bool)

    # Where the blocks do not depend on oc, all output blocks share one array of values.
    oc_groups = [np.arange(x.n_oc)] if x.ic_stride_o == 0 else [np.array([oc]) for oc in range(x.n_oc)]
    # With lane_shift the quarters' sums are shifted apart, so they are kept apart.
    quarters = np.array_split(np.arange(o.block_in), QUARTERS) if x.lane_shift else [np.arange(o.block_in)]
    # Exact: n_ic*n_ky*n_kx < 2^20 steps of block_in <= 2^8 products below 2^16.
    sums = np.zeros((len(quarters), x.n_oc, x.n_y * x.n_x, o.block_out))
    for ic in range(x.n_ic):
        for ky in range(x.n_ky):
            for kx in range(x.n_kx):
                for ocs in oc_groups:
                    block = x.ic_first + int(ocs[0]) * x.ic_stride_o + ic
                    values = reader.values(block, ky, kx)
                    tiles = x.wgt_base + ocs * x.wgt_oc + ic * x.wgt_ic + ky * x.wgt_ky + kx * x.wgt_kx
                    tiles_read[tiles] = True
                    weights = _weights(x, memories.wgt.read(tiles), o)
                    for q, lanes in enumerate(quarters):
                        sums[q, ocs] += values[:, lanes] @ weights[:, :, lanes].transpose(0, 2, 1)

    # Shifts are modulo 2^64 and the result modulo 2^acc_bits, so bits lost above do not matter.
    shifts = (0, o.wgt_bits, o.wgt_bits, 2 * o.wgt_bits) if x.lane_shift else (0,)
    total = sum(
        (part.astype(np.int64) << np.int64(x.shift + more) for part, more in zip(sums, shifts, strict=True)),
        np.int64(0),
    )
    reads = [
        (memories.act, np.flatnonzero(reader.rows_read)),
        (memories.wgt, np.flatnonzero(tiles_read)),
        (memories.disp, np.flatnonzero(reader.entries_read)),
    ]
    if not x.fresh:
        total = total + memories.acc.read(vectors).reshape(sums.shape[1:])
        reads.append((memories.acc, vectors))
    values_out = wrap(total, o.acc_bits).reshape(-1, o.block_out)
    return Effect(reads, memories.acc, vectors, values_out)


def _vectors(x: Matrix, memories: Memories) -> I64:
    """ACC addresses of (oc, y, x), flat, in range and all different."""
    counts, strides = (x.n_oc, x.n_y, x.n_x), (x.acc_oc, x.acc_y, x.acc_x)
    last = x.acc_base + sum((n - 1) * s for n, s in zip(counts, strides, strict=True))
    memories.acc.check_extremes(x.acc_base, last, "writes")
    outputs = x.n_oc * x.n_y * x.n_x
    if outputs > len(memories.acc.data):
        raise Trap(f"n_oc*n_y*n_x = {outputs} sums need a vector each, but ACC has {len(memories.acc.data)}")
    oc, y, xx = np.ogrid[: x.n_oc, : x.n_y, : x.n_x]
    vectors = np.asarray(x.acc_base + oc * x.acc_oc + y * x.acc_y + xx * x.acc_x, np.int64).ravel()
    unique, counted = np.unique(vectors, return_counts=True)
    if len(unique) < len(vectors):
        vector = int(unique[counted > 1][0])
        where = [np.unravel_index(i, counts) for i in np.flatnonzero(vectors == vector)[:2]]
        a, b = (tuple(int(v) for v in w) for w in where)
        raise Trap(f"(oc, y, x) = {a} and {b} meet at {memories.acc.name(vector)}")
    return vectors


def _weights(x: Matrix, tiles: NDArray[np.uint8], o: Overlay) -> F64:
    """Values of weights. Shapes: (n, block_out, block_in) -> the same."""
    weights = tiles.astype(np.int64)
    if o.wgt_bits == 1:
        return np.asarray(2 * weights - 1, np.float64)
    signed = np.array([bool(x.w_signed >> q & 1) for q in range(QUARTERS)]).repeat(o.block_in // QUARTERS)
    negative = (weights >> (o.wgt_bits - 1)) & signed
    return np.asarray(weights - (negative << o.wgt_bits), np.float64)


class _ActReader:
    """Reads the values of a step for all (y, x) at once, and notes what it read."""

    def __init__(self, x: Matrix, memories: Memories, o: Overlay) -> None:
        self.x, self.memories, self.overlay = x, memories, o
        self.rows_read = np.zeros(len(memories.act.data), bool)
        self.entries_read = np.zeros(len(memories.disp.data), bool)
        self.y, self.column = np.ogrid[: x.n_y, : x.n_x]

    def values(self, block: int, ky: int, kx: int) -> F64:
        """Shape: (n_y*n_x, block_in)."""
        x, act = self.x, self.memories.act
        dy, dx = self._displacement(block)
        py = (self.y * x.stride_y + ky * x.dilation_y + x.offset_y)[:, :, None]
        px = (self.column * x.stride_x + kx * x.dilation_x + x.offset_x)[:, :, None]
        qy, qx = py + dy, px + dx
        inside = _within(py, x.height) & _within(px, x.width) & _within(qy, x.height) & _within(qx, x.width)
        ring_y = qy % x.ring if x.ring else qy
        rows = x.act_base + ring_y * x.act_row + qx * x.act_x + block * x.act_ic
        rows = np.broadcast_to(rows, inside.shape)
        used = rows[inside]
        act.check_range(used, "reads")
        act.check_written(used)
        self.rows_read[used] = True
        rows = np.where(inside, rows, 0)
        lanes = np.arange(self.overlay.block_in)
        values = act.data[rows, lanes] if x.displaced else act.data[rows[:, :, 0]]
        if self.overlay.inp_bits == 1:
            values = np.where(inside, 2 * values.astype(np.int64) - 1, 0)
        else:
            values = np.where(inside, values, x.pad)
        return np.asarray(values, np.float64).reshape(-1, self.overlay.block_in)

    def _displacement(self, block: int) -> tuple[I64, I64]:
        """(dy, dx) of the lanes, or one zero for all of them."""
        if not self.x.displaced:
            return np.zeros(1, np.int64), np.zeros(1, np.int64)
        entry = np.array([self.x.disp_base + block])
        lanes = self.memories.disp.read(entry)[0]
        self.entries_read[entry] = True
        return lanes[:, 0], lanes[:, 1]


def _within(position: I64, size: int) -> NDArray[np.bool_]:
    return np.asarray((position >= 0) & (position < size))
