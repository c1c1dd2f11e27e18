"""Accuracy of quantised classifiers on real images, by ONNX Runtime without optimisation."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from tests.quantize.real_models import NAMES, load_case, predictions

from tilewright.quantize import Method, QuantizeOptions, quantize_onnx


@pytest.mark.slow
@pytest.mark.parametrize("method", ["percentile", "minmax"])
def test_top1_loss_is_within_half_a_point_on_average(shared_data: Path, method: Method) -> None:
    """A network may lose 1 point, or 2 with at most 300 images, of which one is a third of a point."""
    losses, over = {}, {}
    for name in NAMES:
        case = load_case(name, shared_data)
        quantised = quantize_onnx(case.model, case.samples(100), QuantizeOptions(method=method))
        exact = np.mean(predictions(case.model, case.images) == case.labels)
        rounded = np.mean(predictions(quantised, case.images) == case.labels)
        losses[name] = 100 * (exact - rounded)
        if losses[name] > (1.0 if len(case.labels) > 300 else 2.0):
            over[name] = losses[name]
    assert over == {}
    assert np.mean(list(losses.values())) <= 0.5
