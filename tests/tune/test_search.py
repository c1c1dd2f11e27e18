"""The search: finds the best of what can be found, proposes nothing twice and nothing illegal, follows its seed."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.tune.synthetic import Bench, Synthetic, header
from tilewright.errors import ScheduleError
from tilewright.tune.local import Serial
from tilewright.tune.log import Log, Record
from tilewright.tune.measurement import Measurement, Objective, Refusal
from tilewright.tune.ranking import Ranking
from tilewright.tune.space import Space
from tilewright.tune.tuner import Result, run


def _tune(
    regions: list[Synthetic],
    trials: int,
    *,
    seed: int = 1,
    objective: Objective = "cycles",
    bench: Bench | None = None,
) -> tuple[Result, list[Record]]:
    head = header(regions, objective, seed)
    with Log(None, head) as log:
        result = run(regions, Serial(bench or Bench(regions)), log, head, trials)
        return result, log.records


@settings(derandomize=True, deadline=None, max_examples=6)
@given(st.builds(Synthetic, size=st.integers(2, 6), capacity=st.integers(2500, 6000)), st.integers(0, 9))
def test_proposes_legal_plans_once_each(region: Synthetic, seed: int) -> None:
    # Bench asserts that what it measures is legal.
    result, records = _tune([region], 40, seed=seed)
    plans = [record.plan for record in records]
    assert len({plan.model_dump_json() for plan in plans}) == len(plans) == result.trials
    assert [record.trial for record in records] == list(range(len(records)))
    assert plans[0] == region.default
    assert result.best <= result.default


def test_finds_the_best_plan_of_a_space_that_is_too_large_to_measure_whole() -> None:
    region = Synthetic(size=4, rows=4, capacity=2000)
    space = Space(region)
    best = min(region.price(space.plan(point), accurate=True).cycles for point in space.points())
    assert len(list(space.points())) > 300
    result, _ = _tune([region], 150)
    assert result.best == best < result.default
    assert result.gain == 1 - best / result.default


def test_is_better_than_random_steps() -> None:
    """Mean over seeds at equal measurements: the model must be worth its keep."""
    region = Synthetic(size=16)
    ours, random_steps = [], []
    for seed in range(3):
        ours.append(_tune([region], 80, seed=seed)[0].best)
        random_steps.append(_random_walk(region, 80, seed))
    assert np.mean(ours) < 0.9 * np.mean(random_steps)


def _random_walk(region: Synthetic, trials: int, seed: int) -> int:
    import random

    space, rng = Space(region), random.Random(seed)
    known = {space.default: region.price(region.default, accurate=True).cycles}
    while len(known) < trials:
        step = space.step(rng.choice(list(known)), rng)
        if step is not None:
            known[step[1]] = region.price(space.plan(step[1]), accurate=True).cycles
    return min(known.values())


def test_a_small_space_is_measured_whole() -> None:
    region = Synthetic(size=2, rows=2, capacity=1500)
    space = Space(region)
    result, records = _tune([region], 200)
    assert {space.point(r.plan) for r in records} == set(space.points())
    assert result.trials == len(list(space.points())) < 200
    assert {r.origin for r in records} == {"default", "whole space"}


def test_regions_share_the_trials_by_their_share_of_the_objective() -> None:
    large, small = Synthetic(size=16), Synthetic(size=6, name="tilewright_1")
    result, records = _tune([large, small], 120)
    count = [sum(r.plan.region == region.name for r in records) for region in (large, small)]
    share = large.price(large.default, accurate=True).cycles / result.default
    assert sum(count) == 120
    assert abs(count[0] - 120 * share) <= 8
    assert [plan.region for plan in result.plans] == ["tilewright_0", "tilewright_1"]


def test_what_a_small_region_leaves_goes_to_the_other() -> None:
    large, small = Synthetic(size=16), Synthetic(size=1, rows=2, name="tilewright_1")
    _, records = _tune([large, small], 60)
    small_space = len(list(Space(small).points()))
    assert sum(r.plan.region == small.name for r in records) == small_space
    assert len(records) == 60


def test_equal_seeds_make_equal_searches_and_others_do_not() -> None:
    region = Synthetic(size=10)
    first, again, other = (_tune([region], 48, seed=seed)[1] for seed in (1, 1, 2))
    assert first == again
    assert first != other


def test_a_longer_search_begins_as_a_shorter_one() -> None:
    region = Synthetic(size=10)
    short, long = (_tune([region], trials)[1] for trials in (27, 50))
    assert long[:27] == short


@pytest.mark.parametrize("objective", ["cycles", "dram", "energy"])
def test_every_objective_is_made_smaller(objective: Objective) -> None:
    region = Synthetic(size=8)
    result, records = _tune([region], 60, objective=objective)
    values = [r.outcome.value(objective) for r in records if isinstance(r.outcome, Measurement)]
    assert result.best == min(values) < values[0] == result.default


def test_plans_that_are_refused_are_remembered_and_not_the_best() -> None:
    region = Synthetic(size=6, capacity=6000)
    result, records = _tune([region], 60, bench=Bench([region], refuse_stripes=2))
    refused = [r for r in records if isinstance(r.outcome, Refusal)]
    assert result.refused == len(refused) > 0
    assert all(r.outcome == Refusal(f"{r.plan.groups[0].layers[0]}: this does not compile") for r in refused)
    assert all(group.stripes != 2 for group in result.plans[0].groups)


def test_a_default_plan_that_cannot_be_measured_is_an_error() -> None:
    region = Synthetic(size=6, capacity=6000)
    with pytest.raises(ScheduleError) as caught:
        _tune([region], 10, bench=Bench([region], refuse_stripes=1))
    assert (
        str(caught.value)
        == "region tilewright_0: the default plan cannot be measured: layer0: this does not compile"
    )


def test_ranking_learns_an_order() -> None:
    """Held-out plans of a made-up price are ordered as their prices are, most of the time."""
    rng = np.random.default_rng(3)
    rows = rng.random((200, 6)).astype(np.float32)
    values = 3 * rows[:, 0] - rows[:, 1] * rows[:, 2]
    ranking = Ranking(seed=1)
    assert not ranking.trained
    ranking.train(list(rows[:120]), values[:120].tolist())
    scores = ranking.score(list(rows[120:]))
    held = values[120:]
    pairs = [(i, j) for i in range(80) for j in range(i) if abs(held[i] - held[j]) > 0.1]
    right = np.mean([(scores[i] < scores[j]) == (held[i] > held[j]) for i, j in pairs])
    assert right > 0.9


def test_a_plan_is_measured_where_the_search_is_stopped_by_its_runner(tmp_path: Path) -> None:
    """What came before an error of the runner is in the log."""
    region = Synthetic(size=6)
    head = header([region])

    class Stopping(Serial):
        calls = 0

        def measure(self, plans):  # type: ignore[no-untyped-def]
            Stopping.calls += 1
            for i, outcome in super().measure(plans):
                if Stopping.calls == 3 and i == 4:
                    raise KeyboardInterrupt
                yield i, outcome

    path = tmp_path / "log"
    with pytest.raises(KeyboardInterrupt), Log(path, head) as log:
        run([region], Stopping(Bench([region])), log, head, 40)
    assert len(path.read_text().splitlines()) == 1 + 1 + 8 + 4
