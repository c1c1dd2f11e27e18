"""What a group's number of images does to the traffic of weights, and to the order of runs."""

from __future__ import annotations

import pytest
from tests.codegen.build import Builder
from tests.codegen.evaluate import evaluate_graph, run_images

from tilewright.codegen.checks import region_faults
from tilewright.codegen.compile import compile_prepared
from tilewright.codegen.graph import Graph
from tilewright.codegen.plan import Group, RegionPlan
from tilewright.codegen.prepared import Prepared, prepare
from tilewright.codegen.schedule import runs
from tilewright.targets.config import overlay
from tilewright.targets.isa.codec import decode_stream
from tilewright.targets.isa.spec import Load, Memory
from tilewright.targets.sim import fast

MACHINE = overlay("pynq-z1-w8")
BATCH = 3


def heavy(b: Builder) -> Graph:
    """Two layers whose weights fill WGT several times each; the second has more inputs than a load may hold."""
    y = b.conv(b.input(160, 4, 3), 640, (1, 1))
    return b.graph(b.conv(y, 200, (1, 1)))


def plan_of(prepared: Prepared, *images: int) -> RegionPlan:
    groups = (Group(layers=(name,), images=n) for name, n in zip(prepared.flow.names, images, strict=True))
    return RegionPlan(region=prepared.name, groups=tuple(groups))


def tiles_loaded(prepared: Prepared, *images: int) -> int:
    stream = decode_stream(compile_prepared(prepared, plan_of(prepared, *images)).stream)
    return sum(i.n0 * i.n1 * i.n2 for i in stream if isinstance(i, Load) and i.memory == Memory.WGT)


def test_a_group_loads_weights_once_for_its_images() -> None:
    b = Builder(1)
    graph = heavy(b)
    prepared = prepare(graph, MACHINE, BATCH)
    once = tiles_loaded(prepare(graph, MACHINE), 1, 1)
    assert once == 20 * 10 + 7 * 40 > MACHINE.wgt_tiles
    assert tiles_loaded(prepared, BATCH, BATCH) == once
    assert tiles_loaded(prepared, 1, 1) > 2 * once
    images = [b.feeds() for _ in range(BATCH)]
    region = compile_prepared(prepared, plan_of(prepared, 2, BATCH))
    for feeds, found in zip(images, run_images(region, MACHINE, images, fast.run), strict=True):
        (output,) = graph.outputs
        assert (found[output.name] == evaluate_graph(graph, feeds)[output.name]).all()


@pytest.mark.parametrize(
    ("images", "expected"),
    [
        ((1, 1, 1), [(0, 0), (1, 0), (2, 0), (0, 1), (1, 1), (2, 1), (0, 2), (1, 2), (2, 2)]),
        ((1, 1, 3), [(0, 0), (1, 0), (0, 1), (1, 1), (0, 2), (1, 2), (2, 0)]),
        ((2, 3, 2), [(0, 0), (0, 2), (1, 0), (2, 0), (2, 2)]),
    ],
)
def test_the_order_of_runs(images: tuple[int, ...], expected: list[tuple[int, int]]) -> None:
    groups = tuple(Group(layers=(str(i),), images=n) for i, n in enumerate(images))
    found = list(runs(RegionPlan(region="r", groups=groups), BATCH))
    assert [(g, taken.start) for g, taken in found] == expected
    for g, taken in found:
        assert taken.stop == min(taken.start + images[g], BATCH)


def test_more_images_than_the_batch_are_a_fault() -> None:
    prepared = prepare(heavy(Builder(1)), MACHINE, BATCH)
    (found,) = region_faults(prepared, plan_of(prepared, 1, 4))
    assert str(found) == (
        "plan of region, group 2 (conv2d1): expected images from 1 to 3, found 4; there are no more images"
    )
