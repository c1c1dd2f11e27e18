"""Every reason for which a cone stays on the host, with its whole text."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
from onnx import TensorProto

from tests.relay_passes.qdq_graphs import QdqGraph
from tilewright.integer_level import integer_module
from tilewright.relay_passes.placement import Placement


def q(g: QdqGraph, value: str) -> str:
    return g.q(value, 0.0613, 101)


def conv(g: QdqGraph, x: str, out: int = 8) -> str:
    return g.op("Conv", x, g.weights((out, 4, 1, 1)))


def sigmoid_of_conv(g: QdqGraph) -> str:
    return q(g, g.op("Sigmoid", conv(g, g.x)))


def unrounded_operand(g: QdqGraph) -> str:
    return q(g, conv(g, conv(g, g.x, 4)))


def two_scales(g: QdqGraph) -> str:
    return q(
        g,
        conv(
            g,
            g.op(
                "Concat",
                g.op("Slice", g.x, g.const([0], "int64"), g.const([2], "int64"), g.const([1], "int64")),
                q(g, g.op("Slice", g.x, g.const([2], "int64"), g.const([4], "int64"), g.const([1], "int64"))),
                axis=1,
            ),
        ),
    )


def off_grid(g: QdqGraph) -> str:
    return q(g, conv(g, g.op("Sigmoid", g.x)))


def float_weights(g: QdqGraph) -> str:
    return q(g, g.op("Conv", g.x, g.const(g.rng.normal(size=(8, 4, 1, 1)))))


def wide_weights(g: QdqGraph) -> str:
    ints = g.const(g.rng.integers(-3000, 3000, (8, 4, 1, 1)), "int16")
    return q(g, g.op("Conv", g.x, g.dq(ints, 0.01, g.const(0, "int16"))))


def weights_by_input(g: QdqGraph) -> str:
    ints = g.const(g.rng.integers(-128, 128, (8, 4, 1, 1)), "int8")
    return q(g, g.op("Conv", g.x, g.dq(ints, [0.1, 0.2, 0.3, 0.4], g.const(np.zeros(4), "int8"), axis=1)))


def sums(g: QdqGraph) -> str:
    ints = g.const(np.full((7, 120 * 1100), 127), "int8")
    x = g.op("Reshape", g.op("Concat", *[g.x] * 1100, axis=1), g.const([1, -1], "int64"))
    return q(g, g.op("Gemm", q0(g, x), g.dq(ints, 0.01, g.const(0, "int8")), transB=1))


def q0(g: QdqGraph, value: str) -> str:
    return g.q(value, 0.0517, 117)


def matrix(g: QdqGraph) -> str:
    return q(g, g.op("MatMul", g.x, g.weights((5, 7), 1)))


def pad_conv_value(g: QdqGraph) -> str:
    return q(g, conv(g, g.op("Pad", g.x, g.const([0] * 4 + [0, 0, 1, 1], "int64"), g.const(0.033))))


def relu_then_scale(g: QdqGraph) -> str:
    return q(g, g.op("Mul", g.op("Relu", conv(g, g.x)), g.const(np.full((8, 1, 1), -0.5))))


def clip_then_scale(g: QdqGraph) -> str:
    return q(
        g,
        g.op(
            "Mul",
            g.op("Clip", conv(g, g.x), g.const(0), g.const(6)),
            g.const(np.arange(1, 9).reshape(8, 1, 1)),
        ),
    )


def relu_then_add(g: QdqGraph) -> str:
    return q(g, g.op("Add", g.op("Relu", conv(g, g.x)), g.const(np.arange(8).reshape(8, 1, 1))))


def relu_then_prelu(g: QdqGraph) -> str:
    return q(g, g.op("PRelu", g.op("Relu", conv(g, g.x)), g.const(np.full((8, 1, 1), 0.5))))


def two_prelus(g: QdqGraph) -> str:
    s = g.const(np.full((8, 1, 1), 0.5))
    return q(g, g.op("PRelu", g.op("PRelu", conv(g, g.x), s), s))


def add_after_prelu(g: QdqGraph) -> str:
    return q(g, g.op("Add", g.op("PRelu", conv(g, g.x), g.const(np.full((8, 1, 1), 0.5))), g.const(1.0)))


def negative_after_prelu(g: QdqGraph) -> str:
    return q(g, g.op("Mul", g.op("PRelu", conv(g, g.x), g.const(np.full((8, 1, 1), 0.5))), g.const(-1.0)))


def steep_prelu(g: QdqGraph) -> str:
    return q(g, g.op("LeakyRelu", conv(g, g.x), alpha=100.0))


def prelu_by_row(g: QdqGraph) -> str:
    return q(g, g.op("PRelu", conv(g, g.x), g.const(np.full((6, 1), 0.5))))


def constant_by_row(g: QdqGraph) -> str:
    return q(g, g.op("Add", conv(g, g.x), g.const(np.arange(6).reshape(6, 1))))


def bound_by_channel(g: QdqGraph) -> str:
    return q(g, g.op("Max", conv(g, g.x), g.const(np.arange(8).reshape(8, 1, 1))))


def divisor(g: QdqGraph) -> str:
    return q(g, g.op("Div", g.const(np.ones((8, 1, 1))), conv(g, g.x)))


def ratio(g: QdqGraph) -> str:
    ints = g.const(np.ones((8, 4, 1, 1)), "int8")
    return g.q(g.op("Conv", g.x, g.dq(ints, 1e8, g.const(0, "int8"))), 1e-3, 0)


def pool_prelu(g: QdqGraph) -> str:
    return q(g, g.op("PRelu", g.op("GlobalAveragePool", g.x), g.const(np.arange(4).reshape(4, 1, 1))))


def mean_of_channels(g: QdqGraph) -> str:
    return q(g, g.op("ReduceMean", g.x, g.const([1], "int64")))


def falling_pool(g: QdqGraph) -> str:
    return q(g, g.op("Neg", g.op("MaxPool", g.op("Relu", g.x), kernel_shape=[2, 2])))


def add_prelu(g: QdqGraph) -> str:
    return q(g, g.op("LeakyRelu", g.op("Add", g.x, q(g, g.x))))


def add_of_sigmoid(g: QdqGraph) -> str:
    return q(g, g.op("Add", g.x, g.op("Sigmoid", q(g, g.op("Abs", g.x)))))


def add_of_clip(g: QdqGraph) -> str:
    return q(g, g.op("Add", g.x, g.op("LeakyRelu", q(g, g.op("Abs", g.x)))))


def both_broadcast(g: QdqGraph) -> str:
    a = q(g, g.op("ReduceMean", g.x, g.const([2], "int64")))
    b = q(g, g.op("ReduceMean", g.x, g.const([3], "int64")))
    return q(g, g.op("Add", a, b))


def add_rows(g: QdqGraph) -> str:
    a = q0(g, g.op("Reshape", g.x, g.const([1, 24, 5], "int64")))
    return q(g, g.op("Add", a, q(g, a)))


def product_offset(g: QdqGraph) -> str:
    return q(g, g.op("Mul", g.op("Add", g.x, g.const(1.0)), q(g, g.op("Abs", g.x))))


def affine_vector(g: QdqGraph) -> str:
    return q(g, g.op("Mul", q0(g, g.op("Flatten", g.x)), g.const(np.arange(120))))


def softmax(g: QdqGraph) -> str:
    return q(g, g.op("Softmax", g.x))


def resize_linear(g: QdqGraph) -> str:
    return q0(g, g.op("Resize", g.x, "", g.const([1, 1, 2, 2]), mode="linear"))


def resize_fraction(g: QdqGraph) -> str:
    return q0(g, g.op("Resize", g.x, "", g.const([1, 1, 1.5, 1]), mode="nearest"))


def batch_norm_statistics(g: QdqGraph) -> str:
    return q(g, g.op("LRN", g.x, size=3))


def per_channel_of_layout(g: QdqGraph) -> str:
    return q(g, g.op("Concat", g.x, g.op("Mul", g.x, g.const(np.arange(4).reshape(4, 1, 1))), axis=1))


SCALES = "calibrate again: one of the scales belongs to a tensor that is always 0, or to other data"
HOST = "it runs on the host; express it by other operators to change that"
BEFORE = "put a QuantizeLinear/DequantizeLinear pair before it"
BEHIND = "put a QuantizeLinear/DequantizeLinear pair behind it"


def wide_activations(g: QdqGraph) -> str:
    ints = g.op("Cast", g.op("Round", g.x), to=TensorProto.INT32)
    return q(g, conv(g, g.dq(ints, 0.05, g.const(0, "int32"))))


def computed_scale(g: QdqGraph) -> str:
    scale, zero = g.op("ReduceMax", g.op("Abs", "input"), keepdims=0), g.const(3, "uint8")
    return q(g, conv(g, g.op("DequantizeLinear", g.op("QuantizeLinear", "input", scale, zero), scale, zero)))


def scales_by_channel(g: QdqGraph) -> str:
    scale, zero = g.const([0.1] * 4), g.const([3] * 4, "uint8")
    x = g.op("QuantizeLinear", "input", scale, zero, axis=1)
    return q(g, conv(g, g.op("DequantizeLinear", x, scale, zero, axis=1)))


def constant_map(g: QdqGraph) -> str:
    return q(g, conv(g, q(g, g.const(np.ones((1, 4, 6, 5))))))


def prelu_before_sign(g: QdqGraph) -> str:
    return conv(g, g.sign(g.op("PRelu", conv(g, g.x, 4), g.const(np.full((4, 1, 1), 0.3)))))


def finest_sum(g: QdqGraph) -> str:
    return g.q(g.op("Add", g.x, q(g, conv(g, g.x, 4))), 1e-9, 3)


def mean_of_vectors(g: QdqGraph) -> str:
    x = g.op("Reshape", g.x, g.const([1, 4, 30], "int64"))
    return q(g, g.op("ReduceMean", x, g.const([1, 2], "int64"), keepdims=1))


def largest_channels(g: QdqGraph) -> str:
    found = g.op("TopK", g.x, g.const([4], "int64"), outputs=2, axis=1)
    return q(g, conv(g, found))


CASES: list[tuple[Callable[[QdqGraph], str], str, str, str]] = [
    (sigmoid_of_conv, "an operator must be one that the integer level has, found sigmoid", "conv9", HOST),
    (
        unrounded_operand,
        "the operand conv9 must be a quantised tensor, found nn.conv2d without rounding",
        "conv14",
        BEHIND,
    ),
    (
        two_scales,
        "the operand concat17 must be a quantised tensor, found concat of tensors with different scales",
        "conv22",
        BEHIND,
    ),
    (
        off_grid,
        "a function between DequantizeLinear and this layer must give values of the tensor's own grid, found values between its steps",
        "conv10",
        "put a QuantizeLinear/DequantizeLinear pair behind the function",
    ),
    (
        float_weights,
        "the weights must be constants behind a DequantizeLinear, found float constants",
        "conv6",
        "quantise the weights as well: integers behind a DequantizeLinear",
    ),
    (
        wide_weights,
        "weights less their zero point must lie in -255..255, found 2984",
        "conv9",
        "quantise the weights to 8 bits",
    ),
    (
        weights_by_input,
        "weights must have one scale per output channel (axis 0), found scales along another axis",
        "conv9",
        "quantise per output channel or per tensor",
    ),
    (
        sums,
        "sums must fit 32 bits (at most 2147483647), found 4274820000 in output channel 0",
        "gemm16",
        "compile for an overlay of wider sums (`tilewright targets`), quantise with a larger weight scale, or split the "
        "layer's input channels",
    ),
    (
        matrix,
        "a matrix product must be a vector (1, K) times a constant matrix (K, N), found [1, 4, 6, 5] times [5, 7]",
        "matmul9",
        "use a 1x1 convolution for several positions",
    ),
    (
        pad_conv_value,
        "the padding of pad7 must be a value that the tensor's scale can hold, found 0.033 with scale 0.0517",
        "conv12",
        "put a QuantizeLinear/DequantizeLinear pair behind the padding",
    ),
    (relu_then_scale, "a factor after PReLU, Relu or Clip must be positive, found -0.5", "conv9", BEFORE),
    (clip_then_scale, "a factor after Clip must be one number, found 8 numbers", "conv9", BEFORE),
    (relu_then_add, "what is added after Relu or Clip must be one number, found 8 numbers", "conv9", BEFORE),
    (
        relu_then_prelu,
        "at most one PReLU may come before QuantizeLinear, and no bound before it, found one after Relu or Clip",
        "conv9",
        BEFORE,
    ),
    (
        two_prelus,
        "at most one PReLU may come before QuantizeLinear, and no bound before it, found two",
        "conv10",
        BEFORE,
    ),
    (add_after_prelu, "nothing may be added after a PReLU before QuantizeLinear, found add", "conv9", BEFORE),
    (negative_after_prelu, "a factor after PReLU, Relu or Clip must be positive, found -1", "conv9", BEFORE),
    (steep_prelu, "the slope of a PReLU must be below 64, found 100", "conv9", HOST),
    (prelu_by_row, "the slope of a PReLU must be one constant a channel, found axis 2", "conv9", BEFORE),
    (
        constant_by_row,
        "the constant operand of add11 (add) must be one number or one a channel, found shape [6, 1]",
        "conv9",
        BEFORE,
    ),
    (bound_by_channel, "a bound must be one number for all channels, found shape [8, 1, 1]", "conv9", HOST),
    (divisor, "a sum must not be a divisor, found divide", "conv10", BEFORE),
    (
        ratio,
        "scale(inputs) / scale(output) must be below 4194304, found 5.17e+09",
        "conv9",
        SCALES,
    ),
    (
        pool_prelu,
        "what follows an average pool must be the same for all channels, found one number a channel",
        "globalaveragepool5",
        "put a QuantizeLinear/DequantizeLinear pair behind the pool",
    ),
    (mean_of_channels, "a mean must be over H and W, found axes [1]", "reducemean6", HOST),
    (
        falling_pool,
        "what follows a max pool whose operand has no scale of its own must be a function that never falls, found one that falls",
        "maxpool6",
        "put a QuantizeLinear/DequantizeLinear pair behind the pool",
    ),
    (
        add_prelu,
        "what follows a sum or product of tensors must be the same for all channels, found a PReLU or one number a channel",
        "add9",
        BEFORE,
    ),
    (
        add_of_sigmoid,
        "a function between DequantizeLinear and this layer must give values of the tensor's own grid, found values between its steps",
        "add11",
        "put a QuantizeLinear/DequantizeLinear pair behind the function",
    ),
    (
        add_of_clip,
        "an operand of a sum or product must be a quantised tensor, found a function of one",
        "add11",
        "put a QuantizeLinear/DequantizeLinear pair behind each operand",
    ),
    (
        both_broadcast,
        "one operand of a sum or product must have the result's shape, found [1, 4, 1, 5] and [1, 4, 6, 1]",
        "add17",
        "resize one operand before",
    ),
    (
        add_rows,
        "a sum or product must be of maps (1, C, H, W) or vectors (1, K), found shape [1, 24, 5]",
        "add15",
        HOST,
    ),
    (
        product_offset,
        "a factor must be a quantised tensor, found a tensor plus a constant",
        "mul12",
        "put a QuantizeLinear/DequantizeLinear pair behind each operand",
    ),
    (
        affine_vector,
        "a factor or offset a channel needs a map (1, C, H, W), found a tensor of shape [1, 120]",
        "mul11",
        "fold it into the layer before",
    ),
    (softmax, "an operator must be one that the integer level has, found nn.softmax", "softmax5", HOST),
    (
        resize_linear,
        "a layout operator must be one that the integer level has, found image.resize2d (method linear)",
        "resize6",
        HOST,
    ),
    (
        resize_fraction,
        "a layout operator must be one that the integer level has, found image.resize2d (6 to 9, half_pixel, round_prefer_floor)",
        "resize6",
        HOST,
    ),
    (batch_norm_statistics, "an operator must be one that the integer level has, found divide", "lrn5", HOST),
    (
        per_channel_of_layout,
        "multiply must be a function of one element with one number for all channels, found operands [1, 4, 6, 5], [4, 1, 1]",
        "concat7",
        "put a QuantizeLinear/DequantizeLinear pair between it and its neighbours",
    ),
    (
        wide_activations,
        "all operands must be quantised tensors, dequantizelinear9 is not, found it is quantised to int32 and not to 16 bits or fewer",
        "conv14",
        "quantise it to 8 bits or fewer",
    ),
    (
        computed_scale,
        "all operands must be quantised tensors, dequantizelinear9 is not, found its scale is computed at run time",
        "conv14",
        "quantise with scales that are constants",
    ),
    (
        scales_by_channel,
        "all operands must be quantised tensors, dequantizelinear8 is not, found it has 4 scales and not one for the tensor",
        "conv13",
        "quantise activations per tensor; per channel is for weights",
    ),
    (constant_map, "a tensor must be computed at run time, found a constant", "quantizelinear8", HOST),
    (
        prelu_before_sign,
        "no PReLU may come before one bit, found one",
        "conv9",
        "leave it out: it keeps the sign",
    ),
    (
        finest_sum,
        "scale(input) / scale(output) must be in 0..2^22, found 6.13e+07 with offset 0",
        "add14",
        SCALES,
    ),
    (mean_of_vectors, "average pooling must be 2-D, found a tensor of shape [1, 4, 30]", "reshape6", HOST),
    (
        largest_channels,
        "all operands must be quantised tensors, topk6 is not, found it comes from topk, which the integer level does not have",
        "conv11",
        "put a QuantizeLinear/DequantizeLinear pair before this layer",
    ),
]


@pytest.mark.parametrize(("make", "text", "where", "remedy"), CASES, ids=[c[0].__name__ for c in CASES])
def test_refusal(make: Callable[[QdqGraph], str], text: str, where: str, remedy: str) -> None:
    graph = QdqGraph()
    module = integer_module(graph.model(make(graph)))
    found = [r for r in Placement.of(module["main"]).refused.values() if r.where == where]
    assert {(str(r), r.remedy) for r in found} == {(text, remedy)}


def test_pooling_of_several_images() -> None:
    graph = QdqGraph((6, 1, 5, 6))
    pooled = graph.op("AveragePool", graph.x, kernel_shape=[1, 2])
    module = integer_module(graph.model(q(graph, pooled)))
    no = next(r for r in Placement.of(module["main"]).refused.values() if "image" in str(r))
    assert (str(no), no.remedy) == (
        "a tensor must be that of one image, found shape [6, 1, 5, 5]",
        "compile the model of one image with --batch",
    )


def test_float_operand() -> None:
    graph = QdqGraph()
    module = integer_module(graph.model(q(graph, conv(graph, graph.op("Relu", "input")))))
    refused = Placement.of(module["main"]).refused
    (no,) = (r for r in refused.values() if r.where.startswith("conv"))
    assert str(no) == "all operands must be quantised tensors, input is not, found it is not quantised"
    assert no.remedy == "put a QuantizeLinear/DequantizeLinear pair before this layer"
