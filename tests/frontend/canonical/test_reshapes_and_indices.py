"""reshape_forms, index_forms, reduce_forms, resize_forms, lift_1d."""

from __future__ import annotations

import numpy as np
import pytest

from tilewright.frontend.canonical import PASSES
from tilewright.frontend.canonical.index_forms import IndexForms
from tilewright.frontend.canonical.reduce_forms import ReduceForms
from tilewright.frontend.canonical.reshape_forms import ReshapeForms
from tilewright.frontend.canonical.resize_forms import ResizeForms

from .models import Array, build, floats, int64, only, ops, rewrite


@pytest.mark.parametrize(
    ("shape", "body"),
    [
        ("1,24", "y = Flatten (x)"),
        ("1,2,12", "y = Reshape (x, target)"),
        ("1,2,1,3,4", "y = Unsqueeze (x, axes)"),
        ("2,3,4", "y = Squeeze (x)"),
        ("1,24", "a = Unsqueeze (x, axes) b = Squeeze (a, axes) y = Flatten (b)"),
    ],
)
def test_one_reshape(shape: str, body: str) -> None:
    model = build(
        f"g (float[1,2,3,4] x) => (float[{shape}] y) {{ {body} }}", target=int64(0, 0, -1), axes=int64(2)
    )
    graph = rewrite(model, *PASSES, tolerance=0.0)
    assert ops(graph) == {"Reshape": 1}
    assert list(graph.constants[only(graph, "Reshape").inputs[1]]) == list(graph.shape("y") or ())


def test_transposes() -> None:
    model = build(
        """g (float[1,2,3,4] x) => (float[4,2,1,3] y, float[2,1,3,4] z) {
            a = Transpose <perm = [0,2,3,1]> (x)
            y = Transpose <perm = [2,3,0,1]> (a)
            z = Transpose <perm = [1,0,2,3]> (x) }"""
    )
    graph = rewrite(model, *PASSES, tolerance=0.0)
    assert ops(graph) == {"Transpose": 1, "Reshape": 1}
    assert only(graph, "Transpose").attrs == {"perm": [3, 1, 0, 2]}
    assert not ReshapeForms()(graph)


@pytest.mark.parametrize(
    ("body", "constants", "expected"),
    [
        ("Slice (x, a, b)", {"a": int64(0, 1), "b": int64(99, -1)}, {"Slice": 1}),
        (
            "Slice (x, a, b, c, d)",
            {"a": int64(-3), "b": int64(99), "c": int64(-1), "d": int64(2)},
            {"Slice": 1},
        ),
        ("Gather <axis = 1> (x, a)", {"a": int64(1, 2)}, {"Slice": 1}),
        ("Gather <axis = -1> (x, a)", {"a": np.array(-1)}, {"Slice": 1, "Reshape": 1}),
        ("Gather <axis = 1> (x, a)", {"a": int64(2, 0)}, {"Gather": 1}),
        ("Softmax (x)", {}, {"Softmax": 1}),
    ],
)
def test_indices(body: str, constants: dict[str, Array], expected: dict[str, int]) -> None:
    model = build(f"g (float[1,4,5,6] x) => (float[a,b,c,d] y) {{ y = {body} }}", **constants)
    model.graph.output[0].type.tensor_type.ClearField("shape")
    graph = rewrite(model, IndexForms(), tolerance=0.0)
    assert ops(graph) == expected
    for node in graph.of("Slice"):
        starts, ends, axes, steps = (graph.constants[v] for v in node.inputs[1:])
        assert (starts >= 0).all() and (ends > starts).all() and (axes >= 0).all() and (steps > 0).all()


def test_split() -> None:
    model = build(
        """g (float[1,5,2] x) => (float[1,3,2] y, float[1,2,2] z) {
            y, z = Split <axis = -2, num_outputs = 2> (x) }"""
    )
    graph = rewrite(model, IndexForms(), tolerance=0.0)
    split = only(graph, "Split")
    assert split.attrs == {"axis": 1}
    assert graph.constants[split.inputs[1]].tolist() == [3, 2]


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        ("y = ReduceMean (x, hw)", {"GlobalAveragePool": 1}),
        ("y = ReduceSum (x, hw)", {"GlobalAveragePool": 1, "Mul": 1}),
        ("y = ReduceMax (x, hw)", {"MaxPool": 1}),
        ("y = GlobalMaxPool (x)", {"MaxPool": 1}),
        ("z = ReduceMean <keepdims = 0> (x, hw) y = Reshape (z, s)", {"GlobalAveragePool": 1, "Reshape": 2}),
        ("z = ReduceMean (x, c) y = GlobalAveragePool (z)", {"ReduceMean": 1, "GlobalAveragePool": 1}),
    ],
)
def test_reductions(body: str, expected: dict[str, int]) -> None:
    model = build(
        f"g (float[1,4,5,6] x) => (float[1,c,1,1] y) {{ {body} }}",
        hw=int64(2, -1),
        c=int64(1),
        s=int64(1, 4, 1, 1),
    )
    assert ops(rewrite(model, ReduceForms())) == expected


@pytest.mark.parametrize("mode", ["asymmetric", "half_pixel", "pytorch_half_pixel", "align_corners"])
@pytest.mark.parametrize("rounding", ["floor", "ceil", "round_prefer_floor", "round_prefer_ceil"])
@pytest.mark.parametrize("factors", [(2, 2), (3, 2), (1, 4)])
def test_resize(mode: str, rounding: str, factors: tuple[int, int]) -> None:
    height, width = factors
    model = build(
        f"""g (float[1,2,3,4] x) => (float[1,2,{3 * height},{4 * width}] y) {{
            y = Resize <mode = "nearest", coordinate_transformation_mode = "{mode}",
                        nearest_mode = "{rounding}"> (x, , scales) }}""",
        scales=np.array([1, 1, height, width], np.float32),
    )
    # The numbers are compared with ONNX Runtime on the original, whatever the pass decides.
    graph = rewrite(model, ResizeForms(), tolerance=0.0)
    node = only(graph, "Resize")
    plain = (node.text("coordinate_transformation_mode", ""), node.text("nearest_mode", "")) == (
        "asymmetric",
        "floor",
    )
    if mode in ("half_pixel", "pytorch_half_pixel") and rounding.startswith("round"):
        assert plain
    if mode == "asymmetric" and rounding == "ceil":
        assert not plain


def test_resize_by_sizes_is_written_with_scales() -> None:
    model = build(
        """g (float[1,2,3,4] x) => (float[1,2,6,8] y) {
            y = Resize <mode = "nearest"> (x, , , sizes) }""",
        sizes=int64(1, 2, 6, 8),
    )
    graph = rewrite(model, ResizeForms(), tolerance=0.0)
    assert graph.constants[only(graph, "Resize").inputs[2]].tolist() == [1, 1, 2, 2]


def test_a_linear_resize_stays() -> None:
    model = build(
        'g (float[1,2,3,4] x) => (float[1,2,6,8] y) { y = Resize <mode = "linear"> (x, , scales) }',
        scales=np.array([1, 1, 2, 2], np.float32),
    )
    assert only(rewrite(model, ResizeForms()), "Resize").text("mode", "") == "linear"


def test_one_dimensional_network() -> None:
    model = build(
        """g (float[1,3,16] x) => (float[1,4] y) {
            a = Conv <pads = [1,1]> (x, k1)
            b = BatchNormalization (a, g, b0, m, v)
            c = PRelu (b, s)
            d = MaxPool <kernel_shape = [2], strides = [2]> (c)
            e = Conv <pads = [2,0], dilations = [1], group = 2> (d, k2)
            f = Add (d, e)
            h = Relu (f)
            i = Concat <axis = 1> (h, d)
            j = AveragePool <kernel_shape = [3]> (i)
            l = ConvTranspose <strides = [2]> (j, k3)
            n = GlobalAveragePool (l)
            y = Flatten (n) }""",
        k1=floats(4, 3, 3),
        k2=floats(4, 2, 3),
        k3=floats(8, 4, 2),
        s=floats(4, 1),
        g=floats(4, low=0.5),
        b0=floats(4),
        m=floats(4),
        v=floats(4, low=0.5),
    )
    graph = rewrite(model, *PASSES)
    assert ops(graph) == {
        "Reshape": 2,
        "Conv": 2,
        "PRelu": 1,
        "MaxPool": 1,
        "Add": 1,
        "Relu": 1,
        "Concat": 1,
        "AveragePool": 1,
        "ConvTranspose": 1,
        "GlobalAveragePool": 1,
    }
