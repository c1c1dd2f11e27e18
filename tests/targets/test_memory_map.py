"""Memory maps: NumPy and the C++ runtime against the formulas of `targets/region.py`, written out in loops."""

from __future__ import annotations

from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from tilewright.errors import PackageError
from tilewright.runtime.native import NativeProgram
from tilewright.targets.config import overlay
from tilewright.targets.memory_map import pack, unpack
from tilewright.targets.program import (
    MACHINE_FIELDS,
    HostProgram,
    HostStep,
    HostTensor,
    decode_region,
    encode_program,
    encode_region,
)
from tilewright.targets.region import REGION_DTYPES, CompiledRegion, MapLayout, Packing
from tilewright.targets.storage import WIDTHS

MACHINE = overlay("ultra96-w8")
BLOCK = MACHINE.block_in
LIMIT = (1 << 31) - 1


def narrow(bits: int) -> Any:
    """An overlay with operands of `bits`, as far as a region's record tells of it."""
    values = {name: getattr(MACHINE, name) for name in MACHINE_FIELDS} | {"inp_bits": bits}
    return SimpleNamespace(name=f"w{bits}", hash=MACHINE.hash, identity=MACHINE.identity, **values)


def region_of(layout: MapLayout, size: int) -> CompiledRegion:
    """A region with one packed input and a small result."""
    result = MapLayout("y", (1, 1, 1, 1), "int8", 0, (0, *[-1] * (BLOCK - 1)), bits=1)
    return CompiledRegion("r", b"", ("l",), (0,), b"", 0, size, BLOCK, (layout,), (result,))


def native(layout: MapLayout, size: int, machine: Any = MACHINE) -> NativeProgram:
    """A program that hands its only input to that region."""
    tensors = (HostTensor("x", layout.shape, layout.dtype), HostTensor("y", (1, 1, 1, 1), "int8"))
    program = HostProgram(tensors, {}, (0,), (1,), (HostStep("region", (0,), (1,), {"index": 0}),))
    return NativeProgram(
        encode_program(program), [(encode_region(region_of(layout, size), machine), b"", b"")]
    )


def by_native(layout: MapLayout, x: NDArray[Any], size: int, machine: Any = MACHINE) -> NDArray[np.uint8]:
    """The input segment that the runtime fills."""
    program, seen = native(layout, size, machine), []

    def accelerator(_: int, inputs: bytes) -> bytes:
        seen.append(inputs)
        return bytes(BLOCK)

    program.set_accelerator(accelerator)
    program.run([x])
    return np.frombuffer(seen[0], np.uint8)


def stored_by_formula(value: int, layout: MapLayout) -> int:
    if layout.bits == 1:
        return {-1: 0, 1: 1}[value]
    return value + (1 << (layout.bits - 1) if layout.dtype.startswith("int") else 0)


def by_formula(layout: MapLayout, x: NDArray[Any], inp_bits: int = 8) -> NDArray[np.int64]:
    """What lanes hold, (rows, columns, lanes), each by the formula alone."""
    _, channels, height, width = layout.shape
    p = layout.packing
    assert p is not None
    values = np.zeros((p.rows, p.columns, len(layout.lanes)), np.int64)
    for row in range(p.rows):
        for column in range(p.columns):
            for number, lane in enumerate(layout.lanes):
                if lane < 0:
                    continue
                c, t, plane = lane % channels, lane // channels % p.taps, lane // channels // p.taps
                y, at = row + p.top, column * p.stride + t * p.dilation + p.offset
                inside = 0 <= at < width and 0 <= y < height
                stored = stored_by_formula(int(x[0, c, y, at]), layout) if inside else p.fill
                values[row, column, number] = stored >> plane * inp_bits & (1 << inp_bits) - 1
    return values


@st.composite
def layouts(draw: st.DrawFn, inp_bits: int) -> MapLayout:
    shape = (1, draw(st.integers(1, 6)), draw(st.integers(1, 4)), draw(st.integers(1, 9)))
    dtype = draw(st.sampled_from(REGION_DTYPES))
    widths = [b for b in WIDTHS if inp_bits <= b <= np.iinfo(dtype).bits and (b > 1 or dtype[0] == "i")]
    bits = draw(st.sampled_from(widths))
    packing = Packing(
        columns=draw(st.integers(1, 12)),
        rows=draw(st.integers(1, 6)),
        top=draw(st.integers(-3, 3)),
        taps=draw(st.integers(1, 5)),
        stride=draw(st.integers(1, 4)),
        dilation=draw(st.integers(1, 3)),
        offset=draw(st.integers(-12, 12)),
        fill=draw(st.integers(0, (1 << bits) - 1)),
    )
    blocks = draw(st.integers(1, 3))
    lane = st.integers(-1, bits // inp_bits * shape[1] * packing.taps - 1)
    lanes = draw(st.lists(lane, min_size=blocks * BLOCK, max_size=blocks * BLOCK))
    offset = draw(st.integers(0, 2)) * BLOCK * inp_bits // 8
    return MapLayout("x", shape, dtype, offset, tuple(lanes), packing, bits)


@settings(max_examples=150, deadline=None, derandomize=True)
@given(st.data(), st.sampled_from((1, 2, 4, 8)))
def test_both_writers_write_what_the_formula_says(data: st.DataObject, bits: int) -> None:
    layout = data.draw(layouts(bits))
    random = np.random.default_rng(data.draw(st.integers(0, 99)))
    stored = random.integers(0, 1 << layout.bits, layout.shape)
    signed = layout.dtype.startswith("int")
    wide = 2 * stored - 1 if layout.bits == 1 else stored - (1 << (layout.bits - 1)) * signed
    x = wide.astype(layout.dtype)
    values = by_formula(layout, x, bits)
    spread = ((values.reshape(-1, 1) >> np.arange(bits)) & 1).astype(np.uint8)
    packed = np.packbits(spread.ravel(), bitorder="little")
    expected = np.zeros(layout.offset + packed.size + BLOCK, np.uint8)
    expected[layout.offset : layout.offset + packed.size] = packed
    np.testing.assert_array_equal(by_native(layout, x, expected.size, narrow(bits)), expected)
    segment = np.zeros_like(expected)
    pack(layout, x, segment, bits)
    np.testing.assert_array_equal(segment, expected)
    held = {lane for lane in layout.lanes if lane >= 0}
    if layout.bits == bits or len(held) == layout.bits // bits * layout.shape[1] * layout.packing.taps:  # type: ignore[union-attr]
        seen = unpack(layout, segment, bits)
        again = np.zeros_like(expected)
        pack(layout, seen, again, bits)
        np.testing.assert_array_equal(again, expected)


def test_elements_that_no_lane_holds_come_back_as_fill() -> None:
    """Of five columns a pixel holds one, at every second column but the last."""
    layout = MapLayout("x", (1, 1, 1, 5), "int8", 0, (0, *[-1] * 15), Packing(2, 1, 1, 2, fill=131))
    segment = np.zeros(2 * BLOCK, np.uint8)
    pack(layout, np.array([[[[10, 20, 30, 40, 50]]]], np.int8), segment)
    assert segment.reshape(2, BLOCK)[:, 0].tolist() == [138, 158]
    assert unpack(layout, segment).ravel().tolist() == [10, 3, 30, 3, 3]


SOUND = MapLayout("x", (1, 3, 2, 8), "int8", 0, (*range(9), *[-1] * 7), Packing(4, 2, 3, 2, 1, -1, 0, 128))
SIZE = 2 * 4 * BLOCK


def changed(**changes: Any) -> MapLayout:
    assert SOUND.packing is not None
    return replace(SOUND, packing=replace(SOUND.packing, **changes))


def test_a_packing_survives_its_record() -> None:
    record = encode_region(region_of(SOUND, SIZE), MACHINE)
    assert decode_region(record, b"", b"", MACHINE) == region_of(SOUND, SIZE)
    at = record.index(np.array([4, 2, 3, 2, 1, -1, 0, 128], "<i4").tobytes()) - 1
    assert record[at] == 1
    damaged = record[:at] + b"\2" + record[at + 1 :]
    with pytest.raises(PackageError, match="expected 0 or 1 before a packing, found 2"):
        decode_region(damaged, b"", b"", MACHINE)


BAD: list[tuple[MapLayout, str]] = [
    (
        changed(columns=0),
        "expected a packing's columns, rows, taps, stride and dilation above 0, found 0, 2, 3, 2 and 1",
    ),
    (changed(taps=-1), "found 4, 2, -1, 2 and 1"),
    (changed(stride=0), "found 4, 2, 3, 0 and 1"),
    (changed(dilation=-5), "found 4, 2, 3, 2 and -5"),
    (changed(columns=5), "tensor x: 160 bytes at 0 pass the segment of 128"),
    (changed(columns=LIMIT), "a packing of 2 x 2147483647 pixels is above the limit of 1073741824"),
    (changed(rows=0), "found 4, 0, 3, 2 and 1"),
    (changed(rows=LIMIT), "a packing of 2147483647 x 4 pixels is above the limit of 1073741824"),
    (changed(fill=256), "a packing's fill of 256 does not fit 8 bits"),
    (changed(fill=-1), "a packing's fill of -1 does not fit 8 bits"),
    (changed(taps=2), "lane holds channel 6 of 6"),
    (replace(SOUND, shape=(1, 9)), "only an input of rank 4 can be packed"),
    (
        replace(SOUND, bits=16),
        "expected 2, 4 or 8 bits, 1 of a signed type or 16 of one of 16 bits, found 16",
    ),
    (replace(SOUND, dtype="uint8", bits=1), "1 of a signed type or 16 of one of 16 bits, found 1"),
]


@pytest.mark.parametrize(("layout", "text"), BAD)
def test_packings_that_cannot_be_are_refused(layout: MapLayout, text: str) -> None:
    with pytest.raises(PackageError, match=f"region r, tensor x: .*{text}|{text}"):
        native(layout, SIZE)


def test_an_output_is_never_packed() -> None:
    region = replace(region_of(SOUND, SIZE), outputs=(replace(SOUND, name="y"),), output_bytes=SIZE)
    program = encode_program(
        HostProgram(
            (HostTensor("x", SOUND.shape, "int8"), HostTensor("y", SOUND.shape, "int8")),
            {},
            (0,),
            (1,),
            (HostStep("region", (0,), (1,), {"index": 0}),),
        )
    )
    with pytest.raises(PackageError, match="tensor y: only an input of rank 4 can be packed"):
        NativeProgram(program, [(encode_region(region, MACHINE), b"", b"")])


@pytest.mark.parametrize(
    "changes",
    [
        {"stride": LIMIT, "dilation": LIMIT},
        {"offset": LIMIT},
        {"offset": -LIMIT - 1},
        {"taps": LIMIT, "dilation": LIMIT},
    ],
)
def test_far_columns_are_fill(changes: dict[str, int]) -> None:
    """The largest numbers that a record holds do not overflow."""
    layout = changed(**changes)
    if "taps" in changes:  # the last tap of channel 2: as far as a lane can name
        layout = replace(layout, lanes=(LIMIT, *[-1] * 15))
    x = np.arange(48, dtype=np.int8).reshape(SOUND.shape)
    np.testing.assert_array_equal(by_native(layout, x, SIZE).reshape(2, 4, BLOCK), by_formula(layout, x))
