"""What an overlay takes of its board's part, from its sizes alone: LUT, FF, DSP and BRAM36, term by term.

Each term is a circuit of `targets/timing.md` and says where its figure comes from:

* `synthesis`: a core or part that was synthesised before; the figures are quoted at `SYNTHESISED`.
* `parts`: a module of `parts.v`, synthesised by `python -m tilewright.benchmark parts`, which prints what stands in
  the tables below.
* `count`: follows from sizes, such as block RAM and registers.
* `judgement`: nobody has built it; a size that similar circuits have.

Yosys counts every LUT alone where vendor tools put two small functions into one LUT6, so LUTs are on the high side.

**DSPs** go first to the requantisers, which cannot do without, then to whichever saves most LUTs for a DSP: products
of MATRIX, or of VECTOR's depthwise windows. What is left over is made of LUTs. A DSP makes several products that
share the activation: their weights lie in its long port at a pitch at which products, or sums of a chain of four, do
not meet.

**Depthwise multipliers.** A read of VECTOR updates three windows (`timing.md`), so a lane has three multipliers, 96
in 32 lanes. They are not in the 320 DSPs that the machine was planned with: 256 for MATRIX and 64 for requantising
are all of those, and 96 more do not fit into 360. Of 9-bit weights (int8, or uint8 less its zero point, all that the
compiler makes) two share a DSP and the third is made of LUTs: 32 DSPs and 32 multipliers. A value of two
planes takes a read for each, so a multiplier is a plane and a sign wide. The 16 bits that VECTOR reads for a weight
would cost 96 DSPs, or 305 LUTs each: circuits that keep to this model refuse wider weights.

**Pumped DSPs** (`dsp_pumping` 2) run at twice the clock, each with two sets of operands a cycle from its A1, A2, B1
and B2 registers, which INMODE chooses between (UG479, DSP48E1). MATRIX's adds both products up in P: a chain of two in
time. A requantiser's multiplies m by the low part of the sum and then, with P shifted right by 17, by the high part:
one DSP in place of two. A depthwise one serves two windows, of two lanes if need be, so that none is made of LUTs.
"""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import astuple, dataclass
from typing import TYPE_CHECKING, Literal

from tilewright.errors import Fault

if TYPE_CHECKING:
    from tilewright.targets.config import Board, Overlay

Source = Literal["synthesis", "parts", "count", "judgement"]

SYNTHESISED = {
    "16 x 16, 8 bit, DSP48E2 in chains of 4": (128, 1_400),
    "16 x 16, 8 bit, DSP48E1, no chains": (128, 4_800),
    "32 x 32, 4 bit, DSP48E2 in chains": (352, 3_100),
    "32 x 32, 4 bit, no DSP": (0, 33_900),
    "a lane's displaced reads, -1..1": (0, 100),
}
"""DSPs and LUTs of cores synthesised with yosys 0.70 with instantiated DSPs; the LUTs of a product follow below."""

LUT_OF_PARTIAL_SUM_BIT = 1.2
"""LUTs for each bit of pitch of what a chain of DSPs hands on, to part and add it, by the synthesised cores: 4 times
1,400 / 256 at pitch 18, 4 times 3,100 / 1,024 at 11, and 4,800 / 256 at pitch 16 without chains (1.17)."""
LUT_OF_PRODUCT: Mapping[tuple[int, int], float] = {
    (8, 8): 154.8, (8, 4): 76.1, (8, 2): 38.5,
    (4, 8): 85.8, (4, 4): 33.1, (4, 2): 21.1,
    (2, 8): 41.9, (2, 4): 23.8, (2, 2): 12.0,
    (1, 1): 2.5,
}  # fmt: skip
"""LUTs of a product and its part of the sum, by bits of activation and weight: `dot` and `dot_bipolar` of `parts.v`
divided by their lanes; at 4 x 4 bits the whole core of `SYNTHESISED`, where `dot` has 42.4."""
LUT_OF_DEPTHWISE: Mapping[int, int] = {9: 178, 5: 79, 3: 47, 2: 18}
"""LUTs of a depthwise multiplier by bits of the value less its zero point: `multiply` with 9-bit weights."""
LUT_OF_ACCUMULATE_BIT = 4.7
"""Of an ACC lane, for each bit of the sum: `accumulate`."""
LUT_OF_WINDOW_BIT = 2
"""Of a running window, for each bit: `window`."""
LUT_OF_COUNTERS: Mapping[int, int] = {1: 233, 2: 425, 3: 591}
FF_OF_COUNTERS: Mapping[int, int] = {1: 179, 2: 291, 3: 403}
"""Six counters with the strides of so many addresses: `counters`."""
LUT_OF_QUEUE = 296
"""512 bits, up to 32 deep: `queue`, 37 RAM32M16 of 8 LUTs."""
LUT_OF_TABLE = 76
"""256 bytes a lane: `table256`, 8 RAM64M8 of 8 LUTs and 12 for the choice."""

DEPTHWISE_WEIGHT_BITS = 9
REQUANTISE_BITS = 25
"""m: sign and 24 bits of magnitude."""
CHAIN = 4
SHORT_PORT_BITS = 17
"""What a DSP's short port takes of an unsigned value; a signed one's last part may have 18."""
LONG_PORT_BITS: Mapping[str, int] = {"xc7z": 25, "xczu": 27}
"""The long port of DSP48E1 and DSP48E2, by the beginning of the part."""
BRAM18_BITS, BRAM18_ROWS = 36, 512
"""A BRAM18 at its widest, one port to read and one to write."""
PARAM_READ_BITS = 512
"""Four records a cycle."""
INSTRUCTION_BITS = 512


@dataclass(frozen=True)
class Use:
    """Amounts of a part's resources; BRAM in BRAM18, two of which are a BRAM36."""

    lut: int = 0
    ff: int = 0
    dsp: int = 0
    bram18: int = 0

    @property
    def bram36(self) -> int:
        """Whole BRAM36."""
        return -(-self.bram18 // 2)

    def __add__(self, other: Use) -> Use:
        return Use(*(a + b for a, b in zip(astuple(self), astuple(other), strict=True)))


@dataclass(frozen=True)
class Term:
    """What one circuit takes.

    Attributes:
        unit: of the machine, or a scratchpad.
        what: the circuit, with the counts that its figures come from.
        source: where its figures come from, see above.
    """

    unit: str
    what: str
    source: Source
    use: Use


@dataclass(frozen=True)
class Resources:
    """What an overlay takes, and what there is."""

    terms: tuple[Term, ...]
    board: Board

    @property
    def total(self) -> Use:
        """The sum of all terms."""
        return sum((term.use for term in self.terms), Use())

    @property
    def by_unit(self) -> dict[str, Use]:
        """Sums by unit, in the order of the terms."""
        found: dict[str, Use] = {}
        for term in self.terms:
            found[term.unit] = found.get(term.unit, Use()) + term.use
        return found

    @property
    def amounts(self) -> dict[str, tuple[int, int]]:
        """What is taken and what there is, by the board's field."""
        total, names = self.total, ("lut", "ff", "dsp", "bram36")
        return {name: (getattr(total, name), getattr(self.board, name)) for name in names}

    @property
    def shares(self) -> dict[str, float]:
        """Parts of the part, 0..1 where it fits."""
        return {name: taken / there for name, (taken, there) in self.amounts.items()}

    def faults(self) -> list[Fault]:
        """A fault for each resource that the part has too little of."""
        return [
            Fault(
                f"{name}: the overlay takes {taken:,}, {self.board.part} has {there:,}", remedy=_REMEDY[name]
            )
            for name, (taken, there) in self.amounts.items()
            if taken > there
        ]


_REMEDY = {
    "lut": "make block_out or vector_lanes smaller",
    "ff": "make block_out or vector_lanes smaller",
    "dsp": "make vector_lanes smaller",
    "bram36": "make act_kib or wgt_kib smaller",
}


def resources(overlay: Overlay) -> Resources:
    """What an overlay takes of its board's part."""
    makers = (_matrix, _vector, _act, _wgt, _acc, _param, _load, _store, _fetch)
    return Resources(tuple(term for make in makers for term in make(overlay)), overlay.board)


@dataclass(frozen=True)
class Packing:
    """How many products share a DSP.

    Attributes:
        products: of one activation with so many weights.
        lut: LUTs that a product takes beside it, to part and add the sums.
    """

    products: int
    lut: float


def packing(value_bits: int, weight_bits: int, part: str, *, chains: tuple[int, ...] = (CHAIN, 1)) -> Packing:
    """Products that a DSP of a part makes at once: in the first of the chains that leaves room for two, or the last."""
    port = next((bits for start, bits in LONG_PORT_BITS.items() if part.startswith(start)), 25)
    for chain in chains:
        pitch = value_bits + weight_bits + math.ceil(math.log2(chain))
        many = 1 + (port - weight_bits) // pitch
        if many > 1:
            break
    return Packing(many, pitch * LUT_OF_PARTIAL_SUM_BIT / chain)


@dataclass(frozen=True)
class Division:
    """Who gets the DSPs.

    Attributes:
        requantise: DSPs of VECTOR's requantisers.
        depthwise: DSPs of depthwise multipliers, and `depthwise_lut` multipliers made of LUTs.
        matrix: DSPs of MATRIX, for `channels` of the block's output channels; the others are made of LUTs.
        packing: of MATRIX's products.
    """

    requantise: int
    depthwise: int
    depthwise_lut: int
    matrix: int
    channels: int
    packing: Packing


def lut_of_requantiser(product_bits: int, result_bits: int) -> int:
    """LUTs of a lane's shift, rounding and clamp: `requantise`. Its DSPs add B."""
    return round(4.3 * product_bits + 3.3 * result_bits + 18)


def divide(overlay: Overlay) -> Division:
    """Divide the part's DSPs: requantisers first, then by the LUTs that a DSP saves."""
    o = overlay
    windows = 3 * o.vector_lanes
    pumping = o.dsp_pumping
    requantise = o.vector_lanes * math.ceil((o.acc_bits - 1) / SHORT_PORT_BITS / pumping)
    left = max(o.board.dsp - requantise, 0)
    pair = packing(o.inp_bits + 1, DEPTHWISE_WEIGHT_BITS, o.board.part, chains=(1,))
    each = min(pair.products * pumping, 3 if pair.products > 1 else 2)  # depthwise products of a DSP
    pairs = windows // each if pumping > 1 else (3 // pair.products) * o.vector_lanes
    packed = packing(o.inp_bits, o.wgt_bits, o.board.part, chains=(CHAIN, pumping))
    group = o.block_in // pumping  # DSPs for `products` output channels
    groups = math.ceil(o.block_out / packed.products)
    saved_by_pair = each * LUT_OF_DEPTHWISE[o.inp_bits + 1]
    gain = LUT_OF_PRODUCT[o.inp_bits, o.wgt_bits] - packed.lut
    saved_by_group = pumping * packed.products * gain
    if o.inp_bits == 1:
        groups = 0  # a bipolar product is a gate
    if saved_by_pair >= saved_by_group:
        pairs = min(pairs, left)
        groups = min(groups, (left - pairs) // group)
    else:
        groups = min(groups, left // group)
        pairs = min(pairs, left - groups * group)
    channels = min(o.block_out, groups * packed.products)
    return Division(requantise, pairs, windows - pairs * each, groups * group, channels, packed)


def _matrix(o: Overlay) -> Iterator[Term]:
    found = divide(o)
    products = o.block_in * found.channels
    left = o.block_in * (o.block_out - found.channels)
    if products:
        text = f"{products} products in DSPs, {found.packing.products} each"
        text += f", {o.dsp_pumping} times a cycle" if o.dsp_pumping > 1 else ""
        yield Term(
            "MATRIX", text, "synthesis", Use(lut=round(products * found.packing.lut), dsp=found.matrix)
        )
    if o.dsp_pumping > 1:
        text = "results of the faster clock; the weights of both steps lie in a DSP's A1 and A2"
        yield Term("MATRIX", text, "judgement", Use(ff=48 * found.matrix))
    if left:
        lut = round(left * LUT_OF_PRODUCT[o.inp_bits, o.wgt_bits])
        yield Term("MATRIX", f"{left} products in LUTs", "parts", Use(lut=lut, ff=lut // 2))
    lut = round(o.block_out * o.acc_bits * LUT_OF_ACCUMULATE_BIT)
    yield Term(
        "MATRIX", f"{o.block_out} sums shifted and added", "parts", Use(lut, 6 * o.block_out * o.acc_bits)
    )
    if o.disp_entries:
        rows = o.displacement_max - o.displacement_min + 1
        lut = round(o.block_in * 100 * rows / 3)
        yield Term("MATRIX", f"{o.block_in} lanes displaced by {rows} rows", "synthesis", Use(lut, lut))
        bits = 8 * o.block_in
        yield Term("MATRIX", "displacement table", "count", Use(bits * math.ceil(o.disp_entries / 64), bits))
    yield Term("MATRIX", "counters, three addresses", "parts", Use(LUT_OF_COUNTERS[3], FF_OF_COUNTERS[3]))
    yield Term("MATRIX", "ring and edges of the map", "judgement", Use(200, 200))


def _vector(o: Overlay) -> Iterator[Term]:
    found, lanes = divide(o), o.vector_lanes
    product = o.acc_bits + REQUANTISE_BITS + 1
    result = max(8, 2 * o.inp_bits)  # two planes, or the index of a table
    lut = lut_of_requantiser(product, result)
    yield Term("VECTOR", f"{lanes} requantisers", "parts",
               Use(lanes * lut, lanes * (4 * product + 2 * result + 17), found.requantise))  # fmt: skip
    if o.dsp_pumping > 1:
        text = "results of the faster clock, and its operands"
        yield Term("VECTOR", text, "judgement", Use(ff=96 * (found.requantise + found.depthwise)))
    yield Term("VECTOR", f"{3 * lanes} windows", "parts",
               Use(3 * lanes * o.acc_bits * LUT_OF_WINDOW_BIT, 3 * lanes * o.acc_bits))  # fmt: skip
    if found.depthwise:
        made = 3 * lanes - found.depthwise_lut
        yield Term("VECTOR", f"{made} depthwise products in DSPs", "count", Use(dsp=found.depthwise))
    if found.depthwise_lut:
        count, bits = found.depthwise_lut, o.inp_bits + 1
        yield Term("VECTOR", f"{count} depthwise products in LUTs", "parts",
                   Use(count * LUT_OF_DEPTHWISE[bits], count * (bits + DEPTHWISE_WEIGHT_BITS)))  # fmt: skip
    yield Term("VECTOR", f"{lanes} tables", "parts", Use(lanes * LUT_OF_TABLE, 8 * lanes))
    bits = REQUANTISE_BITS + 6 + 48
    yield Term(
        "VECTOR", "parameters: two sets, active and shadow", "count", Use(lanes * bits // 2, lanes * 4 * bits)
    )
    yield Term(
        "VECTOR", "zero points and planes", "judgement", Use(lanes * 4 * o.inp_bits, lanes * 4 * o.inp_bits)
    )
    lut, ff = (table[3] + table[2] for table in (LUT_OF_COUNTERS, FF_OF_COUNTERS))
    yield Term("VECTOR", "counters: source, second, destination", "parts", Use(lut, ff))


def _act(o: Overlay) -> Iterator[Term]:
    from tilewright.targets.config import BANK_KIB_PER_LANE

    columns = o.act_kib // BANK_KIB_PER_LANE
    banks, bits = columns // o.block_in, o.block_in * o.inp_bits
    yield Term("ACT", f"{banks} banks of {o.block_in} columns", "count", Use(bram18=columns))
    readers = 4 * bits  # MATRIX, VECTOR twice, STORE
    yield Term(
        "ACT", "choice of bank for four readers", "parts", Use(readers * math.ceil(banks / 3), readers)
    )
    address = 14 - int(math.log2(o.inp_bits))
    yield Term("ACT", "a column's address", "count", Use(columns * address, columns))
    yield Term("ACT", "data from VECTOR and LOAD", "count", Use(banks * bits, bits))


def _ram(bits: int, rows: int) -> int:
    """BRAM18 of a memory so wide and deep, one port to read and one to write."""
    return math.ceil(bits / BRAM18_BITS) * math.ceil(rows / BRAM18_ROWS)


def _wgt(o: Overlay) -> Iterator[Term]:
    bits = o.block_in * o.block_out * o.wgt_bits
    yield Term("WGT", "a quarter of a tile wide", "count", Use(bram18=_ram(bits // 4, 4 * o.wgt_tiles)))
    yield Term("WGT", "active and shadow tile", "count", Use(ff=2 * bits))


def _acc(o: Overlay) -> Iterator[Term]:
    half = _ram(o.block_out * o.acc_bits, o.acc_half_vectors)
    yield Term("ACC", "two halves, a vector wide", "count", Use(bram18=2 * half))


def _param(o: Overlay) -> Iterator[Term]:
    rows = math.ceil(o.param_kib * 1024 * 8 / PARAM_READ_BITS)
    yield Term("PARAM", "four records wide", "count", Use(bram18=_ram(PARAM_READ_BITS, rows)))


def _load(o: Overlay) -> Iterator[Term]:
    ports = o.board.dram_read_ports
    yield Term("LOAD", "queue", "parts", Use(LUT_OF_QUEUE, INSTRUCTION_BITS))
    yield Term("LOAD", "counters, two addresses", "parts", Use(LUT_OF_COUNTERS[2], FF_OF_COUNTERS[2]))
    text = f"{ports} read port{'' if ports == 1 else 's'}: bursts, buffer of 512 bytes, AXI"
    yield Term("LOAD", text, "judgement", Use(1_200 * ports, 1_500 * ports))


def _store(o: Overlay) -> Iterator[Term]:
    yield Term("STORE", "queue", "parts", Use(LUT_OF_QUEUE, INSTRUCTION_BITS))
    yield Term("STORE", "counters, two addresses", "parts", Use(LUT_OF_COUNTERS[2], FF_OF_COUNTERS[2]))
    yield Term("STORE", "write port: bursts, buffer of 512 bytes, AXI", "judgement", Use(1_200, 1_500))


def _fetch(o: Overlay) -> Iterator[Term]:
    queues = 3  # its own buffer, and the queues of MATRIX and VECTOR
    yield Term("FETCH", "buffer, queues of MATRIX and VECTOR", "parts",
               Use(queues * LUT_OF_QUEUE, queues * INSTRUCTION_BITS))  # fmt: skip
    yield Term("FETCH", "bursts, tokens, registers, resets", "judgement", Use(1_400, 1_600))
