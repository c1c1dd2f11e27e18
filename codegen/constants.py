"""The constants segment: weight tiles and parameter records, laid out as LOAD copies them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from tilewright.codegen.layers import Parameters
from tilewright.targets.arithmetic import B_BITS, M_BITS, S_MAX, S_MIN
from tilewright.targets.config import Overlay

I64 = NDArray[np.int64]
U8 = NDArray[np.uint8]

ALL_QUARTERS = 0b1111
"""Of a block's lanes, as `w_signed` names them."""

_RECORD = np.dtype([("m", "<i4"), ("s", "<i4"), ("b", "<i8")])


@dataclass(eq=False)
class Pool:
    """Collects constants; equal contents are stored once.

    `products` remembers, for each tile and each depthwise tap row by its byte offset, how many of its weights belong
    to the network; the rest fills blocks.
    """

    alignment: int
    chunks: list[bytes] = field(default_factory=list)
    size: int = 0
    offsets: dict[bytes, int] = field(default_factory=dict)
    products: dict[int, int] = field(default_factory=dict)

    def add(self, content: bytes) -> int:
        """Store and return the byte offset."""
        if content in self.offsets:
            return self.offsets[content]
        padding = -self.size % self.alignment
        self.chunks.append(b"\0" * padding)
        offset = self.size + padding
        self.chunks.append(content)
        self.size = offset + len(content)
        self.offsets[content] = offset
        return offset

    def add_weights(self, content: bytes, products: Sequence[int], unit: int) -> int:
        """Store weights in units of `unit` bytes with the number of the network's own products of each."""
        padding = -self.size % self.alignment
        self.chunks.append(b"\0" * padding)
        offset = self.size + padding
        self.chunks.append(content)
        self.size = offset + len(content)
        self.products.update({offset + i * unit: n for i, n in enumerate(products) if n})
        return offset

    def bytes(self) -> bytes:
        """The segment."""
        return b"".join(self.chunks)


def pack_bits(values: NDArray[np.integer], bits: int) -> U8:
    """Pack values of `bits` (1, 2, 4, 8) little-endian within bytes. Shapes: (..., n) -> (..., n*bits/8)."""
    if bits == 8:
        return values.astype(np.uint8)
    per = 8 // bits
    lanes = (values.astype(np.int64) & ((1 << bits) - 1)).reshape(*values.shape[:-1], -1, per)
    return np.asarray((lanes << (np.arange(per) * bits)).sum(axis=-1), np.uint8)


def parameter_records(parameters: Parameters, lanes: NDArray[np.int32], zero_point: int) -> bytes:
    """Records for half words with these channels.

    Shapes: `lanes` (half words, block_in), -1 for a lane without channel, which becomes the constant `zero_point`.
    Order: half word, set, lane.
    """
    sets = [(parameters.m, parameters.s, parameters.b)]
    if parameters.m2 is not None and parameters.b2 is not None:
        sets.append((parameters.m2, parameters.s, parameters.b2))
    records = np.zeros((lanes.shape[0], len(sets), lanes.shape[1]), _RECORD)
    held = lanes >= 0
    channel = np.where(held, lanes, 0)
    for i, (m, s, b) in enumerate(sets):
        records["m"][:, i] = np.where(held, m[channel], 0)
        records["s"][:, i] = np.where(held, s[channel], S_MIN)
        records["b"][:, i] = np.where(held, b[channel], zero_point << S_MIN)
    check_records(records["m"], records["s"], np.where(records["m"] == 0, 0, records["b"]))
    return records.tobytes()


def check_records(m: NDArray[np.integer], s: NDArray[np.integer], b: NDArray[np.integer]) -> None:
    """Parameters must fit their fields; the passes choose them so."""
    assert np.abs(m).max(initial=0) < 1 << M_BITS, f"m {np.abs(m).max()}"
    assert s.min(initial=S_MIN) >= S_MIN and s.max(initial=S_MIN) <= S_MAX, f"s {s.min()}..{s.max()}"
    assert np.abs(b).max(initial=0) < 1 << (B_BITS - 1), f"B {np.abs(b).max()}"


def depthwise_records(weight: NDArray[np.integer], lanes: NDArray[np.int32]) -> NDArray[np.int16]:
    """Taps of half words with these channels. Shapes: (channels, taps), (n, block_in) -> (n, taps, block_in)."""
    taps = weight[np.where(lanes >= 0, lanes, 0)]  # (n, block_in, taps)
    return np.where((lanes >= 0)[:, :, None], taps, 0).swapaxes(1, 2).astype("<i2")


@dataclass(frozen=True, eq=False)
class Part:
    """Weights of wgt_bits, worth 2^shift each.

    Attributes:
        signed: quarters of a block's lanes whose weights are signed, one bit each.
        quartered: the quarters are worth 2^0, 2^wgt_bits, 2^wgt_bits and 2^(2 wgt_bits) times as much.
    """

    weight: NDArray[np.int8]
    shift: int = 0
    signed: int = ALL_QUARTERS
    quartered: bool = False


@dataclass(frozen=True, eq=False)
class Tiles:
    """Weights as tiles.

    Shapes: `parts` of (output vectors, input half words, KH, KW, block_out, block_in) each, which add up to the
    weights: one, or as many as it takes where weights exceed wgt_bits; `products` (output vectors, input half words,
    KW): the network's own products of a tile, in every kernel row.
    """

    parts: tuple[Part, ...]
    products: I64

    def used(self, part: int, vector: int) -> list[int]:
        """Input half words of which an output vector needs tiles: zeros are skipped."""
        weight = self.parts[part].weight
        needed = self.products[vector].any(1) if part == 0 else weight[vector].any((1, 2, 3, 4))
        return [int(i) for i in np.flatnonzero(needed)]

    def rows(self, part: int, vector: int, ic: int, end: int) -> list[tuple[int, int]]:
        """First and end of runs of kernel rows of which an output vector needs tiles of half words ic .. end-1."""
        weight = self.parts[part].weight[vector, ic:end]
        if part == 0:
            return [(0, weight.shape[1])]
        needed = np.flatnonzero(weight.any((0, 2, 3, 4)))
        runs = np.split(needed, np.flatnonzero(np.diff(needed) > 1) + 1)
        return [(int(run[0]), int(run[-1]) + 1) for run in runs if len(run)]


def tile_weights(
    weight: NDArray[np.integer],
    present: NDArray[np.bool_] | None,
    lanes: NDArray[np.int32],
    overlay: Overlay,
    quartered: bool = False,
) -> Tiles:
    """Arrange weights (O, I, KH, KW) for a source with these lanes.

    With `quartered` each quarter of a half word has the same channels: the low digits of their values in the first two,
    the high ones in the others. Their weights' digits are low, high, low, high.
    """
    outputs, inputs, kh, kw = weight.shape
    vectors = -(-outputs // overlay.block_out)
    held = lanes.reshape(-1) >= 0
    channel = np.where(held, lanes.reshape(-1), 0)
    in_order = len(channel) == inputs and bool((channel == np.arange(inputs)).all())
    picked = weight if in_order else np.take(weight, channel, axis=1)
    if not held.all():
        picked[:, ~held] = 0
    if vectors * overlay.block_out != outputs:
        fill = np.zeros((vectors * overlay.block_out - outputs, *picked.shape[1:]), picked.dtype)
        picked = np.concatenate([picked, fill])
    shape = (vectors, overlay.block_out, lanes.shape[0], overlay.block_in, kh, kw)
    blocked = picked.reshape(shape).transpose(0, 2, 4, 5, 1, 3)
    if overlay.wgt_bits == 1:
        parts: tuple[Part, ...] = (_bipolar(blocked, lanes),)
    elif quartered:
        parts = (_quarters(blocked, overlay.wgt_bits),)
        lanes = np.where(np.arange(overlay.block_in) < overlay.block_in // 4, lanes, -1).astype(np.int32)
    else:
        parts = split_weights(blocked, overlay.wgt_bits)
    return Tiles(parts, tile_products((outputs, kw), present, lanes, overlay))


def _bipolar(weight: NDArray[np.integer], lanes: NDArray[np.int32]) -> Part:
    """Weights of -1 and +1 as bits. Lanes without a channel all hold -1, and half of them get +1, half -1.

    Shapes: weight (.., block_out, block_in) with input half words on axis 1, lanes (input half words, block_in).
    """
    free = lanes < 0
    balance = np.where(np.cumsum(free, axis=1) % 2 == 1, -1, 1)
    filled = np.where(free[:, None, None, None], balance[:, None, None, None], weight)
    return Part(np.ascontiguousarray((filled + 1) >> 1, np.int8))


def unbalanced(lanes: NDArray[np.int32]) -> int:
    """What the lanes without a channel add to a sum of bipolar products at each tap: 1 where their number is odd."""
    return int(((lanes < 0).sum(1) % 2).sum())


def _quarters(weight: NDArray[np.integer], bits: int) -> Part:
    low, high = weight & ((1 << bits) - 1), weight >> bits
    quarter = np.arange(weight.shape[-1]) * 4 // weight.shape[-1]
    digits = np.where(quarter % 2 == 0, low, high).astype(np.uint8).view(np.int8)
    return Part(np.ascontiguousarray(digits), 0, 0b1010, quartered=True)


def tile_products(
    size: tuple[int, int], present: NDArray[np.bool_] | None, lanes: NDArray[np.int32], overlay: Overlay
) -> I64:
    """Products of the network's own weights in a tile, the same in every kernel row.

    Shapes: `size` is (O, KW), `present` (O, I, KW); -> (output vectors, input half words, KW).
    """
    outputs, columns = size
    vectors = -(-outputs // overlay.block_out)
    if present is None:
        rows = np.minimum(outputs - np.arange(vectors) * overlay.block_out, overlay.block_out)
        return np.asarray((rows[:, None] * (lanes >= 0).sum(1))[:, :, None].repeat(columns, 2), np.int64)
    held = lanes.reshape(-1) >= 0
    real = np.zeros((vectors * overlay.block_out, len(held), columns), np.bool_)
    real[:outputs] = present[:, np.where(held, lanes.reshape(-1), 0)] & held[:, None]
    blocked = real.reshape(vectors, overlay.block_out, *lanes.shape, columns)
    return np.asarray(blocked.sum((1, 3)), np.int64)


def weight_bits(weight: NDArray[np.generic]) -> int:
    """Bits of the widest weight, its sign included; 1 where all are -1 or +1."""
    low, high = int(weight.min(initial=0)), int(weight.max(initial=0))
    if low >= -1 and high <= 1 and bool(weight.all()):
        return 1
    return 1 + max(high.bit_length(), (-low - 1).bit_length() if low else 0)


def split_weights(weight: NDArray[np.integer], bits: int) -> tuple[Part, ...]:
    """Write weights as a sum of ones of `bits`, in the way that leaves the fewest tiles with anything in them.

    Shapes: (output vectors, input half words, KH, KW, block_out, block_in) -> parts of the same. One part where they
    fit. Else what single large weights exceed the range by becomes parts of its own, or all weights are cut into
    digits, of which the highest is signed. The first part takes all tiles, since it stands for the network's products.
    """
    half = 1 << (bits - 1)
    if weight.dtype.itemsize * 8 <= bits or bool(((weight >= -half) & (weight < half)).all()):
        return (Part(np.ascontiguousarray(weight, np.int8)),)
    ways = [way for way in (_clipped(weight, bits), _digits(weight, bits)) if way is not None]
    return min(ways, key=lambda way: sum(int(p.weight.any((3, 4, 5)).sum()) for p in way[1:]))


def _clipped(weight: NDArray[np.integer], bits: int) -> tuple[Part, ...] | None:
    half = 1 << (bits - 1)
    if int(np.abs(weight).max()) > 3 * half:
        return None
    parts, rest = [], weight
    while rest.any():
        parts.append(Part(np.ascontiguousarray(np.clip(rest, -half, half - 1), np.int8)))
        rest = rest - parts[-1].weight
    return tuple(parts)


def _digits(weight: NDArray[np.integer], bits: int) -> tuple[Part, ...]:
    half = 1 << (bits - 1)
    parts, rest, shift = [], weight, 0
    while ((rest < -half) | (rest >= half)).any():
        digit = (rest & ((1 << bits) - 1)).astype(np.uint8).view(np.int8)
        parts.append(Part(np.ascontiguousarray(digit), shift, signed=0))
        rest, shift = rest >> bits, shift + bits
    return (*parts, Part(np.ascontiguousarray(rest, np.int8), shift))
