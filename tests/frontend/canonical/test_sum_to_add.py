from __future__ import annotations

import numpy as np
import pytest

from tilewright.frontend.canonical import PASSES
from tilewright.frontend.canonical.sum_to_add import SumToAdd

from .models import build, floats, ops, rewrite


@pytest.mark.parametrize(
    ("body", "expected"),
    [
        ("y = Sum (a, b, c)", {"Add": 2}),
        ("y = Sum (a, b)", {"Add": 1}),
        ("y = Mean (a, b, c)", {"Add": 2, "Mul": 1}),
        ("y = Sub (a, b)", {"Mul": 1, "Add": 1}),
        ("y = Sub (a, k)", {"Add": 1}),
        ("y = Sub (k, a)", {"Mul": 1, "Add": 1}),
        ("y = Neg (a)", {"Mul": 1}),
        ("y = Max (a, b, c)", {"Max": 2}),
        ("y = Min (a, b, c)", {"Min": 2}),
    ],
)
def test_forms(body: str, expected: dict[str, int]) -> None:
    head = "g (float[1,2,3,3] a, float[1,2,3,3] b, float[1,2,3,3] c) => (float[1,2,3,3] y) {"
    model = build(f"{head} {body} }}", k=np.array(2, np.float32))
    assert ops(rewrite(model, SumToAdd())) == expected


def test_the_sign_of_a_difference_folds_into_the_layer() -> None:
    model = build(
        """g (float[1,2,3,3] a, float[1,2,3,3] b) => (float[1,4,3,3] y) {
            p = Conv (a, k)
            q = Conv (b, l)
            y = Sub (p, q) }""",
        k=floats(4, 2, 1, 1),
        l=floats(4, 2, 1, 1, seed=1),
    )
    assert ops(rewrite(model, *PASSES)) == {"Conv": 2, "Add": 1}
