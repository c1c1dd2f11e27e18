"""Random QDQ networks: ONNX Runtime, integer level, reference and fast simulator agree as on real ones."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tests.networks.random_graphs import plans, write
from tests.relay_passes.qdq_graphs import QdqGraph

import tilewright as tw
from tilewright.benchmark.fuzz.layers import NetworkPlan
from tilewright.benchmark.levels import compare_package
from tilewright.frontend import canonicalise, load_onnx
from tilewright.integer_level import layerwise_compare
from tilewright.pipeline import compile

OVERLAYS = st.sampled_from(("ultra96-w8", "pynq-z1-w8"))
COMMON: dict[str, Any] = {"deadline": None, "derandomize": True, "suppress_health_check": list(HealthCheck)}


def check(plan: NetworkPlan, target: str) -> None:
    """All levels, and every layer on ONNX Runtime's integers."""
    model = tw.Model(canonicalise(load_onnx(write(plan))))
    package = compile(model, target)
    assert package.regions
    feeds = {
        t.name: np.random.default_rng(plan.seed).uniform(-6.5, 7.5, t.shape).astype(np.float32)
        for t in package.inputs
    }
    found = compare_package(package, model, feeds)
    assert [c for c in found if not c.equal] == []
    rows = layerwise_compare(model.proto, feeds, engine="numpy")
    assert [row for row in rows if row.largest > 1] == []


@settings(max_examples=8, **COMMON)
@given(plans(4), OVERLAYS)
def test_small_networks(plan: NetworkPlan, target: str) -> None:
    check(plan, target)


@pytest.mark.slow
@settings(max_examples=80, **COMMON)
@given(plans(9), OVERLAYS)
def test_networks(plan: NetworkPlan, target: str) -> None:
    check(plan, target)


@pytest.mark.parametrize("sign", [1, -1])
def test_phases_of_a_transposed_convolution_with_other_zero_points(sign: int) -> None:
    """The weights of a phase all have one sign, and the output's zero point leaves B no room."""
    graph = QdqGraph((1, 32, 4, 4))
    x = graph.q(graph.x, 0.05, 255)
    weights = np.full((32, 8, 2, 2), -127 * sign, np.int8)
    weights[:, :, 0] = 127 * sign
    scaled = graph.dq(graph.const(weights, "int8"), 0.01, graph.const(0, "int8"))
    y = graph.op("ConvTranspose", x, scaled, kernel_shape=[2, 2], strides=[2, 2])
    model = tw.Model(canonicalise(load_onnx(graph.model(graph.q(y, 0.05 * 0.01 * 2**15.5, 255)))))
    (found,) = compare_package(compile(model), model, graph.input())
    assert found.equal
