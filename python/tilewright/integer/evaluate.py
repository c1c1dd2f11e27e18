"""The operators in NumPy: what `emit`'s bodies are tested against, and a quick way to run single layers."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import fields, is_dataclass

import numpy as np
from numpy.lib.stride_tricks import sliding_window_view

from tilewright.integer.ops import (
    I64,
    Add,
    Array,
    Conv2d,
    ConvTranspose2d,
    Dense,
    Layout,
    MaxPool2d,
    Multiply,
    Operator,
    Pads,
    Pair,
    Rescale,
    Shift,
    SumPool2d,
    Table,
    storage_offset,
)
from tilewright.targets.arithmetic import rne


def rescale(acc: I64, r: Rescale) -> Array:
    """Requantise sums. Shapes: `acc` (1, C, H, W) or (1, N) -> the same."""
    p = acc * r.m + r.b
    if r.m_neg is not None and r.b_neg is not None:
        p = np.where(p < (np.int64(r.zero_point) << r.s), acc * r.m_neg + r.b_neg, p)
    return np.clip(rne(p, r.s), r.lo, r.hi).astype(r.dtype)


def windows(x: I64, kernel: Pair, strides: Pair, padding: Pads, dilation: Pair, fill: int = 0) -> I64:
    """All windows of a map. Shapes: (1, C, H, W) -> (C, OH, OW, KH, KW)."""
    top, left, bottom, right = padding
    x = np.pad(x[0], ((0, 0), (top, bottom), (left, right)), constant_values=fill)
    span = tuple(d * (k - 1) + 1 for d, k in zip(dilation, kernel, strict=True))
    view = sliding_window_view(x, span, axis=(1, 2))
    return view[:, :: strides[0], :: strides[1], :: dilation[0], :: dilation[1]]


def _convolve(x: I64, w: I64, strides: Pair, padding: Pads, dilation: Pair, groups: int) -> I64:
    """float64 holds all sums below 2^53 exactly, and its matrix product is much faster than int64's."""
    view = windows(x, (w.shape[2], w.shape[3]), strides, padding, dilation)
    channels, oh, ow = view.shape[:3]
    cols = view.reshape(groups, channels // groups, oh, ow, -1).transpose(0, 2, 3, 1, 4)
    cols = cols.reshape(groups, oh * ow, -1).astype(np.float64)
    sums = cols @ w.reshape(groups, w.shape[0] // groups, -1).astype(np.float64).transpose(0, 2, 1)
    return sums.transpose(0, 2, 1).reshape(1, w.shape[0], oh, ow).astype(np.int64)


def _conv2d(op: Operator, xs: Sequence[I64]) -> Array:
    assert isinstance(op, Conv2d)
    x = xs[0] - op.zero_point
    acc = _convolve(x, op.weight.astype(np.int64), op.strides, op.padding, op.dilation, op.groups)
    return rescale(acc, op.rescale)


def _conv2d_transpose(op: Operator, xs: Sequence[I64]) -> Array:
    """A convolution of the map with zeros between its elements, the kernel turned."""
    assert isinstance(op, ConvTranspose2d)
    x = xs[0] - op.zero_point
    _, channels, height, width = x.shape
    (sy, sx), (dy, dx), g = op.strides, op.dilation, op.groups
    spread = np.zeros((1, channels, (height - 1) * sy + 1, (width - 1) * sx + 1), np.int64)
    spread[:, :, ::sy, ::sx] = x
    _, per, kh, kw = op.weight.shape
    w = op.weight.astype(np.int64).reshape(g, channels // g, per, kh, kw).transpose(0, 2, 1, 3, 4)
    w = w.reshape(g * per, channels // g, kh, kw)[:, :, ::-1, ::-1]
    top, left, bottom, right = op.padding
    full: Pads = (
        dy * (kh - 1),
        dx * (kw - 1),
        dy * (kh - 1) + op.output_padding[0],
        dx * (kw - 1) + op.output_padding[1],
    )
    acc = _convolve(spread, w, (1, 1), full, op.dilation, g)
    return rescale(acc[:, :, top : acc.shape[2] - bottom, left : acc.shape[3] - right], op.rescale)


def _dense(op: Operator, xs: Sequence[I64]) -> Array:
    assert isinstance(op, Dense)
    return rescale((xs[0] - op.zero_point) @ op.weight.astype(np.int64).T, op.rescale)


def _max_pool2d(op: Operator, xs: Sequence[I64]) -> Array:
    assert isinstance(op, MaxPool2d)
    view = windows(xs[0], op.kernel, op.strides, op.padding, op.dilation, -(1 << 31))
    return np.asarray(view.max(axis=(3, 4))[None])


def _sum_pool2d(op: Operator, xs: Sequence[I64]) -> Array:
    assert isinstance(op, SumPool2d)
    view = windows(xs[0] - op.zero_point, op.kernel, op.strides, op.padding, (1, 1))
    return rescale(view.sum(axis=(3, 4))[None], op.rescale)


def _add(op: Operator, xs: Sequence[I64]) -> Array:
    assert isinstance(op, Add)
    r = op.rescale
    p = (xs[0] - op.zero_point_a) * r.m + (xs[1] - op.zero_point_b) * op.m2 + r.b
    return np.clip(rne(p, r.s), r.lo, r.hi).astype(r.dtype)


def _multiply(op: Operator, xs: Sequence[I64]) -> Array:
    assert isinstance(op, Multiply)
    return rescale((xs[0] - op.zero_point_a) * (xs[1] - op.zero_point_b), op.rescale)


def _shift(op: Operator, xs: Sequence[I64]) -> Array:
    assert isinstance(op, Shift)
    (x,) = xs
    rows, columns = (
        np.arange(n) * s + op.displacement[:, axis, None]
        for axis, (n, s) in enumerate(zip(op.size, op.strides, strict=True))
    )
    inside = ((rows >= 0) & (rows < x.shape[2]))[:, :, None] & ((columns >= 0) & (columns < x.shape[3]))[
        :, None
    ]
    rows, columns = np.clip(rows, 0, x.shape[2] - 1), np.clip(columns, 0, x.shape[3] - 1)
    picked = x[0, np.arange(x.shape[1])[:, None, None], rows[:, :, None], columns[:, None]]
    return np.asarray(np.where(inside, picked, op.zero_point)[None])


_KERNELS: dict[type[Operator], Callable[[Operator, Sequence[I64]], Array]] = {
    Conv2d: _conv2d,
    ConvTranspose2d: _conv2d_transpose,
    Dense: _dense,
    MaxPool2d: _max_pool2d,
    SumPool2d: _sum_pool2d,
    Add: _add,
    Multiply: _multiply,
    Shift: _shift,
}


def evaluate(op: Operator, arrays: Sequence[Array]) -> Array:
    """Run one operator on int8 or uint8 arrays with their batch axis."""
    if isinstance(op, Layout):
        return op.apply(arrays)
    if isinstance(op, Table):
        x = arrays[0]
        return np.asarray(op.table[x.astype(np.int64) + storage_offset(str(x.dtype))], op.dtype)
    result = _KERNELS[type(op)](op, [a.astype(np.int64) for a in arrays])
    return result.astype(arrays[0].dtype) if isinstance(op, MaxPool2d | Shift) else result


def same(a: object, b: object) -> bool:
    """Equality of operators, field by field; arrays must agree in shape and values."""
    if type(a) is not type(b):
        return False
    if isinstance(a, np.ndarray) and isinstance(b, np.ndarray):
        return a.shape == b.shape and bool(np.array_equal(a, b))
    if is_dataclass(a):
        return all(same(getattr(a, f.name), getattr(b, f.name)) for f in fields(a))
    return a == b
