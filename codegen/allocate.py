"""Places of maps in DRAM: a workspace map's bytes serve another one once nothing reads it any more.

Maps are placed in order of falling size, each at the lowest offset at which it meets no map that lives at the same
time (greedy by size; Pisarchyk and Lee, "Efficient memory management for deep neural net inference", 2020).
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

from tilewright.codegen.layers import Layer, VectorLayer
from tilewright.codegen.values import Map, Source
from tilewright.targets.config import Overlay
from tilewright.targets.isa.spec import Base


@dataclass(frozen=True)
class Lifetime:
    """Layers `first` to `last`, both included, during which a map's content is needed."""

    first: int
    last: int

    def meets(self, other: Lifetime) -> bool:
        """Whether both are needed at some time."""
        return self.first <= other.last and other.first <= self.last


def lifetimes(layers: Sequence[Layer]) -> dict[Map, Lifetime]:
    """From the first layer that writes a map to the last that reads it (or writes it, where none does)."""
    found: dict[Map, Lifetime] = {}
    for i, layer in enumerate(layers):
        for m in (layer.output, *(m for source in sources(layer) for m, _ in source.blocks)):
            found[m] = Lifetime(found[m].first if m in found else i, i)
    return found


def sources(layer: Layer) -> tuple[Source, ...]:
    """What a layer reads."""
    second = layer.source2 if isinstance(layer, VectorLayer) else None
    return (layer.source,) if second is None else (layer.source, second)


def place_maps(maps: Iterable[Map], layers: Sequence[Layer], overlay: Overlay) -> dict[Base, int]:
    """Give every map its offset. Returns the sizes in bytes of the workspace, input and output segments."""
    sizes = {Base.WORKSPACE: 0, Base.INPUT: 0, Base.OUTPUT: 0}
    needed = lifetimes(layers)
    reusable: list[Map] = []
    for m in maps:
        if m.segment is Base.WORKSPACE:
            reusable.append(m)
        else:
            m.offset = sizes[m.segment]
            sizes[m.segment] += m.half_words * overlay.half_word_bytes
    placed: list[tuple[int, int, Lifetime]] = []  # start, stop, when
    for m in sorted(reusable, key=lambda m: -m.half_words):
        if m not in needed:
            continue
        size, when = m.half_words * overlay.half_word_bytes, needed[m]
        start = 0
        for other_start, other_stop, other_when in sorted(placed, key=lambda p: p[0]):
            if other_when.meets(when) and other_start < start + size and start < other_stop:
                start = other_stop
        m.offset = start
        placed.append((start, start + size, when))
        sizes[Base.WORKSPACE] = max(sizes[Base.WORKSPACE], start + size)
    return sizes
