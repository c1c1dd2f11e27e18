"""clip_forms, hard_activations, prelu_forms."""

from __future__ import annotations

import numpy as np
import pytest
from onnx import ModelProto

from tilewright.frontend.canonical import PASSES
from tilewright.frontend.canonical.clip_forms import ClipForms
from tilewright.frontend.canonical.prelu_forms import PreluForms

from .models import Array, build, floats, only, ops, rewrite

HEAD = "g (float[1,4,3,3] x) => (float[1,4,3,3] y) {"
NUMBERS = {"zero": 0.0, "one": 1.0, "three": 3.0, "six": 6.0, "sixth": 0.16666667, "minus": -0.5}


def _build(body: str, **extra: Array) -> ModelProto:
    numbers = {k: np.array(v, np.float32) for k, v in NUMBERS.items()}
    return build(f"{HEAD} {body} }}", **numbers, **extra)


@pytest.mark.parametrize(
    ("body", "op", "bounds"),
    [
        ("y = Clip (x, zero)", "Relu", ()),
        ("y = Clip (x, zero, six)", "Clip", (0, 6)),
        ("y = Clip (x, , one)", "Clip", (np.finfo(np.float32).min, 1)),
        ("y = Max (zero, x)", "Relu", ()),
        ("m = Max (x, zero) y = Min (m, six)", "Clip", (0, 6)),
        ("m = Relu (x) y = Min (m, one)", "Clip", (0, 1)),
        ("m = Relu (x) y = Relu (m)", "Relu", ()),
        ("m = Clip (x, one, six) y = Clip (m, minus, zero)", "Clip", (0, 0)),
    ],
)
def test_clamps(body: str, op: str, bounds: tuple[float, ...]) -> None:
    graph = rewrite(_build(body), ClipForms(), tolerance=0.0)
    assert ops(graph) == {op: 1}
    assert tuple(graph.scalar(v) for v in only(graph, op).inputs[1:]) == bounds


@pytest.mark.parametrize(
    ("body", "op"),
    [
        ("a = Add (x, three) c = Clip (a, zero, six) y = Div (c, six)", "HardSigmoid"),
        ("a = Add (three, x) c = Clip (a, zero, six) y = Mul (c, sixth)", "HardSigmoid"),
        ("a = Add (x, three) c = Clip (a, zero, six) m = Mul (x, c) y = Div (m, six)", "HardSwish"),
        ("a = Add (x, three) c = Clip (a, zero, six) d = Div (c, six) y = Mul (d, x)", "HardSwish"),
        ("s = HardSigmoid <alpha = 0.16666667, beta = 0.5> (x) y = Mul (x, s)", "HardSwish"),
    ],
)
def test_hard_activations(body: str, op: str) -> None:
    graph = rewrite(_build(body), *PASSES)
    assert ops(graph) == {op: 1}
    assert set(graph.resolved_folds().values()) == {only(graph, op).name}


@pytest.mark.parametrize(
    "body",
    [
        "a = Add (x, one) c = Clip (a, zero, six) m = Mul (x, c) y = Div (m, six)",
        "s = HardSigmoid <alpha = 0.2, beta = 0.5> (x) y = Mul (x, s)",
    ],
)
def test_other_slopes_are_no_hard_swish(body: str) -> None:
    assert "HardSwish" not in ops(rewrite(_build(body), *PASSES))


@pytest.mark.parametrize("shape", [(4, 1, 1), (1, 4, 1, 1)])
def test_slope_for_each_channel(shape: tuple[int, ...]) -> None:
    graph = rewrite(_build("y = PRelu (x, s)", s=floats(*shape)), PreluForms(), tolerance=0.0)
    assert graph.shape(only(graph, "PRelu").inputs[1]) == (4, 1, 1)


@pytest.mark.parametrize("shape", [(1,), (4, 1, 1)])
def test_one_slope(shape: tuple[int, ...]) -> None:
    model = _build("y = PRelu (x, s)", s=np.full(shape, 0.25, np.float32))
    graph = rewrite(model, PreluForms(), tolerance=0.0)
    assert only(graph, "LeakyRelu").attrs == {"alpha": 0.25}
