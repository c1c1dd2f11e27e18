"""Programs on the reference simulator: results of small ones, and a test of every message."""

from __future__ import annotations

import struct

import numpy as np
import pytest
from numpy.typing import NDArray

from tilewright.errors import EncodingError, SimError, TilewrightError
from tilewright.targets.arithmetic import rne
from tilewright.targets.config import Overlay
from tilewright.targets.isa.codec import encode_stream
from tilewright.targets.isa.listing import parse_listing
from tilewright.targets.isa.spec import (
    Base,
    Finish,
    Instruction,
    Load,
    Matrix,
    Memory,
    Source,
    Store,
    Unit,
    Vector,
)
from tilewright.targets.sim.memory import pack
from tilewright.targets.sim.program import DramImage, Program, RunResult
from tilewright.targets.sim.reference import run

U8 = NDArray[np.uint8]
I64 = NDArray[np.int64]
L, M, V, S = (1 << unit for unit in Unit)
NAMES = ["pynq-z1-w8", "ultra96-w8", "8x16-w8-acc20", "32x32-w4", "16x32-a8w4", "32x32-w2", "128x128-w1"]


def convolution(o: Overlay, size: int) -> list[Instruction]:
    """3x3 over one block of size x size, padded by one, from inputs to outputs."""
    tiles = 9 * o.tile_bytes
    row = {"n1": size, "n2": size, "stride1": size, "dram_stride2": o.half_word_bytes}
    row["dram_stride1"] = size * o.half_word_bytes
    out, r = size * size, o.halves_per_vector
    return [
        Load(memory=Memory.WGT, dram_stride2=o.tile_bytes, n2=9),
        Load(memory=Memory.ACT, base=Base.INPUT, **row, give=M),
        Load(memory=Memory.PARAM, dram_offset=tiles, dram_stride2=16, n2=o.block_out, give=V),
        Matrix(
            n_ky=3, n_kx=3, n_y=size, n_x=size, offset_y=-1, offset_x=-1, height=size, width=size,
            wgt_ky=3, wgt_kx=1, act_row=size, act_x=1, acc_y=size, acc_x=1, pad=o.inp_max // 2, wait=L, give=V,
        ),
        Vector(
            source=Source.ACC, n_c=r, n_y=size, n_x=size, height=size, width=size, src_row=size, src_x=1,
            dst_base=out, dst_row=size, dst_x=1, dst_c=out, param_c=o.block_in, hi=o.inp_max, wait=L | M, give=S,
        ),
        Store(
            base=Base.OUTPUT, address=out, n2=out * r, dram_stride2=o.half_word_bytes, wait=V,
        ),
        Finish(),
    ]  # fmt: skip


def random_image(o: Overlay, rng: np.random.Generator, size: int) -> tuple[DramImage, I64, I64, I64]:
    """DRAM for `convolution`: also the map (size, size, block_in), the weights and the parameters."""
    values = rng.integers(0, o.inp_max + 1, (size, size, o.block_in))
    weights = rng.integers(0, 1 << o.wgt_bits, (3, 3, o.block_out, o.block_in))
    parameters = np.stack(
        [rng.integers(1, 4, o.block_out), rng.integers(5, 9, o.block_out), rng.integers(0, 400, o.block_out)],
        1,
    )
    records = b"".join(struct.pack("<iiq", *row) for row in parameters.tolist())
    constants = np.concatenate(
        [pack(weights.astype(np.uint8), o.wgt_bits).ravel(), np.frombuffer(records, np.uint8)]
    )
    inputs = pack(values.astype(np.uint8), o.inp_bits).ravel()
    outputs = size * size * o.halves_per_vector * o.half_word_bytes
    if o.wgt_bits == 1:
        return DramImage(constants, inputs, 0, outputs), 2 * values - 1, 2 * weights - 1, parameters
    signed = weights - ((weights >> (o.wgt_bits - 1)) << o.wgt_bits)
    return DramImage(constants, inputs, 0, outputs), values, signed, parameters


@pytest.mark.parametrize("name", NAMES)
def test_convolution(machines: dict[str, Overlay], name: str) -> None:
    o, size = machines[name], 5
    dram, values, weights, parameters = random_image(o, np.random.default_rng(4), size)
    result = run(Program(encode_stream(convolution(o, size)), o), dram)

    edge = 0 if o.inp_bits == 1 else o.inp_max // 2
    padded = np.pad(values, ((1, 1), (1, 1), (0, 0)), constant_values=edge)
    sums = np.zeros((size, size, o.block_out), np.int64)
    for ky in range(3):
        for kx in range(3):
            sums += padded[ky : ky + size, kx : kx + size] @ weights[ky, kx].T
    m, s, b = parameters.T
    expected = np.clip(rne(sums * m + b, s), 0, o.inp_max).astype(np.uint8)
    halves = expected.reshape(size, size, o.halves_per_vector, o.block_in).transpose(2, 0, 1, 3)
    assert result.outputs.tolist() == pack(halves, o.inp_bits).ravel().tolist()
    assert len(np.unique(expected)) > 1
    assert result.outputs_written.all()
    assert result.statistics.steps == 9 * size * size
    assert result.statistics.instructions == {"LOAD": 3, "MATRIX": 1, "VECTOR": 1, "STORE": 1}
    assert result.statistics.dram_write_bytes == dram.output_bytes
    assert result.statistics.dram_read_bytes == len(dram.constants) + len(dram.inputs)


def execute(o: Overlay, text: str, dram: DramImage | None = None) -> RunResult:
    """Run a listing; DRAM has 4096 bytes of each kind unless given."""
    instructions, layers = parse_listing(text)
    if dram is None:
        records = np.frombuffer(struct.pack("<iiq", 1, 1, 0) * 256, np.uint8)
        dram = DramImage(records, np.arange(4096).astype(np.uint8), 4096, 4096)
    return run(Program(encode_stream(instructions), o, layers), dram)


def test_through_workspace_with_displaced_lanes(machines: dict[str, Overlay]) -> None:
    """Input -> ACT -> workspace -> ACT, shifted lane by lane by a MATRIX with identity weights -> outputs."""
    o = machines["8x8-w8"]
    identity = np.eye(8, dtype=np.uint8).ravel()
    moves = [(0, 0), (-1, 0), (1, 0), (0, -1), (0, 1), (2, 3), (-2, -2), (1, -1)]
    entry = np.array([(dy & 15) | (dx & 15) << 4 for dy, dx in moves], np.uint8)
    one = np.frombuffer(struct.pack("<iiq", 2, 1, 0) * 8, np.uint8)
    constants = np.concatenate([identity, entry, one])
    values = np.random.default_rng(8).integers(0, 256, (4, 4, 8)).astype(np.uint8)
    result = execute(
        o,
        """
        LOAD base=INPUT n2=16 dram_stride2=8 give=STORE
        LOAD memory=WGT
        LOAD memory=DISP dram_offset=64
        LOAD memory=PARAM dram_offset=72 n2=8 dram_stride2=16 give=VECTOR
        STORE base=WORKSPACE dram_offset=64 n2=16 dram_stride2=8 wait=LOAD give=LOAD
        LOAD base=WORKSPACE dram_offset=64 n2=16 dram_stride2=8 address=100 wait=STORE give=MATRIX
        MATRIX displaced=1 n_y=4 n_x=4 height=4 width=4 act_base=100 act_row=4 act_x=1 acc_y=4 acc_x=1 \
wait=LOAD give=VECTOR
        VECTOR source=ACC n_y=4 n_x=4 height=4 width=4 src_row=4 src_x=1 dst_base=200 dst_row=4 dst_x=1 \
wait=LOAD+MATRIX give=STORE
        STORE base=OUTPUT address=200 n2=16 dram_stride2=8 wait=VECTOR
        FINISH
        """,
        DramImage(constants, values.ravel(), 192, 128),
    )
    expected = np.zeros((4, 4, 8), np.uint8)
    for lane, (dy, dx) in enumerate(moves):
        for y in range(4):
            for x in range(4):
                if 0 <= y + dy < 4 and 0 <= x + dx < 4:
                    expected[y, x, lane] = values[y + dy, x + dx, lane]
    assert result.outputs.tolist() == expected.ravel().tolist()


def test_what_is_not_stored_is_not_written(machines: dict[str, Overlay]) -> None:
    result = execute(
        machines["pynq-z1-w8"],
        "LOAD base=INPUT give=STORE\nSTORE base=OUTPUT dram_offset=32 wait=LOAD\nFINISH",
    )
    assert np.flatnonzero(result.outputs_written).tolist() == list(range(32, 48))
    assert result.outputs[32:48].tolist() == list(range(16))
    assert not result.outputs[:32].any()


ORDERED = {
    "the halves of ACC are apart": """
        LOAD base=INPUT
        LOAD memory=WGT
        LOAD memory=PARAM n2=16 dram_stride2=16 give=MATRIX
        MATRIX wait=LOAD give=VECTOR
        MATRIX acc_base=512
        VECTOR source=ACC dst_base=9 wait=MATRIX
        FINISH""",
    "order passes through a third unit": """
        LOAD base=INPUT n2=16 dram_stride2=16
        LOAD memory=WGT give=MATRIX
        MATRIX wait=LOAD give=VECTOR
        VECTOR wait=MATRIX give=STORE op=SUM param_base=0
        STORE base=OUTPUT address=9 wait=VECTOR
        FINISH""",
    "two readers": """
        LOAD base=INPUT
        LOAD memory=WGT give=STORE+MATRIX
        MATRIX wait=LOAD
        STORE base=OUTPUT wait=LOAD
        FINISH""",
}


@pytest.mark.parametrize("case", ORDERED)
def test_ordered_programs_run(machines: dict[str, Overlay], case: str) -> None:
    text = ORDERED[case]
    if "param_base=0" in text:
        text = text.replace("LOAD memory=WGT", "LOAD memory=PARAM n2=16 dram_stride2=16\n LOAD memory=WGT")
    execute(machines["pynq-z1-w8"], text)


# Name: listing, expected message. The fault is in the last line before FINISH unless the message says otherwise.
LOADED = """LOAD base=INPUT n2=64 dram_stride2=16  ; in
LOAD memory=WGT  ; conv
LOAD memory=PARAM n2=64 dram_stride2=16 give=MATRIX+VECTOR+STORE  ; conv
"""
FAULTS: dict[str, tuple[str, str]] = {
    "unwritten ACT": (
        "MATRIX  ; conv1\nFINISH",
        "instruction 0 (MATRIX, layer conv1): reads half word 0 of ACT, which nothing has written",
    ),
    "unwritten ACT of STORE": (
        "STORE base=OUTPUT address=7\nFINISH",
        "instruction 0 (STORE base=OUTPUT address=7): reads half word 7 of ACT, which nothing has written",
    ),
    "unwritten workspace": (
        "LOAD base=WORKSPACE dram_offset=32\nFINISH",
        "instruction 0 (LOAD base=WORKSPACE dram_offset=32): reads byte 32 of WORKSPACE, which nothing has written",
    ),
    "unwritten output": (
        "LOAD base=OUTPUT\nFINISH",
        "instruction 0 (LOAD base=OUTPUT): reads byte 0 of OUTPUT, which nothing has written",
    ),
    "DRAM range": (
        "LOAD base=INPUT dram_offset=4080 n2=2 dram_stride2=16\nFINISH",
        "instruction 0 (LOAD base=INPUT dram_offset=4080 dram_stride2=16 n2=2): reads byte 4096 of INPUT, "
        "but the last is 4080",
    ),
    "DRAM range inside an element": (
        "LOAD memory=WGT dram_offset=3600\nFINISH",
        "instruction 0 (LOAD dram_offset=3600 memory=WGT): reads byte 4096 of CONSTANT, but the last is 4080",
    ),
    "ACT range": (
        "LOAD base=INPUT address=16383 n1=2 stride1=1\nFINISH",
        "instruction 0 (LOAD base=INPUT address=16383 stride1=1 n1=2): writes half word 16384 of ACT, "
        "but the last is 16383",
    ),
    "PARAM range": (
        "LOAD memory=PARAM address=2100\nFINISH",
        "instruction 0 (LOAD address=2100 memory=PARAM): writes record 2100 of PARAM, but the last is 2047",
    ),
    "far beyond, without memory to match": (
        "LOAD base=INPUT n0=4095 n1=4095 n2=65535 stride0=65535 dram_stride0=4294967280\nFINISH",
        "instruction 0 (LOAD base=INPUT dram_stride0=4294967280 stride0=65535 n0=4095 n1=4095 n2=65535): "
        "writes half word 268365824 of ACT, but the last is 16383",
    ),
    "too many elements": (
        "LOAD base=INPUT n0=4095 n1=4095 n2=65535 stride2=0\nFINISH",
        "instruction 0 (LOAD base=INPUT stride2=0 n0=4095 n1=4095 n2=65535): writes 1098958053375 elements, but the memory has 16384 rows",
    ),
    "twice one row": (
        "LOAD base=INPUT n1=2\nFINISH",
        "instruction 0 (LOAD base=INPUT n1=2): writes half word 0 of ACT more than once",
    ),
    "twice one byte": (
        LOADED + "STORE base=OUTPUT n2=2 wait=LOAD\nFINISH",
        "instruction 3 (STORE base=OUTPUT n2=2 wait=LOAD): writes byte 0 of OUTPUT more than once",
    ),
    "too many bytes": (
        LOADED + "STORE base=OUTPUT n1=4095 wait=LOAD\nFINISH",
        "instruction 3 (STORE base=OUTPUT n1=4095 wait=LOAD): writes 65520 bytes, but OUTPUT has 4096",
    ),
    "unaligned offset": (
        "LOAD base=INPUT dram_offset=8\nFINISH",
        "instruction 0 (LOAD base=INPUT dram_offset=8): dram_offset=8 is not a multiple of 16 bytes",
    ),
    "unaligned stride": (
        "LOAD base=INPUT n1=2 stride1=1 dram_stride1=20\nFINISH",
        "instruction 0 (LOAD base=INPUT dram_stride1=20 stride1=1 n1=2): dram_stride1=20 is not a multiple of 16 "
        "bytes",
    ),
    "write to constants": (
        "STORE\nFINISH",
        "instruction 0 (STORE): writes to CONSTANT, which is read-only",
    ),
    "write to inputs": (
        "STORE base=INPUT\nFINISH",
        "instruction 0 (STORE base=INPUT): writes to INPUT, which is read-only",
    ),
    "displacement": (
        "LOAD base=INPUT memory=DISP\nFINISH",
        "instruction 0 (LOAD base=INPUT memory=DISP): element 0 lane 2 has dy=2, the overlay's range is -1..1",
    ),
    "trap of MATRIX": (
        LOADED + "MATRIX wait=LOAD n_y=2  ; c\nFINISH",
        "instruction 3 (MATRIX n_y=2 wait=LOAD, layer c): (oc, y, x) = (0, 0, 0) and (0, 1, 0) meet at vector 0 "
        "of ACC",
    ),
    "sums that nothing began": (
        LOADED + "MATRIX wait=LOAD fresh=0  ; c\nFINISH",
        "instruction 3 (MATRIX fresh=0 wait=LOAD, layer c): reads vector 0 of ACC, which nothing has written",
    ),
    "trap of VECTOR": (
        LOADED + "VECTOR wait=LOAD lo=2 hi=1  ; c\nFINISH",
        "instruction 3 (VECTOR lo=2 hi=1 wait=LOAD, layer c): lo=2 is above hi=1",
    ),
    "token never given": (
        "MATRIX wait=LOAD\nFINISH",
        "instruction 0 (MATRIX wait=LOAD): waits for a token from LOAD, but none was given before; "
        "an earlier LOAD must give to MATRIX",
    ),
    "token given later": (
        "MATRIX wait=LOAD\nLOAD give=MATRIX\nFINISH",
        "instruction 0 (MATRIX wait=LOAD): waits for a token from LOAD, but none was given before; "
        "an earlier LOAD must give to MATRIX",
    ),
    "token overflow": (
        "LOAD give=STORE\n" * 256 + "FINISH",
        "instruction 255 (LOAD give=STORE): token counter LOAD->STORE reaches 256, it holds 255",
    ),
    "tokens left": (
        LOADED + "FINISH",
        "instruction 3 (FINISH): tokens are left: LOAD->MATRIX 1, LOAD->VECTOR 1, LOAD->STORE 1; "
        "each token given must be waited for",
    ),
    "no FINISH": ("LOAD\nLOAD", "the stream of 2 instructions has no FINISH"),
    "nothing": ("", "the stream of 0 instructions has no FINISH"),
    "after FINISH": ("FINISH\nLOAD\nFINISH", "instruction 1 (LOAD): comes after the FINISH at 0"),
    "race: WGT read too early": (
        "LOAD base=INPUT give=MATRIX\nLOAD memory=WGT  ; w\nMATRIX wait=LOAD  ; c\nFINISH",
        "instruction 2 (MATRIX wait=LOAD, layer c): reads tile 0 of WGT, which instruction 1 (LOAD memory=WGT, "
        "layer w) writes, and no token orders the two; MATRIX must wait for LOAD",
    ),
    "race: ACT overwritten while read": (
        LOADED + "MATRIX wait=LOAD\nLOAD base=INPUT\nFINISH",
        "instruction 4 (LOAD base=INPUT): writes half word 0 of ACT, which instruction 3 (MATRIX wait=LOAD) reads, "
        "and no token orders the two; LOAD must wait for MATRIX",
    ),
    "race: WGT overwritten while read": (
        LOADED + "MATRIX wait=LOAD\nLOAD memory=WGT\nFINISH",
        "instruction 4 (LOAD memory=WGT): writes tile 0 of WGT, which instruction 3 (MATRIX wait=LOAD) reads, "
        "and no token orders the two; LOAD must wait for MATRIX",
    ),
    "race: PARAM overwritten while read": (
        LOADED + "VECTOR wait=LOAD\nLOAD memory=PARAM address=15\nFINISH",
        "instruction 4 (LOAD address=15 memory=PARAM): writes record 15 of PARAM, which instruction 3 (VECTOR "
        "wait=LOAD) reads, and no token orders the two; LOAD must wait for VECTOR",
    ),
    "race: DISP overwritten while read": (
        LOADED.replace("LOAD memory=WGT", "LOAD memory=DISP dram_offset=16\nLOAD memory=WGT")
        + "MATRIX displaced=1 wait=LOAD\nLOAD memory=DISP dram_offset=16\nFINISH",
        "instruction 5 (LOAD dram_offset=16 memory=DISP): writes entry 0 of DISP, which instruction 4 (MATRIX "
        "displaced=1 wait=LOAD) reads, and no token orders the two; LOAD must wait for MATRIX",
    ),
    "race: ACC half shared": (
        LOADED
        + "MATRIX wait=LOAD give=VECTOR\nMATRIX acc_base=511\nVECTOR source=ACC wait=MATRIX dst_base=99\nFINISH",
        "instruction 5 (VECTOR source=ACC dst_base=99 wait=MATRIX): reads half 0 of ACC, which instruction 4 "
        "(MATRIX acc_base=511) writes, and no token orders the two; VECTOR must wait for MATRIX",
    ),
    "race: ACC half taken back": (
        LOADED
        + "MATRIX wait=LOAD give=VECTOR\nVECTOR source=ACC wait=MATRIX dst_base=99\nMATRIX acc_base=7\nFINISH",
        "instruction 5 (MATRIX acc_base=7): writes half 0 of ACC, which instruction 4 (VECTOR source=ACC "
        "dst_base=99 wait=MATRIX) reads, and no token orders the two; MATRIX must wait for VECTOR",
    ),
    "race: VECTOR's result stored": (
        LOADED + "VECTOR wait=LOAD dst_base=9\nSTORE base=OUTPUT address=9 wait=LOAD\nFINISH",
        "instruction 4 (STORE base=OUTPUT address=9 wait=LOAD): reads half word 9 of ACT, which instruction 3 "
        "(VECTOR dst_base=9 wait=LOAD) writes, and no token orders the two; STORE must wait for VECTOR",
    ),
    "race: two writers": (
        LOADED + "VECTOR wait=LOAD dst_base=9\nLOAD base=INPUT address=9\nFINISH",
        "instruction 4 (LOAD base=INPUT address=9): writes half word 9 of ACT, which instruction 3 (VECTOR "
        "dst_base=9 wait=LOAD) writes, and no token orders the two; LOAD must wait for VECTOR",
    ),
    "race: DRAM read too early": (
        LOADED + "STORE base=WORKSPACE wait=LOAD\nLOAD base=WORKSPACE address=99\nFINISH",
        "instruction 4 (LOAD base=WORKSPACE address=99): reads byte 0 of WORKSPACE, which instruction 3 (STORE "
        "base=WORKSPACE wait=LOAD) writes, and no token orders the two; LOAD must wait for STORE",
    ),
    "race: DRAM overwritten while read": (
        LOADED + "STORE base=WORKSPACE wait=LOAD give=LOAD\nLOAD base=WORKSPACE address=99 wait=STORE\n"
        "STORE base=WORKSPACE\nFINISH",
        "instruction 5 (STORE base=WORKSPACE): writes byte 0 of WORKSPACE, which instruction 4 (LOAD "
        "base=WORKSPACE address=99 wait=STORE) reads, and no token orders the two; STORE must wait for LOAD",
    ),
    "the k-th wait takes the k-th token": (
        "LOAD base=INPUT give=STORE\nLOAD base=INPUT address=1 give=STORE\n"
        "STORE base=OUTPUT address=1 wait=LOAD\nSTORE base=OUTPUT wait=LOAD\nFINISH",
        "instruction 2 (STORE base=OUTPUT address=1 wait=LOAD): reads half word 1 of ACT, which instruction 1 "
        "(LOAD base=INPUT address=1 give=STORE) writes, and no token orders the two; STORE must wait for LOAD",
    ),
}


@pytest.mark.parametrize("case", FAULTS)
def test_faults(machines: dict[str, Overlay], case: str) -> None:
    text, message = FAULTS[case]
    with pytest.raises(SimError) as error:
        execute(machines["pynq-z1-w8"], text)
    assert str(error.value) == message


def test_layer_names_must_match(machines: dict[str, Overlay]) -> None:
    o = machines["pynq-z1-w8"]
    none = np.zeros(0, np.uint8)
    with pytest.raises(SimError) as error:
        run(Program(encode_stream([Finish()]), o, ["a", "b"]), DramImage(none, none, 0, 0))
    assert str(error.value) == "2 layer names for 1 instructions"


def test_cut_off_stream(machines: dict[str, Overlay]) -> None:
    none = np.zeros(0, np.uint8)
    with pytest.raises(EncodingError, match="found 63; is it cut off"):
        run(Program(encode_stream([Finish()])[:63], machines["pynq-z1-w8"]), DramImage(none, none, 0, 0))


def test_damaged_streams_are_refused_or_run(machines: dict[str, Overlay]) -> None:
    """One bit flipped anywhere: our own error or an orderly run, nothing else."""
    o = machines["8x16-w8-acc20"]
    rng = np.random.default_rng(6)
    dram = random_image(o, rng, 5)[0]
    stream = encode_stream(convolution(o, 5))
    good = run(Program(stream, o), dram).outputs
    refused = changed = 0
    for _ in range(250):
        data = bytearray(stream)
        data[int(rng.integers(len(data)))] ^= 1 << int(rng.integers(8))
        try:
            changed += int(not np.array_equal(run(Program(bytes(data), o), dram).outputs, good))
        except TilewrightError:
            refused += 1
    assert refused > 100
    assert changed > 0


def test_records_are_aligned_to_themselves_where_half_words_are_longer(machines: dict[str, Overlay]) -> None:
    values = machines["ultra96-w8"].to_dict() | {
        "name": "32x32-w8", "block_in": 32, "acc_kib": 128, "act_kib": 128, "wgt_kib": 64,
    }  # fmt: skip
    o = Overlay.from_dict(values)
    assert (o.half_word_bytes, o.record_alignment) == (32, 16)
    text = "LOAD memory=PARAM dram_offset=16 n2=3 dram_stride2=16\n{}LOAD base=INPUT dram_offset=32\nFINISH"
    execute(o, text.format(""))
    with pytest.raises(SimError, match="dram_offset=16 is not a multiple of 32 bytes"):
        execute(o, text.format("LOAD base=INPUT dram_offset=16\n"))
