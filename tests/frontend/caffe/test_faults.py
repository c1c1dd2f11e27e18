"""Networks that cannot be converted: one clear message each, all faults at once, and never another error."""

from __future__ import annotations

import random
import re
import time
import warnings
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tilewright.errors import ModelError, TilewrightError, UnsupportedModel
from tilewright.frontend.caffe import CaffeWarning, load_caffe, read_caffe, write_caffemodel

from .nets import header, input_shape, layer, load, noise, run_onnx

IMAGE = header(x=(1, 4, 6, 6))
CONV = "convolution_param { num_output: 2 kernel_size: 3 %s }"


def message(folder: Path, text: str, kind: type[TilewrightError] = ModelError, seed: int = 1) -> str:
    """The error's text with the file's path as NET."""
    with pytest.raises(kind) as caught:
        load(folder, text, seed)
    assert type(caught.value) is kind
    return str(caught.value).replace(str(folder / "net.prototxt"), "NET")


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (layer("Convolution", CONV % "group: 3"), "group 3 does not divide 4 input and 2 output channels"),
        (
            layer("Convolution", "convolution_param { num_output: 2 }"),
            "gives no kernel_size; add kernel_size, or kernel_h and kernel_w",
        ),
        (
            layer("Convolution", "convolution_param { num_output: 2 kernel_h: 3 }"),
            "gives only one of kernel_h and kernel_w; give both",
        ),
        (
            layer("Convolution", CONV % "kernel_h: 3 kernel_w: 3"),
            "gives kernel_size and kernel_h/kernel_w; leave one of them out",
        ),
        (layer("Convolution", CONV % "stride: 0"), "stride is 0x0: has to be 1 or more"),
        (
            layer("Convolution", "convolution_param { kernel_size: 3 }"),
            "num_output is 0: has to be 1 or more",
        ),
        (
            layer("Convolution", "convolution_param { num_output: 2 kernel_size: 7 }"),
            "the kernel spans 7 pixels, the padded input has 6",
        ),
        (
            layer("Deconvolution", CONV % "pad: 9"),
            "its output would have shape (1, 2, -10, -10); each size has to be 1 or more",
        ),
        (
            layer("Pooling", "pooling_param { kernel_size: 2 pad: 2 }"),
            "pad 2 has to be smaller than the kernel (2)",
        ),
        (
            layer("Pooling", "pooling_param { kernel_size: 1 stride: 4 }"),
            "the last window would start at pixel 8, the input has 6; round down (ceil_mode: false), or use "
            "a stride "
            "that is not larger than the kernel",
        ),
        (
            layer("Pooling", "pooling_param { global_pooling: true kernel_size: 2 }"),
            "global_pooling and a kernel size exclude each other; leave one of them out",
        ),
        (
            layer("Pooling", "pooling_param { global_pooling: true stride: 2 }"),
            "global_pooling takes pad 0 and stride 1 only",
        ),
        (layer("InnerProduct"), "num_output is 0: has to be 1 or more"),
        (
            layer("InnerProduct", "inner_product_param { num_output: 1 axis: 4 }"),
            "axis 4 is outside of an input with 4 dimensions",
        ),
        (layer("Softmax", "softmax_param { axis: -5 }"), "axis -5 is outside of an input with 4 dimensions"),
        (
            layer("Reshape", "reshape_param { shape { dim: -1 dim: -1 } }"),
            "dims [-1, -1] need sizes of 1 or more, 0, and at most one -1",
        ),
        (
            layer("Reshape", "reshape_param { shape { dim: 1 dim: 5 } }"),
            "dims [1, 5] hold 5 values or a multiple, the input of shape (1, 4, 6, 6) has 144",
        ),
        (
            layer("Reshape", "reshape_param { shape { dim: 0 dim: 0 dim: 0 dim: 0 dim: 0 } }"),
            "dim 4 is 0 (keep), but the input of shape (1, 4, 6, 6) has no axis 4",
        ),
        (
            layer("Permute", "permute_param { order: 0 order: 0 }"),
            "order [0, 0] is no order of the axes of shape (1, 4, 6, 6)",
        ),
        (layer("ShuffleChannel", "shuffle_channel_param { group: 3 }"), "group 3 does not divide 4 channels"),
        (layer("LRN", "lrn_param { local_size: 4 }"), "local_size is 4: has to be odd"),
        (layer("Flatten", "flatten_param { axis: 3 end_axis: 1 }"), "end_axis 1 comes before axis 3"),
        (layer("Eltwise", "eltwise_param { coeff: 1 }", ["x", "x"]), "1 coefficients for 2 inputs"),
        (
            layer("Eltwise", "eltwise_param { operation: MAX coeff: 1 coeff: 1 }", ["x", "x"]),
            "coeff belongs to SUM, found MAX",
        ),
        (layer("ArgMax", "argmax_param { axis: 1 top_k: 5 }"), "top_k is 5: has to be in 1..4"),
        (layer("Exp", "exp_param { base: 0 }"), "base 0.0 has to be more than 0 and not 1 (or -1 for e)"),
        (layer("Clip", "clip_param { min: 1 }"), "clip_param needs min and max with min <= max"),
        (
            layer("Scale", "scale_param { axis: 2 num_axes: 3 }"),
            "num_axes 3 from axis 2 goes beyond an input of shape (1, 4, 6, 6)",
        ),
        (layer("Upsample"), "its output would have shape (1, 4, 0, 0); each size has to be 1 or more"),
        (layer("Tile"), "tiles is 0: has to be 1 or more"),
        (layer("PriorBox", "", ["x", "x"]), "min_size is []: give at least one, more than 0"),
        (
            layer("PriorBox", "prior_box_param { min_size: 3 max_size: 2 }", ["x", "x"]),
            "max_size [2.0] needs one value above each min_size [3.0]",
        ),
        (
            layer("PriorBox", "prior_box_param { min_size: 3 variance: 1 variance: 2 }", ["x", "x"]),
            "variance is [1.0, 2.0]: give one value or four, more than 0",
        ),
    ],
)
def test_layer_faults(tmp_path: Path, text: str, expected: str) -> None:
    kind = text.split('type: "')[1].split('"')[0]
    assert message(tmp_path, IMAGE + text) == f"layer 'y' ({kind}, line 2): {expected}"


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (
            layer("Pooling", "pooling_param { pool: STOCHASTIC kernel_size: 2 }"),
            "layer 'y' (Pooling, line 2): STOCHASTIC pooling is not supported; use MAX or AVE",
        ),
        (
            layer("Convolution", CONV % "dilation: 1 dilation: 1 dilation: 1"),
            "layer 'y' (Convolution, line 2): dilation has 3 values: only two dimensions are supported",
        ),
        (
            layer("Convolution", CONV % "axis: 2"),
            "layer 'y' (Convolution, line 2): axis 2: only axis 1 (N, C, H, W) is supported",
        ),
        (
            layer("Convolution", CONV % "pad_type: 1"),
            "NET, line 2: layer 'y': unknown field 'convolution_param.pad_type', which may change the "
            "result; "
            "remove it if it does not",
        ),
    ],
)
def test_unsupported_settings(tmp_path: Path, text: str, expected: str) -> None:
    assert message(tmp_path, IMAGE + text, UnsupportedModel) == expected


def test_all_unknown_layer_types_at_once(tmp_path: Path) -> None:
    text = (
        IMAGE
        + layer("Convolutoin", name="a")
        + layer("LSTM", name="b")
        + layer("ReLU", name="c")
        + layer("", name="d")
    )
    assert message(tmp_path, text, UnsupportedModel).split("\n") == [
        "NET, line 2: layer 'a': layer type 'Convolutoin' is not supported; did you mean 'Convolution'?",
        "NET, line 3: layer 'b': layer type 'LSTM' is not supported",
        "NET, line 5: layer 'd': the layer has no type",
    ]


def test_all_layer_faults_at_once_and_no_consequences(tmp_path: Path) -> None:
    text = IMAGE + layer("Convolution", CONV % "group: 3", name="a") + layer("ReLU", "", ["a"], "b")
    text += layer("LRN", "lrn_param { local_size: 2 }", name="c") + layer(
        "Pooling", "pooling_param { pool: STOCHASTIC }", name="d"
    )
    assert message(tmp_path, text).split("\n") == [
        "layer 'a' (Convolution, line 2): group 3 does not divide 4 input and 2 output channels",
        "layer 'c' (LRN, line 4): local_size is 2: has to be odd",
        "layer 'd' (Pooling, line 5): STOCHASTIC pooling is not supported; use MAX or AVE",
    ]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (
            layer("ReLU", "", ["X"]),
            "NET, line 2: layer 'y' (ReLU): no layer before it produces its bottom 'X'; a layer has to "
            "come after those that it reads",
        ),
        (
            layer("ReLU", "", ["y"]),
            "NET, line 2: layer 'y' (ReLU): no layer before it produces its bottom 'y'; a layer has to "
            "come after those that it reads",
        ),
        (
            layer("ReLU", "", ["b"], "a") + layer("ReLU", "", ["a"], "b"),
            "NET, line 2: layer 'a' (ReLU): no layer before it produces its bottom 'b'; a layer has to come "
            "after those that it reads",
        ),
        (layer("ReLU", "", ["x", "x"]), "NET, line 2: layer 'y' (ReLU): expected 1 bottoms, found 2"),
        (layer("Eltwise"), "NET, line 2: layer 'y' (Eltwise): expected 2 or more bottoms, found 1"),
        (layer("Scale", "", []), "NET, line 2: layer 'y' (Scale): expected 1 to 2 bottoms, found 0"),
        (
            layer("ReLU") + layer("TanH"),
            "NET, line 3: layer 'y' (TanH): blob 'y' is produced twice; give each top its own name",
        ),
        (
            layer("ReLU", "include { phase: TEST } exclude { phase: TRAIN }"),
            "NET, line 2: layer 'y' has include and exclude rules: only one kind is allowed",
        ),
        ("", "NET: the file describes no layers; give the prototxt of a network"),
        (
            'layer { name: "q" type: "Silence" bottom: "x" }',
            "NET: the network has no layers that compute anything",
        ),
        (
            'layer { name: "d" type: "HDF5Data" top: "d" }' + layer("ReLU", "", ["d"]),
            "NET, line 2: the shape of input 'd' is not known: a HDF5Data layer reads it from files; "
            "replace the layer by an "
            "Input layer with a shape, or give the input's shape (--input-shape NAME=1,C,H,W)",
        ),
        (
            'layer { name: "d" type: "Data" top: "d" }' + layer("ReLU", "", ["d"]),
            "NET, line 2: the shape of input 'd' is not known: a Data layer reads it from a database, and "
            "no crop_size is given; "
            "replace the layer by an Input layer with a shape, or give the input's shape (--input-shape "
            "NAME=1,C,H,W)",
        ),
        (
            'layer { name: "i" type: "Input" top: "i" input_param { shape { dim: 1 dim: 0 } } }'
            + layer("ReLU", "", ["i"]),
            "NET, line 2: input 'i' has shape (1, 0): each size has to be 1 or more",
        ),
    ],
)
def test_graph_faults(tmp_path: Path, text: str, expected: str) -> None:
    assert message(tmp_path, IMAGE + text) == expected


@pytest.mark.parametrize(
    ("head", "expected"),
    [
        (
            'input: "x"',
            "NET, line 1: the shape of input 'x' is not known: no input_dim and no input_shape; add "
            "input_shape "
            "{ dim: 1 dim: C dim: H dim: W }",
        ),
        ('input: "x" input_dim: 1 input_dim: 3', "NET: expected 4 input_dim (four for each input), found 2"),
        (
            'input: "x" input_dim: 1 input_shape { dim: 1 }',
            "NET: the file gives input_dim and input_shape; leave one of them out",
        ),
        (
            'input: "x" input_shape { dim: 1 } input_shape { dim: 1 }',
            "NET: expected 1 input_shape, one for each input, found 2",
        ),
        (
            'input: "x" input_shape { dim: 1 dim: 9999999999 }',
            "NET, line 1: input 'x' has shape (1, 9999999999): each size has to be 1 or more",
        ),
        ('input: "x" input: "x" input_shape { dim: 1 dim: 2 }', "NET, line 1: blob 'x' is produced twice"),
    ],
)
def test_input_faults(tmp_path: Path, head: str, expected: str) -> None:
    assert message(tmp_path, head + "\n" + layer("ReLU")) == expected


def test_data_dependent_sizes_go_no_further(tmp_path: Path) -> None:
    text = header(x=(1, 4), x2=(1, 2), x3=(1, 2, 4))
    text += layer("DetectionOutput", "detection_output_param { num_classes: 2 }", ["x", "x2", "x3"], "found")
    text += layer("ReLU", "", ["found"])
    assert message(tmp_path, text, UnsupportedModel) == (
        "NET, line 5: layer 'y' (ReLU): the size of its bottom 'found' depends on the data"
    )


def test_missing_weights_name_both_remedies(tmp_path: Path) -> None:
    path = tmp_path / "net.prototxt"
    path.write_text(IMAGE + layer("ReLU"), encoding="utf-8")
    with pytest.raises(ModelError) as caught:
        load_caffe(path, None)
    assert str(caught.value) == (
        f"{path}: the network needs weights; give the caffemodel (--weights FILE.caffemodel), or random "
        f"weights for "
        "studies of speed (--weights random:SEED)"
    )
    with pytest.raises(ModelError, match="the seed of random weights is -1: has to be 0 or more"):
        load_caffe(path, -1)


def test_weights_that_do_not_fit(tmp_path: Path) -> None:
    text = (
        IMAGE
        + layer("Convolution", CONV % "", name="a")
        + layer("Convolution", CONV % "bias_term: false", name="b")
    )
    text += layer("Convolution", CONV % "", name="c") + layer("Convolution", CONV % "", name="d")
    text += layer("BatchNorm", name="e") + layer("BatchNorm", name="f")
    path, weights = tmp_path / "net.prototxt", tmp_path / "w.caffemodel"
    path.write_text(text, encoding="utf-8")
    good, bias = noise((2, 4, 3, 3)), noise((2,))
    bad = good.copy()
    bad[0, 0, 0, :2] = [np.nan, np.inf]
    negative = [noise((4,)), np.array([1, -2, 1, 1], np.float32), np.array([1], np.float32)]
    overflow = [noise((4,)), np.array([1, 1, 1, 1], np.float32), np.array([1e-45], np.float32)]
    write_caffemodel(
        weights,
        {
            "a": [noise((4, 2, 3, 3)), bias],
            "b": [good, bias],
            "d": [bad, bias],
            "e": negative,
            "f": overflow,
            "unused": [bias],
        },
    )
    with pytest.raises(ModelError) as caught:
        load_caffe(path, weights)
    assert str(caught.value).split("\n") == [
        f"layer 'a': expected weight of shape (2, 4, 3, 3), found (4, 2, 3, 3) in {weights}; "
        "the prototxt and the caffemodel are of different networks",
        f"layer 'b': expected 1 blobs (weight (2, 4, 3, 3)), found 2 in {weights} ((2, 4, 3, 3), (2,)); "
        "the prototxt and the caffemodel are of different networks, or bias_term differs",
        "layer 'c' (Convolution, line 4): the caffemodel has no blobs for it (expected weight (2, 4, 3, 3), "
        "bias (2,)); "
        "the prototxt and the caffemodel have to name their layers alike",
        "layer 'd': weight holds 2 values of 72 that are NaN or Inf; retrain",
        "layer 'e' (BatchNorm, line 6): variance -2 plus eps 1e-05 is not positive; the caffemodel is "
        "damaged",
        "layer 'f' (BatchNorm, line 7): mean and variance divided by the third blob (1.401298464324817e-45) "
        "are not finite",
    ]


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        (b"", "the file is empty; give the network's prototxt"),
        (b" \n\t", "the file is empty; give the network's prototxt"),
        (b"\x0a\x00abc", "expected text, found binary data; give the prototxt first, then the caffemodel"),
        (b"# only a comment", "the file describes no layers; give the prototxt of a network"),
    ],
)
def test_files_that_are_no_prototxt(tmp_path: Path, data: bytes, expected: str) -> None:
    path = tmp_path / "net.prototxt"
    path.write_bytes(data)
    with pytest.raises(ModelError) as caught:
        load_caffe(path, 1)
    assert str(caught.value) == f"{path}: {expected}"


def test_missing_prototxt_folder_and_giant(tmp_path: Path) -> None:
    with pytest.raises(ModelError, match="no such file; give the path of a prototxt"):
        load_caffe(tmp_path / "none.prototxt", 1)
    with pytest.raises(ModelError, match="expected a file, found a folder; name a prototxt in it"):
        load_caffe(tmp_path, 1)
    giant = tmp_path / "giant.prototxt"
    with giant.open("wb") as file:
        file.truncate((16 << 20) + 1)
    with pytest.raises(ModelError, match="16777217 bytes are more than a prototxt may have"):
        load_caffe(giant, 1)


def test_comments_in_other_encodings_are_read(tmp_path: Path) -> None:
    path = tmp_path / "net.prototxt"
    path.write_bytes("# 卷积\n".encode("gbk") + (IMAGE + layer("ReLU")).encode())
    assert load_caffe(path, 1).graph.output[0].name == "y"


def test_sizes_without_end(tmp_path: Path) -> None:
    big = layer("Convolution", "convolution_param { num_output: 4294967295 kernel_size: 1 }")
    assert (
        message(tmp_path, IMAGE + big)
        == "layer 'y': weight of shape (4294967295, 4, 1, 1) needs more than 2 GiB"
    )
    padded = layer("Convolution", CONV % "pad: 4294967295")
    assert "its output would have shape (1, 2, 8589934594, 8589934594)" in message(tmp_path, IMAGE + padded)
    many = IMAGE + "".join(layer("ReLU", name=f"r{i}") for i in range(3000))
    assert len(load(tmp_path, many).model.graph.output) == 3000


@pytest.mark.parametrize(
    "text",
    [
        "input_dim: " + "1" * 400_000 + "x",  # digits that end in a letter
        layer("Split", " ".join(f'top: "t{i}"' for i in range(20_000))),
        "".join(layer("ReLU", "", [f"b{i}"], "same") for i in range(5_000)),  # thousands of faults
        "".join(
            f'layer {{ name: "d" type: "Data" top: "d{i}" transform_param {{ crop_size: 4 }} }}'
            for i in range(5_000)
        ),
        "".join(f'layer {{ name: "r" type: "ReLU" bottom: "x" top: "r{i}" }}' for i in range(5_000)),
        "a {" * 60 + "}" * 60,
    ],
    ids=["digits", "tops", "faults", "data", "names", "depth"],
)
def test_long_files_take_seconds_at_most(tmp_path: Path, text: str) -> None:
    path = tmp_path / "net.prototxt"
    path.write_text(IMAGE + text, encoding="utf-8")
    start = time.process_time()
    outcome(path, 1)
    # Each takes under 3 s here; work that grows with the square of these sizes takes minutes.
    assert time.process_time() - start < 20


BASE = (
    header(data=(1, 3, 12, 12))
    + layer(
        "Convolution", "convolution_param { num_output: 4 kernel_size: 3 stride: 2 pad: 1 }", ["data"], "conv"
    )
    + 'layer { name: "bn" type: "BatchNorm" bottom: "conv" top: "conv" batch_norm_param { eps: 0.001 } }\n'
    + 'layer { name: "prelu" type: "PReLU" bottom: "conv" top: "conv" }\n'
    + layer("Pooling", "pooling_param { pool: AVE kernel_size: 3 stride: 2 }", ["conv"], "pool")
    + layer("Slice", 'top: "b" slice_param { slice_point: 1 }', ["pool"], "a")
    + layer("Concat", "concat_param { axis: 1 }", ["b", "a"], "joined")
    + layer("InnerProduct", "inner_product_param { num_output: 5 }", ["joined"], "fc")
    + layer("Softmax", "", ["fc"], "prob")
)
WORDS = [
    "layer",
    "{",
    "}",
    "-1",
    "0",
    "7",
    "99999999999999999999",
    '"',
    ":",
    "conv",
    "axis: 3",
    "include { phase: TRAIN }",
    "type: 'Reshape'",
    "\n",
    "top: 'conv'",
    "bottom: 'data'",
    "dim: 3",
    "1e9",
    "true",
    "MAX",
    "#",
]


def outcome(prototxt: Path, weights: Path | int) -> str:
    """'model', that ONNX Runtime runs, or the kind of a TilewrightError; else the test fails."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", CaffeWarning)
        try:
            model = read_caffe(prototxt, weights).model
        except TilewrightError as error:
            assert str(error)
            return type(error).__name__
    if len(model.graph.node) < 100:
        run_onnx(model, {i.name: noise(input_shape(model, n)) for n, i in enumerate(model.graph.input)})
    return "model"


@pytest.fixture(scope="module")
def base(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, bytes]:
    """Folder of the base net's files, and its caffemodel's bytes."""
    folder = tmp_path_factory.mktemp("base")
    write_caffemodel(folder / "net.caffemodel", load(folder, BASE).blobs)
    assert outcome(folder / "net.prototxt", folder / "net.caffemodel") == "model"
    return folder, (folder / "net.caffemodel").read_bytes()


@settings(max_examples=250, deadline=None, derandomize=True)
@given(seed=st.integers(0, 2**32))
def test_mutated_prototxt(base: tuple[Path, bytes], seed: int) -> None:
    rng, (folder, _) = random.Random(seed), base
    text = BASE
    for _ in range(rng.randint(1, 4)):
        start = rng.randrange(len(text))
        end = min(len(text), start + rng.choice([0, 0, 1, 3, 20]))
        text = text[:start] + rng.choice([*WORDS, "", text[start : start + 40]]) + text[end:]
    path = folder / "mutated.prototxt"
    path.write_text(text, encoding="utf-8")
    assert outcome(path, folder / "net.caffemodel") in ("model", "ModelError", "UnsupportedModel")


@settings(max_examples=150, deadline=None, derandomize=True)
@given(index=st.integers(0, 10**6), number=st.integers(-1, 6))
def test_one_other_number(base: tuple[Path, bytes], index: int, number: int) -> None:
    """Mild changes, of which many are valid: weights are random, so that these reach the conversion."""
    folder, _ = base
    spans = [match.span() for match in re.finditer(r"(?<=: )\d+", BASE)]
    start, end = spans[index % len(spans)]
    path = folder / "other.prototxt"
    path.write_text(BASE[:start] + str(number) + BASE[end:], encoding="utf-8")
    assert outcome(path, 1) in ("model", "ModelError", "UnsupportedModel")


@settings(max_examples=150, deadline=None, derandomize=True)
@given(seed=st.integers(0, 2**32))
def test_mutated_caffemodel(base: tuple[Path, bytes], seed: int) -> None:
    rng, (folder, whole) = random.Random(seed), base
    data = bytearray(whole[: rng.choice([len(whole), len(whole), rng.randrange(len(whole))])])
    for _ in range(rng.randint(1, 6)):
        if data:
            data[rng.randrange(len(data))] = rng.randrange(256)
    path = folder / "mutated.caffemodel"
    path.write_bytes(bytes(data))
    assert outcome(folder / "net.prototxt", path) in ("model", "ModelError")


@settings(max_examples=60, deadline=None, derandomize=True)
@given(data=st.binary(max_size=200))
def test_random_bytes(base: tuple[Path, bytes], data: bytes) -> None:
    folder, _ = base
    path = folder / "random.bin"
    path.write_bytes(data)
    assert outcome(path, 1) == "ModelError"
    assert outcome(folder / "net.prototxt", path) == "ModelError"
