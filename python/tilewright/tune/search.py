"""The search in one region's space: proposes plans, is told what they measured, and so again.

Plans are proposed in batches. Chains of random steps start from the best plans known and climb by the ranking's score
(simulated annealing), good plans are crossed, and of all plans seen on the way those with the best scores are
measured, with a share of random ones in between (epsilon-greedy). Until enough is measured the analytic estimate
stands in for the ranking. A small space is measured whole.

A search is a function of its seed and of what it is told: told the same again, it proposes the same. That is how a
tuner resumes.
"""

from __future__ import annotations

import math
import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from tilewright.tune.measurement import Measurement, Objective, Outcome
from tilewright.tune.ranking import F32, Ranking, features
from tilewright.tune.space import Point, Space

ELITE = 6
"""Best plans from which chains start."""
CHAINS = 12
LENGTH = 5
"""Steps of a chain."""
CROSSINGS = 8
EPSILON = 0.15
"""Share of proposals drawn at random."""
ENOUGH = 12
"""Measured plans from which the ranking is worth asking."""
HOT, COLD = 1.0, 0.1
"""Temperature of the first and of the last step, in standard deviations of the scores."""


@dataclass(frozen=True)
class Proposal:
    """A plan to measure, and where it comes from, for people."""

    point: Point
    origin: str


class Search:
    """The search in a region.

    Args:
        space: of the region.
        objective: what is to become small.
        seed: equal seeds propose the same.
        whole: all points where the space is small, the default first; else None.
    """

    def __init__(self, space: Space, objective: Objective, seed: int, whole: list[Point] | None) -> None:
        self.space = space
        self.objective: Objective = objective
        self._random = random.Random(f"{seed}/{space.region.name}")
        self._ranking = Ranking(seed)
        self._whole = whole
        self._values: dict[Point, float] = {}
        self._rows: dict[Point, tuple[F32, Measurement]] = {}

    @property
    def measured(self) -> int:
        """Plans told so far."""
        return len(self._values)

    @property
    def best(self) -> float:
        """The smallest value so far; infinite before the first."""
        return min(self._values.values(), default=math.inf)

    def tell(self, point: Point, outcome: Outcome) -> None:
        """What a plan measured."""
        value = outcome.value(self.objective) if isinstance(outcome, Measurement) else math.inf
        self._values[point] = value

    def propose(self, count: int) -> list[Proposal]:
        """The next plans, none told already; fewer than `count` where no more are found."""
        if self.space.default not in self._values:
            return [Proposal(self.space.default, "default")]
        if self._whole is not None:
            left = (p for p in self._whole if p not in self._values)
            return [Proposal(point, "whole space") for point, _ in zip(left, range(count), strict=False)]
        if self.measured >= ENOUGH:
            rows = [self._features(point)[0] for point in self._values]
            self._ranking.train(rows, list(self._values.values()))
        sound = [point for point, value in self._values.items() if value < math.inf]
        elite = sorted(sound, key=self._values.__getitem__)[:ELITE]
        # Where all is measured around the best plans, something farther off.
        found = self._candidates(elite, sound) or self._candidates(
            self._random.sample(sound, len(sound)), sound
        )
        points = list(found)
        order = [points[i] for i in np.argsort(-self._scores(points), kind="stable")]
        chosen: list[Proposal] = []
        while order and len(chosen) < count:
            lucky = self._random.random() < EPSILON
            point = order.pop(self._random.randrange(len(order)) if lucky else 0)
            how = "at random" if lucky else "by the model" if self._ranking.trained else "by the estimate"
            chosen.append(Proposal(point, f"{found[point]}, {how}"))
        return chosen

    def _features(self, point: Point) -> tuple[F32, Measurement]:
        known = self._rows.get(point)
        if known is None:
            estimate = self.space.region.estimate(self.space.plan(point))
            known = self._rows[point] = (features(self.space, point, estimate), estimate)
        return known

    def _scores(self, points: Sequence[Point]) -> NDArray[np.float64]:
        """The higher, the better. Shape: (points,)."""
        known = [self._features(point) for point in points]
        if self._ranking.trained and known:
            return self._ranking.score([row for row, _ in known])
        return np.array([-math.log(max(estimate.value(self.objective), 1e-12)) for _, estimate in known])

    def _candidates(self, starts: Sequence[Point], sound: Sequence[Point]) -> dict[Point, str]:
        """Plans worth a look that were not measured, in the order found, and where they come from."""
        found: dict[Point, str] = {}
        for point, origin in self._walk(starts, sound):
            if point not in self._values:
                found.setdefault(point, origin)
        return found

    def _walk(self, starts: Sequence[Point], sound: Sequence[Point]) -> Iterator[tuple[Point, str]]:
        for _ in range(CROSSINGS if len(starts) > 1 else 0):
            left, right = self._random.sample(starts, 2)
            crossed = self.space.crossed(left, right, self._random)
            if crossed is not None:
                yield crossed, "two plans crossed"
        chains = [starts[i % len(starts)] for i in range(CHAINS)]
        origins = [""] * CHAINS
        scores = self._scores(chains)
        spread = float(np.std(self._scores(sound))) or 1.0
        for step in range(LENGTH):
            heat = spread * HOT * (COLD / HOT) ** (step / (LENGTH - 1))
            steps = [self.space.step(point, self._random) or ("", point) for point in chains]
            after = self._scores([point for _, point in steps])
            for i, (text, point) in enumerate(steps):
                if not text:
                    continue
                origin = f"{origins[i]}; {text}" if origins[i] else text
                yield point, origin
                gain = float(after[i] - scores[i])
                if gain >= 0 or self._random.random() < math.exp(gain / heat):
                    chains[i], scores[i], origins[i] = point, after[i], origin
