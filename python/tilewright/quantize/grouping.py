"""Which tensors share a scale and zero point, and the range that each group must cover.

The range that a tensor needs is what its readers can tell apart, not what it holds: a clamp or a maximum
after it commutes with the saturation of QuantizeLinear, so that a convolution that only feeds a pooling and
a Relu needs no negative numbers. Then groups are formed with a union-find: *hard* edges (data movement,
clamps) always join, *soft* ones (concat, and average pooling on request) join where nobody loses more than
`share_ratio` of resolution.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from tilewright.quantize.affine import Affine, Range, affine_of
from tilewright.quantize.clipping import Histograms, best_affine
from tilewright.quantize.graph import Graph
from tilewright.quantize.options import WHOLE_BITS, QuantizeOptions
from tilewright.quantize.scores import SCORE_HEADROOM, score_groups
from tilewright.quantize.units import Unit
from tilewright.quantize.widths import Widths, wanted_bits

# Kinds whose result does not depend on input values outside the range that is needed of their output.
_SATURATION_COMMUTES = frozenset({"clamp", "move", "concat"})


@dataclass(frozen=True)
class Scheme:
    """The quantised tensors, in topological order, with their group's first tensor and parameters."""

    group: dict[str, str]
    parameters: dict[str, Affine]

    def __contains__(self, name: str) -> bool:
        return name in self.group

    def __getitem__(self, name: str) -> Affine:
        return self.parameters[self.group[name]]


def quantised_tensors(units: list[Unit]) -> list[str]:
    """Return the tensors that stand between units, in topological order."""
    return list(dict.fromkeys(name for unit in units for name in (*unit.inputs, *unit.outputs)))


def read_in_float(graph: Graph, units: list[Unit]) -> set[str]:
    """Return the quantised tensors that are graph outputs or that float operators read.

    Their largest values decide, as the scores of classes do: saturation would make them equal.
    """
    in_units = {id(node) for unit in units for node in unit.nodes}
    return {
        name
        for name in quantised_tensors(units)
        if name in graph.outputs or any(id(node) not in in_units for node in graph.consumers.get(name, []))
    }


def make_scheme(
    graph: Graph,
    units: list[Unit],
    ranges: Mapping[str, Range],
    options: QuantizeOptions,
    widths: Widths,
    histograms: Histograms,
) -> Scheme:
    """Return the scales of all tensors between `units`, given their calibrated `ranges`.

    Args:
        graph: the float network.
        units: all units of it.
        ranges: of all tensors between units.
        options: widths of scores, and what may share a scale.
        widths: of the operands of MAC units.
        histograms: of tensors whose ranges are to be cut off, where they get fewer than 8 bits.
    """
    needed = _needed_ranges(graph, units, ranges)
    groups = _Groups(graph, needed, wanted_bits(graph, units, widths), options)
    for unit in units:
        if unit.kind in ("move", "clamp"):
            groups.join_hard((*unit.inputs, *unit.outputs))
    groups.end_of_hard()
    for unit in units:
        if unit.kind == "concat" or (unit.kind == "average" and options.share_average):
            groups.join_soft(unit)
    names = list(needed)
    group = {name: groups.find(name) for name in names}
    first: dict[str, str] = {}
    for name in names:
        first.setdefault(group[name], name)
    scores = score_groups(units, group)
    parameters = {}
    for top, name in first.items():
        span, bits = groups.span[top], groups.bits(top)
        if top in scores and options.score_bits > bits:
            parameters[name] = affine_of(span.widened(SCORE_HEADROOM), options.score_bits)
        else:
            members = [(histograms[item], needed[item]) for item in groups.members[top] if item in histograms]
            parameters[name] = (
                best_affine(members, span, bits) if bits < WHOLE_BITS else affine_of(span, bits)
            )
    return Scheme({name: first[group[name]] for name in names}, parameters)


def _needed_ranges(graph: Graph, units: list[Unit], ranges: Mapping[str, Range]) -> dict[str, Range]:
    readers: dict[str, list[Unit]] = {}
    for unit in units:
        for name in unit.inputs:
            readers.setdefault(name, []).append(unit)
    in_float = read_in_float(graph, units)
    needed: dict[str, Range] = {}
    for name in reversed(quantised_tensors(units)):
        seen_whole = name in in_float
        span = Range(0.0, 0.0)
        for unit in readers.get(name, []):
            if unit.kind not in _SATURATION_COMMUTES:
                seen_whole = True
                break
            for output in unit.outputs:
                span = span.union(needed[output])
        whole = ranges[name]
        # A union with other concat inputs can exceed what the tensor itself holds.
        clipped = Range(max(span.low, whole.low), min(span.high, whole.high))
        needed[name] = whole if seen_whole or name not in readers else clipped
    return {name: needed[name] for name in quantised_tensors(units)}


class _Groups:
    """Union-find over tensors, with the range of each group and the narrowest member that others read."""

    def __init__(
        self,
        graph: Graph,
        needed: Mapping[str, Range],
        wanted: Mapping[str, int],
        options: QuantizeOptions,
    ) -> None:
        self.graph, self.options = graph, options
        self.wanted = {name: wanted.get(name, 0) for name in needed}
        self.parent = {name: name for name in needed}
        self.span = dict(needed)
        self.narrowest = {name: span.width for name, span in needed.items()}
        self.members = {name: [name] for name in needed}

    def find(self, name: str) -> str:
        while self.parent[name] != name:
            self.parent[name] = self.parent[self.parent[name]]
            name = self.parent[name]
        return name

    def bits(self, top: str) -> int:
        """Return the width of a group: 8 bits where no MAC unit reads it."""
        return self.wanted[top] or WHOLE_BITS

    def join_hard(self, names: tuple[str, ...]) -> None:
        """Join the groups of `names`; which loses resolution does not matter."""
        tops = list(dict.fromkeys(self.find(name) for name in names))
        for top in tops[1:]:
            self._merge(tops[0], top)

    def end_of_hard(self) -> None:
        """Take each group as one: its members have the resolution of the whole group already."""
        self.narrowest = {top: self.span[top].width for top in self.members}

    def join_soft(self, unit: Unit) -> None:
        """Join each input's group with the output's where that costs the other readers little.

        An input that nothing but `unit` reads loses nothing: its values are rounded to the output's scale
        anyway.
        """
        output = unit.outputs[0]
        for name in unit.inputs:
            left, right = self.find(output), self.find(name)
            if left == right:
                continue
            width = self.span[left].union(self.span[right]).width
            free = self._feeds_only(right, unit)
            if not free and self.bits(left) != self.bits(right):
                continue
            limits = [self.narrowest[left]] + ([] if free else [self.narrowest[right]])
            if all(width <= self.options.share_ratio * limit for limit in limits):
                if free:
                    self.narrowest[right] = width
                self._merge(left, right)

    def _feeds_only(self, top: str, unit: Unit) -> bool:
        """Return whether all readers of the group lie within it, apart from `unit`."""
        inside = set(self.members[top])
        own = {id(node) for node in unit.nodes}
        return all(
            id(node) in own or inside & set(node.output)
            for name in inside
            for node in self.graph.consumers.get(name, [])
        ) and not inside & set(self.graph.outputs)

    def _merge(self, left: str, right: str) -> None:
        self.parent[right] = left
        self.span[left] = self.span[left].union(self.span[right])
        self.wanted[left] = max(self.wanted[left], self.wanted[right])
        self.narrowest[left] = min(self.narrowest[left], self.narrowest[right])
        self.members[left] += self.members.pop(right)
