"""QCDQ graphs of mixed widths: the integer level is the quantised model's, and so are the simulators."""

from __future__ import annotations

import pytest

import tilewright as tw
from tests.relay_passes.qdq_graphs import QdqGraph
from tilewright.benchmark.levels import compare_package
from tilewright.frontend import canonicalise, load_onnx
from tilewright.integer_level import layerwise_compare
from tilewright.pipeline import compile


def convnet(dtype: str, bits: int, seed: int = 0) -> tuple[QdqGraph, str]:
    """First and last layers of 8 bits; `bits` between them, also of the weights."""
    g = QdqGraph((1, 3, 16, 16), "int8", seed)
    low = 0 if dtype == "uint8" else -(1 << (bits - 1))

    def act(x: str, scale: float) -> str:
        return g.q(g.op("Relu", x) if low == 0 else x, scale, 0, dtype, bits)

    x = act(
        g.op("Conv", g.x, g.weights((24, 3, 3, 3)), pads=[1, 1, 1, 1], strides=[2, 2]), 0.3 * 16 / (1 << bits)
    )
    x = g.op("MaxPool", x, kernel_shape=[2, 2], strides=[2, 2])
    y = act(g.op("Conv", x, g.weights((40, 24, 1, 1), bits=bits)), 0.02 * 16 / (1 << bits))
    y = act(g.op("Conv", y, g.weights((24, 40, 3, 3), bits=bits), pads=[1, 1, 1, 1]), 0.02)
    z = act(g.op("Add", x, y), 0.3 * 16 / (1 << bits))
    z = g.op("Conv", z, g.weights((32, 24, 1, 1), bits=bits))
    z = g.q(g.op("GlobalAveragePool", g.q(g.op("Relu", z), 0.02, 0, "uint8")), 0.02, 0, "uint8")
    y = g.q(g.op("Gemm", g.op("Flatten", z), g.weights((32, 10), axis=1)), 0.02, 0, "int8")
    return g, y


def built(g: QdqGraph, *results: str) -> tw.Model:
    return tw.Model(canonicalise(load_onnx(g.model(*results))))


@pytest.mark.parametrize("target", ["ultra96-w4", "ultra96-a8w4", "ultra96-w8"])
@pytest.mark.parametrize(("dtype", "bits"), [("uint8", 4), ("int8", 4), ("uint8", 2), ("int8", 2)])
def test_low_bit_networks(dtype: str, bits: int, target: str) -> None:
    """One region; integer level, reference and fast simulator agree bit for bit."""
    g, y = convnet(dtype, bits)
    model = built(g, y)
    package = compile(model, target)
    assert len(package.regions) == 1
    found = compare_package(package, model, g.input())
    assert [c for c in found if not c.equal] == []


@pytest.mark.parametrize("seed", range(4))
@pytest.mark.parametrize(("dtype", "bits"), [("uint8", 4), ("int8", 4), ("uint8", 2), ("int8", 2)])
def test_layers_of_few_bits_are_onnx_runtimes(dtype: str, bits: int, seed: int) -> None:
    """Each layer on ONNX Runtime's own integers: no result of 4 bits or fewer differs, one of 8 by a step at most."""
    g, y = convnet(dtype, bits, seed)
    rows = layerwise_compare(built(g, y).proto, g.input(), engine="numpy")
    assert len(rows) > 5
    assert [row for row in rows[:4] if row.largest] == []
    assert [row for row in rows if row.largest > 1] == []
