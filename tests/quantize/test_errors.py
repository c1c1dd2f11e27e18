"""What is refused, and the words it is refused with."""

from __future__ import annotations

import re
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import TensorProto, helper, numpy_helper
from tests.quantize.builders import build, node, noise_samples, normal

from tilewright.errors import ConfigError, DataError, ModelError, TilewrightError, UnsupportedModel
from tilewright.frontend.quantised import is_quantised
from tilewright.quantize import Mixed, QuantizeOptions, quantize_onnx

MAP = (1, 2, 4, 4)


def _model() -> onnx.ModelProto:
    return build(
        [node("Conv", "x w", "c"), node("Relu", "c", "y")], {"x": MAP}, ["y"], {"w": normal((3, 2, 3, 3))}
    )


def _refuses(kind: type[TilewrightError], text: str, model: onnx.ModelProto, samples: Any) -> None:
    with pytest.raises(kind, match=f"^{re.escape(text)}$"):
        quantize_onnx(model, samples)


@pytest.mark.parametrize(
    ("kind", "options", "text"),
    [
        (
            UnsupportedModel,
            {"bits": 3},
            "bits=3: post-training quantisation supports 1, 2, 4, 8 bit; give 4, the next width that an overlay has",
        ),
        (
            UnsupportedModel,
            {"activation_bits": 16},
            "activation_bits=16: post-training quantisation supports 1, 2, 4, 8 bit;"
            " give 8, the next width that an overlay has",
        ),
        (
            UnsupportedModel,
            {"bits": 4, "edge_bits": 6},
            "edge_bits=6: post-training quantisation supports 1, 2, 4, 8 bit;"
            " give 8, the next width that an overlay has",
        ),
        (
            ConfigError,
            {"mixed": Mixed(width=5)},
            "mixed: with bits=8 there is nothing to choose; give bits=4, or leave mixed out",
        ),
        (ConfigError, {"adaptive_mebibytes": 0}, "adaptive_mebibytes=0: expected at least 1"),
        (ConfigError, {"method": "mse"}, "method='mse': expected one of minmax, percentile, entropy"),
        (ConfigError, {"percentile": 50.0}, "percentile=50.0: expected more than 50 and at most 100"),
        (ConfigError, {"percentile": float("nan")}, "percentile=nan: expected more than 50 and at most 100"),
        (ConfigError, {"share_ratio": 0.5}, "share_ratio=0.5: expected a finite number of at least 1"),
        (
            ConfigError,
            {"accumulator_bits": 33},
            "accumulator_bits=33: expected more than 2*bits=16 and at most 32, the width of a bias in ONNX",
        ),
        (ConfigError, {"statistics_samples": 0}, "statistics_samples=0: expected at least 1"),
    ],
)
def test_options(kind: type[TilewrightError], options: dict[str, Any], text: str) -> None:
    with pytest.raises(kind, match=f"^{re.escape(text)}$"):
        QuantizeOptions(**options)


def test_all_faults_of_options_are_listed() -> None:
    with pytest.raises(ConfigError) as caught:
        QuantizeOptions(share_ratio=0.0, statistics_samples=0)
    assert len(caught.value.faults) == 2


def test_empty_calibration() -> None:
    _refuses(DataError, "the calibration set is empty: expected at least one sample", _model(), [])


@pytest.mark.parametrize(
    ("sample", "text"),
    [
        (
            {"x": np.zeros((1, 2, 5, 4), np.float32)},
            "calibration sample 0: input 'x': expected shape (1, 2, 4, 4), found (1, 2, 5, 4)",
        ),
        (
            {"x": np.zeros(MAP, np.float64)},
            "calibration sample 0: input 'x': expected float32, found float64",
        ),
        ({}, "calibration sample 0: input 'x' is missing, found none"),
        (
            {"x": np.zeros(MAP, np.float32), "z": np.zeros(1)},
            "calibration sample 0: the model has no input 'z': expected x",
        ),
        (
            {"x": np.full(MAP, np.nan, np.float32)},
            "calibration sample 0: input 'x': 32 of 32 values are NaN or infinite",
        ),
        (
            np.zeros(MAP, np.float32),
            "calibration sample 0: expected a mapping from input name to array, found ndarray",
        ),
    ],
)
def test_samples(sample: Any, text: str) -> None:
    _refuses(DataError, text, _model(), [sample])


def test_a_late_sample_is_checked_too() -> None:
    model = _model()
    samples = [*noise_samples(model, 70), {"x": np.zeros((1, 2, 4, 3), np.float32)}]
    text = "calibration sample 70: input 'x': expected shape (1, 2, 4, 4), found (1, 2, 4, 3)"
    _refuses(DataError, text, model, samples)


@pytest.mark.parametrize("method", ["minmax", "percentile", "entropy"])
@pytest.mark.parametrize(("operator", "word"), [("Log", "NaN"), ("Exp", "infinity")])
def test_activations_that_are_not_finite(method: Any, operator: str, word: str) -> None:
    nodes = [
        node("Tanh", "x", "t"),
        node("Conv", "t w", "c"),
        node(operator, "c", "l"),
        node("Conv", "l v", "y"),
    ]
    model = build(nodes, {"x": MAP}, ["y"], {"w": np.full((1, 2, 1, 1), 1e4), "v": normal((1, 1, 1, 1))})
    text = (
        f"activations of tensor 'l' hold {word} on a calibration sample;"
        " check the preprocessing and the model's weights"
    )
    with pytest.raises(DataError, match=f"^{re.escape(text)}$"):
        quantize_onnx(model, noise_samples(model), QuantizeOptions(method=method))


@pytest.mark.parametrize(
    "operator", ["QuantizeLinear", "DequantizeLinear", "QLinearConv", "Quant", "BipolarQuant"]
)
def test_a_quantised_model_is_told_apart(operator: str) -> None:
    model = _model()
    assert not is_quantised(model)
    model.graph.node.append(helper.make_node(operator, ["y", "s", "z"], ["q"]))
    assert is_quantised(model)
    text = (
        "the model is quantised already: expected a float model without QuantizeLinear or Quant nodes;"
        " compile it as it is, its own scales are kept"
    )
    _refuses(UnsupportedModel, text, model, [])


def test_own_output_is_quantised() -> None:
    model = _model()
    assert is_quantised(quantize_onnx(model, noise_samples(model)))


def test_other_opset() -> None:
    model = _model()
    model.opset_import[0].version = 13
    _refuses(
        UnsupportedModel, "expected opset 21, found 13; bring the model to canonical form first", model, []
    )


def test_weights_that_are_not_finite() -> None:
    weight = normal((3, 2, 3, 3))
    weight[0, 0, 0] = np.inf, np.nan, 1.0
    model = build([node("Conv", "x w", "y")], {"x": MAP}, ["y"], {"w": weight})
    _refuses(ModelError, "w: 2 of 54 weights are NaN or infinite", model, [])


def test_nothing_to_quantise() -> None:
    model = build([node("Softmax", "x", "y")], {"x": (1, 5)}, ["y"])
    _refuses(UnsupportedModel, "no operator of the model can be quantised: found Softmax", model, [])


def test_control_flow() -> None:
    branch = helper.make_graph(
        [helper.make_node("Neg", ["x"], ["n"])], "b", [], [helper.make_tensor_value_info("n", 1, MAP)]
    )
    model = _model()
    model.graph.node.append(
        helper.make_node("If", ["c"], ["z"], name="choose", then_branch=branch, else_branch=branch)
    )
    _refuses(UnsupportedModel, "node 'choose': If with a subgraph is not supported", model, [])


def test_shapes_that_contradict_each_other() -> None:
    model = build(
        [node("Conv", "x w", "c"), node("Add", "x v", "y")],
        {"x": MAP, "v": MAP},
        ["y"],
        {"w": normal((3, 2, 3, 3))},
    )
    model.graph.input[1].type.tensor_type.shape.dim[3].dim_value = 3
    with pytest.raises(ModelError, match=r"^shapes cannot be inferred: "):
        quantize_onnx(model, [])


def test_weights_of_another_shape() -> None:
    model = _model()
    model.graph.initializer[0].CopyFrom(numpy_helper.from_array(normal((3, 5, 3, 3)), "w"))
    with pytest.raises(UnsupportedModel, match=r"^ONNX Runtime cannot run the float model for calibration: "):
        quantize_onnx(model, noise_samples(model))


def test_an_operator_that_only_this_project_knows_may_follow() -> None:
    """Detection output: ONNX Runtime cannot run it, and need not for calibration."""
    model = _model()
    model.graph.node.append(helper.make_node("DetectionOutput", ["y"], ["d"], name="d", domain="tilewright"))
    model.opset_import.append(helper.make_opsetid("tilewright", 1))
    model.graph.output.append(helper.make_tensor_value_info("d", TensorProto.FLOAT, [1, 7]))
    quantised = quantize_onnx(model, noise_samples(model))
    last = quantised.graph.node[-1]
    assert (last.op_type, list(last.input)) == ("DetectionOutput", ["y"])
    assert [item.name for item in quantised.graph.output] == ["y", "d"]


def test_an_operator_that_the_runtime_lacks_may_not_come_before() -> None:
    model = build([node("Conv", "d w", "y")], {"x": MAP}, ["y"], {"w": normal((3, 2, 3, 3))})
    model.graph.node.insert(0, helper.make_node("Unknown", ["x"], ["d"], name="d", domain="tilewright"))
    model.opset_import.append(helper.make_opsetid("tilewright", 1))
    model.graph.value_info.append(helper.make_tensor_value_info("d", TensorProto.FLOAT, MAP))
    with pytest.raises(UnsupportedModel, match=r"^ONNX Runtime cannot run the float model for calibration: "):
        quantize_onnx(model, noise_samples(model))
