from __future__ import annotations

import numpy as np
import pytest

from tilewright.frontend.canonical import PASSES

from .models import build, floats, int64, ops, rewrite, run

HEAD = "g (float[1,5,3,4] x) => (float[1,5,3,4] y) {"
AXES = int64(1)
EPSILON = np.array(0.01, np.float32)


@pytest.mark.parametrize(
    ("body", "extra"),
    [
        ("n = ReduceL2 (x, axes) y = Div (x, n)", {}),
        ("q = Mul (x, x) n = ReduceSum (q, axes) m = Add (n, e) r = Sqrt (m) y = Div (x, r)", {}),
        ("n = ReduceSumSquare (x, axes) m = Add (n, e) r = Sqrt (m) y = Div (x, r)", {}),
        ("y = LpNormalization <axis = 1, p = 2> (x)", {}),
    ],
)
def test_plain_forms_become_a_power(body: str, extra: dict[str, int]) -> None:
    model = build(f"{HEAD} {body} }}", axes=AXES, e=EPSILON)
    assert ops(rewrite(model, *PASSES)) == {"Mul": 2, "Conv": 1, "Pow": 1, **extra}


def test_lower_bound_of_the_norm_and_expand() -> None:
    body = "n = ReduceL2 (x, axes) m = Clip (n, e) f = Expand (m, s) y = Div (x, f)"
    model = build(f"{HEAD} {body} }}", axes=AXES, e=np.array(1.5, np.float32), s=int64(1, 5, 3, 4))
    graph = rewrite(model, *PASSES)
    assert ops(graph) == {"Mul": 2, "Conv": 1, "Sqrt": 1, "Clip": 1, "Pow": 1}
    assert {k: v for k, v in graph.resolved_folds().items() if v == "Div_y"} == {
        "ReduceL2_n": "Div_y",
        "Clip_m": "Div_y",
        "Expand_f": "Div_y",
    }


def test_a_positive_scale_folds_into_the_sum() -> None:
    body = "n = ReduceL2 (x, axes) d = Div (x, n) y = Mul (d, s)"
    model = build(f"{HEAD} {body} }}", axes=AXES, s=floats(5, 1, 1, low=10.0))
    assert ops(rewrite(model, *PASSES)) == {"Mul": 2, "Conv": 1, "Pow": 1}


def test_a_negative_scale_stays_a_depthwise_convolution() -> None:
    body = "n = ReduceL2 (x, axes) d = Div (x, n) y = Mul (d, s)"
    model = build(f"{HEAD} {body} }}", axes=AXES, s=floats(5, 1, 1, low=-0.5))
    assert ops(rewrite(model, *PASSES)) == {"Mul": 2, "Conv": 2, "Pow": 1}


def test_zeros_stay_finite() -> None:
    model = build(f"{HEAD} z = Mul (x, o) y = LpNormalization <axis = 1> (z) }}", o=np.array(0, np.float32))
    after = rewrite(model, *PASSES).to_model()
    assert not run(after)[0].any()


def test_a_norm_of_something_else_stays() -> None:
    body = "z = Relu (x) n = ReduceL2 (z, axes) y = Div (x, n)"
    assert ops(rewrite(build(f"{HEAD} {body} }}", axes=AXES), *PASSES, positive=True))["ReduceL2"] == 1
