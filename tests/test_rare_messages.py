"""Messages that no other test brings about."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import ModelProto, TensorProto, helper, numpy_helper
from tvm import relax

import tilewright as tw
from tests.cli.commands import small_model
from tests.relay_passes.qdq_graphs import QdqGraph
from tilewright.codegen.checks import plan_faults
from tilewright.errors import (
    ConfigError,
    DataError,
    ModelError,
    ScheduleError,
    SimError,
    TilewrightError,
    UnsupportedModel,
)
from tilewright.frontend import load_onnx
from tilewright.frontend.relax_import import to_relax
from tilewright.relay_passes.placement import Placement
from tilewright.relay_passes.qdq_to_integer import QdqToInteger
from tilewright.targets.listing import assemble, replaced

RELU = "g (float[1,3,4,4] x) => (float[1,3,4,4] y) { y = Relu (x) }"


def build(text: str = RELU) -> ModelProto:
    return onnx.parser.parse_model(f'<ir_version: 10, opset_import: ["" : 21]> {text}')


def loading(model: ModelProto, kind: type[TilewrightError] = ModelError) -> str:
    with pytest.raises(kind) as error:
        load_onnx(model)
    return str(error.value)


def test_headers_of_models() -> None:
    model = build()
    del model.opset_import[:]
    assert loading(model) == "opset_import: expected one opset version of at least 1, found none"
    model.opset_import.extend([helper.make_opsetid("", 21), helper.make_opsetid("ai.onnx", 20)])
    assert loading(model) == "opset_import: expected one opset version of at least 1, found 20, 21"


def test_constants_of_models() -> None:
    model = build("g (float[1,3] x) => (float[1,3] y) { y = Add (x, c) }")
    for value in (1.0, 2.0):
        model.graph.initializer.append(numpy_helper.from_array(np.full((1, 3), value, np.float32), "c"))
    assert loading(model) == "initialiser 'c': initialisers need names of their own"
    model = build()
    sparse = model.graph.sparse_initializer.add()
    sparse.values.CopyFrom(numpy_helper.from_array(np.ones(1, np.float32), "s"))
    assert loading(model, UnsupportedModel) == (
        "graph: 1 weights are stored as sparse tensors; export the model with dense weights"
    )


def test_inputs_of_models(tmp_path: Path) -> None:
    model = build()
    model.graph.input[0].type.tensor_type.ClearField("shape")
    text = loading(model, TilewrightError)
    assert text == "input x: the file does not say its shape; give its shape with --input-shape x=1,3,224,224"
    model.graph.input[0].CopyFrom(helper.make_tensor_sequence_value_info("x", TensorProto.FLOAT, [1]))
    assert "input x: expected a tensor of numbers" in loading(model, TilewrightError)
    path = tmp_path / "empty.onnx"
    path.touch()
    with pytest.raises(ModelError) as error:
        load_onnx(path)
    assert (
        str(error.value)
        == f"{path}: expected an ONNX model, found 0 bytes; export or download the file again"
    )


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (
            "g (float[1,3] x, int64[4] p) => (float[1,4] y) { y = Pad (x, p) }",
            "Pad cannot be imported: expected a constant operand, found one computed at run time",
        ),
    ],
)
def test_operators_that_are_not_imported(text: str, expected: str) -> None:
    with pytest.raises(UnsupportedModel) as error:
        to_relax(build(text))
    assert (
        str(error.value)
        == f"y: {expected}; see the operator's limits in the manual, or cut the model before it"
    )


def test_data_sets(tmp_path: Path) -> None:
    shapes = {"x": (1, 3, 8, 8)}

    def opening(source: object, shapes: Mapping[str, tuple[int, ...]] = shapes, **options: object) -> str:
        with pytest.raises((DataError, ConfigError)) as error:
            list(tw.open_dataset(source, input_shapes=shapes, preprocess=tw.Preprocess(), **options))  # type: ignore
        return str(error.value)

    assert opening("random:1", count=0) == "expected at least one random image, found 0"
    np.save(tmp_path / "one.npy", np.zeros((2, 3, 8, 8), np.uint8))
    (tmp_path / "one.npy").rename(tmp_path / "one.npz")
    path = tmp_path / "one.npz"
    assert opening(path) == f"{path}: expected an NPZ archive, found one array; name it *.npy"
    images = np.zeros((2, 4), np.float32)
    assert opening(images, {"x": (1, 5)}).endswith("expected Nx5, found 2x4")


def test_widths_and_clocks_of_explorations(tmp_path: Path) -> None:
    model = tw.quantize(tw.load(small_model(tmp_path / "net.onnx")), "random:1")
    with pytest.raises(
        ConfigError, match=r"^--widths: expected at least one pair of widths; write them like 8/8,4/4$"
    ):
        tw.explore(model, "ultra96", widths=[])


def test_plans_of_another_batch_or_region(tmp_path: Path) -> None:
    model = tw.quantize(tw.load(small_model(tmp_path / "net.onnx")), "random:1")
    overlay = tw.overlay("ultra96-w8")
    plan = tw.plan(model, overlay)
    (fault,) = plan_faults(plan, ["tilewright_0"], overlay, 2)
    assert str(fault) == "plan: the plan was made for a batch of 1, not of 2; plan for this batch anew"
    with pytest.raises(ScheduleError) as error:
        plan.region("tilewright_9")
    assert str(error.value) == (
        "plan: the plan has no region tilewright_9, only tilewright_0; plan the network anew"
    )


def test_evaluation_needs_a_classifier(tmp_path: Path) -> None:
    from tests.cli.commands import node, write_model

    weight = np.random.default_rng(0).standard_normal((4, 3, 3, 3)).astype(np.float32)
    path = write_model(
        tmp_path / "map.onnx", [node("Conv", ["x", "w"], ["y"])], {"w": weight}, {"x": (1, 3, 8, 8)}, ["y"]
    )
    package = tw.compile(tw.quantize(tw.load(path), "random:1"), "ultra96-w8")
    images = np.zeros((1, 8, 8, 3), np.uint8)
    np.savez(tmp_path / "set.npz", images=images, labels=np.zeros(1, np.int64))
    with pytest.raises(DataError) as error:
        tw.evaluate(package, tmp_path / "set.npz")
    assert str(error.value) == (
        "package map: expected a classifier with one output of scores, found y 1x4x6x6; "
        "use `tilewright run` and compare its outputs"
    )


def test_a_region_that_writes_nothing(tmp_path: Path) -> None:
    model = tw.quantize(tw.load(small_model(tmp_path / "net.onnx")), "random:1")
    package = tw.compile(model, "ultra96-w8")
    empty = replaced(package, assemble("FINISH"))
    session = tw.Session(empty, "reference")
    (value,) = session.package.inputs
    with pytest.raises(SimError) as error:
        session.run({value.name: np.zeros(value.shape, np.float32)})
    assert str(error.value) == "region tilewright_0: 10 bytes of output gv were never written"


def pooled(x: relax.Expr, **attrs: Any) -> relax.Expr:
    return relax.op.nn.max_pool2d(x, pool_size=[2, 2], **attrs)


def weights() -> relax.Expr:
    ints = relax.const(np.ones((4, 4, 1, 1), np.int8))
    return relax.op.dequantize(ints, relax.const(np.float32(1)), relax.const(np.int8(0)), axis=0)


def convolved(x: relax.Expr, **layout: str) -> relax.Expr:
    return relax.op.nn.conv2d(x, weights(), **layout)


def transposed(x: relax.Expr, **layout: str) -> relax.Expr:
    return relax.op.nn.conv2d_transpose(x, weights(), **layout)


HOST = "it runs on the host; express it by other operators to change that"


@pytest.mark.parametrize(
    ("build", "text"),
    [
        (
            lambda x: pooled(x, ceil_mode=True),
            "max pooling must be 2-D with explicit padding, found layout NCHW, ceil_mode True",
        ),
        (
            lambda x: convolved(x, kernel_layout="IOHW"),
            "a convolution must be NCHW with OIHW weights, found NCHW, IOHW",
        ),
        (
            lambda x: transposed(x, kernel_layout="OIHW"),
            "a transposed convolution must be NCHW with IOHW weights, found NCHW, OIHW",
        ),
        (
            lambda x: relax.op.nn.avg_pool2d(x, [2, 2], layout="NHWC"),
            "average pooling must be NCHW without dilation, found NHWC, dilation [1, 1]",
        ),
        (
            lambda x: relax.op.nn.adaptive_avg_pool2d(x, [2, 2]),
            "adaptive average pooling must give one element, found [2, 2]",
        ),
        (lambda x: relax.op.mean(x, [1], keepdims=True), "a mean must be over H and W, found axes [1]"),
    ],
)
def test_modules_that_other_importers_make(build: Callable[[relax.Expr], relax.Expr], text: str) -> None:
    """Relax that TVM's own front ends write, in forms that our import does not."""
    block = relax.BlockBuilder()
    x = relax.Var("x", relax.TensorType((1, 4, 4, 4), "uint8"))
    scale, zero = relax.const(np.float32(0.5)), relax.const(np.uint8(3))
    with block.function("main", [x]):
        with block.dataflow():
            real = block.emit(relax.op.dequantize(x, scale, zero, axis=0), "real")
            layer = block.emit(build(real), "layer")
            out = block.emit_output(relax.op.quantize(layer, scale, zero, axis=0, out_dtype="uint8"))
        block.emit_func_output(out)
    module = QdqToInteger()(block.get())
    found = {(str(r), r.remedy) for r in Placement.of(module["main"]).refused.values()}
    assert found == {(text, HOST)}


def test_sums_before_one_bit() -> None:
    g = QdqGraph()
    layer = g.sign(g.op("Conv", g.x, g.weights((8, 4, 1, 1))))
    module = QdqToInteger(acc_bits=10)(to_relax(g.model(g.op("Conv", layer, g.weights((8, 8, 1, 1))))))
    texts = {str(r) for r in Placement.of(module["main"]).refused.values() if r.where.startswith("conv")}
    (text,) = (t for t in texts if t.startswith("sums"))
    assert text.startswith("sums before one bit must fit 10 bits (at most 511), found ")
