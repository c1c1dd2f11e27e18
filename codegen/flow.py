"""Machine layers as a graph over maps: who writes a map, who reads it, and which rows of it a result needs."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field

from tilewright.codegen.layers import Layer, VectorLayer
from tilewright.codegen.values import Map, Source


def sources(layer: Layer) -> tuple[Source, ...]:
    """What a layer reads."""
    second = layer.source2 if isinstance(layer, VectorLayer) else None
    return (layer.source,) if second is None else (layer.source, second)


def is_flat(source: Source, m: Map) -> bool:
    """Whether the source reads the whole map as one pixel."""
    return (source.height, source.width) != (m.height, m.width)


@dataclass(frozen=True)
class Reading:
    """How a layer reads a map.

    Attributes:
        first_block, blocks: the half words of a pixel from the first to the last that it reads.
        whole: it reads all rows for every result.
    """

    first_block: int
    blocks: int
    whole: bool


@dataclass(eq=False)
class Flow:
    """The layers of a region and the maps between them.

    Attributes:
        names: of the layers, made different by a number where several stem from one operator; none is an input's.
        writers, readers: numbers of the layers that write and read a map.
        reads: maps that each layer reads; `reading`: how, by layer number and map.
    """

    layers: Sequence[Layer]
    names: list[str] = field(init=False)
    writers: dict[Map, list[int]] = field(init=False)
    readers: dict[Map, list[int]] = field(init=False)
    reads: list[list[Map]] = field(init=False)
    reading: dict[tuple[int, Map], Reading] = field(init=False)
    maps: dict[str, Map] = field(init=False)

    def __post_init__(self) -> None:
        self.names, self.writers, self.readers, self.reading = [], {}, {}, {}
        written = {layer.output for layer in self.layers}
        read = {m for layer in self.layers for source in sources(layer) for m, _ in source.blocks}
        seen = Counter(m.name for m in read - written)
        for i, layer in enumerate(self.layers):
            seen[layer.name] += 1
            self.names.append(layer.name if seen[layer.name] == 1 else f"{layer.name}#{seen[layer.name]}")
            self.writers.setdefault(layer.output, []).append(i)
            for source in sources(layer):
                for m in dict.fromkeys(m for m, _ in source.blocks):
                    self.readers.setdefault(m, [])
                    if i not in self.readers[m]:
                        self.readers[m].append(i)
                    self.reading[i, m] = _reading(source, m, self.reading.get((i, m)))
        self.reads = [
            list(dict.fromkeys(m for source in sources(layer) for m, _ in source.blocks))
            for layer in self.layers
        ]
        self.maps = {}
        for m in dict.fromkeys([*self.readers, *self.writers]):
            self.maps[self.name(m)] = m

    def name(self, m: Map) -> str:
        """A map is called like the layer that writes it first, an input like itself."""
        return self.names[self.writers[m][0]] if m in self.writers else m.name

    def plain(self, m: Map) -> bool:
        """Whether one layer writes the map, row by row from the first to the last."""
        if len(self.writers.get(m, ())) != 1:
            return m not in self.writers
        g = self.layers[self.writers[m][0]].geometry
        return g.first == (0, 0) and g.step == (1, 1) and not g.swapped and g.count == (m.height, m.width)

    def read_by(self, i: int) -> list[Map]:
        """The maps that a layer reads."""
        return self.reads[i]

    def needs(self, i: int, m: Map, start: int, stop: int) -> tuple[int, int]:
        """First row of map `m` that results `start` .. `stop - 1` of layer i read, and the row after the last."""
        reading = self.reading[i, m]
        if reading.whole:
            return 0, m.height
        first, count = self.layers[i].geometry.span(0, start, stop - start, m.height)
        return first, first + count


def _reading(source: Source, m: Map, known: Reading | None) -> Reading:
    if is_flat(source, m):
        found = Reading(0, m.blocks, True)
    else:
        held = [block for other, block in source.blocks if other is m]
        last = max(held) + (m.planes - 1) * m.plane_blocks
        found = Reading(min(held), last + 1 - min(held), False)
    if known is None:
        return found
    first = min(found.first_block, known.first_block)
    last = max(found.first_block + found.blocks, known.first_block + known.blocks)
    return Reading(first, last - first, found.whole or known.whole)
