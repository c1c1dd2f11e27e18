"""A convolution of few channels that reads a region's input: kernel columns go into the lanes of a pixel.

The input is laid out so when it is written (:class:`tilewright.targets.region.Packing`), so it costs no work on the
machine. A pixel holds `taps` neighbouring kernel columns; the convolution then has KW / taps columns, rounded up, each
over taps*C channels, and no padding of columns. 7x7x3 with stride 2 takes 4 columns into a half word at every second
column of the input: 7 rows x 2 columns = 14 steps of MATRIX for an output vector in place of 49, and half the bytes.

The rule, for every input alike: of all `taps` with fewer steps of MATRIX than the map as it is, the one with the least
max(steps, DRAM cycles to read map and weights), then the least sum of both; and that only where it is below the map's
own.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from tilewright.codegen.constants import tile_products
from tilewright.codegen.layers import Geometry
from tilewright.codegen.values import Source
from tilewright.targets.config import Overlay
from tilewright.targets.region import Packing


@dataclass(frozen=True, eq=False)
class Convolution:
    """What a MATRIX layer computes, and how its source is packed.

    Shapes: `weight` (O, channels, KH, KW), `present` (O, channels, KW) or None, channels being the source's: as in
    :class:`tilewright.codegen.layers.MatrixLayer`.
    """

    source: Source
    geometry: Geometry
    weight: NDArray[np.integer]
    present: NDArray[np.bool_] | None
    packing: Packing | None = None

    def tiles(self, overlay: Overlay) -> int:
        """Weight tiles; second ones of weights wider than the array's are left out."""
        outputs, _, kh, kw = self.weight.shape
        own = tile_products((outputs, kw), self.present, self.source.lanes, overlay)
        return int(np.count_nonzero(own.any(2)) * kh * kw)

    def steps(self, overlay: Overlay) -> int:
        """Steps of MATRIX: one for each tile and result."""
        return self.tiles(overlay) * math.prod(self.geometry.count)

    def cost(self, overlay: Overlay) -> tuple[int, int]:
        """What the rule compares: the larger of steps and of DRAM cycles to read map and weights, and their sum."""
        half_words = self.source.height * self.source.width * len(self.source.blocks)
        read = half_words * overlay.half_word_bytes + self.tiles(overlay) * overlay.tile_bytes
        steps, cycles = self.steps(overlay), -(-read // overlay.board.dram_most_read_bytes_per_cycle)
        return max(steps, cycles), steps + cycles


def lanes_of(channels: int, block_in: int) -> NDArray[np.int32]:
    """Half words whose lanes hold channels in order, -1 behind them. Shapes: -> (half words, block_in)."""
    blocks = -(-channels // block_in)
    lanes = np.arange(blocks * block_in, dtype=np.int32)
    return np.where(lanes < channels, lanes, -1).astype(np.int32).reshape(blocks, block_in)


def packed(plain: Convolution, fill: int, overlay: Overlay) -> Convolution:
    """The convolution over the best layout of the input map that it alone reads; the map is changed to that layout.

    `fill` is the stored zero point.
    """
    fewer = [c for c in _candidates(plain, fill, overlay) if c.steps(overlay) < plain.steps(overlay)]
    best = min([plain, *fewer], key=lambda c: c.cost(overlay))
    (m, _), *_ = best.source.blocks
    m.width, m.blocks, m.packing = best.source.width, len(best.source.blocks), best.packing
    return best


def _candidates(plain: Convolution, fill: int, overlay: Overlay) -> Iterator[Convolution]:
    g, (m, _) = plain.geometry, plain.source.blocks[0]
    outputs, channels, kh, kw = plain.weight.shape
    real = np.ones((outputs, channels, kw), np.bool_) if plain.present is None else plain.present
    for taps in range(2, kw + 1):
        groups = -(-kw // taps)
        beyond = (0, groups * taps - kw)  # columns behind the kernel's last
        jump = taps * g.dilation[1]  # columns of the input from one group of taps to the next
        stride = g.stride[1] if groups == 1 else math.gcd(g.stride[1], jump)
        geometry = replace(
            g,
            kernel=(kh, groups),
            stride=(g.stride[0], g.stride[1] // stride),
            dilation=(g.dilation[0], jump // stride if groups > 1 else 1),
            offset=(g.offset[0], 0),
        )
        last = (g.count[1] - 1) * geometry.stride[1] + (groups - 1) * geometry.dilation[1]
        lanes = lanes_of(taps * channels, overlay.block_in)
        weight = np.pad(plain.weight, ((0, 0), (0, 0), (0, 0), beyond))
        weight = weight.reshape(outputs, channels, kh, groups, taps).transpose(0, 4, 1, 2, 3)
        present = np.pad(real, ((0, 0), (0, 0), beyond))
        present = present.reshape(outputs, channels, groups, taps).transpose(0, 3, 1, 2)
        yield Convolution(
            Source(tuple((m, b) for b in range(len(lanes))), lanes, plain.source.height, last + 1),
            geometry,
            weight.reshape(outputs, taps * channels, kh, groups),
            present.reshape(outputs, taps * channels, groups),
            Packing(last + 1, taps, stride, g.dilation[1], g.offset[1], fill),
        )
