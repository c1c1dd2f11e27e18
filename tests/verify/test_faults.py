"""A fault planted at each level is found at that level and in that layer."""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import onnx
import pytest
from numpy.typing import NDArray
from onnx import numpy_helper

import tilewright as tw
from tilewright.codegen.lower import _Lowering
from tilewright.frontend.relax_import import to_relax
from tilewright.runtime import RunResult
from tilewright.targets.isa.codec import decode_stream, encode_stream
from tilewright.targets.isa.spec import Base, Instruction, Load, Matrix, Memory, Store, Unit, Vector
from tilewright.verify import Verification, verify
from tilewright.verify.api import Engine
from tilewright.verify.page import page
from tilewright.verify.tables import summary

Feeds = Mapping[str, NDArray[Any]]
STREAM = ("integer", "tile", "reference", "fast")
QUICK = ("integer", "fast")
Change = Callable[[Instruction], Instruction]


def found_in(
    package: tw.Package, feeds: Feeds, levels: Sequence[str] = STREAM, engine: Engine = "numpy"
) -> tuple[str, str]:
    """Level and layer of the first fault."""
    first = verify(package, feeds, levels=levels, engine=engine).first
    assert first is not None
    return first.level, first.layer


def test_nothing_is_wrong(package: tw.Package, feeds: Feeds) -> None:
    """All levels, in full, with TVM."""
    found = verify(package, feeds)
    assert found.passed and found.first is None and not found.notes
    assert found.levels == ("float", "quantised", "graph", "integer", "tile", "reference", "fast")
    rows = {row.name: row for row in found.rows}
    machine = [row for row in rows.values() if row.kind not in ("layout", "output") and row.name != "conv1"]
    for row in machine:
        assert set(row.cells) == {"quantised", "graph", "integer", "tile", "reference", "fast"}, row.name
        for level in ("tile", "reference", "fast"):
            assert row.cells[level].difference.unequal == 0  # type: ignore[union-attr]
    # Its pool takes its sums: no map holds it.
    assert set(rows["conv1"].cells) == {"quantised", "graph", "integer"}
    assert min(row.cells["quantised"].fed_snr or 0 for row in machine) > 30
    assert summary(found) == [
        "passed: 17 layers agree at float, quantised, graph, integer, tile, reference, fast"
    ]
    assert page(found).count("<svg") == len(rows)


def with_scale(model: onnx.ModelProto, name: str, factor: float) -> onnx.ModelProto:
    changed = onnx.ModelProto()
    changed.CopyFrom(model)
    (item,) = (x for x in changed.graph.initializer if x.name == name)
    item.CopyFrom(numpy_helper.from_array(numpy_helper.to_array(item) * np.float32(factor), name))
    return changed


@pytest.mark.parametrize(("layer", "factor"), [("conv1", 2.0), ("mix_3x3", 0.5), ("conv3", 2.0)])
def test_wrong_scale_of_weights(package: tw.Package, feeds: Feeds, layer: str, factor: float) -> None:
    model = onnx.ModelProto.FromString(package.quantised_model or b"")
    name = next(
        x.name for x in model.graph.initializer if x.name.startswith(f"{layer}/weight") and "scale" in x.name
    )
    wrong = replace(package, quantised_model=with_scale(model, name, factor).SerializeToString())
    assert found_in(wrong, feeds, ("float", "quantised")) == ("quantised", layer)


def test_wrong_import(package: tw.Package, feeds: Feeds, monkeypatch: pytest.MonkeyPatch) -> None:
    """The graph level has other weights than the ONNX that it was imported from."""

    def wrong(model: onnx.ModelProto) -> Any:
        name = next(
            x.name for x in model.graph.initializer if x.name.startswith("conv2/bias") and "scale" in x.name
        )
        return to_relax(with_scale(model, name, 4.0))

    monkeypatch.setattr(sys.modules["tilewright.verify.api"], "to_relax", wrong)
    assert found_in(package, feeds, ("graph", "integer")) == ("graph", "conv2")


def test_wrong_scale_of_integers(package: tw.Package, feeds: Feeds, monkeypatch: pytest.MonkeyPatch) -> None:
    """The pass that makes integers gets one multiplier wrong, by 3 %."""
    from tilewright.relay_passes import requantise as module

    right = module.requantise
    calls = 0

    def wrong(ratio: Any, *args: Any, **kwargs: Any) -> Any:
        nonlocal calls
        calls += 1
        return right(np.asarray(ratio) * (1.03 if calls == 2 else 1.0), *args, **kwargs)

    monkeypatch.setattr("tilewright.relay_passes.match.sums.requantise", wrong)
    assert found_in(package, feeds, ("integer",)) == ("integer", "res_a")
    assert calls > 2


def swap_channels(monkeypatch: pytest.MonkeyPatch, layer: str) -> None:
    """Readers of a layer take its first two channels for one another."""
    right = _Lowering.result

    def wrong(self: _Lowering, node: Any, made: Any) -> Any:
        value = right(self, node, made)
        if node.name != layer:
            return value
        lane = np.array(value.lane)
        lane[[0, 1]] = lane[[1, 0]]
        return replace(value, lane=lane)

    monkeypatch.setattr(_Lowering, "result", wrong)


@pytest.mark.parametrize("layer", ["res_b", pytest.param("pool2", marks=pytest.mark.slow)])
def test_swapped_channels(demo: tw.Model, feeds: Feeds, monkeypatch: pytest.MonkeyPatch, layer: str) -> None:
    swap_channels(monkeypatch, layer)
    assert found_in(tw.compile(demo, "ultra96-w8"), feeds) == ("tile", layer)


def changed(package: tw.Package, change: Callable[[int, Instruction], Instruction]) -> tw.Package:
    """The package with other instructions in its only region."""
    (region,) = package.regions
    stream = [change(i, x) for i, x in enumerate(decode_stream(region.stream))]
    return replace(package, regions=(replace(region, stream=encode_stream(stream)),))


def layer_of(package: tw.Package, index: int) -> str:
    (region,) = package.regions
    return region.layers[region.layer_of[index]]


def test_swapped_channels_of_the_memory_map(package: tw.Package, feeds: Feeds) -> None:
    (region,) = package.regions
    (m,) = region.outputs
    lanes = (m.lanes[1], m.lanes[0], *m.lanes[2:])
    wrong = replace(package, regions=(replace(region, outputs=(replace(m, lanes=lanes),)),))
    assert found_in(wrong, feeds) == ("reference", "score")


def test_lost_tokens(package: tw.Package, feeds: Feeds) -> None:
    """A give is lost with its wait: the level is the stream's, the layer that of the instruction that is early."""
    instructions = decode_stream(package.regions[0].stream)
    pairs: dict[tuple[Unit, Unit], list[int]] = {}
    lost = []
    for i, x in enumerate(instructions):
        for unit in Unit:
            if x.unit is not None and x.wait >> unit & 1:
                lost.append((pairs[unit, x.unit].pop(0), unit, i, x.unit))
        for unit in Unit:
            if x.unit is not None and x.give >> unit & 1:
                pairs.setdefault((x.unit, unit), []).append(i)
    races = 0
    for giver, source, waiter, target in lost[:: len(lost) // 2]:

        def drop(
            i: int, x: Instruction, g: int = giver, s: Unit = source, w: int = waiter, t: Unit = target
        ) -> Instruction:
            x = replace(x, give=x.give & ~(1 << t)) if i == g else x
            return replace(x, wait=x.wait & ~(1 << s)) if i == w else x

        found = verify(changed(package, drop), feeds, levels=QUICK, engine="numpy")
        (fault,) = found.faults  # what the instructions compute is right
        assert fault.level == "fast" and "no token orders the two" in fault.message, fault.message
        races += fault.layer == layer_of(package, waiter)
    assert races >= 1  # a later instruction may be the first that is found too early


def damaged(package: tw.Package, index: int) -> tw.Package:
    """A LOAD that brings rows from 256 bytes before, or a MATRIX that reads ACT a half word further."""

    def damage(i: int, x: Instruction) -> Instruction:
        if i == index and isinstance(x, Load):
            return replace(x, dram_offset=max(x.dram_offset - 256, 0))
        return replace(x, act_base=x.act_base + 1) if i == index and isinstance(x, Matrix) else x

    return changed(package, damage)


def readers(package: tw.Package) -> list[int]:
    """Instructions that bring or read rows in ACT, halos among them: fills but of a map's first row, and MATRIX."""
    return [
        i
        for i, x in enumerate(decode_stream(package.regions[0].stream))
        if isinstance(x, Matrix) or (isinstance(x, Load) and x.memory == Memory.ACT and x.dram_offset > 0)
    ]


def check_damage(package: tw.Package, feeds: Feeds, index: int) -> None:
    level, layer = found_in(damaged(package, index), feeds, QUICK)
    # No map holds conv1: values show in the pool that takes its sums, faults of the machine in itself.
    own = layer_of(package, index)
    assert level == "fast" and layer in {own, {"conv1": "pool1"}.get(own, own)}


def test_damaged_halos(package: tw.Package, feeds: Feeds) -> None:
    found = readers(package)
    for index in found[:: len(found) // 2]:
        check_damage(package, feeds, index)


@pytest.mark.slow
def test_each_damaged_halo(package: tw.Package, feeds: Feeds) -> None:
    found = readers(package)
    assert sum(isinstance(decode_stream(package.regions[0].stream)[i], Load) for i in found) >= 2
    for index in found:
        check_damage(package, feeds, index)


def test_a_store_to_another_place(package: tw.Package, feeds: Feeds) -> None:
    instructions = decode_stream(package.regions[0].stream)
    store = next(i for i, x in enumerate(instructions) if isinstance(x, Store) and x.n2 > 1)

    def damage(i: int, x: Instruction) -> Instruction:
        return replace(x, address=x.address + 1) if i == store and isinstance(x, Store) else x

    assert found_in(changed(package, damage), feeds, QUICK) == ("fast", layer_of(package, store))


@pytest.mark.parametrize("layer", ["res_b", pytest.param("conv2", marks=pytest.mark.slow)])
def test_corrupted_weights(package: tw.Package, feeds: Feeds, layer: str) -> None:
    instructions = decode_stream(package.regions[0].stream)
    load = next(
        x
        for i, x in enumerate(instructions)
        if isinstance(x, Load) and x.memory == Memory.WGT and layer_of(package, i) == layer
    )
    assert load.base == Base.CONSTANT
    constants = bytearray(package.regions[0].constants)
    for i in range(load.dram_offset, load.dram_offset + 64):
        constants[i] ^= 0x40
    region = replace(package.regions[0], constants=bytes(constants))
    assert found_in(replace(package, regions=(region,)), feeds, QUICK) == ("fast", layer)


class Faulty:
    """A back end whose VECTOR gets something wrong in one layer."""

    def __init__(self, package: Any, backend: Any, layer: str) -> None:
        if backend == "faulty":

            def wrong(i: int, x: Instruction) -> Instruction:
                mine = layer_of(package, i) == layer
                return replace(x, hi=9) if mine and isinstance(x, Vector) else x

            package = changed(package, wrong)
        self.session = tw.Session(package, "sim" if backend == "faulty" else backend)

    def run(self, feeds: Feeds) -> RunResult:
        return self.session.run(feeds)


@pytest.mark.parametrize("layer", ["conv3"])
def test_a_back_end_of_ones_own(package: tw.Package, feeds: Feeds, layer: str) -> None:
    found: Verification = verify(
        package,
        feeds,
        levels=QUICK,
        backends=["faulty"],
        open_backend=lambda p, backend: Faulty(p, backend, layer),
        engine="numpy",
    )
    assert found.levels == ("quantised", *QUICK, "faulty")
    assert found.first is not None
    assert (found.first.level, found.first.layer) == ("faulty", layer)
    assert "elements differ from the level above, by up to" in found.first.message
