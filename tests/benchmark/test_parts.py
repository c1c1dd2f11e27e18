"""The figures of the resource model against synthesis, where yosys is installed."""

from __future__ import annotations

import importlib.util
import re

import pytest

from tilewright.benchmark import parts
from tilewright.errors import ConfigError

HAS_YOSYS = importlib.util.find_spec("pyosys") is not None


def test_every_part_is_in_the_source() -> None:
    modules = set(re.findall(r"^module (\w+)", parts.SOURCE.read_text(encoding="utf-8"), re.MULTILINE))
    assert {part.module for part in parts._parts()} == modules


@pytest.mark.skipif(HAS_YOSYS, reason="pyosys is installed")
def test_without_yosys() -> None:
    with pytest.raises(ConfigError, match="synthesis needs pyosys; pip install pyosys"):
        parts.main([])


@pytest.mark.slow
@pytest.mark.skipif(not HAS_YOSYS, reason="pyosys is not installed")
@pytest.mark.parametrize("module", ["window", "multiply", "queue", "table256"])
def test_figures_are_those_of_synthesis(module: str) -> None:
    """One of each kind that takes seconds; 5 %, since the model has round figures."""
    part = next(part for part in parts._parts() if part.module == module)
    lut, _ = parts.synthesise(part.module, part.sizes)
    assert lut / part.count == pytest.approx(part.model, rel=0.05)
