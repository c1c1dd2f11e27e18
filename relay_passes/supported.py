"""Where each node of a model runs, and why: the rows of `tilewright supported`."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Literal

import onnx
from tvm import relax
from tvm.ir import GenericConst, GlobalVar, IRModule

from tilewright.codegen.displacement import in_range
from tilewright.codegen.legal import check
from tilewright.frontend.relax_import import Sources, to_relax
from tilewright.integer.predicate import Reject
from tilewright.relay_passes import refusals
from tilewright.relay_passes.match.table import is_known
from tilewright.relay_passes.partition import composite_calls, find_evictions
from tilewright.relay_passes.pipeline import integer_passes, run_pass
from tilewright.relay_passes.placement import Placement
from tilewright.relay_passes.rewrite import bindings_of
from tilewright.relay_passes.shifts import Move, move_of
from tilewright.relay_passes.values import static_shape
from tilewright.targets.config import Overlay

_NOT_QUANTISED = refusals.NOT_QUANTISED.reject("no QuantizeLinear behind it")
_FOLDED = "folded into "
_NOTHING = "folded: it does nothing"
CONVERSIONS = {
    "QuantizeLinear": "converts float values for the accelerator",
    "DequantizeLinear": "converts the accelerator's results to float",
}


@dataclass(frozen=True)
class SupportedRow:
    """A node of the model.

    Attributes:
        name, op: of the ONNX node.
        place: where it runs.
        reason: why on the host, or what it was folded into; empty for a layer of its own on the accelerator.
        remedy: what brings it to the accelerator; empty where there is nothing to do.
        macs: products of its weights, without padding lanes; taps that fall into padding count.
        refusal: the rule that keeps it on the host, where one does.
    """

    name: str
    op: str
    place: Literal["accelerator", "host"]
    reason: str
    remedy: str
    macs: int
    refusal: Reject | None = None


def count_macs(module: IRModule) -> dict[int, int]:
    """Multiply-accumulates of convolutions and dense layers by source node, in an imported module."""
    main = module["main"]
    sources = Sources.of(main)
    macs: dict[int, int] = {}
    for binding in bindings_of(main):
        call = binding.value
        if not isinstance(call, relax.Call) or not hasattr(call.op, "name"):
            continue
        out = static_shape(binding.var)
        if out is None or len(call.args) < 2:
            continue
        x, w = static_shape(call.args[0]), static_shape(call.args[1])
        if x is None or w is None:
            continue
        if call.op.name == "relax.nn.conv2d" and w[1] == 1 and _shift(call):
            continue
        if call.op.name in ("relax.nn.conv1d", "relax.nn.conv2d"):
            count = math.prod(out) * math.prod(w[1:])
        elif call.op.name in ("relax.nn.conv1d_transpose", "relax.nn.conv2d_transpose"):
            count = math.prod(x) * math.prod(w[1:])
        elif call.op.name == "relax.matmul":
            count = math.prod(out) * x[-1]
        else:
            continue
        node = sources.node_of.get(binding.var.name)
        if node is not None:
            macs[node] = macs.get(node, 0) + count
    return macs


def _shift(call: relax.Expr) -> Move | None:
    """What a convolution with a float kernel moves; None where it multiplies."""
    if not isinstance(call, relax.Call) or getattr(call.op, "name", "") != "relax.nn.conv2d":
        return None
    weight = call.args[1]
    return move_of(weight.value.numpy(), call.attrs) if isinstance(weight, GenericConst) else None


@dataclass(frozen=True)
class Stages:
    """What a network becomes on its way to regions.

    Attributes:
        imported: as imported, QDQ.
        integer: at the integer level, before partitioning.
        evicted: composite results of it that go to the host, by variable, with the reason.
    """

    imported: IRModule
    integer: IRModule
    evicted: Mapping[str, Reject]


def lowered(imported: IRModule, overlay: Overlay) -> Stages:
    """An imported module with its integer level."""
    module = imported
    for step in integer_passes(overlay):
        module = run_pass(step, module)
    return Stages(imported, module, find_evictions(module, lambda node: check(node, overlay)))


class _Report:
    """What the passes did, looked at from the side of the ONNX nodes."""

    def __init__(self, model: onnx.ModelProto, overlay: Overlay, stages: Stages | None) -> None:
        found = stages or lowered(to_relax(model), overlay)
        imported, module = found.imported, found.integer
        self.operators = {
            b.var.name: str(b.value.op.name).removeprefix("relax.")
            for b in bindings_of(imported["main"])
            if isinstance(b.value, relax.Call) and hasattr(b.value.op, "name")
        }
        self.macs = count_macs(imported)
        self.overlay = overlay
        self.moves = {b.var.name: _shift(b.value) for b in bindings_of(imported["main"])}
        self.evicted = found.evicted
        main = module["main"]
        self.sources = Sources.of(main)
        self.placement = Placement.of(main)
        self.live = {
            b.var.name
            for b in bindings_of(main)
            if not (isinstance(b.value, relax.Call) and isinstance(b.value.op, GlobalVar))
            and not isinstance(b.value, relax.Var)
        }
        self.present = {b.var.name for b, _ in composite_calls(module)}
        self.variables: dict[int, list[str]] = {}
        for variable, node in self.sources.node_of.items():
            self.variables.setdefault(node, []).append(variable)
        self.cones_of: dict[str, list[str]] = {}
        for root, row in self.placement.accelerated.items():
            for variable in (root, *row.members):
                self.cones_of.setdefault(variable, []).append(root)
        self.readers: dict[int, list[int]] = {}
        producer = {o: i for i, n in enumerate(model.graph.node) for o in n.output}
        for i, proto in enumerate(model.graph.node):
            for name in proto.input:
                if name in producer:
                    self.readers.setdefault(producer[name], []).append(i)

    def cones(self, node: int) -> list[str]:
        """Accelerated cones that a node belongs to."""
        return [c for v in self.variables.get(node, []) for c in self.cones_of.get(v, [])]

    def folded_into(self, node: int) -> str:
        """Layers that took a node in: its own cones', or those of its readers."""
        stack, seen, layers = [node], set(), []
        while stack:
            i = stack.pop()
            if i in seen:
                continue
            seen.add(i)
            cones = self.cones(i)
            layers += [self.placement.accelerated[c].layer for c in cones]
            if not cones:
                stack.extend(self.readers.get(i, []))
        return ", ".join(sorted(set(layers)))

    def layers_behind(self, node: int) -> list[int]:
        """The next nodes behind that are layers of other cones, or float operators."""
        own = set(self.cones(node))
        stack, seen, found = list(self.readers.get(node, [])), set(), []
        while stack:
            i = stack.pop()
            if i in seen:
                continue
            seen.add(i)
            if self.sources.nodes[i].op not in CONVERSIONS and not own & set(self.cones(i)):
                found.append(i)
            else:
                stack.extend(self.readers.get(i, []))
        return sorted(found)

    def refusal(self, node: int) -> Reject:
        """Why a live float node is on the host."""
        op = self.sources.nodes[node].op
        for variable in self.variables.get(node, []):
            if not is_known(self.operators.get(variable, "add")):
                name = self.sources.nodes[node].name
                return refusals.OPERATOR.reject(op, name)
        stack, seen = [node], set()
        while stack:
            i = stack.pop(0)
            if i in seen:
                continue
            seen.add(i)
            for variable in self.variables.get(i, []):
                if variable in self.placement.refused:
                    return self.placement.refused[variable]
            if i == node or self.sources.nodes[i].op != "QuantizeLinear":
                stack.extend(self.readers.get(i, []))
        return Reject(CONVERSIONS[op], "", "", "") if op in CONVERSIONS else _NOT_QUANTISED

    def with_remarks(self, node: int) -> SupportedRow:
        """A node's row; of a shift that takes a pass a direction, why."""
        row, o = self.row(node), self.overlay
        moves = [m for v in self.variables.get(node, []) if (m := self.moves.get(v)) is not None]
        if row.place == "host" or not moves or in_range(moves[0].displacement, o):
            return row
        d = moves[0].displacement
        table = f"holds {o.displacement_min}..{o.displacement_max}" if o.disp_entries else "has no entries"
        remark = f"one pass a direction: it moves by {d.min()}..{d.max()}, the displacement table {table}"
        remedy = (
            "move by less, or choose an overlay with a wider table"
            if o.disp_entries
            else "choose an overlay with a table"
        )
        return replace(row, reason=f"{row.reason}; {remark}" if row.reason else remark, remedy=remedy)

    def row(self, node: int) -> SupportedRow:
        source = self.sources.nodes[node]
        macs = self.macs.get(node, 0)
        name, op = source.name, source.op
        if any(v in self.live for v in self.variables.get(node, [])):
            if op in CONVERSIONS:
                return SupportedRow(name, op, "host", CONVERSIONS[op], "", 0)
            no = self.refusal(node)
            return SupportedRow(name, op, "host", str(no), no.remedy, macs, no)
        cones = self.cones(node)
        for cone in cones:
            if cone in self.evicted:
                no = self.evicted[cone]
                return SupportedRow(name, op, "host", str(no), no.remedy, macs, no)
        if cones and not any(c in self.present for c in cones):
            readers = [self.row(r) for r in self.layers_behind(node)]
            if readers and all(r.place == "host" for r in readers):
                return replace(readers[0], name=name, op=op, macs=macs)
            taken = [r for r in readers if r.place == "accelerator"]
            layers = ", ".join(
                sorted({r.reason.removeprefix(_FOLDED) if r.reason else r.name for r in taken})
            )
            return SupportedRow(name, op, "accelerator", _FOLDED + layers if layers else _NOTHING, "", 0)
        if any(self.placement.accelerated[c].layer == name for c in cones):
            return SupportedRow(name, op, "accelerator", "", "", macs)
        layers = self.folded_into(node)
        return SupportedRow(name, op, "accelerator", _FOLDED + layers if layers else _NOTHING, "", 0)


def supported_rows(
    model: onnx.ModelProto, overlay: Overlay, stages: Stages | None = None
) -> list[SupportedRow]:
    """One row for each node of a quantised model, in its order; `stages` where they were made already.

    Raises:
        UnsupportedModel: where the model cannot be imported at all.
    """
    report = _Report(model, overlay, stages)
    return [report.with_remarks(i) for i in range(len(report.sources.nodes))]
