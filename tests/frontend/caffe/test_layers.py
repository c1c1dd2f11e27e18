"""One-layer networks over their parameters against OpenCV."""

from __future__ import annotations

import tempfile
from pathlib import Path

import numpy as np
import pytest
from hypothesis import assume, given, settings
from hypothesis import strategies as st

from tilewright.errors import ModelError

from .nets import TOLERANCE, Array, both, header, layer, load, noise, relative_error, run_onnx

small = settings(max_examples=40, deadline=None, derandomize=True)


def check(text: str, *feeds: Array, tolerance: float = TOLERANCE) -> None:
    names = ("x", "x2", "x3")[: len(feeds)]
    full = header(**{n: f.shape for n, f in zip(names, feeds, strict=True)}) + text
    with tempfile.TemporaryDirectory() as folder:
        ours, reference = both(Path(folder), full, dict(zip(names, feeds, strict=True)))
    assert np.isfinite(reference).all()
    assert ours.shape == reference.shape
    assert relative_error(ours, reference) < tolerance


Pair = tuple[int, int]
pairs = st.tuples(st.integers(1, 4), st.integers(1, 4))
kinds = st.sampled_from(
    [
        ("Convolution", 1),
        ("Convolution", 2),
        ("Convolution", 4),
        ("ConvolutionDepthwise", 1),
    ]
)


@small
@given(kinds, pairs, pairs, pairs, st.integers(1, 3), st.booleans(), st.integers(7, 12), st.integers(7, 12))
def test_convolution(
    kind: tuple[str, int],
    kernel: Pair,
    stride: Pair,
    pad: Pair,
    dilation: int,
    bias: bool,
    height: int,
    width: int,
) -> None:
    assume(dilation * (max(kernel) - 1) + 1 <= min(height, width))
    group = f"group: {kind[1]}" if kind[1] > 1 else ""
    params = (
        f"convolution_param {{ num_output: 4 kernel_h: {kernel[0]} kernel_w: {kernel[1]} "
        f"stride_h: {stride[0]} stride_w: {stride[1]} pad_h: {pad[0] - 1} pad_w: {pad[1] - 1} "
        f"dilation: {dilation} bias_term: {str(bias).lower()} {group} }}"
    )
    check(layer(kind[0], params), noise((1, 4, height, width)))


@pytest.mark.parametrize(
    "params",
    [
        "kernel_size: 3 kernel_size: 1",
        "kernel_size: 1 pad: 1",
        "kernel_size: 3 pad: 2 pad: 0 stride: 1 stride: 2",
        "kernel_size: 3 dilation: 5 dilation: 2 pad: 5",
        "kernel_h: 1 kernel_w: 3 pad_h: 0 pad_w: 1",
    ],
)
def test_convolution_ways_of_writing(params: str) -> None:
    check(layer("Convolution", f"convolution_param {{ num_output: 6 {params} }}"), noise((1, 3, 13, 11)))


@small
@given(st.sampled_from([1, 2, 4]), pairs, st.integers(1, 3), st.integers(0, 1), st.booleans())
def test_deconvolution(group: int, kernel: Pair, stride: int, pad: int, bias: bool) -> None:
    assume(min(kernel) > pad)
    params = (
        f"convolution_param {{ num_output: 4 kernel_h: {kernel[0]} kernel_w: {kernel[1]} stride: {stride} "
        f"pad: {pad} bias_term: {str(bias).lower()} group: {group} }}"
    )
    check(layer("Deconvolution", params), noise((1, 4, 5, 6)))


def numpy_pool(x: Array, method: str, kernel: int, stride: int, pad: int, ceil: bool) -> Array:
    """Caffe's pooling loop, as its documentation defines it: sizes round up (or down), the last window is
    dropped if it starts beyond the input and one padding, AVE divides by the window's part inside the padded
    input.
    """
    sizes = []
    for length in x.shape[2:]:
        steps = (length + 2 * pad - kernel) / stride
        out = int(np.ceil(steps) if ceil else np.floor(steps)) + 1
        sizes.append(out - 1 if pad and (out - 1) * stride >= length + pad else out)
    y = np.zeros((*x.shape[:2], *sizes), np.float64)
    for i in range(sizes[0]):
        for j in range(sizes[1]):
            low = [i * stride - pad, j * stride - pad]
            high = [min(v + kernel, n + pad) for v, n in zip(low, x.shape[2:], strict=True)]
            area = (high[0] - low[0]) * (high[1] - low[1])
            window = x[:, :, max(low[0], 0) : high[0], max(low[1], 0) : high[1]]
            y[:, :, i, j] = window.max((2, 3)) if method == "MAX" else window.sum((2, 3)) / area
    return y.astype(np.float32)


@settings(max_examples=150, deadline=None, derandomize=True)
@given(
    st.sampled_from(["MAX", "AVE"]),
    st.integers(1, 5),
    st.integers(1, 4),
    st.integers(0, 4),
    st.booleans(),
    st.integers(5, 12),
    st.integers(5, 12),
)
def test_pooling(
    method: str, kernel: int, stride: int, pad: int, ceil: bool, height: int, width: int
) -> None:
    assume(pad < kernel)
    params = f"pooling_param {{ pool: {method} kernel_size: {kernel} stride: {stride} pad: {pad} "
    text = layer("Pooling", params + ("" if ceil else "ceil_mode: false ") + "}")
    x = noise((1, 2, height, width)) - np.float32(3)  # all negative: a padding of zeros would win a maximum
    try:
        check(text, x)
    except ModelError as error:
        # Only a stride beyond the kernel can put a whole window outside; Caffe returns no number there.
        assert stride > kernel and not pad and "the last window would start" in str(error)
        return
    with tempfile.TemporaryDirectory() as folder:
        ours = run_onnx(load(Path(folder), header(x=x.shape) + text).model, {"x": x})["y"]
    # 25 float32 terms of size 3: 25 * 6e-8 relative at most.
    assert relative_error(ours, numpy_pool(x, method, kernel, stride, pad, ceil)) < 2e-6


@pytest.mark.parametrize("method", ["MAX", "AVE"])
def test_pooling_shapes_of_one_side(method: str) -> None:
    params = (
        f"pooling_param {{ pool: {method} kernel_h: 3 kernel_w: 2 stride_h: 2 stride_w: 3 pad_h: 1 "
        "pad_w: 0 }"
    )
    check(layer("Pooling", params), noise((1, 3, 8, 11)))
    check(layer("Pooling", f"pooling_param {{ pool: {method} global_pooling: true }}"), noise((1, 3, 5, 7)))


def test_round_mode_is_the_other_name_of_ceil_mode(tmp_path: Path) -> None:
    x = noise((1, 2, 8, 8))
    pool = "pooling_param { kernel_size: 3 stride: 2 %s }"
    floor = run_onnx(
        load(tmp_path, header(x=x.shape) + layer("Pooling", pool % "round_mode: FLOOR")).model, {"x": x}
    )
    assert relative_error(floor["y"], numpy_pool(x, "MAX", 3, 2, 0, ceil=False)) == 0


@pytest.mark.parametrize(
    ("kind", "params"),
    [
        ("ReLU", ""),
        ("ReLU", "relu_param { negative_slope: 0.1 }"),
        ("PReLU", ""),
        ("PReLU", "prelu_param { channel_shared: true }"),
        ("ELU", "elu_param { alpha: 1.0 }"),
        ("Sigmoid", ""),
        ("TanH", ""),
        ("AbsVal", ""),
        ("BNLL", ""),
        ("Power", "power_param { power: 2 scale: 0.5 shift: 3 }"),
        ("Power", "power_param { scale: -2 }"),
        ("Power", ""),
        ("Exp", "exp_param { base: 2 scale: 0.5 shift: 1 }"),
        ("Exp", ""),
        ("Dropout", ""),
        ("BatchNorm", ""),
        ("BatchNorm", "batch_norm_param { eps: 0.01 }"),
        ("Scale", ""),
        ("Scale", "scale_param { bias_term: true }"),
        ("Softmax", ""),
        ("Softmax", "softmax_param { axis: 2 }"),
        ("Softmax", "softmax_param { axis: -1 }"),
        ("LRN", "lrn_param { local_size: 3 alpha: 0.5 beta: 0.6 }"),
        ("LRN", "lrn_param { local_size: 5 alpha: 0.01 beta: 0.75 }"),
        ("LRN", "lrn_param { local_size: 3 alpha: 0.5 norm_region: WITHIN_CHANNEL }"),
        ("LRN", "lrn_param { local_size: 5 alpha: 0.01 norm_region: WITHIN_CHANNEL }"),
        ("MVN", ""),
        ("MVN", "mvn_param { normalize_variance: false }"),
        ("MVN", "mvn_param { across_channels: true }"),
        ("Normalize", "norm_param { across_spatial: false channel_shared: false }"),
        ("Normalize", "norm_param { across_spatial: true channel_shared: true }"),
        ("Flatten", ""),
        ("Flatten", "flatten_param { axis: 2 }"),
        ("Flatten", "flatten_param { axis: 1 end_axis: 2 }"),
        ("Reshape", "reshape_param { shape { dim: 0 dim: 2 dim: -1 } }"),
        ("Reshape", "reshape_param { shape { dim: 3 dim: 2 } axis: 1 num_axes: 1 }"),
        ("Reshape", "reshape_param { shape { dim: -1 } axis: 2 }"),
        ("Permute", "permute_param { order: 0 order: 2 order: 3 order: 1 }"),
        ("ShuffleChannel", "shuffle_channel_param { group: 3 }"),
        ("InnerProduct", "inner_product_param { num_output: 7 }"),
        ("InnerProduct", "inner_product_param { num_output: 7 bias_term: false }"),
        ("InnerProduct", "inner_product_param { num_output: 7 axis: 2 }"),
        ("Interp", "interp_param { height: 9 width: 12 }"),
    ],
)
def test_one_input(kind: str, params: str) -> None:
    check(layer(kind, params), noise((1, 6, 5, 4)))


@pytest.mark.parametrize("kind", ["PReLU", "BatchNorm", "Softmax", "Scale"])
def test_after_inner_product(kind: str) -> None:
    text = layer("InnerProduct", "inner_product_param { num_output: 5 }", name="fc") + layer(
        kind, bottoms=["fc"]
    )
    check(text, noise((1, 3, 2, 2)))


@pytest.mark.parametrize(
    "params",
    ["", "operation: SUM coeff: 0.5 coeff: -1", "operation: PROD", "operation: MAX", "coeff: 1 coeff: -1"],
)
def test_eltwise(params: str) -> None:
    text = layer("Eltwise", f"eltwise_param {{ {params} }}", ["x", "x2"])
    check(text, noise((1, 3, 4, 5), 1), noise((1, 3, 4, 5), 2))


def test_eltwise_of_three() -> None:
    check(layer("Eltwise", "", ["x", "x2", "x3"]), *(noise((1, 3, 4, 5), i) for i in range(3)))


@pytest.mark.parametrize("params", ["", "axis: 2", "concat_dim: 1", "axis: -1"])
def test_concat(params: str) -> None:
    check(
        layer("Concat", f"concat_param {{ {params} }}", ["x", "x2"]),
        noise((1, 3, 4, 5), 1),
        noise((1, 3, 4, 5), 2),
    )


@pytest.mark.parametrize(
    "params",
    [
        "",
        "crop_param { axis: 2 offset: 1 }",
        "crop_param { axis: 2 offset: 2 offset: 1 }",
        "crop_param { axis: 3 }",
    ],
)
def test_crop(params: str) -> None:
    reference = (1, 2, 8, 4) if "axis: 3" in params else (1, 2, 5, 4)
    first = layer("Crop", params, ["x", "x2"], name="cropped")
    # OpenCV drops an input that only gives a size, so the reference is read once more.
    text = first + layer("Eltwise", "", ["cropped", "x2"])
    check(text, noise((1, 2, 8, 7), 1), noise(reference, 2))


@pytest.mark.parametrize(
    "params", ["", "axis: 1 slice_point: 1 slice_point: 4", "axis: 2 slice_point: 2 slice_point: 3"]
)
def test_slice(params: str) -> None:
    tops = 'top: "a" top: "b" top: "c"'
    shape = (1, 6, 6, 4)
    cut = f'layer {{ name: "cut" type: "Slice" bottom: "x" {tops} slice_param {{ {params} }} }}'
    axis = 2 if "axis: 2" in params else 1
    text = cut + layer("Concat", f"concat_param {{ axis: {axis} }}", ["c", "a", "b"])
    check(text, noise(shape))
