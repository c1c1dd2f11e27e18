"""QCDQ graphs of mixed widths: the integer level is the quantised model's, and so are the simulators."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

import tilewright as tw
from tests.relay_passes.qdq_graphs import QdqGraph
from tilewright.benchmark.levels import compare_package
from tilewright.evaluation import onnx_session
from tilewright.frontend import canonicalise, load_onnx
from tilewright.integer_level import layerwise_compare
from tilewright.pipeline import compile
from tilewright.relay_passes.supported import supported_rows
from tilewright.runtime import Session
from tilewright.targets.config import overlay


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


NETWORKS = [
    ("uint8", 4, "ultra96-w4"),
    ("int8", 2, "ultra96-a8w4"),
    *(
        pytest.param(dtype, bits, target, marks=pytest.mark.slow)
        for dtype, bits in (("int8", 4), ("uint8", 2))
        for target in ("ultra96-w4", "ultra96-a8w4", "ultra96-w8")
    ),
]


@pytest.mark.parametrize(("dtype", "bits", "target"), NETWORKS)
def test_low_bit_networks(dtype: str, bits: int, target: str) -> None:
    """One region; integer level, reference and fast simulator agree bit for bit."""
    g, y = convnet(dtype, bits)
    model = built(g, y)
    package = compile(model, target)
    assert len(package.regions) == 1
    found = compare_package(package, model, g.input())
    assert [c for c in found if not c.equal] == []


@pytest.mark.parametrize("seed", range(2))
@pytest.mark.parametrize(("dtype", "bits"), [("uint8", 4), ("int8", 4), ("uint8", 2), ("int8", 2)])
def test_layers_of_few_bits_are_onnx_runtimes(dtype: str, bits: int, seed: int) -> None:
    """Each layer on ONNX Runtime's own integers: no result of 4 bits or fewer differs, one of 8 by a step at most."""
    g, y = convnet(dtype, bits, seed)
    rows = layerwise_compare(built(g, y).proto, g.input(), engine="numpy")
    assert len(rows) > 5
    assert [row for row in rows[:4] if row.largest] == []
    assert [row for row in rows if row.largest > 1] == []


def test_sixteen_bits_between_layers() -> None:
    """Activations of 16 bits are two planes of an 8-bit overlay and four of a 4-bit one."""
    g = QdqGraph((1, 3, 12, 12), "int8")
    x = g.q(g.op("Conv", g.x, g.weights((24, 3, 3, 3), bits=4), pads=[1, 1, 1, 1]), 0.0002, -7, "int16")
    x = g.op("MaxPool", x, kernel_shape=[2, 2], strides=[2, 2])
    x = g.q(
        g.op("Conv", x, g.weights((24, 1, 3, 3), bits=4), pads=[1, 1, 1, 1], group=24), 0.0003, 5, "int16"
    )
    y = g.q(g.op("Conv", x, g.weights((30, 24, 1, 1), bits=4)), 0.01, 3, "uint8")
    model = built(g, y)
    for target in ("ultra96-w8", "ultra96-w4"):
        package = compile(model, target)
        assert [len(package.regions), *(c.equal for c in compare_package(package, model, g.input()))] == [
            1,
            True,
        ]
    rows = layerwise_compare(model.proto, g.input(), engine="numpy")
    assert [row for row in rows if row.largest > 1] == []


def signs(g: QdqGraph) -> str:
    """Weights and activations of -1 and +1; the sign of a BatchNorm, whose factors have both signs, over sums."""

    def norm(x: str, channels: int) -> str:
        shape = (1, channels, 1, 1)
        gain = g.const(g.rng.uniform(-1, 1, shape))
        return g.op("Add", g.op("Mul", x, gain), g.const(g.rng.uniform(-2, 2, shape)))

    x = g.sign("input")
    x = g.sign(norm(g.op("Conv", x, g.weights((40, 4, 3, 3), None, bits=1), pads=[1, 1, 1, 1]), 40), 0.5)
    x = g.op("MaxPool", x, kernel_shape=[2, 2], strides=[2, 2])
    x = g.sign(norm(g.op("Conv", x, g.weights((130, 40, 1, 1), None, bits=1)), 130))
    x = g.op("Flatten", x)
    return g.q(g.op("MatMul", x, g.weights((130 * 9, 10), None, bits=1)), 0.05, 0, "int8")


@pytest.mark.parametrize("target", ["ultra96-w1", "ultra96-w4", "ultra96-w8"])
def test_signs(target: str) -> None:
    """One region on every overlay; all levels agree, and with ONNX Runtime too: no sum of integers is near a half."""
    g = QdqGraph((1, 4, 6, 6), "int8")
    g.nodes.clear()
    model = built(g, signs(g))
    package = compile(model, target)
    assert [layout.bits for layout in package.regions[0].inputs] == [
        {"ultra96-w1": 1, "ultra96-w4": 4}.get(target, 8)
    ]
    (found,) = compare_package(package, model, g.input())
    assert found.equal
    rows = layerwise_compare(model.proto, g.input(), engine="numpy")
    assert [row for row in rows if row.largest > 0] == []


OVERFLOWS = {
    "ultra96-w4": ("sums must fit 27 bits (at most 67108863), found ", "255"),
    "ultra96-w1": ("sums must fit 16 bits (at most 32767), found 40000", "1"),
}


@pytest.mark.parametrize("target", OVERFLOWS)
def test_a_sum_that_could_overflow(target: str) -> None:
    """It stays on the host, with what it comes to, the layer, and what to do."""
    g = QdqGraph((1, 40000), "uint8")
    one = target == "ultra96-w1"
    x = g.sign("input") if one else g.x
    y = g.op("MatMul", x, g.weights((40000, 4), None, bits=1 if one else 8))
    rows = supported_rows(built(g, g.q(y, 0.5, 0)).proto, overlay(target))
    (row,) = [row for row in rows if row.op == "MatMul"]
    assert row.place == "host"
    assert row.reason.startswith(OVERFLOWS[target][0])
    assert row.remedy


@pytest.mark.parametrize(
    ("name", "target"),
    [("TFC_1W1A", "ultra96-w1"), ("TFC_1W1A", "ultra96-w4"), ("TFC_2W2A", "ultra96-w4")],
)
def test_fully_connected_networks_of_one_and_two_bits(shared_data: Path, name: str, target: str) -> None:
    """One region, whose scores are ONNX Runtime's of the converted model, bit for bit."""
    model = tw.load(shared_data / "onnx" / "qonnx" / f"{name}.onnx")
    package = compile(model, target)
    assert len(package.regions) == 1
    (tensor,) = package.inputs
    feeds = {tensor.name: np.random.default_rng(0).uniform(0, 1, tensor.shape).astype(np.float32)}
    (expected,) = onnx_session(model.proto.SerializeToString(), exact=True).run(None, feeds)
    (found,) = Session(package).run(feeds).outputs.values()
    np.testing.assert_array_equal(found, expected)
