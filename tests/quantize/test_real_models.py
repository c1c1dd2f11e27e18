"""Accuracy of quantised classifiers on real images, by ONNX Runtime without optimisation."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from tests.quantize.real_models import load_case, predictions

from tilewright.quantize import QuantizeOptions, quantize_onnx

JUDGED = ("squeezenet", "m4", "m7", "resnet20", "resnet8", "kws", "vww", "lenet")
# One image of a small set weighs more: 300 of them resolve a third of a point.
SMALL_SET = 300


@pytest.mark.slow
def test_top1_loss_is_within_a_point_and_half_a_point_on_average(shared_data: Path) -> None:
    """Float minus quantised top-1, in points: at most 1.0 (2.0 on small sets), 0.5 over the networks."""
    losses, over = {}, {}
    for name in JUDGED:
        case = load_case(name, shared_data)
        quantised = quantize_onnx(case.model, case.samples(100))
        exact = predictions(case.model, case.images) == case.labels
        rounded = predictions(quantised, case.images) == case.labels
        images = len(exact)
        # In images, so that a loss of exactly one point is not one more by rounding.
        lost = int(np.count_nonzero(exact)) - int(np.count_nonzero(rounded))
        limit = 2 if images <= SMALL_SET else 1
        losses[name] = 100 * lost / images
        if 100 * lost > limit * images:
            over[name] = losses[name]
    assert over == {}
    assert np.mean(list(losses.values())) <= 0.5, losses


@pytest.mark.slow
@pytest.mark.parametrize(("activation_bits", "limit"), [(4, 4.0), (8, 2.0)])
def test_weights_of_4_bits_cost_a_small_network_little(
    shared_data: Path, activation_bits: int, limit: float
) -> None:
    """ResNet-8 loses 20 points at 4/4 bit and 13 at 4/8 with nearest weights and whole ranges."""
    case = load_case("resnet8", shared_data)
    options = QuantizeOptions(bits=4, activation_bits=activation_bits)
    quantised = quantize_onnx(case.model, case.samples(100), options)
    exact = predictions(case.model, case.images) == case.labels
    rounded = predictions(quantised, case.images) == case.labels
    assert 100 * (exact.mean() - rounded.mean()) <= limit
