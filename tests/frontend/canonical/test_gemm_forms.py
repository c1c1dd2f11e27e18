from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tilewright.frontend.canonical import PASSES
from tilewright.frontend.canonical.gemm_forms import GemmForms

from .models import build, floats, only, ops, rewrite


@settings(max_examples=20, deadline=None, derandomize=True)
@given(
    trans=st.booleans(),
    alpha=st.sampled_from([1.0, 0.5]),
    beta=st.sampled_from([1.0, 2.0]),
    bias=st.sampled_from([None, (), (1,), (4,), (1, 4)]),
)
def test_gemm(trans: bool, alpha: float, beta: float, bias: tuple[int, ...] | None) -> None:
    constants = {"w": floats(4, 6) if trans else floats(6, 4)}
    if bias is not None:
        constants["b"] = floats(*bias, seed=1)
    names = "x, w" + ("" if bias is None else ", b")
    model = build(
        f"""g (float[2,6] x) => (float[2,4] y) {{
            y = Gemm <alpha = {alpha:f}, beta = {beta:f}, transB = {int(trans)}> ({names}) }}""",
        **constants,
    )
    graph = rewrite(model, GemmForms())
    gemm = only(graph, "Gemm")
    assert gemm.attrs == {"transB": 1}
    assert [graph.shape(v) for v in gemm.inputs] == [(2, 6), (4, 6), (4,)]


def test_a_bias_for_each_row_is_an_addition() -> None:
    model = build("g (float[2,6] x) => (float[2,4] y) { y = Gemm (x, w, b) }", w=floats(6, 4), b=floats(2, 4))
    assert ops(rewrite(model, GemmForms())) == {"Gemm": 1, "Add": 1}


def test_transposed_input() -> None:
    model = build("g (float[6,2] x) => (float[2,4] y) { y = Gemm <transA = 1> (x, w) }", w=floats(6, 4))
    assert ops(rewrite(model, GemmForms())) == {"Transpose": 1, "Gemm": 1}


@pytest.mark.parametrize("bias", [(4,), (1, 4)])
def test_matmul_and_add(bias: tuple[int, ...]) -> None:
    model = build(
        "g (float[1,6] x) => (float[1,4] y) { m = MatMul (x, w) y = Add (m, b) }",
        w=floats(6, 4),
        b=floats(*bias),
    )
    assert ops(rewrite(model, *PASSES)) == {"Gemm": 1}


def test_matmul_of_rows() -> None:
    model = build(
        "g (float[1,5,6] x) => (float[1,5,4] y) { m = MatMul (x, w) y = Add (b, m) }",
        w=floats(6, 4),
        b=floats(4),
    )
    graph = rewrite(model, *PASSES)
    assert ops(graph) == {"Reshape": 2, "Gemm": 1}
    assert graph.resolved_folds() == {"Add_y": "MatMul_m"}


def test_reshaped_constant_weights_and_no_batch() -> None:
    model = build(
        """g (float[6] x) => (float[4] y) {
            r = Reshape (w, s)
            y = MatMul (x, r) }""",
        w=floats(2, 3, 4),
        s=np.array([6, 4], np.int64),
    )
    assert ops(rewrite(model, *PASSES)) == {"Reshape": 2, "Gemm": 1}


def test_a_product_of_two_activations_stays() -> None:
    model = build("g (float[1,6] x, float[6,4] w) => (float[1,4] y) { y = MatMul (x, w) }")
    assert ops(rewrite(model, *PASSES)) == {"MatMul": 1}
