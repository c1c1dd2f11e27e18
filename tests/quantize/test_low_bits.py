"""Networks below 8 bits: the form that is written, its widths, and its values by a NumPy definition."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import onnx
import pytest
from numpy.typing import NDArray
from onnx import helper
from tests.quantize.builders import Feed, build, constants_of, node, noise_samples, normal, run, shift_kernel

import tilewright as tw
from tilewright.quantize import QuantizeOptions, find_units, quantize_onnx
from tilewright.quantize.graph import Graph
from tilewright.quantize.options import SUPPORTED_BITS

LOW = [(4, 4), (4, 8), (2, 2), (2, 4), (1, 8), (1, 2), (1, 1)]


def _network(signed: bool = False) -> onnx.ModelProto:
    """Stem, shift, pool, a residual block, and a dense layer; `signed` leaves functions out."""
    nodes = [
        node("Conv", "x w0 b0", "c0", pads=[1, 1, 1, 1]),
        node("Relu", "c0", "r0"),
        node("MaxPool", "c0" if signed else "r0", "p", kernel_shape=[2, 2], strides=[2, 2]),
        node("Conv", "p k", "s", pads=[1, 1, 1, 1], group=10),
        node("Conv", "s w1 b1", "c1"),
        node("Relu", "c1", "r1"),
        node("Conv", "c1 w2" if signed else "r1 w2", "c2", pads=[1, 1, 1, 1]),
        node("Add", "c2 p", "a"),
        node("Conv", "a w3 b3", "c3", strides=[2, 2]),
        node("Relu", "c3", "r3"),
        node("Flatten", "r3", "f"),
        node("Gemm", "f w4 b4", "y", transB=1),
    ]
    constants = {
        "w0": normal((10, 3, 3, 3), 0, 0.2),
        "b0": normal((10,), 1, 0.1),
        "k": shift_kernel(10),
        "w1": normal((8, 10, 1, 1), 2, 0.3),
        "b1": normal((8,), 3, 0.1),
        "w2": normal((10, 8, 3, 3), 4, 0.1),
        "w3": normal((6, 10, 2, 2), 5, 0.2),
        "b3": normal((6,), 6, 0.1),
        "w4": normal((5, 24), 7, 0.2),
        "b4": normal((5,), 8, 0.1),
    }
    unused = {item for k in nodes for item in k.input}
    used = [k for k in nodes if k.output[0] in unused or k.output[0] == "y"]
    return build(used, {"x": (1, 3, 8, 8)}, ["y"], constants)


def _quantise(model: onnx.ModelProto, **options: Any) -> onnx.ModelProto:
    return quantize_onnx(model, noise_samples(model, 16), QuantizeOptions(**options))


def _convolve(x: NDArray[np.float64], w: NDArray[np.float64], pads: list[int], step: int, group: int) -> Any:
    padded = np.pad(x, ((0, 0), (0, 0), (pads[0], pads[2]), (pads[1], pads[3])))
    rows, columns = w.shape[2:]
    windows = np.lib.stride_tricks.sliding_window_view(padded, (rows, columns), axis=(2, 3))
    windows = windows[:, :, ::step, ::step]
    each, outs = w.shape[1], w.shape[0] // group
    parts = [
        np.einsum("nchwij,ocij->nohw", windows[:, g * each : (g + 1) * each], w[g * outs : (g + 1) * outs])
        for g in range(group)
    ]
    return np.concatenate(parts, axis=1)


def _define(model: onnx.ModelProto, feed: Feed) -> dict[str, NDArray[Any]]:
    """Every tensor by the operators' definitions; sums in float64, where they are exact."""
    values: dict[str, NDArray[Any]] = {**constants_of(model), **feed}

    def dequantise(item: onnx.NodeProto, q: Any, scale: Any, zero: Any) -> Any:
        axis = next((a.i for a in item.attribute if a.name == "axis"), 0)
        shape = [-1 if k == axis else 1 for k in range(q.ndim)] if scale.ndim else []
        return (q.astype(np.float64) - zero.reshape(shape)) * scale.astype(np.float64).reshape(shape)

    def quantise(item: onnx.NodeProto, x: Any, scale: Any, zero: Any) -> Any:
        steps = np.rint(x.astype(np.float32) / scale).astype(np.int64) + int(zero)
        info = np.iinfo(zero.dtype)
        return np.clip(steps, info.min, info.max).astype(zero.dtype)

    def conv(item: onnx.NodeProto, x: Any, w: Any, b: Any = None) -> Any:
        found = {a.name: helper.get_attribute_value(a) for a in item.attribute}
        step = found.get("strides", [1])[0]
        sums = _convolve(x, w.astype(np.float64), found.get("pads", [0] * 4), step, found.get("group", 1))
        return sums if b is None else sums + b.reshape(1, -1, 1, 1)

    def pool(item: onnx.NodeProto, x: Any) -> Any:
        windows = np.lib.stride_tricks.sliding_window_view(x, (2, 2), axis=(2, 3))[:, :, ::2, ::2]
        return windows.max(axis=(4, 5))

    table: dict[str, Callable[..., Any]] = {
        "QuantizeLinear": quantise,
        "DequantizeLinear": dequantise,
        "Clip": lambda item, x, low, high: np.minimum(np.maximum(x, low), high),
        "GreaterOrEqual": lambda item, a, b: a >= b,
        "Where": lambda item, c, a, b: np.where(c, a, b),
        "Conv": conv,
        "Relu": lambda item, x: np.maximum(x, 0),
        "MaxPool": pool,
        "Add": lambda item, a, b: a + b,
        "Flatten": lambda item, x: x.reshape(x.shape[0], -1),
        "Gemm": lambda item, x, w, b: x @ w.T + b,
    }
    for item in model.graph.node:
        values[item.output[0]] = table[item.op_type](item, *(values[name] for name in item.input))
    return values


@pytest.mark.parametrize("signed", [False, True])
@pytest.mark.parametrize(("bits", "activations"), LOW)
def test_onnx_runtime_computes_the_definition(bits: int, activations: int, signed: bool) -> None:
    """Bit for bit: the scales are such that float32 sums are exact."""
    quantised = _quantise(_network(signed), bits=bits, activation_bits=activations)
    integers = [
        item.input[0]
        for item in quantised.graph.node
        if item.op_type == "DequantizeLinear" and item.input[0] not in constants_of(quantised)
    ]
    wanted = onnx.ModelProto()
    wanted.CopyFrom(quantised)
    wanted.graph.output.extend(onnx.ValueInfoProto(name=name) for name in integers)
    for feed in noise_samples(_network(), 3):
        defined = _define(quantised, feed)
        found = run(wanted, feed, integers)
        for name, value in zip(integers, found, strict=True):
            assert value.dtype == defined[name].dtype and np.array_equal(value, defined[name]), name


@pytest.mark.parametrize("signed", [False, True])
@pytest.mark.parametrize(("bits", "activations"), LOW)
def test_widths(bits: int, activations: int, signed: bool) -> None:
    model = _network(signed)
    quantised = _quantise(model, bits=bits, activation_bits=activations)
    constants = constants_of(quantised)
    nodes = {item.name: item for item in quantised.graph.node}
    producer = {item.output[0]: item for item in quantised.graph.node}
    assert [nodes[name].input[1] for name in ("s",)] == ["k"], "the kernel of a shift stays as it is"
    for name in ("c0", "c1", "c2", "c3", "y"):
        weight = constants[producer[nodes[name].input[1]].input[0]]
        scale = constants[producer[nodes[name].input[1]].input[1]]
        width = 8 if name in ("c0", "y") else bits
        limit = max(2 ** (width - 1) - 1, 1)
        assert weight.dtype == np.int8 and np.abs(weight.astype(int)).max() <= limit
        assert scale.shape == (weight.shape[0],)
        if width == 1:
            assert set(np.unique(weight)) <= {-1, 1}
        elif width < 8:
            assert np.abs(weight.astype(int)).max() == limit
    lows = 0
    for item in quantised.graph.node:
        if item.op_type == "QuantizeLinear":
            assert constants[item.input[2]].dtype in (np.uint8, np.uint16)
        if item.op_type == "Clip":
            lows += 1
            low, high = (constants[bound] for bound in item.input[1:])
            assert low.dtype == high.dtype == np.uint8 and (int(low), int(high)) == (0, 2**activations - 1)
            assert producer[item.input[0]].op_type == "QuantizeLinear"
    signs = [item for item in quantised.graph.node if item.op_type == "Where"]
    assert (activations < 8) == bool(lows + len(signs))
    if signs:
        assert activations == 1
        assert [constants[bound].dtype for bound in signs[0].input[1:]] == [np.int8, np.int8]
        assert [int(constants[bound]) for bound in signs[0].input[1:]] == [1, -1]


def test_operands_of_first_and_last_layers_and_of_vector_operations_have_8_bits() -> None:
    model = _network()
    for edge_bits, edges in ((8, {"x", "f", "r3", "c2", "y"}), (None, {"x", "c2", "y"})):
        quantised = _quantise(model, bits=4, edge_bits=edge_bits)
        whole, clipped = (
            {item.name.removesuffix(f"_{kind}") for item in quantised.graph.node if item.op_type == kind}
            for kind in ("QuantizeLinear", "Clip")
        )
        assert edges <= whole and clipped == whole - edges


def test_weights_of_one_bit_have_the_mean_magnitude_as_scale() -> None:
    options = QuantizeOptions(bits=1, exact_sums=False, equalise=False)
    model = _network()
    quantised = quantize_onnx(model, noise_samples(model, 4), options)
    weight = constants_of(model)["w2"]
    scale = constants_of(quantised)["w2_scale"]
    assert np.allclose(scale, np.abs(weight).mean(axis=(1, 2, 3)), rtol=1e-6)


def test_a_shift_shares_its_scale_and_is_no_layer() -> None:
    units = {unit.outputs[0]: unit.kind for unit in find_units(Graph(_network()))}
    assert units["s"] == "move" and units["c0" if "c0" in units else "r0"] == "mac"
    quantised = _quantise(_network(), bits=4)
    readers = {
        item.input[0]: item.input[1:] for item in quantised.graph.node if item.op_type == "QuantizeLinear"
    }
    assert readers["s"] == readers["p"]


@pytest.mark.parametrize("change", ["value", "two", "bias", "groups"])
def test_what_is_no_shift(change: str) -> None:
    kernel, inputs = shift_kernel(4), "r k"
    attributes: dict[str, Any] = {"pads": [1, 1, 1, 1], "group": 4}
    constants = {"w": normal((4, 3, 1, 1)), "v": normal((2, 4, 1, 1)), "b": np.zeros(4, np.float32)}
    if change == "value":
        kernel *= 2
    elif change == "two":
        kernel[0] = shift_kernel(2)[1]
        kernel[0, 0, 2, 2] = 1
    elif change == "bias":
        inputs += " b"
    else:
        attributes["group"] = 2
        kernel = np.repeat(kernel, 2, axis=1)
    nodes = [node("Conv", "x w", "r"), node("Conv", inputs, "s", **attributes), node("Conv", "s v", "y")]
    model = build(nodes, {"x": (1, 3, 6, 6)}, ["y"], constants | {"k": kernel})
    kinds = {unit.outputs[0]: unit.kind for unit in find_units(Graph(model))}
    assert kinds["s"] == "mac"


def test_signs_of_a_shifted_tensor_keep_the_border_zero() -> None:
    """No quantiser stands behind the shift: zero is neither -1 nor +1."""
    quantised = _quantise(_network(signed=True), bits=1)
    assert {item.op_type for item in quantised.graph.node if "s" in item.input} == {"Conv"}


def test_ranges_without_clipping_hold_everything() -> None:
    model = _network()
    plain = _quantise(model, bits=4, clipping=False, exact_sums=False, equalise=False)
    scale = constants_of(plain)["r1_scale"]
    largest = max(
        float(run(_with_output(model, "r1"), feed, ["r1"])[0].max()) for feed in noise_samples(model, 16)
    )
    assert float(scale) == pytest.approx(largest / 15, rel=1e-6)


def _with_output(model: onnx.ModelProto, name: str) -> onnx.ModelProto:
    result = onnx.ModelProto()
    result.CopyFrom(model)
    result.graph.output.append(onnx.ValueInfoProto(name=name))
    return result


def test_the_result_is_reproducible_and_8_bits_use_no_step_of_lower_widths() -> None:
    model = _network()
    assert _quantise(model, bits=4).SerializeToString() == _quantise(model, bits=4).SerializeToString()
    plain = _quantise(model)
    switched = _quantise(model, clipping=False, adaptive_rounding=False, edge_bits=None)
    assert plain.SerializeToString() == switched.SerializeToString()


@pytest.mark.parametrize("bits", SUPPORTED_BITS)
def test_simulated_on_8_bit_storage(bits: int) -> None:
    """An 8-bit overlay runs what is narrower: its results are the quantised model's."""
    nodes = [
        node("Conv", "x w0", "c0", pads=[1, 1, 1, 1]),
        node("Relu", "c0", "r0"),
        node("Conv", "r0 w1", "c1", pads=[1, 1, 1, 1]),
        node("Relu", "c1", "r1"),
        node("MaxPool", "r1", "p", kernel_shape=[2, 2], strides=[2, 2]),
        node("Conv", "p w2", "y"),
    ]
    weights = {f"w{k}": normal((8, 3 if k == 0 else 8, 3, 3), k, 0.2) for k in range(3)}
    model = tw.Model(build(nodes, {"x": (1, 3, 8, 8)}, ["y"], weights))
    samples = noise_samples(model.proto, 16)
    quantised = tw.quantize(model, samples, bits)
    session = tw.Session(tw.compile(quantised, "ultra96-w8"))
    for feed in samples[:4]:
        assert np.array_equal(session.run(feed).outputs["y"], run(quantised.proto, feed)[0])
