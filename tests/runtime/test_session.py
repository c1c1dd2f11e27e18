"""Packages run by the C++ runtime: feeds, both back ends, faults of the machine, damaged contents."""

from __future__ import annotations

import dataclasses
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from tests.runtime.corpus import network

from tilewright.errors import ConfigError, DataError, PackageError, SimError, TilewrightError
from tilewright.runtime import Session, run
from tilewright.runtime.native import NativeProgram
from tilewright.targets.config import Overlay, overlay
from tilewright.targets.package import Package
from tilewright.targets.program import HostProgram, HostStep, HostTensor, encode_program, encode_region
from tilewright.targets.region import CompiledRegion, MapLayout

RNG = np.random.default_rng(9)
OVERLAY = overlay("ultra96-w8")
CHANNELS, OUT, SIZE = 5, 20, 6
WEIGHT = RNG.integers(-127, 128, (OUT, CHANNELS, 3, 3))
SHIFT = 8
PACKAGE = dataclasses.replace(network(channels=CHANNELS, weight=WEIGHT), report={}, plan=None)
REGION = PACKAGE.regions[0]


def _package(**changes: Any) -> Package:
    return dataclasses.replace(PACKAGE, **changes)


def _expected(x: NDArray[Any]) -> NDArray[np.int64]:
    q = np.clip(np.rint(x.astype(np.float32) / np.float32(0.25)) + 2, -128, 127).astype(np.int64)
    padded = np.pad(q - 2, ((0, 0), (0, 0), (1, 1), (1, 1)))
    windows = np.lib.stride_tricks.sliding_window_view(padded[0], (3, 3), axis=(1, 2))
    acc = np.einsum("oiyx,ihwyx->ohw", WEIGHT, windows)[np.newaxis] + 100
    floor, half = acc >> SHIFT, 1 << (SHIFT - 1)
    rest = acc - (floor << SHIFT)
    return np.asarray(np.clip(floor + ((rest > half) | ((rest == half) & (floor & 1 == 1))), 0, 255))


def _feed() -> dict[str, NDArray[Any]]:
    return {"x": RNG.normal(0, 12, (1, CHANNELS, SIZE, SIZE)).astype(np.float32)}


@pytest.mark.parametrize("backend", ["sim", "reference"])
def test_a_package_gives_what_numpy_gives(backend: Any) -> None:
    session = Session(Package.from_bytes(_package().to_bytes()), backend)
    for _ in range(3):
        feeds = _feed()
        result = session.run(feeds)
        expected = _expected(feeds["x"])
        assert list(result.outputs) == ["p", "y"]
        np.testing.assert_array_equal(result.outputs["y"], expected)
        assert len(np.unique(expected)) > 8
        raised = np.exp(expected - expected.max(1, keepdims=True).astype(np.float64))
        # exp in float32, a sum in float64, one rounding; below 2^-126 float32 loses digits.
        shares = raised / raised.sum(1, keepdims=True)
        np.testing.assert_allclose(result.outputs["p"], shares, rtol=4 * 2.0**-23, atol=2.0**-126)
        assert result.counts["regions"] == 1
        assert result.counts["instructions"] == len(REGION.layer_of)


def test_one_changed_weight_changes_the_output() -> None:
    feeds = _feed()
    before = run(_package(), feeds)["y"]
    at = next(offset for offset, count in REGION.products.items() if count)
    constants = bytearray(REGION.constants)
    constants[at] ^= 0x40
    changed = dataclasses.replace(REGION, constants=bytes(constants))
    assert np.any(run(_package(regions=(changed,)), feeds)["y"] != before)


def test_wrong_feeds_are_all_named() -> None:
    session = Session(_package())
    with pytest.raises(DataError) as caught:
        session.run({"y": np.zeros(1), "z": np.zeros(1)})
    assert [str(f) for f in caught.value.faults] == [
        "unknown input 'y', the network's are x",
        "unknown input 'z', the network's are x",
        "input x: is missing, expected float32 (1, 5, 6, 6)",
    ]
    with pytest.raises(
        DataError, match=r"input x: expected float32 \(1, 5, 6, 6\), found float64 \(1, 5, 6, 7\)"
    ):
        session.run({"x": np.zeros((1, 5, 6, 7))})


def test_an_array_of_any_memory_order_is_taken() -> None:
    feeds = _feed()
    strided = np.asfortranarray(feeds["x"])
    swapped = feeds["x"].astype(">f4")
    expected = run(_package(), feeds)["y"]
    for array in (strided, swapped):
        np.testing.assert_array_equal(run(_package(), {"x": array})["y"], expected)


def test_an_unknown_back_end_is_named() -> None:
    with pytest.raises(
        ConfigError,
        match=r"^unknown back end 'sin', known are sim, reference, zynq:registers=PATH,memory=PATH; did you mean sim\?$",
    ):
        Session(_package(), "sin")


@pytest.mark.parametrize("backend", ["sim", "reference"])
def test_a_faulty_stream_names_region_instruction_and_layer(backend: Any) -> None:
    stream = bytearray(REGION.stream)
    stream[64:128] = bytes(64)
    with pytest.raises(TilewrightError, match=r"net_0|instruction 1"):
        run(_package(regions=(dataclasses.replace(REGION, stream=bytes(stream)),)), _feed(), backend)
    without_end = dataclasses.replace(REGION, stream=REGION.stream[:-64], layer_of=REGION.layer_of[:-1])
    with pytest.raises(SimError, match=r"^region net_0.*FINISH"):
        run(_package(regions=(without_end,)), _feed(), backend)


def _region_with(**changes: Any) -> CompiledRegion:
    return dataclasses.replace(REGION, **changes)


def _map(**changes: Any) -> tuple[MapLayout, ...]:
    return (dataclasses.replace(REGION.outputs[0], **changes),)


BAD_REGIONS = [
    (_region_with(output_bytes=16), r"bytes at 0 pass the segment of 16"),
    (_region_with(workspace_bytes=1 << 40), "a segment of 1099511627776 bytes is above the limit"),
    (_region_with(outputs=_map(lanes=REGION.outputs[0].lanes[:-1])), "expected a multiple of 16 lanes"),
    (_region_with(outputs=_map(lanes=(-1,) * 32)), "tensor y: a channel lies in no lane"),
    (_region_with(outputs=_map(lanes=(99,) * 32)), "tensor y: lane holds channel 99 of 20"),
    (_region_with(outputs=_map(offset=3)), "tensor y: .*(3|pass)"),
    (_region_with(outputs=_map(shape=(2, OUT, SIZE, SIZE))), r"expected shape \(1, C, H, W\)"),
    (_region_with(outputs=_map(shape=(1, OUT, SIZE))), "expected rank 2 or 4, found 3"),
    (_region_with(outputs=_map(shape=(1, OUT, 1 << 40, 1 << 40))), "above the limit"),
    (_region_with(outputs=_map(shape=(1, OUT, SIZE, SIZE - 1))), r"declared uint8 \(1, 20, 6, 6\), found"),
    (_region_with(outputs=()), "expected 1 operands and 0 results|expected .* results"),
]


@pytest.mark.parametrize(("region", "text"), BAD_REGIONS)
def test_regions_that_contradict_themselves_are_refused(region: CompiledRegion, text: str) -> None:
    with pytest.raises(PackageError, match=text):
        run(_package(regions=(region,)), _feed())


def _low_bit(bits: int, dtype: str) -> tuple[Overlay, CompiledRegion]:
    """An overlay of `bits` wide activations with a region that only hands its input segment on."""
    changes = {"name": f"w{bits}", "inp_bits": bits}
    values = OVERLAY.to_dict() | changes
    overlay_bits = _Machine(values)
    lanes: tuple[int, ...] = (3, -1, 0, 2, 1, -1, -1, -1) * 4
    held = max(bits, 2 if dtype == "uint8" else 1)
    lanes += tuple(lane + 4 if lane >= 0 else -1 for lane in lanes) * (held > bits)
    offset = OVERLAY.block_in * bits // 8
    maps = tuple(MapLayout(n, (1, 4, 3, 3), dtype, offset, lanes, bits=held) for n in ("a", "b"))  # type: ignore[arg-type]
    size = OVERLAY.block_in * bits // 8 + 9 * len(lanes) * bits // 8
    region = CompiledRegion("r", b"", ("l",), (0,), b"", 0, size, size, maps[:1], maps[1:])
    return overlay_bits, region  # type: ignore[return-value]


class _Machine:
    """Stands for an overlay of narrow operands, of which there are none yet."""

    def __init__(self, values: dict[str, Any]) -> None:
        self._values = values

    def __getattr__(self, name: str) -> Any:
        return self._values[name] if name in self._values else getattr(OVERLAY, name)


@pytest.mark.parametrize("bits", [1, 2, 4, 8])
@pytest.mark.parametrize("dtype", ["uint8", "int8"])
def test_the_memory_map_for_every_width(bits: int, dtype: str) -> None:
    machine, region = _low_bit(bits, dtype)
    tensors = (HostTensor("a", (1, 4, 3, 3), dtype), HostTensor("b", (1, 4, 3, 3), dtype))  # type: ignore[arg-type]
    program = HostProgram(tensors, {}, (0,), (1,), (HostStep("region", (0,), (1,), {"index": 0}),))
    native = NativeProgram(encode_program(program), [(encode_region(region, machine), b"", b"")])
    seen: list[bytes] = []

    def accelerator(number: int, inputs: bytes) -> bytes:
        assert number == 0
        seen.append(inputs)
        return inputs

    native.set_accelerator(accelerator)
    layout = region.inputs[0]
    stored = RNG.integers(0, 1 << layout.bits, (1, 4, 3, 3))
    offset = 1 << (layout.bits - 1) if dtype == "int8" else 0
    x = (2 * stored - 1 if layout.bits == 1 else stored - offset).astype(dtype)
    (found,) = native.run([x])[0]
    np.testing.assert_array_equal(found, x)
    values = np.zeros((3, 3, len(layout.lanes)), np.int64)
    for lane, channel in enumerate(layout.lanes):
        if channel >= 0:
            values[:, :, lane] = stored[0, channel % 4] >> channel // 4 * bits
    spread = (values.reshape(-1, 1) >> np.arange(bits)) & 1
    packed = np.packbits(spread.astype(np.uint8).ravel(), bitorder="little").tobytes()
    assert seen[0][layout.offset : layout.offset + len(packed)] == packed
    if bits < 8:
        far = 0 if layout.bits == 1 else (1 << layout.bits) - offset
        text = f"tensor a: a value of {far} does not fit its {layout.bits} bits"
        with pytest.raises(DataError, match=text):
            native.run([np.full_like(x, far)])


def test_what_a_callers_accelerator_raises_comes_back() -> None:
    machine, region = _low_bit(8, "int8")
    tensors = (HostTensor("a", (1, 4, 3, 3), "int8"), HostTensor("b", (1, 4, 3, 3), "int8"))
    program = HostProgram(tensors, {}, (0,), (1,), (HostStep("region", (0,), (1,), {"index": 0}),))
    native = NativeProgram(encode_program(program), [(encode_region(region, machine), b"", b"")])

    def fails(_: int, __: bytes) -> bytes:
        raise ZeroDivisionError("mine")

    native.set_accelerator(fails)
    with pytest.raises(ZeroDivisionError, match=r"^mine$"):
        native.run([np.zeros((1, 4, 3, 3), np.int8)])


@settings(max_examples=150, deadline=None, derandomize=True)
@given(st.data())
def test_mutated_contents_are_refused_or_run(data: st.DataObject) -> None:
    """Bytes changed behind the checksums: one of our errors, or a result; nothing else."""
    program = encode_program(_package().program)
    record, stream, constants = encode_region(REGION, OVERLAY), REGION.stream, REGION.constants
    parts = [bytearray(p) for p in (program, record, stream, constants)]
    which = data.draw(st.integers(0, 2))
    for _ in range(data.draw(st.integers(1, 3))):
        position = data.draw(st.integers(0, len(parts[which]) - 1))
        if data.draw(st.booleans()):
            parts[which][position] = data.draw(st.integers(0, 255))
        else:
            parts[which][position] ^= 1 << data.draw(st.integers(0, 7))
    if data.draw(st.booleans()):
        del parts[which][data.draw(st.integers(0, len(parts[which]))) :]
    try:
        native = NativeProgram(bytes(parts[0]), [(bytes(parts[1]), bytes(parts[2]), bytes(parts[3]))])
        native.run([_FUZZ_INPUT])
    except TilewrightError as error:
        assert str(error)


_FUZZ_INPUT = _feed()["x"]
