"""Layers that join blobs or blobs and learned vectors: Eltwise, Scale, Bias, BatchNorm, Axpy, Reduction."""

from __future__ import annotations

import math

import numpy as np

from tilewright.frontend.caffe.context import MANY, LayerContext, converter
from tilewright.frontend.caffe.records import Record
from tilewright.frontend.caffe.weights import Array, BlobSpec, Shape


@converter("Eltwise", bottoms=(2, MANY))
def eltwise(context: LayerContext) -> None:
    """SUM (with coefficients), PROD or MAX of blobs of one shape, as a chain of two-operand nodes."""
    param = context.param("eltwise_param")
    shape = context.shape()
    for i in range(1, len(context.bottoms)):
        if context.shape(i) != shape:
            raise context.wrong(
                f"expected inputs of one shape, found {shape} and {context.shape(i)} (bottom {i})"
            )
    operation, coefficients = param.word("operation"), param.numbers("coeff")
    if coefficients and len(coefficients) != len(context.bottoms):
        raise context.wrong(f"{len(coefficients)} coefficients for {len(context.bottoms)} inputs")
    if coefficients and operation != "SUM":
        raise context.wrong(f"coeff belongs to SUM, found {operation}")
    terms = list(context.bottoms)
    for i, coefficient in enumerate(coefficients):
        if coefficient != 1:
            factor = context.constant(f"coeff{i}", coefficient)
            terms[i] = context.emit("Mul", [terms[i], factor], shape, f"mul{i}")
    op = {"SUM": "Add", "PROD": "Mul", "MAX": "Max"}[operation]
    total = terms[0]
    for i, term in enumerate(terms[1:], 1):
        last = i == len(terms) - 1
        total = context.emit(op, [total, term], shape, "" if last else f"{op.lower()}{i}")


def _span(context: LayerContext, param: Record) -> tuple[int, Shape]:
    """First axis and shape of a learned vector that covers `num_axes` axes of the input."""
    shape = context.shape()
    axis, count = context.axis(param.integer("axis"), len(shape)), param.integer("num_axes")
    if count < -1 or axis + count > len(shape):
        raise context.wrong(f"num_axes {count} from axis {axis} goes beyond an input of shape {shape}")
    return axis, shape[axis:] if count == -1 else shape[axis : axis + count]


def _aligned(values: Array, axis: int, rank: int) -> Array:
    """Add dimensions of 1, so that axis 0 of the values meets `axis` of an input of that rank."""
    return values.reshape(*values.shape, *[1] * (rank - axis - values.ndim))


def _second(context: LayerContext, axis: int) -> tuple[str, Shape]:
    """The second input, reshaped to meet `axis` of the first."""
    shape, factor = context.shape(), context.shape(1)
    if factor != shape[axis : axis + len(factor)]:
        raise context.wrong(
            f"its second input has shape {factor}, its first {shape}: they differ from axis {axis} on"
        )
    aligned = (*factor, *[1] * (len(shape) - axis - len(factor)))
    if aligned == factor:
        return context.bottoms[1], factor
    reshaped = context.emit(
        "Reshape", [context.bottoms[1], context.indices("aligned", aligned)], aligned, "align"
    )
    return reshaped, factor


@converter("Scale", bottoms=(1, 2))
def scale(context: LayerContext) -> None:
    """Mul, then Add with bias_term; blobs: gain (unless it is the second input), bias, both of the same
    shape.
    """
    param = context.param("scale_param")
    shape = context.shape()
    bias_term = param.flag("bias_term")
    if len(context.bottoms) == 2:
        axis = context.axis(param.integer("axis"), len(shape))
        factor, covered = _second(context, axis)
        arrays = context.blobs(BlobSpec("bias", covered)) if bias_term else []
    else:
        axis, covered = _span(context, param)
        specs = [BlobSpec("gain", covered), BlobSpec("bias", covered)]
        gain, *arrays = context.blobs(*specs[: 1 + bias_term])
        factor = context.constant("gain", _aligned(gain, axis, len(shape)))
    product = context.emit("Mul", [context.bottoms[0], factor], shape, "mul" if bias_term else "")
    if bias_term:
        bias = context.constant("bias", _aligned(arrays[0], axis, len(shape)))
        context.emit("Add", [product, bias], shape)


@converter("Bias", bottoms=(1, 2))
def bias(context: LayerContext) -> None:
    """Add of a learned vector (blob: bias) or of the second input."""
    param = context.param("bias_param")
    shape = context.shape()
    if len(context.bottoms) == 2:
        term, _ = _second(context, context.axis(param.integer("axis"), len(shape)))
    else:
        axis, covered = _span(context, param)
        (values,) = context.blobs(BlobSpec("bias", covered))
        term = context.constant("bias", _aligned(values, axis, len(shape)))
    context.emit("Add", [context.bottoms[0], term], shape)


@converter("BatchNorm")
def batch_norm(context: LayerContext) -> None:
    """BatchNormalization; blobs: mean (C,), variance (C,), factor (1,), by which both have to be divided.

    Without gain and bias: a Scale layer follows for these. With `use_global_stats: false` Caffe normalises by
    the batch's own statistics even when testing, and so does this.
    """
    param = context.param("batch_norm_param")
    shape = context.shape()
    if len(shape) < 2:
        raise context.wrong(f"expected an input of 2 dimensions or more, found shape {shape}")
    channels, eps = shape[1], param.number("eps")
    mean, variance, factor = context.blobs(
        BlobSpec("mean", (channels,)), BlobSpec("variance", (channels,)), BlobSpec("factor", (1,))
    )
    if param.has("use_global_stats") and not param.flag("use_global_stats"):
        _own_statistics(context, eps)
        return
    divisor = float(factor[0])
    inverse = 1 / divisor if divisor else 0.0  # as Caffe: an untrained layer has factor 0
    with np.errstate(over="ignore"):  # reported below
        mean, variance = (np.asarray(v * np.float64(inverse), np.float32) for v in (mean, variance))
    if not np.isfinite(mean).all() or not np.isfinite(variance).all():
        raise context.wrong(f"mean and variance divided by the third blob ({divisor}) are not finite")
    if float(variance.min()) + eps <= 0:
        raise context.wrong(
            f"variance {float(variance.min()):g} plus eps {eps:g} is not positive",
            "the caffemodel is damaged",
        )
    context.emit(
        "BatchNormalization",
        [
            context.bottoms[0],
            context.constant("gain", np.ones(channels)),
            context.constant("bias", np.zeros(channels)),
            context.constant("mean", mean),
            context.constant("variance", variance),
        ],
        shape,
        epsilon=eps,
    )


def _own_statistics(context: LayerContext, eps: float) -> None:
    """(x - mean) / sqrt(variance + eps) over all axes but the channels."""
    shape = context.shape()
    axes = context.indices("axes", [i for i in range(len(shape)) if i != 1])
    reduced = tuple(d if i == 1 else 1 for i, d in enumerate(shape))
    mean = context.emit("ReduceMean", [context.bottoms[0], axes], reduced, "mean", keepdims=1)
    centred = context.emit("Sub", [context.bottoms[0], mean], shape, "centre")
    square = context.emit("Mul", [centred, centred], shape, "square")
    variance = context.emit("ReduceMean", [square, axes], reduced, "variance", keepdims=1)
    positive = context.emit("Add", [variance, context.constant("eps", eps)], reduced, "add_eps")
    deviation = context.emit("Sqrt", [positive], reduced, "deviation")
    context.emit("Div", [centred, deviation], shape)


@converter("Axpy", bottoms=(3, 3))
def axpy(context: LayerContext) -> None:
    """a x + y with one factor a for each image and channel (squeeze-and-excitation nets)."""
    shape, factor = context.shape(1), context.shape(0)
    if context.shape(2) != shape or len(shape) < 2 or factor[:2] != shape[:2] or math.prod(factor[2:]) != 1:
        raise context.wrong(f"shapes {factor}, {shape}, {context.shape(2)} do not fit a x + y")
    aligned = (*shape[:2], *[1] * (len(shape) - 2))
    scale = context.bottoms[0]
    if factor != aligned:
        scale = context.emit("Reshape", [scale, context.indices("aligned", aligned)], aligned, "align")
    product = context.emit("Mul", [context.bottoms[1], scale], shape, "mul")
    context.emit("Add", [product, context.bottoms[2]], shape)


@converter("Reduction")
def reduction(context: LayerContext) -> None:
    """SUM, ASUM (of magnitudes), SUMSQ or MEAN over all axes from `axis` on, times `coeff`."""
    param = context.param("reduction_param")
    shape = context.shape()
    axis, coefficient = context.axis(param.integer("axis"), len(shape)), param.number("coeff")
    op = {"SUM": "ReduceSum", "ASUM": "ReduceL1", "SUMSQ": "ReduceSumSquare", "MEAN": "ReduceMean"}
    axes = context.indices("axes", list(range(axis, len(shape))))
    part = "" if coefficient == 1 else "reduce"
    reduced = context.emit(
        op[param.word("operation")], [context.bottoms[0], axes], shape[:axis], part, keepdims=0
    )
    if part:
        context.emit("Mul", [reduced, context.constant("coeff", coefficient)], shape[:axis])
