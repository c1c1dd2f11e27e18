"""Layers that map each element on its own."""

from __future__ import annotations

import math
from collections.abc import Sequence

from onnx import TensorProto

from tilewright.frontend.caffe.context import LayerContext, converter
from tilewright.frontend.caffe.weights import BlobSpec

_PLAIN = {"Sigmoid": "Sigmoid", "TanH": "Tanh", "AbsVal": "Abs", "BNLL": "Softplus"}


@converter(*_PLAIN)
def plain(context: LayerContext) -> None:
    """One ONNX operator without parameters. BNLL is log(1 + exp(x))."""
    context.emit(_PLAIN[context.type], context.bottoms, context.shape())


@converter("ReLU")
def relu(context: LayerContext) -> None:
    """Relu, or LeakyRelu where negative_slope is not 0."""
    slope = context.param("relu_param").number("negative_slope")
    if slope:
        context.emit("LeakyRelu", context.bottoms, context.shape(), alpha=slope)
    else:
        context.emit("Relu", context.bottoms, context.shape())


@converter("ReLU6")
def relu6(context: LayerContext) -> None:
    """Clip to 0..6 (forks for MobileNet-v2)."""
    _clip(context, 0.0, 6.0)


@converter("Clip")
def clip(context: LayerContext) -> None:
    """Clip to min..max, both required."""
    param = context.param("clip_param")
    low, high = param.number("min"), param.number("max")
    if not (param.has("min") and param.has("max")) or low > high:
        raise context.wrong("clip_param needs min and max with min <= max")
    _clip(context, low, high)


def _clip(context: LayerContext, low: float, high: float) -> None:
    limits = [context.constant("min", low), context.constant("max", high)]
    context.emit("Clip", [*context.bottoms, *limits], context.shape())


@converter("PReLU")
def prelu(context: LayerContext) -> None:
    """PRelu; blob: slope (C,), or one value with channel_shared. Its shape in ONNX is (C, 1, ...), or (C,)
    after InnerProduct."""
    shape = context.shape()
    if len(shape) < 2:
        raise context.wrong(f"expected an input of 2 dimensions or more, found shape {shape}")
    shared = context.param("prelu_param").flag("channel_shared")
    (slope,) = context.blobs(BlobSpec("slope", (1,) if shared else (shape[1],)))
    values = slope if shared else slope.reshape(shape[1], *[1] * (len(shape) - 2))
    context.emit("PRelu", [*context.bottoms, context.constant("slope", values)], shape)


@converter("ELU")
def elu(context: LayerContext) -> None:
    """Elu with alpha."""
    context.emit("Elu", context.bottoms, context.shape(), alpha=context.param("elu_param").number("alpha"))


@converter("Swish")
def swish(context: LayerContext) -> None:
    """x * sigmoid(beta x)."""
    beta, shape, source = context.param("swish_param").number("beta"), context.shape(), context.bottoms[0]
    if beta != 1:
        source = context.emit("Mul", [source, context.constant("beta", beta)], shape, "beta_mul")
    gate = context.emit("Sigmoid", [source], shape, "sigmoid")
    context.emit("Mul", [context.bottoms[0], gate], shape)


@converter("Threshold")
def threshold(context: LayerContext) -> None:
    """1 where x > threshold, else 0."""
    shape = context.shape()
    limit = context.constant("threshold", context.param("threshold_param").number("threshold"))
    mask = context.graph.tensor(f"{context.name}/greater")
    context.graph.node("Greater", [context.bottoms[0], limit], [mask], f"{context.name}/greater")
    context.emit("Cast", [mask], shape, to=TensorProto.FLOAT)


@converter("Power")
def power(context: LayerContext) -> None:
    """(shift + scale x) ^ power."""
    param = context.param("power_param")
    steps = [
        (op, part, param.number(part))
        for op, part, neutral in (("Mul", "scale", 1), ("Add", "shift", 0), ("Pow", "power", 1))
        if param.number(part) != neutral
    ]
    _chain(context, steps)


@converter("Exp")
def exp(context: LayerContext) -> None:
    """base ^ (shift + scale x); base -1 stands for e."""
    param = context.param("exp_param")
    log = math.log(_base(context, param.number("base")))
    scale, shift = log * param.number("scale"), log * param.number("shift")
    steps = [("Mul", "scale", scale)] if scale != 1 else []
    steps += [("Add", "shift", shift)] if shift else []
    _chain(context, [*steps, ("Exp", "exp", None)])


@converter("Log")
def log(context: LayerContext) -> None:
    """log of (shift + scale x) to a base; base -1 stands for e."""
    param = context.param("log_param")
    factor = 1 / math.log(_base(context, param.number("base")))
    scale, shift = param.number("scale"), param.number("shift")
    steps: list[tuple[str, str, float | None]] = [("Mul", "scale", scale)] if scale != 1 else []
    steps += [("Add", "shift", shift)] if shift else []
    steps += [("Log", "log", None)]
    steps += [("Mul", "base", factor)] if factor != 1 else []
    _chain(context, steps)


def _base(context: LayerContext, base: float) -> float:
    if base == -1:
        return math.e
    if base <= 0 or base == 1:
        raise context.wrong(f"base {base} has to be more than 0 and not 1 (or -1 for e)")
    return base


def _chain(context: LayerContext, steps: Sequence[tuple[str, str, float | None]]) -> None:
    """Nodes in a row: (operator, part, constant operand or None). No steps give Identity."""
    shape, source = context.shape(), context.bottoms[0]
    for index, (op, part, operand) in enumerate(steps or [("Identity", "", None)]):
        last = index >= len(steps) - 1
        operands = [] if operand is None else [context.constant(part, operand)]
        source = context.emit(op, [source, *operands], shape, "" if last else f"{op.lower()}_{part}")


@converter("Dropout")
def dropout(context: LayerContext) -> None:
    """ONNX Dropout without training, which passes x on. `scale_train: false` (forks) scales at test time
    instead: x (1 - ratio)."""
    param = context.param("dropout_param")
    if param.flag("scale_train"):
        context.emit("Dropout", context.bottoms, context.shape())
        return
    keep = context.constant("keep", 1 - param.number("dropout_ratio"))
    context.emit("Mul", [context.bottoms[0], keep], context.shape())


@converter("Split", tops=(1, 1 << 30))
def split(context: LayerContext) -> None:
    """Caffe's explicit copies: one Identity for each top."""
    for top in context.tops:
        context.graph.shapes[top] = context.shape()
        context.graph.node("Identity", context.bottoms, [top], context.name)


@converter("Silence", bottoms=(1, 1 << 30), tops=(0, 0))
def silence(context: LayerContext) -> None:
    """Nothing: it marks blobs that nobody reads."""
