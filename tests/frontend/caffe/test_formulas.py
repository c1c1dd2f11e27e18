"""Layers and parameters that OpenCV's reader lacks or ignores, against NumPy formulas.

The formulas are those of the layer catalogue of BVLC Caffe and, for layers of forks, of the papers named in
the converters' docstrings. float32 against float64: a few roundings of 6e-8 each, times the conditioning of
the functions here (exp and log of values of order one), stay below 5e-6.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import numpy.typing as npt
import pytest

from tilewright.frontend.caffe import read_caffe, write_caffemodel

from .nets import Array, header, layer, load, noise, relative_error, run_onnx

CLOSE = 5e-6
Wide = npt.NDArray[np.float64]


def run(folder: Path, text: str, *feeds: Array) -> tuple[Array, dict[str, list[Array]]]:
    """Output y and the blobs by layer of a net on the inputs x, x2, x3."""
    names = ("x", "x2", "x3")[: len(feeds)]
    shapes = {n: f.shape for n, f in zip(names, feeds, strict=True)}
    net = load(folder, header(**shapes) + text)
    found = run_onnx(net.model, dict(zip(names, feeds, strict=True)))["y"]
    return found, {name: list(blobs) for name, blobs in net.blobs.items()}


X = noise((1, 6, 5, 4), 3)
X2 = noise((1, 6, 5, 4), 4)
W = X.astype(np.float64)


@pytest.mark.parametrize(
    ("kind", "params", "expected"),
    [
        ("Log", "log_param { base: 10 scale: 0.1 shift: 2 }", np.log10(0.1 * W + 2)),
        ("Log", "log_param { scale: 0.1 shift: 2 }", np.log(0.1 * W + 2)),
        ("Exp", "exp_param { base: 3 scale: -1 shift: 0.5 }", 3 ** (0.5 - W)),
        ("Power", "power_param { power: 0 }", np.ones_like(W)),
        ("Power", "power_param { power: 3 scale: 2 }", (2 * W) ** 3),
        ("Power", "power_param { shift: 2 }", W + 2),
        ("ELU", "elu_param { alpha: 0.3 }", np.where(W > 0, W, 0.3 * (np.exp(W) - 1))),
        ("Swish", "swish_param { beta: 2 }", W / (1 + np.exp(-2 * W))),
        ("Swish", "", W / (1 + np.exp(-W))),
        ("ReLU6", "", np.clip(W, 0, 6)),
        ("Clip", "clip_param { min: -0.5 max: 0.25 }", np.clip(W, -0.5, 0.25)),
        ("Threshold", "threshold_param { threshold: 0.5 }", (W > 0.5).astype(np.float64)),
        ("Threshold", "", (W > 0).astype(np.float64)),
        ("Dropout", "dropout_param { dropout_ratio: 0.25 scale_train: false }", 0.75 * W),
        ("Tile", "tile_param { axis: 2 tiles: 3 }", np.tile(W, (1, 1, 3, 1))),
        ("Reduction", "reduction_param { axis: 1 }", W.sum((1, 2, 3))),
        ("Reduction", "reduction_param { axis: 2 operation: MEAN coeff: -2 }", -2 * W.mean((2, 3))),
        ("Reduction", "reduction_param { axis: -1 operation: ASUM }", np.abs(W).sum(3)),
        ("Reduction", "reduction_param { operation: SUMSQ }", np.asarray((W**2).sum())),
        ("Upsample", "upsample_param { scale: 2 }", W.repeat(2, 2).repeat(2, 3)),
        ("Permute", "permute_param { order: 1 }", W.transpose(1, 0, 2, 3)),
        ("Flatten", "flatten_param { axis: -2 end_axis: -1 }", W.reshape(1, 6, 20)),
        ("Reshape", "reshape_param { shape { dim: 1 } axis: 1 num_axes: 0 }", W[:, np.newaxis]),
        ("Reshape", "reshape_param { shape { dim: 4 dim: 5 } axis: -3 num_axes: 2 }", W.reshape(1, 6, 4, 5)),
        (
            "MVN",
            "mvn_param { eps: 0.5 }",
            (W - W.mean((2, 3), keepdims=True)) / (W.std((2, 3), keepdims=True) + 0.5),
        ),
        ("ArgMax", "", W.reshape(1, 1, 1, -1).argmax(3).reshape(1, 1, 1, 1)),
        ("ArgMax", "argmax_param { axis: 1 }", W.argmax(1)[:, np.newaxis]),
        ("ArgMax", "argmax_param { axis: 1 out_max_val: true }", W.max(1, keepdims=True)),
        (
            "ArgMax",
            "argmax_param { top_k: 3 out_max_val: true }",
            np.stack([np.argsort(-W.ravel())[:3], np.sort(W.ravel())[::-1][:3]])[
                np.newaxis, :, :, np.newaxis
            ],
        ),
    ],
)
def test_formula(tmp_path: Path, kind: str, params: str, expected: Wide) -> None:
    found, _ = run(tmp_path, layer(kind, params), X)
    assert relative_error(found, expected.astype(np.float32)) < CLOSE


@pytest.mark.parametrize(
    ("size", "alpha", "beta", "k"), [(5, 1.0, 0.75, 1.0), (3, 0.5, 0.6, 2.0), (7, 0.1, 1.0, 0.5)]
)
def test_lrn_across_channels(tmp_path: Path, size: int, alpha: float, beta: float, k: float) -> None:
    """x / (k + alpha / n sum x^2)^beta (Krizhevsky et al. 2012, with Caffe's alpha / n)."""
    params = f"lrn_param {{ local_size: {size} alpha: {alpha} beta: {beta} k: {k} }}"
    found, _ = run(tmp_path, layer("LRN", params), X)
    half = size // 2
    square = np.pad(W**2, ((0, 0), (half, half), (0, 0), (0, 0)))
    total = sum(square[:, i : i + 6] for i in range(size))
    assert relative_error(found, (W / (k + alpha / size * total) ** beta).astype(np.float32)) < CLOSE


def test_lrn_within_channel_ignores_k(tmp_path: Path) -> None:
    params = "lrn_param { local_size: 3 alpha: 2 beta: 0.5 norm_region: WITHIN_CHANNEL %s }"
    with_k, _ = run(tmp_path, layer("LRN", params % "k: 5"), X)
    square = np.pad(W**2, ((0, 0), (0, 0), (1, 1), (1, 1)))
    mean = sum(square[:, :, i : i + 5, j : j + 4] for i in range(3) for j in range(3)) / 9
    assert relative_error(with_k, (W / np.sqrt(1 + 2 * mean)).astype(np.float32)) < CLOSE


@pytest.mark.parametrize(
    ("params", "shape"),
    [
        ("", (6, 1, 1)),
        ("axis: 2 num_axes: 1", (5, 1)),
        ("num_axes: -1", (6, 5, 4)),
        ("num_axes: 0", ()),
        ("axis: -1", (4,)),
    ],
)
@pytest.mark.parametrize("kind", ["Scale", "Bias"])
def test_scale_and_bias_axes(tmp_path: Path, kind: str, params: str, shape: tuple[int, ...]) -> None:
    block = "scale_param" if kind == "Scale" else "bias_param"
    found, blobs = run(tmp_path, layer(kind, f"{block} {{ {params} }}"), X)
    (values,) = blobs["y"]
    aligned = values.reshape(shape)
    assert relative_error(found, X * aligned if kind == "Scale" else X + aligned) < CLOSE


def test_scale_and_bias_by_a_second_blob(tmp_path: Path) -> None:
    factor = noise((1, 6), 5)
    found, _ = run(tmp_path, layer("Scale", "scale_param { axis: 0 }", ["x", "x2"]), X, factor)
    assert relative_error(found, X * factor[:, :, np.newaxis, np.newaxis]) < CLOSE
    found, blobs = run(
        tmp_path, layer("Scale", "scale_param { axis: 0 bias_term: true }", ["x", "x2"]), X, factor
    )
    bias = blobs["y"][0].reshape(1, 6, 1, 1)
    assert relative_error(found, X * factor[:, :, np.newaxis, np.newaxis] + bias) < CLOSE
    found, _ = run(tmp_path, layer("Bias", "bias_param { axis: 0 }", ["x", "x2"]), X, X2)
    assert relative_error(found, X + X2) < CLOSE


def test_axpy(tmp_path: Path) -> None:
    found, _ = run(tmp_path, layer("Axpy", "", ["x", "x2", "x3"]), noise((1, 6, 1, 1)), X, X2)
    assert relative_error(found, noise((1, 6, 1, 1)) * X + X2) < CLOSE


def test_batch_norm_of_the_batch_itself(tmp_path: Path) -> None:
    params = "batch_norm_param { use_global_stats: false eps: 0.01 }"
    found, _ = run(tmp_path, layer("BatchNorm", params), X)
    expected = (W - W.mean((0, 2, 3), keepdims=True)) / np.sqrt(W.var((0, 2, 3), keepdims=True) + 0.01)
    assert relative_error(found, expected.astype(np.float32)) < CLOSE


@pytest.mark.parametrize("factor", [1.0, 999.98, 0.0])
def test_batch_norm_divides_by_its_third_blob(tmp_path: Path, factor: float) -> None:
    path, weights = tmp_path / "net.prototxt", tmp_path / "net.caffemodel"
    path.write_text(header(x=X.shape) + layer("BatchNorm"), encoding="utf-8")
    mean, variance = noise((6,)), np.abs(noise((6,), 1)) + np.float32(0.5)
    write_caffemodel(weights, {"y": [mean, variance, np.array([factor], np.float32)]})
    found = run_onnx(read_caffe(path, weights).model, {"x": X})["y"]
    inverse = 1 / factor if factor else 0.0
    expected = (W - (mean * inverse).reshape(-1, 1, 1)) / np.sqrt(
        (variance * inverse + 1e-5).reshape(-1, 1, 1)
    )
    assert relative_error(found, expected.astype(np.float32)) < CLOSE


def test_normalize_of_zeros_is_zero(tmp_path: Path) -> None:
    """gain x / sqrt(sum x^2 + eps), Liu et al. 2016: eps keeps an all-zero pixel from becoming NaN."""
    x = np.zeros_like(X)
    x[0, :, 0, 0] = 1e-5
    found, blobs = run(
        tmp_path, layer("Normalize", "norm_param { across_spatial: false channel_shared: false }"), x
    )
    wide = x.astype(np.float64)
    expected = wide / np.sqrt((wide**2).sum(1, keepdims=True) + 1e-10) * blobs["y"][0].reshape(1, -1, 1, 1)
    assert relative_error(found, expected.astype(np.float32)) < CLOSE
    assert not found[0, :, 1:].any()


def test_both_depthwise_names_are_grouped_convolutions(tmp_path: Path) -> None:
    params = "convolution_param { num_output: 6 kernel_size: 3 %s }"
    grouped, _ = run(tmp_path, layer("Convolution", params % "group: 6"), X)
    for kind in ("ConvolutionDepthwise", "DepthwiseConvolution"):
        for group in ("", "group: 6"):
            assert np.array_equal(run(tmp_path, layer(kind, params % group), X)[0], grouped)


def test_one_sided_padding_leaves_the_other_at_zero(tmp_path: Path) -> None:
    one, _ = run(
        tmp_path, layer("Convolution", "convolution_param { num_output: 2 kernel_size: 3 pad_w: 1 }"), X
    )
    both, _ = run(
        tmp_path,
        layer("Convolution", "convolution_param { num_output: 2 kernel_size: 3 pad_h: 0 pad_w: 1 }"),
        X,
    )
    assert one.shape == (1, 2, 3, 4)
    assert np.array_equal(one, both)


@pytest.mark.parametrize("axis", [1, 2, 3])
def test_inner_product_transposed(tmp_path: Path, axis: int) -> None:
    params = f"inner_product_param {{ num_output: 3 transpose: true axis: {axis} }}"
    found, blobs = run(tmp_path, layer("InnerProduct", params), X)
    weight, bias = blobs["y"]
    rows = X.reshape(*X.shape[:axis], -1)
    assert weight.shape == (rows.shape[-1], 3)
    assert relative_error(found, rows @ weight + bias) < CLOSE


def test_slice_by_its_old_name(tmp_path: Path) -> None:
    cut = (
        'layer { name: "c" type: "Slice" bottom: "x" top: "a" top: "b" slice_param { slice_dim: 2 '
        "slice_point: 2 } }"
    )
    found, _ = run(tmp_path, cut + layer("Concat", "concat_param { concat_dim: 2 }", ["b", "a"]), X)
    assert np.array_equal(found, np.concatenate([X[:, :, 2:], X[:, :, :2]], 2))


def test_deconvolution_dilated_depthwise(tmp_path: Path) -> None:
    params = (
        "convolution_param { num_output: 6 group: 6 kernel_size: 3 stride: 2 pad: 1 dilation: 2 "
        "bias_term: false }"
    )
    found, blobs = run(tmp_path, layer("Deconvolution", params), X)
    weight = blobs["y"][0].astype(np.float64)
    full = np.zeros((1, 6, 2 * 4 + 5, 2 * 3 + 5))
    for i in range(3):
        for j in range(3):
            full[:, :, 2 * i : 2 * i + 9 : 2, 2 * j : 2 * j + 7 : 2] += W * weight[:, :, i, j].reshape(
                1, 6, 1, 1
            )
    assert relative_error(found, full[:, :, 1:-1, 1:-1].astype(np.float32)) < CLOSE


def test_interp_keeps_the_corners(tmp_path: Path) -> None:
    found, _ = run(tmp_path, layer("Interp", "interp_param { zoom_factor: 2 shrink_factor: 2 }"), X)
    assert found.shape == (1, 6, 5, 3)  # 5 -> 3 -> 5 and 4 -> 2 -> 3 pixels
    assert np.allclose(
        found[:, :, [0, 0, -1, -1], [0, -1, 0, -1]], X[:, :, [0, 0, -1, -1], [0, -1, 0, -1]], atol=1e-6
    )
