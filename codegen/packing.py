"""A convolution of few channels that reads a region's input: kernel columns go into the lanes of a pixel.

The input is laid out so when it is written (:class:`tilewright.targets.region.Packing`), so it costs no work on the
machine. A pixel holds `taps` neighbouring kernel columns; the convolution then has KW / taps columns, rounded up, each
over taps*C channels, and no padding of columns. 7x7x3 with stride 2 takes 4 columns into a half word at every second
column of the input: 7 rows x 2 columns = 14 steps of MATRIX for an output vector in place of 49, and half the bytes.

The rule, for every input alike: of all `taps` with fewer steps of MATRIX than the map as it is, the one with the least
max(steps, DRAM cycles to read map and weights), then the least sum of both; and that only where it is below the map's
own. Values and weights of twice the array's width (8 bits on a 4-bit overlay) may go into the quarters of a pixel's
lanes digit by digit (`lane_shift`), which takes one step in place of four. Single weights beyond the array's range
(uint8 less a zero point) are sums of two, in lanes that hold the same value, where lanes are free.
"""

from __future__ import annotations

import math
from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from tilewright.codegen.constants import tile_products, weight_bits
from tilewright.codegen.layers import Geometry
from tilewright.codegen.values import Map, Source
from tilewright.targets.config import Overlay
from tilewright.targets.region import Packing


@dataclass(frozen=True, eq=False)
class Convolution:
    """What a MATRIX layer computes, and how its source is packed.

    Shapes: `weight` (O, channels, KH, KW), `present` (O, channels, KW) or None, channels being the source's: as in
    :class:`tilewright.codegen.layers.MatrixLayer`. `planes` and `lanes` are those of the source's map.
    """

    source: Source
    geometry: Geometry
    weight: NDArray[np.integer]
    present: NDArray[np.bool_] | None
    packing: Packing | None = None
    planes: int = 1
    lanes: tuple[int, ...] = ()
    quartered: bool = False

    def tiles(self, overlay: Overlay) -> int:
        """Weight tiles of one part."""
        outputs, _, kh, kw = self.weight.shape
        own = tile_products((outputs, kw), self.present, self.source.lanes, overlay)
        return int(np.count_nonzero(own.any(2)) * kh * kw)

    def parts(self, overlay: Overlay) -> int:
        """Parts into which the array's width cuts the weights, about."""
        if self.quartered:
            return 1
        return -(-weight_bits(self.weight) // overlay.wgt_bits) if overlay.wgt_bits < 8 else 1

    def steps(self, overlay: Overlay) -> int:
        """Steps of MATRIX: one for each tile, plane and result."""
        return self.tiles(overlay) * self.parts(overlay) * self.planes * math.prod(self.geometry.count)

    def cost(self, overlay: Overlay) -> tuple[int, int]:
        """What the rule compares: the larger of steps and of DRAM cycles to read map and weights, and their sum."""
        half_words = self.source.height * self.source.width * len(self.source.blocks) * self.planes
        weights = self.tiles(overlay) * self.parts(overlay) * overlay.tile_bytes
        read = half_words * overlay.half_word_bytes + weights
        steps, cycles = self.steps(overlay), -(-read // overlay.board.dram_most_read_bytes_per_cycle)
        return max(steps, cycles), steps + cycles


def lanes_of(channels: int, block_in: int) -> NDArray[np.int32]:
    """Half words whose lanes hold channels in order, -1 behind them. Shapes: -> (half words, block_in)."""
    blocks = -(-channels // block_in)
    lanes = np.arange(blocks * block_in, dtype=np.int32)
    return np.where(lanes < channels, lanes, -1).astype(np.int32).reshape(blocks, block_in)


def in_planes(lanes: NDArray[np.int32], planes: int, held: int) -> tuple[int, ...]:
    """Lanes of a pixel's lowest plane, each of one of `held` things -> of all planes, plane p naming p*held + .. ."""
    found = [np.where(lanes < 0, -1, lanes + plane * held) for plane in range(planes)]
    return tuple(int(lane) for lane in np.concatenate(found))


def packed(plain: Convolution, fill: int, overlay: Overlay) -> Convolution:
    """The convolution over the best layout of the input map that it alone reads; the map is changed to that layout.

    `fill` is the stored zero point.
    """
    (m, _), *_ = plain.source.blocks
    plain = replace(plain, planes=m.planes)
    found = [*_columns(plain, fill, overlay)]
    if _by_quarters(plain, m, overlay):
        found += [_quartered(c, overlay) for c in _columns(plain, fill, overlay, least=1)]
    best = min(
        [plain, *(c for c in found if c.steps(overlay) < plain.steps(overlay))], key=lambda c: c.cost(overlay)
    )
    best = _doubled(best, overlay)
    m.height, m.width, m.packing = best.source.height, best.source.width, best.packing
    m.blocks, m.planes, m.lanes = len(best.source.blocks) * best.planes, best.planes, best.lanes
    return best


def _doubled(c: Convolution, overlay: Overlay) -> Convolution:
    """The convolution with every channel that has a weight beyond the array's range in two lanes, if so many are free.

    Its weight is the sum of those of both lanes, so that no part of the weights takes steps of its own.
    """
    half = 1 << (overlay.wgt_bits - 1)
    within = np.clip(c.weight, -half, half - 1)
    rest = np.clip(c.weight - within, -half, half - 1)
    wide = np.flatnonzero(rest.any((0, 2, 3)))
    lanes = c.source.lanes.reshape(-1)
    free = np.flatnonzero(lanes < 0)[: len(wide)]
    if c.quartered or not 0 < len(wide) == len(free) or (within + rest != c.weight).any():
        return c
    outputs, channels, _, columns = c.weight.shape
    held, second = lanes.copy(), lanes.copy()
    held[free], second[free] = wide, channels + np.arange(len(wide))
    own = np.ones((outputs, channels, columns), np.bool_) if c.present is None else c.present
    return replace(
        c,
        source=replace(c.source, lanes=second.reshape(c.source.lanes.shape)),
        weight=np.concatenate([within, rest[:, wide]], axis=1),
        present=np.pad(own, ((0, 0), (0, len(wide)), (0, 0))),
        lanes=in_planes(held, c.planes, channels),
    )


def _by_quarters(plain: Convolution, m: Map, overlay: Overlay) -> bool:
    """Whether values and weights are two of the array's operands wide, so that quarters multiply their digits."""
    digits = overlay.inp_bits == overlay.wgt_bits > 1 and m.bits == 2 * overlay.inp_bits
    return digits and overlay.wgt_bits < weight_bits(plain.weight) <= 2 * overlay.wgt_bits


def _columns(plain: Convolution, fill: int, overlay: Overlay, least: int = 2) -> Iterator[Convolution]:
    """The convolution with `least` kernel columns or more in a pixel."""
    g, (m, _) = plain.geometry, plain.source.blocks[0]
    outputs, channels, kh, kw = plain.weight.shape
    real = np.ones((outputs, channels, kw), np.bool_) if plain.present is None else plain.present
    for taps in range(least, kw + 1):
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
            _whole(m, lanes, plain.source.height, last + 1),
            geometry,
            weight.reshape(outputs, taps * channels, kh, groups),
            present.reshape(outputs, taps * channels, groups),
            Packing(last + 1, plain.source.height, taps, stride, g.dilation[1], g.offset[1], 0, fill),
            plain.planes,
        )


def _whole(m: Map, lanes: NDArray[np.int32], height: int, width: int) -> Source:
    """A source of all half words of a map's lowest plane."""
    return Source(tuple((m, b) for b in range(len(lanes))), lanes, height, width)


def _quartered(c: Convolution, overlay: Overlay) -> Convolution:
    """A convolution with columns packed, over half words whose quarters hold the digits of the same values.

    One step of MATRIX then makes `block_in / 4` products of twice the operands' width: low x low, low x high, high x
    low, high x high. Padding has one value for all lanes, so the rows around the map are stored too.
    """
    g, (m, _), packing = c.geometry, c.source.blocks[0], c.packing
    assert packing is not None
    rows = (g.count[0] - 1) * g.stride[0] + (g.kernel[0] - 1) * g.dilation[0] + 1
    held = c.weight.shape[1]
    quarter = lanes_of(held, overlay.block_in // 4)
    lanes = np.tile(quarter, (1, 4))
    plane = np.arange(overlay.block_in) // (overlay.block_in // 2)
    codes = np.where(lanes < 0, -1, lanes + plane * held)
    return replace(
        c,
        source=_whole(m, lanes, rows, c.source.width),
        geometry=replace(g, offset=(0, 0)),
        packing=replace(packing, rows=rows, top=g.offset[0]),
        planes=1,
        lanes=tuple(int(code) for code in codes.reshape(-1)),
        quartered=True,
    )
