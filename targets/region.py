"""A region ready to run: a stream, constants and a memory map. Data only."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

RegionDType = Literal["int8", "uint8", "int16", "uint16"]
REGION_DTYPES: tuple[RegionDType, ...] = ("int8", "uint8", "int16", "uint16")

MOST_IMAGES = 16
"""Images of a batch at most."""


@dataclass(frozen=True)
class Packing:
    """How columns of an input are packed into the lanes of a pixel, so that few channels fill a half word.

    A pixel holds `taps` columns of the input side by side: lane value t * C + c is element
    (c, y, x * stride + t * dilation + offset), of a column outside of the input the stored value `fill`.

    Attributes:
        columns: of the stored map; its rows are the input's.
        taps: columns of the input that a pixel holds.
        stride: columns of the input from one pixel to the next.
        dilation: columns of the input from one tap to the next.
        offset: column of the input in tap 0 of pixel 0; may be negative.
        fill: stored value of columns outside of the input, below 2^inp_bits.
    """

    columns: int
    taps: int
    stride: int = 1
    dilation: int = 1
    offset: int = 0
    fill: int = 0


@dataclass(frozen=True)
class MapLayout:
    """How a tensor lies in the input or output segment of DRAM.

    Element (c, y, x) is the lane l with `lanes[l] == c` of pixel (y, x): with P = len(lanes) lanes a pixel, value
    number (y*W + x)*P + l after `offset` bytes, of the overlay's `inp_bits`, little-endian within a byte. Stored is
    the value + 128 for int8, the value for uint8. Lanes with -1 hold nothing (an input's may have any content).
    Results of 16 bits (stored + 32768 for int16) have two planes of 8: a pixel's low bytes, then its high bytes.
    An input with a `packing` has its columns instead of W, and lanes that name a column and a channel.
    The images of a batch lie one behind the other.

    Attributes:
        name: tensor name.
        shape: (1, C, H, W) or (1, K), K being channels of a 1x1 map.
        dtype: element type outside.
        offset: bytes from the segment's start, a multiple of the half word's bytes.
        lanes: channel of each lane (of an input with a packing t * C + c) or -1; a multiple of block_in long.
        packing: of an input of rank 4 and 8 bits; None: its own columns.
    """

    name: str
    shape: tuple[int, ...]
    dtype: RegionDType
    offset: int
    lanes: tuple[int, ...]
    packing: Packing | None = None


@dataclass(frozen=True)
class CompiledRegion:
    """A region ready to run.

    Attributes:
        name: the region's symbol.
        stream: encoded instructions, ending with FINISH.
        layers: source layer names.
        layer_of: for each instruction the index of its source layer in `layers`.
        constants: bytes behind base register 0.
        workspace_bytes: size of the segment behind base register 1.
        input_bytes, output_bytes: sizes of the segments behind base registers 2 and 3.
        inputs, outputs: the memory map, in the order of the region's parameters and results.
        batch: images that a launch works on.
    """

    name: str
    stream: bytes
    layers: tuple[str, ...]
    layer_of: tuple[int, ...]
    constants: bytes
    workspace_bytes: int
    input_bytes: int
    output_bytes: int
    inputs: tuple[MapLayout, ...]
    outputs: tuple[MapLayout, ...]
    batch: int = 1
    products: Mapping[int, int] = field(default_factory=dict)
    """For each weight tile and depthwise tap row, by its byte offset in `constants`, how many of its weights belong to
    the network (the rest fills blocks); for counting MACs from the stream."""
