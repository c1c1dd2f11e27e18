"""QuantizeLinear(f(DequantizeLinear(x), ...)) -> one call of an integer composite.

    q = quantize(relu(conv2d(dequantize(x, sx, zx), dequantize(w, sw)) + b), sy, zy)
    ->  q = tilewright.conv2d(x)        m / 2^s = sx*sw/sy,  bias and zero points in b,  ReLU in lo

Each cone between DequantizeLinears and a QuantizeLinear has one rounding, so has the operator. A cone that no matcher
takes keeps its float operators and runs on the host; the reason is kept in the attribute `tilewright.placement`.
Float operators and DequantizeLinears that serve several cones are thereby split.
"""

from __future__ import annotations

from dataclasses import dataclass

from tvm import relax
from tvm.ir import GlobalVar, IRModule

from tilewright.frontend.relax_import import Sources
from tilewright.integer.emit import Spec, emit
from tilewright.integer.evaluate import same
from tilewright.integer.ops import Operator
from tilewright.integer.predicate import Reject
from tilewright.relay_passes.match.lowering import Lowering, Widths
from tilewright.relay_passes.match.table import anchor, lower
from tilewright.relay_passes.placement import Placement
from tilewright.relay_passes.rewrite import call_of, live_bindings, symbol_of, unique_name, with_bindings
from tilewright.relay_passes.values import Cone, Shape, dtype_of, members, read, static_shape


@dataclass(frozen=True)
class QdqToInteger:
    """The pass; `acc_bits` is the width in which sums must be proven to fit, `inp_bits` that of stored values."""

    name = "qdq_to_integer"
    takes = "graph"
    gives = "integer"
    acc_bits: int = 32
    inp_bits: int = 8

    def __call__(self, module: IRModule) -> IRModule:
        """Rewrite `main`. Running it twice changes nothing the second time."""
        function = module["main"]
        values = read(function)
        if not values.cones:
            return module
        sources = Sources.of(function)
        writer = _Writer(module, sources, Placement.of(function))
        names = {v: sources.nodes[i].name for v, i in sources.node_of.items()}
        ranges = {name: cone.held for name, cone in values.cones.items()}
        widths = Widths(self.inp_bits, self.acc_bits)
        lowered: dict[str, Lowering] = {}
        for name, cone in values.cones.items():
            layer = writer.layer(cone)
            result = lower(cone, layer, widths, names, ranges)
            if isinstance(result, Reject):
                writer.placement.refused.update(dict.fromkeys((name, *cone.inner), result))
            else:
                lowered[name] = result
        bindings: list[relax.VarBinding] = []
        for block in function.body.blocks:
            for binding in block.bindings:
                if binding.var.name in lowered:
                    bindings.extend(writer.write(lowered[binding.var.name]))
                else:
                    bindings.append(binding)
        return writer.finish(with_bindings(function, live_bindings(function, bindings)))


class _Writer:
    """Emits composites into a copy of the module."""

    def __init__(self, module: IRModule, sources: Sources, placement: Placement) -> None:
        self.functions = dict(module.functions.items())
        self.attrs = module.attrs
        self.sources = sources
        self.placement = placement
        self.names = {gv.name_hint for gv in self.functions}
        self.layers: set[str] = {row.layer for row in placement.accelerated.values()}
        self.made: dict[tuple[str, tuple[str, ...]], list[tuple[Operator, relax.Var]]] = {}

    def source(self, variable: str) -> str:
        index = self.sources.node_of.get(variable)
        return variable if index is None else self.sources.nodes[index].name

    def layer(self, cone: Cone) -> str:
        return self.source(anchor(cone.value) or cone.var.name)

    def write(self, low: Lowering) -> list[relax.VarBinding]:
        """Bindings of a cone's calls; the last one keeps the cone's variable."""
        cone = low.cone
        layer = unique_name(low.layer, self.layers)
        if not low.drafts:  # the operators change nothing: QuantizeLinear undoes DequantizeLinear
            self.placement.note(cone.var.name, layer, [*cone.inner, *members(cone.value)])
            (leaf,) = [low.move(cone.value, lambda x: x, cone.quant)]
            return [relax.VarBinding(cone.var, leaf)]
        results: list[relax.Var] = []
        bindings = []
        for i, draft in enumerate(low.drafts):
            last = i == len(low.drafts) - 1
            args = [results[r] if isinstance(r, int) else r for r in draft.args]
            made = self.made.setdefault((draft.operator.kind, tuple(a.name for a in args)), [])
            if not last:  # cones that share a part of their way to a rounding share its operators
                known = next((var for operator, var in made if same(operator, draft.operator)), None)
                if known is not None:
                    results.append(known)
                    continue
            name = layer if last else f"{layer}:{draft.operator.kind}{i}"
            body = emit(draft.operator, [_spec(a) for a in args], name, [low.held(a) for a in draft.args])
            symbol = symbol_of(
                unique_name(_identifier(f"tilewright_{draft.operator.kind}_{name}"), self.names), body
            )
            self.functions[symbol] = body
            var = cone.var if last else relax.DataflowVar(name, relax.TensorType(draft.shape, draft.dtype))
            bindings.append(relax.VarBinding(var, call_of(symbol, args, body)))
            results.append(var)
            made.append((draft.operator, var))
        self.placement.note(cone.var.name, layer, [*cone.inner, *members(cone.value)])
        return bindings

    def finish(self, main: relax.Function) -> IRModule:
        functions = {gv: f for gv, f in self.functions.items() if gv.name_hint != "main"}
        functions[GlobalVar("main")] = self.placement.put(main)
        return IRModule(functions, attrs=self.attrs)


def _spec(var: relax.Var) -> Spec:
    shape: Shape | None = static_shape(var)
    assert shape is not None
    return shape, dtype_of(var)


def _identifier(name: str) -> str:
    return "".join(c if c.isalnum() else "_" for c in name)
