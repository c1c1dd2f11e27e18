from __future__ import annotations

import numpy as np

from tilewright.frontend.canonical import PASSES
from tilewright.frontend.canonical.div_to_mul import DivToMul

from .models import build, only, ops, rewrite


def test_lrn_within_channel() -> None:
    text = """g (float[1,3,6,6] x) => (float[1,3,6,6] y) {
        q = Mul (x, x)
        a = AveragePool <kernel_shape = [3,3], pads = [1,1,1,1], count_include_pad = 1> (q)
        m = Mul (a, alpha)
        s = Add (m, k)
        p = Pow (s, beta)
        y = Div (x, p) }"""
    numbers = {"alpha": 0.5, "k": 1.0, "beta": 0.75}
    model = build(text, **{k: np.array(v, np.float32) for k, v in numbers.items()})
    graph = rewrite(model, *PASSES)
    assert ops(graph) == {"Mul": 3, "AveragePool": 1, "Add": 1, "Pow": 1}
    assert graph.scalar(only(graph, "Pow").inputs[1]) == -0.75


def test_square_root() -> None:
    model = build(
        "g (float[1,3] x, float[1,3] z) => (float[1,3] y) { p = Sqrt (z) y = Div (x, p) }",
    )
    graph = rewrite(model, DivToMul(), positive=True)
    assert ops(graph) == {"Pow": 1, "Mul": 1}


def test_a_power_with_another_reader_stays() -> None:
    model = build(
        "g (float[1,3] x, float[1,3] z) => (float[1,3] y, float[1,3] p) { p = Sqrt (z) y = Div (x, p) }",
    )
    assert ops(rewrite(model, DivToMul(), positive=True)) == {"Sqrt": 1, "Div": 1}
