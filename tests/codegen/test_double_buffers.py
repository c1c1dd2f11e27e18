"""Whole double buffers merged in streams of plans that are fixed: each gives a race, on both simulators.

`test_mutations.py` draws damage of every kind, one place at a time; here all halves of ACC are one, and every portion of
weights lies where the first one does.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace

import pytest
from tests.codegen.build import Builder
from tests.codegen.evaluate import run_region
from tests.codegen.test_random_plans import residual
from tests.codegen.test_token_mutations import NETWORKS, refused

from tilewright.codegen import compile as compiler
from tilewright.codegen.compile import compile_prepared
from tilewright.codegen.graph import Graph
from tilewright.codegen.plan import Group, RegionPlan
from tilewright.codegen.prepared import prepare
from tilewright.targets.config import overlay
from tilewright.targets.isa.codec import decode_stream, encode_stream
from tilewright.targets.isa.spec import Base, Instruction, Load, Matrix, Memory, Source, Vector
from tilewright.targets.sim import fast, reference


def moved(stream: list[Instruction], memory: Memory, start: int, stop: int, to: int) -> list[Instruction]:
    """What lies at `start..stop` of WGT or PARAM is loaded to `to` and read from there."""
    changed = []
    for x in stream:
        if isinstance(x, Load) and x.memory == memory and start <= x.address < stop:
            x = replace(x, address=x.address - start + to)
        elif isinstance(x, Matrix) and memory is Memory.WGT and start <= x.wgt_base < stop:
            x = replace(x, wgt_base=x.wgt_base - start + to)
        changed.append(x)
    return changed


def halves_merged(stream: list[Instruction], half: int) -> list[Instruction]:
    """Both halves of ACC are the first."""
    changed = []
    for x in stream:
        if isinstance(x, Matrix):
            x = replace(x, acc_base=x.acc_base % half)
        elif isinstance(x, Vector) and x.source == Source.ACC:
            x = replace(x, src_base=x.src_base % half)
        changed.append(x)
    return changed


@pytest.mark.parametrize("network", NETWORKS)
def test_merged_halves_of_acc_race(network: Callable[[Builder], Graph]) -> None:
    """MATRIX would sum the next piece where VECTOR still reads the last one."""
    machine = overlay("ultra96-w8")
    region = compiler.compile_region(network(Builder(7)), machine)
    stream = halves_merged(decode_stream(region.stream), machine.acc_half_vectors)
    for run in (fast.run, reference.run):
        assert "no token orders the two" in refused(run, region, stream, machine.name)


def test_merged_weights_race() -> None:
    """Each portion of weights that is loaded where another one lies while that is read."""
    machine = overlay("ultra96-w8")
    region = compiler.compile_region(residual(Builder(7)), machine)
    stream = decode_stream(region.stream)
    portions = sorted(
        {(x.address, x.n0 * x.n1 * x.n2) for x in stream if isinstance(x, Load) and x.memory == Memory.WGT}
    )
    assert len(portions) > 2
    first, _ = portions[0]
    for address, count in portions[1:]:
        merged = moved(stream, Memory.WGT, address, address + count, first)
        for run in (fast.run, reference.run):
            assert "no token orders the two" in refused(run, region, merged, machine.name)


def test_each_row_of_a_stripe_counts_its_halo_too() -> None:
    """A LOAD of an input's rows moved by a row changes results."""
    machine, b = overlay("ultra96-w8"), Builder(3)
    x = b.input(20, 12, 9)
    y = b.conv(b.conv(x, 20, (3, 3), padding=(1, 1, 1, 1)), 20, (3, 3), padding=(1, 1, 1, 1), dtype="int16")
    graph, feeds = b.graph(y), b.feeds()
    prepared = prepare(graph, machine)
    group = Group(layers=tuple(prepared.flow.names), stripes=4)
    region = compile_prepared(prepared, RegionPlan(region=prepared.name, groups=(group,)))
    stream = decode_stream(region.stream)
    expected = run_region(region, machine, feeds, fast.run)[y.name]
    loads = [i for i, x in enumerate(stream) if isinstance(x, Load) and x.base == Base.INPUT]
    assert len(loads) >= 4
    (layout,) = region.inputs
    row = layout.shape[3] * len(layout.lanes) * machine.inp_bits // 8
    for i in loads:
        load = stream[i]
        assert isinstance(load, Load)
        changed = stream.copy()
        changed[i] = replace(load, dram_offset=load.dram_offset + (row if i == loads[0] else -row))
        damaged = replace(region, stream=encode_stream(changed))
        assert (run_region(damaged, machine, feeds, fast.run)[y.name] != expected).any()
