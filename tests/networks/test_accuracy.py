"""Eight bits cost trained classifiers at most a point of top-1 (two on small sets), half a point on average."""

from __future__ import annotations

from pathlib import Path

import pytest
from tests.networks.store import Store

from tilewright.benchmark.accuracy import JUDGED, LIMIT_MEAN, Loss, mean_loss
from tilewright.benchmark.networks import NETWORKS
from tilewright.evaluation import Accuracy, Evaluation, Flips, evaluate


@pytest.mark.slow
def test_loss_against_float(shared_data: Path, store: Store) -> None:
    losses = [
        Loss(name, evaluate(store.package(name, NETWORKS[name].overlays[0]), store.case(name).evaluation()))
        for name in JUDGED
    ]
    assert [loss for loss in losses if not loss.holds] == []
    assert mean_loss(losses) <= LIMIT_MEAN


def _loss(images: int, float_top1: float, simulated: float) -> Loss:
    found = Evaluation(
        images, Accuracy(float_top1, None), Accuracy(simulated, None), Accuracy(simulated, None), Flips(0, 0)
    )
    return Loss("net", found)


@pytest.mark.parametrize(
    ("images", "exact", "simulated", "holds"),
    [
        (301, 90.0, 89.0, True),
        (301, 90.0, 88.9, False),
        (300, 90.0, 88.0, True),
        (300, 90.0, 87.9, False),
        (500, 80.0, 95.0, True),
    ],
)
def test_limits(images: int, exact: float, simulated: float, holds: bool) -> None:
    assert _loss(images, exact, simulated).holds == holds
    assert mean_loss([_loss(images, exact, simulated), _loss(images, exact, exact)]) == pytest.approx(
        (exact - simulated) / 2
    )
