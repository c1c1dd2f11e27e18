"""Memory maps: NumPy and the C++ runtime against the formulas of `targets/region.py`, written out in loops."""

from __future__ import annotations

from dataclasses import replace
from types import SimpleNamespace
from typing import Any, Literal

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
from tilewright.targets.region import CompiledRegion, MapLayout, Packing

MACHINE = overlay("ultra96-w8")
BLOCK = MACHINE.block_in
LIMIT = (1 << 31) - 1


def narrow(bits: int) -> Any:
    """An overlay with operands of `bits`, as far as a region's record tells of it."""
    values = {name: getattr(MACHINE, name) for name in MACHINE_FIELDS} | {"inp_bits": bits}
    return SimpleNamespace(name=f"w{bits}", **values)


def region_of(layout: MapLayout, size: int) -> CompiledRegion:
    """A region with one packed input and a small result."""
    result = MapLayout("y", (1, 1, 1, 1), "uint8", 0, (0, *[-1] * (BLOCK - 1)))
    return CompiledRegion("r", b"", ("l",), (0,), b"", 0, size, BLOCK, (layout,), (result,))


def native(layout: MapLayout, size: int, machine: Any = MACHINE) -> NativeProgram:
    """A program that hands its only input to that region."""
    tensors = (HostTensor("x", layout.shape, layout.dtype), HostTensor("y", (1, 1, 1, 1), "uint8"))
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


def by_formula(layout: MapLayout, x: NDArray[Any]) -> NDArray[np.int64]:
    """Stored values, (rows, columns, lanes), each by the formula alone."""
    _, channels, height, width = layout.shape
    p = layout.packing
    assert p is not None
    values = np.zeros((height, p.columns, len(layout.lanes)), np.int64)
    for y in range(height):
        for column in range(p.columns):
            for number, lane in enumerate(layout.lanes):
                if lane < 0:
                    continue
                t, c = lane // channels, lane % channels
                at = column * p.stride + t * p.dilation + p.offset
                stored = (
                    int(x[0, c, y, at]) + (128 if layout.dtype == "int8" else 0)
                    if 0 <= at < width
                    else p.fill
                )
                values[y, column, number] = stored
    return values


@st.composite
def layouts(draw: st.DrawFn, bits: int = 8) -> MapLayout:
    shape = (1, draw(st.integers(1, 6)), draw(st.integers(1, 4)), draw(st.integers(1, 9)))
    packing = Packing(
        columns=draw(st.integers(1, 12)),
        taps=draw(st.integers(1, 5)),
        stride=draw(st.integers(1, 4)),
        dilation=draw(st.integers(1, 3)),
        offset=draw(st.integers(-12, 12)),
        fill=draw(st.integers(0, (1 << bits) - 1)),
    )
    blocks = draw(st.integers(1, 3))
    lane = st.integers(-1, shape[1] * packing.taps - 1)
    lanes = draw(st.lists(lane, min_size=blocks * BLOCK, max_size=blocks * BLOCK))
    offset = draw(st.integers(0, 2)) * BLOCK * bits // 8
    dtype: Literal["int8", "uint8"] = draw(st.sampled_from(("int8", "uint8")))
    return MapLayout("x", shape, dtype, offset, tuple(lanes), packing)


@settings(max_examples=150, deadline=None, derandomize=True)
@given(st.data(), st.sampled_from((1, 2, 4, 8)))
def test_both_writers_write_what_the_formula_says(data: st.DataObject, bits: int) -> None:
    layout = data.draw(layouts(bits))
    random = np.random.default_rng(data.draw(st.integers(0, 99)))
    stored = random.integers(0, 1 << bits, layout.shape)
    x = (stored - (128 if layout.dtype == "int8" else 0)).astype(layout.dtype)
    values = by_formula(layout, x)
    spread = ((values.reshape(-1, 1) >> np.arange(bits)) & 1).astype(np.uint8)
    packed = np.packbits(spread.ravel(), bitorder="little")
    expected = np.zeros(layout.offset + packed.size + BLOCK, np.uint8)
    expected[layout.offset : layout.offset + packed.size] = packed
    np.testing.assert_array_equal(by_native(layout, x, expected.size, narrow(bits)), expected)
    if bits == 8:
        segment = np.zeros_like(expected)
        pack(layout, x, segment)
        np.testing.assert_array_equal(segment, expected)
        seen = unpack(layout, segment)
        again = np.zeros_like(expected)
        pack(layout, seen, again)
        np.testing.assert_array_equal(again, expected)


def test_elements_that_no_lane_holds_come_back_as_fill() -> None:
    """Of five columns a pixel holds one, at every second column but the last."""
    layout = MapLayout("x", (1, 1, 1, 5), "int8", 0, (0, *[-1] * 15), Packing(2, 1, 2, fill=131))
    segment = np.zeros(2 * BLOCK, np.uint8)
    pack(layout, np.array([[[[10, 20, 30, 40, 50]]]], np.int8), segment)
    assert segment.reshape(2, BLOCK)[:, 0].tolist() == [138, 158]
    assert unpack(layout, segment).ravel().tolist() == [10, 3, 30, 3, 3]


SOUND = MapLayout("x", (1, 3, 2, 8), "int8", 0, (*range(9), *[-1] * 7), Packing(4, 3, 2, 1, -1, 128))
SIZE = 2 * 4 * BLOCK


def changed(**changes: Any) -> MapLayout:
    assert SOUND.packing is not None
    return replace(SOUND, packing=replace(SOUND.packing, **changes))


def test_a_packing_survives_its_record() -> None:
    record = encode_region(region_of(SOUND, SIZE), MACHINE)
    assert decode_region(record, b"", b"", MACHINE) == region_of(SOUND, SIZE)
    at = record.index(np.array([4, 3, 2, 1, -1, 128], "<i4").tobytes()) - 1
    assert record[at] == 1
    damaged = record[:at] + b"\2" + record[at + 1 :]
    with pytest.raises(PackageError, match="expected 0 or 1 before a packing, found 2"):
        decode_region(damaged, b"", b"", MACHINE)


BAD: list[tuple[MapLayout, str]] = [
    (
        changed(columns=0),
        "expected a packing's columns, taps, stride and dilation above 0, found 0, 3, 2 and 1",
    ),
    (changed(taps=-1), "found 4, -1, 2 and 1"),
    (changed(stride=0), "found 4, 3, 0 and 1"),
    (changed(dilation=-5), "found 4, 3, 2 and -5"),
    (changed(columns=5), "tensor x: 160 bytes at 0 pass the segment of 128"),
    (changed(columns=LIMIT), "a packing of 2147483647 columns is above the limit of 1073741824 pixels"),
    (changed(fill=256), "a packing's fill of 256 does not fit 8 bits"),
    (changed(fill=-1), "a packing's fill of -1 does not fit 8 bits"),
    (changed(taps=2), "lane holds channel 6 of 6"),
    (replace(SOUND, shape=(1, 9)), "only an input of rank 4 can be packed"),
    (replace(SOUND, dtype="int16"), "expected int8 or uint8, .* found type"),
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
