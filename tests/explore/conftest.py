"""The demo network, and a search over overlays for it."""

from __future__ import annotations

import pytest

import tilewright as tw
from tests.cli.commands import DEMO
from tilewright.quantize.options import QuantizeOptions

QUICK = QuantizeOptions(method="minmax", bias_correction=False, equalise=False)


@pytest.fixture(scope="session")
def demo() -> tw.Model:
    """A convolutional network with branches, an addition and pools, quantised to 8 bits."""
    return tw.quantize(tw.load(DEMO / "digits.onnx"), "random:1", options=QUICK)


@pytest.fixture(scope="session")
def found(demo: tw.Model) -> tw.Exploration:
    """A short search on the small board."""
    return tw.explore(demo, "pynq-z1", widths=[(8, 8)], trials=5)
