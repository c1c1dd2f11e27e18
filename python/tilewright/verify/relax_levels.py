"""The graph and the integer level, by TVM llvm, each layer fed with the quantised level's own integers.

Sums of float32 depend on their order, so the graph level would drift away from ONNX Runtime layer by layer; fed with
the same operands, a layer may differ by one step where a sum ends next to a half. The graph level is one function: the
imported network, cut at every layer's result, which comes in as a parameter and goes out as it was computed.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import tvm
from tvm import relax
from tvm.ir import GlobalVar, IRModule

from tilewright.errors import Fault, UnsupportedModel
from tilewright.integer_level import llvm
from tilewright.relay_passes.rewrite import behind_extern, bindings_of, unique_name, used
from tilewright.verify.layers import Array, Layer


def cut_graph(imported: IRModule, variables: Sequence[str]) -> IRModule:
    """A module whose `main` takes the variables' values behind its own inputs and gives what it computes of each."""
    main = imported["main"]
    tail = behind_extern(main)
    taken = {p.name for p in main.params} | {b.var.name for b in bindings_of(main)}
    wanted = set(variables) - tail
    fed: dict[str, relax.Var] = {}
    made: dict[str, relax.Var] = {}
    bindings: list[relax.VarBinding] = []
    for binding in bindings_of(main):
        var = binding.var
        if var.name in tail:
            continue
        if var.name not in wanted:
            bindings.append(binding)
            continue
        computed = relax.DataflowVar(unique_name(f"{var.name}_computed", taken), var.ty)
        fed[var.name] = relax.Var(unique_name(f"{var.name}_fed", taken), var.ty)
        made[var.name] = relax.Var(unique_name(f"{var.name}_out", taken), var.ty)
        bindings += [
            relax.VarBinding(computed, binding.value),
            relax.VarBinding(made[var.name], computed),
            relax.VarBinding(var, fed[var.name]),
        ]
    bindings = _live(bindings, [made[v].name for v in variables if v in made])
    end = relax.Tuple([made[v] for v in variables if v in made])
    body = relax.SeqExpr([relax.DataflowBlock(bindings)], end)
    relax.expr._update_type(body, end.ty)
    params = [*main.params, *(fed[v] for v in variables if v in fed)]
    function = relax.Function(params, body, end.ty, main.is_pure).with_attr("global_symbol", "main")
    return IRModule({GlobalVar("main"): function})


def _live(bindings: Sequence[relax.VarBinding], results: Sequence[str]) -> list[relax.VarBinding]:
    """Bindings that the results need."""
    needed, kept = set(results), []
    for binding in reversed(bindings):
        if binding.var.name in needed:
            needed |= used(binding.value)
            kept.append(binding)
    return kept[::-1]


class GraphLevel:
    """The imported network cut at its layers, compiled once."""

    def __init__(self, imported: IRModule, layers: Sequence[Layer], quick: bool) -> None:
        """Raises UnsupportedModel where TVM does not compile it."""
        tail = behind_extern(imported["main"])
        present = {b.var.name for b in bindings_of(imported["main"])} - tail
        self.layers = [layer for layer in layers if layer.variable in present]
        module = cut_graph(imported, [layer.variable for layer in self.layers])
        self.inputs = [str(p.name) for p in imported["main"].params]
        try:
            executable = tvm.compile(module, target=llvm(quick))
        except Exception as error:  # its exceptions share no class of their own
            lines = str(error).split("\n")
            last = next((line.strip() for line in reversed(lines) if line.strip()), type(error).__name__)
            raise UnsupportedModel(Fault(f"TVM does not compile it: {last}", "level graph")) from error
        self.machine = relax.VirtualMachine(executable, tvm.cpu())

    def run(self, feeds: Sequence[Array], values: Mapping[str, Array]) -> dict[str, Array]:
        """What each layer makes of the values of its operands; both by variable. `feeds` in the network's order."""
        arrays = [*feeds, *(values[layer.variable] for layer in self.layers)]
        found = self.machine["main"](*(tvm.runtime.tensor(np.ascontiguousarray(a)) for a in arrays))
        return {
            layer.variable: np.asarray(array.numpy()) for layer, array in zip(self.layers, found, strict=True)
        }
