"""Host operators of a partitioned module: the package's interpreter against TVM's own host code."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import tvm
from tvm import relax
from tvm.relax import op

from tilewright.codegen.host_calls import host_calls
from tilewright.codegen.host_program import LOWERINGS, host_program
from tilewright.errors import UnsupportedModel
from tilewright.relay_passes.pipeline import host_lowering
from tilewright.runtime import tvm_module
from tilewright.runtime.native import NativeProgram
from tilewright.targets.host_ops import OPERATOR_FUNCTION, call_text
from tilewright.targets.program import encode_program

RNG = np.random.default_rng(5)
SHAPE = (2, 6, 3, 4)
Expr = Any


def _module(*builds: Callable[[Expr], Expr], dtype: str = "float32") -> tvm.IRModule:
    """main(x) with one named variable for each operator and all of them as results."""
    bb = relax.BlockBuilder()
    x = relax.Var("x", relax.TensorType(SHAPE, dtype))
    with bb.function("main", [x]):
        with bb.dataflow():
            found = [bb.emit(build(x), f"node{i}") for i, build in enumerate(builds)]
            flat = []
            for var in found:
                if isinstance(var.ty, relax.TupleType):
                    flat += [bb.emit(relax.TupleGetItem(var, i)) for i in range(len(var.ty.fields))]
                else:
                    flat.append(var)
            result = bb.emit_output(relax.Tuple(flat))
        bb.emit_func_output(result)
    return bb.get()


def _const(value: Any, dtype: str = "float32") -> Expr:
    return relax.const(np.asarray(value, dtype))


def _values(dtype: str) -> Any:
    if dtype == "float32":
        return RNG.normal(0, 2, SHAPE).astype(np.float32)
    info = np.iinfo(dtype)
    return RNG.integers(info.min, info.max, SHAPE, dtype, endpoint=True)


SCALES = RNG.uniform(0.1, 0.3, 6)
CASES: dict[str, tuple[Callable[[Expr], Expr], str]] = {
    "quantize": (lambda x: op.quantize(x, _const(0.1), _const(3, "int8"), -1, "int8"), "float32"),
    "quantize by channel": (
        lambda x: op.quantize(x, _const(SCALES), _const(range(6), "uint8"), 1, "uint8"),
        "float32",
    ),
    "dequantize": (lambda x: op.dequantize(x, _const(0.1), _const(3, "int8"), -1, "float32"), "int8"),
    "dequantize by channel": (
        lambda x: op.dequantize(x, _const(SCALES), _const(range(6), "uint8"), 1, "float32"),
        "uint8",
    ),
    "softmax": (lambda x: op.nn.softmax(x, 1), "float32"),
    "log_softmax": (lambda x: op.nn.log_softmax(x, -1), "float32"),
    "argmax": (lambda x: op.argmax(x, 1, False), "float32"),
    "argmin": (lambda x: op.argmin(x, -1, True), "int8"),
    "relu": (op.nn.relu, "float32"),
    "leakyrelu": (lambda x: op.nn.leakyrelu(x, 0.1), "float32"),
    "clip": (lambda x: op.clip(x, 0, 1.5), "float32"),
    "negative": (op.negative, "float32"),
    "abs": (op.abs, "float32"),
    "sigmoid": (op.sigmoid, "float32"),
    "tanh": (op.tanh, "float32"),
    "exp": (op.exp, "float32"),
    "log": (lambda x: op.log(op.exp(x)), "float32"),
    "sqrt": (lambda x: op.sqrt(op.abs(x)), "float32"),
    "rsqrt": (lambda x: op.rsqrt(op.exp(x)), "float32"),
    "erf": (op.erf, "float32"),
    "floor": (op.floor, "float32"),
    "ceil": (op.ceil, "float32"),
    "round": (op.round, "float32"),
    "square": (op.square, "float32"),
    "add": (lambda x: op.add(x, _const(RNG.normal(size=(6, 1, 4)))), "float32"),
    "subtract": (lambda x: op.subtract(x, _const(2)), "float32"),
    "multiply": (lambda x: op.multiply(x, x), "float32"),
    "divide": (lambda x: op.divide(x, _const(3)), "float32"),
    "power": (lambda x: op.power(op.exp(x), _const(0.75)), "float32"),
    "maximum": (lambda x: op.maximum(x, _const(2, "int8")), "int8"),
    "minimum": (lambda x: op.minimum(x, _const(1)), "float32"),
    "sum": (lambda x: op.sum(x, [1, 2], False), "float32"),
    "mean": (lambda x: op.mean(x, [2, 3], True), "float32"),
    "max": (lambda x: op.max(x), "int8"),
    "min": (lambda x: op.min(x, [0]), "uint8"),
    "astype": (lambda x: op.astype(x, "int32"), "float32"),
    "reshape": (lambda x: op.reshape(x, (12, 12)), "int8"),
    "squeeze": (lambda x: op.squeeze(op.expand_dims(x, [0, 3])), "int8"),
    "flatten": (op.flatten, "uint8"),
    "batch_flatten": (op.nn.batch_flatten, "uint8"),
    "permute_dims": (lambda x: op.permute_dims(x, [0, 2, 3, 1]), "int8"),
    "permute_dims without axes": (op.permute_dims, "int8"),
    "concat": (lambda x: op.concat([x, x], 2), "float32"),
    "strided_slice": (lambda x: op.strided_slice(x, [1, 3], [1, 0], [2**31 - 1, -1], [2, 1]), "int8"),
    "strided_slice by ones": (lambda x: op.strided_slice(x, [-3], [2], [5]), "int8"),
    "split": (lambda x: op.split(x, [1, 4], 1), "int8"),
    "flip": (lambda x: op.flip(x, 1), "int8"),
    "repeat": (lambda x: op.repeat(x, 2, 3), "uint8"),
    "pad": (lambda x: op.nn.pad(x, [0, 0, 0, 1, 2, 1, 1, 1], "constant", 3.0), "float32"),
    "broadcast_to": (lambda x: op.broadcast_to(x, (3, *SHAPE)), "int8"),
    "take": (lambda x: op.take(x, _const([0, 5, 2], "int64"), 1), "float32"),
    "take one": (lambda x: op.take(x, _const(4, "int32"), 1), "float32"),
    "one bit": (
        lambda x: op.where(op.greater_equal(op.round(x), _const(0)), _const(1, "int8"), _const(-1, "int8")),
        "float32",
    ),
    "topk": (lambda x: op.topk(x, 4, 1, "both", True, "int32"), "float32"),
    "topk values": (lambda x: op.topk(x, 2, 1, "values", False), "float32"),
}


def _packaged(module: tvm.IRModule, x: Any) -> list[Any]:
    program = host_program(module, [])
    program.check(0)
    return NativeProgram(encode_program(program), []).run([x])[0]


@pytest.mark.parametrize("case", sorted(CASES))
def test_each_operator_is_that_of_tvm(case: str) -> None:
    build, dtype = CASES[case]
    module, x = _module(build, dtype=dtype), _values(dtype)
    vm = relax.VirtualMachine(tvm.compile(module, target="llvm"), tvm.cpu())
    expected = [t.numpy() for t in vm["main"](tvm.runtime.tensor(x))]
    found = _packaged(module, x)
    assert len(found) == len(expected)
    for a, b in zip(found, expected, strict=True):
        assert a.dtype == b.dtype
        # Floats: TVM's exp, tanh and erf are approximations good to about 16 ulp of 1 (its fast polynomials); sums
        # of 12 terms are added in float there. Everything else is equal.
        np.testing.assert_allclose(a, b, rtol=4e-6, atol=4e-6 if b.dtype == np.float32 else 0)


@pytest.mark.parametrize("case", sorted(CASES))
def test_a_compiled_module_gives_the_bits_of_a_package(case: str) -> None:
    """What tvm.compile makes of the host part: its own code where IEEE 754 fixes the result, the runtime elsewhere."""
    tvm_module.load()
    build, dtype = CASES[case]
    module, x = _module(build, dtype=dtype), _values(dtype)
    executable = tvm.compile(host_calls(module), target="llvm", relax_pipeline=host_lowering())
    vm = relax.VirtualMachine(executable, tvm.cpu())
    for a, b in zip(_packaged(module, x), vm["main"](tvm.runtime.tensor(x)), strict=True):
        assert (a.dtype, a.tobytes()) == (b.numpy().dtype, b.numpy().tobytes())


def test_functions_without_fixed_bits_are_the_runtimes() -> None:
    called = {
        name
        for name, (build, dtype) in CASES.items()
        if OPERATOR_FUNCTION in str(host_calls(_module(build, dtype=dtype)))
    }
    assert called == {
        *("softmax", "log_softmax", "sigmoid", "tanh", "exp", "log", "erf", "power", "rsqrt", "sum", "mean"),
    }


def test_every_lowering_is_tested() -> None:
    names = {str(b.value.op.name) for f, t in CASES.values() for b in _bindings(_module(f, dtype=t))}
    assert set(LOWERINGS) <= names


def _bindings(module: tvm.IRModule) -> list[Any]:
    calls = [b for block in module["main"].body.blocks for b in block.bindings]
    return [b for b in calls if isinstance(b.value, tvm.ir.Call)]


def test_all_operators_outside_the_table_are_named_at_once() -> None:
    weight = _const(np.zeros((2, 6, 1, 1)))
    module = _module(
        lambda x: op.nn.conv2d(x, weight),
        lambda x: op.cumsum(x, 1),
        op.nn.relu,
        lambda x: op.nn.pad(x, [0, 0, 0, 0, 1, 1, 1, 1], "reflect"),
        lambda x: op.greater(x, _const(0)),
    )
    with pytest.raises(UnsupportedModel) as caught:
        host_program(module, [])
    reasons = [
        ("node0", "relax.nn.conv2d is no operator of packages"),
        ("node1", "relax.cumsum is no operator of packages"),
        ("node3", "padding of mode reflect"),
        ("node4", "relax.greater is no operator of packages"),
    ]
    remedy = "compile with tvm.compile, whose host part is native code"
    assert [str(f) for f in caught.value.faults] == [
        f"{where}: the package's host part cannot do this: {reason}; {remedy}" for where, reason in reasons
    ]


def test_truth_values_stay_inside() -> None:
    with pytest.raises(UnsupportedModel) as error:
        host_program(_module(lambda x: op.greater_equal(x, _const(0))), [])
    assert str(error.value) == (
        "node0: the package's host part cannot do this: truth values as a result; "
        "compile with tvm.compile, whose host part is native code"
    )


def test_choices_other_than_between_two_numbers_are_refused() -> None:
    with pytest.raises(UnsupportedModel, match=r"node0: .*a choice between values that are not two numbers"):
        host_program(_module(lambda x: op.where(op.greater_equal(x, _const(0)), x, _const(1))), [])


def test_outputs_get_their_names_and_inputs_may_be_outputs() -> None:
    module = _module(op.nn.relu, lambda x: x, op.nn.relu)
    program = host_program(module, [], ["a", "b", "c"])
    assert [program.tensors[n].name for n in program.outputs] == ["a", "b", "c"]
    x = _values("float32")
    found = NativeProgram(encode_program(program), []).run([x])[0]
    for array, expected in zip(found, [np.maximum(x, 0), x, np.maximum(x, 0)], strict=True):
        np.testing.assert_array_equal(array, expected)


def test_regions_are_called_by_number() -> None:
    bb = relax.BlockBuilder()
    ty = relax.TensorType((1, 3), "int8")
    for name in ("first", "second"):
        p = relax.Var("p", ty)
        with bb.function(name, [p]):
            bb.emit_func_output(bb.emit(op.add(p, p)))
    x = relax.Var("x", ty)
    with bb.function("main", [x]):
        with bb.dataflow():
            y = bb.emit(relax.Call(bb.get().get_global_var("second"), [x]), "y")
            z = bb.emit_output(relax.Call(bb.get().get_global_var("first"), [y]), "z")
        bb.emit_func_output(z)
    program = host_program(bb.get(), ["first", "second"])
    program.check(2)
    assert [(s.op, s.attributes["index"], s.inputs, s.outputs) for s in program.steps] == [
        ("region", 1, (0,), (1,)),
        ("region", 0, (1,), (2,)),
    ]
    with pytest.raises(
        UnsupportedModel, match="z: the package's host part cannot do this: calls first, which is no region"
    ):
        host_program(bb.get(), ["second"])


def test_detection_output_has_a_dynamic_result() -> None:
    attributes = {
        "num_classes": 2,
        "share_location": 1,
        "background_label_id": 0,
        "nms_threshold": 0.5,
        "top_k": -1,
        "keep_top_k": 5,
        "confidence_threshold": 0,
        "code_type": 2,
        "variance_encoded_in_target": 0,
    }

    def build(_: Expr) -> Expr:
        return relax.call_pure_packed(
            OPERATOR_FUNCTION,
            *(_const(np.zeros(shape)) for shape in ((1, 8), (1, 4), (1, 2, 8))),
            tvm.ir.StringImm(call_text("detection_output", **attributes)),
            ty_args=relax.TensorType((1, 1, 5, 7), "float32"),
        )

    program = host_program(_module(build), [])
    program.check(0)
    assert program.tensors[program.outputs[0]].shape == (1, 1, -1, 7)
    found = NativeProgram(encode_program(program), []).run([_values("float32")])[0][0]
    np.testing.assert_array_equal(found.ravel(), [0, -1, -1, -1, -1, -1, -1])
    with pytest.raises(UnsupportedModel) as error:
        host_program(_main(relax.TensorType(SHAPE, "float32"), build, op.nn.relu), [])
    assert str(error.value) == (
        "node1: the package's host part cannot do this: relax.nn.relu of a tensor whose shape is known at run time "
        "only; compile with tvm.compile, whose host part is native code"
    )


_ONCE = "a take over all axes at once"
CANNOT: dict[str, tuple[Callable[[Expr], Expr], str]] = {
    "repeat of all": (lambda x: op.repeat(x, 2), "a repeat over all axes at once"),
    "index of all": (op.argmax, "an index over all axes at once"),
    "negative padding": (
        lambda x: op.nn.pad(x, [0, 0, 0, 0, -1, 0, 0, 0]),
        "negative padding [0, 0, 0, 0, -1, 0, 0, 0]",
    ),
    "take of all": (lambda x: op.take(op.reshape(x, (144,)), _const([1], "int64")), _ONCE),
    "take beyond the end": (
        lambda x: op.take(x, _const([6], "int64"), axis=1),
        "a take whose indices are not constants in 0..5",
    ),
    "nested results": (lambda x: relax.Tuple([relax.Tuple([x, x]), x]), "a tuple within a tuple"),
    "zero point of another type": (
        lambda x: op.quantize(x, _const(0.1), _const(300, "int32"), -1, "int8"),
        "expected a constant zero point of int8, found int32",
    ),
    "take with NaN": (lambda x: op.take(x, _const([1], "int64"), axis=1, mode="nan"), "a take of mode nan"),
}


@pytest.mark.parametrize("case", CANNOT)
def test_forms_that_the_table_does_not_have(case: str) -> None:
    build, text = CANNOT[case]
    with pytest.raises(UnsupportedModel) as error:
        host_program(_module(build), [])
    assert str(error.value) == (
        f"node0: the package's host part cannot do this: {text}; "
        "compile with tvm.compile, whose host part is native code"
    )


def _main(ty: Any, *builds: Callable[[Expr], Expr]) -> tvm.IRModule:
    """main(x), a chain of operators."""
    bb = relax.BlockBuilder()
    x = relax.Var("x", ty)
    with bb.function("main", [x]):
        with bb.dataflow():
            y: Expr = x
            for i, build in enumerate(builds):
                y = bb.emit(build(y), f"node{i}")
            y = bb.emit_output(y)
        bb.emit_func_output(y)
    return bb.get()


@pytest.mark.parametrize(
    ("ty", "text"),
    [
        (relax.TensorType(ndim=2, dtype="float32"), "x is no tensor of known shape"),
        (relax.TensorType((1, tvm.tirx.Var("n", "int64")), "float32"), "x has a dynamic shape [1, n]"),
    ],
)
def test_inputs_need_shapes(ty: Any, text: str) -> None:
    with pytest.raises(UnsupportedModel) as error:
        host_program(_main(ty, op.nn.relu), [])
    assert str(error.value) == f"input x: {text}; compile with tvm.compile, whose host part is native code"
