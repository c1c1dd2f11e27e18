from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tilewright.errors import ModelError
from tilewright.frontend.canonical.fold_affine import FoldAffine

from .models import Array, build, floats, graph_of, only, ops, rewrite

BATCH_NORM = {
    "g": floats(4, low=0.5),
    "b": floats(4),
    "m": floats(4, seed=2),
    "v": floats(4, seed=3, low=0.1),
}


@settings(max_examples=20, deadline=None, derandomize=True)
@given(
    epsilon=st.sampled_from([0.0, 1e-5, 1e-3, 0.1]),
    pad=st.integers(0, 2),
    stride=st.integers(1, 2),
    group=st.sampled_from([1, 2]),
    bias=st.booleans(),
)
def test_batch_norm_folds_backwards(epsilon: float, pad: int, stride: int, group: int, bias: bool) -> None:
    model = build(
        f"""g (float[1,4,7,6] x) => (float[1,4,h,w] y) {{
            c = Conv <pads = [{pad},{pad},{pad},{pad}], strides = [{stride},{stride}], group = {group}>
                     (x, k{", kb" if bias else ""})
            y = BatchNormalization <epsilon = {epsilon}> (c, g, b, m, v)
        }}""",
        k=floats(4, 4 // group, 3, 3),
        **({"kb": floats(4, seed=9)} if bias else {}),
        **BATCH_NORM,
    )
    graph = rewrite(model, FoldAffine())
    assert ops(graph) == {"Conv": 1}
    assert graph.resolved_folds() == {"BatchNormalization_y": "Conv_c"}


@pytest.mark.parametrize(
    ("text", "constant"),
    [
        ("y = Mul (c, s)", floats(4, 1, 1)),
        ("y = Mul (s, c)", floats(1, 4, 1, 1)),
        ("y = Div (c, s)", floats(4, 1, 1, low=0.5)),
        ("y = Add (s, c)", floats(4, 1, 1)),
        ("y = Sub (c, s)", floats(4, 1, 1)),
        ("y = Sub (s, c)", floats(4, 1, 1)),
        ("y = Add (c, s)", floats(1)),
        ("y = Mul (c, s)", np.array(2.5, np.float32)),
        ("y = Add (c, s)", np.broadcast_to(floats(4, 1, 1), (4, 5, 5)).copy()),
    ],
)
def test_per_channel_and_scalar_constants_fold(text: str, constant: Array) -> None:
    model = build(
        "g (float[1,3,5,5] x) => (float[1,4,5,5] y) { c = Conv (x, k) " + text + " }",
        k=floats(4, 3, 1, 1),
        s=constant,
    )
    assert ops(rewrite(model, FoldAffine())) == {"Conv": 1}


def test_grouped_transposed_convolution() -> None:
    model = build(
        """g (float[1,6,4,4] x) => (float[1,4,8,8] y) {
            c = ConvTranspose <strides = [2,2], group = 2> (x, k)
            y = BatchNormalization (c, g, b, m, v) }""",
        k=floats(6, 2, 2, 2),
        **BATCH_NORM,
    )
    assert ops(rewrite(model, FoldAffine())) == {"ConvTranspose": 1}


def test_dense_layer_both_ways() -> None:
    model = build(
        """g (float[1,4] x) => (float[1,5] y) {
            n = BatchNormalization (x, g, b, m, v)
            c = Gemm <transB = 1> (n, k, kb)
            y = Add (c, s) }""",
        k=floats(5, 4),
        kb=floats(5),
        s=floats(5, seed=7),
        **BATCH_NORM,
    )
    assert ops(rewrite(model, FoldAffine())) == {"Gemm": 1}


@pytest.mark.parametrize("group", [1, 2])
def test_batch_norm_on_the_input_folds_forwards_without_padding(group: int) -> None:
    model = build(
        f"""g (float[1,4,5,5] x) => (float[1,6,3,3] y) {{
            n = BatchNormalization (x, g, b, m, v)
            y = Conv <group = {group}> (n, k) }}""",
        k=floats(6, 4 // group, 3, 3),
        **BATCH_NORM,
    )
    graph = rewrite(model, FoldAffine())
    assert ops(graph) == {"Conv": 1}
    assert graph.resolved_folds() == {"BatchNormalization_n": "Conv_y"}


def test_a_shift_before_padding_stays() -> None:
    text = """g (float[1,4,5,5] x) => (float[1,6,5,5] y) {
        n = %s
        y = Conv <pads = [1,1,1,1]> (n, k) }"""
    kernel = floats(6, 4, 3, 3)
    shifted = build(text % "BatchNormalization (x, g, b, m, v)", k=kernel, **BATCH_NORM)
    assert ops(rewrite(shifted, FoldAffine())) == {"BatchNormalization": 1, "Conv": 1}
    scaled = build(text % "Mul (x, s)", k=kernel, s=floats(4, 1, 1))
    assert ops(rewrite(scaled, FoldAffine())) == {"Conv": 1}


def test_a_convolution_with_two_readers_stays() -> None:
    model = build(
        """g (float[1,3,5,5] x) => (float[1,4,5,5] y, float[1,4,5,5] z) {
            c = Conv (x, k)
            y = Mul (c, s)
            z = Relu (c) }""",
        k=floats(4, 3, 1, 1),
        s=floats(4, 1, 1),
    )
    assert ops(rewrite(model, FoldAffine())) == {"Conv": 1, "Mul": 1, "Relu": 1}


def test_a_constant_for_each_position_stays() -> None:
    model = build(
        "g (float[1,3,5,5] x) => (float[1,4,5,5] y) { c = Conv (x, k) y = Add (c, s) }",
        k=floats(4, 3, 1, 1),
        s=floats(4, 5, 5),
    )
    assert ops(rewrite(model, FoldAffine())) == {"Conv": 1, "Add": 1}


def test_what_does_not_fit_float32_stays() -> None:
    model = build(
        "g (float[1,1,2,2] x) => (float[1,1,2,2] y) { c = Conv (x, k) y = Mul (c, s) }",
        k=np.full((1, 1, 1, 1), 1e30, np.float32),
        s=np.full((1, 1, 1), 1e30, np.float32),
    )
    graph = graph_of(model)
    assert not FoldAffine()(graph)
    assert only(graph, "Mul").name == "Mul_y"


def test_negative_variance_is_a_fault() -> None:
    model = build(
        """g (float[1,2,5,5] x) => (float[1,2,5,5] y) {
            c = Conv (x, k)
            y = BatchNormalization (c, g, b, m, v) }""",
        k=floats(2, 2, 1, 1),
        g=floats(2),
        b=floats(2),
        m=floats(2),
        v=np.array([1.0, -0.5], np.float32),
    )
    with pytest.raises(ModelError) as caught:
        FoldAffine()(graph_of(model))
    assert str(caught.value) == (
        "node BatchNormalization_y: variance + epsilon must be above 0, found -0.49999 in channel 1; "
        "train or export the model again"
    )
