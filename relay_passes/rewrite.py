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
    return _function(function, [relax.DataflowBlock(list(bindings))], function.body.body)


def with_same_blocks(function: relax.Function, bindings: Sequence[relax.VarBinding]) -> relax.Function:
    """The function with as many other bindings in the blocks that it has."""
    rest = iter(bindings)
    blocks = [type(block)([next(rest) for _ in block.bindings]) for block in function.body.blocks]
    return _function(function, blocks, function.body.body)


def _function(
    function: relax.Function, blocks: Sequence[relax.BindingBlock], end: relax.Expr
) -> relax.Function:
    body = relax.SeqExpr(list(blocks), end)
    relax.expr._update_type(body, function.body.ty)
    return relax.Function(function.params, body, function.ret_ty, function.is_pure, function.attrs)


def substituted(expr: relax.Expr, new: dict[int, relax.Var]) -> relax.Expr:
    """An expression in normal form with other variables; `new` by the variable's hash, which is its identity."""
    if isinstance(expr, relax.Var):
        return new.get(hash(expr), expr)
    if isinstance(expr, relax.Tuple):
        return relax.Tuple([substituted(f, new) for f in expr.fields])
    if isinstance(expr, relax.TupleGetItem):
        return relax.TupleGetItem(substituted(expr.tuple_value, new), expr.index)
    if isinstance(expr, relax.Call):
        args = [substituted(a, new) for a in expr.args]
        return relax.Call(expr.op, args, expr.attrs, expr.ty_args, ret_ty=expr.ty)
    return expr


def with_unique_names(function: relax.Function) -> relax.Function:
    """The function with variables renamed whose names are taken: TVM's passes and inlining repeat names.

    Calls of functions leave a name to others: TVM made theirs up, and what is known of a source goes by name.
    """

    def is_call(binding: relax.VarBinding) -> bool:
        return isinstance(binding.value, relax.Call) and isinstance(binding.value.op, GlobalVar)

    kept = {b.var.name for b in bindings_of(function) if not is_call(b)}
    taken = {p.name for p in function.params}
    new: dict[int, relax.Var] = {}
    blocks = []
    for block in function.body.blocks:
        bindings = []
        for binding in block.bindings:
            value = substituted(binding.value, new) if new else binding.value
            name = unique_name(binding.var.name, taken | kept if is_call(binding) else taken)
            taken.add(name)
            var = binding.var
            if name != var.name:
                var = type(var)(name, var.ty)
                new[hash(binding.var)] = var
            bindings.append(relax.VarBinding(var, value))
        blocks.append(type(block)(bindings))
    end = substituted(function.body.body, new)
    return _function(function, blocks, end)


def calls_extern(value: relax.Expr) -> bool:
    """Whether an expression calls a packed function by its name."""
    return isinstance(value, relax.Call) and any(isinstance(a, relax.ExternFunc) for a in value.args)


def behind_extern(function: relax.Function) -> set[str]:
    """Variables that a call of a packed function or a shape found at run time gives, or that depend on one."""
    found: set[str] = set()
    for binding in bindings_of(function):
        opaque = isinstance(binding, relax.MatchCast) or calls_extern(binding.value)
        if opaque or found & used(binding.value):
            found.add(binding.var.name)
    return found


def cut_tail(function: relax.Function, tail: set[str]) -> tuple[relax.Function, list[relax.VarBinding]]:
    """Take bindings off the end: the function of the rest, which gives all that they and the result need."""
    bindings = bindings_of(function)
    rest = [b for b in bindings if b.var.name not in tail]
    last = [b for b in bindings if b.var.name in tail]
    needed = used(function.body.body).union(*(used(b.value) for b in last))
    outs = [b.var for b in rest if b.var.name in needed]
    exports = [relax.Var(f"{v.name}_out", v.ty) for v in outs]
    end = relax.Tuple(exports)
    block = relax.DataflowBlock(
        [*rest, *(relax.VarBinding(e, v) for e, v in zip(exports, outs, strict=True))]
    )
    body = relax.SeqExpr([block], end)
    relax.expr._update_type(body, end.ty)
    return relax.Function(function.params, body, end.ty, function.is_pure, function.attrs), last


def join_tail(
    head: relax.Function, function: relax.Function, tail: set[str], last: Sequence[relax.VarBinding]
) -> relax.Function:
    """Put the bindings that `cut_tail` took from `function` behind its rewritten rest."""
    needed = used(function.body.body).union(*(used(b.value) for b in last))
    outs = [b.var for b in bindings_of(function) if b.var.name not in tail and b.var.name in needed]
    end = head.body.body
    known = {hash(b.var): b.value for b in bindings_of(head)}
    while isinstance(end, relax.Var):
        end = known[hash(end)]
    new = {hash(old): field for old, field in zip(outs, end.fields, strict=True)}
    block = relax.DataflowBlock([relax.VarBinding(b.var, substituted(b.value, new)) for b in last])
    body = relax.SeqExpr([*head.body.blocks, block], substituted(function.body.body, new))
    relax.expr._update_type(body, function.body.ty)
    return relax.Function(head.params, body, function.ret_ty, function.is_pure, function.attrs)


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
