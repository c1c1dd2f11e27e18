"""Every spelling of a shift becomes a depthwise convolution with a one-hot kernel."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tilewright.frontend.canonical import PASSES
from tilewright.frontend.canonical.shift_forms import ShiftForms, moves_of
from tilewright.frontend.shift_kernel import displacements, one_hot

from .models import build, floats, int64, only, ops, rewrite

FIVE = np.array([[-1, 0], [0, -1], [0, 0], [0, 1], [1, 0]])


@settings(max_examples=25, deadline=None, derandomize=True)
@given(
    seed=st.integers(0, 2**16),
    kernel=st.tuples(st.sampled_from([1, 3, 5]), st.sampled_from([1, 3, 5])),
    dilation=st.integers(1, 2),
    strides=st.tuples(st.integers(1, 2), st.integers(1, 2)),
)
def test_one_hot_convolutions(
    seed: int, kernel: tuple[int, int], dilation: int, strides: tuple[int, int]
) -> None:
    rng = np.random.default_rng(seed)
    weight = np.zeros((6, 1, *kernel), np.float32)
    weight[np.arange(6), 0, rng.integers(0, kernel[0], 6), rng.integers(0, kernel[1], 6)] = 1
    pads = [k // 2 * dilation for k in kernel]
    model = build(
        f"""g (float[1,6,9,7] x) => (float[1,6,h,w] y) {{
            y = Conv <group = 6, dilations = [{dilation},{dilation}], strides = [{strides[0]},{strides[1]}],
                      kernel_shape = [{kernel[0]},{kernel[1]}], pads = [{pads[0]},{pads[1]},{pads[0]},{pads[1]}]>
                     (x, k, b)
        }}""",
        k=weight,
        b=np.zeros(6, np.float32),
    )
    graph = rewrite(model, ShiftForms(), tolerance=0.0)
    wanted = displacements(weight, 6, pads * 2, [dilation] * 2)
    assert wanted is not None
    (node,) = graph.nodes
    found = moves_of(graph, node)
    assert found is not None
    np.testing.assert_array_equal(found, wanted)
    assert len(node.inputs) == 2
    np.testing.assert_array_equal(graph.constants[node.inputs[1]], one_hot(wanted))


@pytest.mark.parametrize(
    ("change", "why"),
    [
        (lambda w: w * 2, "a factor"),
        (lambda w: -w, "a negative weight"),
        (lambda w: w + np.eye(3, dtype=np.float32) * (w.sum() > 0), "two weights"),
        (lambda w: w * 0, "none"),
    ],
)
def test_other_kernels_stay_convolutions(change, why: str) -> None:  # type: ignore[no-untyped-def]
    model = build(
        """g (float[1,5,6,6] x) => (float[1,5,6,6] y) {
            y = Conv <group = 5, pads = [1,1,1,1], kernel_shape = [3,3]> (x, k)
        }""",
        k=change(one_hot(FIVE)),
    )
    graph = rewrite(model, *PASSES)
    assert moves_of(graph, only(graph, "Conv")) is None, why
    assert len(only(graph, "Conv").inputs) == 3


def test_a_shift_with_a_bias_stays_a_convolution() -> None:
    text = """g (float[1,5,6,6] x) => (float[1,5,6,6] y) {
        y = Conv <group = 5, pads = [1,1,1,1], kernel_shape = [3,3]> (x, k, b)
    }"""
    graph = rewrite(build(text, k=one_hot(FIVE), b=floats(5)), ShiftForms())
    assert moves_of(graph, only(graph, "Conv")) is None


def test_more_padding_than_the_kernel_spares_is_no_shift() -> None:
    """The map grows, so a tap may read what lies beyond its border."""
    assert displacements(one_hot(FIVE), 5, [1, 1, 1, 1], [1, 1]) is not None
    assert displacements(one_hot(FIVE), 5, [0, 1, 1, 0], [1, 1]) is not None
    assert displacements(one_hot(FIVE), 5, [2, 1, 1, 1], [1, 1]) is None


def test_a_shift_that_moves_nothing_disappears() -> None:
    text = """g (float[1,5,6,6] x) => (float[1,5,6,6] y) {
        r = Relu (x)
        s = Conv <group = 5, pads = [1,1,1,1], kernel_shape = [3,3]> (r, k)
        y = Sigmoid (s)
    }"""
    graph = rewrite(build(text, k=one_hot(0 * FIVE)), ShiftForms(), tolerance=0.0)
    assert ops(graph) == {"Relu": 1, "Sigmoid": 1}


GROUPS = {
    "slice of pad": """
        p = Pad (x, pads)
        a = Slice (p, s0, e0, axes, ones)
        c = Slice (p, s1, e1, axes, ones)
        d = Slice (p, s2, e2, axes, ones)
        y = Concat <axis = 1> (a, c, d)
    """,
    "pad of slice": """
        u = Slice (x, c0, c2, one, one)
        v = Slice (u, one, h, two, one)
        a = Pad (v, below)
        m = Slice (x, c2, c4, one, one)
        r = Slice (x, c4, c6, one, one)
        w = Slice (r, c0, wd, three, one)
        d = Pad (w, left)
        y = Concat <axis = 1> (a, m, d)
    """,
    "split and concat of zeros": """
        u, m, r = Split <axis = 1> (x, sizes)
        v = Slice (u, one, h, two, one)
        a = Concat <axis = 2> (v, zeros)
        w = Slice (r, c0, wd, three, one)
        d = Pad (w, left)
        y = Concat <axis = 1> (a, m, d)
    """,
}
CONSTANTS = {
    "pads": int64(0, 0, 1, 1, 0, 0, 1, 1),
    "axes": int64(1, 2, 3), "ones": int64(1, 1, 1),
    "s0": int64(0, 2, 1), "e0": int64(2, 9, 6), "s1": int64(2, 1, 1), "e1": int64(4, 8, 6),
    "s2": int64(4, 1, 0), "e2": int64(6, 8, 5),
    "c0": int64(0), "c2": int64(2), "c4": int64(4), "c6": int64(6), "one": int64(1), "two": int64(2),
    "three": int64(3), "h": int64(7), "wd": int64(4), "sizes": int64(2, 2, 2),
    "below": int64(0, 0, 0, 0, 0, 0, 1, 0), "left": int64(0, 0, 0, 1, 0, 0, 0, 0),
    "zeros": np.zeros((1, 2, 1, 5), np.float32),
}  # fmt: skip


@pytest.mark.parametrize("name", GROUPS)
def test_groups_of_slices_and_pads(name: str) -> None:
    used = {k: v for k, v in CONSTANTS.items() if k in GROUPS[name].replace("(", " ").replace(",", " ").replace(")", " ").split()}  # fmt: skip
    model = build(f"g (float[1,6,7,5] x) => (float[1,6,7,5] y) {{ {GROUPS[name]} }}", **used)
    graph = rewrite(model, ShiftForms(), tolerance=0.0)
    assert ops(graph) == {"Conv": 1}
    found = moves_of(graph, only(graph, "Conv"))
    assert found is not None
    assert found.tolist() == [[1, 0]] * 2 + [[0, 0]] * 2 + [[0, -1]] * 2


def test_groups_that_change_places_are_shifted_and_then_moved() -> None:
    model = build(
        """g (float[1,6,7,5] x) => (float[1,5,7,5] y) {
            p = Pad (x, pads)
            a = Slice (p, s2, e2, axes, ones)
            c = Slice (p, s0, e0, axes, ones)
            d = Slice (x, c2, c3, one, one)
            y = Concat <axis = 1> (a, c, d)
        }""",
        **{k: CONSTANTS[k] for k in ("pads", "s0", "e0", "s2", "e2", "axes", "ones", "c2", "one")},
        c3=int64(3),
    )
    graph = rewrite(model, ShiftForms(), tolerance=0.0)
    assert ops(graph) == {"Conv": 1, "Slice": 2, "Concat": 1}


def test_layouts_and_crops_are_no_shifts() -> None:
    rotation = """g (float[1,6,7,5] x) => (float[1,6,7,5] y) {
        a = Slice (x, c4, c6, one, one)
        c = Slice (x, c0, c4, one, one)
        y = Concat <axis = 1> (a, c)
    }"""
    used = {k: CONSTANTS[k] for k in ("c4", "c6", "c0", "one")}
    assert ops(rewrite(build(rotation, **used), ShiftForms(), tolerance=0.0)) == {"Slice": 2, "Concat": 1}
    padded = """g (float[1,6,7,5] x) => (float[1,6,8,5] y) { y = Pad (x, below) }"""
    graph = rewrite(build(padded, below=CONSTANTS["below"]), ShiftForms(), tolerance=0.0)
    assert ops(graph) == {"Pad": 1}
