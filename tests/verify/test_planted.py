"""Faults that one level alone has: `verify` names that level and the layer; and rows kept in rings of ACT."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import replace
from typing import Any

import numpy as np
import onnx
import pytest
from numpy.typing import NDArray
from onnx import numpy_helper

import tilewright as tw
from tests.codegen.mutants import windows
from tests.verify.test_faults import QUICK, STREAM, changed, found_in, layer_of
from tilewright.runtime.device_model import DeviceModel
from tilewright.targets.isa.codec import decode_stream
from tilewright.targets.isa.spec import Instruction, Matrix, Vector
from tilewright.verify import verify

Feeds = Mapping[str, NDArray[Any]]


def test_the_float_network(package: tw.Package, feeds: Feeds) -> None:
    """Another weight than what was quantised: told where the quantised level is held against it."""
    model = onnx.ModelProto.FromString(package.float_model or b"")
    (item,) = (x for x in model.graph.initializer if x.name.startswith("mix_3x3/weight"))
    item.CopyFrom(numpy_helper.from_array(numpy_helper.to_array(item) * np.float32(2), item.name))
    wrong = replace(package, float_model=model.SerializeToString())
    assert found_in(wrong, feeds, ("float", "quantised")) == ("quantised", "mix_3x3")


def test_the_host_part(package: tw.Package, feeds: Feeds) -> None:
    """Its last operator works along another axis."""
    steps = list(package.program.steps)
    number = next(i for i, step in enumerate(steps) if step.op == "softmax")
    steps[number] = replace(steps[number], attributes={"axis": 0})
    wrong = replace(package, program=replace(package.program, steps=tuple(steps)))
    (output,) = package.outputs
    assert found_in(wrong, feeds, QUICK) == ("integer", output.name)


def clamped(package: tw.Package, layer: str) -> tw.Package:
    """VECTOR gives at most 9 in a layer."""

    def wrong(i: int, x: Instruction) -> Instruction:
        return replace(x, hi=9) if isinstance(x, Vector) and layer_of(package, i) == layer else x

    return changed(package, wrong)


def faulty(backend: str, layer: str) -> Callable[[Any, Any], tw.Session]:
    """Opens packages on back ends, one of which does something else in a layer."""
    return lambda p, name: tw.Session(clamped(p, layer) if name == backend else p, name)


def test_the_stream(package: tw.Package, feeds: Feeds) -> None:
    """It is not what its plan gives: the first level that runs it is told."""
    assert found_in(clamped(package, "res_b"), feeds, STREAM) == ("reference", "res_b")


@pytest.mark.parametrize(("backend", "level"), [("reference", "reference"), ("sim", "fast")])
def test_a_simulator(package: tw.Package, feeds: Feeds, backend: str, level: str) -> None:
    """One of the two does something else with the same stream."""
    found = verify(
        package,
        feeds,
        levels=("integer", "reference", "fast"),
        open_backend=faulty(backend, "conv2"),
        engine="numpy",
    )
    assert found.first is not None
    assert (found.first.level, found.first.layer) == (level, "conv2")


def test_a_device(package: tw.Package, feeds: Feeds) -> None:
    """The Zynq back end, on a model of the device."""
    with DeviceModel(package.overlay, memory_bytes=4 << 20) as model:
        device = model.uri(timeout_ms=5000)
        right = verify(package, feeds, levels=QUICK, backends=[device], engine="numpy")
        assert right.passed and right.levels == ("quantised", *QUICK, device)
        wrong = verify(
            package,
            feeds,
            levels=QUICK,
            backends=[device],
            open_backend=faulty(device, "res_a"),
            engine="numpy",
        )
        assert wrong.first is not None
        assert (wrong.first.level, wrong.first.layer) == (device, "res_a")


def wrapping(package: tw.Package) -> Iterator[int]:
    """Instructions that read or write rows where a ring of ACT wraps; with a line less, it wraps before them."""
    for i, x in enumerate(decode_stream(package.regions[0].stream)):
        if isinstance(x, Matrix | Vector) and x.ring:
            taps = x.n_ky if isinstance(x, Matrix) else x.kernel_y
            last = x.offset_y + (x.n_y - 1) * x.stride_y + (taps - 1) * x.dilation_y
            if min(last, x.height - 1) >= x.ring - 1:
                yield i
        elif isinstance(x, Vector) and x.dst_ring:
            yield i


def shorter(package: tw.Package, index: int) -> tw.Package:
    """The rows that an instruction finds kept are one fewer."""

    def damage(i: int, x: Instruction) -> Instruction:
        if i == index and isinstance(x, Matrix | Vector) and x.ring:
            return replace(x, ring=x.ring - 1)
        return replace(x, dst_ring=x.dst_ring - 1) if i == index and isinstance(x, Vector) else x

    return changed(package, damage)


def higher(package: tw.Package, index: int) -> tw.Package:
    """An instruction takes the row above each window's rows."""

    def damage(i: int, x: Instruction) -> Instruction:
        return replace(x, offset_y=x.offset_y - 1) if i == index and isinstance(x, Matrix | Vector) else x

    return changed(package, damage)


def check_rows(package: tw.Package, feeds: Feeds, wrong: tw.Package, index: int) -> None:
    own = layer_of(package, index)
    # No map holds conv1: values show in the pool that takes its sums.
    assert found_in(wrong, feeds, QUICK) in {("fast", own), ("fast", {"conv1": "pool1"}.get(own, own))}


def test_damaged_rows_of_rings(package: tw.Package, feeds: Feeds) -> None:
    kept, halos = list(wrapping(package)), [i for i, _ in windows(decode_stream(package.regions[0].stream))]
    assert len(kept) > 4 and len(halos) > 4
    for index in kept[1 :: len(kept) // 2]:
        check_rows(package, feeds, shorter(package, index), index)
    for index in halos[1 :: len(halos) // 2]:
        check_rows(package, feeds, higher(package, index), index)


@pytest.mark.slow
def test_each_damaged_row_of_rings(package: tw.Package, feeds: Feeds) -> None:
    """Every third."""
    for index in list(wrapping(package))[::3]:
        check_rows(package, feeds, shorter(package, index), index)
    for index in [i for i, _ in windows(decode_stream(package.regions[0].stream))][::3]:
        check_rows(package, feeds, higher(package, index), index)
