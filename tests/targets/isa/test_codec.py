"""Encoder, decoder, listing and header against the instruction table."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.targets.isa.streams import instructions

import tilewright.targets.isa
from tilewright.errors import EncodingError
from tilewright.targets.isa.codec import decode, decode_stream, encode, encode_stream
from tilewright.targets.isa.header import header
from tilewright.targets.isa.listing import line, listing, parse, parse_listing
from tilewright.targets.isa.spec import (
    Base,
    Finish,
    Instruction,
    Load,
    Loop,
    Matrix,
    Memory,
    Source,
    Store,
    Vector,
    VectorOp,
    layout,
)


@settings(max_examples=150, deadline=None, derandomize=True)
@given(st.lists(instructions(), max_size=6))
def test_decoding_inverts_encoding(program: list[Instruction]) -> None:
    data = encode_stream(program)
    assert decode_stream(data) == program
    assert [decode(data[i : i + 64]) for i in range(0, len(data), 64)] == program


@settings(max_examples=100, deadline=None, derandomize=True)
@given(instructions())
def test_fields_lie_where_the_table_says(x: Instruction) -> None:
    word = int.from_bytes(encode(x), "little")
    assert word & 7 == x.opcode
    for spec in layout(type(x)):
        raw = (word >> spec.offset) & ((1 << spec.bits.width) - 1)
        assert raw == getattr(x, spec.name) % (1 << spec.bits.width)


@settings(max_examples=150, deadline=None, derandomize=True)
@given(instructions(), st.sampled_from(["", "conv1", "fire2/expand 3x3"]))
def test_listing_inverts(x: Instruction, layer: str) -> None:
    assert parse(line(x, layer)) == (x, layer)


@settings(max_examples=200, deadline=None, derandomize=True)
@given(st.binary(min_size=64, max_size=64))
def test_bytes_decode_to_what_encodes_to_them_or_are_refused(data: bytes) -> None:
    try:
        x = decode(data)
    except EncodingError:
        return
    assert encode(x) == data


@settings(max_examples=60, deadline=None, derandomize=True)
@given(instructions((Finish, Store)), st.integers(0, 511))
def test_unused_bits_must_be_zero(x: Instruction, bit: int) -> None:
    last = layout(type(x))[-1]
    end = last.offset + last.bits.width
    bit = end + bit % (512 - end)
    data = (int.from_bytes(encode(x), "little") | 1 << bit).to_bytes(64, "little")
    with pytest.raises(EncodingError, match=rf"bits from {end} up: must be 0, found 0x"):
        decode(data)


def test_numpy_integers_are_encoded_whole() -> None:
    assert encode(Load(n2=int(np.int64(9)))) == encode(Load(n2=np.int64(9)))  # type: ignore[arg-type]


def test_golden_listing() -> None:
    program: list[Instruction] = [
        Load(memory=Memory.WGT, dram_offset=4096, n2=9, dram_stride2=512, give=0b0010),
        Load(memory=Memory.ACT, base=Base.INPUT, n1=32, stride1=32, n2=32, give=0b0010),
        Matrix(
            n_ky=3,
            n_kx=3,
            n_y=32,
            n_x=16,
            offset_y=-1,
            pad=128,
            order_0=Loop.X,
            order_5=Loop.OC,
            wait=0b0001,
            give=0b0100,
        ),
        Vector(op=VectorOp.MAX, source=Source.ACC, n_y=4, wait=0b0010, give=0b1000),
        Store(base=Base.OUTPUT, address=7, wait=0b0100),
        Finish(),
    ]
    layers = ["conv1", "conv1", "conv1", "pool1", "pool1", ""]
    text = """\
LOAD dram_offset=4096 dram_stride2=512 n2=9 memory=WGT give=MATRIX  ; conv1
LOAD base=INPUT stride1=32 n1=32 n2=32 give=MATRIX  ; conv1
MATRIX n_ky=3 n_kx=3 n_y=32 n_x=16 order_0=X order_5=OC offset_y=-1 pad=128 wait=LOAD give=VECTOR  ; conv1
VECTOR op=MAX source=ACC n_y=4 wait=MATRIX give=STORE  ; pool1
STORE base=OUTPUT address=7 wait=VECTOR  ; pool1
FINISH
"""
    assert listing(program, layers) == text
    assert parse_listing(text) == (program, layers)


def test_header_is_generated() -> None:
    path = Path(tilewright.targets.isa.__file__).parent / "isa.h"
    assert path.read_text(encoding="utf-8") == header(), "run python -m tilewright.targets.isa.header > isa.h"


def _message(error: pytest.ExceptionInfo[EncodingError]) -> str:
    return str(error.value)


@pytest.mark.parametrize(
    ("x", "message"),
    [
        (Load(n0=70000), "LOAD.n0: 70000 does not fit 12 bits (1..4095); outer count"),
        (Load(n0=0), "LOAD.n0: 0 does not fit 12 bits (1..4095); outer count"),
        (
            Matrix(offset_y=-8193),
            "MATRIX.offset_y: -8193 does not fit 14 bits (-8192..8191); map row read by counters 0",
        ),
        (
            Vector(op=5),
            "VECTOR.op: 5 is not a VectorOp (legal are 0 SUM, 1 MAX, 2 SCALED_ADD, 3 MULTIPLY, 4 DEPTHWISE); "
            "operation",
        ),
        (Store(give=0b1001), "STORE.give: 9 (LOAD+STORE) names the unit itself"),
        (Finish(wait=1), "FINISH.wait: 1 (LOAD) must be 0, for it has no unit"),
        (
            Matrix(order_0=Loop.X),
            "MATRIX.order_0..5: [5, 1, 2, 3, 4, 5] must hold each of 0..5 once; counters, outermost first",
        ),
    ],
)
def test_encoding_errors(x: Instruction, message: str) -> None:
    with pytest.raises(EncodingError) as error:
        encode(x)
    assert _message(error) == message


def test_all_faults_are_reported_with_index_and_layer() -> None:
    with pytest.raises(EncodingError) as error:
        encode_stream([Finish(), Load(n0=0, n2=70000)], ["", "conv7"])
    assert _message(error) == (
        "instruction 1: LOAD.n0: 0 does not fit 12 bits (1..4095); outer count, layer conv7\n"
        "instruction 1: LOAD.n2: 70000 does not fit 16 bits (1..65535); inner count, layer conv7"
    )


def test_decoding_errors() -> None:
    with pytest.raises(EncodingError) as error:
        decode_stream(encode(Finish()) + bytes(64))
    assert _message(error) == (
        "instruction 1: opcode: 0 is not an operation "
        "(legal are 1 LOAD, 2 MATRIX, 3 VECTOR, 4 STORE, 5 FINISH)"
    )
    with pytest.raises(EncodingError) as error:
        decode_stream(bytes(65))
    assert _message(error) == "a stream is a multiple of 64 bytes, found 65; is it cut off?"
    with pytest.raises(EncodingError) as error:
        decode(bytes(3))
    assert _message(error) == "an instruction has 64 bytes, found 3"
    with pytest.raises(EncodingError) as error:
        decode_stream(bytes(64 * 30))
    assert len(error.value.faults) == 20


def test_listing_errors() -> None:
    with pytest.raises(EncodingError) as error:
        parse_listing("FINISH\n\nLOAD n22=3 base=X wait=FOO n0=x n1=1 n1=2\nJUMP\n")
    assert _message(error) == (
        "line 3: LOAD has no field 'n22'; did you mean n2?\n"
        "line 3: LOAD.base: expected CONSTANT or WORKSPACE or INPUT or OUTPUT, found 'X'\n"
        "line 3: LOAD.wait: expected units (LOAD+MATRIX+VECTOR+STORE), found 'FOO'\n"
        "line 3: LOAD.n0: expected an integer, found 'x'\n"
        "line 3: LOAD.n1: given twice\n"
        "line 4: unknown mnemonic 'JUMP', legal are LOAD, MATRIX, VECTOR, STORE, FINISH"
    )
