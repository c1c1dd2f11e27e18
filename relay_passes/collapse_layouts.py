"""Layout(Layout(x)) -> one Layout; a Layout that moves nothing disappears.

    t = tilewright.layout(x; reshape); y = tilewright.layout(t; transpose, reshape)  ->  y = tilewright.layout(x; ..)

A channel shuffle comes as three layers, and the code generator judges what the steps amount to. A layout with several
consumers is copied into each: layouts are folded into reads and cost nothing.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from tvm import relax
from tvm.ir import GlobalVar, IRModule

from tilewright.integer.emit import LAYER, emit, ranges_of
from tilewright.integer.ops import Layout, LayoutStep
from tilewright.integer.parse import kind_of, parse
from tilewright.relay_passes.rewrite import bindings_of, call_of, finish, symbol_of
from tilewright.relay_passes.values import dtype_of, static_shape
from tilewright.targets.storage import Range


@dataclass(frozen=True)
class _Known:
    """A layout with its operands, which are no layouts."""

    layout: Layout
    args: tuple[relax.Var, ...]
    ranges: tuple[Range, ...]


def _indices(args: Sequence[relax.Var]) -> list[NDArray[np.int64]]:
    """Each element's number, over all operands."""
    arrays, first = [], 0
    for arg in args:
        shape = static_shape(arg) or ()
        size = int(np.prod(shape))
        arrays.append(np.arange(first, first + size).reshape(shape))
        first += size
    return arrays


def _as_indices(layout: Layout) -> Layout:
    """The same steps with -1 where padding goes."""
    steps = [LayoutStep("pad", (*s.args[:2], (-1,))) if s.kind == "pad" else s for s in layout.steps]
    return Layout(tuple(steps))


def simplified(layout: Layout, args: Sequence[relax.Var]) -> Layout:
    """Fewer steps for the same map; no steps at all if nothing moves."""
    if len(args) == 1:
        (x,) = _indices(args)
        y = _as_indices(layout).apply([x])
        if y.size == x.size and np.array_equal(y.reshape(-1), x.reshape(-1)):
            return Layout(()) if y.shape == x.shape else Layout((LayoutStep("reshape", (y.shape,)),))
    steps: list[LayoutStep] = []
    for step in layout.steps:
        if steps and step.kind == steps[-1].kind == "reshape":
            steps.pop()
        steps.append(step)
    return Layout(tuple(steps))


def _merged(
    layout: Layout, args: Sequence[relax.Var], ranges: Sequence[Range], known: dict[str, _Known]
) -> _Known:
    first = layout.steps[0]
    if first.kind != "concat":
        (x,) = args
        source = known.get(x.name)
        if source is None:
            return _Known(layout, (x,), tuple(ranges))
        return _Known(Layout(source.layout.steps + layout.steps), source.args, source.ranges)
    operands: list[tuple[relax.Var, Range]] = []
    for arg, held in zip(args, ranges, strict=True):
        source = known.get(arg.name)
        if source is not None and source.layout.steps == (first,):
            operands.extend(zip(source.args, source.ranges, strict=True))
        else:
            operands.append((arg, held))
    return _Known(layout, tuple(a for a, _ in operands), tuple(r for _, r in operands))


@dataclass(frozen=True)
class CollapseLayouts:
    """The pass."""

    name = "collapse_layouts"
    takes = "integer"
    gives = "integer"

    def __call__(self, module: IRModule) -> IRModule:
        """Rewrite `main`. Running it twice changes nothing the second time."""
        main = module["main"]
        functions = dict(module.functions.items())
        known: dict[str, _Known] = {}
        bindings: list[relax.VarBinding] = []
        changed = False
        for binding in bindings_of(main):
            call = binding.value
            symbol = call.op if isinstance(call, relax.Call) else None
            if not isinstance(symbol, GlobalVar) or kind_of(functions[symbol]) != "layout":
                bindings.append(binding)
                continue
            layout = parse(functions[symbol])
            assert isinstance(layout, Layout)
            found = _merged(layout, list(call.args), ranges_of(functions[symbol]), known)
            short = simplified(found.layout, found.args)
            if not short.steps:
                bindings.append(relax.VarBinding(binding.var, found.args[0]))
                changed = True
                continue
            known[binding.var.name] = _Known(short, found.args, found.ranges)
            if short != layout or not all(a.same_as(b) for a, b in zip(found.args, call.args, strict=False)):
                layer = str(functions[symbol].attrs[LAYER])
                specs = [(static_shape(a) or (), dtype_of(a)) for a in found.args]
                body = emit(short, specs, layer, found.ranges)
                del functions[symbol]
                symbol = symbol_of(symbol.name_hint, body)
                functions[symbol] = body
                binding = relax.VarBinding(binding.var, call_of(symbol, found.args, body))
                changed = True
            bindings.append(binding)
        if not changed:
            return module
        return finish(module, functions, main, bindings)
