"""What counts as a fault between levels, and by which numbers."""

from __future__ import annotations

import math

import numpy as np
import pytest

from tilewright.verify.compare import _close, _near, _noisy, _same
from tilewright.verify.result import Difference, noise_histogram, snr

ZEROS = np.zeros((1, 1, 4, 10, 10), np.uint8)


def difference(places: int, steps: int) -> Difference:
    found = ZEROS.copy()
    found.reshape(-1)[:places] = steps
    return Difference.of(found, ZEROS)


def test_difference() -> None:
    found = ZEROS.copy()
    found[0, 0, 2, 3, 4], found[0, 0, 3, 0, 0] = 255, 7
    assert Difference.of(found, ZEROS) == Difference(400, 2, 255, (0, 0, 2, 3, 4))
    assert Difference.of(ZEROS, ZEROS) == Difference(400, 0, 0, None)


@pytest.mark.parametrize(
    ("places", "steps", "bits", "message"),
    [
        (3, 1, 8, ""),
        (12, 1, 8, ""),  # 4, and 2 % of 400
        (13, 1, 8, "13 of 400 elements are a step apart on the same operands"),
        (1, 2, 8, "differs by 2 steps at (0, 0, 0, 0, 0) on the same operands; 1 is allowed"),
        (43, 2, 1, ""),
        (45, 2, 1, "45 of 400 elements are a step apart on the same operands"),
    ],
)
def test_levels_that_add_up_in_float32(places: int, steps: int, bits: int, message: str) -> None:
    assert _near(difference(places, steps), bits) == message


def test_levels_that_must_be_equal() -> None:
    assert _same(difference(0, 1)) == ""
    assert _same(difference(2, 1)) == (
        "2 of 400 elements differ from the level above, by up to 1 at (0, 0, 0, 0, 0)"
    )


@pytest.mark.parametrize(
    ("ratio", "bits", "passes"),
    [(20.0, 8, True), (19.9, 8, False), (9.0, 4, True), (8.9, 4, False), (2.9, 2, False), (-3.0, 1, True)],
)
def test_noise_of_a_layer(ratio: float, bits: int, passes: bool) -> None:
    assert (_noisy(ratio, bits) == "") is passes
    assert _noisy(None, bits) == ""


def test_outputs_of_the_host() -> None:
    scores = np.array([[[0.5, -2.0]]], np.float32)
    assert _close(scores, scores + np.float32(1e-4)) == ""
    assert "values up to 0.01 from ONNX Runtime's" in _close(scores + np.float32(0.01), scores)
    assert _close(scores[:, :, :1], scores) == (
        "has shape (1, 1, 1), the quantised level's host part gives (1, 1, 2)"
    )


def test_ratio() -> None:
    signal = np.array([3.0, 4.0, np.nan])
    assert snr(signal, np.array([3.0, 4.0, 9.0])) == math.inf  # what is not known is left out
    assert snr(signal, np.array([3.5, 4.0, 0.0])) == pytest.approx(20.0)  # norms 5 and 0.5
    assert snr(np.zeros(2), np.ones(2)) is None


def test_histogram() -> None:
    counts, edges = noise_histogram(np.zeros(5), np.array([-2.0, 0.0, 0.0, 0.0, 1.0])) or ((), ())
    assert (sum(counts), max(counts), edges[0], edges[-1]) == (5, 3, -2.0, 2.0)
    assert noise_histogram(np.array([np.nan]), np.zeros(1)) is None
