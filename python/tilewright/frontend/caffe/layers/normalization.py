"""LRN, MVN, Normalize, Softmax and ArgMax."""

from __future__ import annotations

import numpy as np
from onnx import TensorProto

from tilewright.frontend.caffe.context import LayerContext, converter
from tilewright.frontend.caffe.weights import BlobSpec


@converter("LRN")
def lrn(context: LayerContext) -> None:
    """ACROSS_CHANNELS: ONNX's LRN, x / (k + alpha / n * sum of n squares) ^ beta.

    WITHIN_CHANNEL: x / (1 + alpha * mean of n x n squares) ^ beta, the mean over padding too; Caffe ignores
    k there.
    """
    param = context.param("lrn_param")
    shape = context.image()
    size, alpha, beta = param.integer("local_size"), param.number("alpha"), param.number("beta")
    if size % 2 == 0:
        raise context.wrong(f"local_size is {size}: has to be odd")
    if param.word("norm_region") == "ACROSS_CHANNELS":
        context.emit("LRN", context.bottoms, shape, size=size, alpha=alpha, beta=beta, bias=param.number("k"))
        return
    source = context.bottoms[0]
    square = context.emit("Mul", [source, source], shape, "square")
    mean = context.emit(
        "AveragePool",
        [square],
        shape,
        "mean",
        kernel_shape=(size, size),
        strides=(1, 1),
        pads=(size // 2,) * 4,
        count_include_pad=1,
    )
    scaled = context.emit("Mul", [mean, context.constant("alpha", alpha)], shape, "mul_alpha")
    shifted = context.emit("Add", [scaled, context.constant("one", 1.0)], shape, "add_one")
    divisor = context.emit("Pow", [shifted, context.constant("beta", beta)], shape, "pow_beta")
    context.emit("Div", [source, divisor], shape)


@converter("MVN")
def mvn(context: LayerContext) -> None:
    """(x - mean) / (sqrt(variance) + eps) for each channel, or each image with across_channels."""
    param = context.param("mvn_param")
    shape, source = context.shape(), context.bottoms[0]
    first = 1 if param.flag("across_channels") else 2
    if len(shape) <= first:
        raise context.wrong(f"an input of shape {shape} has nothing to normalise over")
    axes = context.indices("axes", list(range(first, len(shape))))
    reduced = (*shape[:first], *[1] * (len(shape) - first))
    variance_too = param.flag("normalize_variance")
    mean = context.emit("ReduceMean", [source, axes], reduced, "mean", keepdims=1)
    centred = context.emit("Sub", [source, mean], shape, "centre" if variance_too else "")
    if not variance_too:
        return
    square = context.emit("Mul", [centred, centred], shape, "square")
    variance = context.emit("ReduceMean", [square, axes], reduced, "variance", keepdims=1)
    deviation = context.emit("Sqrt", [variance], reduced, "deviation")
    divisor = context.emit(
        "Add", [deviation, context.constant("eps", param.number("eps"))], reduced, "add_eps"
    )
    context.emit("Div", [centred, divisor], shape)


@converter("Normalize")
def normalize(context: LayerContext) -> None:
    """gain x / sqrt(sum of squares + eps), the sum over channels, or over the image with across_spatial
    (SSD).

    Blob: gain (C,), or one value with channel_shared.
    """
    param = context.param("norm_param")
    shape, source = context.image(), context.bottoms[0]
    shared = param.flag("channel_shared")
    (gain,) = context.blobs(BlobSpec("gain", (1,) if shared else (shape[1],)))
    across = param.flag("across_spatial")
    axes = context.indices("axes", [1, 2, 3] if across else [1])
    reduced = (shape[0], 1, 1, 1) if across else (shape[0], 1, *shape[2:])
    total = context.emit("ReduceSumSquare", [source, axes], reduced, "sum_square", keepdims=1)
    positive = context.emit("Add", [total, context.constant("eps", param.number("eps"))], reduced, "add_eps")
    norm = context.emit("Sqrt", [positive], reduced, "norm")
    unit = context.emit("Div", [source, norm], shape, "div")
    context.emit("Mul", [unit, context.constant("gain", gain.reshape(1, -1, 1, 1))], shape)


@converter("Softmax")
def softmax(context: LayerContext) -> None:
    """Softmax along `axis`."""
    shape = context.shape()
    axis = context.axis(context.param("softmax_param").integer("axis"), len(shape))
    context.emit("Softmax", context.bottoms, shape, axis=axis)


@converter("ArgMax")
def argmax(context: LayerContext) -> None:
    """The top_k largest, as float indices: along `axis`, or over each flattened image as (N, 1, top_k, 1,
    ...).

    With out_max_val the values come too: in place of the indices along an axis, as second channel without
    one. Of equal values the lower index comes first (Caffe: the higher).
    """
    param = context.param("argmax_param")
    shape, count, values_too = context.shape(), param.integer("top_k"), param.flag("out_max_val")
    source, along = context.bottoms[0], shape
    if param.has("axis"):
        axis = context.axis(param.integer("axis"), len(shape))
    else:
        axis, along = 1, (shape[0], int(np.prod(shape[1:], dtype=np.int64)))
        source = context.emit("Flatten", [source], along, "flatten", axis=1)
    if not 1 <= count <= along[axis]:
        raise context.wrong(f"top_k is {count}: has to be in 1..{along[axis]}")
    picked = (*along[:axis], count, *along[axis + 1 :])
    names = [context.graph.tensor(f"{context.name}/{part}") for part in ("values", "indices")]
    context.graph.shapes[names[0]] = picked
    context.graph.node(
        "TopK",
        [source, context.indices("k", [count])],
        names,
        f"{context.name}/topk",
        attributes={"axis": axis},
    )
    if param.has("axis"):
        if values_too:
            context.emit("Identity", [names[0]], picked)
        else:
            context.emit("Cast", [names[1]], picked, to=TensorProto.FLOAT)
        return
    result = (shape[0], 1, count, *[1] * (max(len(shape), 3) - 3))
    target = context.indices("shape", result)
    cast = context.emit("Cast", [names[1]], picked, "cast", to=TensorProto.FLOAT)
    indices = context.emit("Reshape", [cast, target], result, "positions" if values_too else "")
    if values_too:
        maxima = context.emit("Reshape", [names[0], target], result, "maxima")
        context.emit("Concat", [indices, maxima], (shape[0], 2, *result[2:]), axis=1)
