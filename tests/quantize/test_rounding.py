"""Adaptive rounding: its objective by the definition, never worse than nearest, and no single choice better."""

from __future__ import annotations

import re
from itertools import product
from typing import Any

import numpy as np
import onnx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.quantize.builders import build, node, noise_samples, normal, run

from tilewright.errors import DataError
from tilewright.quantize import QuantizeOptions, find_units, quantize_onnx
from tilewright.quantize.adaptive import FEWEST_SAMPLES, Layer
from tilewright.quantize.graph import Graph
from tilewright.quantize.rounding import Doubles, bounds, damped, descend, error


def _problem(seed: int, rows: int, terms: int, samples: int) -> tuple[Doubles, ...]:
    """Weights, scales, inputs of the float and of the quantised network."""
    rng = np.random.default_rng(seed)
    mixing = rng.normal(size=(2, terms, terms))
    exact = mixing @ rng.normal(size=(2, terms, samples))
    seen = exact + 0.3 * rng.normal(size=exact.shape)
    weight = rng.normal(size=(2, rows, terms))
    scale = np.abs(weight).max(axis=-1, keepdims=True) / rng.choice([1, 3, 7])
    return weight, scale, exact, seen


def _matrices(exact: Doubles, seen: Doubles) -> tuple[Doubles, Doubles]:
    count = exact.shape[-1]
    return seen @ seen.swapaxes(1, 2) / count, seen @ exact.swapaxes(1, 2) / count


@settings(derandomize=True, deadline=None, max_examples=30)
@given(st.integers(0, 999), st.integers(1, 4), st.integers(1, 7), st.integers(1, 40))
def test_objective_is_the_mean_square_error_of_the_result(
    seed: int, rows: int, terms: int, samples: int
) -> None:
    weight, scale, exact, seen = _problem(seed, rows, terms, samples)
    gram, cross = _matrices(exact, seen)
    integers = np.rint(weight / scale)
    found = error(integers, scale, weight, gram, cross)
    target = weight @ exact
    defined = ((target - integers * scale @ seen) ** 2).mean(axis=-1) - (target**2).mean(axis=-1)
    assert np.allclose(found, defined, rtol=1e-9, atol=1e-9 * np.abs(target).max() ** 2)


@settings(derandomize=True, deadline=None, max_examples=30)
@given(st.integers(0, 999), st.integers(1, 4), st.integers(1, 7))
def test_never_worse_than_nearest_and_at_best_the_smallest_of_all(seed: int, rows: int, terms: int) -> None:
    weight, scale, exact, seen = _problem(seed, rows, terms, 30)
    gram, cross = damped(*_matrices(exact, seen))
    low, high = bounds(weight, scale, 7)
    nearest = np.clip(np.rint(weight / scale), -7, 7)
    found = descend(nearest, scale, weight, gram, cross, low, high)
    assert ((low <= found) & (found <= high)).all() and (found == np.rint(found)).all()
    after = error(found, scale, weight, gram, cross)
    slack = 1e-9 * np.abs(after).max()
    assert (after <= error(nearest, scale, weight, gram, cross) + slack).all()
    smallest = np.full(after.shape, np.inf)
    for choice in product((0.0, 1.0), repeat=terms):
        candidate = np.where(np.array(choice) == 1.0, high, low)
        smallest = np.minimum(smallest, error(candidate, scale, weight, gram, cross))
    assert (after >= smallest - slack).all()
    for k in range(terms):
        for ends in (low, high):
            single = found.copy()
            single[..., k] = ends[..., k]
            assert (after <= error(single, scale, weight, gram, cross) + slack).all()


def test_more_terms_than_a_block() -> None:
    weight, scale, exact, seen = _problem(5, 3, 150, 400)
    gram, cross = damped(*_matrices(exact, seen))
    low, high = bounds(weight, scale, 7)
    nearest = np.clip(np.rint(weight / scale), low, high)
    found = descend(nearest, scale, weight, gram, cross, low, high)
    before, after = (error(q, scale, weight, gram, cross).sum() for q in (nearest, found))
    best = error(weight / scale, scale, weight, gram, cross).sum()
    assert after - best < 0.6 * (before - best)


_CASES: dict[str, tuple[dict[str, Any], tuple[int, ...]]] = {
    "plain": ({}, (4, 6, 3, 3)),
    "pads and strides": ({"pads": [1, 0, 2, 1], "strides": [2, 1]}, (4, 6, 3, 2)),
    "dilated": ({"pads": [2, 2, 2, 2], "dilations": [2, 3]}, (4, 6, 3, 3)),
    "groups": ({"group": 3, "pads": [1, 1, 1, 1]}, (6, 2, 3, 3)),
    "depthwise": ({"group": 6, "strides": [2, 2]}, (6, 1, 2, 2)),
}


@pytest.mark.parametrize("case", _CASES)
def test_columns_times_weights_are_the_convolution(case: str) -> None:
    attributes, shape = _CASES[case]
    weight, value = normal(shape), normal((1, 6, 9, 8), 3)
    model = build([node("Conv", "x w", "y", **attributes)], {"x": value.shape}, ["y"], {"w": weight})
    graph = Graph(model)
    layer = Layer.of(graph, find_units(graph)[0], shape)
    assert layer is not None
    first, second = layer.columns([value, value], [value, 2 * value])
    whole = run(model, {"x": value})[0].astype(np.float64)
    for columns, factors in ((first, (1, 1)), (second, (1, 2))):
        results = layer.matrix(weight.astype(np.float64)) @ columns
        expected = np.concatenate([whole.reshape(shape[0], -1) * factor for factor in factors], axis=1)
        # float32 sums of at most 54 products of normal numbers, in another order.
        assert np.allclose(results.reshape(shape[0], -1), expected, atol=1e-4)


@pytest.mark.parametrize("transposed", [0, 1])
def test_columns_of_dense_layers(transposed: int) -> None:
    weight = normal((4, 7) if transposed else (7, 4))
    value = normal((1, 7), 3)
    gemm = node("Gemm", "x w", "y", transB=transposed)
    model = build([gemm], {"x": value.shape}, ["y"], {"w": weight})
    graph = Graph(model)
    layer = Layer.of(graph, find_units(graph)[0], weight.shape)
    assert layer is not None
    columns, _ = layer.columns([value], [value])
    assert np.allclose(
        layer.matrix(weight.astype(np.float64)) @ columns, run(model, {"x": value})[0].T, atol=1e-5
    )


def test_large_maps_are_sampled_at_the_same_places() -> None:
    value = normal((1, 2, 150, 150))
    model = build([node("Conv", "x w", "y")], {"x": value.shape}, ["y"], {"w": normal((3, 2, 1, 1))})
    graph = Graph(model)
    layer = Layer.of(graph, find_units(graph)[0], (3, 2, 1, 1))
    assert layer is not None
    first, second = layer.columns([value], [value])
    assert first.shape[-1] < 150 * 150 and np.array_equal(first, second)


def _deep(layers: int = 4) -> Any:
    """Convolutions with Relu between; the middle ones are below 8 bits."""
    nodes: list[onnx.NodeProto] = []
    constants: dict[str, Any] = {}
    name = "x"
    for k in range(layers):
        nodes += [
            node("Conv", f"{name} w{k} b{k}", f"c{k}", pads=[1, 1, 1, 1]),
            node("Relu", f"c{k}", f"r{k}"),
        ]
        constants |= {
            f"w{k}": normal((6, 3 if k == 0 else 6, 3, 3), k, 0.25),
            f"b{k}": normal((6,), 50 + k, 0.1),
        }
        name = f"r{k}"
    return build(nodes, {"x": (1, 3, 8, 8)}, [name], constants)


def test_results_come_nearer_to_the_float_network() -> None:
    model = _deep()
    samples = noise_samples(model, 32)

    def loss(adaptive_rounding: bool) -> float:
        options = QuantizeOptions(bits=4, adaptive_rounding=adaptive_rounding)
        quantised = quantize_onnx(model, samples, options)
        pairs = [(run(model, feed)[0], run(quantised, feed)[0]) for feed in noise_samples(model, 48)[32:]]
        return float(np.mean([((a - b) ** 2).mean() for a, b in pairs]))

    assert loss(True) < 0.8 * loss(False)


def test_too_few_samples() -> None:
    model = _deep(3)
    text = (
        f"adaptive rounding needs at least {FEWEST_SAMPLES} calibration samples, found 4;"
        " give more samples, or turn it off: adaptive_rounding=False (--rounding nearest)"
    )
    with pytest.raises(DataError, match=f"^{re.escape(text)}$"):
        quantize_onnx(model, noise_samples(model, 4), QuantizeOptions(bits=4))
    quantize_onnx(model, noise_samples(model, 4), QuantizeOptions(bits=4, adaptive_rounding=False))


def test_too_little_memory() -> None:
    nodes = [node("Conv", "x w", "c"), node("Conv", "c v", "d"), node("Conv", "d w", "y")]
    weights = {"w": normal((4, 4, 1, 1)), "v": normal((4, 4, 1, 1), 1)}
    model = build(nodes, {"x": (1, 4, 80, 80)}, ["y"], weights)
    options = QuantizeOptions(bits=4, adaptive_mebibytes=1)
    with pytest.raises(DataError, match=r"needs \d+ MiB for 16 samples, found adaptive_mebibytes=1"):
        quantize_onnx(model, noise_samples(model, 16), options)
