"""In which order MATRIX writes the channels of its results, so that channels read together lie together.

The order is free: it is that of the rows of weights and parameters. It matters where layers read parts of a tensor:
groups of a grouped convolution behind a channel shuffle, a half behind a split. Layouts fold, so each reader takes the
half words in which its channels happen to lie, and every half word is a step of MATRIX for each output vector.

Tensors that are added or multiplied must have equal lanes, so they are ordered together: a *family* is what such ties
connect, an *element* the channels that they make one. Elements are sorted by who reads them, by which inputs make
them, or by both; a run of equal ones may begin where it crosses fewer half words, which leaves lanes empty. Of these
orders the one with the fewest cycles of makers, readers and copies is taken if it has fewer than the tensors' own.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import product

import numpy as np
from numpy.typing import NDArray

from tilewright.codegen.displacement import place_shift, readable
from tilewright.codegen.graph import Graph, Node, Tensor
from tilewright.codegen.layouts import place_layout
from tilewright.codegen.values import I32, Map, Value
from tilewright.codegen.widths import storages
from tilewright.integer import ops
from tilewright.targets.config import Overlay
from tilewright.targets.storage import Storage

I64 = NDArray[np.int64]
SWEEPS = 2
"""The second sees what the first has chosen for the tensors behind."""


def channel_order(graph: Graph, overlay: Overlay) -> dict[str, I32]:
    """Lane of each channel, by tensor, of results of MATRIX that are better not in the order of their channels."""
    if not any(isinstance(node.operator, ops.Layout | ops.Add | ops.Multiply) for node in graph.nodes):
        return {}
    return _Chooser(_Reading(graph, overlay, storages(graph, overlay)), overlay).choose()


@dataclass(frozen=True, eq=False)
class _Operand:
    """What a node reads: by channel (or element of a flat one) its root, the channel there, and the pixel."""

    root: I64
    channel: I64
    pixel: I64


@dataclass(frozen=True, eq=False)
class _Use:
    """A node that reads half words: `cycles` for each of them; of MATRIX for each output vector too.

    Attributes:
        groups: of a grouped convolution.
        made: the root that MATRIX makes and its channels, None for VECTOR.
        other: second operand, whose lanes must be the first one's.
    """

    operand: _Operand
    cycles: float
    groups: int = 1
    made: int | None = None
    other: _Operand | None = None


@dataclass(eq=False)
class _Reading:
    """Which channels of which *root*, a tensor that is stored anew, every node reads.

    Attributes:
        names: of the roots.
        channels: of each root.
        free: roots whose order may be chosen: results of MATRIX.
    """

    graph: Graph
    overlay: Overlay
    storages: Mapping[str, Storage]
    names: list[str] = field(default_factory=list)
    channels: list[int] = field(default_factory=list)
    free: set[int] = field(default_factory=set)
    uses: list[_Use] = field(default_factory=list)
    index: dict[str, int] = field(default_factory=dict)
    values: dict[str, Value] = field(default_factory=dict)

    def __post_init__(self) -> None:
        for tensor in self.graph.inputs:
            self.values[tensor.name] = self.root(tensor.name, tensor.shape[1:])
        for node in self.graph.nodes:
            self.values[node.output.name] = self.node(node)

    def root(self, name: str, shape: tuple[int, ...]) -> Value:
        self.index[name] = len(self.names)
        self.names.append(name)
        self.channels.append(shape[0])
        return Value.of_map(self.map(name, shape), range(shape[0]), shape)

    def map(self, name: str, shape: tuple[int, ...]) -> Map:
        height, width = shape[1:] if len(shape) == 3 else (1, 1)
        return Map(name, height, width, 0)

    def in_place(self, tensor: Tensor) -> Value:
        """A tensor as convolutions and VECTOR read it: lowering copies it where channels are not in place."""
        value = self.values[tensor.name]
        if not value.channels_in_place():
            value = self.values[tensor.name] = self.root(f"{tensor.name} copied", value.shape)
        return value

    def operand(self, value: Value, *, flat: bool = False) -> _Operand:
        numbers = np.array([self.index[m.name] for m in value.maps], np.int64)
        number, lane = (value.number, value.lane) if flat else value.channel_places()
        pixel = value.pixel if flat else np.zeros(len(number))
        return _Operand(numbers[number], lane.astype(np.int64), pixel.astype(np.int64))

    def node(self, node: Node) -> Value:
        op, shape = node.operator, node.output.shape[1:]
        results = int(np.prod(shape[1:]))
        if isinstance(op, ops.Layout):
            stored = self.storages[node.output.name]
            return place_layout(op, stored, [self.values[t.name] for t in node.inputs])
        if isinstance(op, ops.Dense):
            (tensor,) = node.inputs
            value = self.values[tensor.name]
            if value.number.min() < 0:
                value = self.in_place(tensor)
            return self.matrix(node, self.operand(value, flat=True), 1)
        if isinstance(op, ops.Shift):
            return place_shift(op, 0, self.in_place(node.inputs[0]), self.overlay)
        value = self.values[node.inputs[0].name]
        if not (isinstance(op, ops.Conv2d) and value.moved is not None and readable(value)):
            value = self.in_place(node.inputs[0])
        operand = self.operand(value)
        taps = 1
        if isinstance(op, ops.Conv2d | ops.ConvTranspose2d):
            taps = int(np.prod(op.weight.shape[2:]))
            if not op.groups == len(operand.root) == shape[0] > 1:
                if isinstance(op, ops.ConvTranspose2d):
                    taps = -(-taps // int(np.prod(op.strides)))
                return self.matrix(node, operand, taps * results, op.groups)
        elif isinstance(op, ops.MaxPool2d | ops.SumPool2d):
            taps = int(np.prod(op.kernel))
        other = self.operand(self.in_place(node.inputs[1])) if len(node.inputs) > 1 else None
        per_half_word = self.overlay.block_in / self.overlay.vector_lanes
        self.uses.append(_Use(operand, taps * results * per_half_word, other=other))
        if (
            other is not None and len(other.root) == shape[0]
        ):  # equal places; if copied, those of what is in order
            second = self.values[node.inputs[1].name]
            if len(np.unique(other.root)) < len(np.unique(operand.root)):
                value = second
        maps = tuple(self.map(m.name, shape) for m in value.maps)
        number, lane = value.channel_places()
        full = Value.of_map(maps[0], lane.tolist(), shape)
        return Value(
            maps, np.broadcast_to(number.reshape(-1, *[1] * (len(shape) - 1)), shape), full.pixel, full.lane
        )

    def matrix(self, node: Node, operand: _Operand, cycles: int, groups: int = 1) -> Value:
        value = self.root(node.output.name, node.output.shape[1:])
        made = self.index[node.output.name]
        self.free.add(made)
        self.uses.append(_Use(operand, cycles, groups, made))
        return value


@dataclass(eq=False)
class _Family:
    """Roots that ties connect. `element[root]` has the element of each channel; `uses` are those that concern it."""

    element: dict[int, I64]
    uses: list[_Use]


@dataclass(eq=False)
class _Chooser:
    reading: _Reading
    overlay: Overlay

    def __post_init__(self) -> None:
        self.lanes = [np.arange(n) for n in self.reading.channels]
        self.starts = np.cumsum([0, *self.reading.channels])

    def choose(self) -> dict[str, I32]:
        families = list(self.families())
        for _ in range(SWEEPS if families else 0):
            for family in families:
                self.order(family)
        return {
            self.reading.names[r]: self.lanes[r].astype(np.int32)
            for family in families
            for r in family.element
            if (self.lanes[r] != np.arange(len(self.lanes[r]))).any()
        }

    def families(self) -> Iterator[_Family]:
        """Those whose order may be chosen and matters, in order."""
        label = self.elements()
        of_root = np.arange(len(self.reading.names))
        owner: dict[int, int] = {}
        for root in range(len(of_root)):
            for e in np.unique(self.cut(label, root)).tolist():
                first = of_root[owner.setdefault(e, root)]
                of_root[of_root == of_root[root]] = first
        concerned: dict[int, list[_Use]] = {}
        for use in self.reading.uses:
            parts = [use.operand.root, *([use.other.root] if use.other else [])]
            for family in {int(of_root[r]) for r in np.unique(np.concatenate(parts))} | (
                set() if use.made is None else {int(of_root[use.made])}
            ):
                concerned.setdefault(family, []).append(use)
        for family in np.unique(of_root).tolist():
            element = {r: self.cut(label, r) for r in np.flatnonzero(of_root == family).tolist()}
            free = all(r in self.reading.free for r in element)
            if free and all(len(np.unique(e)) == len(e) for e in element.values()):
                found = _Family(element, concerned.get(family, []))
                hard, readers, _ = self.keys(found)
                if hard.any() or readers.any():
                    yield found

    def cut(self, label: I64, root: int) -> I64:
        return label[self.starts[root] : self.starts[root + 1]]

    def elements(self) -> I64:
        """The element of every channel of every root: the first channel that ties connect it with."""
        label = np.arange(self.starts[-1])
        ties = [
            (self.starts[u.operand.root] + u.operand.channel, self.starts[u.other.root] + u.other.channel)
            for u in self.reading.uses
            if u.other is not None and len(u.other.root) == len(u.operand.root)
        ]
        changed = bool(ties)
        while changed:
            before = label.copy()
            for a, b in ties:
                least = np.minimum(label[a], label[b])
                np.minimum.at(label, a, least)
                np.minimum.at(label, b, least)
            label = label[label]
            changed = bool((label != before).any())
        return label

    def keys(self, family: _Family) -> tuple[I64, I64, I64]:
        """Of each element, sorted, as numbers: in which roots it is, who reads it, which inputs make it."""
        elements = np.unique(np.concatenate(list(family.element.values())))
        held: list[list[int]] = [[] for _ in elements]
        readers: list[list[tuple[int, int]]] = [[] for _ in elements]
        makers: list[list[tuple[int, int]]] = [[] for _ in elements]
        at = {r: np.searchsorted(elements, e) for r, e in family.element.items()}
        for r, positions in at.items():
            for e in positions.tolist():
                held[e].append(r)
        for i, use in enumerate(family.uses):
            if use.made in at:
                positions = at[use.made]
                for c, e in enumerate(positions.tolist()):
                    makers[e].append((i, c * use.groups // len(positions)))
            inputs = len(use.operand.root)
            for c, (r, channel) in enumerate(
                zip(use.operand.root.tolist(), use.operand.channel.tolist(), strict=True)
            ):
                if r in at:
                    readers[at[r][channel]].append((i, c * use.groups // inputs))
        return _ranks(held), _ranks([sorted(set(r)) for r in readers]), _ranks(makers)

    def order(self, family: _Family) -> None:
        """Take the best order, if it is better than what is there."""
        hard, readers, makers = self.keys(family)
        elements = np.unique(np.concatenate(list(family.element.values())))
        best, least = None, self.cost(family)
        for keys, fitted in product(
            ((readers,), (readers, makers), (makers, readers), (makers,)), (False, True)
        ):
            order = np.lexsort((*keys[::-1], hard))
            runs = np.stack([hard, *keys])[:, order]
            new = np.flatnonzero(np.concatenate([[True], (runs[:, 1:] != runs[:, :-1]).any(0)]))
            sizes = np.diff([*new, len(order)]).tolist()
            slots = np.empty(len(order), np.int64)
            slots[order] = _slots(sizes, runs[0, new].tolist(), self.overlay.block_in, fitted)
            before = {r: self.lanes[r] for r in family.element}
            for r, e in family.element.items():
                self.lanes[r] = self.compressed(slots[np.searchsorted(elements, e)])
            cost = self.cost(family)
            if cost < least:
                best, least = {r: self.lanes[r] for r in family.element}, cost
            for r, lanes in before.items():
                self.lanes[r] = lanes
        for r, lanes in (best or {}).items():
            self.lanes[r] = lanes

    def compressed(self, slots: I64) -> I64:
        """Slots as lanes of a map that has only the half words in which there are some."""
        used, position = np.unique(slots // self.overlay.block_in, return_inverse=True)
        del used
        return np.asarray(position * self.overlay.block_in + slots % self.overlay.block_in, np.int64)

    def places(self, operand: _Operand) -> tuple[I64, I64]:
        """By channel its half word, numbered over all roots, and the lane in it."""
        lane = np.concatenate(self.lanes)[self.starts[operand.root] + operand.channel]
        key = (operand.root << 40) + (operand.pixel << 16) + lane // self.overlay.block_in
        return np.unique(key, return_inverse=True)[1].astype(np.int64), lane % self.overlay.block_in

    def cost(self, family: _Family) -> float:
        """Cycles of the units in all nodes that make or read the family."""
        return sum(self.cycles(use) for use in family.uses)

    def cycles(self, use: _Use) -> float:
        half, lane = self.places(use.operand)
        count = int(half.max()) + 1
        if use.made is not None:
            inputs = np.zeros((use.groups, count), np.int32)
            inputs[np.arange(len(half)) * use.groups // len(half), half] = 1
            made = self.lanes[use.made]
            vector = made // self.overlay.block_out
            outputs = np.zeros((int(vector.max()) + 1, use.groups), np.int32)
            outputs[vector, np.arange(len(made)) * use.groups // len(made)] = 1
            return float(np.count_nonzero(outputs @ inputs)) * use.cycles
        if use.other is None or len(use.other.root) != len(half):
            return count * use.cycles
        half2, lane2 = self.places(use.other)
        together = len(np.unique(half << 32 | half2))
        if together == count == int(half2.max()) + 1 and (lane == lane2).all():
            return count * use.cycles
        channel = np.arange(len(half))  # what is not in order is copied so: sums, and their requantisation
        work, half_words = 0.0, -(-len(half) // self.overlay.block_in)
        requantise = half_words * self.overlay.block_in / self.overlay.vector_lanes
        for h, at in ((half, lane), (half2, lane2)):
            if (h != channel // self.overlay.block_in).any() or (at != channel % self.overlay.block_in).any():
                work += len(np.unique((channel // self.overlay.block_out) << 32 | h)) + requantise
        pixels = use.cycles * self.overlay.vector_lanes / self.overlay.block_in
        return half_words * use.cycles + work * pixels


def _ranks(keys: Sequence[Iterable[object]]) -> I64:
    """Keys as numbers in the same order."""
    rows: list[tuple[object, ...]] = [tuple(k) for k in keys]
    rank: Mapping[tuple[object, ...], int] = {k: i for i, k in enumerate(sorted(set(rows)))}
    return np.array([rank[row] for row in rows], np.int64)


def _slots(sizes: Sequence[int], hard: Sequence[int], block_in: int, fitted: bool) -> I64:
    """Slots of the elements of runs of these sizes; runs that differ in `hard` share no half word.

    With `fitted` a run takes as few half words as it can: full ones, and for the rest the first with room.
    """
    found: list[I64] = []
    top = 0
    free: dict[int, tuple[int, int]] = {}  # half words with room: slots taken, hard
    for i, (size, kind) in enumerate(zip(sizes, hard, strict=True)):
        if not fitted:
            if i and kind != hard[i - 1]:
                top += -top % block_in
            found.append(np.arange(top, top + size))
            top += size
            continue
        whole, rest = size - size % block_in, size % block_in
        found.append(np.arange(top, top + whole))
        top += whole
        if rest:
            room = (b for b, (taken, k) in free.items() if k == kind and taken + rest <= block_in)
            at = next(room, top)
            taken = free.get(at, (0, kind))[0]
            found.append(np.arange(at + taken, at + taken + rest))
            free[at] = taken + rest, kind
            top = max(top, at + block_in)
    return np.concatenate(found)
