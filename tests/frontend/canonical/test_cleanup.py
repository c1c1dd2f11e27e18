"""fold_constants, remove_identity, remove_dead, merge_duplicates, add_bias, and the framework."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

import numpy as np
import pytest

from tilewright.errors import ModelError
from tilewright.frontend import canonicalise, folded_nodes, node_origins
from tilewright.frontend.canonical import PASSES, RewritePass, run_passes
from tilewright.frontend.canonical.add_bias import AddBias
from tilewright.frontend.canonical.fold_constants import FoldConstants
from tilewright.frontend.canonical.merge_duplicates import MergeDuplicates
from tilewright.frontend.canonical.operand_order import OperandOrder
from tilewright.frontend.canonical.remove_dead import RemoveDead
from tilewright.frontend.canonical.remove_identity import RemoveIdentity
from tilewright.frontend.graph import Graph

from .models import build, floats, graph_of, int64, only, ops, rewrite

IDENTITIES = (OperandOrder(), RemoveIdentity())
HEAD = "g (float[1,4,3,3] x) => (float[1,4,3,3] y) {"


@pytest.mark.parametrize(
    "op",
    [
        "Identity (r)",
        "Dropout (r)",
        "Cast <to = 1> (r)",
        "Reshape (r, shape)",
        "Transpose <perm = [0,1,2,3]> (r)",
        "Pad (r, none)",
        "Mul (one, r)",
        "Mul (r, ones)",
        "Div (r, one)",
        "Add (r, zero)",
        "Sub (r, zero)",
        "Pow (r, one)",
        "MaxPool <kernel_shape = [1,1]> (r)",
        "Concat <axis = 1> (r)",
        "Sum (r)",
        "Slice (r, start, end)",
        "Expand (r, shape)",
    ],
)
def test_identities_go_whether_output_or_not(op: str) -> None:
    constants = {
        "shape": int64(1, 4, 3, 3),
        "none": np.zeros(8, np.int64),
        "one": np.array(1, np.float32),
        "ones": np.ones((4, 1, 1), np.float32),
        "zero": np.array([0], np.float32),
        "start": int64(0),
        "end": int64(9),
    }
    last = rewrite(build(f"{HEAD} r = Tanh (x) y = {op} }}", **constants), *IDENTITIES, tolerance=0.0)
    assert ops(last) == {"Tanh": 1}
    between = build(f"{HEAD} r = Tanh (x) s = {op} y = Abs (s) }}", **constants)
    assert ops(rewrite(between, *IDENTITIES, tolerance=0.0)) == {"Tanh": 1, "Abs": 1}
    first = build(f"{HEAD} s = {op.replace('(r', '(x').replace(', r)', ', x)')} y = Abs (s) }}", **constants)
    assert ops(rewrite(first, *IDENTITIES, tolerance=0.0)) == {"Abs": 1}


def test_an_identity_between_input_and_output_stays() -> None:
    assert ops(rewrite(build(f"{HEAD} y = Identity (x) }}"), *PASSES)) == {"Identity": 1}


def test_a_value_that_is_two_outputs_keeps_both_names() -> None:
    model = build("g (float[2] x) => (float[2] y, float[2] z) { y = Relu (x) z = Identity (y) }")
    assert ops(rewrite(model, *PASSES)) == {"Relu": 1, "Identity": 1}


def test_a_broadcasting_one_is_no_identity() -> None:
    model = build(
        "g (float[1,3] x) => (float[2,3] y) { y = Mul (x, ones) }", ones=np.ones((2, 1), np.float32)
    )
    assert ops(rewrite(model, RemoveIdentity())) == {"Mul": 1}


def test_broadcast_operands_come_second() -> None:
    model = build(
        """g (float[1,4,3,3] x) => (float[1,4,3,3] y) {
            p = GlobalAveragePool (x)
            m = Mul (p, x)
            y = Add (k, m) }""",
        k=floats(4, 3, 3),
    )
    graph = rewrite(model, OperandOrder(), tolerance=0.0)
    assert [n.inputs for n in graph.of("Mul", "Add")] == [["x", "p"], ["m", "k"]]


def test_constants_fold_with_shapes() -> None:
    model = build(
        """g (float[1,4,3,3] x) => (float[1,36] y) {
            s = Shape (x)
            n = Gather (s, zero)
            u = Unsqueeze (n, zeros)
            t = Concat <axis = 0> (u, minus)
            r = Reshape (x, t)
            w = Mul (a, a)
            y = Add (r, w) }""",
        zero=np.array(0),
        zeros=int64(0),
        minus=int64(-1),
        a=floats(36),
    )
    graph = rewrite(model, FoldConstants(), tolerance=0.0)
    assert ops(graph) == {"Reshape": 1, "Add": 1}
    assert graph.resolved_folds() == {
        "Shape_s": "Reshape_r",
        "Gather_n": "Reshape_r",
        "Unsqueeze_u": "Reshape_r",
        "Concat_t": "Reshape_r",
        "Mul_w": "Add_y",
    }


def test_quantisers_of_weights_do_not_fold() -> None:
    model = build(
        "g (float[4] x) => (float[4] y) { d = DequantizeLinear (q, s) y = Add (x, d) }",
        q=np.arange(4, dtype=np.int8),
        s=np.array(0.5, np.float32),
    )
    assert ops(rewrite(model, FoldConstants())) == {"DequantizeLinear": 1, "Add": 1}


def test_what_cannot_be_computed_is_a_fault() -> None:
    model = build(
        "g (float[2] x) => (float[2] y) { i = Gather (a, big) y = Add (x, i) }", a=floats(3), big=int64(0, 7)
    )
    with pytest.raises(
        ModelError, match=r"node Gather_i: operator Gather cannot be computed on its constant inputs"
    ):
        FoldConstants()(graph_of(model))


def test_dead_nodes_and_unread_outputs_go() -> None:
    model = build(
        """g (float[1,1,4,4] x) => (float[1,1,2,2] y) {
            y, i = MaxPool <kernel_shape = [2,2], strides = [2,2]> (x)
            a = Relu (x)
            b = Relu (a) }"""
    )
    graph = rewrite(model, RemoveDead(), tolerance=0.0)
    assert ops(graph) == {"MaxPool": 1}
    assert only(graph, "MaxPool").outputs == ["y"]
    assert graph.resolved_folds() == {"Relu_a": "", "Relu_b": ""}


def test_duplicates_merge() -> None:
    model = build(
        """g (float[1,4] x) => (float[1,4] y) {
            a = Relu (x)
            b = Relu (x)
            c = Mul (a, k)
            d = Mul (b, l)
            e = Add (c, d)
            f = Elu <alpha = 0.5> (e)
            h = Elu <alpha = 0.25> (e)
            y = Add (f, h) }""",
        k=floats(4),
        l=floats(4),
    )
    graph = rewrite(model, MergeDuplicates(), tolerance=0.0)
    assert ops(graph) == {"Relu": 1, "Mul": 1, "Add": 2, "Elu": 2}
    assert graph.resolved_folds() == {"Relu_b": "Relu_a", "Mul_d": "Mul_c"}


def test_quantised_models_keep_their_quantisers() -> None:
    text = """g (float[4] x) => (float[4] y) {
        q = QuantizeLinear (x, s, z)
        a = DequantizeLinear (q, s, z)
        b = DequantizeLinear (q, s, z)
        i = Identity (b)
        n = Neg (i)
        y = Add (a, n) }"""
    model = build(text, s=np.array(0.5, np.float32), z=np.array(3, np.int8))
    after = canonicalise(model, debug=True)
    assert [n.op_type for n in after.graph.node] == [
        "QuantizeLinear",
        "DequantizeLinear",
        "DequantizeLinear",
        "Neg",
        "Add",
    ]


def test_bias_of_zeros() -> None:
    model = build("g (float[1,2,3,3] x) => (float[1,4,3,3] y) { y = Conv (x, k) }", k=floats(4, 2, 1, 1))
    graph = rewrite(model, AddBias())
    assert not graph.constants[only(graph, "Conv").inputs[2]].any()


def test_records_survive_serialisation_and_a_second_run() -> None:
    model = build(f"{HEAD} r = LRN <size = 3> (x) i = Identity (r) y = Relu (i) }}")
    once = canonicalise(model, debug=True)
    twice = canonicalise(once, debug=True)
    assert folded_nodes(once) == folded_nodes(twice) == {"Identity_i": "LRN_r"}
    assert node_origins(twice) == {f"LRN_r/{part}": "LRN_r" for part in ("power", "square", "sum")}
    assert once.SerializeToString(deterministic=True) == twice.SerializeToString(deterministic=True)


def test_canonicalise_asks_for_load_onnx() -> None:
    model = build(f"{HEAD} y = Relu (x) }}")
    model.opset_import[0].version = 13
    with pytest.raises(ModelError) as caught:
        canonicalise(model)
    assert str(caught.value) == "opset_import: expected opset 21, found [13]; read the model with load_onnx"


@dataclass(frozen=True)
class _Restless(RewritePass):
    name: ClassVar[str] = "restless"

    def __call__(self, graph: Graph) -> bool:
        return True


@dataclass(frozen=True)
class _WrongShape(RewritePass):
    name: ClassVar[str] = "wrong_shape"

    def __call__(self, graph: Graph) -> bool:
        node = graph.nodes[0]
        node.op = "GlobalAveragePool"
        return True


def test_the_framework_finds_passes_that_do_not_end_or_break_the_graph() -> None:
    model = build("g (float[1,4,3,3] x) => (float[1,4,3,3] z) { y = Relu (x) z = Abs (y) }")
    with pytest.raises(AssertionError, match="passes undo each other's work: restless"):
        run_passes(graph_of(model), [_Restless()])
    with pytest.raises(AssertionError, match="pass wrong_shape"):
        run_passes(graph_of(model), [_WrongShape()], debug=True)
