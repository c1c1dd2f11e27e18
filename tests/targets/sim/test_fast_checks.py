"""Every check of the fast simulator: the kind of fault, and the text, which is the reference simulator's."""

from __future__ import annotations

import struct
from dataclasses import replace
from typing import Any

import numpy as np
import pytest

from tilewright.errors import EncodingError, SimError, TilewrightError
from tilewright.targets.config import Overlay
from tilewright.targets.isa.codec import decode_stream, encode_stream
from tilewright.targets.isa.listing import parse_listing
from tilewright.targets.isa.spec import INSTRUCTION_BYTES, Instruction, Matrix, layout
from tilewright.targets.sim import fast, reference
from tilewright.targets.sim.fast import FastSimError, FastSimulator, FaultKind
from tilewright.targets.sim.program import DramImage, Program
from tilewright.targets.sim.testing import random_matrix, random_vector, record, scene

D, A, R, U = FaultKind.OPERAND, FaultKind.ADDRESS, FaultKind.RACE, FaultKind.UNINITIALISED
X, N, T = FaultKind.OVERLAP, FaultKind.ALIGNMENT, FaultKind.TOKEN
LOADED = """LOAD base=INPUT n2=64 dram_stride2=16  ; in
LOAD memory=WGT n2=15 dram_stride2=256  ; conv
LOAD memory=PARAM n2=64 dram_stride2=16 give=MATRIX+VECTOR+STORE  ; conv
"""
SUMS = LOADED + "MATRIX n_x=4 width=4 act_x=1 acc_x=1 wait=LOAD give=VECTOR\n"
STORED = LOADED + "STORE base=WORKSPACE n2=4 dram_stride2=16 wait=LOAD give=LOAD\n"
DISPLACED = LOADED.replace(
    "LOAD memory=WGT", "LOAD memory=DISP dram_offset=4032 n2=2 dram_stride2=16\nLOAD memory=WGT"
)

# Listing without its FINISH; part of the message; kind.
FAULTS: list[tuple[str, str, FaultKind]] = [
    # what was never written
    ("LOAD memory=WGT give=MATRIX\nMATRIX wait=LOAD", "reads half word 0 of ACT, which nothing", U),
    ("LOAD base=INPUT give=MATRIX\nMATRIX wait=LOAD", "reads tile 0 of WGT, which nothing", U),
    (
        LOADED + "MATRIX n_x=2 acc_x=1 act_x=64 width=2 wait=LOAD",
        "reads half word 64 of ACT, which nothing",
        U,
    ),
    (LOADED + "MATRIX n_ic=16 wgt_ic=1 wait=LOAD", "reads tile 15 of WGT, which nothing", U),
    (LOADED + "MATRIX fresh=0 acc_base=5 wait=LOAD", "reads vector 5 of ACC, which nothing", U),
    (DISPLACED + "MATRIX displaced=1 disp_base=2 wait=LOAD", "reads entry 2 of DISP, which nothing", U),
    ("LOAD base=INPUT give=VECTOR\nVECTOR wait=LOAD dst_base=9", "reads record 0 of PARAM, which nothing", U),
    (LOADED + "VECTOR param_base=49 dst_base=99 wait=LOAD", "reads record 64 of PARAM, which nothing", U),
    (LOADED + "VECTOR op=SCALED_ADD param_base=40 dst_base=99 wait=LOAD", "reads record 64 of PARAM", U),
    (LOADED + "VECTOR op=DEPTHWISE depthwise_base=63 dst_base=99 wait=LOAD", "reads record 64 of PARAM", U),
    (LOADED + "VECTOR table=1 table_base=60 dst_base=99 wait=LOAD", "reads record 64 of PARAM", U),
    (LOADED + "VECTOR src_base=64 dst_base=99 wait=LOAD", "reads half word 64 of ACT, which nothing", U),
    (LOADED + "VECTOR in_planes=1 src_plane=64 dst_base=99 wait=LOAD", "reads half word 64 of ACT", U),
    (LOADED + "VECTOR op=MULTIPLY src2_base=64 dst_base=99 wait=LOAD", "reads half word 64 of ACT", U),
    (
        SUMS + "VECTOR source=ACC src_base=4 wait=MATRIX+LOAD dst_base=99",
        "reads vector 4 of ACC, which nothing",
        U,
    ),
    (LOADED + "STORE base=OUTPUT address=64 wait=LOAD", "reads half word 64 of ACT, which nothing", U),
    ("LOAD base=WORKSPACE dram_offset=32", "reads byte 32 of WORKSPACE, which nothing", U),
    (
        STORED + "LOAD base=WORKSPACE n2=5 dram_stride2=16 address=99 wait=STORE",
        "reads byte 64 of WORKSPACE",
        U,
    ),
    ("LOAD base=OUTPUT", "reads byte 0 of OUTPUT, which nothing", U),
    # addresses
    (
        "LOAD base=INPUT address=16383 n2=2 dram_stride2=16",
        "writes half word 16384 of ACT, but the last is 16383",
        A,
    ),
    ("LOAD memory=WGT address=128", "writes tile 128 of WGT, but the last is 127", A),
    ("LOAD memory=PARAM address=2048", "writes record 2048 of PARAM, but the last is 2047", A),
    ("LOAD memory=DISP address=64", "writes entry 64 of DISP, but the last is 63", A),
    ("LOAD memory=WGT dram_offset=3600", "reads byte 4096 of CONSTANT, but the last is 4080", A),
    ("LOAD base=INPUT n0=2 stride0=1 dram_stride0=4294967280", "reads byte 4294967280 of INPUT", A),
    (
        LOADED + "STORE base=OUTPUT dram_offset=4096 wait=LOAD",
        "writes byte 4096 of OUTPUT, but the last is 4080",
        A,
    ),
    ("STORE base=OUTPUT address=16384", "reads half word 16384 of ACT, but the last is 16383", A),
    (
        LOADED + "MATRIX acc_base=1023 n_x=2 acc_x=1 wait=LOAD",
        "writes vector 1024 of ACC, but the last is 1023",
        A,
    ),
    (
        LOADED + "MATRIX wgt_base=127 n_ky=2 wgt_ky=1 wait=LOAD",
        "reads tile 128 of WGT, but the last is 127",
        A,
    ),
    (
        LOADED + "MATRIX act_base=16383 n_x=2 acc_x=1 act_x=1 width=2 wait=LOAD",
        "reads half word 16384 of ACT",
        A,
    ),
    (DISPLACED + "MATRIX displaced=1 ic_first=64 wait=LOAD", "reads entry 64 of DISP, but the last is 63", A),
    (LOADED + "VECTOR src_base=16384 dst_base=99 wait=LOAD", "reads half word 16384 of ACT, but the last", A),
    (LOADED + "VECTOR dst_base=16384 wait=LOAD", "writes half word 16384 of ACT, but the last", A),
    (
        LOADED + "VECTOR dst_base=16383 out_planes=1 dst_plane=100 wait=LOAD",
        "writes half word 16483 of ACT",
        A,
    ),
    (
        LOADED + "VECTOR param_base=2036 dst_base=99 wait=LOAD",
        "reads record 2051 of PARAM, but the last is 2047",
        A,
    ),
    (
        SUMS + "VECTOR source=ACC src_base=1024 wait=MATRIX+LOAD dst_base=99",
        "reads vector 1024 of ACC, but",
        A,
    ),
    # alignment, read-only
    ("LOAD base=INPUT dram_offset=8", "dram_offset=8 is not a multiple of 16 bytes", N),
    ("LOAD base=INPUT n1=2 stride1=1 dram_stride1=20", "dram_stride1=20 is not a multiple", N),
    (LOADED + "STORE base=OUTPUT dram_offset=4 wait=LOAD", "dram_offset=4 is not a multiple", N),
    ("STORE", "writes to CONSTANT, which is read-only", FaultKind.READ_ONLY),
    ("STORE base=INPUT", "writes to INPUT, which is read-only", FaultKind.READ_ONLY),
    # an instruction against itself
    ("LOAD base=INPUT n1=2", "writes half word 0 of ACT more than once", X),
    ("LOAD base=INPUT n0=4095 n1=4095 n2=65535 stride2=0", "writes 1098958053375 elements", X),
    (LOADED + "STORE base=OUTPUT n2=2 wait=LOAD", "writes byte 0 of OUTPUT more than once", X),
    (LOADED + "STORE base=OUTPUT n1=4095 wait=LOAD", "writes 65520 bytes, but OUTPUT has 4096", X),
    (LOADED + "MATRIX n_oc=2 n_y=2 acc_oc=3 wait=LOAD", "(oc, y, x) = (0, 0, 0) and (0, 1, 0) meet", X),
    (LOADED + "MATRIX n_y=2047 wait=LOAD", "2047 sums need a vector each, but ACC has 1024", X),
    (LOADED + "VECTOR n_x=2 width=2 src_x=1 dst_base=99 wait=LOAD", "writes half word 99 of ACT more", X),
    (LOADED + "VECTOR dst_base=99 out_planes=1 wait=LOAD", "writes half word 99 of ACT more", X),
    (LOADED + "VECTOR n_x=2047 n_y=9 dst_base=99 wait=LOAD", "writes 18423 half words, but ACT has 16384", X),
    (
        LOADED + "VECTOR n_x=3 width=3 src_x=1 dst_base=1 dst_x=1 wait=LOAD",
        "writes half word 1 of ACT at (c, y, x) = (0, 0, 0), but reads it at (0, 0, 1)",
        X,
    ),
    (LOADED + "VECTOR kernel_x=2 n_x=3 width=4 src_x=1 dst_base=1 dst_x=1 wait=LOAD", "reads it at", X),
    (
        LOADED + "VECTOR op=MULTIPLY n_x=3 width=3 src_x=1 src2_base=7 dst_base=7 dst_x=1 wait=LOAD",
        "reads it at",
        X,
    ),
    # operands
    ("LOAD base=INPUT memory=DISP", "element 0 lane 2 has dy=2, the overlay's range is -1..1", D),
    (LOADED + "VECTOR lo=2 hi=1 dst_base=99 wait=LOAD", "lo=2 is above hi=1", D),
    (LOADED + "VECTOR table=1 hi=256 dst_base=99 wait=LOAD", "hi=256 is beyond the table", D),
    (
        LOADED + "VECTOR out_planes=2 dst_base=99 wait=LOAD",
        "out_planes=2 of 8 bits, a result has 16 at most",
        D,
    ),
    (LOADED + "VECTOR in_planes=2 dst_base=99 wait=LOAD", "in_planes=2 of 8 bits, a value has 16 at most", D),
    (
        LOADED + "VECTOR op=MULTIPLY in2_planes=2 dst_base=99 wait=LOAD",
        "in2_planes=2 of 8 bits, a value has 16 at most",
        D,
    ),
    (
        LOADED + "VECTOR in2_planes=1 dst_base=99 wait=LOAD",
        "in2_planes=1 with SUM, which has no second operand",
        D,
    ),
    (
        LOADED + "VECTOR op=MULTIPLY in2_planes=1 src2_plane=64 dst_base=99 wait=LOAD",
        "reads half word 64 of ACT",
        U,
    ),
    (SUMS + "VECTOR source=ACC ring=2 wait=MATRIX+LOAD dst_base=99", "ring=2 with source ACC", D),
    (SUMS + "VECTOR source=ACC in_planes=1 wait=MATRIX+LOAD dst_base=99", "in_planes=1 with source ACC", D),
    (SUMS + "VECTOR source=ACC op=MULTIPLY wait=MATRIX+LOAD dst_base=99", "MULTIPLY with source ACC", D),
    (
        LOADED + "VECTOR op=SCALED_ADD kernel_x=2 width=2 dst_base=99 wait=LOAD",
        "SCALED_ADD with a 1x2 window",
        D,
    ),
    (LOADED + "VECTOR op=SCALED_ADD negative=1 dst_base=99 wait=LOAD", "SCALED_ADD with negative=1", D),
    (LOADED + "VECTOR offset_x=1 dst_base=99 wait=LOAD", "the window of (y, x) = (0, 0) has no tap", D),
    (
        LOADED + "VECTOR n_y=3 height=2 dst_base=99 dst_row=1 wait=LOAD",
        "the window of (y, x) = (2, 0) has no",
        D,
    ),
    (
        LOADED + "VECTOR n_x=3 n_y=3 height=2 width=2 dst_base=99 dst_row=9 dst_x=1 wait=LOAD",
        "the window of (y, x) = (0, 2) has no tap",
        D,
    ),
    # tokens and the end
    ("MATRIX wait=LOAD", "waits for a token from LOAD, but none was given before", T),
    ("MATRIX wait=LOAD\nLOAD give=MATRIX", "waits for a token from LOAD", T),
    ("LOAD give=STORE\n" * 255 + "LOAD give=STORE", "token counter LOAD->STORE reaches 256", T),
    (LOADED, "tokens are left: LOAD->MATRIX 1, LOAD->VECTOR 1, LOAD->STORE 1", T),
    ("FINISH\nLOAD", "comes after the FINISH at 0", FaultKind.FINISH),
    # races
    (
        "LOAD base=INPUT give=MATRIX\nLOAD memory=WGT  ; w\nMATRIX wait=LOAD  ; c",
        "reads tile 0 of WGT, which instruction 1 (LOAD memory=WGT, layer w) writes, "
        "and no token orders the two; "
        "MATRIX must wait for LOAD",
        R,
    ),
    (
        "LOAD memory=WGT give=MATRIX\nLOAD base=INPUT\nMATRIX wait=LOAD",
        "reads half word 0 of ACT, which instruction 1",
        R,
    ),
    (LOADED + "MATRIX wait=LOAD\nLOAD base=INPUT", "writes half word 0 of ACT, which instruction 3", R),
    (LOADED + "MATRIX wait=LOAD\nLOAD memory=WGT", "writes tile 0 of WGT, which instruction 3", R),
    (LOADED + "VECTOR wait=LOAD dst_base=99\nLOAD memory=PARAM address=15", "writes record 15 of PARAM", R),
    (
        DISPLACED + "MATRIX displaced=1 wait=LOAD\nLOAD memory=DISP dram_offset=4032",
        "writes entry 0 of DISP",
        R,
    ),
    (SUMS + "MATRIX acc_base=511\nVECTOR source=ACC wait=MATRIX+LOAD dst_base=99", "reads half 0 of ACC", R),
    (SUMS + "VECTOR source=ACC wait=MATRIX+LOAD dst_base=99\nMATRIX acc_base=7", "writes half 0 of ACC", R),
    (
        LOADED + "VECTOR wait=LOAD dst_base=9\nSTORE base=OUTPUT address=9 wait=LOAD",
        "reads half word 9 of ACT",
        R,
    ),
    (
        LOADED + "STORE base=OUTPUT address=9 wait=LOAD\nVECTOR wait=LOAD dst_base=9",
        "writes half word 9 of ACT",
        R,
    ),
    (LOADED + "VECTOR wait=LOAD dst_base=9\nLOAD base=INPUT address=9", "writes half word 9 of ACT", R),
    (LOADED + "VECTOR wait=LOAD dst_base=99\nMATRIX act_base=99 wait=LOAD", "reads half word 99 of ACT", R),
    (
        LOADED + "STORE base=WORKSPACE wait=LOAD\nLOAD base=WORKSPACE address=99",
        "reads byte 0 of WORKSPACE",
        R,
    ),
    (
        STORED + "LOAD base=WORKSPACE address=99 wait=STORE\nSTORE base=WORKSPACE",
        "writes byte 0 of WORKSPACE",
        R,
    ),
    (STORED + "LOAD base=INPUT address=3", "writes half word 3 of ACT, which instruction 3", R),
    (
        "LOAD base=INPUT give=STORE\nLOAD base=INPUT address=1 give=STORE\n"
        "STORE base=OUTPUT address=1 wait=LOAD\n"
        "STORE base=OUTPUT dram_offset=16 wait=LOAD",
        "reads half word 1 of ACT, which instruction 1",
        R,
    ),
]


def image() -> DramImage:
    """DRAM of 4096 bytes of each kind; constants are records, and zeros from 4032 up."""
    constants = np.frombuffer(record(1, 1, 0) * 252 + bytes(64), np.uint8)
    return DramImage(constants, np.arange(4096).astype(np.uint8), 4096, 4096)


@pytest.mark.parametrize(("text", "message", "kind"), FAULTS)
def test_faults(machines: dict[str, Overlay], text: str, message: str, kind: FaultKind) -> None:
    o, dram = machines["pynq-z1-w8"], image()
    instructions, layers = parse_listing(text + "\nFINISH")
    program = Program(encode_stream(instructions), o, layers)
    with pytest.raises(SimError) as expected:
        reference.run(program, dram)
    assert message in str(expected.value)
    with pytest.raises(FastSimError) as error:
        FastSimulator(o).run(program.stream, dram, layers)
    assert str(error.value) == str(expected.value)
    assert error.value.kind is kind
    assert error.value.instruction < len(instructions)
    assert (error.value.other >= 0) == (kind is R)


@pytest.mark.parametrize("stream", ["LOAD\nLOAD", ""])
def test_no_finish(machines: dict[str, Overlay], stream: str) -> None:
    instructions, _ = parse_listing(stream)
    with pytest.raises(
        FastSimError, match=f"the stream of {len(instructions)} instructions has no FINISH"
    ) as error:
        FastSimulator(machines["pynq-z1-w8"]).run(encode_stream(instructions), image())
    assert error.value.kind is FaultKind.FINISH


@pytest.mark.parametrize("m", [1 << 24, -(1 << 24)])
@pytest.mark.parametrize("lane", [0, 15])
def test_multiplier_out_of_range(machines: dict[str, Overlay], m: int, lane: int) -> None:
    refuse_record(
        machines["pynq-z1-w8"],
        lane,
        (m, 1, 0),
        f"m={m} in record {lane} of PARAM is not within -16777215..16777215",
    )


@pytest.mark.parametrize("s", [0, -1, 63, 1 << 30])
def test_shift_out_of_range(machines: dict[str, Overlay], s: int) -> None:
    refuse_record(machines["pynq-z1-w8"], 3, (1, s, 0), f"s={s} in record 3 of PARAM is not within 1..62")


@pytest.mark.parametrize("b", [1 << 47, -(1 << 47) - 1, (1 << 63) - 1])
def test_offset_out_of_range(machines: dict[str, Overlay], b: int) -> None:
    limits = f"{-(1 << 47)}..{(1 << 47) - 1}"
    refuse_record(machines["pynq-z1-w8"], 3, (1, 1, b), f"B={b} in record 3 of PARAM is not within {limits}")


def refuse_record(o: Overlay, lane: int, values: tuple[int, int, int], message: str) -> None:
    """Both simulators refuse a record of channel parameters with the same message."""
    text = """LOAD base=INPUT
    LOAD memory=PARAM n2=16 dram_stride2=16 give=VECTOR
    VECTOR wait=LOAD dst_base=9
    FINISH"""
    constants = bytearray(record(1, 1, 0) * 256)
    constants[16 * lane : 16 * lane + 16] = struct.pack("<iiq", *values)
    dram = replace(image(), constants=np.frombuffer(bytes(constants), np.uint8))
    stream = encode_stream(parse_listing(text)[0])
    for run in (reference.run, fast.run):
        with pytest.raises(SimError) as error:
            run(Program(stream, o), dram)
        assert str(error.value).endswith(message)


def test_pad_out_of_range(machines: dict[str, Overlay]) -> None:
    o = machines["32x32-w4"]
    stream = encode_stream(parse_listing("MATRIX pad=16\nFINISH")[0])
    with pytest.raises(FastSimError, match=r"pad=16 does not fit the overlay's inp_bits=4 \(0..15\)"):
        FastSimulator(o).run(stream, image())


def test_an_overlay_without_displacement(machines: dict[str, Overlay]) -> None:
    values = machines["pynq-z1-w8"].to_dict() | {"name": "plain", "disp_entries": 0}
    stream = encode_stream(parse_listing(LOADED + "MATRIX displaced=1 wait=LOAD\nFINISH")[0])
    with pytest.raises(FastSimError, match="reads entry 0 of DISP, but there is none"):
        FastSimulator(Overlay.from_dict(values)).run(stream, image())


def same_refusal(program: Program, dram: DramImage) -> None:
    """A stream that does not decode is refused with the decoder's own error."""
    with pytest.raises(EncodingError) as expected:
        decode_stream(program.stream)
    with pytest.raises(EncodingError) as error:
        FastSimulator(program.overlay).run(program.stream, dram)
    assert str(error.value) == str(expected.value)


def test_every_field_out_of_range(machines: dict[str, Overlay]) -> None:
    """Each field of each instruction, set to all zeros and to all ones, as the decoder sees it."""
    o, dram = machines["pynq-z1-w8"], image()
    good = encode_stream(parse_listing("LOAD\nMATRIX\nVECTOR\nSTORE base=OUTPUT\nFINISH")[0])
    refused = 0
    for i, x in enumerate(decode_stream(good)):
        for spec in layout(type(x)):
            for ones in (0, (1 << spec.bits.width) - 1):
                word = int.from_bytes(good[64 * i : 64 * i + 64], "little")
                mask = ((1 << spec.bits.width) - 1) << spec.offset
                word = word & ~mask | ones << spec.offset
                stream = good[: 64 * i] + word.to_bytes(64, "little") + good[64 * i + 64 :]
                try:
                    decode_stream(stream)
                except EncodingError:
                    same_refusal(Program(stream, o), dram)
                    refused += 1
                else:
                    with pytest.raises(SimError):  # nothing is loaded
                        FastSimulator(o).run(stream, dram)
    assert refused > 30


def test_unused_bits_opcodes_and_cut_off_streams(machines: dict[str, Overlay]) -> None:
    o, dram = machines["pynq-z1-w8"], image()
    good = encode_stream(parse_listing("LOAD base=INPUT\nFINISH")[0])
    for byte, value in ((63, 128), (32, 1), (64 + 2, 1), (64, 0), (64, 6), (64, 7), (0, 0)):
        data = bytearray(good)
        data[byte] = value
        same_refusal(Program(bytes(data), o), dram)
    for length in (1, 63, 65, 127):
        same_refusal(Program(good[:length], o), dram)


@pytest.mark.parametrize("name", ["pynq-z1-w8", "8x16-w8-acc20", "32x32-w4", "128x128-w1"])
def test_damaged_streams(machines: dict[str, Overlay], name: str) -> None:
    """Bits flipped anywhere, instructions left out, moved or doubled: our own error or an orderly run."""
    o = machines[name]
    rng = np.random.default_rng(21)
    s = scene(o, rng)
    simulator = FastSimulator(o)
    refused = 0
    for _ in range(400):
        body: list[Instruction] = [random_matrix(o, rng, 2), random_vector(o, rng, s.filled), *s.show_act()]
        program, dram = s.program(body)
        data = np.frombuffer(program.stream, np.uint8).copy().reshape(-1, INSTRUCTION_BYTES)
        way = int(rng.integers(5))
        if way == 0:
            data = np.delete(data, rng.integers(len(data)), axis=0)
        elif way == 1:
            data = data[rng.permutation(len(data))]
        elif way == 2:
            data = np.insert(data, rng.integers(len(data)), data[rng.integers(len(data))], axis=0)
        else:
            for _ in range(way):
                data[rng.integers(len(data)), rng.integers(50)] ^= 1 << int(rng.integers(8))
        try:
            simulator.run(data.tobytes(), dram)
        except TilewrightError:
            refused += 1
    assert refused > 200


def test_random_fields(machines: dict[str, Overlay]) -> None:
    """Fields anywhere in their ranges after a filled scene: nearly all are refused, none does harm."""
    o = machines["8x8-w8"]
    rng = np.random.default_rng(22)
    s = scene(o, rng)
    simulator = FastSimulator(o)
    for _ in range(1000):
        x: Instruction = random_matrix(o, rng, 2) if rng.integers(2) else random_vector(o, rng, s.filled)
        changes: dict[str, Any] = {}
        for spec in rng.choice(np.array(layout(type(x))[2:], object), 3):
            if spec.bits.kind is None and spec.name not in ("n_ic", "n_ky", "n_kx", "kernel_y", "kernel_x"):
                changes[spec.name] = int(rng.integers(spec.bits.lo, spec.bits.hi, endpoint=True))
        program, dram = s.program([replace(x, **changes), *s.show_act()])
        try:
            simulator.run(program.stream, dram)
        except SimError:
            continue


def test_random_bytes(machines: dict[str, Overlay]) -> None:
    o, dram = machines["pynq-z1-w8"], image()
    rng = np.random.default_rng(23)
    simulator = FastSimulator(o)
    for _ in range(300):
        data = rng.integers(
            0, 256, int(rng.integers(0, 8)) * INSTRUCTION_BYTES + int(rng.integers(2)), np.uint8
        )
        if len(data) >= INSTRUCTION_BYTES:
            data[::INSTRUCTION_BYTES] = data[::INSTRUCTION_BYTES] & 0xF8 | rng.integers(1, 6)
        with pytest.raises(TilewrightError):
            simulator.run(data.tobytes(), dram)


def test_the_largest_instruction_ends(machines: dict[str, Overlay]) -> None:
    """All counts at their largest, all strides 0: refused at once."""
    o, dram = machines["pynq-z1-w8"], image()
    x = Matrix(wait=1, n_oc=255, n_ic=1023, n_ky=31, n_kx=31, n_y=2047, n_x=2047)
    program = Program(encode_stream([*parse_listing(LOADED)[0], x, *parse_listing("FINISH")[0]]), o)
    with pytest.raises(FastSimError, match="1068503295 sums need a vector each"):
        FastSimulator(o).run(program.stream, dram)
