"""Equalisation leaves the function alone and evens ranges; bias correction removes mean errors."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
import pytest
from tests.quantize.builders import Floats, build, node, noise_samples, normal, run

from tilewright.quantize import QuantizeOptions, find_units, quantize_onnx
from tilewright.quantize.equalise import equalise, find_pairs
from tilewright.quantize.graph import Graph

MAP = (1, 8, 10, 10)


def _weights(shape: tuple[int, ...], seed: int, spread: float = 3.0) -> Floats:
    """Return noise whose output channels differ by factors of up to `exp(spread)`."""
    factors = np.exp(np.random.default_rng(seed + 50).uniform(-spread / 2, spread / 2, shape[0]))
    return np.asarray(normal(shape, seed) * factors.reshape(-1, *[1] * (len(shape) - 1)), np.float32)


def _separable(activation: str = "Relu", **attributes: Any) -> onnx.ModelProto:
    """1x1, depthwise 3x3, 1x1: channels of very different size."""
    inner = {"slope": "slope"}.get(activation, "")
    nodes = [
        node("Conv", "x w1 b1", "c1"),
        node(activation, f"c1 {inner}".strip(), "a1", **attributes),
        node("Conv", "a1 w2 b2", "c2", group=8, pads=[1] * 4),
        node(activation, f"c2 {inner}".strip(), "a2", **attributes),
        node("MaxPool", "a2", "p", kernel_shape=[2, 2], strides=[2, 2]),
        node("Conv", "p w3", "y"),
    ]
    constants = {
        "w1": _weights((8, 8, 1, 1), 1),
        "b1": normal((8,), 2),
        "w2": _weights((8, 1, 3, 3), 3),
        "b2": normal((8,), 4),
        "w3": normal((5, 8, 1, 1), 5),
    }
    return build(nodes, {"x": MAP}, ["y"], constants)


def _error(model: onnx.ModelProto, options: QuantizeOptions) -> float:
    samples = noise_samples(model, 16)
    quantised = quantize_onnx(model, samples, options)
    return float(sum(np.square(run(quantised, feed)[0] - run(model, feed)[0]).sum() for feed in samples))


@pytest.mark.parametrize(("activation", "attributes"), [("Relu", {}), ("LeakyRelu", {"alpha": 0.2})])
def test_equalisation_keeps_the_function(activation: str, attributes: dict[str, Any]) -> None:
    graph = Graph(_separable(activation, **attributes))
    samples = noise_samples(graph.model, 8)
    pairs = find_pairs(graph, find_units(graph))
    found = [(pair.first.head.name, *(reader.head.name for reader, _ in pair.readers)) for pair in pairs]
    assert found == [("c1", "c2"), ("c2", "y")]
    changed = equalise(graph, pairs, [[*samples]])
    for feed in samples:
        before, after = run(graph.model, feed)[0], run(changed.model, feed)[0]
        # Each weight is rounded to float32 again: three layers, sums of 8 to 72 terms.
        assert np.abs(before - after).max() <= 1e-5 * np.abs(before).max()
    assert not np.array_equal(*(item.constant("w1") for item in (graph, changed)))  # type: ignore[arg-type]


def test_equalisation_before_a_depthwise_layer_gives_each_channel_the_whole_range() -> None:
    graph = Graph(_separable())
    samples = noise_samples(graph.model, 8)
    pairs = find_pairs(graph, find_units(graph))
    changed = equalise(graph, pairs[:1], [[*samples]])
    largest = np.max(
        [np.abs(run(changed.slice_model(["a1"]), feed)[0]).max(axis=(0, 2, 3)) for feed in samples], axis=0
    )
    # All but channels that would need a factor beyond 2^5.
    assert np.median(largest) == pytest.approx(largest.max(), rel=1e-4)
    before = np.max([np.abs(run(graph.slice_model(["a1"]), feed)[0]).max() for feed in samples])
    assert largest.max() == pytest.approx(before, rel=1e-5), "the tensor's range stays what it was"


def test_equalisation_helps_where_channels_differ() -> None:
    model = _separable()
    plain = _error(model, QuantizeOptions(method="minmax", equalise=False))
    assert _error(model, QuantizeOptions(method="minmax")) < 0.5 * plain


@pytest.mark.parametrize("change", ["clip", "output", "read twice", "shared weights"])
def test_pairs_that_are_left_alone(change: str) -> None:
    model = _separable()
    graph = model.graph
    if change == "clip":
        for item in graph.node:
            if item.op_type == "Relu":
                item.op_type = "Clip"
    elif change == "output":
        graph.output.extend([onnx.helper.make_tensor_value_info(name, 1, None) for name in ("a1", "a2")])
    elif change == "read twice":
        graph.node.extend([node("Tanh", "a1", "t1"), node("Tanh", "a2", "t2")])
        graph.output.extend([onnx.helper.make_tensor_value_info(name, 1, None) for name in ("t1", "t2")])
    else:
        graph.node.append(node("Conv", "x w2 b2", "z", group=8))
        graph.output.extend([onnx.helper.make_tensor_value_info("z", 1, None)])
    found = Graph(model)
    assert find_pairs(found, find_units(found)) == []


def test_several_readers_are_equalised_together() -> None:
    """A fire module: one squeeze layer, two expanding ones."""
    nodes = [
        node("Conv", "x w1", "c"),
        node("Relu", "c", "r"),
        node("Conv", "r w2", "y"),
        node("MaxPool", "r", "p", kernel_shape=[2, 2]),
        node("Conv", "p w3", "z"),
    ]
    constants = {
        "w1": _weights((8, 8, 1, 1), 1),
        "w2": normal((4, 8, 1, 1), 2),
        "w3": normal((4, 8, 3, 3), 3),
    }
    graph = Graph(build(nodes, {"x": MAP}, ["y", "z"], constants))
    samples = noise_samples(graph.model, 8)
    (pair,) = find_pairs(graph, find_units(graph))
    assert [reader.head.name for reader, _ in pair.readers] == ["y", "z"]
    changed = equalise(graph, [pair], [[*samples]])
    for feed in samples:
        for before, after in zip(run(graph.model, feed), run(changed.model, feed), strict=True):
            assert np.abs(before - after).max() <= 1e-5 * np.abs(before).max()
    # The rounding of the outputs themselves stays, and is most of what is left.
    assert _error(graph.model, QuantizeOptions()) < 0.9 * _error(graph.model, QuantizeOptions(equalise=False))


def test_channels_of_a_concat_are_equalised_among_all_of_it() -> None:
    """Two operators of very different range, whose results one concat hands on, through a pooling too."""
    nodes = [
        node("Conv", "x w1", "c1"),
        node("Relu", "c1", "r1"),
        node("Conv", "x w2", "c2"),
        node("Relu", "c2", "r2"),
        node("Concat", "r1 r2", "k", axis=1),
        node("Conv", "k w3", "y"),
        node("MaxPool", "k", "p", kernel_shape=[2, 2]),
        node("Conv", "p w4", "z", group=14),
    ]
    constants = {
        "w1": _weights((8, 8, 1, 1), 1),
        "w2": _weights((6, 8, 1, 1), 2) * 20,
        "w3": normal((4, 14, 1, 1), 3),
        # Two results of each channel.
        "w4": normal((28, 1, 3, 3), 4),
    }
    graph = Graph(build(nodes, {"x": MAP}, ["y", "z"], constants))
    samples = noise_samples(graph.model, 8)
    pairs = find_pairs(graph, find_units(graph))
    found = [
        (pair.tensor, pair.joined, [(r.head.name, start) for r, start in pair.readers]) for pair in pairs
    ]
    assert found == [("r1", "k", [("y", 0), ("z", 0)]), ("r2", "k", [("y", 8), ("z", 8)])]
    changed = equalise(graph, pairs, [[*samples]])
    largest = {"before": 0.0, "after": 0.0}
    for feed in samples:
        for name, network in (("before", graph), ("after", changed)):
            low = run(network.slice_model(["r1"]), feed)[0].max()
            largest[name] = max(largest[name], float(low))
        for before, after in zip(run(graph.model, feed), run(changed.model, feed), strict=True):
            assert np.abs(before - after).max() <= 1e-5 * np.abs(before).max()
    assert largest["after"] > 2 * largest["before"], "the narrow half uses more of the common range"


def test_a_concat_along_a_map_is_left_alone() -> None:
    nodes = [
        node("Conv", "x w1", "c1"),
        node("Conv", "x w2", "c2"),
        node("Concat", "c1 c2", "k", axis=2),
        node("Conv", "k w3", "y"),
    ]
    constants = {f"w{k}": normal((8, 8, 1, 1), k) for k in (1, 2, 3)}
    graph = Graph(build(nodes, {"x": MAP}, ["y"], constants))
    assert find_pairs(graph, find_units(graph)) == []


def test_equalisation_survives_dead_channels() -> None:
    model = _separable()
    constants = {item.name: item for item in model.graph.initializer}
    for name in ("w1", "b1"):
        value = onnx.numpy_helper.to_array(constants[name]).copy()
        value[2] = 0.0
        constants[name].CopyFrom(onnx.numpy_helper.from_array(value, name))
    samples = noise_samples(model, 4)
    quantised = quantize_onnx(model, samples)
    for feed in samples:
        expected = run(model, feed)[0]
        assert np.abs(run(quantised, feed)[0] - expected).max() <= 0.05 * np.abs(expected).max()


def test_bias_correction_removes_the_mean_error_of_each_channel() -> None:
    # Inputs of one sign and weights that all round down: the error has a mean.
    weight = normal((6, 8, 1, 1), 3)
    weight[:, 0] = 100.0
    model = build([node("Conv", "x w", "y")], {"x": MAP}, ["y"], {"w": weight})
    samples = [{"x": np.abs(feed["x"])} for feed in noise_samples(model, 8)]

    def means(corrected: bool) -> Floats:
        quantised = quantize_onnx(model, samples, QuantizeOptions(method="minmax", bias_correction=corrected))
        errors = [run(quantised, feed)[0] - run(model, feed)[0] for feed in samples]
        return np.asarray(np.mean(errors, axis=(0, 1, 3, 4)), np.float32)

    before, after = np.abs(means(False)), np.abs(means(True))
    # What is left is the mean of 800 output roundings, uniform in a step: 4 deviations of step/sqrt(12*800).
    step = float(np.ptp(np.concatenate([run(model, feed)[0].ravel() for feed in samples]))) / 255
    assert before.max() > 0.25 * step
    assert after.max() < 4 * step / np.sqrt(12 * 800)
