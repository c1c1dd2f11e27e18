"""Short scales: ONNX Runtime's float sums are the integers' sums, and the network stays what it was."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.quantize.builders import build, constants_of, node, noise_samples, normal, run
from tests.quantize.unit_check import parameters

from tilewright.integer_level import layerwise_compare
from tilewright.quantize import QuantizeOptions, find_units, quantize_onnx
from tilewright.quantize.exact import multiply, odd_part, weight_scales
from tilewright.quantize.graph import Graph

OLD = QuantizeOptions(exact_sums=False)


def _bits(value: float) -> int:
    """Bits of a mantissa without its zeros at the end."""
    numerator = abs(value.as_integer_ratio()[0])
    return (numerator // (numerator & -numerator)).bit_length()


def _network(seed: int, channels: int, side: int, pool: str, kernel: int, spread: float) -> onnx.ModelProto:
    """Convolutions, one of them depthwise, with a residual sum, a concat, pooling and a dense layer."""
    pools: dict[str, dict[str, Any]] = {
        "AveragePool": {
            "kernel_shape": [kernel] * 2,
            "strides": [2, 2],
            "ceil_mode": 1,
            "count_include_pad": 1,
        },
        "MaxPool": {"kernel_shape": [kernel] * 2, "strides": [2, 2]},
    }
    nodes = [
        node("Conv", "x w1 b1", "c1", pads=[1] * 4),
        node("Relu", "c1", "r1"),
        node("Conv", "r1 w2 b2", "c2", pads=[1] * 4, group=channels),
        node("Clip", "c2 zero six", "r2"),
        node("Conv", "r2 w3 b3", "c3"),
        node("Add", "r1 c3", "a"),
        node("Relu", "a", "r3"),
        node("Concat", "r3 r2", "k", axis=1),
        node(pool, "k", "p", **pools[pool]),
        node("Conv", "p w4 b4", "c4", pads=[1] * 4),
        node("LeakyRelu", "c4", "r4", alpha=0.25),
        node("GlobalAveragePool", "r4", "g"),
        node("Flatten", "g", "f"),
        node("Gemm", "f w5 b5", "y", transB=1),
    ]
    shapes = {
        "1": (channels, 3, 3, 3),
        "2": (channels, 1, 3, 3),
        "3": (channels, channels, 1, 1),
        "4": (channels, 2 * channels, 3, 3),
        "5": (10, channels),
    }
    constants: dict[str, Any] = {"zero": 0.0, "six": 6.0}
    for k, shape in shapes.items():
        factors = np.exp(np.random.default_rng(seed).uniform(-spread, spread, shape[0]))
        weight = normal(shape, seed + int(k), 1 / np.sqrt(np.prod(shape[1:])))
        constants[f"w{k}"] = weight * factors.reshape(-1, *[1] * (len(shape) - 1))
        constants[f"b{k}"] = normal((shape[0],), seed + 10 + int(k), 0.3)
    return build(nodes, {"x": (1, 3, side, side)}, ["y"], constants)


@settings(max_examples=25, deadline=None, derandomize=True)
@given(
    seed=st.integers(0, 1000),
    channels=st.integers(4, 24),
    side=st.sampled_from([8, 11, 12, 14, 16]),
    pool=st.sampled_from(["AveragePool", "MaxPool"]),
    kernel=st.integers(2, 3),
    spread=st.sampled_from([0.0, 1.0]),
)
def test_every_element_of_every_layer_is_that_of_onnx_runtime(
    seed: int, channels: int, side: int, pool: str, kernel: int, spread: float
) -> None:
    model = _network(seed, channels, side, pool, kernel, spread)
    samples = noise_samples(model, 4)
    quantised = quantize_onnx(model, samples)
    rows = layerwise_compare(quantised, samples[0], engine="numpy")
    assert rows and [row for row in rows if row.equal < row.elements] == []


@settings(max_examples=30, deadline=None, derandomize=True)
@given(seed=st.integers(0, 1000), inputs=st.integers(1, 300), scale=st.floats(1e-3, 1e3))
def test_float_sums_are_integer_sums(seed: int, inputs: int, scale: float) -> None:
    """A dense layer by ONNX Runtime against integers and one rounding in float64, which holds all of it exactly."""
    nodes = [node("Gemm", "x w b", "h", transB=1), node("Relu", "h", "r"), node("Gemm", "r v", "y", transB=1)]
    constants = {
        "w": normal((16, inputs), seed, scale),
        "b": normal((16,), seed + 1, scale),
        "v": normal((4, 16), seed + 2),
    }
    model = build(nodes, {"x": (1, inputs)}, ["y"], constants)
    samples = noise_samples(model, 4)
    quantised = quantize_onnx(model, samples)
    found, stored = parameters(quantised), constants_of(quantised)
    shown = onnx.ModelProto()
    shown.CopyFrom(quantised)
    shown.graph.output.extend(
        onnx.helper.make_tensor_value_info(f"{name}_quantized", onnx.TensorProto.UINT8, None) for name in "xr"
    )
    x, r = run(shown, samples[0], ["x_quantized", "r_quantized"])
    sums = (x.astype(np.int64) - found["x"].zero_point) @ stored["w_quantized"].astype(np.int64).T
    factors = found["x"].scale * stored["w_scale"].astype(np.float64) / found["r"].scale
    assert max(_bits(float(factor)) for factor in factors) <= 24, "the machine holds them exactly"
    expected = np.rint((sums + stored["b_quantized"]) * factors) + found["r"].zero_point
    assert np.array_equal(r, np.clip(expected, found["r"].zero_point, 255))


def test_scales_have_short_mantissas_and_zero_points_are_even() -> None:
    model = _network(1, 8, 12, "MaxPool", 2, 1.0)
    found = parameters(quantize_onnx(model, noise_samples(model, 4)))
    assert all(tensor.zero_point % 2 == 0 for tensor in found.values())
    assert _bits(found["x"].scale) <= 5
    assert max(_bits(tensor.scale) for tensor in found.values()) <= 5
    # Results of additions, and scores, whose 16 bits have room.
    assert all(_bits(found[name].scale) == 1 for name in ("r3", "y"))
    before = parameters(quantize_onnx(model, noise_samples(model, 4), OLD))
    assert min(_bits(tensor.scale) for tensor in before.values()) > 5


@pytest.mark.parametrize("pool", ["AveragePool", "MaxPool"])
def test_the_network_stays_what_it_was(pool: str) -> None:
    """Each tensor is its factor times what it was, and the output has the factor 1."""
    model = _network(3, 8, 12, pool, 3, 1.0)
    graph = Graph(model)
    units = find_units(graph)
    tied = dict.fromkeys(("r1", "r2", "c3", "r3", "k", "p"), 1.7) | dict.fromkeys(("r4", "g", "f"), 0.3)
    factors = {name: tied.get(name, 1.0) for unit in units for name in (*unit.inputs, *unit.outputs)}
    changed = multiply(graph, units, factors)
    feed = noise_samples(model)[0]
    names = list(factors)[1:]
    # float32 rounds weights once more; sums of up to 144 terms.
    for name, before, after in zip(
        names,
        run(graph.slice_model(names), feed, names),
        run(changed.slice_model(names), feed, names),
        strict=True,
    ):
        assert np.abs(after - factors[name] * before).max() <= 1e-5 * np.abs(after).max()


def test_constants_that_units_share_are_parted() -> None:
    nodes = [
        node("Conv", "x w", "a"),
        node("Clip", "a low high", "p"),
        node("Conv", "p w", "b"),
        node("Clip", "b low high", "y"),
    ]
    constants = {"w": normal((3, 3, 1, 1)), "low": 0.0, "high": 6.0}
    model = build(nodes, {"x": (1, 3, 4, 4)}, ["y"], constants)
    graph = Graph(model)
    changed = multiply(graph, find_units(graph), {"x": 1.0, "p": 2.0, "y": 1.0})
    feed = noise_samples(model, scale=10.0)[0]
    (before,), (after,) = run(model, feed), run(changed.model, feed)
    assert before.max() == 6.0
    assert np.array_equal(before, after), "powers of two leave no rounding"


@settings(max_examples=200, deadline=None, derandomize=True)
@given(least=st.floats(1e-20, 1e20), mantissa=st.integers(1, 31), exponent=st.integers(-20, 20))
def test_scales_of_weights_hold_that_of_the_result(least: float, mantissa: int, exponent: int) -> None:
    result = np.float32(np.ldexp(mantissa, exponent))
    odd = odd_part(result)
    assert mantissa % odd == 0 and mantissa // odd & (mantissa // odd - 1) == 0
    (scale,) = weight_scales(np.array([least]), result)
    # The smallest of 17 scales in each octave.
    assert least * (1 - 1e-8) <= scale <= least * 17 / 16
    assert _bits(float(scale / odd)) <= 5


def test_a_scale_of_the_range_itself_has_no_odd_part() -> None:
    assert odd_part(np.float32(0.1)) == 1


def test_little_resolution_is_lost() -> None:
    model = _network(5, 16, 16, "AveragePool", 3, 1.0)
    samples = noise_samples(model, 16)

    def noise(options: QuantizeOptions) -> float:
        quantised = quantize_onnx(model, samples, options)
        return float(sum(np.square(run(quantised, f)[0] - run(model, f)[0]).sum() for f in samples))

    # Additions and means lose up to one bit of resolution where c cannot fit them all, 6 dB; here less than half.
    assert noise(QuantizeOptions()) < 2 * noise(OLD)
