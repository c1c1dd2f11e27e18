"""Places in the scratchpads: pairs of buffers that take turns."""

from __future__ import annotations

from collections.abc import Hashable
from dataclasses import dataclass, field

from tilewright.targets.config import Overlay

STRIPE_BYTES = 2048
"""DRAM bytes that could move while a stripe waits for its first data (100 cycles of 16 bytes) and its instructions
are fetched (7 of 64 bytes): what cutting once more is taken to cost."""


@dataclass(eq=False)
class Twin:
    """Buffers at fixed addresses that are filled in turn; remembers what each holds."""

    addresses: tuple[int, ...]
    turn: int = 0
    holds: dict[Hashable, int] = field(default_factory=dict)

    def next(self, content: Hashable = None) -> int:
        """The address of the buffer whose turn it is, from now on holding `content`."""
        address = self.addresses[self.turn]
        self.turn = (self.turn + 1) % len(self.addresses)
        self.holds = {k: a for k, a in self.holds.items() if a != address}
        if content is not None:
            self.holds[content] = address
        return address


@dataclass(frozen=True)
class Buffers:
    """ACT buffers of a layer: its source (and second source) and its result."""

    source: Twin
    result: Twin
    source2: Twin


@dataclass(eq=False)
class Scratchpads:
    """The scratchpads of an overlay, shared out for one region."""

    overlay: Overlay
    layers: int = 0
    acc: int = 0
    wgt: Twin = field(init=False)
    param: Twin = field(init=False)

    def __post_init__(self) -> None:
        self.wgt = Twin((0, self.wgt_half))
        self.param = Twin((0, self.param_half))

    @property
    def wgt_half(self) -> int:
        """Tiles of a WGT buffer."""
        return self.overlay.wgt_tiles // 2

    @property
    def param_half(self) -> int:
        """Records of a PARAM buffer."""
        return self.overlay.param_records // 2

    def next_acc(self) -> int:
        """The half of ACC whose turn it is."""
        self.acc ^= 1
        return self.acc

    def layer_buffers(
        self, source: int, count: int, result: int, source2: int = 0, count2: int = 1
    ) -> Buffers:
        """Share ACT out for a layer: `count` buffers of `source` half words, `count2` of `source2`, two results.

        Every other layer begins at the far end, so that LOAD can fill a layer's first buffer while the layer before
        still works.
        """
        sizes = [source] * count + [source2] * count2 + [result] * 2
        starts, position = [], 0
        for size in sizes:
            starts.append(position)
            position += size
        if self.layers % 2:
            starts = [self.overlay.act_half_words - a - n for a, n in zip(starts, sizes, strict=True)]
        self.layers += 1
        return Buffers(
            Twin(tuple(starts[:count])),
            Twin(tuple(starts[count + count2 :])),
            Twin(tuple(starts[count : count + count2])),
        )
