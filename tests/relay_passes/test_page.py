"""The page of supported operators: each operator that it names runs on the accelerator, and each rule is on it."""

from __future__ import annotations

import ast
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import tilewright as tw
import tilewright.relay_passes as relay_passes
from tests.cli.commands import invoke
from tests.relay_passes.qdq_graphs import QdqGraph
from tilewright.relay_passes import refusals
from tilewright.relay_passes.match.table import known_operators
from tilewright.relay_passes.page import FAMILIES, page
from tilewright.relay_passes.refusals import GROUPS, UNQUANTISED, Refusal, Unquantised
from tilewright.relay_passes.supported import supported_rows

OVERLAY = tw.overlay("ultra96-w8")
FOLDER = Path(relay_passes.__file__).resolve().parent


def test_the_committed_page_is_the_printed_one() -> None:
    """To renew it: tilewright supported --list > relay_passes/SUPPORTED.md"""
    text = (FOLDER / "SUPPORTED.md").read_text(encoding="utf-8")
    assert text == page(OVERLAY)
    result = invoke("supported", "--list")
    assert (result.exit_code, result.stdout) == (0, text)
    other = invoke("supported", "--list", "--target", "pynq-z1-w4").stdout
    assert "Operands of 4 bits and weights of 4" in other and "Operands of 8" in text


def test_every_known_operator_is_on_the_page() -> None:
    assert {op for family in FAMILIES for op in family.relax} == known_operators()


def test_every_rule_is_on_the_page() -> None:
    defined = [value for value in vars(refusals).values() if isinstance(value, Refusal)]
    assert sorted(map(str, defined)) == sorted(str(r) for group in GROUPS.values() for r in group)
    assert sorted(map(str, UNQUANTISED)) == sorted(
        str(value) for value in vars(refusals).values() if isinstance(value, Unquantised)
    )
    for value in defined:
        assert value.remedy or value in (refusals.OPERAND, refusals.ALL_OPERANDS)


def test_every_rule_is_raised_somewhere() -> None:
    """A rule that no code names would be a promise of the page only."""
    used = {
        node.attr
        for path in FOLDER.rglob("*.py")
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8")))
        if isinstance(node, ast.Attribute)
        and isinstance(node.value, ast.Name)
        and node.value.id == "refusals"
    }
    names = {n for n, v in vars(refusals).items() if isinstance(v, Refusal | Unquantised)}
    assert names <= used


def unary(op: str, **attrs: Any) -> Callable[[QdqGraph], str]:
    return lambda g: g.op(op, g.x, **attrs)


def with_number(op: str, number: float) -> Callable[[QdqGraph], str]:
    return lambda g: g.op(op, g.x, g.const(number))


def after_conv(op: str, *shape: int) -> Callable[[QdqGraph], str]:
    def build(g: QdqGraph) -> str:
        y = g.op("Conv", g.x, g.weights((8, 4, 1, 1)))
        return g.op(op, y, *([g.const(g.rng.uniform(0.1, 0.4, shape))] if shape else []))

    return build


def ints(g: QdqGraph, *values: int) -> str:
    return g.const(list(values), "int64")


def conv(g: QdqGraph) -> str:
    return g.q(g.op("Conv", g.x, g.weights((8, 4, 1, 1))), 0.05, 110)


def laid(op: str, *numbers: int, **attrs: Any) -> Callable[[QdqGraph], str]:
    """A layout behind a layer, and one before the next."""

    def build(g: QdqGraph) -> str:
        extra = [ints(g, *numbers)] if numbers else []
        return g.op(op, conv(g), *extra, **attrs)

    return build


def then_dense(op: str, *numbers: int, **attrs: Any) -> Callable[[QdqGraph], str]:
    """Between a pooled map and a dense layer."""

    def build(g: QdqGraph) -> str:
        pooled = g.q(g.op("GlobalAveragePool", conv(g)), 0.05, 110)
        flat = g.op(op, pooled, *([ints(g, *numbers)] if numbers else []), **attrs)
        return g.op("Gemm", flat, g.weights((5, 8)), transB=1)

    return build


def dense(op: str, **attrs: Any) -> Callable[[QdqGraph], str]:
    def build(g: QdqGraph) -> str:
        flat = g.op("Flatten", g.q(g.op("GlobalAveragePool", g.x), 0.05, 110))
        return g.op(op, flat, g.weights((4, 5), 1), **attrs)

    return build


def batch_norm(g: QdqGraph) -> str:
    y = g.op("Conv", g.x, g.weights((8, 4, 1, 1)))
    return g.op("BatchNormalization", y, *(g.const(g.rng.uniform(0.5, 1, 8)) for _ in range(4)))


def split(g: QdqGraph) -> str:
    first = g.op("Split", conv(g), outputs=2, axis=1, num_outputs=2)
    return g.op("Concat", f"{first}:1", first, axis=1)


SAMPLES: dict[str, Callable[[QdqGraph], str]] = {
    "Conv": lambda g: g.op("Conv", g.x, g.weights((8, 4, 1, 1))),
    "ConvTranspose": lambda g: g.op("ConvTranspose", g.x, g.weights((4, 8, 2, 2), 1)),
    "Gemm": dense("Gemm"),
    "MatMul": dense("MatMul"),
    "MaxPool": unary("MaxPool", kernel_shape=[2, 2]),
    "AveragePool": unary("AveragePool", kernel_shape=[2, 2]),
    "GlobalAveragePool": unary("GlobalAveragePool"),
    "ReduceMean": lambda g: g.op("ReduceMean", g.x, ints(g, 2, 3), keepdims=1),
    "Add": lambda g: g.op("Add", g.x, conv4(g)),
    "Sub": lambda g: g.op("Sub", g.x, conv4(g)),
    "Sum": lambda g: g.op("Sum", g.x, conv4(g)),
    "Mul": lambda g: g.op("Mul", g.x, conv4(g)),
    "BatchNormalization": batch_norm,
    "Clip": lambda g: g.op("Clip", g.op("Conv", g.x, g.weights((8, 4, 1, 1))), g.const(0.0), g.const(6.0)),
    "LeakyRelu": after_conv("LeakyRelu"),
    "PRelu": after_conv("PRelu", 8, 1, 1),
    "Relu": after_conv("Relu"),
    "Div": with_number("Div", 1.7),
    "Max": with_number("Max", 0.1),
    "Min": with_number("Min", 0.1),
    "Pow": with_number("Pow", 2.0),
    "Where": lambda g: g.op("Where", g.op("Greater", g.x, g.const(0.1)), g.x, g.const(0.0)),
    "Concat": lambda g: g.op("Concat", conv(g), conv(g), axis=1),
    "DepthToSpace": laid("DepthToSpace", blocksize=2),
    "Flatten": then_dense("Flatten"),
    "Pad": lambda g: g.op("Conv", g.op("Pad", g.x, ints(g, 0, 0, 1, 1, 0, 0, 1, 1)), g.weights((8, 4, 1, 1))),
    "Reshape": then_dense("Reshape", 1, -1),
    "Resize": lambda g: g.op(
        "Resize",
        conv(g),
        "",
        g.const([1.0, 1.0, 2.0, 2.0]),
        mode="nearest",
        coordinate_transformation_mode="asymmetric",
        nearest_mode="floor",
    ),
    "Slice": lambda g: g.op("Slice", conv(g), ints(g, 0), ints(g, 4), ints(g, 1)),
    "Split": split,
    "Squeeze": then_dense("Squeeze", 2, 3),
    "Transpose": laid("Transpose", perm=[0, 1, 3, 2]),
    "Unsqueeze": lambda g: g.op("Unsqueeze", dense("Gemm")(g), ints(g, 2, 3)),
}


def conv4(g: QdqGraph) -> str:
    return g.q(g.op("Conv", g.x, g.weights((4, 4, 1, 1))), 0.05, 110)


NAMED = sorted(
    {op for family in FAMILIES for op in family.operators} - {"QuantizeLinear", "DequantizeLinear"}
)


@pytest.mark.parametrize("op", NAMED)
def test_each_operator_of_the_page_runs_on_the_accelerator(op: str) -> None:
    g = QdqGraph()
    build = SAMPLES.get(op, unary(op))
    result = g.q(build(g), 0.05, 120)
    rows = supported_rows(g.model(result), OVERLAY)
    assert [(r.name, r.reason, r.remedy) for r in rows if r.op == op and r.place != "accelerator"] == []
    assert any(r.op == op for r in rows)
