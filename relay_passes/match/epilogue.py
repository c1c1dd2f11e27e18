"""What follows a sum before it is rounded: scale and offset, a slope below zero, bounds.

    y = clip(prelu(base * gain + offset, slope), lo, hi)

Everything else needs a rounding of its own before it.
"""

from __future__ import annotations

from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from tilewright.relay_passes import refusals
from tilewright.relay_passes.match.lowering import Lowering
from tilewright.relay_passes.values import Apply, Const, Value

F64 = NDArray[np.float64]


def _one() -> F64:
    return np.ones(1)


def _zero() -> F64:
    return np.zeros(1)


@dataclass
class Epilogue:
    """The function above; `gain`, `offset`, `slope` have shape (1,) or (channels,)."""

    base: Value
    gain: F64 = field(default_factory=_one)
    offset: F64 = field(default_factory=_zero)
    slope: F64 | None = None
    lo: float = -np.inf
    hi: float = np.inf

    @property
    def bounded(self) -> bool:
        """Whether a bound is set."""
        return self.lo > -np.inf or self.hi < np.inf

    @property
    def is_scalar(self) -> bool:
        """Whether gain and offset are the same for all channels."""
        return self.gain.size == 1 and self.offset.size == 1 and (self.slope is None or self.slope.size == 1)


def per_channel(const: Const, shape: tuple[int, ...]) -> F64 | None:
    """A constant operand as one number a channel, or None where it varies otherwise.

    Shapes: broadcast against `shape`, (1, C, H, W) or (1, K) -> (1,) or (C,).
    """
    real = const_real(const)
    if real.size == 1:
        return real.reshape(1)
    if real.ndim > len(shape) or len(shape) < 2:
        return None
    real = real.reshape((1,) * (len(shape) - real.ndim) + real.shape)
    if real.shape[1] != real.size or real.size != shape[1]:
        return None
    return real.reshape(-1)


def const_real(const: Const) -> F64:
    """Values in float64: a 32-bit bias times its scale loses bits in float32."""
    if const.ints is not None and const.scale is not None:
        return np.asarray(const.ints.astype(np.float64) * const.scale.astype(np.float64))
    return const.real.astype(np.float64)


_AFFINE = frozenset({"add", "subtract", "multiply", "divide", "negative"})
_BOUNDS = frozenset({"nn.relu", "maximum", "minimum", "clip"})
_SLOPES = frozenset({"nn.leakyrelu", "nn.prelu"})


def split(call: Apply) -> tuple[Value, Const | None, bool] | None:
    """The operand of an epilogue's operator, the constant, and whether that comes first; None for other operators."""
    if call.op not in _AFFINE | _BOUNDS | _SLOPES:
        return None
    if len(call.args) == 1:
        return call.args[0], None, False
    if call.op == "clip":
        return call.args[0], None, False
    a, b = call.args[:2]
    if isinstance(b, Const) and not isinstance(a, Const):
        return a, b, False
    if isinstance(a, Const) and not isinstance(b, Const):
        return b, a, True
    return None


def _chain(value: Value) -> tuple[Value, list[tuple[Apply, Const | None, bool]]]:
    chain: list[tuple[Apply, Const | None, bool]] = []
    while isinstance(value, Apply):
        parts = split(value)
        if parts is None:
            break
        chain.append((value, parts[1], parts[2]))
        value = parts[0]
    return value, chain


def epilogue_base(value: Value) -> tuple[Value, bool]:
    """What the epilogue stands on, and whether it is the same for all elements."""
    base, chain = _chain(value)
    return base, all(const is None or const.is_scalar for _, const, _ in chain)


def read_epilogue(low: Lowering, value: Value) -> Epilogue:
    """Take the epilogue off a value."""
    base, chain = _chain(value)
    epilogue = Epilogue(base)
    for call, const, first in reversed(chain):
        _apply(low, epilogue, call, const, first)
    return epilogue


def _numbers(low: Lowering, call: Apply, const: Const | None) -> F64:
    assert const is not None
    numbers = per_channel(const, call.shape)
    if numbers is None:
        low.reject(
            refusals.CHANNEL_CONSTANT, f"shape {list(const.shape)}", layer=low.source(call.name), op=call.op
        )
    return numbers


def _apply(low: Lowering, e: Epilogue, call: Apply, const: Const | None, first: bool) -> None:
    if call.op in _BOUNDS:
        _bound(low, e, call, const)
    elif call.op in _SLOPES:
        if e.slope is not None or e.bounded:
            found = "two" if e.slope is not None else "one after Relu or Clip"
            low.reject(refusals.PRELU_FIRST, found)
        e.slope = np.array([float(call.attrs.alpha)]) if call.op == "nn.leakyrelu" else _prelu(low, call)
    elif call.op in ("add", "subtract"):
        _add(low, e, call, _numbers(low, call, const), first)
    else:
        _scale(low, e, call, const, first)


def _add(low: Lowering, e: Epilogue, call: Apply, numbers: F64, first: bool) -> None:
    if e.slope is not None:
        low.reject(refusals.PRELU_THEN_ADD, call.op)
    if call.op == "subtract" and first:
        _times(low, e, np.array([-1.0]))
    elif call.op == "subtract":
        numbers = -numbers
    if e.bounded and numbers.size > 1:
        low.reject(refusals.BOUND_THEN_ADD, f"{numbers.size} numbers")
    e.offset = e.offset + numbers
    e.lo, e.hi = e.lo + float(numbers[0]), e.hi + float(numbers[0])


def _scale(low: Lowering, e: Epilogue, call: Apply, const: Const | None, first: bool) -> None:
    factor = np.array([-1.0]) if call.op == "negative" else _numbers(low, call, const)
    if call.op == "divide":
        if first:
            low.reject(refusals.DIVISOR, "divide")
        factor = 1 / factor
    _times(low, e, factor)


def _times(low: Lowering, e: Epilogue, factor: F64) -> None:
    """Multiply; a positive factor commutes with PReLU, and with bounds if it scales them; a negative one turns them."""
    turns = e.slope is None and factor.size == 1 and factor[0] < 0
    if (e.slope is not None or e.bounded) and np.any(factor <= 0) and not turns:
        low.reject(refusals.POSITIVE_FACTOR, f"{factor.min():g}")
    if factor.size > 1 and not (e.lo in (0.0, -np.inf) and e.hi == np.inf):
        low.reject(refusals.CLIP_THEN_FACTOR, f"{factor.size} numbers")
    e.gain, e.offset = e.gain * factor, e.offset * factor
    if e.bounded:
        e.lo, e.hi = sorted(b * float(factor[0]) if b else b for b in (e.lo, e.hi))


def _prelu(low: Lowering, call: Apply) -> F64:
    slope = call.args[1]
    axis = int(call.attrs.axis) % len(call.shape)
    if not isinstance(slope, Const) or (slope.real.size > 1 and axis != 1):
        low.reject(refusals.PRELU_CHANNELS, f"axis {axis}")
    return const_real(slope).reshape(-1)


def _bound(low: Lowering, e: Epilogue, call: Apply, const: Const | None) -> None:
    if call.op == "nn.relu":
        bounds = [("maximum", 0.0)]
    elif call.op == "clip":
        lo, hi = (a.real.reshape(()) for a in call.args[1:] if isinstance(a, Const))
        bounds = [("maximum", float(lo)), ("minimum", float(hi))]
    else:
        if const is None or not const.is_scalar:
            low.reject(refusals.ONE_BOUND, f"shape {list(const.shape) if const else []}")
        bounds = [(call.op, float(const.real.reshape(())))]
    for op, bound in bounds:
        pick = max if op == "maximum" else min
        e.lo, e.hi = pick(e.lo, bound), pick(e.hi, bound)
