"""What benchmarks refuse."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import numpy as np
import onnx
import pytest
from tests.relay_passes.qdq_graphs import QdqGraph

import tilewright as tw
from tilewright.benchmark import parts, simulator, zoo
from tilewright.errors import ConfigError, DataError
from tilewright.targets.config import overlay
from tilewright.targets.sim.fast import SimdLevel

W8 = overlay("ultra96-w8")


def test_synthesis_that_fails(monkeypatch: pytest.MonkeyPatch) -> None:
    """Without yosys its process ends with an error too."""
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: object())
    with pytest.raises(ConfigError, match=r"^parts\.v: no_such_module: yosys failed: "):
        parts.synthesise("no_such_module", {"A": 1})


def test_compilers_that_fail(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CXX", "/bin/false")
    with pytest.raises(ConfigError, match=r"^/bin/false cannot compile the plain loop: $"):
        simulator.plain_loop(simulator.make_layer(W8), tmp_path)


def test_results_that_differ(monkeypatch: pytest.MonkeyPatch) -> None:
    layer = simulator.make_layer(W8)
    sums = np.zeros((256, 14, 14), np.int32)
    correction = (layer.pad * layer.w.sum(axis=(1, 2, 3), dtype=np.int32))[:, None, None]
    monkeypatch.setattr(simulator, "plain_loop", lambda layer, folder: (lambda: sums, "c++"))
    monkeypatch.setattr(simulator, "conv_integer", lambda layer: lambda: sums - correction)
    with pytest.raises(
        DataError, match=r"^the simulator \(PLAIN\) and the plain loop give different results$"
    ):
        simulator.measure(W8, 0.0, [SimdLevel.PLAIN])
    monkeypatch.setattr(simulator, "conv_integer", lambda layer: lambda: sums + 1)
    with pytest.raises(
        DataError, match=r"^the plain loop and ONNX Runtime's ConvInteger give different sums$"
    ):
        simulator.measure(W8, 0.0, [])


def test_networks_of_the_host_alone(tmp_path: Path) -> None:
    g = QdqGraph((1, 4))
    onnx.save(g.model(g.op("Softmax", g.x)), tmp_path / "net.onnx")
    with pytest.raises(ConfigError, match=r"^alone: no layer runs on the accelerator$"):
        zoo.measure("alone", tw.load(tmp_path / "net.onnx"), W8)
