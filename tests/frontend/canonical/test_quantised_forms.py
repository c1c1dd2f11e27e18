"""QCDQ as Brevitas exports it: weights quantised in the graph, casts, and layers whose sums nothing rounds."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from onnx import TensorProto, numpy_helper
from tests.frontend.qonnx_nodes.graphs import imported, model_of, node, operators, run

from tilewright.frontend import canonicalise, load_onnx
from tilewright.frontend.canonical import close_outputs

SHAPE = (1, 4, 6, 6)
FEW = settings(max_examples=30, deadline=None, derandomize=True)


def brevitas(
    rng: np.random.Generator, bits: int, per_channel: bool, dense: bool = False, unsigned: bool = True
) -> tuple[list[onnx.NodeProto], dict[str, Any]]:
    """A layer `c`: quantised operand, float weights behind Quantize - Clip - Dequantize, zero points as tensors."""
    top, low = (1 << (bits - 1)) - 1, 1 - (1 << (bits - 1))
    kind = np.uint8 if unsigned else np.int8
    ends = (0, (1 << bits) - 1) if unsigned else (low - 1, top)
    shape = (4 * 36, 5) if dense else (5, 4, 3, 3)
    scale = rng.uniform(0.01, 0.02, 5 if per_channel else ()).astype(np.float32)
    axis = 1 if dense else 0
    constants: dict[str, Any] = {
        "s": np.array(0.11, np.float32),
        "z": np.array(0, kind),
        "lo": np.array(ends[0], kind),
        "hi": np.array(ends[1], kind),
        "w": rng.normal(0, 0.02 * top, shape).astype(np.float32),
        "ws": scale,
        "wz": np.zeros(scale.shape, np.int8),
        "wlo": np.array(low, np.int8),
        "whi": np.array(top, np.int8),
        "rows": np.array([1, 4 * 36], np.int64),
        "b": rng.normal(0, 1, 5).astype(np.float32),
    }
    attrs = {"axis": axis} if per_channel else {}
    nodes = [
        node("Cast", ["x"], "xf", "", to=TensorProto.FLOAT),
        node("QuantizeLinear", ["xf", "s", "z"], "q", ""),
        node("Clip", ["q", "lo", "hi"], "qc", ""),
        node("DequantizeLinear", ["qc", "s", "z"], "d", ""),
        node("QuantizeLinear", ["w", "ws", "wz"], "wq", "", **attrs),
        node("Clip", ["wq", "wlo", "whi"], "wc", ""),
        node("DequantizeLinear", ["wc", "ws", "wz"], "wd", "", **attrs),
    ]
    if dense:
        nodes += [node("Reshape", ["d", "rows"], "flat", ""), node("Gemm", ["flat", "wd", "b"], "c", "")]
    else:
        nodes.append(node("Conv", ["d", "wd", "b"], "c", ""))
    return nodes, constants


@FEW
@given(
    bits=st.integers(2, 8),
    per_channel=st.booleans(),
    dense=st.booleans(),
    unsigned=st.booleans(),
    seed=st.integers(0, 1000),
)
def test_weights_are_integers(bits: int, per_channel: bool, dense: bool, unsigned: bool, seed: int) -> None:
    """A quantiser behind the layer: nothing but the weights changes, and no bit of the result."""
    rng = np.random.default_rng(seed)
    nodes, constants = brevitas(rng, bits, per_channel, dense, unsigned)
    nodes += [
        node("QuantizeLinear", ["c", "s", "z"], "r", ""),
        node("DequantizeLinear", ["r", "s", "z"], "y", ""),
    ]
    model = model_of(nodes, constants, SHAPE)
    found = imported(model)
    want = ["QuantizeLinear", "Clip", "DequantizeLinear", "DequantizeLinear", "Conv", "QuantizeLinear"]
    if dense:
        want[4:5] = ["Reshape", "Gemm"]
    kept = [o for o in operators(found) if o != "Clip"] if bits == 8 else operators(found)
    assert sorted(kept) == sorted(
        [*(want if bits < 8 else [o for o in want if o != "Clip"]), "DequantizeLinear"]
    )
    x = rng.normal(0, 1, SHAPE).astype(np.float32)
    np.testing.assert_array_equal(run(found, {"x": x})[0], run(model, {"x": x})[0])


def test_weights_beyond_all_integers_are_cut_off() -> None:
    """float32 overflows where they are divided by the scale; ONNX Runtime cuts off like all that is too large."""
    nodes, constants = brevitas(np.random.default_rng(0), 8, False)
    constants["w"].flat[:2] = 3e38, -3e38
    constants["ws"] = np.array(1e-3, np.float32)
    nodes += [
        node("QuantizeLinear", ["c", "s", "z"], "r", ""),
        node("DequantizeLinear", ["r", "s", "z"], "y", ""),
    ]
    model = model_of(nodes, constants, SHAPE)
    x = np.random.default_rng(1).normal(0, 1, SHAPE).astype(np.float32)
    np.testing.assert_array_equal(run(imported(model), {"x": x})[0], run(model, {"x": x})[0])


@pytest.mark.parametrize("scale", [0.0, -1.0])
def test_scales_that_cannot_be_are_left_to_the_checks(scale: float) -> None:
    nodes, constants = brevitas(np.random.default_rng(0), 8, False)
    constants["ws"] = np.array(scale, np.float32)
    found = imported(model_of(nodes, constants, SHAPE, ("c",)))
    assert operators(found).count("QuantizeLinear") == 2  # the operand's and the weights'


def constant(model: onnx.ModelProto, name: str) -> Any:
    """An initialiser's array."""
    return next(numpy_helper.to_array(t) for t in model.graph.initializer if t.name == name)


@FEW
@given(
    bits=st.integers(2, 8),
    per_channel=st.booleans(),
    dense=st.booleans(),
    unsigned=st.booleans(),
    seed=st.integers(0, 1000),
)
def test_float_sums_are_closed(bits: int, per_channel: bool, dense: bool, unsigned: bool, seed: int) -> None:
    """Logits without a quantiser get one that holds every sum; exact where the sums have one unit and fit."""
    rng = np.random.default_rng(seed)
    nodes, constants = brevitas(rng, bits, per_channel, dense, unsigned)
    model = model_of([*nodes, node("Mul", ["c", "s"], "y", "")], constants, SHAPE)
    found = imported(model)
    (closing,) = [
        n for n in found.graph.node if n.op_type == "QuantizeLinear" and n.input[0].startswith("c/")
    ]
    scale, zero = constant(found, closing.input[1]), constant(found, closing.input[2])
    x = rng.normal(0, 1, SHAPE).astype(np.float32)
    got, want = run(found, {"x": x})[0], run(model, {"x": x})[0]
    unit = constants["s"] * constants["ws"]
    # Sums of 36 to 144 products round in float32 by less than 1e-5 of the largest; a step is worth `scale`.
    slack = 1e-5 * np.abs(want).max()
    exact = not per_channel and np.isclose(scale, unit.reshape(-1)[0], rtol=1e-6)
    error = slack if exact else 0.5001 * float(scale) * float(constants["s"]) + slack
    assert np.abs(got - want).max() <= error
    assert exact or zero.dtype == np.int16
    assert canonicalise(found).SerializeToString() == found.SerializeToString()


@pytest.mark.parametrize(("most", "unit", "want"), [(100, 0.5, (0.5, "int8")), (30000, 0.5, (0.5, "int16"))])
def test_units_are_kept_where_sums_fit(most: float, unit: float, want: tuple[float, str]) -> None:
    scale, zero = close_outputs.sum_grid(most, unit, 1.0)
    assert (scale, zero.dtype.name) == want


def test_large_sums_are_counted_in_whole_units() -> None:
    scale, zero = close_outputs.sum_grid(100000.0, 0.5, 1.0)
    assert (scale, zero.dtype.name) == (0.5 * 4, "int16")


def test_float_layers_stay_float() -> None:
    """Nothing to close where an operand is not quantised."""
    nodes, constants = brevitas(np.random.default_rng(1), 4, False)
    nodes = [n for n in nodes if n.output[0] not in ("q", "qc", "d")]
    nodes[-1].input[0] = "x"
    model = canonicalise(load_onnx(model_of([*nodes, node("Relu", ["c"], "y", "")], constants, SHAPE)))
    assert operators(model) == ["DequantizeLinear", "Conv", "Relu"]
