from __future__ import annotations

import numpy as np
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from tilewright.frontend.canonical.explicit_windows import ExplicitWindows

from .models import build, floats, only, rewrite

AUTO = st.sampled_from(["SAME_UPPER", "SAME_LOWER", "VALID"])
SETTINGS = settings(max_examples=25, deadline=None, derandomize=True)


@SETTINGS
@given(AUTO, st.integers(1, 3), st.integers(1, 4), st.integers(1, 2), st.integers(5, 9))
def test_conv(auto: str, stride: int, kernel: int, dilation: int, size: int) -> None:
    assume(auto == "VALID" or dilation == 1 or stride == 1)
    assume((kernel - 1) * dilation + 1 <= size)
    # ONNX Runtime ignores dilation when it pads SAME automatically, against the standard
    assume(auto == "VALID" or dilation == 1)
    model = build(
        f"""g (float[1,2,{size},7] x) => (float[1,3,h,w] y) {{
            y = Conv <auto_pad = "{auto}", strides = [{stride},1], dilations = [{dilation},1]> (x, k) }}""",
        k=floats(3, 2, kernel, 2),
    )
    conv = only(rewrite(model, ExplicitWindows()), "Conv")
    assert sorted(conv.attrs) == ["dilations", "group", "kernel_shape", "pads", "strides"]


@SETTINGS
@given(
    AUTO, st.integers(1, 3), st.integers(1, 4), st.sampled_from(["MaxPool", "AveragePool"]), st.integers(5, 9)
)
def test_pool(auto: str, stride: int, kernel: int, op: str, size: int) -> None:
    model = build(
        f"""g (float[1,2,{size},7] x) => (float[1,2,h,w] y) {{
            y = {op} <auto_pad = "{auto}", strides = [{stride},1], kernel_shape = [{kernel},2]> (x) }}"""
    )
    pool = only(rewrite(model, ExplicitWindows()), op)
    assert "auto_pad" not in pool.attrs
    assert pool.attrs["ceil_mode"] == 0


@SETTINGS
@given(AUTO, st.integers(1, 3), st.integers(1, 4), st.integers(0, 1))
def test_conv_transpose(auto: str, stride: int, kernel: int, extra: int) -> None:
    assume(extra < stride)
    assume(auto == "VALID" or extra == 0)
    model = build(
        f"""g (float[1,2,5,4] x) => (float[1,3,h,w] y) {{
            y = ConvTranspose <auto_pad = "{auto}", strides = [{stride},1],
                               output_padding = [{extra},0]> (x, k) }}""",
        k=floats(2, 3, kernel, 2),
    )
    conv = only(rewrite(model, ExplicitWindows()), "ConvTranspose")
    assert "auto_pad" not in conv.attrs


def test_output_shape() -> None:
    model = build(
        """g (float[1,2,5,4] x) => (float[1,3,9,7] y) {
            y = ConvTranspose <strides = [2,2], output_shape = [9,7]> (x, k) }""",
        k=floats(2, 3, 3, 3),
    )
    conv = only(rewrite(model, ExplicitWindows()), "ConvTranspose")
    assert conv.attrs["pads"] == [1, 1, 1, 1]
    assert "output_shape" not in conv.attrs


def test_ceil_mode_and_pads_given_stay() -> None:
    model = build(
        """g (float[1,2,6,6] x) => (float[1,2,3,3] y) {
            y = AveragePool <kernel_shape = [3,3], strides = [2,2], ceil_mode = 1> (x) }"""
    )
    pool = only(rewrite(model, ExplicitWindows(), tolerance=0.0), "AveragePool")
    assert pool.attrs == {
        "kernel_shape": [3, 3],
        "strides": [2, 2],
        "pads": [0, 0, 0, 0],
        "ceil_mode": 1,
        "count_include_pad": 0,
    }
    assert np.all(rewrite(model, ExplicitWindows()).shape("y") == (1, 2, 3, 3))


def test_dilations_of_average_pooling_are_named_only_where_there_are_some() -> None:
    """ONNX Runtime, optimising, refuses a quantised average pooling that names them."""
    model = build(
        """g (float[1,2,6,6] x) => (float[1,2,2,2] y) {
            y = AveragePool <kernel_shape = [3,3], dilations = [2,2]> (x) }"""
    )
    assert only(rewrite(model, ExplicitWindows()), "AveragePool").attrs["dilations"] == [2, 2]
