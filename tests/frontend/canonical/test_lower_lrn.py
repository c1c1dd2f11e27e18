from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tilewright.errors import ModelError
from tilewright.frontend.canonical.lower_lrn import LowerLrn

from .models import TOLERANCE, build, floats, graph_of, only, ops, rewrite, run


@settings(max_examples=20, deadline=None, derandomize=True)
@given(
    channels=st.integers(1, 9),
    size=st.sampled_from([1, 3, 5, 7]),  # ONNX Runtime takes no others
    alpha=st.sampled_from([1e-4, 0.1, 1.0]),
    beta=st.sampled_from([0.5, 0.75, 1.0]),
    bias=st.sampled_from([1.0, 2.0]),
)
def test_window_and_parameters(channels: int, size: int, alpha: float, beta: float, bias: float) -> None:
    model = build(
        f"""g (float[1,{channels},4,5] x) => (float[1,{channels},4,5] y) {{
            y = LRN <size = {size}, alpha = {alpha:f}, beta = {beta:f}, bias = {bias:f}> (x) }}"""
    )
    graph = rewrite(model, LowerLrn())
    assert ops(graph) == {"Mul": 2, "Conv": 1, "Pow": 1}
    assert graph.scalar(only(graph, "Pow").inputs[1]) == -beta
    assert [n.name for n in graph.nodes] == ["LRN_y/square", "LRN_y/sum", "LRN_y/power", "LRN_y"]
    assert set(graph.origins.values()) == {"LRN_y"}


def test_even_window_against_the_formula() -> None:
    model = build(
        """g (float[1,5,2,2] x) => (float[1,5,2,2] y) {
            y = LRN <size = 4, alpha = 0.4, beta = 0.75, bias = 1.5> (x) }"""
    )
    graph = graph_of(model)
    assert LowerLrn()(graph)
    x = floats(1, 5, 2, 2).astype(np.float64)
    want = np.empty_like(x)
    for c in range(5):  # i = c - floor((n-1)/2) .. c + ceil((n-1)/2)
        window = x[:, max(c - 1, 0) : c + 3]
        want[:, c] = x[:, c] / (1.5 + 0.4 / 4 * (window**2).sum(axis=1)) ** 0.75
    assert np.abs(run(graph.to_model())[0] - want).max() <= TOLERANCE * np.abs(want).max()


def test_a_window_of_nothing_is_a_fault() -> None:
    graph = graph_of(build("g (float[1,5,2,2] x) => (float[1,5,2,2] y) { y = LRN <size = 0> (x) }"))
    with pytest.raises(ModelError) as caught:
        LowerLrn()(graph)
    assert str(caught.value) == "node LRN_y: LRN's size must be at least 1, found 0; export the model again"
