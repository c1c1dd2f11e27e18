from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tilewright.frontend.canonical.explicit_windows import ExplicitWindows
from tilewright.frontend.canonical.fold_pad import FoldPad

from .models import Array, build, floats, int64, only, ops, rewrite

PASSES = (ExplicitWindows(), FoldPad())


@settings(max_examples=15, deadline=None, derandomize=True)
@given(st.lists(st.integers(0, 3), min_size=4, max_size=4), st.integers(0, 1), st.integers(1, 2))
def test_zeros_before_a_convolution(pads: list[int], own: int, stride: int) -> None:
    top, left, bottom, right = pads
    model = build(
        f"""g (float[1,2,6,5] x) => (float[1,3,h,w] y) {{
            p = Pad (x, pads)
            y = Conv <pads = [{own},0,{own},0], strides = [{stride},1]> (p, k) }}""",
        pads=int64(0, 0, top, left, 0, 0, bottom, right),
        k=floats(3, 2, 3, 3),
    )
    graph = rewrite(model, *PASSES)
    assert ops(graph) == {"Conv": 1}
    assert only(graph, "Conv").attrs["pads"] == [top + own, left, bottom + own, right]


def test_axes_input() -> None:
    model = build(
        """g (float[1,2,6,5] x) => (float[1,3,h,w] y) {
            p = Pad (x, pads, , axes)
            y = Conv (p, k) }""",
        pads=int64(1, 2),
        axes=int64(-1),
        k=floats(3, 2, 3, 3),
    )
    assert only(rewrite(model, *PASSES), "Conv").attrs["pads"] == [0, 1, 0, 2]


@pytest.mark.parametrize(
    ("pads", "value", "mode"),
    [
        (int64(0, 0, 1, 1, 0, 0, 1, 1), 1.0, "constant"),
        (int64(0, 1, 0, 0, 0, 0, 0, 0), 0.0, "constant"),
        (int64(0, 0, -1, 0, 0, 0, 0, 0), 0.0, "constant"),
        (int64(0, 0, 1, 1, 0, 0, 1, 1), 0.0, "reflect"),
    ],
)
def test_other_padding_stays(pads: Array, value: float, mode: str) -> None:
    channels = 3 if pads[1] else 2
    model = build(
        f"""g (float[1,2,6,5] x) => (float[1,3,h,w] y) {{
            p = Pad <mode = "{mode}"> (x, pads, v)
            y = Conv (p, k) }}""",
        pads=pads,
        v=np.array(value, np.float32),
        k=floats(3, channels, 3, 3),
    )
    assert ops(rewrite(model, *PASSES)) == {"Pad": 1, "Conv": 1}


@pytest.mark.parametrize(
    ("before", "value", "folds"),
    [("Relu (x)", 0.0, True), ("Tanh (x)", 0.0, False), ("Tanh (x)", -3.4028234663852886e38, True)],
)
def test_maximum(before: str, value: float, folds: bool) -> None:
    model = build(
        f"""g (float[1,2,6,6] x) => (float[1,2,3,3] y) {{
            r = {before}
            p = Pad (r, pads, v)
            y = MaxPool <kernel_shape = [3,3], strides = [2,2]> (p) }}""",
        pads=int64(0, 0, 1, 1, 0, 0, 0, 0),
        v=np.array(value, np.float32),
    )
    assert ("Pad" not in ops(rewrite(model, *PASSES, tolerance=0.0))) == folds


@pytest.mark.parametrize(("own", "include", "folds"), [(0, 0, True), (1, 1, True), (1, 0, False)])
def test_average(own: int, include: int, folds: bool) -> None:
    model = build(
        f"""g (float[1,2,6,6] x) => (float[1,2,h,w] y) {{
            p = Pad (x, pads)
            y = AveragePool <kernel_shape = [4,4], pads = [{own},{own},{own},{own}],
                             count_include_pad = {include}> (p) }}""",
        pads=int64(0, 0, 1, 1, 0, 0, 2, 1),
    )
    assert ("Pad" not in ops(rewrite(model, *PASSES))) == folds


def test_a_pad_with_two_readers_serves_the_other() -> None:
    model = build(
        """g (float[1,2,6,5] x) => (float[1,3,6,5] y, float[1,2,8,7] z) {
            p = Pad (x, pads)
            y = Conv (p, k)
            z = Relu (p) }""",
        pads=int64(0, 0, 1, 1, 0, 0, 1, 1),
        k=floats(3, 2, 3, 3),
    )
    assert ops(rewrite(model, *PASSES)) == {"Pad": 1, "Conv": 1, "Relu": 1}
