"""Results that are copied out of a region, and tile operations in NumPy: equal to the operators under any plan."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tests.codegen.build import CONCAT, Builder

from tilewright.benchmark.fuzz.plans import random_plan
from tilewright.codegen.compile import Tiles, compile_prepared, make_tiles
from tilewright.codegen.graph import Graph
from tilewright.codegen.observe import Observed, in_order, observe
from tilewright.codegen.prepared import prepare
from tilewright.codegen.run_tiles import run_tiles
from tilewright.codegen.tile import Space
from tilewright.errors import SimError
from tilewright.integer.evaluate import evaluate
from tilewright.targets.config import overlay
from tilewright.targets.isa.codec import decode_stream, encode_stream
from tilewright.targets.isa.spec import Base, Finish, Store
from tilewright.targets.memory_map import pack, unpack
from tilewright.targets.region import CompiledRegion
from tilewright.targets.sim import fast
from tilewright.targets.sim.program import DramImage, Program

MACHINE = overlay("pynq-z1-w8")
COMMON: dict[str, Any] = {"deadline": None, "derandomize": True, "suppress_health_check": list(HealthCheck)}
PAD = (1, 1, 1, 1)


def network(b: Builder) -> Graph:
    """An addition, a pool that takes sums, a depthwise and a transposed convolution, a concat and a dense layer."""
    x = b.input(20, 12, 10)
    y = b.max_pool(b.conv(x, 20, (3, 3), padding=PAD), (2, 2), (2, 2), (0, 0, 0, 0))
    z = b.add(b.conv(b.conv(y, 20, (3, 3), padding=PAD, groups=20), 20, (1, 1)), y)
    up = b.conv_transpose(z, 20, (2, 2), (2, 2), (0, 0, 0, 0), (0, 0), (1, 1), 1)
    joined = b.layout([CONCAT], up, b.conv(x, 12, (1, 1)))
    return b.graph(b.conv(joined, 24, (3, 3), strides=(2, 2), padding=PAD), z)


def images(
    region: CompiledRegion, tiles: Tiles, seen: Observed, feeds: list[dict[str, Any]], tile_level: bool
) -> list[dict[str, Any]]:
    """Observed tensors of each image, by the fast simulator or by the tile operations."""
    prepared = tiles.prepared
    inputs = np.zeros(region.input_bytes, np.uint8)
    size = MACHINE.inp_bits * sum(int(np.prod(m.shape[2:])) * len(m.lanes) for m in region.inputs) // 8
    for image, arrays in enumerate(feeds):
        for m in region.inputs:
            pack(replace(m, offset=m.offset + image * size), arrays[m.name], inputs, MACHINE.inp_bits)
    constants = np.frombuffer(region.constants, np.uint8)
    dram = DramImage(constants, inputs, region.workspace_bytes, seen.output_bytes)
    if tile_level:
        outputs = run_tiles(seen.instructions, named(tiles, seen), MACHINE, dram)
    else:
        stream = encode_stream(in_order(seen.instructions))
        outputs = fast.run(Program(stream, MACHINE), dram).outputs
    found = []
    for image in range(prepared.batch):
        places = [
            replace(
                m, offset=m.offset + image * int(np.prod(m.shape[2:])) * len(m.lanes) * MACHINE.inp_bits // 8
            )
            for m in seen.layouts
        ]
        found.append({m.name: unpack(m, outputs, MACHINE.inp_bits) for m in places})
    return found


def named(tiles: Tiles, seen: Observed) -> list[Any]:
    """The operation that each instruction is; None for those that were added."""
    operations = tiles.program.operations
    return [
        operations[i] if i < len(operations) and (k == 0 or seen.source[k - 1] != i) else None
        for k, i in enumerate(seen.source)
    ]


@settings(max_examples=12, **COMMON)
@given(seed=st.integers(0, 10_000), batch=st.integers(1, 2))
def test_any_plan(seed: int, batch: int) -> None:
    rng = np.random.default_rng(seed)
    graph = network(Builder(0))
    prepared = prepare(graph, MACHINE, batch)
    plan = random_plan(prepared, rng)
    if plan is None:
        return
    region = compile_prepared(prepared, plan)
    tiles = make_tiles(prepared, plan)
    instructions = decode_stream(region.stream)
    layers = [region.layers[i] for i in region.layer_of]
    seen = observe(tiles, graph, instructions, layers)
    assert {m.name for m in seen.layouts} >= {t.name for t in graph.outputs}
    (source,) = graph.inputs
    feeds = [{source.name: rng.integers(0, 256, source.shape).astype(source.dtype)} for _ in range(batch)]
    plain = [*(o.instruction for o in tiles.program.operations), Finish()]
    for tile_level, observed in ((False, seen), (True, observe(tiles, graph, plain, layers))):
        for found, arrays in zip(images(region, tiles, observed, feeds, tile_level), feeds, strict=True):
            values = dict(arrays)
            for node in graph.nodes:
                values[node.output.name] = evaluate(node.operator, [values[t.name] for t in node.inputs])
            assert len(found) >= 6
            for name, array in found.items():
                np.testing.assert_array_equal(array, values[name], name)


def whole() -> tuple[Graph, Tiles, CompiledRegion]:
    graph = network(Builder(0))
    prepared = prepare(graph, MACHINE)
    rng = np.random.default_rng(1)
    plan = next(p for p in (random_plan(prepared, rng) for _ in range(100)) if p is not None)
    tiles = make_tiles(prepared, plan)
    return graph, tiles, compile_prepared(prepared, plan)


def test_a_stream_of_another_plan_is_told() -> None:
    graph, tiles, region = whole()
    layers = [region.layers[i] for i in region.layer_of]
    plain = [*(o.instruction for o in tiles.program.operations), Finish()]
    last = max(i for i, x in enumerate(plain) if isinstance(x, Store))
    with pytest.raises(SimError, match=r"expected the (\d+) STORE instructions of its plan, found \d+"):
        observe(tiles, graph, [*plain[:last], *plain[last + 1 :]], layers)
    index, store = next(
        (i, x) for i, x in enumerate(plain) if isinstance(x, Store) and x.base is Base.WORKSPACE
    )
    plain[index] = replace(store, dram_offset=store.dram_offset + 2**20)
    with pytest.raises(
        SimError,
        match=rf"instruction {index}, layer \w+: expected a STORE to bytes \d+\.\.\d+ of \w+, where the layer's map "
        r"lies, found bytes \d+\.\.\d+ of ",
    ):
        observe(tiles, graph, plain, layers)


def test_places_that_an_operation_does_not_name() -> None:
    """Tokens are made from what operations name; one that writes ACT elsewhere would race unseen."""
    graph, tiles, region = whole()
    layers = [region.layers[i] for i in region.layer_of]
    plain = [*(o.instruction for o in tiles.program.operations), Finish()]
    seen = observe(tiles, graph, plain, layers)
    (source,) = graph.inputs
    feeds = [{source.name: np.zeros(source.shape, source.dtype)}]
    index, operation = next(
        (i, o)
        for i, o in enumerate(tiles.program.operations)
        if any(a.space is Space.ACT and a.write for a in o.accesses)
    )
    fewer = tuple(a for a in operation.accesses if not (a.space is Space.ACT and a.write))
    tiles.program.operations[index] = replace(operation, accesses=fewer)
    with pytest.raises(SimError, match=r"writes half word .* of ACT, which its tile operation does not name"):
        images(region, tiles, seen, feeds, True)
