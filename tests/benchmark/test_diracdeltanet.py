"""DiracDeltaNet of 224x224 pixels at 4 bits: what the issue asks for, by the timing simulator, and exact."""

from __future__ import annotations

from functools import cache

import numpy as np
import onnxruntime
import pytest

import tilewright as tw
from tilewright.benchmark.architectures import ALL
from tilewright.benchmark.built import built
from tilewright.benchmark.marks import judged
from tilewright.benchmark.zoo import Row, default_overlays, measure
from tilewright.targets.config import overlay

NAME = "diracdeltanet_w4"


@cache
def _row(name: str, target: str) -> Row:
    return measure(name, tw.load(built(name)), overlay(target))[0]


def test_overlays_that_speed_is_judged_on() -> None:
    assert [o.name for o in default_overlays(NAME)] == ["ultra96-w4", "ultra96-w4x"]
    assert [o.name for o in default_overlays("squeezenet")] == ["ultra96-w8", "pynq-z1-w8"]
    assert [o.name for o in default_overlays("some/file.onnx")] == ["ultra96-w8", "pynq-z1-w8"]
    assert ALL[NAME].quantised


@pytest.mark.slow
@pytest.mark.parametrize("target", ["ultra96-w4", "ultra96-w4x"])
def test_frames_a_second(target: str) -> None:
    row = _row(NAME, target)
    assert (row.regions, row.host_macs, row.macs) == (1, 0, 316_651_520)
    verdicts = [verdict for _, verdict in judged(NAME, target, {"fps": row.fps})]
    assert verdicts == ["aim"]


@pytest.mark.slow
@pytest.mark.parametrize("target", ["ultra96-w4", "ultra96-w4x"])
def test_shifts_cost_less_than_a_hundredth(target: str) -> None:
    """Not nothing: a shifted map needs a halo row where it is cut into stripes."""
    without = _row("diracdeltanet_w4_no_shift", target)
    assert abs(_row(NAME, target).cycles / without.cycles - 1) < 0.01


@pytest.mark.slow
def test_simulated_scores_are_the_quantised_models() -> None:
    path = built(NAME)
    package = tw.compile(tw.load(path), "ultra96-w4")
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    session = onnxruntime.InferenceSession(str(path), options, ["CPUExecutionProvider"])
    for seed in range(2):
        pixels = np.random.default_rng(seed).integers(0, 256, (1, 3, 224, 224))
        feeds = {"data": ((pixels - 128) / 64).astype(np.float32)}
        assert np.array_equal(package.run(feeds)["fc"], session.run(["fc"], feeds)[0])
