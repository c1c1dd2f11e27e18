"""The instruction table: every field once, with its width, unit and meaning.

The machine has four units with an in-order queue each (LOAD, MATRIX, VECTOR, STORE) and scratchpads between
them; `targets/README.md` tells what it does, the docstrings below define each instruction exactly, and
`targets/sim/reference.py` executes them. Encoder, decoder, listing and C header are derived from these
classes.

Words used below:

* *half word*: `block_in` lanes of `inp_bits`, the row of an ACT bank; ACT addresses and pitches count half
  words.
* *tile*: `block_out x block_in` weights of `wgt_bits`; WGT addresses count tiles.
* *record*: 16 bytes of PARAM; PARAM addresses count records.
* *vector*: `block_out` sums of `acc_bits`; ACC addresses count vectors. ACC has two halves.
* *entry*: `block_in` pairs (dy, dx), a row of the displacement table.

An instruction is 512 bits, stored little-endian; fields lie from bit 0 upwards in the order written, the
common ones first; bits behind the last field are 0. Lanes narrower than a byte are packed with lane 0 lowest.

Addresses are not reduced: one that lies outside its memory is an error, found before the instruction changes
anything, and so is the read of a row or DRAM byte that nothing has written.
"""

from __future__ import annotations

import dataclasses
import enum
import typing
from dataclasses import dataclass
from typing import Annotated, ClassVar

INSTRUCTION_BITS = 512
INSTRUCTION_BYTES = INSTRUCTION_BITS // 8
RECORD_BYTES = 16
TOKEN_MAX = 255
"""Largest value of a token counter (8 bits)."""


class Unit(enum.IntEnum):
    """The units that execute instructions; the value is the bit number in `wait` and `give`."""

    LOAD = 0
    MATRIX = 1
    VECTOR = 2
    STORE = 3


class Opcode(enum.IntEnum):
    """Values of the `opcode` field. 0 is illegal, so a stream of zero bytes does not run."""

    LOAD = 1
    MATRIX = 2
    VECTOR = 3
    STORE = 4
    FINISH = 5


class Memory(enum.IntEnum):
    """What a LOAD writes. `Load.n2` counts half words, tiles, records or entries."""

    ACT = 0
    WGT = 1
    PARAM = 2
    DISP = 3


class Base(enum.IntEnum):
    """DRAM base registers. A LOAD reads any; a STORE writes WORKSPACE or OUTPUT."""

    CONSTANT = 0
    WORKSPACE = 1
    INPUT = 2
    OUTPUT = 3


class VectorOp(enum.IntEnum):
    """What VECTOR does with the window of an output element (see :class:`Vector`)."""

    SUM = 0  # sum over the window; with a 1x1 window a copy
    MAX = 1  # largest over the window
    SCALED_ADD = 2  # src * m + src2 * m2 (1x1 window, ACT source)
    MULTIPLY = 3  # src * src2 (1x1 window, ACT source)
    DEPTHWISE = 4  # sum over the window of value * weight[channel][tap]


class Source(enum.IntEnum):
    """Where VECTOR reads its first operand."""

    ACT = 0
    ACC = 1


class Loop(enum.IntEnum):
    """The counters of MATRIX, as numbered in the `order_*` fields."""

    OC = 0
    IC = 1
    KY = 2
    KX = 3
    Y = 4
    X = 5


@dataclass(frozen=True)
class Bits:
    """Width and meaning of a field.

    Attributes:
        width: bits.
        doc: meaning, with unit.
        signed: two's complement.
        least: smallest legal value if larger than what the width allows (counts start at 1).
        kind: enumeration of the legal values, where there is one.
    """

    width: int
    doc: str
    signed: bool = False
    least: int | None = None
    kind: type[enum.IntEnum] | None = None

    @property
    def lo(self) -> int:
        """Smallest legal value."""
        if self.least is not None:
            return self.least
        return -(1 << (self.width - 1)) if self.signed else 0

    @property
    def hi(self) -> int:
        """Largest legal value."""
        return (1 << (self.width - (1 if self.signed else 0))) - 1


@dataclass(frozen=True)
class FieldSpec:
    """A field as laid out: `value = (word >> offset) & mask(bits.width)`."""

    name: str
    offset: int
    bits: Bits


def _count(width: int, doc: str) -> Bits:
    return Bits(width, doc, least=1)


def _flag(doc: str) -> Bits:
    return Bits(1, doc)


@dataclass(frozen=True, kw_only=True)
class Instruction:
    """What all instructions have: dependence tokens.

    Token counter (a, b) is raised when an instruction of unit a that gives to b retires, and lowered when an
    instruction of unit b that waits for a starts. A unit's own bit must be 0.
    """

    opcode: ClassVar[Opcode]
    unit: ClassVar[Unit | None] = None

    wait: Annotated[int, Bits(4, "units whose token is awaited before the start, one bit each")] = 0
    give: Annotated[int, Bits(4, "units that get a token when this retires, one bit each")] = 0


@dataclass(frozen=True, kw_only=True)
class _Copy(Instruction):
    """A 3-D strided copy; index (i0, i1, i2) with i2 fastest.

    DRAM address = base register + dram_offset + i0*dram_stride0 + i1*dram_stride1 + i2*dram_stride2 (bytes);
    scratchpad address = address + i0*stride0 + i1*stride1 + i2*stride2 (its own unit). DRAM addresses are
    multiples of the half word's bytes; those of records of 16 bytes where a half word has more. No two
    elements have a destination (row or DRAM byte) in common.
    """

    base: Annotated[int, Bits(2, "DRAM base register", kind=Base)] = 0
    dram_offset: Annotated[int, Bits(32, "bytes from the base register")] = 0
    dram_stride0: Annotated[int, Bits(32, "bytes")] = 0
    dram_stride1: Annotated[int, Bits(32, "bytes")] = 0
    dram_stride2: Annotated[int, Bits(32, "bytes")] = 0
    address: Annotated[int, Bits(16, "scratchpad address of element (0, 0, 0)")] = 0
    stride0: Annotated[int, Bits(16, "scratchpad units")] = 0
    stride1: Annotated[int, Bits(16, "scratchpad units")] = 0
    stride2: Annotated[int, Bits(16, "scratchpad units")] = 1
    n0: Annotated[int, _count(12, "outer count")] = 1
    n1: Annotated[int, _count(12, "middle count")] = 1
    n2: Annotated[int, _count(16, "inner count")] = 1


@dataclass(frozen=True, kw_only=True)
class Load(_Copy):
    """DRAM -> scratchpad, see :class:`_Copy`. Gives after its last scratchpad write.

    An element of ACT is a half word, of WGT a tile (row-major `[block_out][block_in]`, packed little-endian),
    of PARAM a record, of DISP an entry (`block_in` bytes, lane l: dy in the low nibble, dx in the high, both
    two's complement; each within what the overlay allows).
    """

    opcode = Opcode.LOAD
    unit = Unit.LOAD

    memory: Annotated[int, Bits(2, "scratchpad written", kind=Memory)] = 0


@dataclass(frozen=True, kw_only=True)
class Store(_Copy):
    """ACT -> DRAM (WORKSPACE or OUTPUT), see :class:`_Copy`. Gives after the last write response."""

    opcode = Opcode.STORE
    unit = Unit.STORE


@dataclass(frozen=True, kw_only=True)
class Matrix(Instruction):
    """An implicit convolution: ACC[o, y, x] += sum over (ic, ky, kx) of WGT tile x ACT half word.

    For all counters, nested as `order_0` (outermost) .. `order_5` say, one step:

    * block      b  = ic_first + oc*ic_stride_o + ic
    * coordinate py = y*stride_y + ky*dilation_y + offset_y, px likewise; (the map's own, not the stripe's)
    * lane l: (dy, dx) = displacement[disp_base + b][l] if `displaced` else (0, 0);
      value = ACT[act_base + ((py+dy) mod ring)*act_row + (px+dx)*act_x + b*act_ic][l] if (py, px) and
      (py+dy, px+dx) both lie in `height` x `width`, else `pad` (below 2^inp_bits); `ring` 0 means no wrap
    * tile = WGT[wgt_base + oc*wgt_oc + ic*wgt_ic + ky*wgt_ky + kx*wgt_kx]
    * vector = ACC[acc_base + oc*acc_oc + y*acc_y + x*acc_x]; with `fresh` the step with ic = ky = kx = 0
      overwrites it, all others add. Two different (oc, y, x) must not meet at one vector.

    Values are unsigned, weights two's complement where `w_signed` has the quarter's bit (lanes
    q*block_in/4 .. of quarter q), else unsigned; with 1-bit operands both are bipolar (0 is -1, 1 is +1) and
    a lane outside the map contributes nothing (an overlay has 1 bit for both or for neither). The sum of a
    step is shifted left by `shift`. With `lane_shift` the quarters' sums are shifted left by 0, h, h, 2h
    more, h = wgt_bits. Sums wrap modulo 2^acc_bits. The order of the counters does not change the result.
    """

    opcode = Opcode.MATRIX
    unit = Unit.MATRIX

    n_oc: Annotated[int, _count(8, "output blocks of block_out")] = 1
    n_ic: Annotated[int, _count(10, "input blocks of block_in")] = 1
    n_ky: Annotated[int, _count(5, "kernel rows")] = 1
    n_kx: Annotated[int, _count(5, "kernel columns")] = 1
    n_y: Annotated[int, _count(11, "output rows")] = 1
    n_x: Annotated[int, _count(11, "output columns")] = 1
    order_0: Annotated[int, Bits(3, "outermost counter", kind=Loop)] = Loop.OC
    order_1: Annotated[int, Bits(3, "counter", kind=Loop)] = Loop.IC
    order_2: Annotated[int, Bits(3, "counter", kind=Loop)] = Loop.KY
    order_3: Annotated[int, Bits(3, "counter", kind=Loop)] = Loop.KX
    order_4: Annotated[int, Bits(3, "counter", kind=Loop)] = Loop.Y
    order_5: Annotated[int, Bits(3, "innermost counter", kind=Loop)] = Loop.X
    wgt_base: Annotated[int, Bits(12, "tile of counters 0")] = 0
    wgt_oc: Annotated[int, Bits(12, "tiles per output block")] = 0
    wgt_ic: Annotated[int, Bits(12, "tiles per input block")] = 0
    wgt_ky: Annotated[int, Bits(12, "tiles per kernel row")] = 0
    wgt_kx: Annotated[int, Bits(12, "tiles per kernel column")] = 0
    acc_base: Annotated[int, Bits(10, "vector of counters 0")] = 0
    acc_oc: Annotated[int, Bits(10, "vectors per output block")] = 0
    acc_y: Annotated[int, Bits(10, "vectors per row")] = 0
    acc_x: Annotated[int, Bits(10, "vectors per column")] = 0
    act_base: Annotated[int, Bits(16, "half word of map row 0 (ring row 0), column 0, block 0")] = 0
    act_row: Annotated[int, Bits(16, "half words per row")] = 0
    act_x: Annotated[int, Bits(12, "half words per column")] = 0
    act_ic: Annotated[int, Bits(12, "half words per input block")] = 0
    ring: Annotated[int, Bits(12, "rows after which the buffer wraps; 0: never")] = 0
    ic_first: Annotated[int, Bits(8, "first input block of output block 0")] = 0
    ic_stride_o: Annotated[int, Bits(8, "input blocks from one output block's first to the next's")] = 0
    stride_y: Annotated[int, _count(4, "rows")] = 1
    stride_x: Annotated[int, _count(4, "columns")] = 1
    dilation_y: Annotated[int, _count(5, "rows")] = 1
    dilation_x: Annotated[int, _count(5, "columns")] = 1
    offset_y: Annotated[int, Bits(14, "map row read by counters 0", signed=True)] = 0
    offset_x: Annotated[int, Bits(14, "map column read by counters 0", signed=True)] = 0
    height: Annotated[int, _count(12, "rows of the map")] = 1
    width: Annotated[int, _count(12, "columns of the map")] = 1
    pad: Annotated[int, Bits(8, "value outside the map")] = 0
    displaced: Annotated[int, _flag("lanes read at (dy, dx)")] = 0
    disp_base: Annotated[int, Bits(6, "entry of block 0")] = 0
    fresh: Annotated[int, _flag("the first step at a vector overwrites it")] = 1
    w_signed: Annotated[int, Bits(4, "quarters of block_in whose weights are signed, one bit each")] = 15
    lane_shift: Annotated[int, _flag("quarters' sums are shifted 0, h, h, 2h")] = 0
    shift: Annotated[int, Bits(5, "left shift of a step's sum, bits")] = 0

    @property
    def order(self) -> tuple[Loop, ...]:
        """The counters, outermost first."""
        return tuple(Loop(getattr(self, f"order_{i}")) for i in range(6))


@dataclass(frozen=True, kw_only=True)
class Vector(Instruction):
    """Window, operation, requantisation, clamp, table: ACC or ACT -> ACT.

    Counters c (half words), y, x, nested in this order; for each output half word:

    * taps ky, kx: py = y*stride_y + ky*dilation_y + offset_y, px likewise; a tap outside `height` x `width`
      contributes nothing. A window without any tap inside is an error.
    * value(py, px, c), source ACT: half word src_base + (py mod ring)*src_row + px*src_x + c*src_c (ring 0:
      no wrap), the lowest of 2^in_planes planes; plane k lies k*src_plane further and counts 2^(k*inp_bits).
      Source ACC: lanes (c mod R)*block_in.. of vector src_base + py*src_row + px*src_x + (c div R)*src_c,
      R = block_out/block_in (1 or 2), sums sign-extended from acc_bits; ring 0 and in_planes 0.
    * v = op over the window of (value - src_zp), wrapped to acc_bits; the second operand (SCALED_ADD,
      MULTIPLY: 1x1 kernel, source ACT) w = value of half word
      src2_base + (py mod ring)*src2_row + px*src2_x + c*src2_c at tap (0, 0), the lowest of 2^in2_planes
      planes src2_plane apart, minus src2_zp.
      DEPTHWISE weight of tap t = ky*kernel_x + kx: 16-bit little-endian two's complement at byte 2*lane of
      PARAM record depthwise_base + c*depthwise_c + t*(block_in/8); read for taps inside the map.
    * parameters of lane l: PARAM record param_base + c*param_c + l, bytes 0..3 m (int32, |m| < 2^24),
      bytes 4..7 s (1..62), bytes 8..15 B (int64 within 48 bits). A second set lies block_in records further,
      read where SCALED_ADD or `negative` needs it; its s is not used.
      p = v*m + B; SCALED_ADD: p = v*m + w*m2 + B; MULTIPLY: p = (v*w)*m + B, m2 and B2 are the second set's.
      With `negative`, where p < (out_zp << s): p = v*m2 + B2 (PReLU; one s for both; not with SCALED_ADD or
      MULTIPLY).
    * y = clamp(rne(p, s), lo, hi), rne(p, s) = p / 2^s rounded half to even, lo <= hi; with `table`
      (hi <= 255) y = byte y of the 256 at record table_base, whose 16 records are read.
    * y goes to half word dst_base + ((dst_y + y) mod dst_ring)*dst_row + x*dst_x + c*dst_c (dst_ring 0: no
      wrap): its low inp_bits there, the next k*dst_plane further, up to 2^out_planes planes; bits above are
      dropped. Values and results have 16 bits at most. No two results have a half word in common.

    Source and destination may overlap if no half word is read after this instruction wrote it, in counter
    order; a result's reads come before its writes.
    """

    opcode = Opcode.VECTOR
    unit = Unit.VECTOR

    op: Annotated[int, Bits(3, "operation", kind=VectorOp)] = 0
    source: Annotated[int, Bits(1, "memory of the first operand", kind=Source)] = 0
    n_c: Annotated[int, _count(8, "half words of channels")] = 1
    n_y: Annotated[int, _count(11, "output rows")] = 1
    n_x: Annotated[int, _count(11, "output columns")] = 1
    kernel_y: Annotated[int, _count(7, "window rows")] = 1
    kernel_x: Annotated[int, _count(7, "window columns")] = 1
    stride_y: Annotated[int, _count(4, "rows")] = 1
    stride_x: Annotated[int, _count(4, "columns")] = 1
    dilation_y: Annotated[int, _count(5, "rows")] = 1
    dilation_x: Annotated[int, _count(5, "columns")] = 1
    offset_y: Annotated[int, Bits(14, "map row read by counters 0", signed=True)] = 0
    offset_x: Annotated[int, Bits(14, "map column read by counters 0", signed=True)] = 0
    height: Annotated[int, _count(12, "rows of the map")] = 1
    width: Annotated[int, _count(12, "columns of the map")] = 1
    src_base: Annotated[int, Bits(16, "half word or vector of row 0, column 0, channel 0")] = 0
    src_row: Annotated[int, Bits(16, "half words or vectors per row")] = 0
    src_x: Annotated[int, Bits(12, "half words or vectors per column")] = 0
    src_c: Annotated[int, Bits(12, "half words per channel half word, or vectors per R of them")] = 1
    ring: Annotated[int, Bits(12, "rows after which the source buffers wrap; 0: never")] = 0
    src2_base: Annotated[int, Bits(16, "half word of row 0, column 0, channel 0")] = 0
    src2_row: Annotated[int, Bits(16, "half words per row; 0 broadcasts")] = 0
    src2_x: Annotated[int, Bits(12, "half words per column; 0 broadcasts")] = 0
    src2_c: Annotated[int, Bits(12, "half words per channel half word")] = 1
    dst_base: Annotated[int, Bits(16, "half word of row 0, column 0, channel 0")] = 0
    dst_row: Annotated[int, Bits(16, "half words per row")] = 0
    dst_x: Annotated[int, Bits(12, "half words per column")] = 0
    dst_c: Annotated[int, Bits(12, "half words per channel half word")] = 1
    dst_ring: Annotated[int, Bits(12, "rows after which the destination wraps; 0: never")] = 0
    dst_y: Annotated[int, Bits(12, "row written by counter 0")] = 0
    param_base: Annotated[int, Bits(12, "record of channel half word 0, lane 0")] = 0
    param_c: Annotated[int, Bits(12, "records per channel half word; 0 shares one set")] = 0
    depthwise_base: Annotated[int, Bits(12, "record of channel half word 0, tap 0")] = 0
    depthwise_c: Annotated[int, Bits(12, "records per channel half word")] = 0
    table: Annotated[int, _flag("look the result up")] = 0
    table_base: Annotated[int, Bits(12, "record of the table's byte 0")] = 0
    negative: Annotated[int, _flag("the second set serves results below out_zp")] = 0
    lo: Annotated[int, Bits(16, "smallest result")] = 0
    hi: Annotated[int, Bits(16, "largest result")] = 255
    src_zp: Annotated[int, Bits(16, "zero point of the first operand")] = 0
    src2_zp: Annotated[int, Bits(16, "zero point of the second operand")] = 0
    out_zp: Annotated[int, Bits(16, "zero point of the result, for `negative`")] = 0
    in_planes: Annotated[int, Bits(2, "planes of the first operand, log2")] = 0
    out_planes: Annotated[int, Bits(3, "planes of the result, log2")] = 0
    in2_planes: Annotated[int, Bits(2, "planes of the second operand, log2")] = 0
    src_plane: Annotated[int, Bits(10, "half words from a plane of the first operand to the next")] = 0
    src2_plane: Annotated[int, Bits(10, "half words from a plane of the second operand to the next")] = 0
    dst_plane: Annotated[int, Bits(10, "half words from a plane of the result to the next")] = 0


@dataclass(frozen=True, kw_only=True)
class Finish(Instruction):
    """Ends the stream; retires when all units are idle. Waits for and gives nothing, for it has no unit.

    All token counters must be zero then.
    """

    opcode = Opcode.FINISH


INSTRUCTIONS: tuple[type[Instruction], ...] = (Load, Matrix, Vector, Store, Finish)
OPCODE_BITS = 3


def _lay_out(kind: type[Instruction]) -> tuple[FieldSpec, ...]:
    hints = typing.get_type_hints(kind, include_extras=True)
    specs: list[FieldSpec] = []
    offset = OPCODE_BITS
    for f in dataclasses.fields(kind):
        (bits,) = (m for m in hints[f.name].__metadata__ if isinstance(m, Bits))
        specs.append(FieldSpec(f.name, offset, bits))
        offset += bits.width
    if offset > INSTRUCTION_BITS:
        raise AssertionError(f"{kind.__name__} needs {offset} bits, an instruction has {INSTRUCTION_BITS}")
    return tuple(specs)


_LAYOUTS = {kind: _lay_out(kind) for kind in INSTRUCTIONS}


def layout(kind: type[Instruction]) -> tuple[FieldSpec, ...]:
    """The fields of an instruction with their bit offsets; the opcode occupies bits 0..2 before them."""
    return _LAYOUTS[kind]


def field_limit(kind: type[Instruction], name: str) -> int:
    """Largest value that a field holds."""
    return next(f.bits.hi for f in layout(kind) if f.name == name)
