"""The table of matchers, and `lower`: cone -> operators, or the reason why not."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from tilewright.relay_passes.float_ops import ELEMENTWISE
from tilewright.relay_passes.integer.ops import Layout, LayoutStep
from tilewright.relay_passes.match import pairs, sums
from tilewright.relay_passes.match.epilogue import Epilogue, epilogue_base, read_epilogue
from tilewright.relay_passes.match.lowering import LAYOUTS, Lowering, element_function, identity, layout_steps
from tilewright.relay_passes.match.shift import write_shift
from tilewright.relay_passes.predicate import Reject, Rejected
from tilewright.relay_passes.values import Apply, Cone, Const, Value, foreign

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

KNOWN_OPERATORS = frozenset(
    {*MATCHERS, *LAYOUTS, *ELEMENTWISE, "split", "nn.max_pool2d", "nn.batch_norm", "quantize", "dequantize"}
)
"""Operators of Relax that some cone may hold."""


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
        low.reject(
            f"all operands must be quantised tensors, {low.source(bad.name) or 'one'} is not",
            bad.why,
            "put a QuantizeLinear/DequantizeLinear pair before this layer",
        )
    if isinstance(cone.value, Const):
        low.reject("a tensor must be computed at run time", "a constant")
    if element_function(cone.value) is not None:
        low.move(cone.value, identity, cone.quant)
        return
    value, outer = _peel(cone.value)
    base, plain = epilogue_base(value)
    if isinstance(base, Apply) and base.op in MATCHERS:
        MATCHERS[base.op](low, read_epilogue(low, value), base)
        _write_outer(low, outer)
        return
    if isinstance(base, Apply) and base.op not in LAYOUTS and base.op not in ("nn.max_pool2d", "shift"):
        low.reject(
            "an operator must be one that the integer level has",
            base.op,
        )
    if plain:
        low.move(cone.value, identity, cone.quant)
    else:
        sums.affine(low, read_epilogue(low, value))
        _write_outer(low, outer)


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


def lower(cone: Cone, layer: str, acc_bits: int, names: Mapping[str, str]) -> Lowering | Reject:
    """Write a cone's operators. `layer` is its source layer, `names` that of each variable."""
    low = Lowering(cone, layer, acc_bits, names)
    try:
        _write(low)
    except Rejected as no:
        return no.reject
    return low
