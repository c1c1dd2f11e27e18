"""Random networks with branches, concats and residuals: every unit within its bound, every promise kept."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.quantize.builders import build, constants_of, node, noise_samples, normal, run, shift_kernel
from tests.quantize.unit_check import check_units, parameters

from tilewright.quantize import QuantizeOptions, find_units, quantize_onnx
from tilewright.quantize.graph import Graph
from tilewright.quantize.options import Method

CHANNELS, SIDE = 4, 8


class _Maker:
    """Draws a network over maps of one shape, so that any two can be added or multiplied."""

    def __init__(self, draw: Any) -> None:
        self.draw = draw
        self.nodes: list[onnx.NodeProto] = []
        self.constants: dict[str, Any] = {
            "zero": 0.0,
            "six": 6.0,
            "half": 0.5,
            "perm": np.array([1, 0], np.int64),
        }
        self.maps = ["x"]
        self.count = 0

    def name(self) -> str:
        self.count += 1
        return f"t{self.count}"

    def pick(self) -> str:
        return str(self.draw(st.sampled_from(self.maps)))

    def add(self, operator: str, inputs: str, **attributes: Any) -> str:
        name = self.name()
        self.nodes.append(node(operator, inputs, name, **attributes))
        return name

    def conv(self, source: str, inputs: int, kernel: int = 1, groups: int = 1) -> str:
        name = f"w{self.count}"
        self.constants[name] = normal((CHANNELS, inputs // groups, kernel, kernel), self.count, 0.5)
        self.constants[f"{name}b"] = normal((CHANNELS,), self.count + 1)
        return self.add("Conv", f"{source} {name} {name}b", pads=[kernel // 2] * 4, group=groups)

    def step(self) -> None:
        kind = self.draw(st.sampled_from(STEPS))
        self.maps.append(kind(self))


def _conv(make: _Maker) -> str:
    return make.conv(make.pick(), CHANNELS, make.draw(st.sampled_from([1, 3])))


def _depthwise(make: _Maker) -> str:
    return make.conv(make.pick(), CHANNELS, 3, CHANNELS)


def _activation(make: _Maker) -> str:
    operator = make.draw(st.sampled_from(["Relu", "Sigmoid", "Tanh", "HardSwish", "Abs"]))
    return make.add(operator, make.pick())


def _clip(make: _Maker) -> str:
    return make.add("Clip", f"{make.pick()} zero six")


def _scaled(make: _Maker) -> str:
    return make.add("Mul", f"{make.pick()} half")


def _binary(make: _Maker) -> str:
    return make.add(make.draw(st.sampled_from(["Add", "Mul"])), f"{make.pick()} {make.pick()}")


def _concat(make: _Maker) -> str:
    parts = [make.pick() for _ in range(make.draw(st.integers(2, 3)))]
    return make.conv(make.add("Concat", " ".join(parts), axis=1), CHANNELS * len(parts))


def _max_pool(make: _Maker) -> str:
    return make.add("MaxPool", make.pick(), kernel_shape=[3, 3], pads=[1] * 4)


def _average(make: _Maker) -> str:
    return make.add("AveragePool", make.pick(), kernel_shape=[3, 3], pads=[1] * 4)


def _shuffle(make: _Maker) -> str:
    """Swap the halves of the channels."""
    source, name = make.pick(), make.name()
    make.nodes.append(node("Split", source, f"{name}a {name}b", axis=1, num_outputs=2))
    return make.add("Concat", f"{name}b {name}a", axis=1)


def _shift(make: _Maker) -> str:
    make.constants["shift"] = shift_kernel(CHANNELS)
    return make.add("Conv", f"{make.pick()} shift", pads=[1] * 4, group=CHANNELS)


STEPS = [
    _conv,
    _depthwise,
    _activation,
    _clip,
    _scaled,
    _binary,
    _concat,
    _max_pool,
    _average,
    _shuffle,
    _shift,
]


@st.composite
def networks(draw: Any) -> onnx.ModelProto:
    make = _Maker(draw)
    make.maps.append(make.conv("x", CHANNELS, 3))
    for _ in range(draw(st.integers(1, 8))):
        make.step()
    read = {name for item in make.nodes for name in item.input}
    outputs = [name for item in make.nodes for name in item.output if name not in read]
    extra = draw(st.sampled_from(make.maps[1:]))
    outputs += [] if extra in outputs else [extra]
    return build(make.nodes, {"x": (1, CHANNELS, SIDE, SIDE)}, outputs, make.constants)


@settings(max_examples=60, deadline=None, derandomize=True)
@given(model=networks(), ratio=st.sampled_from([1.0, 8.0]), share_average=st.booleans())
def test_every_unit_is_within_its_bound(model: onnx.ModelProto, ratio: float, share_average: bool) -> None:
    options = QuantizeOptions(
        method="minmax",
        bias_correction=False,
        equalise=False,
        exact_sums=False,
        share_ratio=ratio,
        share_average=share_average,
    )
    samples = noise_samples(model, 2)
    quantised = quantize_onnx(model, samples, options)
    onnx.checker.check_model(quantised, full_check=True)
    check_units(model, quantised, samples[0])
    units = find_units(Graph(model))
    claimed = [item.name for unit in units for item in unit.nodes]
    assert sorted(claimed) == sorted(item.name for item in model.graph.node), "each operator is in one unit"
    assert set(parameters(quantised)) == {name for unit in units for name in (*unit.inputs, *unit.outputs)}


@settings(max_examples=10, deadline=None, derandomize=True)
@given(model=networks(), method=st.sampled_from(["minmax", "percentile", "entropy"]))
def test_any_method_runs_and_repeats(model: onnx.ModelProto, method: Method) -> None:
    samples = noise_samples(model, 3)
    options = QuantizeOptions(method=method)
    quantised = quantize_onnx(model, samples, options)
    again = quantize_onnx(model, samples, options)
    assert quantised.SerializeToString(deterministic=True) == again.SerializeToString(deterministic=True)
    for values in run(quantised, samples[0]):
        assert np.isfinite(values).all()


@settings(max_examples=15, deadline=None, derandomize=True)
@given(
    model=networks(),
    bits=st.sampled_from([1, 2, 4]),
    activation_bits=st.sampled_from([None, 1, 2, 4, 8]),
    edge_bits=st.sampled_from([None, 8]),
)
def test_any_width_runs(
    model: onnx.ModelProto, bits: int, activation_bits: int | None, edge_bits: int | None
) -> None:
    samples = noise_samples(model, 16)
    options = QuantizeOptions(bits=bits, activation_bits=activation_bits, edge_bits=edge_bits)
    quantised = quantize_onnx(model, samples, options)
    onnx.checker.check_model(quantised, full_check=True)
    for values in run(quantised, samples[0]):
        assert np.isfinite(values).all()
    constants = constants_of(quantised)
    producer = {item.output[0]: item for item in quantised.graph.node}
    for item in quantised.graph.node:
        if item.op_type == "Conv" and item.input[1] != "shift":
            weight = constants[producer[item.input[1]].input[0]].astype(int)
            assert np.abs(weight).max() <= (127 if edge_bits else max(2 ** (bits - 1) - 1, 1))


@pytest.mark.parametrize("depth", [1, 6])
def test_dense_blocks_keep_their_signal(depth: int) -> None:
    """Each layer reads the concat of all before it: scales join across the whole block."""
    nodes, constants, name, width = [], {}, "x", 4
    for k in range(depth):
        constants[f"w{k}"] = normal((4, width, 3, 3), k, 1 / np.sqrt(9 * width))
        nodes += [node("Conv", f"{name} w{k}", f"c{k}", pads=[1] * 4), node("Relu", f"c{k}", f"r{k}")]
        nodes.append(node("Concat", f"{name} r{k}", f"k{k}", axis=1))
        name, width = f"k{k}", width + 4
    model = build(nodes, {"x": (1, 4, 8, 8)}, [name], constants)
    samples = noise_samples(model, 8)
    quantised = quantize_onnx(model, samples)
    expected, found = run(model, samples[0])[0], run(quantised, samples[0])[0]
    # One rounding to 8 bits of a tensor with peaks of +-4 deviations leaves 20 log10(256 sqrt(12)/8) = 41 dB.
    noise = 10 * np.log10(np.square(expected).sum() / np.square(expected - found).sum())
    assert noise > 41 - 3 - 10 * np.log10(1 + depth)
