"""The table of matchers, and `lower`: cone -> operators, or the reason why not."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import partial

from tilewright.integer.ops import Layout, LayoutStep
from tilewright.integer.predicate import Reject, Rejected
from tilewright.relay_passes import refusals
from tilewright.relay_passes.float_ops import ELEMENTWISE
from tilewright.relay_passes.match import pairs, sums
from tilewright.relay_passes.match.epilogue import Epilogue, epilogue_base, read_epilogue, split
from tilewright.relay_passes.match.lowering import (
    LAYOUTS,
    Lowering,
    Widths,
    element_function,
    identity,
    layout_steps,
    sign,
)
from tilewright.relay_passes.match.rounding import bound, rounded, take_rounding
from tilewright.relay_passes.match.shift import write_shift
from tilewright.relay_passes.values import Apply, Cone, Const, Value, foreign
from tilewright.targets.storage import Range

MATCHERS: dict[str, Callable[[Lowering, Epilogue, Apply], None]] = {
    "nn.conv2d": sums.conv2d,
    "nn.conv2d_transpose": sums.conv2d_transpose,
    "matmul": sums.dense,
    "nn.avg_pool2d": sums.average_pool,
    "nn.adaptive_avg_pool2d": sums.average_pool,
    "mean": sums.average_pool,
    "add": pairs.add,
    "subtract": pairs.add,
    "multiply": pairs.multiply,
}
"""Base operator of a cone -> the matcher that writes its operator."""


_OUTER = frozenset({*LAYOUTS, "shift"} - {"concat", "nn.pad", "item"})
"""Operators of one tensor that rounding commutes with."""


_OTHERS = ("split", "nn.max_pool2d", "nn.batch_norm", "quantize", "dequantize")


def known_operators() -> set[str]:
    """Operators of Relax that some cone may hold."""
    return {*MATCHERS, *LAYOUTS, *ELEMENTWISE, *_OTHERS}


def is_known(op: str) -> bool:
    """Whether some cone may hold an operator of Relax."""
    return op in known_operators()


def anchor(value: Value) -> str:
    """Variable of the operator that gives a cone its name: the one below factors, offsets, slopes and bounds."""
    name = ""
    while isinstance(value, Apply):
        name = value.name
        if value.op in MATCHERS and sum(not isinstance(a, Const) for a in value.args) > 1:
            break
        if value.op in ("nn.conv2d", "nn.conv2d_transpose", "matmul", "nn.max_pool2d", "shift", "concat"):
            break
        value = next((a for a in value.args if not isinstance(a, Const)), value.args[0])
    return name


def _write(low: Lowering) -> None:
    cone = low.cone
    bad = foreign(cone.value)
    if bad is not None:
        low.reject(refusals.ALL_OPERANDS, bad.why, remedy=bad.remedy, layer=low.source(bad.name) or "one")
    if isinstance(cone.value, Const):
        low.reject(refusals.CONSTANT, "a constant")
    post = sign if cone.step == 2 else identity
    if element_function(cone.value) is not None:
        low.move(cone.value, post, cone.quant)
        return
    top, steps = _peel(cone.value)
    rounding, inner = take_rounding(low, top)
    value, outer = _peel(_layouts_last(inner))
    outer += steps
    base, plain = epilogue_base(value)
    if isinstance(base, Apply) and base.op in MATCHERS:
        if rounding:
            low.rounding, low.bound = rounding, partial(bound, rounding=rounding)
        MATCHERS[base.op](low, read_epilogue(low, value), base)
        _round(low, rounding)
        _write_outer(low, outer)
        return
    if rounding:
        low.move(cone.value, post, cone.quant)
        return
    if isinstance(base, Apply) and base.op not in LAYOUTS and base.op not in ("nn.max_pool2d", "shift"):
        low.reject(refusals.OPERATOR, base.op)
    if plain:
        low.move(cone.value, post, cone.quant)
    else:
        sums.affine(low, read_epilogue(low, value))
        _write_outer(low, outer)


def _round(low: Lowering, rounding: str) -> None:
    """Let the operator that was written last but for changes of layout round as the cone does."""
    if not rounding:
        return
    last = max(i for i, draft in enumerate(low.drafts) if hasattr(draft.operator, "rescale"))
    draft = low.drafts[last]
    operator = replace(draft.operator, rescale=rounded(low, draft.operator.rescale, rounding))  # type: ignore
    low.drafts[last] = replace(draft, operator=operator)


_STAYING = frozenset({"concat", "nn.pad", "item"})
"""Layouts of several tensors, of a tuple or with values of their own: they do not commute with every function."""


def _layouts_last(value: Value) -> Value:
    """Bring changes of layout of a sum behind the functions of one element that follow them."""
    chain: list[Apply] = []
    inner, above = value, 0
    while isinstance(inner, Apply):
        if inner.op in LAYOUTS and inner.op not in _STAYING:
            above = len(chain)
            below: Value = inner.args[0]
        else:
            parts = split(inner)
            if parts is None or inner.shape != parts[0].shape:
                break
            below = parts[0]
        chain.append(inner)
        inner = below
    moved = chain[:above]
    if not isinstance(inner, Apply) or inner.op not in MATCHERS or not moved:
        return value
    if any(
        isinstance(a, Const) and not a.is_scalar
        for call in moved
        if call.op not in LAYOUTS
        for a in call.args
    ):
        return value
    functions = [call for call in chain if call.op not in LAYOUTS]
    result: Value = inner
    for call in reversed(functions):
        args = tuple(a if isinstance(a, Const) else result for a in call.args)
        result = replace(call, args=args, shape=inner.shape)
    for call in reversed([call for call in chain if call.op in LAYOUTS]):
        result = replace(call, args=(result, *call.args[1:]))
    return result


def _peel(value: Value) -> tuple[Value, list[Apply]]:
    """Take changes of layout and shifts off the top, innermost first: they may follow the rounding as well."""
    outer: list[Apply] = []
    while isinstance(value, Apply) and value.op in _OUTER:
        if value.op != "shift" and isinstance(layout_steps(value), str):
            break
        outer.insert(0, value)
        value = value.args[0]
    return value, outer


def _write_outer(low: Lowering, outer: list[Apply]) -> None:
    """Append layouts and shifts, the innermost first, that follow the operator written last."""
    steps: list[LayoutStep] = []
    dtype = low.cone.quant.dtype
    for i, value in enumerate(outer):
        last = len(low.drafts) - 1
        if value.op == "shift":
            write_shift(low, value, last, identity, low.cone.quant, exact=False)
            continue
        found = layout_steps(value)
        assert not isinstance(found, str)
        steps += found
        if i + 1 == len(outer) or outer[i + 1].op == "shift":
            low.add(Layout(tuple(steps)), [last], value.shape, dtype)
            steps = []


def lower(
    cone: Cone, layer: str, widths: Widths, names: Mapping[str, str], ranges: Mapping[str, Range]
) -> Lowering | Reject:
    """Write a cone's operators. `layer` is its source layer; `names` that of each variable, `ranges` its values."""
    low = Lowering(cone, layer, widths, names, ranges)
    try:
        _write(low)
    except Rejected as no:
        return no.reject
    return low
