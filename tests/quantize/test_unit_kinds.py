"""Every kind of unit: where Quantize stands, which scales are shared, and the bound on values."""

from __future__ import annotations

from typing import Any

import numpy as np
import onnx
import pytest
from tests.quantize.builders import build, node, noise_samples, normal, run
from tests.quantize.unit_check import check_units, parameters

from tilewright.frontend.shift_kernel import one_hot
from tilewright.quantize import QuantizeOptions, find_units, quantize_onnx
from tilewright.quantize.graph import Graph

PLAIN = QuantizeOptions(method="minmax", bias_correction=False, equalise=False)
MAP = (1, 6, 8, 8)


def _shape(*values: int) -> Any:
    return np.array(values, np.int64)


CONV = {"w": normal((5, 6, 3, 3), 1), "b": normal((5,), 2)}
# Name: nodes, inputs, outputs, constants, expected units as "kind: operators".
MODELS: dict[str, tuple[list[onnx.NodeProto], dict[str, Any], list[str], dict[str, Any], list[str]]] = {
    "conv": ([node("Conv", "x w b", "y", pads=[1] * 4)], {"x": MAP}, ["y"], CONV, ["mac: Conv"]),
    "conv without bias": ([node("Conv", "x w", "y")], {"x": MAP}, ["y"], {"w": CONV["w"]}, ["mac: Conv"]),
    "conv relu": (
        [node("Conv", "x w b", "c", strides=[2, 2]), node("Relu", "c", "y")],
        {"x": MAP},
        ["y"],
        CONV,
        ["mac: Conv Relu"],
    ),
    "conv clip": (
        [node("Conv", "x w b", "c"), node("Clip", "c lo hi", "y")],
        {"x": MAP},
        ["y"],
        {**CONV, "lo": 0.0, "hi": 6.0},
        ["mac: Conv Clip"],
    ),
    "conv leaky": (
        [node("Conv", "x w b", "c"), node("LeakyRelu", "c", "y", alpha=0.1)],
        {"x": MAP},
        ["y"],
        CONV,
        ["mac: Conv LeakyRelu"],
    ),
    "conv prelu": (
        [node("Conv", "x w b", "c"), node("PRelu", "c s", "y")],
        {"x": MAP},
        ["y"],
        {**CONV, "s": np.linspace(-0.5, 0.9, 5).reshape(5, 1, 1)},
        ["mac: Conv PRelu"],
    ),
    "conv read twice": (
        [node("Conv", "x w b", "c"), node("Relu", "c", "y"), node("Add", "c y", "z")],
        {"x": MAP},
        ["z"],
        CONV,
        # c + relu(c) is a function of c alone.
        ["mac: Conv", "table: Relu Add"],
    ),
    "conv seen": (
        [node("Conv", "x w b", "c"), node("Relu", "c", "y")],
        {"x": MAP},
        ["c", "y"],
        CONV,
        ["mac: Conv", "clamp: Relu"],
    ),
    "depthwise": (
        [node("Conv", "x w b", "y", group=6, pads=[1] * 4)],
        {"x": MAP},
        ["y"],
        {"w": normal((6, 1, 3, 3)), "b": normal((6,))},
        ["mac: Conv"],
    ),
    "shift": (
        [
            node("Conv", "x w b", "c"),
            node("Relu", "c", "r"),
            node("Conv", "r k", "y", group=5, pads=[1] * 4, strides=[2, 2]),
        ],
        {"x": MAP},
        ["y"],
        {**CONV, "k": one_hot([[-1, 0], [0, -1], [0, 0], [0, 1], [1, 0]])},
        ["mac: Conv Relu", "move: Conv"],
    ),
    "transposed": (
        [node("ConvTranspose", "x w b", "y", strides=[2, 2])],
        {"x": MAP},
        ["y"],
        {"w": normal((6, 4, 3, 3)), "b": normal((4,))},
        ["mac: ConvTranspose"],
    ),
    "transposed in groups": (
        [node("ConvTranspose", "x w b", "y", group=2)],
        {"x": MAP},
        ["y"],
        {"w": normal((6, 4, 3, 3)), "b": normal((8,))},
        ["mac: ConvTranspose"],
    ),
    "transposed depthwise": (
        [node("ConvTranspose", "x w b", "y", group=6)],
        {"x": MAP},
        ["y"],
        {"w": normal((6, 1, 3, 3)), "b": normal((6,))},
        ["mac: ConvTranspose"],
    ),
    "dense": (
        [node("Gemm", "x w b", "y", transB=1)],
        {"x": (1, 20)},
        ["y"],
        {"w": normal((10, 20)), "b": normal((10,))},
        ["mac: Gemm"],
    ),
    "add": ([node("Add", "x v", "y")], {"x": MAP, "v": MAP}, ["y"], {}, ["binary: Add"]),
    "add relu": (
        [node("Add", "x v", "a"), node("Relu", "a", "y")],
        {"x": MAP, "v": MAP},
        ["y"],
        {},
        ["binary: Add Relu"],
    ),
    "multiply by channels": (
        [node("Mul", "x v", "y")],
        {"x": MAP, "v": (1, 6, 1, 1)},
        ["y"],
        {},
        ["binary: Mul"],
    ),
    "hard swish by parts": (
        [
            node("Add", "x three", "a"),
            node("Clip", "a zero six", "c"),
            node("Mul", "x c", "m"),
            node("Div", "m six", "y"),
        ],
        {"x": MAP},
        ["y"],
        {"three": 3.0, "zero": 0.0, "six": 6.0},
        ["table: Add Clip Mul Div"],
    ),
    "square": ([node("Mul", "x x", "y")], {"x": MAP}, ["y"], {}, ["table: Mul"]),
    "two tables": (
        [node("Abs", "x", "a"), node("Sqrt", "a", "y"), node("Tanh", "a", "z")],
        {"x": MAP},
        ["y", "z"],
        {},
        # a feeds two units, so that it ends one itself.
        ["table: Abs", "table: Sqrt", "table: Tanh"],
    ),
    "squeeze and excite": (
        [
            node("GlobalAveragePool", "x", "g"),
            node("Conv", "g w", "c"),
            node("Sigmoid", "c", "s"),
            node("Mul", "x s", "y"),
        ],
        {"x": MAP},
        ["y"],
        {"w": normal((6, 6, 1, 1))},
        ["average: GlobalAveragePool", "mac: Conv", "table: Sigmoid", "binary: Mul"],
    ),
    "add between tables": (
        [node("Tanh", "x", "t"), node("Add", "t v", "a"), node("Relu", "a", "r"), node("Sqrt", "r", "y")],
        {"x": MAP, "v": MAP},
        ["y"],
        {},
        ["table: Tanh", "binary: Add", "table: Relu Sqrt"],
    ),
    "relu alone": ([node("Relu", "x", "y")], {"x": MAP}, ["y"], {}, ["clamp: Relu"]),
    "slope alone": (
        [node("PRelu", "x s", "y")],
        {"x": MAP},
        ["y"],
        {"s": np.full((6, 1, 1), 0.3)},
        ["slope: PRelu"],
    ),
    "max pool": (
        [node("MaxPool", "x", "y", kernel_shape=[3, 3], strides=[2, 2], ceil_mode=1)],
        {"x": MAP},
        ["y"],
        {},
        ["move: MaxPool"],
    ),
    "average pool": (
        [
            node(
                "AveragePool",
                "x",
                "y",
                kernel_shape=[3, 3],
                strides=[2, 2],
                pads=[1] * 4,
                count_include_pad=1,
            )
        ],
        {"x": MAP},
        ["y"],
        {},
        ["average: AveragePool"],
    ),
    "concat": (
        [node("Tanh", "x", "t"), node("Concat", "t v", "y", axis=1)],
        {"x": MAP, "v": MAP},
        ["y"],
        {},
        ["table: Tanh", "concat: Concat"],
    ),
    "moves": (
        [
            node("Slice", "x start stop axis", "a"),
            node("Reshape", "a shape", "r"),
            node("Transpose", "r", "t", perm=[0, 2, 1, 3]),
            node("Pad", "t pads", "p"),
            node("DepthToSpace", "p", "d", blocksize=2),
            node("Resize", "d _ scales", "z", mode="nearest", coordinate_transformation_mode="asymmetric"),
            node("Split", "z halves", "y1 y2", axis=2),
            node("Relu", "y1", "y"),
        ],
        {"x": MAP},
        ["y", "y2"],
        {
            "start": _shape(0),
            "stop": _shape(4),
            "axis": _shape(1),
            "shape": _shape(1, 8, 4, 8),
            "pads": _shape(0, 0, 0, 1, 0, 0, 0, 1),
            "scales": [1.0, 1.0, 2.0, 2.0],
            "halves": _shape(16, 16),
        },
        [
            f"move: {name}"
            for name in ("Slice", "Reshape", "Transpose", "Pad", "DepthToSpace", "Resize", "Split")
        ]
        + ["clamp: Relu"],
    ),
}


@pytest.mark.parametrize("name", MODELS)
def test_unit(name: str) -> None:
    nodes, inputs, outputs, constants, expected = MODELS[name]
    model = build(nodes, inputs, outputs, constants)
    found = [
        f"{unit.kind}: {' '.join(item.op_type for item in unit.nodes)}" for unit in find_units(Graph(model))
    ]
    assert found == expected
    samples = noise_samples(model)
    quantised = quantize_onnx(model, samples, PLAIN)
    onnx.checker.check_model(quantised, full_check=True)
    for feed in samples:
        assert check_units(model, quantised, feed) == len(expected)
    _check_structure(model, quantised)


def _check_structure(model: onnx.ModelProto, quantised: onnx.ModelProto) -> None:
    """Names, types and the places of Quantize as the module's documentation promises them."""
    assert [item.name for item in quantised.graph.input] == [item.name for item in model.graph.input]
    assert list(quantised.graph.output) == list(model.graph.output)
    assert quantised.ir_version == 10 and [item.version for item in quantised.opset_import] == [21]
    kept = [
        item.name
        for item in quantised.graph.node
        if item.op_type not in ("QuantizeLinear", "DequantizeLinear")
    ]
    assert kept == [item.name for item in model.graph.node]
    found = parameters(quantised)
    units = find_units(Graph(model))
    assert set(found) == {name for unit in units for name in (*unit.inputs, *unit.outputs)}
    readers: dict[str, int] = {}
    for item in quantised.graph.node:
        for name in item.input:
            readers[name] = readers.get(name, 0) + 1
    for item in quantised.graph.node:
        if item.op_type == "QuantizeLinear":
            assert readers[item.output[0]] == 1, "one DequantizeLinear serves all readers"


def test_float_operators_read_dequantised_values_and_get_no_quantize() -> None:
    nodes = [
        node("Conv", "x w", "c"),
        node("GlobalAveragePool", "c", "g"),
        node("Flatten", "g", "f"),
        node("Softmax", "f", "s"),
        node("Reshape", "s shape", "r"),
        node("Mul", "r two", "y"),
    ]
    model = build(nodes, {"x": MAP}, ["y"], {"w": CONV["w"], "shape": _shape(5, 1), "two": 2.0})
    quantised = quantize_onnx(model, noise_samples(model), PLAIN)
    assert set(parameters(quantised)) == {"x", "c", "g", "f"}
    softmax = next(item for item in quantised.graph.node if item.op_type == "Softmax")
    assert list(softmax.input) == ["f_dequantized"]
    feed = noise_samples(model)[0]
    assert np.allclose(run(quantised, feed)[0].sum(), 2.0, atol=1e-6)


def test_a_float_tensor_is_quantised_where_arithmetic_reads_it() -> None:
    # Two activations divided is neither table nor binary; the concat after it leads to a convolution.
    nodes = [
        node("Div", "x v", "d"),
        node("Concat", "d x", "k", axis=1),
        node("Conv", "k w", "y"),
    ]
    model = build(nodes, {"x": MAP, "v": MAP}, ["y"], {"w": normal((2, 12, 1, 1))})
    samples = [{name: np.abs(value) + 1 for name, value in feed.items()} for feed in noise_samples(model)]
    quantised = quantize_onnx(model, samples, PLAIN)
    assert set(parameters(quantised)) == {"x", "d", "k", "y"}
    assert check_units(model, quantised, samples[0]) == 2


@pytest.mark.parametrize(
    ("operator", "constants", "attributes"),
    [
        ("Pad", "pads one", {}),
        ("Resize", "_ scales", {"mode": "linear"}),
    ],
)
def test_movement_that_makes_new_values_stays_float(
    operator: str, constants: str, attributes: dict[str, Any]
) -> None:
    nodes = [node("Conv", "x w", "c"), node(operator, f"c {constants}", "y", **attributes)]
    values = {
        "w": CONV["w"],
        "pads": _shape(0, 0, 1, 1, 0, 0, 1, 1),
        "one": 1.0,
        "scales": [1.0, 1.0, 2.0, 2.0],
    }
    model = build(nodes, {"x": MAP}, ["y"], values)
    quantised = quantize_onnx(model, noise_samples(model), PLAIN)
    assert set(parameters(quantised)) == {"x", "c"}
