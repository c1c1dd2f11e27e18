"""Composite calls -> regions: as few as the graph allows.

1. Composites that the code generator cannot take (`codegen/legal.py`) and flattens that not only dense layers read go
   to the host, as plain integer operators; the reason goes into the placement.
2. Layouts whose results only the host reads go there too: moving data is not worth a round trip.
3. `MergeCompositeFunctions` makes regions, which are named tilewright_0.. in the order of `main`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass

from tvm import relax
from tvm.ir import GlobalVar, IRModule

from tilewright.codegen.graph import Node
from tilewright.codegen.legal import check
from tilewright.codegen.lift import node as lift_node
from tilewright.frontend.relax_import import Sources
from tilewright.integer.emit import LAYER
from tilewright.integer.parse import kind_of
from tilewright.integer.predicate import Reject, Verdict
from tilewright.relay_passes import refusals
from tilewright.relay_passes.placement import Placement
from tilewright.relay_passes.rewrite import (
    behind_extern,
    bindings_of,
    cut_tail,
    finish,
    join_tail,
    substituted,
    symbol_of,
    unique_name,
    used,
    with_same_blocks,
    with_unique_names,
)
from tilewright.relay_passes.values import ACTIVATION_TYPES
from tilewright.targets.config import Overlay

CODEGEN = "tilewright"
Check = Callable[[Node], Verdict]


def composite_calls(module: IRModule) -> Iterator[tuple[relax.VarBinding, relax.Function]]:
    """Bindings of `main` that call composites, in order, with the composites."""
    for binding in bindings_of(module["main"]):
        call = binding.value
        if isinstance(call, relax.Call) and isinstance(call.op, GlobalVar):
            function = module[call.op]
            if kind_of(function):
                yield binding, function


def _uses(module: IRModule) -> dict[str, list[str]]:
    """For each variable of `main` the variables that read it; "" stands for the result."""
    main = module["main"]
    uses: dict[str, list[str]] = {}
    for binding in bindings_of(main):
        for name in used(binding.value):
            uses.setdefault(name, []).append(binding.var.name)
    for name in used(main.body.body):
        uses.setdefault(name, []).append("")
    return uses


def find_evictions(module: IRModule, verdict: Check) -> dict[str, Reject]:
    """Composite results that go to the host, by variable, with the reason."""
    uses = _uses(module)
    tail = behind_extern(module["main"])
    nodes: dict[str, Node] = {}
    evicted: dict[str, Reject] = {}
    for binding, function in composite_calls(module):
        node = lift_node(binding.var, list(binding.value.args), function)
        nodes[binding.var.name] = node
        behind = binding.var.name in tail
        answer = refusals.BEHIND_HOST.reject("one that does", node.name) if behind else verdict(node)
        if isinstance(answer, Reject):
            evicted[binding.var.name] = answer
    changed = True
    while changed:
        changed = False
        for name, node in reversed(nodes.items()):
            if name in evicted or node.operator.kind != "layout":
                continue
            readers = [nodes[u] for u in uses.get(name, []) if u in nodes and u not in evicted]
            fed = all(t.name in nodes and t.name not in evicted for t in node.inputs)
            reason = _layout_reason(node, readers, len(readers) == len(uses.get(name, [])), fed)
            if reason is not None:
                evicted[name] = reason
                changed = True
    return evicted


def _is_flatten(node: Node) -> bool:
    """Whether a layout makes a vector of a map, which mixes channels and positions."""
    (first, *others) = node.inputs
    return len(node.output.shape) == 2 and any(max(t.shape[2:], default=1) > 1 for t in (first, *others))


def _layout_reason(node: Node, readers: list[Node], all_accelerated: bool, fed: bool) -> Reject | None:
    """`fed`: whether all its operands come from layers on the accelerator."""
    if not readers and not fed:
        return refusals.LONE_LAYOUT.reject("only the host does", node.name)
    if _is_flatten(node) and not (all_accelerated and all(r.operator.kind == "dense" for r in readers)):
        kinds = sorted({r.operator.kind for r in readers if r.operator.kind != "dense"}) or ["the host"]
        return refusals.FLATTENED.reject(f"a reader of kind {', '.join(kinds)}", node.name)
    return None


def _inlined(binding: relax.VarBinding, function: relax.Function, taken: set[str]) -> list[relax.VarBinding]:
    """The bindings of a composite's body in place of its call, with names of their own."""
    call = binding.value
    body = function.bind_params(dict(zip(function.params, call.args, strict=True)))
    result = body.body.body
    new: dict[int, relax.Var] = {}
    bindings = []
    for inner in bindings_of(body):
        var = binding.var
        if not inner.var.same_as(result):
            # Names of the body are those that TVM makes up, again and again.
            name = unique_name(f"{binding.var.name}_{inner.var.name}", taken)
            var = type(inner.var)(name, inner.var.ty)
            new[hash(inner.var)] = var
        bindings.append(relax.VarBinding(var, substituted(inner.value, new)))
    return bindings


def _to_host(module: IRModule, evicted: Mapping[str, Reject]) -> IRModule:
    """Write evicted operators out in `main` as plain integer operators."""
    if not evicted:
        return module
    main = module["main"]
    placement, sources = Placement.of(main), Sources.of(main)
    placement.evicted.update(evicted)
    nodes = _nodes_of_layers(placement, sources)
    taken = {b.var.name for b in bindings_of(main)} | set(sources.node_of)
    bindings: list[relax.VarBinding] = []
    for binding in bindings_of(main):
        if binding.var.name not in evicted:
            bindings.append(binding)
            continue
        function = module[binding.value.op]
        inlined = _inlined(binding, function, taken)
        bindings.extend(inlined)
        layer = str(function.attrs[LAYER])  # a part of a layer is LAYER:PART
        node = nodes.get(layer, nodes.get(layer.rpartition(":")[0]))
        if node is not None:
            sources.node_of.update({b.var.name: node for b in inlined})
    main = sources.put(placement.put(main))
    return finish(module, dict(module.functions.items()), main, bindings)


def _nodes_of_layers(placement: Placement, sources: Sources) -> dict[str, int]:
    """Node of each accelerated layer: that of its name, else the last of its cone that is known."""
    named = {node.name: i for i, node in enumerate(sources.nodes)}
    found: dict[str, int] = {}
    for root, row in placement.accelerated.items():
        known = [sources.node_of[v] for v in (root, *row.members) if v in sources.node_of]
        node = named.get(row.layer, known[-1] if known else None)
        if node is not None:
            found[row.layer] = node
    return found


def _merged(module: IRModule) -> IRModule:
    """`MergeCompositeFunctions`, which cannot visit calls of packed functions: they are cut off meanwhile."""
    main = module["main"]
    tail = behind_extern(main)
    if not tail:
        return relax.transform.MergeCompositeFunctions()(module)
    head, last = cut_tail(main, tail)
    functions = {gv: f for gv, f in module.functions.items() if gv.name_hint != "main"}
    merged = relax.transform.MergeCompositeFunctions()(IRModule({**functions, GlobalVar("main"): head}))
    functions = {gv: f for gv, f in merged.functions.items() if gv.name_hint != "main"}
    joined = join_tail(merged["main"], main, tail, last)
    return IRModule({**functions, GlobalVar("main"): joined}, attrs=module.attrs)


def _named(module: IRModule) -> IRModule:
    """Give regions the names tilewright_0.. in the order in which `main` calls them."""
    order: dict[str, str] = {}
    for binding in bindings_of(module["main"]):
        call = binding.value
        if isinstance(call, relax.Call) and isinstance(call.op, GlobalVar) and is_region(module[call.op]):
            order.setdefault(call.op.name_hint, f"{CODEGEN}_{len(order)}")
    if not order:
        return module
    functions: dict[GlobalVar, relax.Function] = {}
    symbols: dict[str, GlobalVar] = {}
    for gv, function in module.functions.items():
        if gv.name_hint in order:
            symbol = symbol_of(order[gv.name_hint], function)
            symbols[gv.name_hint] = symbol
            functions[symbol] = function.with_attr("global_symbol", symbol.name_hint)
        else:
            functions[gv] = function
    main = next(gv for gv in functions if gv.name_hint == "main")
    bindings = []
    for binding in bindings_of(functions[main]):
        call = binding.value
        if isinstance(call, relax.Call) and isinstance(call.op, GlobalVar) and call.op.name_hint in symbols:
            call = relax.Call(symbols[call.op.name_hint], call.args, ret_ty=call.ty)
            binding = relax.VarBinding(binding.var, call)
        bindings.append(binding)
    functions[main] = with_same_blocks(functions[main], bindings)
    return IRModule(functions, attrs=module.attrs)


def is_region(function: object) -> bool:
    """Whether a function is an accelerator region."""
    return (
        isinstance(function, relax.Function)
        and function.attrs is not None
        and "Codegen" in function.attrs
        and str(function.attrs["Codegen"]) == CODEGEN
    )


def assert_integer(module: IRModule) -> None:
    """Assert that no region has a float operand or result: the passes' own invariant."""
    for symbol, function in module.functions.items():
        if not is_region(function):
            continue
        fields = [p.ty for p in function.params]
        result = function.ret_ty
        fields += list(result.fields) if isinstance(result, relax.TupleType) else [result]
        for ty in fields:
            assert str(ty.dtype) in ACTIVATION_TYPES, f"{symbol.name_hint} has a {ty.dtype} operand or result"


@dataclass(frozen=True)
class Partition:
    """The pass; `overlay` decides what the code generator can take."""

    name = "partition"
    takes = "integer"
    gives = "regions"
    overlay: Overlay

    def __call__(self, module: IRModule, evicted: Mapping[str, Reject] | None = None) -> IRModule:
        """Make regions of the composites in `main`; `evicted` where it was found already."""
        if evicted is None:
            evicted = find_evictions(module, lambda node: check(node, self.overlay))
        module = _to_host(module, evicted)
        module = _named(_merged(module))
        module["main"] = with_unique_names(module["main"])
        assert_integer(module)
        return module
