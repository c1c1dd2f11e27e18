"""A region ready to run: a stream, constants and a memory map. Data only."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Literal

from tilewright.targets.storage import Storage

RegionDType = Literal["int8", "uint8", "int16", "uint16"]
REGION_DTYPES: tuple[RegionDType, ...] = ("int8", "uint8", "int16", "uint16")

MOST_IMAGES = 16
"""Images of a batch at most."""


@dataclass(frozen=True)
class Packing:
    """How columns of an input are packed into the lanes of a pixel, so that few channels fill a half word.

    A pixel holds `taps` columns of the input side by side: lane value t * C + c is element
    (c, y + top, x * stride + t * dilation + offset), outside of the input the stored number `fill`.

    Attributes:
        columns, rows: of the stored map.
        taps: columns of the input that a pixel holds.
        stride: columns of the input from one pixel to the next.
        dilation: columns of the input from one tap to the next.
        offset: column of the input in tap 0 of pixel 0; may be negative.
        top: row of the input in row 0 of the map; may be negative.
        fill: stored number of what lies outside of the input, below 2^bits.
    """

    columns: int
    rows: int
    taps: int
    stride: int = 1
    dilation: int = 1
    offset: int = 0
    top: int = 0
    fill: int = 0


@dataclass(frozen=True)
class MapLayout:
    """How a tensor lies in the input or output segment of DRAM.

    Stored is the value + 2^(bits-1) for int8 and int16, the value for uint8 and uint16, in `bits`; with 1 bit 0 for -1
    and 1 for +1. A stored number lies in planes of the overlay's `inp_bits`, plane 0 being its lowest bits. Plane p of
    element (c, y, x) is the lane l with `lanes[l] == p*C + c` of pixel (y, x): with P = len(lanes) lanes a pixel, lane
    number (y*W + x)*P + l after `offset` bytes, of `inp_bits`, little-endian within a byte. Lanes with -1 hold nothing.
    An input with a `packing` has its rows and columns instead, and lanes that name a plane, a column and a channel.
    The images of a batch lie one behind the other.

    Attributes:
        name: tensor name.
        shape: (1, C, H, W) or (1, K), K being channels of a 1x1 map.
        dtype: element type outside.
        offset: bytes from the segment's start, a multiple of the half word's bytes.
        lanes: what each lane holds (of an input with a packing (p*taps + t)*C + c) or -1; a multiple of block_in long.
        packing: of an input of rank 4; None: its own columns.
        bits: 1, 2, 4, 8 or 16. A value that they do not hold is an error.
    """

    name: str
    shape: tuple[int, ...]
    dtype: RegionDType
    offset: int
    lanes: tuple[int, ...]
    packing: Packing | None = None
    bits: int = 8

    @property
    def storage(self) -> Storage:
        """How its values are stored."""
        return Storage(self.dtype, self.bits)


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
