"""The cost model: which of two plans is the better one, learned from what was measured so far.

Gradient-boosted trees (XGBoost) with a pairwise ranking objective. The order of plans is all that a search needs, and
it is easier to learn than their price. Features are plain numbers of the plan: its groups summed up, its analytic
estimate, and its integers by place in the network.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tilewright.tune.measurement import Measurement
from tilewright.tune.space import Point, Space

F32 = NDArray[np.float32]
PLACES = 24
"""Parts of the network, from input to output, that features tell apart."""
GRADES = 31
"""Relevance of the best plan; of the worst 0."""
ROUNDS = 32
_PARAMETERS = {
    "objective": "rank:pairwise",
    "max_depth": 5,
    "eta": 0.2,
    "min_child_weight": 0.5,
    "lambdarank_pair_method": "mean",
    "lambdarank_num_pair_per_sample": 8,
    "lambdarank_normalization": False,
    "nthread": 1,  # with more, sums are added in another order and runs differ
    "verbosity": 0,
}


def features(space: Space, point: Point, estimate: Measurement) -> F32:
    """A plan as numbers. Shape: (features,), the same for all plans of a space."""
    layers, maps = len(space.layers), space.maps
    log_stripes, log_parts, lags, sizes, kept = [], [], [], [], []
    places = min(PLACES, layers)
    by_place = np.zeros((5, places), np.float32)
    start = 0
    for cut in point:
        size = cut.end - start
        held = sum(maps[m].size_bytes for m in cut.keep)
        stripes = math.log2(cut.stripes)
        log_stripes.append(stripes)
        parts = math.log2(cut.strips * cut.slices)
        log_parts.append(parts)
        lags.append(cut.lag * size)
        sizes.append(size)
        kept.append(held)
        by_place[0, start * places // layers] += 1
        by_place[4, (cut.end - 1) * places // layers] += held / 1024
        for layer in range(start, cut.end):
            place = layer * places // layers
            by_place[1, place] += stripes
            by_place[2, place] += parts
            by_place[3, place] += cut.lag
        start = cut.end
    total = [
        len(point),
        sum(1 for size in sizes if size > 1),
        max(sizes),
        sum(log_stripes) / len(point),
        max(log_stripes),
        sum(log_parts),
        max(log_parts),
        sum(lags),
        sum(len(cut.keep) for cut in point),
        sum(kept) / 1024,
        max(kept) / 1024,
        math.log2(max(estimate.cycles, 1)),
        math.log2(max(estimate.dram_bytes, 1)),
    ]
    return np.concatenate([np.array(total, np.float32), by_place.reshape(-1)])


class Ranking:
    """Scores plans: the higher, the better."""

    def __init__(self, seed: int) -> None:
        self._seed = seed
        self._booster: Any = None

    @property
    def trained(self) -> bool:
        """Whether :meth:`score` can be asked."""
        return self._booster is not None

    def train(self, rows: Sequence[F32], values: Sequence[float]) -> None:
        """Learn from measured plans anew.

        Args:
            rows: features.
            values: what they were measured at; smaller is better, infinite where a plan was refused.
        """
        import xgboost  # a second to load, which commands that do not tune need not wait

        found = np.asarray(values, np.float64)
        order = np.unique(found, return_inverse=True)[1]
        grades = np.rint(GRADES * (1 - order / max(int(order.max()), 1)))
        matrix = xgboost.DMatrix(np.stack(rows), label=grades, qid=np.zeros(len(rows), np.int32), nthread=1)
        self._booster = xgboost.train(_PARAMETERS | {"seed": self._seed}, matrix, ROUNDS)

    def score(self, rows: Sequence[F32]) -> NDArray[np.float64]:
        """Scores of plans. Shape: (plans,)."""
        return np.asarray(self._booster.inplace_predict(np.stack(rows)), np.float64)
