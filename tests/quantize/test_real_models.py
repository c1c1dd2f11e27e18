"""Accuracy of quantised classifiers on real images, by ONNX Runtime without optimisation."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from tilewright.quantize import QuantizeOptions, quantize_onnx

from .real_models import CASES, predictions

# Top-1 points that a network may lose: 1, or 2 where so few images are there that one more flip is half a point.
ALLOWED = {"resnet20": 1.0, "resnet8": 1.0, "kws": 1.0, "vww": 2.0, "mobilenet_v1": 2.0, "shufflenetv2": 1.0}


@pytest.mark.slow
@pytest.mark.parametrize("method", ["percentile", "minmax"])
def test_top1_loss_is_within_half_a_point_on_average(shared_data: Path, method: str) -> None:
    losses = {}
    for name, load in CASES.items():
        case = load(shared_data)
        quantised = quantize_onnx(case.model, case.samples(100), QuantizeOptions(method=method))  # type: ignore[arg-type]
        exact = np.mean(predictions(case.model, case.images) == case.labels)
        rounded = np.mean(predictions(quantised, case.images) == case.labels)
        losses[name] = 100 * (exact - rounded)
    assert {name: loss for name, loss in losses.items() if loss > ALLOWED[name]} == {}
    assert np.mean(list(losses.values())) <= 0.5
