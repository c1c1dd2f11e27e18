"""Each host operator of the C++ interpreter against NumPy or ONNX Runtime."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from numpy.typing import NDArray
from onnx import helper

import tilewright.targets
from tilewright.errors import DataError, PackageError
from tilewright.runtime.operator import run_operator as run_host
from tilewright.targets.host_ops import BY_NAME, HOST_DTYPES, HOST_OPS, cpp_header, manual

Array = NDArray[Any]
RNG = np.random.default_rng(20261120)
SETTINGS = settings(max_examples=40, deadline=None, derandomize=True)
# The C++ mathematical functions and NumPy's are each within 2 ulp of the true value; sigmoid adds two roundings.
RTOL = 6 * 2.0**-23


def _onnx_run(op: str, arrays: Sequence[Array], outputs: int = 1, **attributes: Any) -> list[Array]:
    """Run one ONNX operator in ONNX Runtime."""
    names = [f"i{n}" for n in range(len(arrays))]
    results = [f"o{n}" for n in range(outputs)]
    inputs = [
        helper.make_tensor_value_info(name, helper.np_dtype_to_tensor_dtype(a.dtype), a.shape)
        for name, a in zip(names, arrays, strict=True)
    ]
    infos = [onnx.ValueInfoProto(name=name) for name in results]
    graph = helper.make_graph([helper.make_node(op, names, results, **attributes)], "g", inputs, infos)
    model = helper.make_model(graph, ir_version=10, opset_imports=[helper.make_opsetid("", 21)])
    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    return list(session.run(None, dict(zip(names, arrays, strict=True))))


def _values(shape: Sequence[int], dtype: str) -> Array:
    if dtype == "float32":
        return RNG.normal(0, 3, shape).astype(np.float32)
    info = np.iinfo(dtype)
    return RNG.integers(info.min, info.max, shape, dtype, endpoint=True)


def test_committed_header_and_manual_are_those_of_the_table() -> None:
    header = Path(tilewright.targets.__file__).parent / "board/native/src/host_ops.inc"
    assert header.read_text() == cpp_header()
    assert manual() in (header.parents[2] / "README.md").read_text()
    assert len({op.name for op in HOST_OPS}) == len(HOST_OPS)


@pytest.mark.parametrize("dtype", ["int8", "uint8"])
@pytest.mark.parametrize("axis", [None, 0, 1, -1])
def test_quantize_and_dequantize_are_those_of_onnx_runtime(dtype: str, axis: int | None) -> None:
    info = np.iinfo(dtype)
    shape = (3, 4, 5)
    count = () if axis is None else (shape[axis],)
    scale = np.asarray(RNG.uniform(0.01, 0.3, count), np.float32)
    zero = np.asarray(RNG.integers(info.min, info.max, count, dtype), dtype)
    x = RNG.normal(0, 20, shape).astype(np.float32)
    x.flat[:6] = [0, -0.0, np.inf, -np.inf, 1e30, -1e30]
    extra = {} if axis is None else {"axis": axis}
    (expected,) = _onnx_run("QuantizeLinear", [x, scale, zero], **extra)
    (found,) = run_host("quantize", [x, scale, zero], [(dtype, shape)], axis=axis or 0)
    np.testing.assert_array_equal(found, expected)
    (expected,) = _onnx_run("DequantizeLinear", [found, scale, zero], **extra)
    (back,) = run_host("dequantize", [found, scale, zero], [("float32", shape)], axis=axis or 0)
    np.testing.assert_array_equal(back, expected)


def test_quantize_rounds_ties_to_even_and_saturates() -> None:
    x = np.array([0.5, 1.5, 2.5, -0.5, -1.5, 126.5, 127.5, 400, -400, np.nan], np.float32)
    (found,) = run_host(
        "quantize", [x, np.array(1, np.float32), np.array(0, np.int8)], [("int8", x.shape)], axis=0
    )
    assert found.tolist() == [0, 2, 2, 0, -2, 126, 127, 127, -128, -128]


UNARY: dict[str, Callable[[Array], Array]] = {
    "relu": lambda x: np.maximum(x, 0),
    "negative": lambda x: -x,
    "abs": np.abs,
    "sigmoid": lambda x: 1 / (1 + np.exp(-x.astype(np.float64))),
    "tanh": lambda x: np.tanh(x.astype(np.float64)),
    "exp": lambda x: np.exp(x.astype(np.float64)),
    "log": lambda x: np.log(x.astype(np.float64)),
    "sqrt": np.sqrt,
    "rsqrt": lambda x: 1 / np.sqrt(x.astype(np.float64)),
    "floor": np.floor,
    "ceil": np.ceil,
    "round": np.round,
}


@pytest.mark.parametrize("op", sorted(UNARY))
def test_unary(op: str) -> None:
    x = _values((4, 7), "float32")
    if op in ("log", "sqrt", "rsqrt"):
        x = np.abs(x)
    (found,) = run_host(op, [x], [("float32", x.shape)])
    np.testing.assert_allclose(found, UNARY[op](x), rtol=RTOL, atol=0)


def test_erf_is_that_of_onnx_runtime() -> None:
    x = _values((40,), "float32")
    (expected,) = _onnx_run("Erf", [x])
    # ONNX Runtime's own approximation is good to a few ulp of 1.
    np.testing.assert_allclose(run_host("erf", [x], [("float32", x.shape)])[0], expected, rtol=0, atol=5e-7)


@pytest.mark.parametrize("dtype", ["int8", "uint8", "int32", "int64"])
@pytest.mark.parametrize("op", ["relu", "negative", "abs"])
def test_unary_on_integers_wraps_as_numpy(op: str, dtype: str) -> None:
    x = np.append(_values((20,), dtype), np.array([np.iinfo(dtype).min, np.iinfo(dtype).max], dtype))
    with np.errstate(over="ignore"):
        expected = UNARY[op](x)
    np.testing.assert_array_equal(run_host(op, [x], [(dtype, x.shape)])[0], expected)


BINARY: dict[str, Callable[[Array, Array], Array]] = {
    "add": np.add,
    "subtract": np.subtract,
    "multiply": np.multiply,
    "maximum": np.maximum,
    "minimum": np.minimum,
    "divide": np.divide,
    "power": np.power,
}


@SETTINGS
@given(
    st.sampled_from(sorted(BINARY)),
    st.sampled_from(HOST_DTYPES),
    hnp.mutually_broadcastable_shapes(num_shapes=2, max_dims=4, max_side=4),
    st.integers(0, 2**32 - 1),
)
def test_binary_broadcasts_as_numpy(op: str, dtype: str, shapes: Any, seed: int) -> None:
    if op in ("divide", "power"):
        dtype = "float32"
    rng = np.random.default_rng(seed)
    if dtype == "float32":
        a, b = (rng.uniform(0.1, 4, s).astype(dtype) for s in shapes.input_shapes)
    else:
        info = np.iinfo(dtype)
        a, b = (rng.integers(info.min, info.max, s, dtype, endpoint=True) for s in shapes.input_shapes)
    with np.errstate(over="ignore"):
        expected = np.asarray(BINARY[op](a, b))
    (found,) = run_host(op, [np.asarray(a), np.asarray(b)], [(dtype, shapes.result_shape)])
    # power alone is not rounded correctly by either library
    np.testing.assert_allclose(found, expected, rtol=RTOL if op == "power" else 0, atol=0)


def test_extremes_give_nan_where_an_operand_is() -> None:
    a, b = np.array([np.nan, 1, 2], np.float32), np.array([1, np.nan, 3], np.float32)
    for op in ("maximum", "minimum"):
        np.testing.assert_array_equal(run_host(op, [a, b], [("float32", (3,))])[0], BINARY[op](a, b))
    for op, want in (("reduce_max", np.max), ("reduce_min", np.min)):
        np.testing.assert_array_equal(run_host(op, [a], [("float32", ())], axes=(), keepdims=0)[0], want(a))
    assert run_host("argmax", [b], [("int64", ())], axis=0, keepdims=0)[0] == np.argmax(b)


@pytest.mark.parametrize("axis", [0, 1, -1])
def test_softmax_is_that_of_onnx_runtime(axis: int) -> None:
    x = RNG.normal(0, 30, (3, 11, 4)).astype(np.float32)
    for op, name in (("softmax", "Softmax"), ("log_softmax", "LogSoftmax")):
        (expected,) = _onnx_run(name, [x], axis=axis)
        # Relative: exp is within 2 ulp, ONNX Runtime sums at most 11 terms in float, each with half an ulp; the
        # logarithm's error is absolute, in ulp of the largest difference (about 200).
        atol = 0 if op == "softmax" else 200 * 2.0**-23
        (found,) = run_host(op, [x], [("float32", x.shape)], axis=axis)
        np.testing.assert_allclose(found, expected, rtol=20 * 2.0**-23, atol=atol)


@SETTINGS
@given(
    st.sampled_from(["sum", "mean", "max", "min"]),
    st.sampled_from(HOST_DTYPES),
    hnp.array_shapes(min_dims=1, max_dims=4, max_side=4),
    st.data(),
)
def test_reductions(kind: str, dtype: str, shape: tuple[int, ...], data: st.DataObject) -> None:
    if dtype not in BY_NAME["reduce_" + kind].types:
        dtype = "float32"
    axes = data.draw(st.lists(st.integers(-len(shape), len(shape) - 1), unique_by=lambda a: a % len(shape)))
    keep = data.draw(st.booleans())
    x = _values(shape, dtype)
    over = tuple(axes) or None
    wide = x.astype(np.float64) if dtype == "float32" else x
    expected = np.asarray(getattr(np, kind)(wide, axis=over, keepdims=keep)).astype(dtype)
    (found,) = run_host(
        f"reduce_{kind}", [x], [(dtype, expected.shape)], axes=tuple(axes), keepdims=int(keep)
    )
    # float64 sums of up to 256 terms differ by their order by far less than half an ulp of float32, but may tip it.
    np.testing.assert_allclose(found, expected, rtol=2.0**-23 if dtype == "float32" else 0, atol=1e-12)


@pytest.mark.parametrize("dtype", HOST_DTYPES)
@pytest.mark.parametrize("op", ["argmax", "argmin"])
def test_argmax_takes_the_first(op: str, dtype: str) -> None:
    x = RNG.integers(0, 4, (3, 5, 4)).astype(dtype)
    for axis in range(3):
        expected = getattr(np, op)(x, axis=axis)
        (found,) = run_host(op, [x], [("int64", expected.shape)], axis=axis, keepdims=0)
        np.testing.assert_array_equal(found, expected)
        (narrow,) = run_host(
            op, [x], [("int32", np.expand_dims(expected, axis).shape)], axis=axis, keepdims=1
        )
        np.testing.assert_array_equal(narrow, np.expand_dims(expected, axis))


@SETTINGS
@given(st.sampled_from(HOST_DTYPES), hnp.array_shapes(min_dims=1, max_dims=4, max_side=4), st.data())
def test_layout_operators(dtype: str, shape: tuple[int, ...], data: st.DataObject) -> None:
    x = _values(shape, dtype)
    rank = len(shape)

    def each(low: int, high: int) -> tuple[int, ...]:
        return tuple(data.draw(st.lists(st.integers(low, high), min_size=rank, max_size=rank)))

    axes = tuple(data.draw(st.permutations(range(rank))))
    expected = x.transpose(axes)
    np.testing.assert_array_equal(
        run_host("transpose", [x], [(dtype, expected.shape)], axes=axes)[0], expected
    )

    begin, end = each(-6, 6), each(-6, 6)
    stride = tuple(s or 1 for s in each(-3, 3))
    expected = x[tuple(slice(*limits) for limits in zip(begin, end, stride, strict=True))]
    (found,) = run_host("slice", [x], [(dtype, expected.shape)], begin=begin, end=end, stride=stride)
    np.testing.assert_array_equal(found, expected)

    before, after = each(0, 2), each(0, 2)
    expected = np.pad(x, list(zip(before, after, strict=True)), constant_values=7)
    (found,) = run_host("pad", [x], [(dtype, expected.shape)], before=before, after=after, value=7.0)
    np.testing.assert_array_equal(found, expected)

    axis = data.draw(st.integers(-rank, rank - 1))
    expected = np.concatenate([x, x[::-1].copy(), x], axis)
    (found,) = run_host("concat", [x, x[::-1].copy(), x], [(dtype, expected.shape)], axis=axis)
    np.testing.assert_array_equal(found, expected)

    indices = np.array(data.draw(st.lists(st.integers(-shape[axis], shape[axis] - 1), max_size=4)), np.int64)
    expected = np.take(x, indices, axis)
    (found,) = run_host("gather", [x, indices], [(dtype, expected.shape)], axis=axis)
    np.testing.assert_array_equal(found, expected)

    (found,) = run_host("reshape", [x], [(dtype, (x.size, 1))], shape=(-1, 1))
    np.testing.assert_array_equal(found, x.reshape(-1, 1))
    (found,) = run_host("expand", [x], [(dtype, (2, *shape))], shape=(2, *shape))
    np.testing.assert_array_equal(found, np.broadcast_to(x, (2, *shape)))


@pytest.mark.parametrize("dtype", HOST_DTYPES)
def test_clip(dtype: str) -> None:
    x = np.array([0, 1, 2, 5, 100], dtype)
    (found,) = run_host("clip", [x], [(dtype, (5,))], lo=1.0, hi=6.0)
    np.testing.assert_array_equal(found, np.clip(x, 1, 6))
    (same,) = run_host("clip", [x], [(dtype, (5,))], lo=-np.inf, hi=np.inf)
    np.testing.assert_array_equal(same, x)


def test_leaky_relu() -> None:
    x = _values((9,), "float32")
    expected = np.where(x > 0, x, np.float32(0.1) * x)
    np.testing.assert_array_equal(run_host("leaky_relu", [x], [("float32", (9,))], alpha=0.1)[0], expected)


def test_cast_saturates_floats_and_wraps_integers() -> None:
    x = np.array([1.9, -1.9, 300, -300, np.nan, np.inf, 3e9, -np.inf], np.float32)
    assert run_host("cast", [x], [("int8", x.shape)])[0].tolist() == [1, -1, 127, -128, 0, 127, 127, -128]
    limits = run_host("cast", [x], [("int32", x.shape)])[0].tolist()
    assert limits == [1, -1, 300, -300, 0, 2**31 - 1, 2**31 - 1, -(2**31)]
    assert run_host("cast", [x], [("int64", x.shape)])[0].tolist()[5:] == [2**63 - 1, 3000000000, -(2**63)]
    q = _values((30,), "int32")
    for dtype in HOST_DTYPES:
        np.testing.assert_array_equal(run_host("cast", [q], [(dtype, q.shape)])[0], q.astype(dtype))


@pytest.mark.parametrize("largest", [0, 1])
def test_topk_is_that_of_onnx_runtime(largest: int) -> None:
    x = RNG.integers(0, 6, (3, 9)).astype(np.float32)
    values, indices = _onnx_run("TopK", [x, np.array([4], np.int64)], 2, axis=1, largest=largest)
    results = [("float32", (3, 4)), ("int64", (3, 4))]
    found = run_host("topk", [x], results, axis=1, k=4, largest=largest)
    np.testing.assert_array_equal(found[0], values)
    np.testing.assert_array_equal(found[1], indices)


@pytest.mark.parametrize("center", [0, 1])
@pytest.mark.parametrize("seed", range(4))
def test_non_max_suppression_is_that_of_onnx_runtime(center: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    boxes = rng.uniform(0, 1, (2, 30, 4)).astype(np.float32)  # corners in any order
    scores = rng.uniform(0, 1, (2, 3, 30)).astype(np.float32)
    limits: list[Array] = [np.array([5], np.int64), np.array([0.3], np.float32), np.array([0.2], np.float32)]
    (expected,) = _onnx_run("NonMaxSuppression", [boxes, scores, *limits], center_point_box=center)
    (found,) = run_host(
        "non_max_suppression",
        [boxes, scores],
        [("int64", (-1, 3))],
        max_boxes=5,
        iou_threshold=0.3,
        score_threshold=0.2,
        center=center,
    )
    np.testing.assert_array_equal(found, expected)


BAD: list[tuple[str, list[Array], Any, dict[str, Any], str]] = [
    (
        "softmax",
        [np.zeros((2, 3), np.float32)],
        [("float32", (2, 3))],
        {"axis": 2},
        "axis 2 of a tensor of rank 2",
    ),
    (
        "softmax",
        [np.zeros(3, np.int32)],
        [("int32", (3,))],
        {"axis": 0},
        "of float32, found int32",
    ),
    ("relu", [np.zeros(3, np.float32)], [("float32", (4,))], {}, "declared float32 (4), found float32 (3)"),
    (
        "add",
        [np.zeros(3, np.int8), np.zeros(2, np.int8)],
        [("int8", (3,))],
        {},
        "(3) and (2) do not broadcast",
    ),
    ("reshape", [np.zeros(6, np.int8)], [("int8", (4,))], {"shape": (4,)}, "cannot view (6) as (4)"),
    ("transpose", [np.zeros((2, 2), np.int8)], [("int8", (2, 2))], {"axes": (0, 0)}, "axis 0 occurs twice"),
    (
        "slice",
        [np.zeros(2, np.int8)],
        [("int8", (2,))],
        {"begin": (0,), "end": (2,), "stride": (0,)},
        "stride 0",
    ),
    (
        "pad",
        [np.zeros(2, np.int8)],
        [("int8", (2,))],
        {"before": (-1,), "after": (1,), "value": 0.0},
        "pads -1",
    ),
    (
        "pad",
        [np.zeros(2, np.int8)],
        [("int8", (3,))],
        {"before": (0,), "after": (1,), "value": 0.5},
        "0.5 is not exact",
    ),
    ("expand", [np.zeros(2, np.int8)], [("int8", (2,))], {"shape": (1 << 40, 2)}, "above the limit"),
    (
        "topk",
        [np.zeros(2, np.int8)],
        [("int8", (3,)), ("int64", (3,))],
        {"axis": 0, "k": 3, "largest": 1},
        "k = 3 of 2",
    ),
    ("argmax", [np.zeros((0,), np.int8)], [("int64", ())], {"axis": 0, "keepdims": 0}, "without elements"),
]


@pytest.mark.parametrize(("op", "arrays", "results", "attributes", "text"), BAD)
def test_illegal_steps_are_refused(
    op: str, arrays: list[Array], results: Any, attributes: dict[str, Any], text: str
) -> None:
    with pytest.raises(PackageError, match=rf"step 0 \({op}( giving out0)?\): ") as caught:
        run_host(op, arrays, results, **attributes)
    assert text in str(caught.value)


def test_gather_beyond_the_end_is_the_datas_fault() -> None:
    with pytest.raises(DataError, match="index 3 of 3"):
        run_host("gather", [np.zeros(3, np.int8), np.array([3], np.int64)], [("int8", (1,))], axis=0)
