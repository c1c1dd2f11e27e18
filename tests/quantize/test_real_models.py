"""Accuracy of quantised classifiers on real images, by ONNX Runtime without optimisation."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from tests.quantize.real_models import NAMES, load_case, predictions

from tilewright.quantize import quantize_onnx


@pytest.mark.slow
def test_top1_loss_is_within_half_a_point_on_average(shared_data: Path) -> None:
    """A network may lose one point and the noise of the images that flip, 100 * sqrt(flips) / images.

    The noise averages out over the networks: all of them together may lose half a point.
    """
    losses, over = {}, {}
    for name in NAMES:
        case = load_case(name, shared_data)
        quantised = quantize_onnx(case.model, case.samples(100))
        exact = predictions(case.model, case.images) == case.labels
        rounded = predictions(quantised, case.images) == case.labels
        losses[name] = 100 * float(np.mean(exact) - np.mean(rounded))
        noise = 100 * np.sqrt(np.count_nonzero(exact != rounded)) / len(exact)
        if losses[name] > 1.0 + noise:
            over[name] = losses[name]
    assert over == {}
    assert np.mean(list(losses.values())) <= 0.5
