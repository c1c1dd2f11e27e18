"""Every quantiser gives the bits that qonnx's definition gives, run by ONNX Runtime after import."""

from __future__ import annotations

import warnings
from typing import Any

import numpy as np
import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from tests.frontend.qonnx_nodes.graphs import imported, model_of, node, run
from tests.frontend.qonnx_nodes.oracle import qonnx

from tilewright.frontend.qonnx_nodes.rounding import MODES

Array = NDArray[Any]
SHAPE = (1, 3, 4, 5)
FEW = settings(max_examples=80, deadline=None, derandomize=True)


def samples(seed: int, step: Array, shape: tuple[int, ...] = SHAPE) -> Array:
    """Half of them on thirds of steps, where modes differ, ties and steps themselves among them."""
    rng = np.random.default_rng(seed)
    grid = rng.integers(-60, 60, shape) / np.float32(2) * step
    free = rng.normal(0, 8, shape).astype(np.float32) * step
    return np.where(rng.random(shape) < 0.6, grid, free).astype(np.float32)


def scale_of(exponents: list[float], whole: bool, axis: int | None) -> Array:
    """Powers of two, or any; one for each channel where an axis is given."""
    values = np.exp2(np.round(exponents) if whole else exponents).astype(np.float32)
    return values[0].reshape(()) if axis is None else values.reshape(1, 3, 1, 1)


EXPONENTS = st.lists(st.floats(-8, 3), min_size=3, max_size=3)


@FEW
@given(
    bits=st.integers(2, 16),
    signed=st.booleans(),
    narrow=st.booleans(),
    mode=st.sampled_from(sorted(MODES)),
    zero=st.integers(0, 3),
    exponents=EXPONENTS,
    whole=st.booleans(),
    per_channel=st.booleans(),
    constant=st.booleans(),
    seed=st.integers(0, 1000),
)
@example(4, True, False, "ROUND", 1, [0.0] * 3, True, False, False, 1)
def test_quant(
    bits: int,
    signed: bool,
    narrow: bool,
    mode: str,
    zero: int,
    exponents: list[float],
    whole: bool,
    per_channel: bool,
    constant: bool,
    seed: int,
) -> None:
    scale = scale_of(exponents, whole, 1 if per_channel else None)
    x = samples(seed, scale)
    attrs: dict[str, Any] = {"signed": int(signed), "narrow": int(narrow), "rounding_mode": mode}
    constants: dict[str, Any] = {"s": scale, "z": zero, "b": bits}
    if constant:
        nodes = [node("Quant", ["w", "s", "z", "b"], "q", **attrs), node("Add", ["x", "q"], "y", "")]
        model = model_of(nodes, {**constants, "w": x}, SHAPE)
        feeds = {"x": np.zeros(SHAPE, np.float32)}
    else:
        model = model_of([node("Quant", ["x", "s", "z", "b"], "y", **attrs)], constants, SHAPE)
        feeds = {"x": x}
    (found,) = run(imported(model), feeds)
    f32 = np.float32
    want = qonnx("custom_op.general.quant").quant(x, scale, f32(zero), f32(bits), signed, narrow, mode)
    np.testing.assert_array_equal(found, want)


@FEW
@given(exponents=EXPONENTS, per_channel=st.booleans(), one_bit=st.booleans(), seed=st.integers(0, 1000))
def test_bipolar(exponents: list[float], per_channel: bool, one_bit: bool, seed: int) -> None:
    """Also a signed Quant of one bit; 0 and -0 are +1."""
    scale = scale_of(exponents, False, 1 if per_channel else None)
    x = samples(seed, scale)
    x.reshape(-1)[:2] = 0.0, -0.0
    name, inputs = ("Quant", ["x", "s", "z", "b"]) if one_bit else ("BipolarQuant", ["x", "s"])
    attrs: dict[str, Any] = {"signed": 1, "narrow": 1} if one_bit else {}
    model = model_of([node(name, inputs, "y", **attrs)], {"s": scale, "z": 0, "b": 1}, SHAPE)
    (found,) = run(imported(model), {"x": x})
    want = qonnx("custom_op.general.bipolar_quant").binary_quant(x, scale)
    np.testing.assert_array_equal(found, want)


@FEW
@given(
    before=st.integers(5, 12),
    fewer=st.integers(0, 4),
    second=st.booleans(),
    signed=st.booleans(),
    narrow=st.booleans(),
    mode=st.sampled_from(sorted(MODES)),
    exponent=st.integers(-8, 3),
    seed=st.integers(0, 1000),
)
def test_trunc(
    before: int, fewer: int, second: bool, signed: bool, narrow: bool, mode: str, exponent: int, seed: int
) -> None:
    """Integers of `before` bits, as the definition wants them."""
    after = min(before - fewer, 8)
    fewer = before - after
    narrow = narrow and second
    scale, f32 = np.float32(2.0**exponent), np.float32
    lo, hi = (-(1 << (before - 1)), (1 << (before - 1)) - 1) if signed else (0, (1 << before) - 1)
    integers = np.random.default_rng(seed).integers(lo, hi + 1, SHAPE).astype(np.float32)
    x = integers * scale
    trunc = qonnx("custom_op.general.trunc")
    constants: dict[str, Any] = {"s": scale, "z": 0, "b": before, "a": after, "t": scale * f32(2**fewer)}
    quantised = node("Quant", ["x", "s", "z", "b"], "q", signed=int(signed), narrow=0)
    if second:
        attrs: dict[str, Any] = {"rounding_mode": mode, "signed": int(signed), "narrow": int(narrow)}
        nodes = [quantised, node("Trunc", ["q", "s", "z", "b", "t", "a"], "y", **attrs)]
        want = trunc.trunc_v2(x, scale, f32(0), f32(before), narrow, signed, constants["t"], f32(after), mode)
    else:
        nodes = [quantised, node("Trunc", ["q", "s", "z", "b", "a"], "y", rounding_mode=mode)]
        want = trunc.trunc_v1(x, scale, f32(0), f32(before), f32(after), mode)
        # Without bounds of its own it may round up out of its range, which no integer of that width holds.
        top = ((1 << (after - int(signed))) - 1) * scale
        want = np.minimum(want, top)
    (found,) = run(imported(model_of(nodes, constants, SHAPE)), {"x": x})
    np.testing.assert_array_equal(found, want)


@pytest.mark.parametrize("bits", [2, 4, 8])
@pytest.mark.parametrize("per_channel", [False, True])
def test_the_package_converts_alike(bits: int, per_channel: bool) -> None:
    """qonnx's own conversion, where it has one, computes the same."""
    scale = scale_of([-1.3, 0.2, 1.7], False, 1 if per_channel else None)
    x = samples(bits, scale)
    model = model_of(
        [node("Quant", ["x", "s", "z", "b"], "y", signed=1, narrow=1)], {"s": scale, "z": 0, "b": bits}, SHAPE
    )
    wrapper, convert = qonnx("core.modelwrapper").ModelWrapper, qonnx("transformation.qonnx_to_qcdq")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        theirs = wrapper(model).transform(convert.QuantToQCDQ()).model
    np.testing.assert_array_equal(run(imported(model), {"x": x})[0], run(theirs, {"x": x})[0])
