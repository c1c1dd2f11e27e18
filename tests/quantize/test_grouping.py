"""Which tensors share a scale, and the ranges of groups."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
import pytest
from tests.quantize.builders import Feed, build, node, normal
from tests.quantize.unit_check import Quantised, check_units, parameters

from tilewright.quantize import QuantizeOptions, quantize_onnx

PLAIN = QuantizeOptions(method="minmax", bias_correction=False, equalise=False, exact_sums=False)
MAP = (1, 2, 4, 4)


def _uniform(low: float, high: float, shape: tuple[int, ...] = MAP) -> np.ndarray[Any, np.dtype[np.float32]]:
    return np.linspace(low, high, int(np.prod(shape)), dtype=np.float32).reshape(shape)


def _quantise(model: onnx.ModelProto, feed: Feed, options: QuantizeOptions = PLAIN) -> dict[str, Quantised]:
    quantised = quantize_onnx(model, [feed], options)
    check_units(model, quantised, feed)
    return parameters(quantised)


def _shared(found: dict[str, Quantised], *names: str) -> bool:
    return len({found[name].names for name in names}) == 1


def test_concats_with_a_common_input_form_one_group() -> None:
    # Fire modules side by side: b feeds two concats, so that all five tensors have one scale.
    nodes = [
        node("Sqrt", "x", "a"),
        node("Sigmoid", "x", "b"),
        node("Mul", "x x", "c"),
        node("Concat", "a b", "y", axis=1),
        node("Concat", "b c", "z", axis=1),
    ]
    model = build(nodes, {"x": MAP}, ["y", "z"])
    found = _quantise(model, {"x": _uniform(0, 2)})
    assert _shared(found, "b", "c", "y", "z", "a")
    assert found["y"].scale == pytest.approx(4 / 255) and found["y"].zero_point == 0


@pytest.mark.parametrize(("ratio", "shared"), [(1.0, False), (7.9, False), (8.1, True)])
def test_a_concat_gives_way_to_other_readers(ratio: float, shared: bool) -> None:
    # t in [0, 1] is multiplied too; joining v in [0, 8] would cost it three bits.
    nodes = [
        node("Abs", "x", "t"),
        node("Concat", "t v", "k", axis=1),
        node("Mul", "t x", "m"),
        node("Concat", "k m", "y", axis=1),
    ]
    model = build(nodes, {"x": MAP, "v": MAP}, ["y"])
    feed = {"x": _uniform(0.0, 1.0), "v": _uniform(0.0, 8.0)}
    found = _quantise(model, feed, QuantizeOptions(method="minmax", share_ratio=ratio))
    assert _shared(found, "t", "k") is shared
    assert _shared(found, "v", "k") and _shared(found, "k", "y")


def test_an_input_that_only_the_concat_reads_always_joins() -> None:
    nodes = [node("Mul", "x small", "t"), node("Concat", "t v", "y", axis=1)]
    model = build(nodes, {"x": MAP, "v": MAP}, ["y"], {"small": 0.001})
    found = _quantise(model, {"x": _uniform(-1, 1), "v": _uniform(-1, 1)})
    assert _shared(found, "t", "v", "y")


def test_a_convolution_before_pooling_and_relu_needs_no_negative_numbers() -> None:
    nodes = [
        node("Conv", "x w", "c"),
        node("MaxPool", "c", "p", kernel_shape=[2, 2]),
        node("Relu", "p", "y"),
    ]
    model = build(nodes, {"x": (1, 2, 8, 8)}, ["y"], {"w": normal((3, 2, 3, 3))})
    found = _quantise(model, {"x": normal((1, 2, 8, 8), 3)})
    assert _shared(found, "c", "p", "y")
    assert found["c"].zero_point == 0


def test_a_relu_beside_another_reader_leaves_the_range_whole() -> None:
    nodes = [node("Tanh", "x", "c"), node("Relu", "c", "r"), node("Mul", "r v", "m"), node("Mul", "c m", "y")]
    model = build(nodes, {"x": MAP, "v": MAP}, ["y"])
    found = _quantise(model, {"x": _uniform(-3, 3), "v": _uniform(-3, 3)})
    assert _shared(found, "c", "r")
    assert found["c"].zero_point == pytest.approx(127.5, abs=1)


def test_a_clamp_shares_whatever_it_keeps_and_a_concat_sees_the_group_as_one() -> None:
    nodes = [
        node("Mul", "x two", "c"),
        node("Relu", "c", "r"),
        node("Mul", "c v", "m"),
        node("Concat", "r v", "k", axis=1),
        node("Concat", "k m", "y", axis=1),
    ]
    model = build(nodes, {"x": MAP, "v": MAP}, ["y"], {"two": 2.0})
    found = _quantise(model, {"x": _uniform(-100, 1), "v": _uniform(0, 100)})
    # r alone spans 2, but has c's resolution of 202 steps already: the concat with [0, 100] costs nothing.
    assert _shared(found, "c", "r", "k")


@pytest.mark.parametrize("share", [False, True])
def test_average_pooling_shares_on_request(share: bool) -> None:
    nodes = [node("Relu", "x", "r"), node("AveragePool", "r", "y", kernel_shape=[2, 2], strides=[2, 2])]
    model = build(nodes, {"x": MAP}, ["y"])
    options = QuantizeOptions(method="minmax", bias_correction=False, equalise=False, share_average=share)
    assert _shared(_quantise(model, {"x": _uniform(-3, 3)}, options), "r", "y") is share


@pytest.mark.parametrize(
    ("low", "high", "zero_point"),
    [(0.0, 5.0, 0), (-5.0, 0.0, 255), (-1.0, 1.0, 128), (2.0, 5.0, 0), (-5.0, -2.0, 255)],
)
def test_zero_is_always_representable(low: float, high: float, zero_point: int) -> None:
    model = build([node("Tanh", "x", "y")], {"x": MAP}, ["y"])
    found = _quantise(model, {"x": _uniform(low, high)})
    assert found["x"].zero_point == zero_point
    assert found["x"].scale == pytest.approx((max(high, 0.0) - min(low, 0.0)) / 255)


def test_a_tensor_that_was_always_zero_gets_the_unit_range() -> None:
    model = build([node("Relu", "x", "r"), node("Tanh", "r", "y")], {"x": MAP}, ["r", "y"])
    found = _quantise(model, {"x": _uniform(-4, -1)})
    assert found["r"].zero_point in (0, 255) and found["y"].scale == pytest.approx(1 / 255)
