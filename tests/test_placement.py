"""Networks that cannot be packages: the message names the model's layers, the rule, what was found, and what to do."""

from __future__ import annotations

import re
from pathlib import Path

import numpy as np
import onnx
import pytest

import tilewright as tw
from tests.relay_passes.qdq_graphs import QdqGraph
from tilewright.errors import UnsupportedModel
from tilewright.frontend import load_onnx
from tilewright.frontend.canonical import canonicalise

NEITHER = "neither the accelerator nor a package's host part takes this: "
NATIVE = "or compile with tvm.compile, whose host part is native code"
INTERNAL = re.compile(r"\blv\d|relax\.|tilewright_|_QuantizeLinear\b|\bnode\d")
"""Names that the compiler makes."""


def built(g: QdqGraph, *results: str) -> tw.Model:
    return tw.Model(canonicalise(load_onnx(g.model(*results))))


def refused(model: tw.Model, target: str) -> list[str]:
    with pytest.raises(UnsupportedModel) as error:
        tw.compile(model, target)
    assert not INTERNAL.search(str(error.value)), str(error.value)
    return [str(fault) for fault in error.value.faults]


def chain(g: QdqGraph, count: int, bits: int | None = None) -> tuple[str, list[str]]:
    """Convolutions one behind the other, whose sums fit 16 bits."""
    x, layers = g.x if bits is None else g.q("input", 1.0, 0, "int8", bits=bits), []
    for _ in range(count):
        layers.append(g.op("Conv", x, g.weights((4, 4, 1, 1), None, bits=2)))
        x = g.q(layers[-1], 0.5, 0, "int8", bits=bits)
    return x, layers


ONE_BIT = "operands and weights of 1 bit are -1 or +1, of all channels; padded ones have an even number of channels, found "
WIDER = (
    "; compile for an overlay of more bits (ultra96-a8w4, ultra96-w4, ultra96-w4x, ultra96-w8), or train the network "
    "with weights and activations of -1 and +1 (QONNX's BipolarQuant): quantisation after training does not make them; "
)


def test_many_layers_that_one_rule_refuses_are_one_fault() -> None:
    """A network of eight bits for an overlay of one bit: all its layers, three by name."""
    g = QdqGraph((1, 4, 5, 5), "int8")
    result, layers = chain(g, 50)
    (text,) = refused(built(g, result), "ultra96-w1")
    assert text.startswith(f"{', '.join(layers[:3])} and 47 more: {NEITHER}{ONE_BIT}an operand of 8 bits")
    assert text.endswith(f"{WIDER}{NATIVE}")
    assert len(text) < 1000


def test_values_that_differ_are_told_by_layer() -> None:
    g = QdqGraph((1, 4, 5, 5), "int8")
    x = g.q("input", 1.0, 0, "int8", bits=4)
    weights = [g.const(np.full((4, 4, 1, 1), k), "int8") for k in (1, 2)]
    zero = g.const(0, "int8")
    first = g.op("Conv", x, g.dq(weights[0], 1.0, zero))
    second = g.op("Conv", g.q(first, 1.0, 0, "int8", bits=4), g.dq(weights[1], 1.0, zero))
    (text,) = refused(built(g, g.q(second, 1.0, 0, "int8", bits=4)), "ultra96-w1")
    assert text == (
        f"{first}, {second}: {NEITHER}{ONE_BIT}an operand of 4 bits in {first}, an operand of 4 bits and weights 2..2 in "
        f"{second}{WIDER}{NATIVE}"
    )


def test_each_rule_is_a_fault_and_all_come_at_once() -> None:
    """Sums too wide, a product too wide, a function without a pair behind it, an operator that nobody has."""
    g = QdqGraph((1, 4, 6, 6), "int8")
    conv = g.op("Conv", g.x, g.weights((4, 4, 3, 3), bits=8), pads=[1, 1, 1, 1])
    product = g.op("Mul", g.q(conv, 0.1, 0), g.q("input", 0.1, 0))
    sine = g.op("Sin", g.q(product, 0.1, 0))
    total = g.op("CumSum", sine, g.const(1, "int64"))
    faults = refused(built(g, total), "ultra96-w1")
    assert [text.split(":")[0] for text in faults] == [conv, product, sine, total]
    assert "sums must fit 16 bits (at most 32767), found " in faults[0]
    assert faults[0].endswith(
        "; compile for an overlay of wider sums (`tilewright targets`), quantise with a larger weight scale, or split "
        f"the layer's input channels; {NATIVE}"
    )
    assert "a product of two maps has no more bits than the overlay's sums, found products of 1" in faults[1]
    assert faults[2] == (
        f"{sine}: {NEITHER}a layer must lie between DequantizeLinear and QuantizeLinear, found no QuantizeLinear "
        f"behind it; quantise the model, or put a QuantizeLinear/DequantizeLinear pair behind it; {NATIVE}"
    )
    assert faults[3] == (
        f"{total}: {NEITHER}an operator must be one that the integer level has, found CumSum; express it by other "
        f"operators to change that; {NATIVE}"
    )


def test_a_remedy_that_is_tvm_compile_is_not_told_twice() -> None:
    g = QdqGraph((1, 4, 40, 40), "int8")
    conv = g.op("Conv", g.x, g.weights((4, 4, 33, 3), bits=2))
    assert refused(built(g, g.q(conv, 0.5, 0)), "ultra96-w8") == [
        f"{conv}: {NEITHER}kernels of convolutions are at most 31 rows and columns, found a kernel of (33, 3); "
        "keep it on the host: compile with tvm.compile, or change the network"
    ]


def test_layers_that_a_rewrite_made_are_told_as_the_one_in_the_model(tmp_path: Path) -> None:
    """LRN becomes several operators; the message has the name that the user knows."""
    text = (
        '<ir_version: 10, opset_import: ["" : 21]> g (float[1,8,4,4] x) => (float[1,8,4,4] y) '
        "{ [normal] y = LRN <size = 3> (x) }"
    )
    path = tmp_path / "net.onnx"
    onnx.save(onnx.parser.parse_model(text), path)
    model = tw.load(path)
    small = tw.quantize(model, "random:1", options=tw.QuantizeOptions(adaptive_rounding=False))
    for fault, found in zip(
        refused(small, "ultra96-w1"), ("sums must fit 16 bits", "a product of two maps"), strict=True
    ):
        assert fault.startswith(f"normal: {NEITHER}{found}")


def test_the_demo_on_one_bit() -> None:
    """Residuals, pools and concats between the layers: names that TVM makes up meet those of layers put back."""
    demo = Path(__file__).parents[1] / "tutorials" / "demo"
    model = tw.load(demo / "digits.prototxt", demo / "digits.caffemodel")
    small = tw.quantize(model, calibration="random:1", target="ultra96-w1")
    faults = refused(small, "ultra96-w1")
    names = {node.name for node in model.nodes}
    for fault in faults:
        layers = fault.split(": ")[0].removesuffix(" more").rpartition(" and ")[0] or fault.split(": ")[0]
        assert set(layers.split(", ")) <= names
