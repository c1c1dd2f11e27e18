"""Plans as text, and what is said about wrong ones."""

from __future__ import annotations

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tests.codegen.build import CONCAT, Builder
from tests.codegen.evaluate import evaluate_graph, run_region
from tests.networks.random_graphs import plans
from tests.networks.test_random_regions import Region

from tilewright.benchmark.fuzz.layers import NetworkPlan
from tilewright.codegen.compile import compile_prepared, compile_region
from tilewright.codegen.graph import Graph
from tilewright.codegen.network import compile_regions, plan_regions
from tilewright.codegen.plan import Group, Plan, RegionPlan
from tilewright.codegen.prepared import prepare
from tilewright.errors import ScheduleError
from tilewright.targets.config import overlay
from tilewright.targets.sim import fast

MACHINE = overlay("ultra96-w8")
COMMON: dict[str, Any] = {"deadline": None, "derandomize": True, "suppress_health_check": list(HealthCheck)}
PAD = (1, 1, 1, 1)
SAMPLE = "compare with a plan written by `tilewright compile --save-plan`"


def small(b: Builder) -> Graph:
    """A convolution, two that read it, a pool of their concat, and a convolution."""
    x = b.input(16, 12, 10)
    a = b.conv(x, 16, (3, 3), padding=PAD)
    joined = b.layout([CONCAT], b.conv(a, 16, (1, 1)), b.conv(a, 16, (3, 3), padding=PAD))
    y = b.max_pool(joined, (2, 2), (2, 2), (0, 0, 0, 0))
    return b.graph(b.conv(y, 8, (1, 1)))


GRAPH = small(Builder(5))
PREPARED = prepare(GRAPH, MACHINE)
NAMES = PREPARED.flow.names
REGION = GRAPH.name


def alone(**changes: dict[str, Any]) -> Plan:
    """Every layer a group of its own; `changes` by layer name."""
    groups = [Group(layers=(name,), **changes.get(name, {})) for name in NAMES]
    return Plan.of([RegionPlan(region=REGION, groups=tuple(groups))], MACHINE)


def faults(plan: Plan, *graphs: Graph) -> list[str]:
    with pytest.raises(ScheduleError) as caught:
        compile_regions(graphs or (GRAPH,), MACHINE, plan)
    return [str(fault) for fault in caught.value.faults]


# Text.


def test_text_is_a_group_a_line() -> None:
    plan = alone()
    lines = plan.text().splitlines()
    assert len(lines) == 2 + len(NAMES)
    assert lines[2] == (
        f'    {{"layers": ["{NAMES[0]}"], "stripes": 1, "strips": 1, "slices": 1, "lag": 0, "keep": [], '
        '"images": 1},'
    )
    assert Plan.parse(plan.text(), MACHINE) == plan


def test_defaults_may_be_left_out(tmp_path: Path) -> None:
    head = {"schema": 1, "overlay": MACHINE.name, "overlay_hash": MACHINE.hash}
    groups = [{"layers": [name]} for name in NAMES]
    path = tmp_path / "plan.json"
    path.write_text(json.dumps(head | {"regions": [{"region": REGION, "groups": groups}]}), encoding="utf-8")
    assert Plan.read(path, MACHINE) == alone()


@settings(max_examples=25, **COMMON)
@given(plans(8), st.sampled_from(("ultra96-w8", "pynq-z1-w8")))
def test_default_plans_come_back_and_give_the_same_stream(network: NetworkPlan, target: str) -> None:
    graph, machine = Region(network).graph(), overlay(target)
    plan = plan_regions([graph], machine)
    again = Plan.parse(plan.text(), machine)
    assert again == plan
    (region,), used = compile_regions([graph], machine, again)
    assert used == plan
    assert region == compile_region(graph, machine)


# Faults of the file.


def edited(change: Callable[[dict[str, Any]], object]) -> str:
    document = json.loads(alone().text())
    change(document)
    return json.dumps(document)


def group(document: dict[str, Any]) -> dict[str, Any]:
    found: dict[str, Any] = document["regions"][0]["groups"][0]
    return found


@pytest.mark.parametrize(
    ("text", "messages"),
    [
        ("", [f"p: expected JSON: EOF while parsing a value at line 1 column 0; {SAMPLE}"]),
        ('{"schema": 1,', [f"p: expected JSON: EOF while parsing a value at line 1 column 13; {SAMPLE}"]),
        ("[]", [f"p: input should be an object, found []; {SAMPLE}"]),
        (edited(lambda d: d.update(schema=2)), [f"p, schema: input should be 1, found 2; {SAMPLE}"]),
        (edited(lambda d: d.pop("overlay_hash")), [f"p, overlay_hash: is missing; {SAMPLE}"]),
        (
            edited(lambda d: group(d).update(stripes=0, lag=3, layers=[], strip=3)),
            [
                f"p, regions.0.groups.0.layers: tuple should have at least 1 item after validation, not 0, "
                f"found []; {SAMPLE}",
                f"p, regions.0.groups.0.stripes: input should be greater than or equal to 1, found 0; {SAMPLE}",
                f"p, regions.0.groups.0.lag: input should be less than or equal to 2, found 3; {SAMPLE}",
                "p, regions.0.groups.0.strip: there is no such field; take it out",
            ],
        ),
        (
            edited(lambda d: group(d).update(stripes="2", strips=1.5, slices=True)),
            [
                f'p, regions.0.groups.0.stripes: input should be a valid integer, found "2"; {SAMPLE}',
                f"p, regions.0.groups.0.strips: input should be a valid integer, found 1.5; {SAMPLE}",
                f"p, regions.0.groups.0.slices: input should be a valid integer, found true; {SAMPLE}",
            ],
        ),
        (
            edited(lambda d: d.update(overlay="other", overlay_hash="0123456789abcdef")),
            [
                "p: the plan was made for overlay other (0123456789ab), "
                f"not for ultra96-w8 ({MACHINE.hash[:12]}); plan for this overlay anew"
            ],
        ),
    ],
)
def test_faults_of_the_text(text: str, messages: list[str]) -> None:
    with pytest.raises(ScheduleError) as caught:
        Plan.parse(text, MACHINE, "p")
    assert [str(fault) for fault in caught.value.faults] == messages


@settings(max_examples=60, **COMMON)
@given(st.binary(max_size=40) | st.text(max_size=40).map(str.encode))
def test_any_bytes_are_refused(data: bytes) -> None:
    for text in (data, b"[" * 100000 + data):
        refused(text)


def refused(data: bytes) -> None:
    with pytest.raises(ScheduleError, match=r"^p"):
        Plan.parse(data, MACHINE, "p")


def test_files_that_cannot_be_read(tmp_path: Path) -> None:
    for path, reason in ((tmp_path / "no.json", "No such file or directory"), (tmp_path, "Is a directory")):
        with pytest.raises(ScheduleError) as caught:
            Plan.read(path, MACHINE)
        assert str(caught.value) == f"{path}: the plan cannot be read: {reason}; check the path"


# Faults against the network.


def test_regions() -> None:
    (region,) = alone().regions
    other = region.model_copy(update={"region": "tail"})
    second = Graph("second", GRAPH.inputs, GRAPH.outputs, GRAPH.nodes)
    assert faults(Plan.of([region, other, region], MACHINE), GRAPH, second) == [
        "plan: region second has no plan; plan every region of the network",
        f"plan: region {REGION} is planned 2 times; plan it once",
        f"plan: the network has no region tail; it has {REGION}, second; take it out, or plan the network anew",
    ]
    plan = alone().model_copy(update={"overlay_hash": "0123456789abcdef"})
    assert faults(plan)[0].startswith(
        "plan: the plan was made for overlay ultra96-w8 (0123456789ab), not for"
    )


@pytest.mark.parametrize(
    ("names", "messages"),
    [
        ([NAMES[0], *NAMES[2:]], [f"layer {NAMES[1]} is missing; put it into a group"]),
        (
            [NAMES[1], NAMES[0], *NAMES[2:]],
            [
                f"expected layer {NAMES[0]} next, found {NAMES[1]}; keep the region's order: {', '.join(NAMES)}"
            ],
        ),
        (
            ["conv9", NAMES[1], *NAMES[1:4]],
            [
                f"layer {NAMES[0]} is missing; put it into a group",
                f"layer {NAMES[4]} is missing; put it into a group",
                "the region has no layer conv9; take it out",
                f"layer {NAMES[1]} is named 2 times; name it once",
            ],
        ),
    ],
)
def test_layers(names: list[str], messages: list[str]) -> None:
    plan = Plan.of([RegionPlan(region=REGION, groups=(Group(layers=tuple(names)),))], MACHINE)
    assert faults(plan) == [f"plan of {REGION}: {message}" for message in messages]


def test_all_faults_of_all_regions_at_once() -> None:
    first, *_, pool, last = NAMES
    changes: dict[str, dict[str, Any]] = {
        first: {"stripes": 13, "strips": 11, "keep": ("nobody",)},
        pool: {"slices": 9},
        last: {"keep": (last,), "slices": 2},
    }
    where = [f"plan of {REGION}, group {g + 1} ({name})" for g, name in enumerate(NAMES)]
    expected = [
        f"{where[0]}: 11 strips with 1 layers and 1 kept maps; "
        "strips are for a single layer whose maps go through DRAM",
        f"{where[0]}: no map nobody to keep; use the name of a layer or input",
        f"{where[4]}: 2 slices with 1 layers and 1 kept maps; "
        "slices are for a single layer of VECTOR whose maps go through DRAM",
        f"{where[4]}: {last} is kept, but no later layer reads it; drop it from keep",
        f"{where[0]}: expected stripes from 1 to 12, found 13; there are no more rows",
        f"{where[0]}: expected strips from 1 to 10, found 11; there are no more columns",
        f"{where[3]}: expected slices from 1 to 2, found 9; there are no more half words",
    ]
    plan = alone(**changes)
    assert faults(plan) == expected
    second = Graph("second", GRAPH.inputs, GRAPH.outputs, GRAPH.nodes)
    twice = Plan.of([*plan.regions, plan.regions[0].model_copy(update={"region": "second"})], MACHINE)
    assert faults(twice, GRAPH, second) == [
        *expected,
        *(fault.replace(f"plan of {REGION}", "plan of second") for fault in expected),
    ]


def test_keep_of_what_is_not_there() -> None:
    first, *_, pool, last = NAMES
    assert faults(alone(**{pool: {"keep": (first,)}})) == [
        f"plan of {REGION}, group 4 ({pool}): {first} is kept, but not on chip; keep it from where it is used"
    ]
    part = NAMES[1]
    assert faults(alone(**{part: {"keep": (part,)}, NAMES[0]: {"keep": (last,)}}))[0] == (
        f"plan of {REGION}, group 1 ({first}): {last} is kept, but not on chip; keep it from where it is used"
    )


def test_stripes_that_a_merge_does_not_allow() -> None:
    """The copies of a transposed convolution each write rows of their own between those of the others."""
    b = Builder(2)
    x = b.conv_transpose(b.input(8, 5, 5), 16, (2, 2), (2, 2), (0, 0, 0, 0))
    graph = b.graph(b.conv(x, 8, (3, 3), padding=PAD))
    names = tuple(prepare(graph, MACHINE).flow.names)
    where = f"plan of {graph.name}, group 1 ({names[0]})"

    def plan(*groups: Group) -> Plan:
        return Plan.of([RegionPlan(region=graph.name, groups=groups)], MACHINE)

    assert faults(plan(Group(layers=names, stripes=3)), graph) == [
        f"{where}: {names[-1]} needs all of {names[0]}, made in 3 stripes; use one stripe, or part them"
    ]
    where = f"plan of {graph.name}, group 2 ({names[1]})"
    assert faults(plan(Group(layers=names[:1]), Group(layers=names[1:])), graph) == [
        f"{where}: {names[-1]} reads {names[0]}, only a part of which is made in its group; part them"
    ]


def test_what_does_not_fit_names_every_such_layer_and_by_how_much() -> None:
    b = Builder(3)
    x = b.input(64, 100, 100)
    graph = b.graph(b.conv(b.conv(x, 64, (3, 3), padding=PAD), 64, (3, 3), padding=PAD))
    names = prepare(graph, MACHINE).flow.names
    whole = RegionPlan(region=graph.name, groups=tuple(Group(layers=(name,)) for name in names))
    need = 2 * 100 * 100 * 64 // MACHINE.half_word_bytes
    over = need - MACHINE.act_half_words
    assert over > 0
    assert faults(Plan.of([whole], MACHINE), graph) == [
        f"layer {name}: needs {need} half words of ACT, {over} more than ultra96-w8 has; "
        "cut it into more stripes, merge fewer layers, keep fewer maps or take fewer images"
        for name in names
    ]


def test_stripes_without_rows_are_passed_over() -> None:
    """The pool has 6 rows, the layers before it 12."""
    b = Builder(5)
    graph = small(b)
    feeds = b.feeds()
    expected = evaluate_graph(graph, feeds)
    first, *middle, last = NAMES
    groups = tuple(
        Group(layers=tuple(layers), stripes=n) for layers, n in (([first], 1), (middle, 12), ([last], 6))
    )
    region = compile_prepared(PREPARED, RegionPlan(region=REGION, groups=groups))
    found = run_region(region, MACHINE, feeds, fast.run)
    for tensor in graph.outputs:
        np.testing.assert_array_equal(found[tensor.name], expected[tensor.name])
