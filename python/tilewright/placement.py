"""Where each node of the imported graph runs: the rows that `supported` and the package's report hold."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Literal

from tilewright.codegen.host_program import REMEDY as HOST_REMEDY
from tilewright.codegen.host_program import NotInPackage
from tilewright.errors import Fault
from tilewright.frontend.graph import folded_nodes, node_origins
from tilewright.frontend.model import Model, SourceNode
from tilewright.frontend.qonnx_nodes import OPERATORS as QUANTISERS
from tilewright.relay_passes.refusals import STAYS
from tilewright.relay_passes.supported import CONVERSIONS, Stages, SupportedRow, supported_rows
from tilewright.targets.config import Overlay

Place = Literal["accelerator", "host"]
_MOST_NAMED = 3
"""Layers and values that a fault names; the rest is counted."""


@dataclass(frozen=True)
class LayerRow:
    """A node of the imported graph.

    Attributes:
        name, op: of the node, or of the Caffe layer that it was made from.
        place: where it runs.
        reason: why on the host, or `folded into X`; empty for a layer of its own.
        remedy: what brings it to the accelerator; empty where there is nothing to do.
        macs: multiply-accumulates; taps that fall into padding count.
    """

    name: str
    op: str
    place: Place
    reason: str
    remedy: str
    macs: int


@dataclass(frozen=True)
class Support:
    """What of a network runs where.

    Attributes:
        layers: one row for each node of the imported graph, in its order.
        accelerator_macs, host_macs: sums over the layers.
    """

    layers: tuple[LayerRow, ...]
    accelerator_macs: int
    host_macs: int

    def to_dict(self) -> dict[str, Any]:
        """As plain values for JSON."""
        return asdict(self)


def find_support(model: Model, overlay: Overlay, stages: Stages | None = None) -> Support:
    """Tell for a quantised model what runs where; `stages` where its modules were made already.

    Raises:
        UnsupportedModel: it cannot be imported.
    """
    rows = {row.name: row for row in supported_rows(model.proto, overlay, stages)}
    canonical = model.float_proto if model.float_proto is not None else model.proto
    nodes = _Nodes(rows, folded_nodes(canonical), _parts(node_origins(canonical), rows))
    layers = tuple(nodes.row(node) for node in model.nodes)
    sums = {place: sum(row.macs for row in layers if row.place == place) for place in ("accelerator", "host")}
    return Support(layers, sums["accelerator"], sums["host"])


def why_refused(model: Model, overlay: Overlay, stages: Stages, error: NotInPackage) -> list[Fault]:
    """Why a network cannot be a package: one fault for all layers that the accelerator refuses by the same rule."""
    rows = {row.name: row for row in supported_rows(model.proto, overlay, stages)}
    origins = node_origins(model.float_proto if model.float_proto is not None else model.proto)
    groups: dict[tuple[str, str], dict[str, str]] = {}
    faults: list[Fault] = []
    for name, fault in zip(error.reasons, error.faults, strict=True):
        no = rows[name].refusal if name in rows else None
        if no is None or not no.rule or not no.found:
            faults.append(fault)
            continue
        groups.setdefault((no.rule, no.remedy), {}).setdefault(origins.get(name, name), no.found)
    refused = []
    for (rule, remedy), found in groups.items():
        layers = list(found)
        values = list(dict.fromkeys(found.values()))
        first = {value: name for name, value in reversed(found.items())}
        if len(values) > 1:
            values = [f"{value} in {first[value]}" for value in values]
        text = f"neither the accelerator nor a package's host part takes this: {rule}, found {_some(values)}"
        remedy = remedy.removeprefix(STAYS)
        if "tvm.compile" not in remedy:
            remedy = f"{remedy}; or {HOST_REMEDY}"
        refused.append(Fault(text, _some(layers), remedy))
    return refused + faults


def _some(names: Sequence[str]) -> str:
    """The first few of a list, and how many more there are."""
    more = len(names) - _MOST_NAMED
    return ", ".join(names[:_MOST_NAMED]) + (f" and {more} more" if more > 0 else "")


def _parts(origins: Mapping[str, str], rows: Mapping[str, SupportedRow]) -> dict[str, list[SupportedRow]]:
    """Imported node -> rows of the nodes that rewrites made for it."""
    parts: dict[str, list[SupportedRow]] = {}
    for made, origin in origins.items():
        if made in rows and made != origin:
            parts.setdefault(origin, []).append(rows[made])
    return parts


@dataclass(frozen=True)
class _Nodes:
    """Rows of the quantised graph, and what became of imported nodes that are not in it."""

    rows: Mapping[str, SupportedRow]
    folded: Mapping[str, str]
    parts: Mapping[str, list[SupportedRow]]

    def row(self, node: SourceNode) -> LayerRow:
        """The row of an imported node."""
        own = [self.rows[node.name]] if node.name in self.rows else []
        found = [*own, *self.parts.get(node.name, [])]
        if found:
            return self._joined(node, found)
        target = self._end(node.name)
        if target not in self.rows:
            return LayerRow(
                node.name, node.op, "accelerator", "folded: nothing of it is left at run time", "", 0
            )
        row = self.rows[target]
        return LayerRow(node.name, node.op, row.place, f"folded into {target}", row.remedy, 0)

    def _joined(self, node: SourceNode, rows: list[SupportedRow]) -> LayerRow:
        """One row for a node and its parts: on the host if one of them is; conversions behind a layer do not count."""
        order = {name: i for i, name in enumerate(self.rows)}
        rows = sorted(rows, key=lambda row: order[row.name])
        layers = [row for row in rows if row.op not in CONVERSIONS] if node.op not in QUANTISERS else rows
        first = next((row for row in layers or rows if row.place == "host"), (layers or rows)[0])
        return LayerRow(
            node.name, node.op, first.place, first.reason, first.remedy, sum(row.macs for row in rows)
        )

    def _end(self, name: str) -> str:
        """What a node was folded into in the end."""
        for target in self._chain(name):
            if target in self.rows:
                return target
        return ""

    def _chain(self, name: str) -> Iterator[str]:
        seen = {name}
        while (name := self.folded.get(name, "")) and name not in seen:
            seen.add(name)
            yield name
