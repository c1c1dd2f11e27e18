"""All passes together on random networks: rewrites that are right alone may still disturb each other."""

from __future__ import annotations

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from tilewright.frontend.canonical import PASSES

from .models import Array, build, floats, int64, rewrite

# Each keeps the shape [1,4,6,6]; {x} is the value so far, {z} an earlier one.
LAYERS = (
    "Conv <pads = [1,1,1,1]> ({x}, k3)",
    'Conv <auto_pad = "SAME_LOWER"> ({x}, k2, b)',
    "Conv <group = 4> ({x}, k1)",
    "Conv <group = 2, pads = [2,2,2,2], dilations = [2,2]> ({x}, kg)",
    "BatchNormalization ({x}, g, b, b, g)",
    "Mul ({x}, c)",
    "Mul (s, {x})",
    "Add (c, {x})",
    "Sub ({x}, c)",
    "Sub (c, {x})",
    "Sub (s, {x})",
    "Div ({x}, g3)",
    "Neg ({x})",
    "Add ({x}, {z})",
    "Sub ({z}, {x})",
    "Mul ({x}, {z})",
    "Sum ({z}, {x}, {z})",
    "Relu ({x})",
    "Max ({x}, zero)",
    "Clip ({x}, zero, six)",
    "Min ({x}, six)",
    "Sigmoid ({x})",
    "PRelu ({x}, c)",
    "HardSigmoid <alpha = 0.16666667> ({x})",
    "LRN <size = 3, alpha = 0.9> ({x})",  # with a small alpha x - LRN(x) is all rounding
    "Identity ({x})",
    "Dropout ({x})",
    "MaxPool <kernel_shape = [3,3], pads = [1,1,1,1]> ({x})",
    "AveragePool <kernel_shape = [2,2], pads = [0,0,1,1], count_include_pad = 1> ({x})",
    "LpNormalization <axis = 1> ({x})",
)
# Nodes that together keep the shape.
GROUPS = (
    ("Pad ({x}, pads)", "Conv ({x}, k3)"),
    ("Pad ({x}, pads)", "AveragePool <kernel_shape = [3,3]> ({x})"),
    ("Concat <axis = 1> ({x}, {z})", "Conv ({x}, k8)"),
    ("Reshape ({x}, flat)", "Reshape ({x}, map)"),
    ("Transpose <perm = [0,2,3,1]> ({x})", "Transpose <perm = [0,3,1,2]> ({x})"),
    ("GlobalAveragePool ({x})", "Mul ({x}, {z})"),
    ("ReduceMean ({x}, hw)", "Add ({x}, {z})"),
    ("MaxPool <kernel_shape = [2,2], strides = [2,2]> ({x})", "ConvTranspose <strides = [2,2]> ({x}, kt)"),
    ("Slice ({x}, first, last, hw, two)", 'Resize <mode = "nearest"> ({x}, , up)'),
    ("Add ({x}, three)", "Clip ({x}, zero, six)"),
    ("ReduceSumSquare ({x}, channels)", "Add ({x}, three)", "Sqrt ({x})", "Div ({z}, {x})"),
    ("ReduceL2 ({x}, channels)", "Max ({x}, three)", "Div ({z}, {x})"),
)


def constants() -> dict[str, Array]:
    """What the layers read; sums of products of about unit size stay of about unit size."""
    small = np.float32(0.3)
    return {
        "k3": floats(4, 4, 3, 3) * small,
        "k2": floats(4, 4, 2, 3, seed=1) * small,
        "k1": floats(4, 1, 1, 1, seed=2),
        "kg": floats(4, 2, 3, 3, seed=3) * small,
        "k8": floats(4, 8, 1, 1, seed=4) * small,
        "kt": floats(4, 4, 2, 2, seed=5) * small,
        "b": floats(4, seed=6),
        "c": floats(4, 1, 1, seed=7),
        "g": floats(4, low=0.5),
        "g3": floats(4, 1, 1, low=0.5),
        "s": np.array(-0.5, np.float32),
        "zero": np.array(0, np.float32),
        "three": np.array(3, np.float32),
        "six": np.array(6, np.float32),
        "pads": int64(0, 0, 1, 1, 0, 0, 1, 1),
        "flat": int64(1, -1),
        "map": int64(1, 4, 6, 6),
        "hw": int64(2, 3),
        "channels": int64(1),
        "first": int64(0, 0),
        "last": int64(6, 6),
        "two": int64(2, 2),
        "up": np.array([1, 1, 2, 2], np.float32),
    }


@settings(max_examples=60, deadline=None, derandomize=True)
@given(st.data())
def test_random_network(data: st.DataObject) -> None:
    values = ["x"]
    lines: list[str] = []
    for _ in range(data.draw(st.integers(2, 9))):
        source, other = values[-1], data.draw(st.sampled_from(values))
        layer = data.draw(st.sampled_from([(line,) for line in LAYERS] + list(GROUPS)))
        if layer[-1].startswith("Div"):
            other = source
        for line in layer:
            name = f"v{len(lines)}"
            lines.append(f"{name} = {line.format(x=source, z=other)}")
            source = name
        values.append(source)
    second = data.draw(st.sampled_from(values[1:]))
    outputs = ", ".join(f"float[1,4,6,6] {v}" for v in dict.fromkeys([second, values[-1]]))
    model = build(f"g (float[1,4,6,6] x) => ({outputs}) {{ {' '.join(lines)} }}", **constants())
    # Up to ten layers one after the other, each with the rounding that TOLERANCE allows for one.
    rewrite(model, *PASSES, tolerance=1e-4)
