"""Small tools for rewriting a function's bindings."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from tvm import relax
from tvm.ir import GlobalVar, IRModule


def unique_name(name: str, taken: set[str]) -> str:
    """`name`, or `name_1`.. where taken; the answer is added to `taken`."""
    found, i = name, 0
    while found in taken:
        i += 1
        found = f"{name}_{i}"
    taken.add(found)
    return found


def call_of(symbol: GlobalVar, args: Sequence[relax.Expr], body: relax.Function) -> relax.Call:
    """A call with its type set."""
    return relax.Call(symbol, list(args), ret_ty=body.ret_ty)


def symbol_of(name: str, function: relax.Function) -> GlobalVar:
    """A symbol for a function, with its type set."""
    symbol = GlobalVar(name)
    relax.expr._update_type(symbol, function.ty)
    return symbol


def used(value: Any) -> set[str]:
    """Names of the variables that an expression uses."""
    return {v.name for v in relax.analysis.free_vars(value)}


def bindings_of(function: relax.Function) -> list[relax.VarBinding]:
    """All bindings of a function in order."""
    return [b for block in function.body.blocks for b in block.bindings]


def live_bindings(function: relax.Function, bindings: Sequence[relax.VarBinding]) -> list[relax.VarBinding]:
    """Those that the function's result needs, in order."""
    needed = used(function.body.body)
    kept: list[relax.VarBinding] = []
    for binding in reversed(bindings):
        if binding.var.name in needed or not isinstance(binding.var, relax.DataflowVar):
            needed |= used(binding.value)
            kept.append(binding)
    return kept[::-1]


def with_bindings(function: relax.Function, bindings: Sequence[relax.VarBinding]) -> relax.Function:
    """The function with one dataflow block of these bindings."""
    body = relax.SeqExpr([relax.DataflowBlock(list(bindings))], function.body.body)
    relax.expr._update_type(body, function.body.body.ty)
    return relax.Function(function.params, body, function.ret_ty, function.is_pure, function.attrs)


def finish(
    module: IRModule,
    functions: dict[GlobalVar, relax.Function],
    main: relax.Function,
    bindings: Sequence[relax.VarBinding],
) -> IRModule:
    """The module with new bindings in `main`, without what nobody uses, aliases resolved."""
    live = live_bindings(main, bindings)
    called = {
        b.value.op.name_hint
        for b in live
        if isinstance(b.value, relax.Call) and isinstance(b.value.op, GlobalVar)
    }
    kept = {gv: f for gv, f in functions.items() if gv.name_hint in called}
    kept[GlobalVar("main")] = with_bindings(main, live)
    return relax.transform.CanonicalizeBindings()(IRModule(kept, attrs=module.attrs))
