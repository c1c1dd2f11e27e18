"""Layers of QONNX networks at the integer level: bit for bit ONNX Runtime where scales are powers of two."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np
import onnx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.frontend.qonnx_nodes.graphs import imported, model_of, node
from tilewright.integer.parse import kind_of, parse
from tilewright.integer_level import integer_module, layerwise_compare
from tilewright.relay_passes.partition import composite_calls
from tilewright.relay_passes.placement import Placement

SHAPE = (1, 4, 8, 8)
FEW = settings(max_examples=25, deadline=None, derandomize=True)
ONE_SIDED = ("ROUND", "FLOOR", "CEIL", "HALF_UP", "HALF_DOWN", "UP", "DOWN")
SIGNED = ONE_SIDED[:5]


class Graph:
    """`x` quantised to `bits`, unsigned, by 1/4; weights of 4 bits by powers of two."""

    def __init__(self, seed: int, bits: int = 4) -> None:
        self.rng = np.random.default_rng(seed)
        self.constants: dict[str, Any] = {"s": 0.25, "z": 0, "b": bits}
        self.nodes = [node("Quant", ["x", "s", "z", "b"], "q", signed=0, narrow=0)]

    def const(self, name: str, value: Any) -> str:
        self.constants[name] = value
        return name

    def op(self, kind: str, inputs: Sequence[str], output: str, **attrs: Any) -> str:
        self.nodes.append(node(kind, inputs, output, "", **attrs))
        return output

    def conv(self, per_channel: bool) -> str:
        scale: Any = np.float32(0.125)
        if per_channel:
            scale = np.exp2(self.rng.integers(-5, -1, (6, 1, 1, 1))).astype(np.float32)
        weights = self.rng.integers(-7, 8, (6, 4, 3, 3)) * scale
        names = [
            self.const("w", weights.astype(np.float32)),
            self.const("ws", scale),
            "z",
            self.const("wb", 4),
        ]
        self.nodes.append(node("Quant", names, "wq", signed=1, narrow=1))
        return self.op("Conv", ["q", "wq"], "c", pads=[1, 1, 1, 1])

    def quant(self, x: str, scale: float, zero: int, bits: int, signed: bool, mode: str) -> None:
        names = [x, self.const("os", scale), self.const("oz", zero), self.const("ob", bits)]
        attrs: dict[str, Any] = {"signed": int(signed), "narrow": 0, "rounding_mode": mode}
        self.nodes.append(node("Quant", names, "y", **attrs))

    def model(self) -> onnx.ModelProto:
        return imported(model_of(self.nodes, self.constants, SHAPE))

    def feeds(self) -> dict[str, Any]:
        return {"x": self.rng.uniform(-0.5, 4, SHAPE).astype(np.float32)}


def check(graph: Graph, kinds: list[str] | None = None) -> None:
    """Every layer is lowered, and gives the integers of ONNX Runtime."""
    model = graph.model()
    module = integer_module(model)
    refused = {k: str(r) for k, r in Placement.of(module["main"]).refused.items() if "x is not" not in str(r)}
    assert not refused, refused
    if kinds is not None:
        assert [kind_of(f) for _, f in composite_calls(module)] == kinds
    rows = layerwise_compare(model, graph.feeds(), module, engine="numpy")
    assert rows
    for row in rows:
        assert (row.equal, row.largest) == (row.elements, 0), row


@FEW
@given(
    seed=st.integers(0, 1000),
    mode=st.sampled_from(SIGNED),
    per_channel=st.booleans(),
    zero=st.integers(-3, 3),
    bits=st.integers(2, 8),
    exponent=st.integers(-3, 2),
)
def test_signed_convolution(
    seed: int, mode: str, per_channel: bool, zero: int, bits: int, exponent: int
) -> None:
    graph = Graph(seed)
    graph.quant(graph.conv(per_channel), 2.0**exponent, zero, bits, True, mode)
    check(graph, ["conv2d"])


@FEW
@given(
    seed=st.integers(0, 1000),
    mode=st.sampled_from(ONE_SIDED),
    zero=st.integers(0, 3),
    top=st.sampled_from([None, 1.75, 3.0]),
    exponent=st.integers(-3, 2),
)
def test_unsigned_convolution(seed: int, mode: str, zero: int, top: float | None, exponent: int) -> None:
    """Relu, or the learned clip of PACT, before an unsigned quantiser."""
    graph = Graph(seed)
    x = graph.conv(True)
    if top is None:
        x = graph.op("Relu", [x], "r")
    else:
        x = graph.op("Clip", [x, graph.const("lo", 0.0), graph.const("hi", top)], "r")
    graph.quant(x, 2.0**exponent, zero, 4, False, mode)
    check(graph, ["conv2d"])


def channels(graph: Graph, name: str, low: int, high: int) -> str:
    """Powers of two, one a channel; some of the factors negative."""
    signs = graph.rng.choice([-1, 1], (6, 1, 1))
    return graph.const(name, (signs * np.exp2(graph.rng.integers(low, high, (6, 1, 1)))).astype(np.float32))


@pytest.mark.parametrize("form", ["clip", "relu_min", "max_min", "minus_plus", "magnitudes"])
@pytest.mark.parametrize("seed", [0, 1])
def test_affine_and_learned_clip_merge(form: str, seed: int) -> None:
    """Factors and offsets a channel, then the clip of PACT as exporters write it, are one requantisation."""
    graph = Graph(seed)
    x = graph.op("Mul", [graph.conv(True), channels(graph, "f", -2, 2)], "m")
    x = graph.op("Sub", [x, channels(graph, "o", -2, 1)], "n")
    low, high = graph.const("low", 0.0), graph.const("high", 3.25)
    if form == "clip":
        x = graph.op("Clip", [x, low, high], "r")
    elif form == "relu_min":
        x = graph.op("Min", [graph.op("Relu", [x], "p"), high], "r")
    elif form == "max_min":
        x = graph.op("Min", [high, graph.op("Max", [low, x], "p")], "r")
    elif form == "magnitudes":  # (|x| - |x - alpha| + alpha) / 2
        rest = graph.op("Abs", [graph.op("Sub", [x, high], "p")], "v")
        x = graph.op("Add", [graph.op("Sub", [graph.op("Abs", [x], "a"), rest], "d"), high], "u")
        x = graph.op("Mul", [x, graph.const("half", 0.5)], "r")
    else:  # alpha - relu(alpha - relu(x))
        x = graph.op("Sub", [high, graph.op("Relu", [x], "p")], "u")
        x = graph.op("Sub", [high, graph.op("Relu", [x], "v")], "r")
    graph.quant(x, 0.25, 0, 4, False, "ROUND")
    check(graph, ["conv2d"])


@pytest.mark.parametrize("seed", [0, 1])
def test_batch_norm_merges(seed: int) -> None:
    """Any scales: 4 bits are exact but for ties within float32's rounding, of which these have none."""
    graph = Graph(seed)
    x, rng = graph.conv(True), graph.rng
    draws = {
        "gain": rng.normal(size=6),
        "shift": rng.normal(size=6),
        "mean": rng.normal(size=6),
        "var": rng.uniform(0.1, 2, 6),
    }
    names = [graph.const(n, a.astype(np.float32)) for n, a in draws.items()]
    x = graph.op(
        "Clip",
        [graph.op("BatchNormalization", [x, *names], "n"), graph.const("lo", 0.0), graph.const("hi", 2.71)],
        "r",
    )
    graph.quant(x, 2.71 / 15, 0, 4, False, "ROUND")
    check(graph, ["conv2d"])


REFUSED: dict[str, tuple[dict[str, Any], str, str]] = {
    "channels": (
        {"s": np.full((1, 4, 1, 1), 0.25, np.float32)},
        "it has 4 scales and not one for the tensor",
        "quantise activations per tensor; per channel is for weights",
    ),
}


@pytest.mark.parametrize("case", REFUSED)
def test_operands_that_the_machine_does_not_hold(case: str) -> None:
    constants, why, remedy = REFUSED[case]
    graph = Graph(1)
    graph.nodes[0] = node("Quant", ["x", "s", "z", "b"], "q", signed=1, narrow=0)
    graph.constants.update(constants)
    graph.quant(graph.conv(False), 0.25, 0, 4, False, "ROUND")
    placement = Placement.of(integer_module(graph.model())["main"])
    (refused,) = {r for r in placement.refused.values() if "x is not" not in str(r)}
    assert str(refused) == f"all operands must be quantised tensors, q is not, found {why}"
    assert refused.remedy == remedy


def bipolar(seed: int, between: str) -> Graph:
    """One-bit operand, weights and result; `between` a convolution and its quantiser."""
    graph = Graph(seed)
    graph.nodes[0] = node("BipolarQuant", ["x", "s"], "q")
    weights = graph.const("w", graph.rng.normal(size=(6, 4, 3, 3)).astype(np.float32))
    graph.nodes.append(node("BipolarQuant", [weights, graph.const("ws", 0.5)], "wq"))
    x = graph.op("Conv", ["q", "wq"], "c", pads=[1, 1, 1, 1])
    along = (6, 1, 1)
    if between == "norm":
        gain = np.where(np.arange(6) == 2, 0, graph.rng.normal(size=6)).astype(np.float32)
        names = [graph.const("gain", gain), graph.const("shift", graph.rng.normal(size=6).astype(np.float32))]
        names += [
            graph.const("mean", graph.rng.normal(size=6).astype(np.float32)),
            graph.const("var", np.ones(6, np.float32)),
        ]
        x = graph.op("BatchNormalization", [x, *names], "n")
    elif between == "threshold":
        x = graph.op(
            "Sub", [x, graph.const("t", graph.rng.integers(-8, 8, along).astype(np.float32) / 4)], "n"
        )
    elif between == "falling":
        x = graph.op("Neg", [x], "n")
    elif between == "clip":
        x = graph.op("Clip", [x, graph.const("lo", -0.5), graph.const("hi", 0.5)], "n")
    elif between == "relu":
        x = graph.op("Relu", [x], "n")
    elif between == "pool":
        x = graph.op("MaxPool", ["q"], "n", kernel_shape=[2, 2])
    graph.nodes.append(node("BipolarQuant", [x, "s"], "y"))
    return graph


@pytest.mark.parametrize("between", ["", "norm", "threshold", "falling", "clip", "relu"])
@pytest.mark.parametrize("seed", [0, 1])
def test_one_bit(between: str, seed: int) -> None:
    """Sums of 0 are common here and give +1; a channel without gain is a constant; results are odd numbers."""
    graph = bipolar(seed, between)
    check(graph, ["conv2d"])
    for _, function in composite_calls(integer_module(graph.model())):
        r = parse(function).rescale  # type: ignore[attr-defined]
        one = np.int64(1) << r.s
        assert not (r.m % (2 * one)).any() and ((r.b % (2 * one)) == one).all()


def test_one_bit_of_a_pool() -> None:
    check(bipolar(1, "pool"))


def test_one_bit_of_a_sum_of_tensors_is_refused() -> None:
    graph = bipolar(1, "")
    graph.nodes.pop()
    graph.nodes.append(node("BipolarQuant", ["c", "s"], "d"))
    graph.op("Neg", ["c"], "n")
    graph.nodes.append(node("BipolarQuant", ["n", "s"], "e"))
    graph.op("Add", ["d", "e"], "sum")
    graph.nodes.append(node("BipolarQuant", ["sum", "s"], "y"))
    module = integer_module(graph.model())
    found = {str(r) for r in Placement.of(module["main"]).refused.values() if "x is not" not in str(r)}
    assert found == {"a sum of two tensors must be rounded to more than one bit, found one bit"}


@pytest.mark.parametrize("mode", SIGNED)
@pytest.mark.parametrize("second", [False, True])
def test_truncated_average(mode: str, second: bool) -> None:
    """The average pool of Brevitas: a sum, its low bits dropped."""
    graph = Graph(3, bits=4)
    pooled = graph.op("AveragePool", ["q"], "p", kernel_shape=[2, 2], strides=[2, 2])
    total = graph.op("Mul", [pooled, graph.const("k", 4.0)], "t")
    widths = [graph.const("before", 6), graph.const("after", 4)]
    if second:
        names = [total, "s", "z", widths[0], graph.const("s2", 1.0), widths[1]]
        graph.nodes.append(node("Trunc", names, "y", rounding_mode=mode, signed=0))
    else:
        graph.nodes.append(node("Trunc", [total, "s", "z", *widths], "y", rounding_mode=mode))
    check(graph, ["sum_pool2d"])


def test_a_sum_at_the_end_is_closed() -> None:
    graph = Graph(1)
    graph.op("Mul", [graph.conv(False), graph.const("k", 3.0)], "y")
    check(graph, ["conv2d"])


def test_rounding_of_negative_magnitudes_is_refused() -> None:
    graph = Graph(1)
    graph.quant(graph.conv(False), 0.3, 0, 4, True, "DOWN")
    module = integer_module(graph.model())
    (refused,) = {str(r) for r in Placement.of(module["main"]).refused.values() if "x is not" not in str(r)}
    assert refused == (
        "numbers that may be negative must be rounded to the nearest, down or up, found floor of magnitudes"
    )
