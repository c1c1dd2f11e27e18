"""VECTOR of the reference simulator; what it does is said at :class:`tilewright.targets.isa.spec.Vector`.

The counters c, y, x and the lanes are arrays of shape (n_c, n_y, n_x, block_in); the taps are loops.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from tilewright.targets.arithmetic import B_BITS, M_BITS, S_MAX, S_MIN, rne, wrap
from tilewright.targets.config import Overlay
from tilewright.targets.isa.spec import RECORD_BYTES, Source, Vector, VectorOp
from tilewright.targets.sim.effect import Effect
from tilewright.targets.sim.memory import I64, Memories, Rows, Trap

TABLE_BYTES = 256
WIDEST = 16
"""Bits of a value in several planes."""
TWO_OPERANDS = (VectorOp.SCALED_ADD, VectorOp.MULTIPLY)


def vector(x: Vector, memories: Memories, o: Overlay) -> tuple[Effect, int]:
    """Compute what a VECTOR instruction writes, and count the first operand's reads. Raises Trap."""
    _check_rules(x, o)
    _check_size(x, memories)
    operation = _Operation(x, memories, o)
    operation.check_windows()
    destination = _destination(x, memories)
    v = wrap(operation.windows(), o.acc_bits)
    y = _requantise(x, v, operation)
    planes = range(1 << x.out_planes)
    values = [(y >> plane * o.inp_bits) & o.inp_max for plane in planes]
    rows = [destination.ravel() + plane * x.dst_plane for plane in planes]
    operation.check_overlap(rows)
    flat = np.concatenate([part.reshape(-1, o.block_in) for part in values]).astype(np.uint8)
    return Effect(operation.reads(), memories.act, np.concatenate(rows), flat), operation.count


def _check_rules(x: Vector, o: Overlay) -> None:
    name = VectorOp(x.op).name
    if x.source == Source.ACC:
        if x.ring:
            raise Trap(f"ring={x.ring} with source ACC, which has no rings")
        if x.in_planes:
            raise Trap(f"in_planes={x.in_planes} with source ACC, which has no planes")
    counts = (("in", x.in_planes, "value"), ("in2", x.in2_planes, "value"), ("out", x.out_planes, "result"))
    for name_, planes, what in counts:
        if o.inp_bits << planes > WIDEST:
            raise Trap(f"{name_}_planes={planes} of {o.inp_bits} bits, a {what} has {WIDEST} at most")
    if x.op in TWO_OPERANDS:
        if x.source == Source.ACC:
            raise Trap(f"{name} with source ACC, both operands must come from ACT")
        if (x.kernel_y, x.kernel_x) != (1, 1):
            raise Trap(f"{name} with a {x.kernel_y}x{x.kernel_x} window, it must be 1x1")
        if x.negative:
            raise Trap(f"{name} with negative=1, which needs the second set of parameters for itself")
    elif x.in2_planes:
        raise Trap(f"in2_planes={x.in2_planes} with {name}, which has no second operand")
    if x.lo > x.hi:
        raise Trap(f"lo={x.lo} is above hi={x.hi}")
    if x.table and x.hi >= TABLE_BYTES:
        raise Trap(f"hi={x.hi} is beyond the table of {TABLE_BYTES} entries")


def _check_size(x: Vector, memories: Memories) -> None:
    """Refuse more results than ACT has half words, before anything is as large as they are."""
    results = x.n_c * x.n_y * x.n_x
    needed = results << x.out_planes
    if needed > len(memories.act.data):
        raise Trap(f"writes {needed} half words, but ACT has {len(memories.act.data)}")


def _destination(x: Vector, memories: Memories) -> I64:
    """ACT addresses of the results' low planes. Shape: (n_c, n_y, n_x)."""
    c, y, column = np.ogrid[: x.n_c, : x.n_y, : x.n_x]
    row = x.dst_y + y
    row = row % x.dst_ring if x.dst_ring else row
    low = np.asarray(x.dst_base + row * x.dst_row + column * x.dst_x + c * x.dst_c, np.int64)
    rows = (low.ravel() + np.arange(1 << x.out_planes)[:, None] * x.dst_plane).ravel()
    memories.act.check_range(rows, "writes")
    unique, counts = np.unique(rows, return_counts=True)
    if len(unique) < len(rows):
        raise Trap(f"writes {memories.act.name(int(unique[counts > 1][0]))} more than once")
    return low


class _Operation:
    """Reads the operands and runs the window; notes every row read."""

    def __init__(self, x: Vector, memories: Memories, o: Overlay) -> None:
        self.x, self.memories, self.overlay = x, memories, o
        self.shape = (x.n_c, x.n_y, x.n_x)
        self.c, self.y, self.column = np.ogrid[: x.n_c, : x.n_y, : x.n_x]
        self.ordinal = np.arange(x.n_c * x.n_y * x.n_x).reshape(self.shape)
        # Ordinal of the last result for which a half word is read, -1: never.
        self.last_read = np.full(len(memories.act.data), -1, np.int64)
        self.acc_read = np.zeros(len(memories.acc.data), bool)
        self.param_read = np.zeros(len(memories.param.data), bool)
        self.count = 0

    def windows(self) -> I64:
        """Run the operation over all windows. Shape: (n_c, n_y, n_x, block_in)."""
        x = self.x
        largest = x.op == VectorOp.MAX
        result = np.full((*self.shape, self.overlay.block_in), -(1 << 62) if largest else 0, np.int64)
        for tap in range(x.kernel_y * x.kernel_x):
            py, px, inside = self._tap(*divmod(tap, x.kernel_x))
            if not inside.any():
                continue
            value = self._first(py, px, inside) - x.src_zp
            if largest:
                result = np.where(inside[..., None], np.maximum(result, value), result)
                continue
            if x.op == VectorOp.DEPTHWISE:
                value = value * self._depthwise(tap)
            result += np.where(inside[..., None], value, 0)
        return result

    def check_windows(self) -> None:
        """Every result has a tap inside the map."""
        x = self.x
        taps = np.zeros((1, x.n_y, x.n_x), np.int64)
        for tap in range(x.kernel_y * x.kernel_x):
            taps += self._tap(*divmod(tap, x.kernel_x))[2]
        if not taps.all():
            _, y, column = np.argwhere(taps == 0)[0].tolist()
            raise Trap(
                f"the window of (y, x) = ({y}, {column}) has no tap inside the map {x.height}x{x.width}"
            )

    def second(self) -> I64:
        """The second operand less its zero point. Shape: (n_c, n_y, n_x, block_in)."""
        x = self.x
        py, px, inside = self._tap(0, 0)
        row = py % x.ring if x.ring else py
        rows = x.src2_base + row * x.src2_row + px * x.src2_x + self.c * x.src2_c
        return self._planes(rows, inside, x.in2_planes, x.src2_plane) - x.src2_zp

    def parameters(self, record_set: int) -> tuple[I64, I64, I64]:
        """m, s and B of each channel. Shapes: (n_c, 1, 1, block_in)."""
        x, lanes = self.x, np.arange(self.overlay.block_in)
        rows = x.param_base + np.arange(x.n_c)[:, None] * x.param_c + lanes + record_set * len(lanes)
        data = np.ascontiguousarray(self._records(rows))
        m = data[..., 0:4].copy().view("<i4")[..., 0].astype(np.int64)
        s = data[..., 4:8].copy().view("<i4")[..., 0].astype(np.int64)
        b = data[..., 8:16].copy().view("<i8")[..., 0].astype(np.int64)
        limit = 1 << (B_BITS - 1)
        for name, values, low, high in (
            ("m", m, 1 - (1 << M_BITS), (1 << M_BITS) - 1),
            ("s", s, S_MIN, S_MAX),
            ("B", b, -limit, limit - 1),
        ):
            wrong = (values < low) | (values > high)
            if wrong.any() and not (name == "s" and record_set):
                where = self.memories.param.name(int(rows[wrong][0]))
                raise Trap(f"{name}={int(values[wrong][0])} in {where} is not within {low}..{high}")
        return m[:, None, None], s[:, None, None], b[:, None, None]

    def table(self) -> I64:
        """The bytes of the table. Shape: (256,)."""
        rows = self.x.table_base + np.arange(TABLE_BYTES // RECORD_BYTES)
        return self._records(rows).ravel().astype(np.int64)

    def check_overlap(self, written: list[I64]) -> None:
        """Trap where a half word is read for a later result than the one that overwrites it."""
        for rows in written:
            late = self.last_read[rows] > self.ordinal.ravel()
            if late.any():
                i = int(np.flatnonzero(late)[0])
                row = int(rows[i])
                first, then = (
                    tuple(int(v) for v in np.unravel_index(n, self.shape)) for n in (i, self.last_read[row])
                )
                raise Trap(
                    f"writes {self.memories.act.name(row)} at (c, y, x) = {first}, but reads it at {then}"
                )

    def reads(self) -> list[tuple[Rows, I64]]:
        """Memories and rows read."""
        m = self.memories
        return [
            (m.act, np.flatnonzero(self.last_read >= 0)),
            (m.acc, np.flatnonzero(self.acc_read)),
            (m.param, np.flatnonzero(self.param_read)),
        ]

    def _tap(self, ky: int, kx: int) -> tuple[I64, I64, NDArray[np.bool_]]:
        """Map row and column of each (y, x), and whether inside. Shapes: broadcast to (1, n_y, n_x)."""
        x = self.x
        py = self.y * x.stride_y + ky * x.dilation_y + x.offset_y
        px = self.column * x.stride_x + kx * x.dilation_x + x.offset_x
        return py, px, (py >= 0) & (py < x.height) & (px >= 0) & (px < x.width)

    def _first(self, py: I64, px: I64, inside: NDArray[np.bool_]) -> I64:
        """Values of the first operand, anything where outside. Shape: (n_c, n_y, n_x, block_in)."""
        x = self.x
        self.count += x.n_c * int(np.broadcast_to(inside, (1, x.n_y, x.n_x)).sum())
        if x.source == Source.ACC:
            return self._acc(py, px, inside)
        row = py % x.ring if x.ring else py
        rows = x.src_base + row * x.src_row + px * x.src_x + self.c * x.src_c
        return self._planes(rows, inside, x.in_planes, x.src_plane)

    def _planes(self, rows: I64, inside: NDArray[np.bool_], planes: int, pitch: int) -> I64:
        """Values whose lowest plane lies in `rows`, 2^`planes` of them `pitch` apart; anything where outside."""
        values = self._act(rows, inside)
        for plane in range(1, 1 << planes):
            values = values + (self._act(rows + plane * pitch, inside) << plane * self.overlay.inp_bits)
        return values

    def _act(self, rows: I64, inside: NDArray[np.bool_]) -> I64:
        act = self.memories.act
        rows, inside = np.broadcast_to(rows, self.shape), np.broadcast_to(inside, self.shape)
        used = rows[inside]
        act.check_range(used, "reads")
        act.check_written(used)
        np.maximum.at(self.last_read, used, self.ordinal[inside])
        return act.data[np.where(inside, rows, 0)].astype(np.int64)

    def _acc(self, py: I64, px: I64, inside: NDArray[np.bool_]) -> I64:
        x, o, acc = self.x, self.overlay, self.memories.acc
        half = o.halves_per_vector
        rows = x.src_base + py * x.src_row + px * x.src_x + self.c // half * x.src_c
        rows, inside = np.broadcast_to(rows, self.shape), np.broadcast_to(inside, self.shape)
        used = rows[inside]
        acc.check_range(used, "reads")
        acc.check_written(used)
        self.acc_read[used] = True
        halves = acc.data.reshape(-1, half, o.block_in)
        return np.asarray(halves[np.where(inside, rows, 0), self.c % half], np.int64)

    def _depthwise(self, tap: int) -> I64:
        """Weights of a tap. Shape: (n_c, 1, 1, block_in)."""
        x, records = self.x, self.overlay.block_in // 8
        first = x.depthwise_base + np.arange(x.n_c) * x.depthwise_c + tap * records
        data = self._records(first[:, None] + np.arange(records))
        weights = data.reshape(x.n_c, -1).copy().view("<i2")
        return weights.astype(np.int64)[:, None, None]

    def _records(self, rows: I64) -> NDArray[np.uint8]:
        data = self.memories.param.read(rows)
        self.param_read[rows] = True
        return data


def _requantise(x: Vector, v: I64, operation: _Operation) -> I64:
    """From the operation's result to what is stored, all planes in one number."""
    m, s, b = operation.parameters(0)
    if x.op == VectorOp.SCALED_ADD:
        m2, _, _ = operation.parameters(1)
        p = v * m + operation.second() * m2 + b
    elif x.op == VectorOp.MULTIPLY:
        p = v * operation.second() * m + b
    else:
        p = v * m + b
    if x.negative:
        m2, _, b2 = operation.parameters(1)
        # p < out_zp << s without the shift, which may not fit 64 bits.
        p = np.where((p >> s) < x.out_zp, v * m2 + b2, p)
    y = np.clip(rne(p, s), x.lo, x.hi)
    return operation.table()[y] if x.table else y
