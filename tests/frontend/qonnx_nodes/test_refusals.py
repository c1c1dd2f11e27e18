"""Quantisers without a standard form are refused by name, with what was found and what to do; all at once."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from tests.frontend.qonnx_nodes.graphs import imported, model_of, node, operators, run

from tilewright.errors import UnsupportedModel
from tilewright.frontend import load_onnx

SHAPE = (1, 3, 4, 4)
CONSTANTS: dict[str, Any] = {"s": 0.5, "z": 0, "b": 4, "a": 2}
MODES = "ROUND, HALF_EVEN, FLOOR, CEIL, DOWN, UP, HALF_UP, HALF_DOWN"

CASES: dict[str, tuple[dict[str, Any], dict[str, Any], str]] = {
    "bits": (
        {"b": 24},
        {},
        "Quant: expected at most 16 bits for a tensor computed at run time, found 24; "
        "quantise it to 8 bits, or leave the quantiser out",
    ),
    "fractional_bits": (
        {"b": 3.5},
        {},
        "Quant: expected a whole bit width of 1..32, found 3.5; export with a fixed bit width",
    ),
    "mode": (
        {},
        {"rounding_mode": "STOCHASTIC"},
        f"Quant: expected rounding_mode {MODES}, found 'STOCHASTIC'; export with ROUND",
    ),
    "zero_point": (
        {"z": 0.25},
        {},
        "Quant: expected whole numbers as zero points, found 0.25; round the zero points",
    ),
    "zero_point_range": (
        {"z": 300},
        {},
        "Quant: expected zero points of int8 (-128..127), found 300..300; quantise with a zero point within the range",
    ),
    "scale": ({"s": 0}, {}, "Quant: expected scales above 0, found 0.0; train or export again"),
    "scale_axes": (
        {"s": np.ones((1, 3, 4, 1), np.float32)},
        {},
        "Quant: expected one scale or one for each channel, found shape [1, 3, 4, 1]; "
        "quantise per tensor or per channel",
    ),
    "one_value": (
        {"b": 1},
        {"signed": 0, "narrow": 1},
        "Quant: expected a range of two or more integers, found 0..0 (1 bits, narrow=1); "
        "export with narrow range off",
    ),
    "bipolar_zero_point": (
        {"b": 1, "z": 1},
        {},
        "Quant: expected a zero point of 0 for one signed bit, found 1; export without a zero point",
    ),
}


@pytest.mark.parametrize("case", CASES)
def test_quant(case: str) -> None:
    constants, attrs, want = CASES[case]
    quantiser = node("Quant", ["x", "s", "z", "b"], "y", **{"signed": 1, "narrow": 0, **attrs})
    with pytest.raises(UnsupportedModel) as caught:
        load_onnx(model_of([quantiser], {**CONSTANTS, **constants}, SHAPE))
    assert str(caught.value) == f"node y: {want}"


def test_all_at_once() -> None:
    nodes = [
        node("Trunc", ["x", "s", "z", "b", "a"], "t"),
        node("Relu", ["t"], "r", ""),
        node("Trunc", ["r", "s", "z", "a", "b"], "wider"),
        node("Trunc", ["r", "s", "z", "c", "c"], "wide"),
        node("Trunc", ["r", "s", "one", "b", "s4", "a"], "shifted", signed=1),
        node("Sum", ["wider", "wide", "shifted"], "sum", ""),
        node("BipolarQuant", ["sum", "r"], "y"),
    ]
    with pytest.raises(UnsupportedModel) as caught:
        load_onnx(model_of(nodes, {**CONSTANTS, "c": 12, "one": 1, "s4": 2}, SHAPE))
    assert str(caught.value).splitlines() == [
        "node t: Trunc: expected an operand whose quantiser says whether it is signed, found x; "
        "export with qonnx 1.0, whose Trunc says it, or put a Quant before",
        "node wider: Trunc: expected fewer bits after than before, found 2 and 4; use Quant to widen",
        "node wide: Trunc: expected at most 8 bits after, found 12; truncate to 8 bits or fewer",
        "node shifted: Trunc: expected a zero point that the shift divides, found 1; export without a zero point",
        "node y: BipolarQuant: expected a constant as scale, found r; "
        "export the model in evaluation mode, with its quantisers' parameters fixed",
    ]


def test_parameters_that_the_file_computes() -> None:
    """The scale of a bias, say: the product of two others."""
    nodes = [node("Mul", ["s", "s"], "ss", ""), node("Quant", ["x", "ss", "z", "b"], "y", signed=1, narrow=0)]
    model = imported(model_of(nodes, CONSTANTS, SHAPE))
    assert operators(model) == ["QuantizeLinear", "Clip", "DequantizeLinear"]
    x = np.linspace(-4, 4, 48, dtype=np.float32).reshape(SHAPE)
    want = np.clip(np.rint(x / 0.25), -8, 7) * np.float32(0.25)
    np.testing.assert_array_equal(run(model, {"x": x})[0], want)


def test_zero_is_plus_one() -> None:
    model = imported(model_of([node("BipolarQuant", ["x", "s"], "y")], {"s": 0.5}, (1, 4)))
    assert operators(model) == ["GreaterOrEqual", "Where", "DequantizeLinear"]
    x = np.array([[0.0, -0.0, -1e-30, 1e-30]], np.float32)
    assert run(model, {"x": x})[0].tolist() == [[0.5, 0.5, -0.5, 0.5]]


def test_wide_bias_keeps_its_integers() -> None:
    """A bias of 32 bits, as Brevitas quantises it: integers and their scale."""
    nodes = [
        node("Quant", ["w", "s", "z", "wide"], "q", signed=1, narrow=0),
        node("Add", ["x", "q"], "y", ""),
    ]
    bias = np.array([100000.5, -3.0, 0.26], np.float32).reshape(1, 3, 1, 1)
    model = imported(model_of(nodes, {**CONSTANTS, "w": bias, "wide": 32}, SHAPE))
    (name,) = [n.input[0] for n in model.graph.node if n.op_type == "DequantizeLinear"]
    (found,) = [t for t in model.graph.initializer if t.name == name]
    assert np.frombuffer(found.raw_data, np.int32).tolist() == [200001, -6, 1]
