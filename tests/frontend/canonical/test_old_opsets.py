"""Operators as older opsets wrote them: ONNX Runtime on the file = ONNX Runtime on the canonical form."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
import pytest

from tilewright.frontend import canonicalise, load_onnx

from .models import Array, assert_equal, build, floats, graph_of, int64, ops

UP_2_2 = np.array([1, 1, 2, 2], np.float32)
UP_2_3 = np.array([1, 1, 2, 3], np.float32)

CASES: list[tuple[int, str, dict[str, Array], dict[str, int]]] = [
    (
        9,
        'y = Upsample <mode = "nearest"> (x, scales)',
        {"scales": UP_2_3},
        {"Resize": 1},
    ),
    (7, 'y = Upsample <mode = "nearest", scales = [1.0, 1.0, 2.0, 2.0]> (x)', {}, {"Resize": 1}),
    (
        10,
        'y = Resize <mode = "nearest"> (x, scales)',
        {"scales": UP_2_2},
        {"Resize": 1},
    ),
    (11, "y = Softmax <axis = 1> (x)", {}, {"Reshape": 2, "Softmax": 1}),
    (8, "y = BatchNormalization (x, v, v, v, v)", {"v": floats(4, low=0.5)}, {"Conv": 1}),
    (6, "y = Clip <min = 0.0, max = 6.0> (x)", {}, {"Clip": 1}),
    (2, "p = Pad <pads = [0,0,1,1,0,0,1,1]> (x) y = Conv (p, k)", {"k": floats(2, 4, 3, 3)}, {"Conv": 1}),
    (9, "y = Dropout <ratio = 0.5> (x)", {}, {"Identity": 1}),
    (12, "y = ReduceMean <axes = [2,3], keepdims = 1> (x)", {}, {"GlobalAveragePool": 1}),
    (12, "y = Squeeze <axes = [0]> (x)", {}, {"Reshape": 1}),
    (10, "y = Slice (x, a, b)", {"a": int64(0, 1), "b": int64(1, 3)}, {"Slice": 1}),
    (9, "y = Slice <starts = [1], ends = [3], axes = [1]> (x)", {}, {"Slice": 1}),
    (11, "y = Split <axis = 1, split = [4]> (x)", {}, {"Identity": 1}),
    (16, "s = HardSwish (x) y = Relu (s)", {}, {"HardSwish": 1, "Relu": 1}),
    (
        22,
        "y = AveragePool <kernel_shape = [2,2], ceil_mode = 1> (x)",
        {},
        {"AveragePool": 1},
    ),
    (8, "a = Sum (x, x, x) b = Max (a, x) y = Mean (a, b)", {}, {"Add": 3, "Max": 1, "Mul": 1}),
    (7, "y = Sub (x, v)", {"v": floats(4, 1, 1)}, {"Conv": 1}),
    (9, "y = PRelu (x, v)", {"v": floats(4, 1, 1)}, {"PRelu": 1}),
]


@pytest.mark.parametrize(("opset", "body", "constants", "expected"), CASES, ids=[c[1] for c in CASES])
def test_old_opset(opset: int, body: str, constants: dict[str, Any], expected: dict[str, int]) -> None:
    model = build(f"g (float[1,4,5,5] x) => (float[1] y) {{ {body} }}", **constants)
    model.graph.output[0].type.tensor_type.ClearField("shape")
    model.opset_import[0].version = opset
    model.ir_version = 8
    after = canonicalise(load_onnx(model), debug=True)
    onnx.checker.check_model(after, full_check=True)
    assert ops(graph_of(after)) == expected
    assert_equal(model, after)
