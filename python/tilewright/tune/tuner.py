"""The tuner's loop: who proposes next, what is measured already, and what came out of it."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass

from tilewright.codegen.plan import RegionPlan
from tilewright.errors import Fault, ScheduleError
from tilewright.tune.log import Header, Log, Record, best_records
from tilewright.tune.measurement import Measurement, Objective, Outcome, Refusal, Region, Runner
from tilewright.tune.search import Search
from tilewright.tune.space import RAW_SHARE, Point, Space

BATCH = 8
"""Plans that are proposed together; workers wait for each other at the end of a batch."""

Report = Callable[[int, int, float], None]
"""Called with the trials done, those wanted, and the best value so far."""


@dataclass(frozen=True)
class Result:
    """What a search came to.

    Attributes:
        default, best: value of the network with the planner's plan and with the best one.
        plans: the best plan of each region.
        records: where they come from, by region.
        trials: plans measured, those of the log included.
        measured: plans measured now.
        refused: plans that could not be measured.
    """

    objective: Objective
    default: float
    best: float
    plans: Sequence[RegionPlan]
    records: Mapping[str, Record]
    trials: int
    measured: int
    refused: int

    @property
    def gain(self) -> float:
        """How much smaller the best value is, as a share of the default's."""
        return 1 - self.best / self.default if self.default else 0.0


def run(
    regions: Sequence[Region],
    runner: Runner,
    log: Log,
    header: Header,
    trials: int,
    report: Report = lambda done, total, best: None,
) -> Result:
    """Search until `trials` plans are measured or none are left.

    Every region's default plan is measured first, then regions take turns by their share of the objective. What the
    log holds is not measured again.

    Raises ScheduleError where a default plan cannot be measured.
    """
    return _Tuner(regions, runner, log, header, trials, report).run()


class _Tuner:
    def __init__(
        self,
        regions: Sequence[Region],
        runner: Runner,
        log: Log,
        header: Header,
        trials: int,
        report: Report,
    ) -> None:
        self.regions = regions
        self.runner, self.log, self.header, self.trials, self.report = runner, log, header, trials, report
        self.spaces = {region.name: Space(region) for region in regions}
        self.known: dict[tuple[str, Point], Outcome] = {}
        for record in log.records:
            space = self.spaces.get(record.plan.region)
            if space is not None:
                self.known[record.plan.region, space.point(record.plan)] = record.outcome
        self.used = {record.trial for record in log.records}
        self.resumed = len(log.records)
        self.done = 0

    def run(self) -> Result:
        searches = self._searches()
        for search in searches:
            self._round(search, 1)
        default = sum(search.best for search in searches)
        shares = [search.best / default if default else 1.0 for search in searches]
        live = set(range(len(searches)))
        while live and self.done < self.trials:
            # The region whose trials are furthest behind its share.
            i = max(live, key=lambda n: (shares[n] * self.done - searches[n].measured, -n))
            if not self._round(searches[i], BATCH):
                live.discard(i)
        return self._result(default)

    def _searches(self) -> list[Search]:
        """A search for each region; the smallest spaces are measured whole while the trials last."""
        left = self.trials - len(self.spaces)
        whole: dict[str, list[Point]] = {}
        for name, space in sorted(
            self.spaces.items(), key=lambda item: item[1].raw_count(RAW_SHARE * self.trials)
        ):
            points = space.small(left + 1) if left > 0 else None
            if points is not None:
                whole[name] = points
                left -= len(points) - 1
        return [
            Search(space, self.header.objective, self.header.seed, whole.get(name))
            for name, space in self.spaces.items()
        ]

    def _round(self, search: Search, batch: int) -> bool:
        """Propose, measure what is not known, and tell. Whether there was anything to propose."""
        # A whole batch is proposed though fewer may be wanted: a longer run begins as a shorter one does.
        proposals = search.propose(BATCH)[: min(batch, max(self.trials - self.done, 1))]
        region = search.space.region.name
        new = [p for p in proposals if (region, p.point) not in self.known]
        trials = [self._trial(self.done + proposals.index(p)) for p in new]
        for i, outcome in self.runner.measure([search.space.plan(p.point) for p in new]):
            self.known[region, new[i].point] = outcome
            self.log.append(Record(trials[i], search.space.plan(new[i].point), new[i].origin, outcome))
            self._progress()
        for proposal in proposals:
            outcome = self.known[region, proposal.point]
            if proposal.origin == "default" and isinstance(outcome, Refusal):
                raise ScheduleError(
                    Fault(f"the default plan cannot be measured: {outcome.message}", f"region {region}")
                )
            search.tell(proposal.point, outcome)
        self.done += len(proposals)
        self._progress()
        return bool(proposals)

    def _trial(self, number: int) -> int:
        """A trial's number: that of its proposal, unless the log has used it for another plan."""
        while number in self.used:
            number += 1
        self.used.add(number)
        return number

    def _progress(self) -> None:
        best = best_records(self.header, self.log.records)
        values = [
            r.outcome.value(self.header.objective)
            for r in best.values()
            if isinstance(r.outcome, Measurement)
        ]
        total = sum(values) if len(values) == len(self.regions) else math.nan
        self.report(max(self.done, len(self.log.records)), self.trials, total)

    def _result(self, default: float) -> Result:
        best = best_records(self.header, self.log.records)
        values = [
            r.outcome.value(self.header.objective)
            for r in best.values()
            if isinstance(r.outcome, Measurement)
        ]
        return Result(
            objective=self.header.objective,
            default=default,
            best=sum(values),
            plans=[best[region.name].plan for region in self.regions],
            records=best,
            trials=len(self.log.records),
            measured=len(self.log.records) - self.resumed,
            refused=sum(isinstance(r.outcome, Refusal) for r in self.log.records),
        )
