"""Damaged files give a model or a TilewrightError, nothing else."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import onnx
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray
from onnx import ModelProto, numpy_helper

from tilewright.benchmark.fuzz.subjects import SUBJECTS
from tilewright.errors import TilewrightError
from tilewright.frontend import canonicalise, load_onnx


def _network() -> ModelProto:
    model = onnx.parser.parse_model(
        """<ir_version: 8, opset_import: ["" : 13]>
        g (float[N,2,8,8] x) => (float[N,4] y) {
            c = Conv <auto_pad = "SAME_UPPER", strides = [2,2]> (x, w)
            n = BatchNormalization (c, s, s, s, v)
            r = Relu (n)
            l = LRN <size = 3> (r)
            p = MaxPool <kernel_shape = [2,2], ceil_mode = 1> (l)
            t = Shape (p)
            u = Slice (t, zero, one)
            m = Constant <value = int64[1] {-1}> ()
            f = Concat <axis = 0> (u, m)
            e = Reshape (p, f)
            d = MatMul (e, k)
            y = Softmax <axis = -1> (d) }"""
    )
    random = np.random.default_rng(0)
    shapes = {"w": (4, 2, 3, 3), "s": (4,), "k": (36, 4)}
    for name, shape in shapes.items():
        array = random.standard_normal(shape).astype(np.float32)
        model.graph.initializer.append(numpy_helper.from_array(array, name))
    model.graph.initializer.append(numpy_helper.from_array(np.ones(4, np.float32), "v"))
    model.graph.initializer.append(numpy_helper.from_array(np.array([0]), "zero"))
    model.graph.initializer.append(numpy_helper.from_array(np.array([1]), "one"))
    return model


NETWORK = _network().SerializeToString()


def _load(data: bytes) -> None:
    try:
        canonicalise(load_onnx(data), debug=True)
    except TilewrightError as error:
        assert error.faults
        assert all(f.message for f in error.faults)


def test_the_network_itself_is_fine() -> None:
    assert len(canonicalise(load_onnx(NETWORK), debug=True).graph.node) == 10


@settings(max_examples=150, deadline=None, derandomize=True)
@given(st.lists(st.tuples(st.integers(0, len(NETWORK) - 1), st.integers(0, 255)), min_size=1, max_size=6))
def test_changed_bytes(changes: list[tuple[int, int]]) -> None:
    data = bytearray(NETWORK)
    for place, value in changes:
        data[place] = value
    _load(bytes(data))


@settings(max_examples=60, deadline=None, derandomize=True)
@given(st.integers(0, len(NETWORK) - 1), st.integers(1, 40), st.binary(max_size=8))
def test_cut_and_inserted_bytes(place: int, length: int, inserted: bytes) -> None:
    _load(NETWORK[:place] + inserted + NETWORK[place + length :])


@settings(max_examples=60, deadline=None, derandomize=True)
@given(st.binary(max_size=200))
def test_random_bytes(data: bytes) -> None:
    _load(data)


@settings(max_examples=150, deadline=None, derandomize=True)
@given(st.data())
def test_changed_fields(data: st.DataObject) -> None:
    """Files that decode, with one number, name or wire of the graph changed."""
    model = ModelProto.FromString(NETWORK)
    node = data.draw(st.sampled_from(list(model.graph.node)))
    what = data.draw(st.sampled_from(["input", "output", "op", "attribute", "dims", "drop", "opset"]))
    number = data.draw(st.sampled_from([-(2**62), -2, -1, 0, 1, 2, 3, 7, 1000, 2**31, 2**62]))
    names = [v for n in model.graph.node for v in [*n.input, *n.output]]
    if what == "input" and node.input:
        node.input[data.draw(st.integers(0, len(node.input) - 1))] = data.draw(st.sampled_from(["", *names]))
    elif what == "output":
        node.output[0] = data.draw(st.sampled_from(["", *names]))
    elif what == "op":
        node.op_type = data.draw(st.sampled_from(sorted({s.name for s in onnx.defs.get_all_schemas()})))
    elif what == "attribute" and node.attribute:
        attribute = data.draw(st.sampled_from(list(node.attribute)))
        if attribute.ints:
            attribute.ints[0] = number
        else:
            attribute.i = number
    elif what == "dims":
        dim = data.draw(st.sampled_from(list(model.graph.input[0].type.tensor_type.shape.dim)))
        dim.dim_value = number
    elif what == "drop":
        model.graph.node.remove(node)
    else:
        model.opset_import[0].version = abs(number) % 30
    _load(model.SerializeToString())


@pytest.mark.parametrize("field", ["dims", "data_type", "raw_data"])
@pytest.mark.parametrize("index", range(6))
def test_changed_weights(field: str, index: int) -> None:
    model = ModelProto.FromString(NETWORK)
    tensor = model.graph.initializer[index]
    if field == "dims":
        tensor.dims[0] = 2**40
    elif field == "data_type":
        tensor.data_type = 77
    else:
        tensor.raw_data = b"\x00"
    with pytest.raises(TilewrightError, match=f"initialiser {tensor.name}"):
        load_onnx(model)


def _changed(change: Callable[[ModelProto], None]) -> str:
    model = ModelProto.FromString(NETWORK)
    change(model)
    with pytest.raises(TilewrightError) as caught:
        canonicalise(load_onnx(model.SerializeToString()))
    return str(caught.value)


def test_attributes_that_are_references() -> None:
    """Protobuf takes them anywhere; only in a function do they mean something."""

    def change(model: ModelProto) -> None:
        model.graph.node[0].attribute[1].ref_attr_name = "strides"

    assert _changed(change) == (
        "node Conv, attribute strides: expected a value, found a reference to 'strides', which only functions have"
    )


def test_attributes_that_are_no_text() -> None:
    def change(model: ModelProto) -> None:
        model.graph.node[0].attribute[0].s = b"SAME\xff"

    assert _changed(change) == "node Conv, attribute auto_pad: expected text (UTF-8), found b'SAME\\xff'"


def test_inputs_of_a_type_that_there_is_not() -> None:
    def change(model: ModelProto) -> None:
        model.graph.input[0].type.tensor_type.elem_type = 77

    assert _changed(change).endswith("input x: expected a tensor of numbers, found element type 77")


def test_shapes_that_inference_has_no_memory_for(monkeypatch: pytest.MonkeyPatch) -> None:
    def infer(*args: Any, **options: Any) -> ModelProto:
        raise MemoryError("std::bad_alloc")

    monkeypatch.setattr(onnx.shape_inference, "infer_shapes", infer)
    with pytest.raises(
        TilewrightError, match="shapes do not fit together: std::bad_alloc; check the input shape"
    ):
        load_onnx(ModelProto.FromString(NETWORK))


def test_operators_whose_types_inference_refuses() -> None:
    """Its ValueError, of a type that there is not, is told like its other errors."""
    seeds = SUBJECTS["qonnx"].seeds()
    model = ModelProto.FromString(seeds[0])
    model.graph.input[0].type.tensor_type.elem_type = 255
    with pytest.raises(TilewrightError, match="does not fit its inputs: Invalid tensor data type 255"):
        load_onnx(model)


def _float_model(text: str, **constants: NDArray[Any]) -> ModelProto:
    model = onnx.parser.parse_model(f'<ir_version: 10, opset_import: ["" : 21]> g {text}')
    for name, values in constants.items():
        model.graph.initializer.append(numpy_helper.from_array(values, name))
    return model


@pytest.mark.parametrize(
    ("starts", "ends", "shapes"),
    [
        (np.array(1), np.array(4), "[], [], [1], none"),
        (np.array([1]), np.array([4, 5]), "[1], [2], [1], none"),
    ],
)
def test_slices_with_numbers_that_do_not_match(
    starts: NDArray[np.int64], ends: NDArray[np.int64], shapes: str
) -> None:
    text = "(float[1,8,4,4] x) => (float[1,n,4,4] y) { y = Slice (x, starts, ends, axes) }"
    model = _float_model(text, starts=starts, ends=ends, axes=np.array([1]))
    with pytest.raises(TilewrightError) as caught:
        canonicalise(load_onnx(model))
    message = f"expected starts, ends, axes and steps of as many numbers, found shapes {shapes}"
    assert message in str(caught.value) or "shapes do not fit together" in str(caught.value)


def test_any_number_but_0_transposes() -> None:
    """As ONNX Runtime reads it."""
    text = "(float[1,6] x) => (float[1,5] y) { y = Gemm <transB = 16> (x, w) }"
    values = np.arange(30, dtype=np.float32).reshape(5, 6)
    (node,) = canonicalise(load_onnx(_float_model(text, w=values))).graph.node
    assert [(a.name, a.i) for a in node.attribute] == [("transB", 1)]


def test_a_bias_of_another_size() -> None:
    text = "(float[1,6] x) => (float[1,5] y) { y = Gemm <transB = 1> (x, w, b) }"
    weights = {"w": np.ones((5, 6), np.float32), "b": np.ones(4, np.float32)}
    with pytest.raises(TilewrightError, match=r"expected a bias for 5 results, found shape \[4\]"):
        canonicalise(load_onnx(_float_model(text, **weights)))
