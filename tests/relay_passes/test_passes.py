"""Structure of what the passes make: one expected module in full, then properties of the others."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
import pytest
import tvm
from tvm import relax

from tests.relay_passes.qdq_graphs import QdqGraph
from tests.relay_passes.scripts import Before, Expected
from tilewright.codegen.lift import lift
from tilewright.errors import ConfigError
from tilewright.frontend.relax_import import to_relax
from tilewright.integer.ops import Conv2d, Layout, LayoutStep, Table
from tilewright.integer.parse import parse
from tilewright.integer.predicate import Ok, Reject
from tilewright.integer_level import integer_module, layerwise_compare, run_integer
from tilewright.relay_passes.collapse_layouts import CollapseLayouts
from tilewright.relay_passes.partition import composite_calls, find_evictions, is_region
from tilewright.relay_passes.pipeline import PASSES, partitioned
from tilewright.relay_passes.placement import Placement
from tilewright.relay_passes.qdq_to_integer import QdqToInteger
from tilewright.relay_passes.rewrite import bindings_of
from tilewright.target import target
from tilewright.targets.config import overlay

OVERLAY = overlay("ultra96-w8")


def regions(module: tvm.IRModule) -> list[relax.Function]:
    return [f for f in module.functions.values() if is_region(f)]


def host_operators(module: tvm.IRModule) -> list[str]:
    """Operators that `main` runs beside regions."""
    found = []
    for binding in bindings_of(module["main"]):
        if isinstance(binding.value, relax.Call) and hasattr(binding.value.op, "name"):
            found.append(str(binding.value.op.name).removeprefix("relax."))
    return found


def conv(g: QdqGraph, x: str, out: int = 4) -> str:
    return g.op("Conv", x, g.weights((out, 4, 3, 3)), pads=[1, 1, 1, 1])


def q(g: QdqGraph, value: str) -> str:
    return g.q(value, 0.0613, 101)


def test_expected_module() -> None:
    found = QdqToInteger()(Before)
    found["main"] = found["main"].without_attr("tilewright.placement")
    tvm.ir.assert_structural_equal(found, Expected)


@pytest.mark.parametrize("name", ["qdq_to_integer", "collapse_layouts"])
def test_twice_changes_nothing(name: str) -> None:
    g = QdqGraph()
    a = g.q(g.op("Transpose", g.op("Flatten", g.x, axis=2), perm=[1, 0]), 0.0517, 117)
    b = g.q(g.op("Reshape", a, g.const([1, 4, 5, 6], "int64")), 0.0517, 117)
    module = to_relax(g.model(q(g, conv(g, b))))
    once = QdqToInteger()(module)
    if name == "collapse_layouts":
        once = CollapseLayouts()(once)
    tvm.ir.assert_structural_equal(PASSES[name](OVERLAY)(once), once)


def test_shared_dequantize_is_split() -> None:
    """Two convolutions of one tensor, and the host reads it too: nothing float goes between composites."""
    g = QdqGraph()
    a, b = q(g, conv(g, g.x)), q(g, conv(g, g.x))
    module = partitioned(to_relax(g.model(q(g, g.op("Add", a, b)), g.op("Softmax", a))), OVERLAY)
    (region,) = regions(module)
    graph = lift(region)
    assert [n.operator.kind for n in graph.nodes] == ["conv2d", "conv2d", "add"]
    assert {t.dtype for n in graph.nodes for t in (*n.inputs, n.output)} == {"uint8"}
    assert len(graph.inputs) == 1 and len(graph.outputs) == 2
    assert sorted(host_operators(module)) == ["dequantize", "dequantize", "nn.softmax", "quantize"]


def test_clip_between_quantize_and_dequantize() -> None:
    """QCDQ: fewer bits in 8-bit storage narrow the result's bounds."""
    g = QdqGraph(dtype="int8")
    zero, scale = g.const(0, "int8"), g.const(0.3)
    ints = g.op("QuantizeLinear", conv(g, g.x), scale, zero)
    clipped = g.op("Clip", ints, g.const(-8, "int8"), g.const(7, "int8"))
    model = g.model(g.op("DequantizeLinear", clipped, scale, zero))
    module = integer_module(model)
    ((_, function),) = composite_calls(module)
    op = parse(function)
    assert isinstance(op, Conv2d)
    assert (op.rescale.lo, op.rescale.hi) == (-8, 7)
    (row,) = layerwise_compare(model, g.input(), module, engine="numpy")
    assert row.largest <= 1 and row.share >= 0.99


def test_layouts_on_integers() -> None:
    """Reshape and MaxPool between QuantizeLinear and DequantizeLinear need no pair of their own."""
    g = QdqGraph()
    zero, scale = g.const(117, "uint8"), g.const(0.0517)
    ints = g.op("QuantizeLinear", "input", scale, zero)
    pooled = g.op("MaxPool", ints, kernel_shape=[2, 2])
    flat = g.op("Reshape", pooled, g.const([1, -1], "int64"))
    x = g.op("DequantizeLinear", flat, scale, zero)
    model = g.model(q(g, g.op("MatMul", x, g.weights((80, 3), 1))))
    module = integer_module(model)
    assert [parse(f).kind for _, f in composite_calls(module)] == ["max_pool2d", "layout", "dense"]
    (found,) = run_integer(partitioned_without_hook(module), list(g.input().values()))
    assert found.shape == (1, 3)


def partitioned_without_hook(module: tvm.IRModule) -> tvm.IRModule:
    return CollapseLayouts()(module)


def test_channel_shuffle_is_one_layout() -> None:
    g = QdqGraph()
    a = g.q(g.op("Reshape", g.x, g.const([1, 2, 2, 6, 5], "int64")), 0.0517, 117)
    b = g.q(g.op("Transpose", a, perm=[0, 2, 1, 3, 4]), 0.0517, 117)
    c = g.q(g.op("Reshape", b, g.const([1, 4, 6, 5], "int64")), 0.0517, 117)
    module = integer_module(g.model(q(g, conv(g, c))))
    shuffle, _ = (parse(f) for _, f in composite_calls(module))
    assert isinstance(shuffle, Layout)
    assert [s.kind for s in shuffle.steps] == ["reshape", "transpose", "reshape"]


def test_layout_that_moves_nothing_disappears() -> None:
    g = QdqGraph()
    a = g.q(g.op("Reshape", g.x, g.const([1, 2, 2, 30], "int64")), 0.0517, 117)
    b = g.q(g.op("Reshape", a, g.const([1, 4, 6, 5], "int64")), 0.0517, 117)
    module = integer_module(g.model(q(g, conv(g, b))))
    assert [parse(f).kind for _, f in composite_calls(module)] == ["conv2d"]


def test_concats_join() -> None:
    g = QdqGraph()
    a = g.q(g.op("Concat", g.x, g.x, axis=1), 0.0517, 117)
    b = g.q(g.op("Concat", a, g.x, axis=1), 0.0517, 117)
    module = integer_module(g.model(g.q(g.op("MaxPool", b, kernel_shape=[2, 2]), 0.0517, 117)))
    (binding, function), _ = composite_calls(module)
    assert len(binding.value.args) == 3
    assert parse(function) == Layout((LayoutStep("concat", ((1,),)),))


def test_trailing_layout_goes_to_the_host() -> None:
    g = QdqGraph()
    a = q(g, conv(g, g.x))
    module = partitioned(to_relax(g.model(g.q(g.op("Flatten", a), 0.0613, 101))), OVERLAY)
    (region,) = regions(module)
    assert [n.operator.kind for n in lift(region).nodes] == ["conv2d"]
    assert host_operators(module) == ["quantize", "reshape", "dequantize"]
    (no,) = Placement.of(module["main"]).evicted.values()
    assert str(no) == "a flattened map may be read by dense layers only, found a reader of kind the host"


def test_trailing_layout_of_whole_channels_stays() -> None:
    g = QdqGraph()
    a = q(g, conv(g, g.x))
    cut = g.op("Slice", a, g.const([1], "int64"), g.const([3], "int64"), g.const([1], "int64"))
    module = partitioned(to_relax(g.model(g.q(cut, 0.0613, 101))), OVERLAY)
    (region,) = regions(module)
    assert [n.operator.kind for n in lift(region).nodes] == ["conv2d", "layout"]
    assert host_operators(module) == ["quantize", "dequantize"]


def test_layout_between_host_operators_stays_on_the_host() -> None:
    g = QdqGraph()
    a = g.q(g.op("Transpose", g.x, perm=[0, 1, 3, 2]), 0.0517, 117)
    module = partitioned(to_relax(g.model(a)), OVERLAY)
    (no,) = Placement.of(module["main"]).evicted.values()
    assert (
        str(no)
        == "a layout runs on the accelerator if a layer there makes what it reads, or reads what it makes, "
        "found only the host does"
    )


def test_flatten_is_for_dense_layers() -> None:
    g = QdqGraph()
    a = g.q(g.op("Flatten", q(g, conv(g, g.x))), 0.0613, 101)
    module = partitioned(to_relax(g.model(q(g, g.op("Add", a, q(g, g.op("Relu", a)))))), OVERLAY)
    (no,) = Placement.of(module["main"]).evicted.values()
    assert str(no) == "a flattened map may be read by dense layers only, found a reader of kind add, table"
    assert len(regions(module)) == 2
    g = QdqGraph()
    a = g.q(g.op("Flatten", q(g, conv(g, g.x))), 0.0613, 101)
    module = partitioned(to_relax(g.model(q(g, g.op("MatMul", a, g.weights((120, 3), 1))))), OVERLAY)
    (region,) = regions(module)
    assert [n.operator.kind for n in lift(region).nodes] == ["conv2d", "layout", "dense"]


def test_what_the_code_generator_refuses_runs_on_the_host() -> None:
    """As plain integer operators between two regions; with nothing left for the accelerator the numbers are the same."""
    g = QdqGraph()
    model = g.model(q(g, conv(g, q(g, g.op("Relu", q(g, conv(g, g.x)))))))
    module = integer_module(model)

    def check(node: Any) -> Ok | Reject:
        return Reject("a test", "a table", node.name) if isinstance(node.operator, Table) else Ok()

    evicted = find_evictions(module, check)
    assert [r.where for r in evicted.values()] == ["relu14"]
    inputs = list(g.input().values())
    (want,) = run_integer(module, inputs)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("tilewright.relay_passes.partition.check", lambda node, _: check(node))
        split = PASSES["partition"](OVERLAY)(module)
        patch.setattr("tilewright.relay_passes.partition.check", lambda node, _: Reject("a test", "a layer"))
        nothing = PASSES["partition"](OVERLAY)(module)
    assert len(regions(split)) == 2
    assert "take" in host_operators(split)
    assert regions(nothing) == []
    (found,) = run_integer(nothing, inputs)
    np.testing.assert_array_equal(found, want)


def test_regions_are_named_in_order() -> None:
    g = QdqGraph()
    a = q(g, conv(g, g.x))
    b = q(g, conv(g, q(g, g.op("Softmax", a))))
    module = partitioned(to_relax(g.model(b)), OVERLAY)
    names = [str(f.attrs["global_symbol"]) for f in regions(module)]
    assert sorted(names) == ["tilewright_0", "tilewright_1"]
    calls = [
        b.value.op.name_hint
        for b in bindings_of(module["main"])
        if hasattr(getattr(b.value, "op", None), "name_hint")
    ]
    assert calls == ["tilewright_0", "tilewright_1"]
    variables = [b.var.name for b in bindings_of(module["main"])]
    assert len(set(variables)) == len(variables)


def test_lift_keeps_names_and_order() -> None:
    g = QdqGraph()
    a = q(g, conv(g, g.x))
    module = partitioned(to_relax(g.model(q(g, g.op("Add", a, g.x)))), OVERLAY)
    (region,) = regions(module)
    graph = lift(region)
    first, second = graph.nodes
    assert graph.name == "tilewright_0"
    assert first.name.startswith("conv") and second.name.startswith("add")
    assert first.inputs == graph.inputs
    assert {t.name for t in second.inputs} == {first.output.name, graph.inputs[0].name}
    assert graph.outputs == (second.output,)
    assert graph.inputs[0].shape == (1, 4, 6, 5)


def test_unquantised_model_stays_on_the_host() -> None:
    x = onnx.helper.make_tensor_value_info("x", 1, [1, 3])
    node = onnx.helper.make_node("Relu", ["x"], ["y"], name="relu")
    y = onnx.helper.make_tensor_value_info("y", 1, [1, 3])
    model = onnx.helper.make_model(onnx.helper.make_graph([node], "g", [x], [y]), ir_version=10)
    module = partitioned(to_relax(model), OVERLAY)
    assert regions(module) == []
    (found,) = run_integer(module, [np.array([[-1, 0, 2]], np.float32)])
    np.testing.assert_array_equal(found, [[0, 0, 2]])


def test_narrow_accumulator_is_refused() -> None:
    g = QdqGraph()
    module = QdqToInteger(16)(to_relax(g.model(q(g, conv(g, g.x)))))
    texts = [str(r) for r in Placement.of(module["main"]).refused.values()]
    assert any(t.startswith("sums must fit 16 bits (at most 32767), found ") for t in texts)


def test_target() -> None:
    found = target("ultra96-w8")
    assert str(found.attrs["model"]) == "ultra96-w8"
    assert str(found.kind.name) == "llvm"
    with pytest.raises(ConfigError, match=r"host: expected one of the hosts x86, arm, found 'sparc'"):
        target("ultra96-w8", "sparc")
    with pytest.raises(ConfigError, match="ultra97"):
        target("ultra97-w8")


def test_pipeline_needs_an_overlay() -> None:
    with pytest.raises(ConfigError, match="no overlay is known"):
        from tilewright.relay_passes.pipeline import current_overlay

        current_overlay()


def test_packed_function_of_the_host() -> None:
    """SSD's head: a region, a call of the runtime, and what depends on it stays on the host."""
    g = QdqGraph()
    boxes = q(g, g.op("Flatten", q(g, conv(g, g.x))))
    name = g.name("detect")
    priors = g.const(np.zeros((1, 2, 120)))
    scores = g.const(np.zeros((1, 60)))
    node = onnx.helper.make_node(
        "DetectionOutput", [boxes, scores, priors], [name], name=name, domain="tilewright", num_classes=2
    )
    g.nodes.append(node)
    module = partitioned(to_relax(g.model(name, boxes)), OVERLAY)
    (region,) = regions(module)
    assert [n.operator.kind for n in lift(region).nodes] == ["conv2d"]
    relax.analysis.well_formed(module)
    assert host_operators(module)[-1] == "call_pure_packed"
    result = module["main"].ret_ty
    assert isinstance(result, relax.TupleType) and len(result.fields) == 2
