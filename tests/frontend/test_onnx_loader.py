from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import ModelProto, TensorProto, helper, numpy_helper

from tilewright.errors import ModelError, TilewrightError, UnsupportedModel
from tilewright.frontend import folded_nodes, load_onnx


def build(text: str, opset: int = 21, ir_version: int = 10, **constants: object) -> ModelProto:
    """Parse a graph; `constants` become initialisers."""
    model = onnx.parser.parse_model(f'<ir_version: {ir_version}, opset_import: ["" : {opset}]> {text}')
    for name, array in constants.items():
        model.graph.initializer.append(numpy_helper.from_array(np.asarray(array), name))
    return model


RELU = "g (float[1,3,4,4] x) => (float[1,3,4,4] y) { y = Relu (x) }"
ONES = np.ones((2, 3, 1, 1), np.float32)


def message(source: object, kind: type[TilewrightError] = ModelError, **options: object) -> str:
    """The text of the error that loading gives."""
    with pytest.raises(kind) as caught:
        load_onnx(source, **options)  # type: ignore[arg-type]
    return str(caught.value)


def shapes(model: ModelProto) -> dict[str, list[int]]:
    """Shape of every value that the model declares."""
    values = [*model.graph.input, *model.graph.value_info, *model.graph.output]
    return {v.name: [d.dim_value for d in v.type.tensor_type.shape.dim] for v in values}


# -- files ----------------------------------------------------------------------------------------


def test_path_bytes_and_model_give_the_same(tmp_path: Path) -> None:
    model = build(RELU)
    path = tmp_path / "m.onnx"
    onnx.save(model, path)
    results = [
        load_onnx(s).SerializeToString(deterministic=True)
        for s in (path, str(path), path.read_bytes(), model)
    ]
    assert len(set(results)) == 1


def test_missing_and_unreadable_files(tmp_path: Path) -> None:
    assert message(tmp_path / "no.onnx") == f"{tmp_path / 'no.onnx'}: no such file; check the path"
    assert message(tmp_path) == f"{tmp_path}: cannot be read: Is a directory"


@pytest.mark.parametrize(
    ("data", "found"),
    [
        (b"", "0 bytes"),
        (b"\xff" * 40, "40 bytes that do not decode (truncated, or no ONNX)"),
        (b"\x08\x0a", "2 bytes without a graph that has outputs"),
    ],
)
def test_no_onnx(data: bytes, found: str) -> None:
    assert message(data) == f"model: expected an ONNX model, found {found}; export or download the file again"


def test_every_truncation_is_a_fault() -> None:
    data = build(RELU).SerializeToString()
    for length in range(len(data)):
        try:
            load_onnx(data[:length])
        except TilewrightError:
            continue
        # what was cut off was an optional part, such as opset or names
        assert length > len(data) // 2


def test_weights_beside_the_model(tmp_path: Path) -> None:
    model = build(
        "g (float[1,3,4,4] x) => (float[1,2,4,4] y) { y = Conv (x, w) }",
        w=np.full((2, 3, 1, 1), 3, np.float32),
    )
    path = tmp_path / "m.onnx"
    onnx.save(model, path, save_as_external_data=True, location="w.bin", size_threshold=0)
    assert (numpy_helper.to_array(load_onnx(path).graph.initializer[0]) == 3).all()
    assert message(path.read_bytes()) == (
        "model: 1 weights are in other files ('w' first); "
        "pass the path of the model, so that they can be found"
    )
    (tmp_path / "w.bin").write_bytes(b"\0" * 4)
    assert message(path).startswith("tensor w: weights cannot be read: ")
    (tmp_path / "w.bin").unlink()
    assert message(path) == (
        f"{path}: file 'w.bin' with the weights of 1 tensors ('w' first) is missing; put it into {tmp_path}"
    )
    outside = onnx.load(path, load_external_data=False)
    outside.graph.initializer[0].external_data[0].value = "../../etc/passwd"
    path.write_bytes(outside.SerializeToString())
    assert message(path) == "tensor w: weights in '../../etc/passwd': expected a file beside the model"


# -- operators ------------------------------------------------------------------------------------


def test_all_unknown_operators_at_once() -> None:
    model = build(
        """g (float[1,3] x) => (float[1,3] y) {
            a = Rellu (x)
            b = Rellu (a)
            c = Zebra (b)
            y = Relu (c) }"""
    )
    model.graph.node[2].domain = "onnx.brevitas"
    model.graph.node[2].name = "q"
    assert message(model, UnsupportedModel).splitlines() == [
        "node a and 1 more: operator 'Rellu' is unknown in opset 21; did you mean Relu?",
        "node q: operator onnx.brevitas.Zebra is not a standard ONNX operator; of these domains BipolarQuant, "
        "IntQuant, Quant, Trunc are known; export as QCDQ",
    ]


def test_control_flow_and_removed_operators() -> None:
    branch = "{ z = Relu (x) }"
    model = build(
        "g (float[1,3] x, bool c) => (float[1,3] y) { "
        f"y = If (c) <then_branch = t () => (float[1,3] z) {branch}, "
        f"else_branch = e () => (float[1,3] z) {branch}> }}"
    )
    assert message(model, UnsupportedModel) == (
        "node y: operator If holds a subgraph; only static graphs are compiled; "
        "export the model with its control flow resolved (trace it with a fixed input)"
    )
    old = build(
        "g (float[1,3,2,2] x) => (float[1,3,4,4] y) { y = Upsample (x, s) }", s=np.ones(4, np.float32)
    )
    assert (
        message(old, UnsupportedModel)
        == "node y: operator Upsample was removed in opset 21; export the model again"
    )


@pytest.mark.parametrize(("version", "text"), [(99, "99 is newer than"), (23, "cannot be converted")])
def test_opsets_that_are_too_new(version: int, text: str) -> None:
    model = build(
        "g (float[1,3] x) => (float[1,3] y) { y = RMSNormalization (x, s) }",
        opset=version,
        s=np.ones(3, np.float32),
    )
    assert text in message(model, UnsupportedModel)
    assert "export the model with opset 21" in message(model, UnsupportedModel)


def test_own_domain_and_functions_pass() -> None:
    model = build("g (float[1,3] x) => (float[1,3] y) { z = Relu (x) y = Detect (z) }")
    model.graph.node[1].domain = "tilewright"
    model.opset_import.append(helper.make_opsetid("tilewright", 1))
    loaded = load_onnx(model)
    assert [n.domain for n in loaded.graph.node] == ["", "tilewright"]
    assert shapes(loaded)["y"] == [1, 3]
    body = [helper.make_node("Abs", ["a"], ["b"])]
    function = helper.make_function("tilewright", "Detect", ["a"], ["b"], body, [helper.make_opsetid("", 21)])
    model.functions.append(function)
    assert [f.name for f in load_onnx(model).functions] == ["Detect"]


def test_microsoft_quantisers_are_the_standard_ones() -> None:
    model = build(
        "g (float[4] x) => (int16[4] y) { y = QuantizeLinear (x, s, z) }", s=np.float32(1), z=np.int16(0)
    )
    model.graph.node[0].domain = "com.microsoft"
    model.opset_import.append(helper.make_opsetid("com.microsoft", 1))
    loaded = load_onnx(model)
    assert [(o.domain, o.version) for o in loaded.opset_import] == [("", 21)]


# -- tensors --------------------------------------------------------------------------------------

CONV = "g (float[1,3,4,4] x) => (float[1,2,4,4] y) { y = Conv (x, w) }"


def test_nan_and_infinity() -> None:
    weights = ONES.copy()
    weights[0, 0] = np.nan
    weights[1, 1:] = np.inf
    assert message(build(CONV, w=weights)) == (
        "initialiser w: expected finite numbers, found 1 NaN and 2 infinite of 6; "
        "train or export the model again"
    )
    clip = build("g (float[4] x) => (float[4] y) { y = Clip (x, , m) }", m=np.float32(np.inf))
    assert load_onnx(clip).graph.node[0].op_type == "Clip"


def test_overflow_on_narrowing() -> None:
    model = build("g (double[2] x) => (double[2] y) { y = Add (x, w) }", w=np.array([1e300, 1.0]))
    assert message(model) == (
        "constant w: expected finite numbers, found 1 of 2 that are not; train or export the model again"
    )


def test_damaged_tensors_all_at_once() -> None:
    model = build(CONV, w=ONES, v=ONES, u=ONES, t=ONES)
    by_name = {t.name: t for t in model.graph.initializer}
    by_name["w"].raw_data = by_name["w"].raw_data[:-3]
    by_name["v"].dims[0] = -2
    by_name["u"].data_type = TensorProto.STRING
    by_name["t"].dims[1] = 0
    assert message(model).splitlines() == [
        "initialiser w: expected 24 bytes for shape [2, 3, 1, 1], found 21; "
        "the file is damaged; export or download it again",
        "initialiser v: expected dimensions with at most 2**31 elements in all, found [-2, 3, 1, 1]",
        "initialiser u: expected numbers, found element type STRING",
        "initialiser t: expected at least one element, found shape [2, 0, 1, 1]",
    ]


@pytest.mark.parametrize(
    ("kind", "value", "found"),
    [
        ("INT8", 300, "from -128 to 127, found 300"),
        ("UINT8", -1, "from 0 to 255, found -1"),
        ("INT16", -40000, "from -32768 to 32767, found -40000"),
        ("UINT16", 65536, "from 0 to 65535, found 65536"),
        ("BOOL", 2, "from 0 to 1, found 2"),
        ("FLOAT16", 65536, "from 0 to 65535, found 65536"),
        ("INT4", 256, "from 0 to 255, found 256"),
        ("UINT32", 2**32, "from 0 to 4294967295, found 4294967296"),
    ],
)
def test_numbers_that_their_type_has_not(kind: str, value: int, found: str) -> None:
    """Fields for wider numbers hold them; ONNX Runtime drops the upper bits and computes with what is left."""
    model = build(RELU)
    number = getattr(TensorProto, kind)
    tensor = model.graph.initializer.add(name="w", dims=[2], data_type=number)
    field = getattr(tensor, helper.tensor_dtype_to_field(number))
    field.extend([value] if kind == "INT4" else [1, value])
    assert message(model) == (
        f"initialiser w: expected {kind} values {found}; the file is damaged; export or download it again"
    )
    del field[:]
    field.extend([1] if kind == "INT4" else [1, 1])
    load_onnx(model)


def test_weights_that_do_not_fit() -> None:
    model = build(
        "g (float[1,3,4,4] x) => (float[1,2,4,4] y) { y = Add (x, w) }", w=np.ones((2, 5), np.float32)
    )
    assert message(model).startswith("graph: shapes do not fit together: ")


# -- shapes ---------------------------------------------------------------------------------------


def test_symbolic_batch_and_given_batch() -> None:
    model = build("g (float[N,3,4,4] x) => (float[N,48] y) { y = Flatten (x) }")
    assert shapes(load_onnx(model)) == {"x": [1, 3, 4, 4], "y": [1, 48]}
    assert shapes(load_onnx(model, batch=4)) == {"x": [4, 3, 4, 4], "y": [4, 48]}
    assert message(model, batch=0) == "batch: expected a batch of at least 1, found 0"


def test_other_symbolic_dimensions() -> None:
    model = build(
        "g (float[N,3,H,W] x, float[N,T] z) => (float[N,3,H,W] y, float[N,T] v) { y = Relu (x) v = Abs (z) }"
    )
    assert message(model).splitlines() == [
        "input x: expected a fixed shape, found (1, 3, H, W); "
        "give its shape with --input-shape x=1,3,224,224",
        "input z: expected a fixed shape, found (1, T); give its shape with --input-shape z=1,224",
    ]
    loaded = load_onnx(model, {"x": (1, 3, 8, 6), "z": (1, 5)})
    assert shapes(loaded)["y"] == [1, 3, 8, 6]


def test_wrong_input_shapes() -> None:
    model = build(RELU)
    assert message(model, input_shapes={"a": (1,), "x": (1, 3)}).splitlines() == [
        "--input-shape: the model has no input 'a'; inputs: x",
        "--input-shape x: expected 4 dimensions, found [1, 3]",
    ]
    assert message(model, input_shapes={"x": (1, 3, 0, 4)}) == (
        "--input-shape x: expected dimensions of at least 1, found [1, 3, 0, 4]"
    )


def test_zero_sized_shapes() -> None:
    assert message(build("g (float[1,0,4] x) => (float[1,0,4] y) { y = Relu (x) }")) == (
        "input x: expected dimensions of at least 1, found [1, 0, 4]"
    )
    pool = "g (float[1,1,3,3] x) => (float[1,1,a,b] y) { y = Slice (x, s, s, t) }"
    assert message(build(pool, s=np.array([1]), t=np.array([2]))) == (
        "node y: output y of Slice has shape [1, 1, 0, 3], which is empty"
    )


@pytest.mark.parametrize("op", ["AveragePool", "MaxPool", "Conv"])
def test_windows_that_are_larger_than_the_map(op: str) -> None:
    weight = ", w" if op == "Conv" else ""
    constants: dict[str, Any] = {"w": np.ones((2, 2, 9, 3), np.float32)} if weight else {}
    graph = (
        f"g (float[1,2,7,7] x) => (float[1,2,a,b] y) {{ [big] y = {op} <kernel_shape = [9, 3]> (x{weight}) }}"
    )
    assert message(build(graph, **constants)) == (
        f"node big: output y of {op} has shape [1, 2, -1, 5], which is empty"
    )


def test_another_resolution_re_infers_everything() -> None:
    model = build(
        """g (float[1,2,8,8] x) => (float[1,a] y) {
            c = MaxPool <kernel_shape = [2,2], strides = [2,2]> (x)
            s = Shape (c)
            z = Constant <value = int64 {0}> ()
            n = Gather (s, z)
            u = Unsqueeze (n, zero)
            t = Concat <axis = 0> (u, minus)
            y = Reshape (c, t) }""",
        zero=np.array([0]),
        minus=np.array([-1]),
    )
    loaded = load_onnx(model, {"x": (1, 2, 6, 4)})
    assert [n.op_type for n in loaded.graph.node] == ["MaxPool", "Reshape"]
    assert shapes(loaded)["y"] == [1, 12]
    assert folded_nodes(loaded)["s"] == "y"


def test_fixed_batch_is_replaced_with_reshape_constants() -> None:
    text = "g (float[8,3,4,4] x) => (float[8,48] y) { r = Reshape (x, s) y = Relu (r) }"
    model = build(text, s=np.array([8, 48]))
    assert shapes(load_onnx(model)) == {"x": [1, 3, 4, 4], "r": [1, 48], "y": [1, 48]}
    assert shapes(load_onnx(model, batch=2))["y"] == [2, 48]
    one = build(text.replace("[8,", "[1,"), s=np.array([1, 48]))
    assert shapes(load_onnx(one, batch=3))["y"] == [3, 48]


def test_a_batch_that_the_graph_needs_stays() -> None:
    model = build("g (float[8,3] x) => (float[8,3] y) { y = Add (x, w) }", w=np.ones((8, 3), np.float32))
    assert shapes(load_onnx(model))["x"] == [1, 3]  # broadcasting allows it
    model = build(
        "g (float[8,3] x) => (float[4,6] y) { r = Reshape (x, s) y = Relu (r) }", s=np.array([4, 6])
    )
    assert shapes(load_onnx(model))["x"] == [8, 3]
    assert message(model, input_shapes={"x": (2, 3)}) == (
        "node r: [2, 3] has 6 elements, [4, 6] has 24; check the input shape and the batch"
    )


def test_an_unknown_shape_names_the_node() -> None:
    model = build("g (float[4] x, int64[1] n) => (float[a] y) { y = Reshape (x, n) }")
    assert message(model) == (
        "node y: output y of Reshape has shape (?,); give fixed input shapes (--input-shape), "
        "or export with constant shapes"
    )


def test_data_dependent_shapes_of_host_operators_pass() -> None:
    model = build("g (float[4] x) => (int64[1,n] y) { y = NonZero (x) }")
    assert [n.op_type for n in load_onnx(model).graph.node] == ["NonZero"]


# -- what comes out -------------------------------------------------------------------------------


def test_initialised_inputs_names_and_versions() -> None:
    model = build(
        """g (float[1,3,4,4] x, float[2,3,1,1] w) => (float[1,2,4,4] y) {
            a = Conv (x, w)
            b = Relu (a)
            y = Abs (b) }""",
        opset=7,
        ir_version=3,
        w=ONES,
    )
    model.graph.node[1].name = "a"
    model.graph.node[2].name = "a"
    loaded = load_onnx(model)
    assert [v.name for v in loaded.graph.input] == ["x"]
    assert [n.name for n in loaded.graph.node] == ["a_2", "a", "a_3"]
    assert (loaded.ir_version, loaded.opset_import[0].version) == (10, 21)
    assert shapes(loaded) == {"x": [1, 3, 4, 4], "a": [1, 2, 4, 4], "b": [1, 2, 4, 4], "y": [1, 2, 4, 4]}


@pytest.mark.parametrize("kind", ["float16", "double"])
def test_other_floats_become_float32(kind: str) -> None:
    number = {"float16": TensorProto.FLOAT16, "double": TensorProto.DOUBLE}[kind]
    model = build(
        f"""g ({kind}[1,3,4,4] x) => ({kind}[1,2,4,4] y) {{
            f = Cast <to = 1> (x)
            h = Cast <to = {number}> (f)
            y = Conv (h, w) }}""",
        w=ONES.astype(np.float16 if kind == "float16" else np.float64),
    )
    loaded = load_onnx(model)
    types = {v.type.tensor_type.elem_type for v in [*loaded.graph.input, *loaded.graph.output]}
    assert types == {TensorProto.FLOAT} == {t.data_type for t in loaded.graph.initializer}


def test_the_model_given_is_not_changed() -> None:
    model = build(CONV, opset=9, w=ONES)
    before = model.SerializeToString(deterministic=True)
    load_onnx(model)
    assert model.SerializeToString(deterministic=True) == before


def test_cycles_and_undefined_values() -> None:
    model = build("g (float[2] x) => (float[2] y) { a = Add (x, b) b = Relu (a) y = Abs (b) }")
    assert message(model).startswith("graph: the model contradicts the ONNX standard: ")
