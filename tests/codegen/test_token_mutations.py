"""Every token of a compiled stream is needed: without it a simulator finds a race, or it is shown to be implied.

A token is a give with the wait that takes it, the k-th of a pair of units. Order is implied where a stream without the
token still orders the two instructions by others: by the queues (each unit works in order) and the tokens that are left.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace

import numpy as np
import pytest
from tests.codegen.build import Builder
from tests.codegen.evaluate import run_region
from tests.codegen.test_random_plans import inception, mobile, residual, shifted, upsampled

from tilewright.benchmark.fuzz.plans import random_plan
from tilewright.codegen import compile as compiler
from tilewright.codegen.compile import compile_prepared
from tilewright.codegen.graph import Graph
from tilewright.codegen.plan import Group, RegionPlan
from tilewright.codegen.prepared import prepare
from tilewright.errors import SimError
from tilewright.targets.config import overlay
from tilewright.targets.isa.codec import decode_stream, encode_stream
from tilewright.targets.isa.spec import Base, Instruction, Load, Matrix, Memory, Source, Unit, Vector
from tilewright.targets.region import CompiledRegion
from tilewright.targets.sim import fast, reference
from tilewright.targets.sim.program import DramImage, Program

NETWORKS: list[Callable[[Builder], Graph]] = [residual, inception, mobile, upsampled, shifted]


@dataclass(frozen=True)
class Token:
    """Instruction `giver` gives what `taker` waits for."""

    giver: int
    taker: int


def tokens(stream: list[Instruction]) -> Iterator[Token]:
    given: dict[tuple[Unit, Unit], list[int]] = {}
    for i, instruction in enumerate(stream):
        unit = instruction.unit
        if unit is None:
            continue
        for other in Unit:
            if instruction.wait >> other & 1:
                yield Token(given[other, unit].pop(0), i)
        for other in Unit:
            if instruction.give >> other & 1:
                given.setdefault((unit, other), []).append(i)
    assert not any(given.values())


def without(stream: list[Instruction], token: Token) -> list[Instruction]:
    """The stream without a token: its give and its wait."""
    changed = stream.copy()
    giver, taker = stream[token.giver], stream[token.taker]
    assert giver.unit is not None
    assert taker.unit is not None
    changed[token.giver] = replace(giver, give=giver.give & ~(1 << taker.unit))
    changed[token.taker] = replace(taker, wait=taker.wait & ~(1 << giver.unit))
    return changed


def implied(stream: list[Instruction], token: Token) -> bool:
    """Whether what is left orders the two instructions: a path from giver to taker along queues and tokens."""
    rest = list(tokens(without(stream, token)))
    takers: dict[int, list[int]] = {}
    for other in rest:
        takers.setdefault(other.giver, []).append(other.taker)
    last: dict[Unit | None, int] = {}
    for i, instruction in enumerate(stream):
        if instruction.unit in last:
            takers.setdefault(last[instruction.unit], []).append(i)
        last[instruction.unit] = i
    seen, todo = {token.giver}, [token.giver]
    while todo:
        for i in takers.get(todo.pop(), ()):
            if i not in seen and i <= token.taker:
                seen.add(i)
                todo.append(i)
    return token.taker in seen


def refused(run: Callable[..., object], region: CompiledRegion, stream: list[Instruction], name: str) -> str:
    """A simulator's message, or nothing."""
    dram = DramImage(
        np.frombuffer(region.constants, np.uint8),
        np.zeros(region.input_bytes, np.uint8),
        region.workspace_bytes,
        region.output_bytes,
    )
    try:
        run(Program(encode_stream(stream), overlay(name)), dram)
    except SimError as error:
        return str(error)
    return ""


def check(region: CompiledRegion, name: str, slow: int = 0) -> tuple[int, int]:
    """Tokens of a region, and how many are implied; the first `slow` tokens are tried on the reference too."""
    stream = decode_stream(region.stream)
    found = list(tokens(stream))
    spare = 0
    for number, token in enumerate(found):
        mutant = without(stream, token)
        message = refused(fast.run, region, mutant, name)
        if implied(stream, token):
            spare += 1
            assert message == "", "implied, and yet there is a race"
        else:
            assert "no token orders the two" in message, (token, message)
        if number < slow:
            other = refused(reference.run, region, mutant, name)
            assert ("no token orders the two" in other) == ("no token orders the two" in message)
    return len(found), spare


@pytest.mark.parametrize("network", NETWORKS)
def test_no_token_of_a_default_stream_is_implied(network: Callable[[Builder], Graph]) -> None:
    """Taken out one by one; both simulators agree on some of them."""
    region = compiler.compile_region(network(Builder(7)), overlay("ultra96-w8"))
    count, spare = check(region, "ultra96-w8", slow=2)
    assert count > 10
    assert spare == 0


@pytest.mark.slow
@pytest.mark.parametrize("network", NETWORKS)
@pytest.mark.parametrize("name", ["ultra96-w8", "pynq-z1-w8"])
def test_no_token_of_any_plan_is_implied(network: Callable[[Builder], Graph], name: str) -> None:
    prepared = prepare(network(Builder(7)), overlay(name))
    rng = np.random.default_rng(5)
    plans = {plan for plan in (random_plan(prepared, rng) for _ in range(2)) if plan is not None}
    assert plans
    for plan in plans:
        _, spare = check(compile_prepared(prepared, plan), name)
        assert spare == 0


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
