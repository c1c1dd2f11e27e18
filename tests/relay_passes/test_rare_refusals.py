"""Refusals that need an operand, a rounding or a scale of their own."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from tvm import relax
from tvm.ir import IRModule

from tests.relay_passes.qdq_graphs import QdqGraph
from tilewright.integer.predicate import Ok
from tilewright.integer_level import integer_module
from tilewright.relay_passes.partition import find_evictions
from tilewright.relay_passes.placement import Placement
from tilewright.relay_passes.qdq_to_integer import QdqToInteger

BEFORE = "put a QuantizeLinear/DequantizeLinear pair before this layer"
HOST = "it runs on the host; express it by other operators to change that"


def conv(g: QdqGraph) -> str:
    return g.op("Conv", g.x, g.weights((8, 4, 1, 1), None))


def constant_times_weights(g: QdqGraph) -> str:
    flat = g.q(g.op("Reshape", g.x, g.const([120, 1], "int64")), 0.0517, 117)
    return g.q(g.op("MatMul", g.const(g.rng.normal(size=(1, 120))), flat), 0.05, 3)


def thresholds(g: QdqGraph) -> str:
    """Halves of steps are rounded to the even step before the odd zero point is added: one up, the next down."""
    x = g.q("input", 1.0, 0)
    layer = g.op("Conv", x, g.dq(g.const(np.ones((1, 4, 1, 1)), "int8"), 1.0, g.const(0, "int8")))
    return g.q(layer, 2.0, 1, bits=4)


def empty_windows(g: QdqGraph) -> str:
    pooled = g.op("AveragePool", g.x, kernel_shape=[2, 2], pads=[2, 0, 0, 0], count_include_pad=0)
    return g.q(pooled, 0.05, 3)


def floor_of_a_dead_channel(g: QdqGraph) -> str:
    gain = np.ones((8, 1, 1))
    gain[3] = 0
    return g.q(g.op("Floor", g.op("Mul", conv(g), g.const(gain))), 1.0, 0, "int8")


def prelu_away_from_zero(g: QdqGraph) -> str:
    value = g.op("PRelu", conv(g), g.const(np.full((8, 1, 1), 0.3)))
    size = g.op("Floor", g.op("Add", g.op("Abs", value), g.const(0.5)))
    return g.q(g.op("Mul", g.op("Sign", value), size), 1.0, 0, "int8")


CASES: list[tuple[Callable[[QdqGraph], str], str, str]] = [
    (constant_times_weights, "an operand must be computed at run time, found a constant", HOST),
    (
        thresholds,
        "results of 4 bits or fewer must change at the quantised model's own sums, found no 24-bit multiplier that "
        "does in channel 0",
        "choose an even zero point, or scales that are no powers of two times each other",
    ),
    (empty_windows, "each window of an average pool must hold an element, found 0 elements", HOST),
    (
        floor_of_a_dead_channel,
        "a channel that does not depend on the input must be rounded to the nearest, found rounding floor",
        "export with rounding mode ROUND",
    ),
    (
        prelu_away_from_zero,
        "a PReLU's result must be rounded to even, down or up, found rounding away",
        "export with ROUND",
    ),
]


@pytest.mark.parametrize(("make", "text", "remedy"), CASES, ids=[case[0].__name__ for case in CASES])
def test_rare_refusal(make: Callable[[QdqGraph], str], text: str, remedy: str) -> None:
    g = QdqGraph()
    module = integer_module(g.model(make(g)))
    assert (text, remedy) in {(str(r), r.remedy) for r in Placement.of(module["main"]).refused.values()}


def refusals_of(build: Callable[[relax.BlockBuilder, relax.Expr], relax.Expr]) -> tuple[IRModule, set[str]]:
    """A module of another front end: what `build` makes of a dequantised input, quantised."""
    block = relax.BlockBuilder()
    x = relax.Var("x", relax.TensorType((1, 4, 4, 4), "uint8"))
    with block.function("main", [x]):
        with block.dataflow():
            real = block.emit(relax.op.dequantize(x, SCALE, ZERO, axis=0), "real")
            out = block.emit_output(quantised(build(block, real)))
        block.emit_func_output(out)
    module = QdqToInteger()(block.get())
    return module, {f"{r}; {r.remedy}" for r in Placement.of(module["main"]).refused.values()}


SCALE, ZERO = relax.const(np.float32(0.5)), relax.const(np.uint8(3))


def quantised(x: relax.Expr) -> relax.Expr:
    return relax.op.quantize(x, SCALE, ZERO, axis=0, out_dtype="uint8")


def test_a_tuple_as_operand() -> None:
    """The parts of a split, handed on together."""

    def build(block: relax.BlockBuilder, x: relax.Expr) -> relax.Expr:
        parts = block.emit(relax.op.split(x, 2, 1), "parts")
        return block.emit(relax.op.concat(parts, 1), "whole")

    _, found = refusals_of(build)
    assert found == {f"all operands must be quantised tensors, parts is not, found it is a tuple; {BEFORE}"}


def test_functions_of_the_host() -> None:
    """A function of the runtime, and a pool of its result."""

    def build(block: relax.BlockBuilder, x: relax.Expr) -> relax.Expr:
        ty = relax.TensorType((1, 4, 4, 4), "float32")
        made = block.emit(relax.call_pure_packed("its.own", x, ty_args=ty), "made")
        again = block.emit(relax.op.dequantize(block.emit(quantised(made)), SCALE, ZERO, axis=0))
        return block.emit(relax.op.nn.max_pool2d(again, [2, 2]), "pool")

    module, found = refusals_of(build)
    assert found == {f"all operands must be quantised tensors, one is not, found it is no tensor; {BEFORE}"}
    (no,) = find_evictions(module, lambda _: Ok()).values()
    assert (str(no), no.where, no.remedy) == (
        "a layer must not depend on a function of the host's runtime, found one that does",
        "pool",
        "nothing can be done",
    )
