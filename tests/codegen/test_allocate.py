"""Maps share DRAM only where their lifetimes do not meet."""

from __future__ import annotations

from itertools import combinations

from hypothesis import given, settings
from hypothesis import strategies as st

from tilewright.codegen.allocate import lifetimes, place_maps
from tilewright.codegen.layers import Geometry, VectorLayer, identity
from tilewright.codegen.values import Map, Source
from tilewright.targets.config import overlay
from tilewright.targets.isa.spec import Base, VectorOp

MACHINE = overlay("ultra96-w8")


def chain(sizes: list[int], reads: list[int]) -> tuple[list[Map], list[VectorLayer]]:
    """Layer i writes map i+1 and reads map `reads[i]` modulo the maps written so far."""
    maps = [Map(f"m{i}", n, 3, 1) for i, n in enumerate(sizes)]
    maps[0].segment = Base.INPUT
    layers = []
    for i, m in enumerate(maps[1:]):
        source = maps[reads[i] % (i + 1)]
        s = Source(((source, 0),), None, source.height, source.width)  # type: ignore[arg-type]
        layers.append(VectorLayer(m.name, VectorOp.SUM, s, m, Geometry(), identity(1, 255)))
    return maps, layers


@settings(max_examples=60, deadline=None, derandomize=True)
@given(st.lists(st.tuples(st.integers(1, 40), st.integers(0, 99)), min_size=3, max_size=14))
def test_maps_that_live_together_do_not_meet(spec: list[tuple[int, int]]) -> None:
    maps, layers = chain([n for n, _ in spec], [r for _, r in spec])
    sizes = place_maps(maps, layers, MACHINE)
    needed = lifetimes(layers)
    work = [m for m in maps if m.segment is Base.WORKSPACE]
    for m in work:
        assert m.offset >= 0 and m.offset + 48 * m.height <= sizes[Base.WORKSPACE]
    for a, b in combinations(work, 2):
        if needed[a].meets(needed[b]):
            assert a.offset + 48 * a.height <= b.offset or b.offset + 48 * b.height <= a.offset


def test_a_chain_needs_two_maps_at_a_time() -> None:
    maps, layers = chain([10] * 9, list(range(9)))
    assert place_maps(maps, layers, MACHINE)[Base.WORKSPACE] == 2 * 10 * 3 * MACHINE.half_word_bytes
