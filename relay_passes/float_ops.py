"""Float semantics of Relax's elementwise and layout operators in NumPy, in float32 as ONNX Runtime computes.

Used to fold constants and to tabulate a function over all 256 values of an 8-bit operand.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from typing import Any, TypeAlias

import numpy as np
from numpy.typing import NDArray

F32: TypeAlias = NDArray[Any]
Attrs: TypeAlias = Any
"""Attributes of a Relax call; each operator has a type of its own."""

_erf = np.vectorize(math.erf, otypes=[np.float32])


def _sigmoid(x: F32) -> F32:
    """By the sign of x, so that exp never overflows."""
    e = np.exp(-np.abs(x))
    return np.asarray(np.where(x >= 0, 1 / (1 + e), e / (1 + e)), x.dtype)


def _unary(f: Callable[[F32], F32]) -> Callable[[Sequence[F32], Attrs], F32]:
    return lambda xs, a: f(xs[0])


def _binary(f: Callable[[F32, F32], F32]) -> Callable[[Sequence[F32], Attrs], F32]:
    return lambda xs, a: f(xs[0], xs[1])


def _leaky(xs: Sequence[F32], a: Attrs) -> F32:
    x = xs[0]
    return np.asarray(np.where(x < 0, x * np.asarray(a.alpha, x.dtype), x))


def _gelu_tanh(x: F32) -> F32:
    inner = np.float32(math.sqrt(2 / math.pi)) * (x + np.float32(0.044715) * x * x * x)
    return np.asarray(np.float32(0.5) * x * (1 + np.tanh(inner)))


ELEMENTWISE: dict[str, Callable[[Sequence[F32], Attrs], F32]] = {
    "add": _binary(np.add),
    "subtract": _binary(np.subtract),
    "multiply": _binary(np.multiply),
    "divide": _binary(np.divide),
    "power": _binary(np.power),
    "maximum": _binary(np.maximum),
    "minimum": _binary(np.minimum),
    "less": _binary(np.less),
    "less_equal": _binary(np.less_equal),
    "greater": _binary(np.greater),
    "greater_equal": _binary(np.greater_equal),
    "equal": _binary(np.equal),
    "where": lambda xs, a: np.where(xs[0], xs[1], xs[2]),
    "astype": lambda xs, a: xs[0].astype(str(a.dtype)),
    "clip": lambda xs, a: np.minimum(np.maximum(xs[0], xs[1]), xs[2]),
    "abs": _unary(np.abs),
    "ceil": _unary(np.ceil),
    "cos": _unary(np.cos),
    "erf": _unary(_erf),
    "exp": _unary(np.exp),
    "floor": _unary(np.floor),
    "log": _unary(np.log),
    "negative": _unary(np.negative),
    "round": _unary(np.rint),
    "rsqrt": _unary(lambda x: 1 / np.sqrt(x)),
    "sigmoid": _unary(_sigmoid),
    "sign": _unary(np.sign),
    "sin": _unary(np.sin),
    "sqrt": _unary(np.sqrt),
    "square": _unary(np.square),
    "tanh": _unary(np.tanh),
    "nn.gelu": _unary(lambda x: np.float32(0.5) * x * (1 + _erf(x * np.float32(math.sqrt(0.5))))),
    "nn.gelu_tanh": _unary(_gelu_tanh),
    "nn.leakyrelu": _leaky,
    "nn.prelu": lambda xs, a: np.where(xs[0] < 0, xs[0] * xs[1].reshape(()), xs[0]),
    "nn.relu": _unary(lambda x: np.maximum(x, np.float32(0))),
    "nn.silu": _unary(lambda x: x * _sigmoid(x)),
}
"""Operators whose result element depends on one element of each operand; a PReLU's slope must be one number."""


def elementwise(op: str, xs: Sequence[F32], attrs: Attrs) -> F32:
    """Evaluate. Infinities and NaN follow IEEE without warnings: quantisation saturates them."""
    with np.errstate(all="ignore"):
        return np.asarray(ELEMENTWISE[op](xs, attrs))


def quantise(x: F32, scale: float, zero_point: int, dtype: str) -> NDArray[np.int64]:
    """QuantizeLinear in float32: divide, round half to even, add the zero point, saturate; NaN becomes zero."""
    info = np.iinfo(dtype)
    with np.errstate(all="ignore"):
        steps = np.rint(np.asarray(x, np.float32) / np.float32(scale)).astype(np.float64) + zero_point
    return np.asarray(np.clip(np.nan_to_num(steps, nan=float(zero_point)), info.min, info.max), np.int64)
