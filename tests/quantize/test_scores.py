"""Scores of 16 bits: which tensors are scores, and how exact they are."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
import onnx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import TensorProto, helper
from tests.quantize.builders import Feed, build, constants_of, node, noise_samples, normal, run
from tests.quantize.unit_check import check_units, parameters

from tilewright.errors import ConfigError
from tilewright.frontend.relax_import import to_relax
from tilewright.quantize import QuantizeOptions, quantize_onnx
from tilewright.quantize.scores import SCORE_HEADROOM

PLAIN = QuantizeOptions(bias_correction=False, equalise=False, exact_sums=False)
MAP = (1, 6, 4, 4)
CONSTANTS: dict[str, Any] = {
    "w": normal((5, 6, 3, 3), 1),
    "b": normal((5,), 2),
    "v": normal((6, 6, 1, 1), 3),
    "u": normal((6, 5, 1, 1), 4),
    "d": normal((6, 96), 5),
    "zero": 0.0,
    "six": 6.0,
    "slope": np.full((6, 1, 1), 0.2),
    "row": np.array([1, -1], np.int64),
    "boxes": np.array([1, -1, 2], np.int64),
    "starts": np.array([0], np.int64),
    "ends": np.array([2], np.int64),
    "axis": np.array([1], np.int64),
    "prior": normal((1, 4, 2), 6),
}
MODELS: dict[str, tuple[list[onnx.NodeProto], list[str], set[str]]] = {
    # Name: nodes, graph outputs, tensors of 16 bits.
    "dense classifier": (
        [
            node("Conv", "x v b6", "c"),
            node("Relu", "c", "r"),
            node("Flatten", "r", "f"),
            node("Gemm", "f d", "g", transB=1),
            node("Softmax", "g", "y"),
        ],
        ["y"],
        {"g"},
    ),
    "dense classifier without softmax": (
        [node("Flatten", "x", "f"), node("Gemm", "f d", "y", transB=1)],
        ["y"],
        {"y"},
    ),
    "average pool, flatten, softmax": (
        [
            node("Conv", "x w b", "c"),
            node("Relu", "c", "r"),
            node("GlobalAveragePool", "r", "p"),
            node("Flatten", "p", "f"),
            node("Softmax", "f", "y"),
        ],
        ["y"],
        {"p", "f"},
    ),
    "two heads, one read by a unit": (
        [
            node("Conv", "x w b", "h1"),
            node("Conv", "x v", "h2"),
            node("Conv", "h2 v", "c"),
            node("Tanh", "c", "t"),
        ],
        ["h1", "h2", "t"],
        {"h1"},
    ),
    "two heads, one moved to a unit": (
        [
            node("Conv", "x v", "h"),
            node("Reshape", "h row", "r"),
            node("Gemm", "r d", "g", transB=1),
        ],
        ["r", "g"],
        {"g"},
    ),
    "detection heads": (
        [
            node("Conv", "x v", "a"),
            node("Transpose", "a", "at", perm=[0, 2, 3, 1]),
            node("Reshape", "at boxes", "ar"),
            node("Conv", "x u5", "e"),
            node("Transpose", "e", "et", perm=[0, 2, 3, 1]),
            node("Reshape", "et boxes", "er"),
            node("Concat", "ar er", "k", axis=1),
            node("Softmax", "k", "s"),
        ],
        ["s", "k"],
        {"a", "at", "ar", "e", "et", "er", "k"},
    ),
    "detection heads with a constant": (
        [
            node("Conv", "x v", "a"),
            node("Reshape", "a boxes", "ar"),
            node("Concat", "ar prior", "y", axis=1),
        ],
        ["y"],
        {"a", "ar"},
    ),
    "a table's result joined with a head": (
        [
            node("Conv", "x v", "a"),
            node("Sigmoid", "x", "t"),
            node("Concat", "a t", "y", axis=1),
        ],
        ["y"],
        set(),
    ),
    "the input joined with a head": (
        [node("Conv", "x v", "a"), node("Concat", "a x", "y", axis=1)],
        ["y"],
        set(),
    ),
    "table": ([node("Conv", "x v", "c"), node("Sigmoid", "c", "y")], ["y"], set()),
    "clamp after max pool": (
        [node("Conv", "x v", "c"), node("MaxPool", "c", "p", kernel_shape=[2, 2]), node("Relu", "p", "y")],
        ["y"],
        set(),
    ),
    "max pool": (
        [node("Conv", "x v", "c"), node("MaxPool", "c", "y", kernel_shape=[2, 2])],
        ["y"],
        set(),
    ),
    "add": (
        [node("Conv", "x v", "c"), node("Add", "c x", "a"), node("Softmax", "a", "y")],
        ["y"],
        {"a"},
    ),
    "add and clip": (
        [node("Conv", "x v", "c"), node("Add", "c x", "a"), node("Clip", "a zero six", "y")],
        ["y"],
        {"y"},
    ),
    "subtract and multiply": (
        [node("Conv", "x v", "c"), node("Sub", "c x", "s"), node("Mul", "s x", "y")],
        ["y"],
        {"y"},
    ),
    "slope in the unit": (
        [node("Conv", "x v", "c"), node("PRelu", "c slope", "y")],
        ["y"],
        set(),
    ),
    "slice of a head": (
        [node("Conv", "x v", "c"), node("Slice", "c starts ends axis", "s"), node("ArgMax", "s", "y")],
        ["y"],
        {"c", "s"},
    ),
    "a clamp beside a float reader": (
        [node("Conv", "x v", "c"), node("Relu", "c", "r"), node("Softmax", "c", "s")],
        ["r", "s"],
        set(),
    ),
    "movement of the input alone": (
        [node("Reshape", "x row", "f"), node("Gemm", "f d", "y", transB=1)],
        ["f", "y"],
        {"y"},
    ),
}
CONSTANTS |= {"b6": normal((6,), 7), "u5": normal((2, 6, 3, 3), 8)}


def _model(name: str) -> onnx.ModelProto:
    nodes, outputs, _ = MODELS[name]
    used = {item for entry in nodes for item in entry.input}
    model = build(nodes, {"x": MAP}, [], {key: value for key, value in CONSTANTS.items() if key in used})
    types = {"y": TensorProto.INT64 if nodes[-1].op_type == "ArgMax" else TensorProto.FLOAT}
    model.graph.output.extend(
        helper.make_tensor_value_info(item, types.get(item, TensorProto.FLOAT), None) for item in outputs
    )
    return onnx.shape_inference.infer_shapes(model)


def _wide(model: onnx.ModelProto) -> set[str]:
    return {name for name, found in parameters(model).items() if found.bits == 16}


@pytest.mark.parametrize("name", MODELS)
def test_scores_get_16_bits_and_nothing_else_does(name: str) -> None:
    model = _model(name)
    samples = noise_samples(model)
    quantised = quantize_onnx(model, samples)
    onnx.checker.check_model(quantised, full_check=True)
    assert _wide(quantised) == MODELS[name][2]
    assert _wide(quantize_onnx(model, samples, QuantizeOptions(score_bits=8))) == set()
    plain = quantize_onnx(model, samples, PLAIN)
    for feed in samples:
        check_units(model, plain, feed)


@pytest.mark.parametrize("name", ["dense classifier", "average pool, flatten, softmax", "detection heads"])
def test_relax_runs_16_bit_scores(name: str) -> None:
    import tvm
    from tvm import relax

    model = _model(name)
    samples = noise_samples(model)
    quantised = quantize_onnx(model, samples)
    machine = relax.VirtualMachine(tvm.compile(to_relax(quantised), target="llvm"), tvm.cpu())
    found = machine["main"](tvm.runtime.tensor(samples[0]["x"]))
    values = [found] if len(model.graph.output) == 1 else list(found)
    for value, expected in zip(values, run(quantised, samples[0]), strict=True):
        # One step of 16 bits where float sums end on different sides of a tie; scores are below 200.
        np.testing.assert_allclose(value.numpy(), expected, rtol=0, atol=200 / 65535)


def test_a_tensor_with_a_producer_on_the_host_keeps_8_bits() -> None:
    nodes = [
        node("Div", "x z", "q"),
        node("Flatten", "q", "f"),
        node("Gemm", "f d", "y", transB=1),
    ]
    model = build(nodes, {"x": MAP, "z": MAP}, ["y", "f"], {"d": CONSTANTS["d"]})
    samples = [{name: np.abs(value) + 1 for name, value in feed.items()} for feed in noise_samples(model)]
    assert _wide(quantize_onnx(model, samples)) == {"y"}


def _integers(model: onnx.ModelProto, feed: Feed, name: str) -> np.ndarray[Any, Any]:
    """Return the integers that stand for tensor `name`."""
    copy = onnx.ModelProto()
    copy.CopyFrom(model)
    dtype = TensorProto.UINT16 if parameters(model)[name].bits == 16 else TensorProto.UINT8
    copy.graph.output.append(helper.make_tensor_value_info(f"{name}_quantized", dtype, None))
    return run(copy, feed, [f"{name}_quantized"])[0]


@settings(max_examples=20, deadline=None, derandomize=True)
@given(
    seed=st.integers(0, 2**31),
    spread=st.sampled_from([1e-3, 1.0, 50.0]),
    shift=st.sampled_from([-3.0, 0.0, 3.0]),
)
def test_the_rounding_of_scores_is_half_a_step_of_16_bits(seed: int, spread: float, shift: float) -> None:
    """Recompute the dense layer in integers, exactly, and round it by the parameters in the model.

    ONNX Runtime sums 96 products in float32 and divides by the scale: each operation errs by 2^-24 of the sum
    of magnitudes at most.
    """
    rng = np.random.default_rng(seed)
    weight = (rng.normal(size=(6, 96)) * spread).astype(np.float32)
    bias = (rng.normal(size=6) * spread + shift * spread).astype(np.float32)
    nodes = [node("Flatten", "x", "f"), node("Gemm", "f d b", "g", transB=1), node("Softmax", "g", "y")]
    model = build(nodes, {"x": MAP}, ["y"], {"d": weight, "b": bias})
    samples = noise_samples(model, 2)
    quantised = quantize_onnx(model, samples, PLAIN)
    found, constants = parameters(quantised), constants_of(quantised)
    scores, source = found["g"], found["f"]
    assert scores.bits == 16 and source.bits == 8 and 0 <= scores.zero_point <= 65535
    inputs = _integers(quantised, samples[0], "f").astype(np.int64) - source.zero_point
    sums = inputs @ constants["d_quantized"].astype(np.int64).T + constants["b_quantized"]
    unit = constants["b_scale"].astype(np.float64)
    exact = sums * unit
    steps = _integers(quantised, samples[0], "g").astype(np.int64) - scores.zero_point
    magnitude = (
        np.abs(inputs) @ np.abs(constants["d_quantized"].astype(np.int64)).T
        + np.abs(constants["b_quantized"])
    ) * unit
    bound = 0.5 * scores.scale + 100 * 2.0**-24 * magnitude
    low, high = (np.array([0, 65535]) - scores.zero_point) * scores.scale
    assert (np.abs(steps * scores.scale - np.clip(exact, low, high)) <= bound).all()
    # The range is that of the calibrated scores with zero and their headroom, so that the step is 257 times smaller
    # than at 8 bits, which have no headroom, but for that factor.
    calibrated = np.stack([_scores(model, feed) for feed in samples])
    width = max(calibrated.max(), 0.0) - min(calibrated.min(), 0.0)
    assert scores.scale == pytest.approx(width * SCORE_HEADROOM / 65535, rel=1e-5)
    coarse = parameters(quantize_onnx(model, samples, replace(PLAIN, score_bits=8)))["g"]
    assert coarse.scale * SCORE_HEADROOM / scores.scale == pytest.approx(257, rel=1e-6)


def _scores(model: onnx.ModelProto, feed: Feed) -> np.ndarray[Any, Any]:
    """Return the float scores `g`."""
    copy = onnx.ModelProto()
    copy.CopyFrom(model)
    copy.graph.output.append(helper.make_tensor_value_info("g", TensorProto.FLOAT, None))
    return run(copy, feed, ["g"])[0]


def test_after_relu_the_zero_point_is_zero() -> None:
    model = build(
        [node("Conv", "x v", "c"), node("Relu", "c", "r"), node("GlobalAveragePool", "r", "y")],
        {"x": MAP},
        ["y"],
        {"v": CONSTANTS["v"]},
    )
    found = parameters(quantize_onnx(model, noise_samples(model)))
    assert found["y"].bits == 16 and found["y"].zero_point == 0


def test_scores_that_8_bits_tie_stay_apart() -> None:
    """Two classes a tenth of an 8-bit step apart: argmax is the second only with 16 bits."""
    step = 100 / 255
    weight = np.eye(3, 3, dtype=np.float32)
    model = build(
        [node("Flatten", "x", "f"), node("Gemm", "f d b", "y", transB=1)],
        {"x": (1, 3, 1, 1)},
        ["y"],
        {"d": weight, "b": [100.0, 100.0 + step / 10, 0.0]},
    )
    samples: list[Feed] = [{"x": np.array([0.0, 0.0, -1.0], np.float32).reshape(1, 3, 1, 1)}]
    top = {
        bits: int(
            np.argmax(run(quantize_onnx(model, samples, QuantizeOptions(score_bits=bits)), samples[0])[0])
        )
        for bits in (8, 16)
    }
    assert top == {8: 0, 16: 1}


def test_other_widths_are_refused() -> None:
    with pytest.raises(ConfigError) as caught:
        QuantizeOptions(score_bits=12)  # type: ignore[arg-type]
    assert str(caught.value) == "score_bits=12: expected 8 or 16"
