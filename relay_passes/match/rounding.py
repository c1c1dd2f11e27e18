"""Quantisers that round otherwise than QuantizeLinear, to the nearest and ties to even.

Such a model rounds in float and quantises the whole numbers by 1:

    quantize(floor(v), 1, 0)                           v = x / scale + zero point
    quantize(sign(v) * floor(abs(v) + 0.5), 1, 0)      ties away from zero; likewise ceil(abs(v) - 0.5), towards it

The machine rounds p / 2^s to the nearest even, p = acc * m + b; with h = 2^(s-1) another b gives the others:

    floor  b - h + 1        ties away     b + 1 (v < 0: b - 1)
    ceil   b + h - 1        ties to zero  b - 1 (v < 0: b + 1)

1 is 2^-s of a step, no more than what m is rounded by; where scales are powers of two p is a multiple of more than 1,
and results are exact.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from tilewright.integer.ops import I64, Rescale
from tilewright.integer.predicate import Rejected
from tilewright.relay_passes import refusals
from tilewright.relay_passes.match.epilogue import Epilogue, read_epilogue, split
from tilewright.relay_passes.match.lowering import Lowering
from tilewright.relay_passes.values import Apply, Const, Leaf, Value

_WHOLE = 1e-5
"""How far the steps of a sum may be from whole numbers by float32's rounding of scales."""


def take_rounding(low: Lowering, value: Value) -> tuple[str, Value]:
    """Take the rounding off the top of a cone: its name in the table above, "" for none, and what is rounded."""
    if low.cone.quant.scale != 1.0 or low.cone.quant.zero_point or not isinstance(value, Apply):
        return "", value
    if value.op in ("floor", "ceil"):
        return value.op, _whole(low, value.args[0])
    if value.op == "round":
        return "", _whole(low, value.args[0])
    if value.op == "multiply":
        sign, size = (a if isinstance(a, Apply) else None for a in value.args)
        if sign is None or size is None or sign.op != "sign" or size.op not in ("floor", "ceil"):
            return "", value
        inner, offset = size.args[0], 0.0
        if isinstance(inner, Apply) and inner.op in ("add", "subtract") and isinstance(inner.args[1], Const):
            offset = float(inner.args[1].real.reshape(())) * (1 if inner.op == "add" else -1)
            inner = inner.args[0]
        name = {("floor", 0.5): "away", ("ceil", -0.5): "to zero"}.get((size.op, offset))
        if isinstance(inner, Apply) and inner.op == "abs" and inner.args[0] is sign.args[0]:
            if name is None:
                low.reject(refusals.MAGNITUDE_ROUNDING, f"{size.op} of magnitudes")
            return name, _whole(low, sign.args[0])
    return "", value


def _whole(low: Lowering, value: Value) -> Value:
    """Take out a rounding of what is whole already, as Trunc has it below the shift; its factor becomes exact."""
    if not isinstance(value, Apply):
        return value
    if value.op != "round":
        parts = split(value)
        if parts is None:
            return value
        inner = _whole(low, parts[0])
        return replace(value, args=tuple(inner if a is parts[0] else a for a in value.args))
    try:
        e = read_epilogue(low, value.args[0])
    except Rejected:
        return value
    unit = _unit(e)
    if unit is None:
        return value
    steps, offset = unit * e.gain, e.offset
    whole = np.rint(steps)
    if np.any(np.abs(steps - whole) > _WHOLE * np.maximum(1, whole)) or np.any(
        np.abs(offset - np.rint(offset)) > _WHOLE
    ):
        return value
    exact = np.where(steps == 0, 1.0, whole / np.where(steps == 0, 1.0, steps))
    shape = (-1, *(1,) * (len(value.shape) - 2)) if exact.size > 1 else ()
    factor = Const(exact.reshape(shape).shape, floats=exact.reshape(shape))
    return Apply("multiply", (value.args[0], factor), value.attrs, value.shape, value.name)


def _unit(e: Epilogue) -> np.ndarray[tuple[int, ...], np.dtype[np.float64]] | None:
    """What 1 in the sum below an epilogue is worth, where one window or one weight scale tells it."""
    base = e.base
    if not isinstance(base, Apply) or not isinstance(base.args[0], Leaf) or e.slope is not None:
        return None
    scale = base.args[0].quant.scale
    if base.op in ("nn.conv2d", "matmul"):
        weight = base.args[1]
        if isinstance(weight, Const) and weight.scale is not None and weight.scale.size == 1:
            return np.asarray([scale * float(weight.scale.reshape(-1)[0])])
    if base.op == "nn.avg_pool2d" and not any(int(p) for p in base.attrs.padding):
        return np.asarray([scale / float(np.prod([int(k) for k in base.attrs.pool_size]))])
    if base.op in ("mean", "nn.adaptive_avg_pool2d"):
        return np.asarray([scale / float(np.prod(base.args[0].shape[2:]))])
    return None


def rounded(low: Lowering, r: Rescale, rounding: str) -> Rescale:
    """A requantisation that rounds to the nearest even, made to round otherwise."""
    if not rounding:
        return r
    if np.any(r.m == 0):
        low.reject(refusals.DEAD_CHANNEL, f"rounding {rounding}")
    one = np.ones_like(r.s)
    half = one << (r.s - 1)
    if rounding in ("floor", "ceil"):
        by: I64 = one - half if rounding == "floor" else half - one
        return replace(r, b=r.b + by, b_neg=None if r.b_neg is None else r.b_neg + by)
    by = one if rounding == "away" else -one
    if r.b_neg is not None:
        low.reject(refusals.PRELU_ROUNDING, f"rounding {rounding}")
    if r.lo >= 0:
        return replace(r, b=r.b + by)
    return replace(r, b=r.b + by, m_neg=r.m, b_neg=r.b - by, zero_point=0)


def bound(value: float, rounding: str) -> float:
    """A bound of what is rounded, after rounding."""
    if not np.isfinite(value):
        return value
    if rounding in ("floor", "ceil"):
        return float(np.floor(value) if rounding == "floor" else np.ceil(value))
    if rounding:
        size = np.floor(abs(value) + 0.5) if rounding == "away" else np.ceil(abs(value) - 0.5)
        return float(np.copysign(size, value))
    return value
