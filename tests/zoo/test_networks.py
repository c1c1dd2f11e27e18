from __future__ import annotations

import math
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import ModelProto, numpy_helper
from tests.zoo.integers import evaluate

from tilewright.errors import ConfigError
from tilewright.zoo import dirac_delta as dirac
from tilewright.zoo import diracdeltanet, diracdeltanet_small, shufflenet_v2
from tilewright.zoo import shufflenet as shuffle
from tilewright.zoo.build import UNIT_SCALE, build, seeded_integers, seeded_weights
from tilewright.zoo.dirac_delta import small_network
from tilewright.zoo.float_form import NormForm
from tilewright.zoo.fold import dorefa, fold, short
from tilewright.zoo.form import INPUT_SCALE, Bits
from tilewright.zoo.layers import Average, Concat, Conv, Network, Rotate, Shift, Shuffle, Split
from tilewright.zoo.quantised_form import result_scale


def _counts(model: ModelProto) -> tuple[int, int, int]:
    """MACs, weights and parameters of BatchNormalization from the ONNX graph; a shift has none."""
    graph = onnx.shape_inference.infer_shapes(model).graph
    constants = {t.name: numpy_helper.to_array(t) for t in graph.initializer}
    shapes = {v.name: [d.dim_value for d in v.type.tensor_type.shape.dim] for v in graph.value_info}
    macs = weights = norm = 0
    for node in graph.node:
        if node.op_type == "Conv" and not node.input[1].endswith(".kernel"):
            weight = constants[node.input[1]]
            macs += weight.size * math.prod(shapes[node.output[0]][2:])
            weights += weight.size
        elif node.op_type == "Gemm":
            macs += constants[node.input[1]].size
            weights += constants[node.input[1]].size + constants[node.input[2]].size
        elif node.op_type == "BatchNormalization":
            norm += 2 * constants[node.input[1]].size
    return macs, weights, norm


def _run(model: ModelProto, feeds: np.ndarray, *outputs: str) -> list[np.ndarray]:
    options = onnxruntime.SessionOptions()
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_DISABLE_ALL
    options.log_severity_level = 3
    wanted = ModelProto()
    wanted.CopyFrom(model)
    wanted.graph.output.extend(onnx.helper.make_empty_tensor_value_info(name) for name in outputs)
    session = onnxruntime.InferenceSession(wanted.SerializeToString(), options, ["CPUExecutionProvider"])
    found: list[np.ndarray] = session.run([*outputs] or None, {"data": feeds})
    return found


def _pixels(seed: int, *shape: int) -> np.ndarray:
    return np.random.default_rng(seed).integers(0, 256, shape)


def test_diracdeltanet_is_the_published_network() -> None:
    model = diracdeltanet()
    # facts: 317 M MACs and 3.27 M parameters, those of BatchNormalization apart
    assert _counts(model) == (316_651_520, 3_269_704, 16_960)
    net = dirac.network()
    assert (net.macs, net.weights, net.norm_parameters) == _counts(model)
    assert [net.maps[name] for name in ("pool1", "pool2")] == [(32, 113, 113), (64, 57, 57)]
    ends = [net.maps[f"stage{s}/block{b}/rotate"] for s, b in ((1, 1), (1, 4), (2, 8), (3, 4))]
    assert ends == [(128, 28, 28), (128, 28, 28), (256, 14, 14), (512, 7, 7)]
    assert len([layer for layer in net.layers if isinstance(layer, Rotate)]) == 16
    result = _run(model, np.random.default_rng(1).standard_normal((1, 3, 224, 224), np.float32))[0]
    assert 0.3 < result.std() < 3, "alive"


def test_shufflenet_v2_is_the_published_network() -> None:
    model = shufflenet_v2()
    macs, weights, norm = _counts(model)
    # The paper's 146 M counts more than products; 2.28 M parameters are those that torchvision counts too.
    assert (macs, weights + norm) == (144_907_992, 2_278_604)
    net = shuffle.network()
    assert (net.macs, net.weights, net.norm_parameters) == (macs, weights, norm)
    result = _run(model, np.random.default_rng(1).standard_normal((1, 3, 224, 224), np.float32))[0]
    assert 0.3 < result.std() < 3, "alive"


def test_parameters_of_other_widths() -> None:
    # torchvision's shufflenet_v2_x0_5, x1_5, x2_0
    found = {width: shuffle.network(width) for width in (0.5, 1.5, 2.0)}
    assert {w: n.weights + n.norm_parameters for w, n in found.items()} == {
        0.5: 1_366_792,
        1.5: 3_503_624,
        2.0: 7_393_996,
    }


@pytest.mark.parametrize("bits", [4, 2, 1])
def test_float_sums_of_the_quantised_form_are_the_integers(bits: Bits) -> None:
    net = small_network((3, 32, 32))
    weights = seeded_integers(net, 3, bits)
    model = build(net, bits, weights, 0)
    outputs = set()
    for seed in range(4):
        pixels = _pixels(seed, 3, 32, 32)
        feeds = ((pixels - 128) * INPUT_SCALE).astype(np.float32)[np.newaxis]
        expected = evaluate(net, weights, bits, pixels)
        step = float(result_scale(net, weights, "fc", bits))
        assert np.array_equal(_run(model, feeds)[0][0] / step, expected)
        outputs.add(expected.tobytes())
    assert len(outputs) == 4


def test_quantised_form_is_close_to_what_it_was_folded_from() -> None:
    """Codes with BatchNormalization apart, as they are trained, against the folded integers."""
    net = small_network()
    drawn = dict(seeded_weights(net, 5))
    for layer in net.convolutions:
        width = 8 if layer.name == "conv1" else 4
        drawn[f"{layer.name}.weight"] = dorefa(drawn[f"{layer.name}.weight"], width).astype(np.float32)
        # Deviations of the sums of codes, so that maps keep their size.
        inputs = math.prod(net.weight_shape(layer)[1:])
        deviation = drawn[f"{layer.name}.weight"].std() * math.sqrt(inputs)
        drawn[f"{layer.name}.mean"] = np.zeros(layer.channels, np.float32)
        drawn[f"{layer.name}.variance"] = np.full(layer.channels, deviation**2, np.float32)
        drawn[f"{layer.quantiser or layer.name}.scale"] = np.array(0.125, np.float32)
    drawn["fc.scale"] = np.array(1 / 64, np.float32)
    folded = build(net, 4, fold(net, drawn, 4), 0)
    feeds = ((_pixels(1, 1, 1, 32, 32) - 128) / 64).astype(np.float32)
    apart = _run(NormForm(net, drawn, 4).model(), feeds)[0][0]
    found = _run(folded, feeds)[0][0]
    # Factors are rounded by up to a thirty-second, and some activations then by a step.
    assert np.corrcoef(apart, found)[0, 1] > 0.9


def test_shift_moves_neighbouring_channels_differently() -> None:
    model = diracdeltanet_small()
    before, after = _run(model, np.zeros((1, 1, 32, 32), np.float32) + 0.5, "pool1", "shift1")
    padded = np.pad(before, ((0, 0), (0, 0), (1, 1), (1, 1)))
    side = before.shape[2]
    for channel, (y, x) in enumerate(((0, 1), (1, 0), (1, 1), (1, 2), (2, 1), (0, 1), (1, 0))):
        assert np.array_equal(after[0, channel], padded[0, channel, y : y + side, x : x + side])
    nodes = {n.name: n for n in model.graph.node}
    assert nodes["shift1"].op_type == "Conv" and len(nodes["shift1"].input) == 2
    assert not any(isinstance(layer, Shift) for layer in dirac.network(shift=False).layers)


def test_rotation_and_shuffle() -> None:
    source = Conv("conv1", "data", 8)
    feeds = np.random.default_rng(2).standard_normal((1, 3, 4, 4), np.float32)
    tail: dict[str, Any] = {"turn": Rotate("turn", "conv1", 2), "mix": Shuffle("mix", "conv1", 2)}
    order = {"turn": [6, 7, 0, 1, 2, 3, 4, 5], "mix": [0, 4, 1, 5, 2, 6, 3, 7]}
    for name, layer in tail.items():
        model = build(Network("net", (3, 4, 4), (source, layer, Average("average", name))), None, None, 0)
        before, after = _run(model, feeds, "conv1", name)
        assert np.array_equal(after, before[:, order[name]])


def test_split_and_concat_give_the_same_map() -> None:
    parts = Split("split", "conv1")
    layers = (Conv("conv1", "data", 6), parts, Concat("join", (parts.low, parts.high)), Average("a", "join"))
    model = build(Network("net", (3, 4, 4), layers), None, None, 0)
    before, after = _run(model, np.ones((1, 3, 4, 4), np.float32), "conv1", "join")
    assert np.array_equal(before, after)


def test_given_weights_and_seeds() -> None:
    net = small_network()
    weights = seeded_weights(net, 7)
    assert diracdeltanet_small(weights=weights) == diracdeltanet_small(seed=7) != diracdeltanet_small(seed=8)
    integers = seeded_integers(net, 7, 4)
    assert diracdeltanet_small(4, integers) == diracdeltanet_small(4, seed=7)


def test_seeded_channels_have_deviation_one() -> None:
    feeds = np.random.default_rng(3).standard_normal((1, 3, 32, 32), np.float32)
    net = dirac.network("net", (3, 32, 32), stem=(16, 32), stages=((64, 2),), head=32, classes=10)
    model = build(net, None, None, 0)
    found = _run(model, feeds, "conv2/conv")[0]
    assert np.allclose(found.std(axis=(2, 3)), 1.0, atol=0.3)  # another input than the one measured


@pytest.mark.parametrize("bits", [4, 2])
def test_scale_of_seeded_activations_loses_least(bits: Bits) -> None:
    values = np.maximum(np.random.default_rng(0).standard_normal(100_000), 0)

    def loss(scale: float) -> float:
        return float(np.mean((np.clip(np.rint(values / scale), 0, 2**bits - 1) * scale - values) ** 2))

    scales = [x * 2.0**k for x in (4, 5, 6, 7) for k in range(-7, 1)]
    assert min(scales, key=loss) == UNIT_SCALE[bits]


def test_dorefa_codes() -> None:
    weights = np.array([-2.0, -0.5, -0.01, 0.0, 0.01, 0.5, 2.0])
    bent = np.tanh(weights) / np.tanh(2.0)
    assert dorefa(weights, 4).tolist() == [-8, round(bent[1] * 8), 0, 0, 0, round(bent[5] * 8), 7]
    assert dorefa(weights, 1).tolist() == [-1, -1, -1, 1, 1, 1, 1]
    assert dorefa(np.zeros(3), 4).tolist() == [0, 0, 0]


def test_short_mantissas() -> None:
    values = np.exp(np.random.default_rng(1).uniform(-9, 9, 1000))
    found = short(values, 3)
    assert np.abs(found / values - 1).max() <= 1 / 8
    assert {float(m * 8) for m in np.frexp(found)[0]} == {4.0, 5.0, 6.0, 7.0}


def test_every_fault_of_given_weights_is_told() -> None:
    weights = dict(seeded_weights(small_network(), 0))
    del weights["conv1.beta"]
    weights["extra"] = np.zeros(1, np.float32)
    weights["fc.bias"] = np.zeros(11, np.float32)
    weights["fc.weight"] = weights["fc.weight"].astype(np.float64)
    with pytest.raises(ConfigError) as caught:
        diracdeltanet_small(weights=weights)
    assert str(caught.value).splitlines() == [
        "diracdeltanet_small: weight conv1.beta is missing; give a float32 array of shape (16,)",
        "diracdeltanet_small: weight fc.weight: expected float32 (10, 96), found float64 (10, 96)",
        "diracdeltanet_small: weight fc.bias: expected float32 (10,), found float32 (11,)",
        "diracdeltanet_small: weight extra belongs to no layer; leave it out",
    ]


def test_negative_variance() -> None:
    weights = dict(seeded_weights(small_network(), 0))
    weights["conv1.variance"] = np.full(16, -1, np.float32)
    with pytest.raises(ConfigError) as caught:
        diracdeltanet_small(weights=weights)
    assert str(caught.value) == (
        "diracdeltanet_small: weight conv1.variance: expected variances >= 0, found a negative one"
    )


def test_integers_outside_the_width() -> None:
    weights = dict(seeded_integers(small_network(), 0, 4))
    weights["conv2.weight"] = np.full_like(weights["conv2.weight"], 8)
    weights["conv2.scale"] = np.array(0, np.float32)
    weights["conv1.weight"] = np.full_like(weights["conv1.weight"], 127)  # 8 bits are right there
    with pytest.raises(ConfigError) as caught:
        diracdeltanet_small(4, weights)
    assert str(caught.value).splitlines() == [
        "diracdeltanet_small: weight conv2.weight: expected -8..7, found 8..8",
        "diracdeltanet_small: weight conv2.scale: expected scales > 0, found 0.0",
    ]
    one = dict(seeded_integers(small_network(), 0, 1))
    one["conv2.weight"] = np.zeros_like(one["conv2.weight"])
    with pytest.raises(ConfigError, match=r"weight conv2\.weight: expected -1 or 1, found 0\.\.0$"):
        diracdeltanet_small(1, one)


def test_widths_that_there_are_not() -> None:
    with pytest.raises(ConfigError) as caught:
        diracdeltanet_small(3)  # type: ignore[arg-type]
    assert (
        str(caught.value) == "bits: expected 1, 2 or 4 bits, found 3; for 8 bits quantise the float network"
    )
    with pytest.raises(ConfigError) as caught:
        shufflenet_v2(1.25)
    assert (
        str(caught.value) == "width: there is no ShuffleNetV2 of width 1.25; choose one of 0.5, 1.0, 1.5, 2.0"
    )


def test_gamma_must_be_positive() -> None:
    net = small_network()
    trained = dict(seeded_weights(net, 0))
    trained |= {f"{c.quantiser or c.name}.scale": np.array(0.25, np.float32) for c in net.convolutions}
    for layer in net.convolutions:
        trained[f"{layer.name}.weight"] = dorefa(trained[f"{layer.name}.weight"], 4)
    trained["fc.scale"] = np.array(0.25, np.float32)
    trained["conv2.gamma"] = trained["conv2.gamma"] * -1
    with pytest.raises(ConfigError, match=r"^conv2: expected gamma > 0, found -1\.\d+$"):
        fold(net, trained, 4)


def test_shift_layers_follow_pooling() -> None:
    shifts = [layer for layer in dirac.network().layers if isinstance(layer, Shift)]
    assert [s.name for s in shifts[:3]] == ["shift1", "shift2", "stage1/block1/shift"]
    assert [s.bottom for s in shifts[:4]] == ["pool1", "pool2", "stage1/block1/pool", "stage1/block2/expand"]
