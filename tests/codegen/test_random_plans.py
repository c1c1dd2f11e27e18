"""Any legal plan gives the same output, bit for bit, and is accepted by the simulator's checks."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tests.codegen.build import CONCAT, Builder
from tests.codegen.evaluate import evaluate_graph, run_images, run_region
from tests.codegen.machines import SQUARE
from tests.networks.random_graphs import plans
from tests.networks.test_random_regions import Region

from tilewright.benchmark.fuzz.layers import NetworkPlan
from tilewright.benchmark.fuzz.plans import random_plan
from tilewright.codegen.compile import compile_prepared
from tilewright.codegen.graph import Graph
from tilewright.codegen.plan import Group, RegionPlan
from tilewright.codegen.prepared import prepare
from tilewright.targets.config import Overlay, overlay
from tilewright.targets.sim import fast

COMMON: dict[str, Any] = {"deadline": None, "derandomize": True, "suppress_health_check": list(HealthCheck)}
OVERLAYS = st.sampled_from(("ultra96-w8", "pynq-z1-w8"))
PAD = (1, 1, 1, 1)


def residual(b: Builder) -> Graph:
    x = b.input(20, 13, 11)
    y = b.conv(x, 20, (3, 3), padding=PAD)
    z = b.conv(b.conv(y, 40, (3, 3), padding=PAD, groups=20), 20, (1, 1))
    z = b.add(z, y)
    return b.graph(b.sum_pool(b.conv(z, 33, (3, 3), strides=(2, 2), padding=PAD), (7, 6), (1, 1)), z)


def inception(b: Builder) -> Graph:
    x = b.input(24, 12, 14)
    a = b.conv(x, 16, (1, 1))
    c = b.conv(b.conv(x, 24, (1, 1)), 20, (5, 5), padding=(2, 2, 2, 2))
    d = b.conv(b.max_pool(x, (3, 3), (1, 1), PAD), 9, (1, 1))
    joined = b.layout([CONCAT], a, c, d)
    return b.graph(b.conv(b.max_pool(joined, (3, 3), (2, 2), (0, 0, 1, 1)), 30, (3, 3), padding=PAD))


def mobile(b: Builder) -> Graph:
    y = b.conv(b.input(3, 25, 23), 16, (3, 3), strides=(2, 2), padding=PAD)
    for outputs, stride in ((24, 1), (40, 2), (40, 1)):
        channels = y.shape[1]
        y = b.conv(y, channels, (3, 3), strides=(stride, stride), padding=PAD, groups=channels)
        y = b.conv(y, outputs, (1, 1))
    gate = b.table(b.conv(b.sum_pool(y, (y.shape[2], y.shape[3]), (1, 1)), 40, (1, 1)))
    return b.graph(b.multiply(y, gate))


def upsampled(b: Builder) -> Graph:
    x = b.input(18, 9, 7)
    y = b.conv_transpose(b.conv(x, 18, (3, 3), padding=PAD), 18, (4, 4), (2, 2), PAD, (0, 0), (1, 1), 1)
    return b.graph(b.conv(b.add(y, b.conv(y, 18, (3, 3), padding=PAD)), 10, (1, 1)))


def shifted(b: Builder) -> Graph:
    rng = np.random.default_rng(1)
    y = b.shift(b.conv(b.input(9, 21, 18), 40, (1, 1)), rng.integers(-1, 2, (40, 2)))
    low = b.conv(b.max_pool(y, (2, 2), (2, 2), (1, 0, 0, 0)), 24, (1, 1))
    high = b.max_pool(b.conv(y, 48, (1, 1)), (2, 2), (2, 2), (1, 0, 0, 0))
    high = b.conv(b.shift(high, rng.integers(-2, 3, (48, 2)), zero_point=9), 24, (1, 1), zero_point=9)
    z = b.shift(b.layout([CONCAT], low, high), rng.integers(-1, 2, (48, 2)), (2, 2), zero_point=7)
    return b.graph(b.conv(z, 20, (3, 3), padding=PAD, zero_point=7))


NETWORKS: list[Callable[[Builder], Graph]] = [residual, inception, mobile, upsampled, shifted]


@pytest.mark.parametrize("network", NETWORKS)
@pytest.mark.parametrize("machine", [overlay("ultra96-w8"), SQUARE], ids=lambda o: o.name)
def test_any_legal_plan_gives_the_same_bits(network: Callable[[Builder], Graph], machine: Overlay) -> None:
    b = Builder(7)
    graph = network(b)
    feeds = b.feeds()
    expected = evaluate_graph(graph, feeds)
    prepared = prepare(graph, machine)
    rng = np.random.default_rng(3)
    distinct = set()
    for _ in range(60):
        plan = random_plan(prepared, rng)
        if plan is None:
            continue
        distinct.add(plan)
        region = compile_prepared(prepared, plan)
        found = run_region(region, machine, feeds, fast.run)
        for tensor in graph.outputs:
            np.testing.assert_array_equal(found[tensor.name], expected[tensor.name], err_msg=str(plan))
    assert len(distinct) > 15


@pytest.mark.parametrize("network", NETWORKS)
def test_any_legal_plan_of_a_batch_gives_each_image_its_bits(network: Callable[[Builder], Graph]) -> None:
    machine = overlay("pynq-z1-w8")
    b = Builder(8)
    graph = network(b)
    images = [b.feeds() for _ in range(5)]
    expected = [evaluate_graph(graph, feeds) for feeds in images]
    prepared = prepare(graph, machine, len(images))
    rng = np.random.default_rng(4)
    found = {plan for plan in (random_plan(prepared, rng) for _ in range(60)) if plan is not None}
    for plan in found:
        outputs = run_images(compile_prepared(prepared, plan), machine, images, fast.run)
        for image, values in enumerate(expected):
            for tensor in graph.outputs:
                np.testing.assert_array_equal(
                    outputs[image][tensor.name], values[tensor.name], err_msg=f"image {image}, {plan}"
                )
    assert len(found) > 8, len(found)


def test_a_map_of_several_writers_is_stored_when_all_have_ended() -> None:
    """The last phase of the rows has the fewest and ends first."""
    b = Builder(1)
    x = b.conv(b.input(9, 3, 5), 12, (1, 1))
    y = b.conv_transpose(x, 27, (2, 3), (3, 2), (0, 0, 0, 0))
    graph, machine, feeds = b.graph(y, b.conv(y, 8, (1, 1))), overlay("pynq-z1-w8"), b.feeds()
    expected = evaluate_graph(graph, feeds)
    prepared = prepare(graph, machine)
    made, last = tuple(prepared.flow.names[:-1]), prepared.flow.names[-1]
    for stripes in (1, 2, 3):
        groups = (Group(layers=made, stripes=stripes, keep=(made[1],)), Group(layers=(last,)))
        region = compile_prepared(prepared, RegionPlan(region=prepared.name, groups=groups))
        found = run_region(region, machine, feeds, fast.run)
        for tensor in graph.outputs:
            np.testing.assert_array_equal(found[tensor.name], expected[tensor.name])


def check(network: NetworkPlan, target: str, seed: int, number: int) -> None:
    """Some random plans of a random region."""
    region = Region(network)
    graph, machine = region.graph(), overlay(target)
    feeds = region.b.feeds()
    expected = evaluate_graph(graph, feeds)
    prepared = prepare(graph, machine)
    rng = np.random.default_rng(seed)
    for plan in dict.fromkeys(random_plan(prepared, rng) for _ in range(number)):
        if plan is None:
            continue
        found = run_region(compile_prepared(prepared, plan), machine, feeds, fast.run)
        for tensor in graph.outputs:
            np.testing.assert_array_equal(found[tensor.name], expected[tensor.name], err_msg=str(plan))


@settings(max_examples=60, **COMMON)
@given(plans(8), OVERLAYS, st.integers(0, 2**16))
def test_small_regions(network: NetworkPlan, target: str, seed: int) -> None:
    check(network, target, seed, 4)


@pytest.mark.slow
@settings(max_examples=400, **COMMON)
@given(plans(14), OVERLAYS, st.integers(0, 2**16))
def test_regions(network: NetworkPlan, target: str, seed: int) -> None:
    check(network, target, seed, 12)


@pytest.mark.parametrize("matrix", [False, True])
def test_rows_that_nobody_reads_get_lines_of_their_own(matrix: bool) -> None:
    """A pool with strides wider than its window: what is written at once must fit the buffer, read or not."""
    b = Builder(2)
    x = b.input(20, 9, 10)
    y = b.conv(x, 20, (2, 3), strides=(3, 1), padding=(0, 1, 0, 1), groups=1 if matrix else 20)
    graph, machine, feeds = b.graph(b.sum_pool(y, (1, 3), (3, 2))), overlay("pynq-z1-w8"), b.feeds()
    expected = evaluate_graph(graph, feeds)
    prepared = prepare(graph, machine)
    for stripes, lag in ((1, 0), (2, 0), (2, 1), (3, 2)):
        group = Group(layers=tuple(prepared.flow.names), stripes=stripes, lag=lag)
        region = compile_prepared(prepared, RegionPlan(region=prepared.name, groups=(group,)))
        found = run_region(region, machine, feeds, fast.run)
        for tensor in graph.outputs:
            np.testing.assert_array_equal(found[tensor.name], expected[tensor.name])
