"""The trained DiracDeltaNet: its weights load, and its accuracy is what the README says."""

from __future__ import annotations

import importlib
import re
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest

import tilewright as tw
from tilewright.zoo.build import build
from tilewright.zoo.float_form import NormForm, float_model
from tilewright.zoo.fold import fold

LOW_BIT = Path(__file__).resolve().parents[2] / "tutorials" / "low_bit"
BITS = (None, 4, 2, 1)


def _load(name: str, monkeypatch: pytest.MonkeyPatch) -> ModuleType:
    """The scripts import each other as neighbours."""
    monkeypatch.syspath_prepend(str(LOW_BIT))
    return importlib.import_module(name)


@pytest.fixture
def scripts(monkeypatch: pytest.MonkeyPatch) -> Iterator[ModuleType]:
    yield _load("evaluate", monkeypatch)
    for name in ("evaluate", "net", "quantisers", "train"):
        sys.modules.pop(name, None)


@pytest.fixture(scope="module")
def test_set() -> tuple[np.ndarray, np.ndarray]:
    with np.load(LOW_BIT.parent / "demo" / "digits_test.npz") as file:
        return file["images"], file["labels"]


def _recorded() -> dict[str, float]:
    text = (LOW_BIT / "README.md").read_text(encoding="utf-8")
    return {name: float(value) for name, value in re.findall(r"^\| (\w+)[^|]*\| ([0-9.]+) %", text, re.M)}


def test_accuracy_on_images_never_trained_on(
    scripts: ModuleType, test_set: tuple[np.ndarray, np.ndarray]
) -> None:
    found = {str(bits or "float"): round(scripts.accuracy(bits, *test_set), 2) for bits in BITS}
    recorded = _recorded()
    assert found == {name: recorded[name] for name in found}
    assert found["4"] >= found["float"] - 2
    assert found["float"] > 98


def test_the_weights_are_small() -> None:
    files = list(LOW_BIT.glob("*.npz"))
    assert len(files) == len(BITS)
    assert sum(file.stat().st_size for file in files) < 200_000


@pytest.mark.parametrize("bits", [4, 2, 1])
def test_widths_of_weights(scripts: ModuleType, bits: int) -> None:
    weights = scripts.load_weights(bits)
    least, most = (-1, 1) if bits == 1 else (-(2 ** (bits - 1)), 2 ** (bits - 1) - 1)
    codes = {
        n: a for n, a in weights.items() if n.endswith(".weight") and not n.startswith(("conv1.", "fc."))
    }
    assert len(codes) == len(scripts.NETWORK.convolutions) - 1
    assert {(int(a.min()), int(a.max())) for a in codes.values()} <= {
        (low, high) for low in range(least, 0) for high in range(1, most + 1)
    }
    assert np.abs(weights["conv1.weight"]).max() > 64, "eight bits"
    nodes = {n.op_type for n in scripts.model(bits).graph.node}
    assert ("Clip" in nodes) == (bits > 1)
    assert ("Where" in nodes) == (bits == 1)


def _tensors(module: Any, network: Any, bits: Any, images: np.ndarray) -> tuple[np.ndarray, Any]:
    torch = pytest.importorskip("torch")
    torch.manual_seed(0)
    torch.set_num_threads(1)
    net = module.Net(network, bits)
    x = torch.from_numpy(images)
    net.train()
    for _ in range(5):
        net(x)  # statistics of BatchNorm
    net.eval()
    with torch.no_grad():
        return net(x).numpy(), net


@pytest.mark.parametrize("bits", BITS)
def test_what_is_trained_is_what_is_exported(
    scripts: ModuleType,
    monkeypatch: pytest.MonkeyPatch,
    test_set: tuple[np.ndarray, np.ndarray],
    bits: Any,
) -> None:
    pytest.importorskip("torch")
    images = scripts.to_input(test_set[0][:32])
    scores, net = _tensors(_load("net", monkeypatch), scripts.NETWORK, bits, images)
    weights = net.weights()
    if bits is None:
        apart = float_model(scripts.NETWORK, weights)
    else:
        floats = {n: a.astype(np.float32) for n, a in weights.items()}
        apart = NormForm(scripts.NETWORK, floats, bits).model()

    def run(proto: onnx.ModelProto) -> np.ndarray:
        options = onnxruntime.SessionOptions()
        options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
        session = onnxruntime.InferenceSession(proto.SerializeToString(), options, ["CPUExecutionProvider"])
        return np.concatenate([session.run(None, {"data": x[np.newaxis]})[0] for x in images])

    # A float sum in another order may move an activation by a step; most are the same.
    close = np.abs(run(apart) - scores).max(axis=1) < (1e-4 if bits is None else 0.15)
    assert close.mean() > 0.9
    if bits is not None:
        folded = run(build(scripts.NETWORK, bits, fold(scripts.NETWORK, weights, bits), 0))
        # Shortened scales move activations of this untrained network by a step here and there.
        assert np.corrcoef(folded.ravel(), scores.ravel())[0, 1] > 0.7


@pytest.mark.parametrize(
    ("bits", "target"),
    [
        *((bits, "ultra96-w8") for bits in (8, 4, 2, 1)),
        *((bits, target) for bits in (4, 2) for target in ("ultra96-w4", "ultra96-w4x", "pynq-z1-w4")),
    ],
)
def test_simulated_scores_of_all_images(
    scripts: ModuleType, test_set: tuple[np.ndarray, np.ndarray], bits: int, target: str
) -> None:
    """One region, and scores that equal the quantised model's on every image, so classes do."""
    read = scripts.open_model(bits)
    package = tw.compile(read, target)
    assert len(package.regions) == 1
    assert package.report["host_macs"] == 0
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    session = onnxruntime.InferenceSession(read.proto.SerializeToString(), options, ["CPUExecutionProvider"])
    for x in scripts.to_input(test_set[0]):
        feeds = {"data": x[np.newaxis]}
        assert np.array_equal(package.run(feeds)["fc"], session.run(["fc"], feeds)[0])
