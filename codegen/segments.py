"""Runs of neighbouring layers as candidates for a group: what ACT they need and what they move, by estimate.

Maps are bits of a number here, so that sets of maps are cheap: the planner asks for many thousands of groups.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from tilewright.codegen.cost import Cost, Coster
from tilewright.codegen.prepared import Prepared
from tilewright.codegen.schedule import lags
from tilewright.codegen.values import Map
from tilewright.targets.isa.spec import Base

I64 = NDArray[np.int64]
STRIPES = (
    *range(1, 9), 10, 12, 14, 16, 20, 24, 28, 32, 40, 48, 56, 64, 80, 112, 128, 224, 256, 512,
)  # fmt: skip
"""Numbers of stripes that are tried."""


@dataclass(frozen=True)
class Lines:
    """A buffer's lines as the stripes grow fewer.

    Attributes:
        bit: of the map.
        whole: half words of all of it.
        row, height: half words of a row, and rows.
        behind: stripes that it spans beyond one, by lag.
        halo: rows that it spans beyond whole stripes.
        always_whole: no matter how many stripes.
        stores: needs a stripe more where the map goes to DRAM as well.
    """

    bit: int
    whole: int
    row: int
    height: int
    behind: tuple[int, int, int]
    halo: int
    always_whole: bool
    stores: bool

    def sizes(self, stripes: I64) -> I64:
        """Half words for numbers of stripes. Shapes: (n,) -> (3, n), by lag."""
        behind = np.maximum(self.behind, int(self.stores))[:, None]
        rows = -(-self.height // stripes) + (self.height % stripes != 0)
        striped = np.minimum(self.height, rows * (1 + behind) + self.halo) * self.row
        return np.where((stripes == 1) | self.always_whole, self.whole, striped)


@dataclass(eq=False)
class Segment:
    """Layers start .. stop-1.

    Attributes:
        own: maps that they read or write.
        stripes: numbers of stripes that make sense; 1 alone where they may not be cut.
        lags: lags that differ.
        lines: of the maps that they read or write.
        loads: bit, bytes of maps that they read and do not make; whole bytes where they stay.
        stores: bit, bytes of maps that they make and that somebody else wants.
    """

    layers: range
    own: int
    stripes: I64
    lags: tuple[int, ...]
    lines: tuple[Lines, ...]
    loads: tuple[tuple[int, int, int], ...]
    stores: tuple[tuple[int, int, bool], ...]
    needed: dict[int, I64] = field(default_factory=dict)
    parts: I64 = field(init=False)

    def needs(self, whole: int) -> I64:
        """Half words of the group's own buffers, the maps in `whole` being whole. Shape: (3, numbers of stripes)."""
        key = whole & self.own
        if key not in self.needed:
            if not self.needed:
                self.parts = np.array([line.sizes(self.stripes) for line in self.lines])
            kept = [line.whole if line.bit & key else 0 for line in self.lines]
            free = np.array([not line.bit & key for line in self.lines])
            self.needed[key] = sum(kept) + self.parts[free].sum(0)
        return self.needed[key]

    def traffic(self, resident: int, keep: int) -> tuple[int, int]:
        """Bytes of maps that the group loads and stores."""
        read = sum(whole if bit & keep else part for bit, part, whole in self.loads if not bit & resident)
        write = sum(size for bit, size, must in self.stores if must or not bit & keep)
        return read, write


@dataclass(eq=False)
class Segments:
    """All segments of a region, made as they are asked for."""

    prepared: Prepared
    found: dict[tuple[int, int], Segment | None] = field(default_factory=dict)
    costs: dict[tuple[int, ...], Cost] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.flow = self.prepared.flow
        self.coster = Coster(self.prepared)
        self.maps = list(self.flow.maps.values())
        self.bit = {m: 1 << i for i, m in enumerate(self.maps)}
        self.last_use = {m: max(self.flow.readers.get(m, (-1,))) for m in self.maps}
        self.unit = self.prepared.overlay.half_word_bytes

    def size(self, bits: int) -> int:
        """Half words of whole maps."""
        return sum(m.half_words for m in self.of(bits))

    def of(self, bits: int) -> Iterator[Map]:
        """The maps of a set."""
        while bits:
            low = bits & -bits
            yield self.maps[low.bit_length() - 1]
            bits ^= low

    def get(self, start: int, stop: int) -> Segment | None:
        """A segment; None where layers read what is only partly made in it."""
        key = start, stop
        if key not in self.found:
            self.found[key] = self.make(range(start, stop))
        return self.found[key]

    def cost(self, segment: Segment, stripes: int, lag: int, read: int, write: int, images: int) -> Cost:
        """Estimate of a group."""
        key = (segment.layers.start, segment.layers.stop, stripes, lag, read, write, images)
        if key not in self.costs:
            self.costs[key] = self.coster.group(segment.layers, stripes, lag, read, write, images)
        return self.costs[key]

    def make(self, layers: range) -> Segment | None:
        flow = self.flow
        read = list(dict.fromkeys(m for i in layers for m in flow.read_by(i)))
        made = list(dict.fromkeys(flow.layers[i].output for i in layers))
        striped = True
        lines, loads, stores = [], [], []
        depths = [lags(flow, layers, lag) for lag in range(3)]
        for m in read:
            writers = flow.writers.get(m, ())
            inside = [w in layers for w in writers]
            if any(inside) and not all(inside):
                return None
            readers = [c for c in flow.readers[m] if c in layers]
            reads_whole = any(flow.reading[c, m].whole for c in readers) and m.height > 1
            scattered = any(inside) and not flow.plain(m)
            if any(inside) and (reads_whole or scattered):
                striped = False
            lines.append(self.lines_of(m, readers, depths, any(inside), reads_whole or scattered, layers))
            if not any(inside):
                pixels = m.height * m.width * self.unit
                loads.append((self.bit[m], pixels * self.span(m, readers), pixels * m.blocks))
        for m in made:
            if m not in read:
                rows, columns = flow.layers[flow.writers[m][0]].geometry.count
                row = columns * m.blocks
                lines.append(
                    Lines(self.bit[m], m.half_words, row, rows, (1, 1, 1), 0, False, False)
                    if flow.plain(m)
                    else Lines(
                        self.bit[m], min(2 * rows * row, m.half_words), row, rows, (1, 1, 1), 0, False, False
                    )
                )
            must = m.segment is Base.OUTPUT
            if must or self.last_use[m] >= layers.stop:
                share = sum(w in layers for w in flow.writers[m]) / len(flow.writers[m])
                stores.append((self.bit[m], int(m.half_words * self.unit * share), must))
        own = 0
        for m in (*read, *made):
            own |= self.bit[m]
        most = flow.layers[layers[-1]].geometry.count[0] if striped else 1
        stripes = np.array([n for n in STRIPES if n <= most] or [1])
        different = tuple(lag for lag in range(3) if lag == 0 or depths[lag] != depths[lag - 1])
        return Segment(layers, own, stripes, different, tuple(lines), tuple(loads), tuple(stores))

    def span(self, m: Map, readers: list[int]) -> int:
        """Half words of a pixel from the first to the last that some layers read."""
        spans = [self.flow.reading[c, m] for c in readers]
        return max(r.first_block + r.blocks for r in spans) - min(r.first_block for r in spans)

    def lines_of(
        self, m: Map, readers: list[int], depths: list[dict[int, int]], made: bool, whole: bool, layers: range
    ) -> Lines:
        behind: list[int] = []
        for depth in depths:
            last = max(depth[c] for c in readers)
            first = depth[self.flow.writers[m][0]] if made else min(depth[c] for c in readers) - 1
            behind.append(last - first)
        halo = 0
        for c in readers:
            g = self.flow.layers[c].geometry
            window = (g.kernel[0] - 1) * g.dilation[0] + 1 + g.above[0] + g.below[0]
            halo = max(halo, window - g.stride[0])
        blocks = m.blocks if made else self.span(m, readers)
        stores = made and (m.segment is Base.OUTPUT or self.last_use[m] >= layers.stop)
        spans = (behind[0], behind[1], behind[2])
        return Lines(self.bit[m], m.half_words, m.width * blocks, m.height, spans, halo, whole, stores)
