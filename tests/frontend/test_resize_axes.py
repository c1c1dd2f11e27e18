"""Resize along an axis, against ONNX's reference evaluator."""

from __future__ import annotations

import warnings

import numpy as np
import onnx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from onnx import TensorProto, helper
from onnx.reference import ReferenceEvaluator

from tilewright.frontend.resize_axes import ResizeAxis

F32 = NDArray[np.float32]
COORDINATES = ("half_pixel", "half_pixel_symmetric", "pytorch_half_pixel", "asymmetric", "align_corners")
ROUNDINGS = ("round_prefer_floor", "round_prefer_ceil", "floor", "ceil")


def by_onnx(x: F32, part: ResizeAxis) -> F32:
    """The operator on one axis. Shape: (size,) to (out,)."""
    crop = part.coordinate == "tf_crop_and_resize"
    node = helper.make_node(
        "Resize",
        ["x", "roi" if crop else "", "scales"],
        ["y"],
        mode=part.mode,
        coordinate_transformation_mode=part.coordinate,
        nearest_mode=part.nearest,
        cubic_coeff_a=part.cubic_a,
        exclude_outside=int(part.exclude_outside),
        antialias=int(part.antialias),
    )
    graph = helper.make_graph(
        [node],
        "resize",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, [part.size])],
        [helper.make_empty_tensor_value_info("y")],
        [
            helper.make_tensor("scales", TensorProto.FLOAT, [1], [part.scale]),
            helper.make_tensor("roi", TensorProto.FLOAT, [2], part.roi),
        ],
    )
    model: onnx.ModelProto = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 19)])
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        found = ReferenceEvaluator(model).run(None, {"x": x})
    assert isinstance(found, list)
    return np.asarray(found[0], np.float32)


@st.composite
def axes(draw: st.DrawFn) -> ResizeAxis:
    size = draw(st.integers(2, 12))
    scale = float(np.float32(draw(st.sampled_from([0.3, 0.5, 0.6, 0.75, 0.8, 1.25, 1.7, 2.0, 3.5]))))
    mode = draw(st.sampled_from(["nearest", "linear", "cubic"]))
    extra = draw(st.sampled_from(["", "exclude_outside", "antialias"])) if mode != "nearest" else ""
    return ResizeAxis(
        size,
        max(1, int(size * scale)),
        scale if int(size * scale) else 1 / size,
        mode,
        draw(st.sampled_from(COORDINATES)),
        draw(st.sampled_from(ROUNDINGS)) if mode == "nearest" else "floor",
        draw(st.sampled_from([-0.5, -0.75])),
        extra == "exclude_outside" and mode == "cubic",
        extra == "antialias",
    )


@given(axes(), st.integers(0, 1000))
@settings(max_examples=150, deadline=None, derandomize=True)
def test_equals_the_reference(part: ResizeAxis, seed: int) -> None:
    """Sums of at most 2 * 4 / 0.3 products of float32: 1e-5 is a hundred roundings of numbers up to 4."""
    x = np.random.default_rng(seed).uniform(-1, 1, part.size).astype(np.float32)
    found = x[part.indices()] if part.mode == "nearest" else part.matrix() @ x
    np.testing.assert_allclose(found, by_onnx(x, part), rtol=0, atol=1e-5)


def test_rows_sum_to_one() -> None:
    for coordinate in COORDINATES:
        for mode in ("linear", "cubic"):
            matrix = ResizeAxis(9, 5, 5 / 9, mode, coordinate).matrix()
            np.testing.assert_allclose(matrix.sum(axis=1), 1, atol=1e-6)


def test_crop_tells_what_lies_outside() -> None:
    part = ResizeAxis(5, 5, 1.0, "linear", "tf_crop_and_resize", roi=(-0.25, 0.75))
    assert part.inside().tolist() == [False, True, True, True, True]


@pytest.mark.parametrize(
    ("part", "message"),
    [
        (ResizeAxis(4, 2, 0.5, "linear", "tf_half_pixel_for_nn"), "coordinate_transformation_mode 'tf_half_pixel_for_nn' is unknown"),
        (ResizeAxis(4, 2, 0.5, "nearest", "asymmetric", "up"), "nearest_mode 'up' is unknown"),
        (ResizeAxis(4, 2, 0.5, "lanczos", "asymmetric"), "mode 'lanczos' is unknown"),
    ],
)  # fmt: skip
def test_unknown_modes(part: ResizeAxis, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        part.indices() if part.mode == "nearest" else part.matrix()
