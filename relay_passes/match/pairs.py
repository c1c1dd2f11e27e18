"""Sums and products of two quantised tensors."""

from __future__ import annotations

import numpy as np

from tilewright.integer.ops import I64, Add, Multiply, Rescale
from tilewright.relay_passes import refusals
from tilewright.relay_passes.match.epilogue import Epilogue, read_epilogue
from tilewright.relay_passes.match.lowering import Lowering, Operand
from tilewright.relay_passes.match.sums import (
    dtype_of,
    few_bits,
    rescale,
)
from tilewright.relay_passes.requantise import requantise
from tilewright.relay_passes.thresholds import match_pair
from tilewright.relay_passes.values import Apply, Shape, Value
from tilewright.targets.arithmetic import M_BITS


def _scaled_operand(low: Lowering, value: Value) -> tuple[Operand, float, float]:
    """A quantised tensor with a factor and an offset for all its elements."""
    e = read_epilogue(low, value)
    if e.bounded or e.slope is not None or not e.is_scalar:
        low.reject(refusals.PAIR_OPERAND, "a function of one")
    return low.operand(e.base), float(e.gain[0]), float(e.offset[0])


def _ordered(low: Lowering, a: Operand, b: Operand, shape: Shape) -> bool:
    """Whether the operands must change places so that the first has the result's shape."""
    if len(shape) not in (2, 4) or shape[0] != 1:
        low.reject(refusals.PAIR_RANK, f"shape {list(shape)}")
    fits = len(a.shape) == len(b.shape) == len(shape)
    if not fits or shape not in (a.shape, b.shape):
        low.reject(refusals.PAIR_SHAPE, f"{list(a.shape)} and {list(b.shape)}")
    return a.shape != shape


def _values(operand: Operand) -> I64:
    """All values of a tensor, less its zero point."""
    held = operand.held
    return np.arange(held.lo, held.hi + 1, held.step) - operand.quant.zero_point


def _one(low: Lowering, e: Epilogue) -> None:
    if not e.is_scalar or e.slope is not None:
        low.reject(refusals.PAIR_EPILOGUE, "a PReLU or one number a channel")


def add(low: Lowering, e: Epilogue, call: Apply) -> None:
    """add, subtract of two tensors -> [factor] -> [bounds] -> Q."""
    _one(low, e)
    if low.cone.step == 2:
        low.reject(refusals.PAIR_ONE_BIT, "one bit")
    out, gain = low.cone.quant, float(e.gain[0])
    a, ga, oa = _scaled_operand(low, call.args[0])
    b, gb, ob = _scaled_operand(low, call.args[1])
    sign = -1.0 if call.op == "subtract" else 1.0
    ra, rb = ga * gain * a.quant.scale / out.scale, sign * gb * gain * b.quant.scale / out.scale
    offset = ((oa + sign * ob) * gain + float(e.offset[0])) / out.scale
    if _ordered(low, a, b, call.shape):
        a, b, ra, rb = b, a, rb, ra
    big = max(abs(ra), abs(rb))
    if not 0 < big < 1 << refusals.SCALES_LIMIT_BITS or abs(offset) >= 1 << 20:
        low.reject(refusals.PAIR_SCALES, f"{big:.4g} with offset {offset:.4g}")
    s = int(requantise(big, offset / big, out).s[0])
    m, m2 = (int(np.rint(np.ldexp(r, s))) for r in (ra, rb))
    zero = int(np.rint(np.ldexp(offset, s))) + (out.zero_point << s)
    shape = (1,) * (len(call.shape) - 1)
    lo, hi = low.clamp(e.lo, e.hi)
    if not low.rounding and few_bits(low, lo, hi):
        found = match_pair(
            (m, m2),
            s,
            zero,
            (_values(a), _values(b)),
            (ra * out.scale, rb * out.scale),
            offset * out.scale,
            (out.scale, out.zero_point),
            (lo, hi),
        )
        if found is None:
            low.reject(refusals.THRESHOLDS, f"no {M_BITS}-bit multipliers that do")
        m, m2, zero = found
    r = Rescale(
        np.full(shape, m, np.int64),
        np.full(shape, s, np.int64),
        np.full(shape, zero, np.int64),
        lo,
        hi,
        dtype_of(low),
    )
    low.add(Add(a.quant.zero_point, b.quant.zero_point, m2, r), [a.ref, b.ref], call.shape, r.dtype)


def multiply(low: Lowering, e: Epilogue, call: Apply) -> None:
    """multiply of two tensors -> [factor, offset] -> [bounds] -> Q."""
    _one(low, e)
    a, ga, oa = _scaled_operand(low, call.args[0])
    b, gb, ob = _scaled_operand(low, call.args[1])
    if oa or ob:
        low.reject(refusals.PLAIN_FACTOR, "a tensor plus a constant")
    if _ordered(low, a, b, call.shape):
        a, b = b, a
    unit = np.asarray([ga * gb * a.quant.scale * b.quant.scale])
    shape = (1,) * (len(call.shape) - 1)
    products = np.outer(_values(a)[[0, -1]], _values(b)[[0, -1]])
    reach = np.array([products.min()]), np.array([products.max()])
    r = rescale(low, e, unit, 0, 1, shape, reach=reach)
    low.add(Multiply(a.quant.zero_point, b.quant.zero_point, r), [a.ref, b.ref], call.shape, r.dtype)
