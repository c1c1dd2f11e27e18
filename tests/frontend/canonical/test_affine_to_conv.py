from __future__ import annotations

import numpy as np
import pytest

from tilewright.frontend.canonical.affine_to_conv import AffineToConv
from tilewright.frontend.canonical.fold_affine import FoldAffine

from .models import build, floats, only, ops, rewrite

BATCH_NORM = {
    "g": floats(4, low=0.5),
    "b": floats(4),
    "m": floats(4, seed=2),
    "v": floats(4, seed=3, low=0.1),
}


def test_batch_norm_after_concat_with_scale_is_one_depthwise_convolution() -> None:
    model = build(
        """g (float[1,2,5,5] x, float[1,2,5,5] z) => (float[1,4,5,5] y) {
            c = Concat <axis = 1> (x, z)
            n = BatchNormalization (c, g, b, m, v)
            s = Mul (n, gamma)
            t = Add (s, beta)
            y = Relu (t) }""",
        gamma=floats(4, 1, 1, seed=5),
        beta=floats(4, 1, 1, seed=6),
        **BATCH_NORM,
    )
    graph = rewrite(model, FoldAffine(), AffineToConv())
    assert ops(graph) == {"Concat": 1, "Conv": 1, "Relu": 1}
    conv = only(graph, "Conv")
    assert conv.attrs == {
        "kernel_shape": [1, 1],
        "strides": [1, 1],
        "dilations": [1, 1],
        "pads": [0, 0, 0, 0],
        "group": 4,
    }
    assert graph.resolved_folds() == {"Mul_s": "BatchNormalization_n", "Add_t": "BatchNormalization_n"}


@pytest.mark.parametrize("shape", ["1,4", "1,4,5"])
def test_fewer_dimensions_get_a_reshape_on_either_side(shape: str) -> None:
    model = build(
        f"""g (float[{shape}] x) => (float[{shape}] y) {{
            r = Relu (x)
            y = BatchNormalization (r, g, b, m, v) }}""",
        **BATCH_NORM,
    )
    assert ops(rewrite(model, AffineToConv())) == {"Relu": 1, "Reshape": 2, "Conv": 1}


def test_scalars_stay_unary() -> None:
    model = build(
        "g (float[1,4,5,5] x) => (float[1,4,5,5] y) { r = Mul (x, s) y = Add (r, s) }",
        s=np.array([0.5], np.float32),
    )
    assert ops(rewrite(model, AffineToConv())) == {"Mul": 1, "Add": 1}
