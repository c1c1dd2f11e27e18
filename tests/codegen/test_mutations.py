"""Streams damaged on purpose are refused, or give other results, or are proved to compute the same.

Kind by kind: tokens are lost, what lies apart in a scratchpad or in DRAM is laid together (double buffers, rings), rows
that a window needs are kept too short a time, shifted or not loaded.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import pytest
from tests.codegen.mutants import DAMAGES, RACE, Mutant, Network, Planner, Subject, lost_tokens
from tests.codegen.test_random_plans import inception, mobile, residual, shifted, upsampled

from tilewright.benchmark.fuzz.plans import random_plan
from tilewright.codegen.plan import Group, RegionPlan
from tilewright.codegen.prepared import Prepared
from tilewright.targets.config import Overlay, overlay
from tilewright.targets.isa.spec import Load, Memory
from tilewright.targets.sim import reference

TIGHT = Overlay.from_dict(
    overlay("ultra96-w8").to_dict()
    | {"name": "tight", "act_kib": 64, "wgt_kib": 16, "param_kib": 8, "disp_entries": 4}
)
"""So little memory that weights, parameters and displacements come again and again."""
CONSTANTS = {"WGT", "PARAM", "DISP"}
RINGS = {"ring filled", "ring handed", "ring drained"}
PLACES = (
    {"ACC halves", "buffers of a run", "buffers of neighbouring runs", "maps in DRAM"} | CONSTANTS | RINGS
)
KINDS = PLACES | {"token", "shifted fill", "shortened fill", "shifted halo"}
"""All kinds of damage."""


def merged(count: int, stripes: int, lag: int) -> Planner:
    """Groups of so many layers, or fewer at the end; a layer by itself is in as many stripes."""

    def plan(p: Prepared) -> RegionPlan:
        names = p.flow.names
        groups = [
            Group(layers=tuple(names[i : i + count]), stripes=stripes, lag=lag)
            for i in range(0, len(names), count)
        ]
        return RegionPlan(region=p.name, groups=tuple(groups))

    return plan


def parted(strips: int, stripes: int) -> Planner:
    """Each layer by itself, in so many parts of its columns and rows."""

    def plan(p: Prepared) -> RegionPlan:
        counts = [layer.geometry.count for layer in p.flow.layers]
        groups = [
            Group(layers=(name,), stripes=min(stripes, rows), strips=min(strips, columns))
            for name, (rows, columns) in zip(p.flow.names, counts, strict=True)
        ]
        return RegionPlan(region=p.name, groups=tuple(groups))

    return plan


def drawn(seed: int) -> Planner:
    """A random plan."""

    def plan(p: Prepared) -> RegionPlan:
        rng = np.random.default_rng(seed)
        return next(found for found in iter(lambda: random_plan(p, rng), 0) if found is not None)

    return plan


def spread(mutants: Sequence[Mutant], most: int) -> list[Mutant]:
    """At most so many of each kind, from the first to the last."""
    found: list[Mutant] = []
    for kind in dict.fromkeys(m.kind for m in mutants):
        mine = [m for m in mutants if m.kind == kind]
        found += mine[:: -(-len(mine) // most)]
    return found


def check(subject: Subject, most: int, found: Counter[tuple[str, str]]) -> None:
    """Count verdicts by kind. The first race of each is looked for in other ways too."""
    for mutant in spread([m for damage in DAMAGES for m in damage(subject)], most):
        verdict = subject.verdict(mutant)
        assert verdict in ("race", "refused", "bits", "same"), (mutant.kind, mutant.what, verdict)
        if verdict == "race" and not found[mutant.kind, verdict]:
            assert RACE in str(subject.run(mutant.stream, subject.images[0], reference.run))
            assert subject.meaning(mutant.stream).unordered
        found[mutant.kind, verdict] += 1


def check_kinds(found: Counter[tuple[str, str]]) -> None:
    """Every kind was there and was found; see `Subject.verdict`."""
    assert {kind for kind, _ in found} == KINDS
    verdicts = {kind: {v for k, v in found if k == kind} for kind in KINDS}
    assert verdicts["token"] == {"race"}  # none is implied
    for kind in PLACES:
        assert "race" in verdicts[kind], kind
    for kind in ("shifted fill", "shifted halo", "shortened fill"):
        assert verdicts[kind] & {"bits", "refused"}, kind
    # A half of ACC is missed in no other way than by a race; weights and rows may be needed again later.
    assert verdicts["ACC halves"] <= {"race", "same"}


SUBJECTS: list[tuple[Network, Overlay, Planner | None, int]] = [
    (shifted, TIGHT, merged(3, 4, 1), 1),
    (residual, TIGHT, merged(2, 6, 2), 1),
    (mobile, overlay("ultra96-w8"), None, 1),
    (inception, overlay("ultra96-w4"), merged(3, 4, 2), 1),
    (upsampled, overlay("pynq-z1-w8"), merged(1, 3, 0), 2),
]


def test_every_kind_of_damage_is_found() -> None:
    """Merged and unmerged plans on overlays of several widths; both simulators and a search for paths agree on races."""
    found: Counter[tuple[str, str]] = Counter()
    for network, machine, plan, batch in SUBJECTS:
        check(Subject.of(network, machine, plan, batch), 3, found)
    check_kinds(found)


@pytest.mark.slow
def test_every_kind_of_damage_of_any_plan_is_found() -> None:
    """More plans, and more of each."""
    found: Counter[tuple[str, str]] = Counter()
    machines = (TIGHT, overlay("ultra96-w8"), overlay("pynq-z1-w8"), overlay("ultra96-w4"))
    for number, network in enumerate((residual, inception, mobile, upsampled, shifted)):
        for machine, plan in [(m, drawn(number)) for m in machines] + [(m, None) for m in machines[:2]]:
            check(Subject.of(network, machine, plan, 1 + number % 2), 3, found)
    check_kinds(found)


@pytest.mark.parametrize(
    ("network", "plan"),
    [
        pytest.param(residual, parted(3, 2), id="strips and stripes"),
        pytest.param(upsampled, parted(5, 1), id="phases in strips", marks=pytest.mark.slow),
        pytest.param(shifted, drawn(4), id="displacements", marks=pytest.mark.slow),
    ],
)
def test_no_token_orders_what_does_not_meet(network: Network, plan: Planner) -> None:
    """Each is taken out."""
    subject = Subject.of(network, TIGHT, plan)
    found = list(lost_tokens(subject))
    assert len(found) > 100
    assert {subject.verdict(mutant) for mutant in found} == {"race"}


def test_same_and_other_terms() -> None:
    """What proofs rest on: a copy of a stream computes the same, one with two loads exchanged does not."""
    subject = Subject.of(residual, TIGHT, merged(2, 6, 2))
    assert subject.verdict(Mutant("", "", lambda: list(subject.stream))) == "same"
    (first, second, *_) = [
        i for i, x in enumerate(subject.stream) if isinstance(x, Load) and x.memory == Memory.WGT
    ]
    stream = list(subject.stream)
    x, y = stream[first], stream[second]
    assert isinstance(x, Load) and isinstance(y, Load)
    stream[first] = replace(x, dram_offset=y.dram_offset)
    meant = subject.meaning(stream)
    assert not meant.unordered and not meant.trap
    assert (meant.outputs != subject.meant.outputs).any()
