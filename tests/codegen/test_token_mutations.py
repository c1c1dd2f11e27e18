"""Every token of a compiled stream is needed: without it a simulator finds a race, or it is shown to be implied.

A token is a give with the wait that takes it, the k-th of a pair of units. Order is implied where a stream without the
token still orders the two instructions by others: by the queues (each unit works in order) and the tokens that are left.
`test_mutations.py` damages more than tokens.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from tests.codegen.build import Builder
from tests.codegen.stream_proof import implied, tokens, without
from tests.codegen.test_random_plans import inception, mobile, residual, shifted, upsampled

from tilewright.benchmark.fuzz.plans import random_plan
from tilewright.codegen import compile as compiler
from tilewright.codegen.compile import compile_prepared
from tilewright.codegen.graph import Graph
from tilewright.codegen.prepared import prepare
from tilewright.errors import SimError
from tilewright.targets.config import overlay
from tilewright.targets.isa.codec import decode_stream, encode_stream
from tilewright.targets.isa.spec import Instruction
from tilewright.targets.region import CompiledRegion
from tilewright.targets.sim import fast, reference
from tilewright.targets.sim.program import DramImage, Program

NETWORKS: list[Callable[[Builder], Graph]] = [residual, inception, mobile, upsampled, shifted]


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
