"""Convolutions, dense layers and average pools: a sum of products, then one requantisation."""

from __future__ import annotations

from collections.abc import Sequence
from typing import cast

import numpy as np

from tilewright.integer.ops import (
    I64,
    Conv2d,
    ConvTranspose2d,
    Dense,
    DType,
    Pads,
    Pair,
    Rescale,
    SumPool2d,
    storage_offset,
)
from tilewright.relay_passes import refusals
from tilewright.relay_passes.match.epilogue import F64, Epilogue
from tilewright.relay_passes.match.lowering import Lowering, Operand
from tilewright.relay_passes.requantise import requantise
from tilewright.relay_passes.thresholds import MOST_BITS, float_target, match
from tilewright.relay_passes.values import Apply, Const, Shape, Value
from tilewright.targets.arithmetic import M_BITS, S_MIN, largest_sum
from tilewright.targets.storage import Range

AFFINE_WEIGHT = 127
_FARTHEST = 1 << 32
"""Thresholds of one bit beyond any sum."""


def _pads(values: Sequence[int]) -> Pads:
    top, left, bottom, right = (int(v) for v in values)
    return top, left, bottom, right


def _pair(values: Sequence[int]) -> Pair:
    a, b = (int(v) for v in values)
    return a, b


def dtype_of(low: Lowering) -> DType:
    """Type of the cone's result."""
    return cast(DType, low.cone.quant.dtype)


def rescale(
    low: Lowering,
    e: Epilogue,
    unit: F64,
    raw_zero: I64 | int,
    count: int,
    shape: Shape,
    sums: I64 | None = None,
    spread: I64 | int = 0,
    reach: tuple[I64, I64] | None = None,
) -> Rescale:
    """The requantisation of a sum whose unit is worth `unit` (real value of 1, per channel).

    Args:
        e: what follows the sum.
        raw_zero: what MATRIX adds to the sum for zero points, per channel.
        count: channels.
        shape: how the arrays broadcast against the result.
        sums: largest magnitude of the raw sums, per channel; checked with the bias against the accumulator.
        spread: how far what MATRIX adds may lie from `raw_zero`.
        reach: least and largest sum, per channel; thresholds of results of few bits are matched within.
    """
    out = low.cone.quant
    gain, unit = np.broadcast_to(e.gain, count), np.broadcast_to(unit, count)
    per_step = unit * gain
    with np.errstate(divide="ignore", invalid="ignore"):
        # A channel without gain is the constant `offset`: counted in steps of the result.
        bias = np.where(per_step == 0, 0.0, np.broadcast_to(e.offset, count) / per_step)
    if low.cone.step == 2:
        return _sign(low, e, per_step, bias, shape, sums)
    ratio = per_step / out.scale
    limit = 1 << 22
    if np.any(np.abs(ratio) >= limit) or not np.all(np.isfinite(bias)):
        low.reject(refusals.SCALES, f"{np.abs(ratio).max():.4g}", limit=limit)
    if e.slope is not None and np.any(np.abs(e.slope) >= 64):
        low.reject(refusals.SLOPE, f"{np.abs(e.slope).max():g}")
    scaling = requantise(ratio, bias, out, raw_zero, e.slope, spread)
    live = scaling.m != 0
    if sums is not None:
        total = np.where(live, sums + np.abs(np.where(live, np.rint(bias), 0)), 0)
        most, top = int(total.max()), (1 << (low.widths.acc - 1)) - 1
        if most > top:
            low.reject(
                refusals.SUMS, f"{most} in output channel {int(total.argmax())}", bits=low.widths.acc, top=top
            )
    dead = per_step == 0
    b = scaling.b
    if np.any(dead):
        steps = np.broadcast_to(e.offset, count) / out.scale
        if e.slope is not None:
            steps = np.where(steps < 0, steps * e.slope, steps)
        fixed = np.clip(np.rint(steps) + out.zero_point, -(1 << 40), 1 << 40).astype(np.int64) << scaling.s
        b = np.where(dead, fixed, b)
    lo, hi = low.clamp(e.lo, e.hi)
    m = scaling.m
    if reach is not None and e.slope is None and not low.rounding and few_bits(low, lo, hi):
        target = float_target(per_step, np.broadcast_to(e.offset, count), out.scale, out.zero_point, (lo, hi))
        found = match(m, scaling.s, b, target, (lo, hi), reach)
        if found.failed.any():
            low.reject(
                refusals.THRESHOLDS,
                f"no {M_BITS}-bit multiplier that does in channel {int(found.failed.argmax())}",
            )
        m, b = found.m, found.b
    if scaling.m_neg is not None and scaling.b_neg is not None:
        b_neg = np.where(dead, b, scaling.b_neg)
        return Rescale(
            scaling.m.reshape(shape),
            scaling.s.reshape(shape),
            b.reshape(shape),
            lo,
            hi,
            dtype_of(low),
            scaling.m_neg.reshape(shape),
            b_neg.reshape(shape),
            out.zero_point,
        )
    return Rescale(m.reshape(shape), scaling.s.reshape(shape), b.reshape(shape), lo, hi, dtype_of(low))


def few_bits(low: Lowering, lo: int, hi: int) -> bool:
    """Whether a result of lo..hi has few enough bits for its thresholds to be matched."""
    return Range(lo, hi).bits(dtype_of(low).startswith("int")) <= MOST_BITS


def reach_of(operand: Operand, weight: I64) -> tuple[I64, I64]:
    """Least and largest sum of each channel. Shapes: weight (n, k) -> two (n,)."""
    below = min(operand.held.lo - operand.quant.zero_point, 0)
    above = max(operand.held.hi - operand.quant.zero_point, 0)
    plus = np.maximum(weight, 0).sum(1, dtype=np.int64)
    minus = np.minimum(weight, 0).sum(1, dtype=np.int64)
    return plus * below + minus * above, plus * above + minus * below


def _sign(low: Lowering, e: Epilogue, gain: F64, bias: F64, shape: Shape, sums: I64 | None) -> Rescale:
    """One bit: `clip(2 * (acc - t) + 1, -1, 1)`, t the least sum whose value is 0 or more.

    With a negative gain it is the largest, and the difference the other way. All results are odd.
    """
    if e.slope is not None:
        low.reject(refusals.SIGN_PRELU, "one")
    most, top = 0 if sums is None else int(sums.max()), (1 << (low.widths.acc - 1)) - 1
    if most > top:
        low.reject(refusals.SIGN_SUMS, f"{most}", bits=low.widths.acc, top=top)
    gain = np.where((e.lo >= 0) | (e.hi < 0), 0.0, gain)
    fixed = np.broadcast_to(np.clip(e.offset, e.lo, e.hi) >= 0, gain.shape)
    least = np.clip(-bias, -_FARTHEST, _FARTHEST)
    t = np.where(gain > 0, np.ceil(least), np.floor(least)).astype(np.int64)
    direction = np.sign(gain).astype(np.int64)
    b: I64 = np.where(direction == 0, np.where(fixed, 1, -1), 1 - 2 * direction * t).astype(np.int64)
    s: I64 = np.full(b.shape, S_MIN, np.int64)
    m: I64 = (2 * direction) << s
    return Rescale(m.reshape(shape), s.reshape(shape), (b << s).reshape(shape), -1, 1, dtype_of(low))


def _weights(low: Lowering, value: Value, axis: int) -> tuple[I64, F64]:
    """Integer weights less their zero point, and their scale along `axis` (or one for all)."""
    if not isinstance(value, Const) or value.ints is None or value.scale is None:
        found = "float constants" if isinstance(value, Const) else "values computed at run time"
        low.reject(refusals.WEIGHTS, found)
    ints = value.ints
    largest = max(int(ints.max()), -int(ints.min())) if ints.size else None
    if largest is None or largest > refusals.WEIGHT_MAX:
        low.reject(refusals.WEIGHT_RANGE, "no weights" if largest is None else f"{largest}")
    scale = np.broadcast_to(value.scale, value.shape)
    # Axes along which it is broadcast say nothing new, and there are millions of weights.
    scale = scale[tuple(slice(None, None if step else 1) for step in scale.strides)]
    along = np.moveaxis(scale, axis, 0).reshape(scale.shape[axis], -1)
    if np.any(along != along[:, :1]):
        low.reject(refusals.WEIGHT_SCALES, "scales along another axis", axis=axis)
    column = np.broadcast_to(along[:, 0], (value.shape[axis],)).astype(np.float64)
    return ints, column[:1] if np.all(column == column[0]) else column


def _raw_zero(low: Lowering, operand: Operand, weight: I64) -> tuple[I64, I64]:
    """What MATRIX adds to a sum for the zero point, and how far that may be off: a wider neighbour in a concat
    widens the operand's own storage."""
    own = low.widths.storage(operand.quant, operand.held)
    most = storage_offset(operand.quant.dtype) - own.offset if own.offset else 0
    return (operand.quant.zero_point + own.offset) * weight, np.abs(most * weight)


def _largest(low: Lowering, operand: Operand, weight: I64) -> I64:
    """Largest magnitude of MATRIX's sums of each channel. Shapes: weight (n, k) -> (n,)."""
    own = low.widths.storage(operand.quant, operand.held)
    if own.bits == 1:  # values of both signs
        return np.asarray(np.abs(weight).sum(1, dtype=np.int64))
    return largest_sum(weight, max(operand.held.hi, operand.quant.zero_point) + own.offset)


def _conv_input(low: Lowering, call: Apply, padding: Pads) -> tuple[Operand, Pads]:
    """The operand of a convolution; zero padding before it becomes its own."""
    x = call.args[0]
    if isinstance(x, Apply) and x.op == "nn.pad" and x.attrs.pad_mode == "constant":
        width = [int(w) for w in x.attrs.pad_width]
        if float(x.attrs.pad_value) == 0 and len(width) == 8 and not any(width[:4]):
            top, left, bottom, right = padding
            return low.operand(x.args[0]), (
                top + width[4],
                left + width[6],
                bottom + width[5],
                right + width[7],
            )
    return low.operand(x), padding


def conv2d(low: Lowering, e: Epilogue, call: Apply) -> None:
    """conv2d -> [affine] -> [PReLU] -> [bounds] -> Q."""
    a = call.attrs
    if a.data_layout != "NCHW" or a.kernel_layout != "OIHW":
        low.reject(refusals.CONV_LAYOUT, f"{a.data_layout}, {a.kernel_layout}")
    weight, w_scale = _weights(low, call.args[1], 0)
    operand, padding = _conv_input(low, call, _pads(a.padding))
    groups, count = int(a.groups), weight.shape[0]
    # VECTOR, which runs depthwise layers, subtracts the zero point; MATRIX does not.
    depthwise = groups == count == operand.shape[1] and groups > 1
    flat = weight.reshape(count, -1)
    raw_zero, spread = _raw_zero(low, operand, flat.sum(1, dtype=np.int64) * (not depthwise))
    unit = operand.quant.scale * w_scale
    largest = _largest(low, operand, flat)
    r = rescale(low, e, unit, raw_zero, count, (-1, 1, 1), largest, spread, reach_of(operand, flat))
    operator = Conv2d(
        weight.astype(np.int16, copy=False),
        operand.quant.zero_point,
        r,
        _pair(a.strides),
        padding,
        _pair(a.dilation),
        groups,
    )
    low.add(operator, [operand.ref], call.shape, r.dtype)


def conv2d_transpose(low: Lowering, e: Epilogue, call: Apply) -> None:
    """conv2d_transpose -> [affine] -> [PReLU] -> [bounds] -> Q."""
    a = call.attrs
    if a.data_layout != "NCHW" or a.kernel_layout != "IOHW":
        low.reject(refusals.TRANSPOSED_LAYOUT, f"{a.data_layout}, {a.kernel_layout}")
    weight, w_scale = _weights(low, call.args[1], 1)
    operand = low.operand(call.args[0])
    groups, per = int(a.groups), weight.shape[1]
    by_output = (
        weight.reshape(groups, -1, per, *weight.shape[2:]).transpose(0, 2, 1, 3, 4).reshape(groups * per, -1)
    )
    unit = operand.quant.scale * (np.tile(w_scale, groups) if w_scale.size > 1 else w_scale)
    raw_zero, spread = _raw_zero(low, operand, by_output.sum(1, dtype=np.int64))
    # Every phase adds up taps of its own, so no two of them have the same part of zero points.
    spread = spread + np.abs(_raw_zero(low, operand, np.abs(by_output).sum(1, dtype=np.int64))[0])
    largest = _largest(low, operand, by_output)
    reach = reach_of(operand, by_output)
    r = rescale(low, e, unit, raw_zero, groups * per, (-1, 1, 1), largest, spread, reach)
    operator = ConvTranspose2d(
        weight.astype(np.int16, copy=False),
        operand.quant.zero_point,
        r,
        _pair(a.strides),
        _pads(a.padding),
        _pair(a.output_padding),
        _pair(a.dilation),
        groups,
    )
    low.add(operator, [operand.ref], call.shape, r.dtype)


def dense(low: Lowering, e: Epilogue, call: Apply) -> None:
    """matmul with constant weights (Gemm, MatMul) -> [affine] -> [PReLU] -> [bounds] -> Q."""
    operand = low.operand(call.args[0])
    if len(operand.shape) != 2 or operand.shape[0] != 1 or len(call.args[1].shape) != 2:
        low.reject(refusals.MATRIX_PRODUCT, f"{list(operand.shape)} times {list(call.args[1].shape)}")
    weight, w_scale = _weights(low, call.args[1], 1)
    weight = weight.T
    unit = operand.quant.scale * w_scale
    raw_zero, spread = _raw_zero(low, operand, weight.sum(1, dtype=np.int64))
    largest = _largest(low, operand, weight)
    reach = reach_of(operand, weight)
    r = rescale(low, e, unit, raw_zero, weight.shape[0], (-1,), largest, spread, reach)
    low.add(
        Dense(weight.astype(np.int16, copy=False), operand.quant.zero_point, r),
        [operand.ref],
        call.shape,
        r.dtype,
    )


def _counts(size: int, out: int, kernel: int, stride: int, before: int, after: int, include: bool) -> I64:
    """Elements that each window of one axis divides by."""
    start = np.arange(out) * stride - before
    end = np.minimum(start + kernel, size + after)
    if include:
        return np.asarray(end - start, np.int64)
    return np.asarray(np.minimum(end, size) - np.maximum(start, 0), np.int64)


def average_pool(low: Lowering, e: Epilogue, call: Apply) -> None:
    """avg_pool2d, mean over H and W -> [factor] -> [bounds] -> Q."""
    operand = low.operand(call.args[0])
    if len(operand.shape) != 4:
        low.reject(refusals.AVERAGE_RANK, f"a tensor of shape {list(operand.shape)}")
    height, width = operand.shape[2:]
    kernel, strides, padding, include = (height, width), (1, 1), (0, 0, 0, 0), True
    if call.op == "nn.avg_pool2d":
        a = call.attrs
        kernel, strides, padding = _pair(a.pool_size), _pair(a.strides), _pads(a.padding)
        include = bool(a.count_include_pad)
        if a.layout != "NCHW" or any(int(d) != 1 for d in a.dilation):
            low.reject(refusals.AVERAGE_LAYOUT, f"{a.layout}, dilation {list(a.dilation)}")
    elif call.op == "mean":
        axes = sorted(int(v) % 4 for v in call.attrs.axis) if call.attrs.axis is not None else []
        if axes != [2, 3]:
            low.reject(refusals.MEAN_AXES, f"axes {axes}")
    elif [int(v) for v in call.attrs.output_size] != [1, 1]:
        low.reject(refusals.ADAPTIVE, f"{list(call.attrs.output_size)}")
    if not e.is_scalar or e.slope is not None:
        low.reject(refusals.AVERAGE_EPILOGUE, "one number a channel")
    out = (call.shape[2], call.shape[3]) if len(call.shape) == 4 else (1, 1)
    counts = [
        _counts(n, o, k, s, b, f, include)
        for n, o, k, s, b, f in zip(
            (height, width), out, kernel, strides, padding[:2], padding[2:], strict=True
        )
    ]
    divisor = np.outer(counts[0], counts[1])
    if np.any(divisor < 1):
        low.reject(refusals.AVERAGE_WINDOW, f"{int(divisor.min())} elements")
    # A window that ends beyond the padding needs more of it; the sum does not change.
    ends = [
        max((o - 1) * s + k - n - b, 0)
        for n, o, k, s, b in zip((height, width), out, kernel, strides, padding[:2], strict=True)
    ]
    unit = operand.quant.scale / divisor.reshape(-1)
    same = bool(np.all(divisor == divisor[0, 0]))
    shape = (1, 1, 1) if same else (1, *out)
    taps = np.full((1 if same else unit.size, 1), kernel[0] * kernel[1])
    reach = reach_of(operand, taps)
    largest = np.maximum(-reach[0], reach[1])
    r = rescale(low, e, unit[:1] if same else unit, 0, len(taps), shape, largest, reach=reach)
    pads = (padding[0], padding[1], ends[0], ends[1])
    pool = SumPool2d(kernel, operand.quant.zero_point, r, strides, pads)
    ref = low.add(pool, [operand.ref], (1, operand.shape[1], *out), r.dtype)
    low.reshape_to(ref, call.shape)


def affine(low: Lowering, e: Epilogue) -> None:
    """A factor, offset or slope for each channel: a depthwise 1x1 convolution with one weight."""
    operand = low.operand(e.base)
    if len(operand.shape) != 4:
        low.reject(refusals.AFFINE_RANK, f"a tensor of shape {list(operand.shape)}")
    channels = operand.shape[1]
    weight = np.full((channels, 1, 1, 1), AFFINE_WEIGHT, np.int16)
    unit = np.asarray([operand.quant.scale / AFFINE_WEIGHT])
    reach = reach_of(operand, weight.reshape(channels, 1).astype(np.int64))
    r = rescale(low, e, unit, 0, channels, (-1, 1, 1), reach=reach)
    operator = Conv2d(weight, operand.quant.zero_point, r, groups=channels)
    low.add(operator, [operand.ref], operand.shape, r.dtype)
