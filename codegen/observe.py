"""A compiled region that also gives the results of its layers: what is made on chip is seen without changing how.

The instructions of the stream stay as they are, in their order, with their addresses; STOREs are put between them that
copy results into an output segment made longer. So what is observed is computed by the very instructions of the
region, on whatever runs streams: a simulator or a board. Two kinds of STORE are added:

* a map that goes through DRAM is copied as the region itself stores it: each of its STOREs is repeated with another
  offset, so a STORE that picks wrong half words shows;
* a map that stays in ACT is copied at the end of each turn from the lines that the schedule says it lies in.

Only tokens change: each instruction waits for the one before it, which is the order that the stream stands for, so that
the copies race with nothing. Whether the region's own tokens are right is seen by running it as it is.

A result that is in no map cannot be observed: that of a convolution whose sums a pool takes, or of one whose results a
table replaces.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise

import numpy as np

from tilewright.codegen.buffers import Buffer, Drain, Step
from tilewright.codegen.compile import Tiles
from tilewright.codegen.graph import Graph, Tensor
from tilewright.codegen.packing import in_planes
from tilewright.codegen.tile import TileProgram
from tilewright.codegen.transfer import Transfer
from tilewright.codegen.values import Map, Value
from tilewright.errors import Fault, SimError
from tilewright.integer import ops
from tilewright.targets.isa.spec import Base, Finish, Instruction, Store, Vector
from tilewright.targets.region import MapLayout


@dataclass(frozen=True)
class Observed:
    """Instructions that also copy layers' results.

    Attributes:
        instructions: FINISH last; their tokens are those of the stream, and wrong: see :func:`in_order`.
        source: of each instruction the number of the one of the stream that it is or follows.
        layouts: of the tensors that are seen, in the output segment; named like the tensors.
        output_bytes: size of that segment.
    """

    instructions: tuple[Instruction, ...]
    source: tuple[int, ...]
    layouts: tuple[MapLayout, ...]
    output_bytes: int


def observable(tiles: Tiles, graph: Graph) -> dict[str, tuple[Tensor, Map, Value]]:
    """The tensors of a region that a map holds for itself once it is made, by name."""
    lowered, flow = tiles.prepared.lowered, tiles.prepared.flow
    found: dict[str, tuple[Tensor, Map, Value]] = {}
    seen: dict[int, str] = {}
    for node in graph.nodes:
        value = lowered.values[node.output.name]
        if isinstance(node.operator, ops.Table) and value is lowered.values[node.inputs[0].name]:
            found.pop(node.inputs[0].name, None)
        elif isinstance(node.operator, ops.Layout | ops.Shift) and any(id(m) in seen for m in value.maps):
            continue
        if not value.channels_in_place() or len(np.unique(value.channel_places()[0])) > 1:
            continue
        number, lanes = value.channel_places()
        m = value.maps[int(number[0])]
        if m in flow.writers and len(np.unique(lanes)) == len(lanes):
            found[node.output.name] = (node.output, m, value)
            seen[id(m)] = node.output.name
    return found


def observe(
    tiles: Tiles,
    graph: Graph,
    instructions: Sequence[Instruction],
    layers: Sequence[str],
    wanted: Collection[str] | None = None,
) -> Observed:
    """Let a region's instructions copy the results that can be observed.

    Args:
        tiles: what the region was compiled to.
        instructions: those of `tiles` or of a stream that was made from it, with FINISH.
        layers: source layer of each, for messages.
        wanted: tensors to be copied; None: all.

    Raises SimError, naming the layer, where the stream has not the VECTOR and STORE instructions of its plan, or one
    stores outside of its layer's map.
    """
    return _Observation(tiles, graph, wanted).run(list(instructions), layers)


class _Observation:
    def __init__(self, tiles: Tiles, graph: Graph, wanted: Collection[str] | None) -> None:
        self.tiles = tiles
        self.overlay, self.flow = tiles.prepared.overlay, tiles.prepared.flow
        self.tensors = {
            name: found
            for name, found in observable(tiles, graph).items()
            if wanted is None or name in wanted
        }
        self.drains = [a for turn in tiles.schedule.turns for a in turn if isinstance(a, Drain)]
        stored = {d.buffer.map for d in self.drains}
        unit = self.overlay.half_word_bytes * tiles.prepared.batch
        size = tiles.sizes[Base.OUTPUT]
        self.shadows: dict[Map, Map] = {}
        for _, m, _ in self.tensors.values():
            if m.segment is not Base.OUTPUT and m not in self.shadows:
                self.shadows[m] = replace(m, segment=Base.OUTPUT, offset=size)
                size += m.half_words * unit
        self.output_bytes = size
        self.in_act = {m for m in self.shadows if m not in stored}
        self.transfer = Transfer(self.overlay, self.flow, TileProgram())

    def run(self, instructions: list[Instruction], layers: Sequence[str]) -> Observed:
        vectors = [i for i, x in enumerate(instructions) if isinstance(x, Vector)]
        stores = [i for i, x in enumerate(instructions) if isinstance(x, Store)]
        repeated = list(self.repeated())
        turns = self.tiles.program.turns
        self.count("VECTOR", len(vectors), turns[-1] if turns else 0)
        self.count("STORE", len(stores), len(repeated))
        after: dict[int, list[Instruction]] = {}
        for done, turn in zip(turns, self.tiles.schedule.turns, strict=True):
            copies = self.copies([a for a in turn if isinstance(a, Step)])
            if copies:
                after.setdefault(vectors[done - 1], []).extend(copies)
        for i, m in zip(stores, repeated, strict=True):
            if m in self.shadows:
                after.setdefault(i, []).append(self.again(instructions[i], m, i, layers))
        found: list[Instruction] = []
        source: list[int] = []
        for i, x in enumerate(instructions):
            more = [] if isinstance(x, Finish) else after.get(i, [])
            found += [x, *more]
            source += [i] * (1 + len(more))
        return Observed(
            tuple(found),
            tuple(source),
            tuple(self.layout(t, self.shadows.get(m, m), v) for t, m, v in self.tensors.values()),
            self.output_bytes,
        )

    def count(self, unit: str, found: int, expected: int) -> None:
        if found != expected:
            text = f"expected the {expected} {unit} instructions of its plan, found {found}"
            raise SimError(Fault(text, f"region {self.tiles.prepared.name}", "compile the package again"))

    def repeated(self) -> Iterator[Map]:
        """The map of each STORE of the region, in stream order."""
        for drain in self.drains:
            yield from (drain.buffer.map for _ in self.stores(drain))

    def stores(self, drain: Drain) -> list[Instruction]:
        self.transfer.program = TileProgram()
        self.transfer.drain(drain)
        return [operation.instruction for operation in self.transfer.program.operations]

    def copies(self, steps: Sequence[Step]) -> list[Instruction]:
        """STOREs of what a turn's steps have made of maps that stay in ACT."""
        found: list[Instruction] = []
        for step in steps:
            m = step.result.map
            if m not in self.in_act:
                continue
            buffer: Buffer = replace(step.result, map=self.shadows[m])
            start, stop = (step.start, step.stop) if self.flow.plain(m) else (0, m.height)
            if self.flow.plain(m) or self.last(step):
                found += self.stores(
                    Drain(step.layer, buffer, start, stop, 0, m.width, 0, m.plane_blocks, step.image)
                )
        return found

    def last(self, step: Step) -> bool:
        """Whether a step is the last that writes its map for an image."""
        steps = [
            a
            for turn in self.tiles.schedule.turns
            for a in turn
            if isinstance(a, Step) and a.result.map is step.result.map and a.image == step.image
        ]
        return steps[-1] is step

    def again(self, x: Instruction, m: Map, index: int, layers: Sequence[str]) -> Instruction:
        assert isinstance(x, Store)
        begin, size = m.offset, m.half_words * self.overlay.half_word_bytes * self.tiles.prepared.batch
        counts = (x.n0, x.n1, x.n2)
        strides = (x.dram_stride0, x.dram_stride1, x.dram_stride2)
        last = x.dram_offset + sum((n - 1) * s for n, s in zip(counts, strides, strict=True))
        ends = sorted((x.dram_offset, last))
        if x.base != m.segment or ends[0] < begin or ends[1] + self.overlay.half_word_bytes > begin + size:
            raise SimError(
                Fault(
                    f"expected a STORE to bytes {begin}..{begin + size - 1} of {m.segment.name}, where the layer's "
                    f"map lies, found bytes {ends[0]}..{ends[1]} of {Base(x.base).name}",
                    f"instruction {index}, layer {layers[index]}",
                )
            )
        shadow = self.shadows[m]
        return replace(x, base=Base.OUTPUT, dram_offset=x.dram_offset - begin + shadow.offset)

    def layout(self, tensor: Tensor, m: Map, value: Value) -> MapLayout:
        places = value.channel_places()[1]
        lanes = np.full(m.plane_blocks * self.overlay.block_in, -1, np.int32)
        lanes[places] = np.arange(len(places))
        held = in_planes(lanes, m.planes, len(places))
        return MapLayout(tensor.name, tensor.shape, tensor.dtype, m.offset, held, None, m.bits)


def in_order(instructions: Sequence[Instruction]) -> list[Instruction]:
    """The instructions with tokens by which each begins when the one before it has ended."""
    waits, gives = [0] * len(instructions), [0] * len(instructions)
    for i, (first, then) in enumerate(pairwise(instructions)):
        if first.unit is not None and then.unit is not None and first.unit is not then.unit:
            gives[i] |= 1 << then.unit
            waits[i + 1] |= 1 << first.unit
    return [
        x if isinstance(x, Finish) else replace(x, wait=w, give=g)
        for x, w, g in zip(instructions, waits, gives, strict=True)
    ]
