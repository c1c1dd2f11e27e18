"""The demo network, quantised and compiled once, and an input of it."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import numpy as np
import pytest
from numpy.typing import NDArray

import tilewright as tw

DEMO = Path(__file__).resolve().parents[2] / "tutorials" / "demo"


@pytest.fixture(scope="session")
def demo() -> tw.Model:
    """Quantised; its float network is beside it."""
    preprocess = tw.Preprocess(mean=128, std=128)
    model = tw.load(DEMO / "digits.prototxt", DEMO / "digits.caffemodel", preprocess=preprocess)
    return tw.quantize(model, calibration=DEMO / "digits_calibration.npz")


@pytest.fixture(scope="session")
def package(demo: tw.Model) -> tw.Package:
    """Compiled."""
    return tw.compile(demo, "ultra96-w8")


@pytest.fixture(scope="session")
def feeds() -> Mapping[str, NDArray[np.float32]]:
    """An input."""
    return {"data": np.random.default_rng(3).uniform(-1, 1, (1, 1, 32, 32)).astype(np.float32)}
