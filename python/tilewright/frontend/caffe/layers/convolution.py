"""Convolution, Deconvolution and InnerProduct."""

from __future__ import annotations

import math

from tilewright.frontend.caffe.context import LayerContext, converter
from tilewright.frontend.caffe.weights import BlobSpec
from tilewright.frontend.caffe.window import read_window

_DEPTHWISE = ("ConvolutionDepthwise", "DepthwiseConvolution")


@converter("Convolution", *_DEPTHWISE)
def convolution(context: LayerContext) -> None:
    """Conv; blobs: weight (O, C / group, KH, KW), bias (O,).

    The depthwise types come from forks and mean group = C, whatever `group` says.
    """
    _convolve(context, transposed=False)


@converter("Deconvolution")
def deconvolution(context: LayerContext) -> None:
    """ConvTranspose; blobs: weight (C, O / group, KH, KW), bias (O,)."""
    _convolve(context, transposed=True)


def _convolve(context: LayerContext, *, transposed: bool) -> None:
    param = context.param("convolution_param")
    batch, channels, *size = context.image()
    if context.axis(param.integer("axis"), 4) != 1:
        raise context.unsupported(f"axis {param.integer('axis')}: only axis 1 (N, C, H, W) is supported")
    window = read_window(context, param, dilated=True)
    outputs = param.integer("num_output")
    group = channels if context.type in _DEPTHWISE else param.integer("group")
    if outputs < 1:
        raise context.wrong(f"num_output is {outputs}: has to be 1 or more")
    if group < 1 or channels % group or outputs % group:
        raise context.wrong(f"group {group} does not divide {channels} input and {outputs} output channels")
    if transposed:
        weight_shape = (channels, outputs // group, *window.kernel)
    else:
        weight_shape = (outputs, channels // group, *window.kernel)
    specs = [BlobSpec("weight", weight_shape)]
    if param.flag("bias_term"):
        specs.append(BlobSpec("bias", (outputs,)))
    out = []
    for length, extent, stride, pad in zip(size, window.extent, window.stride, window.pad, strict=True):
        if transposed:
            out.append(stride * (length - 1) + extent - 2 * pad)
        else:
            span = length + 2 * pad - extent
            if span < 0:
                raise context.wrong(
                    f"the kernel spans {extent} pixels, the padded input has {length + 2 * pad}"
                )
            out.append(span // stride + 1)
    arrays = context.blobs(*specs)
    names = [context.constant(spec.role, array) for spec, array in zip(specs, arrays, strict=True)]
    context.emit(
        "ConvTranspose" if transposed else "Conv",
        [context.bottoms[0], *names],
        (batch, outputs, *out),
        kernel_shape=window.kernel,
        strides=window.stride,
        pads=(*window.pad, *window.pad),
        dilations=window.dilation,
        group=group,
    )


@converter("InnerProduct")
def inner_product(context: LayerContext) -> None:
    """Gemm over the flattened dimensions from `axis`; blobs: weight (O, K), or (K, O) if `transpose`; bias
    (O,).
    """
    param = context.param("inner_product_param")
    shape = context.shape()
    axis = context.axis(param.integer("axis"), len(shape))
    outputs = param.integer("num_output")
    if outputs < 1:
        raise context.wrong(f"num_output is {outputs}: has to be 1 or more")
    rows, width = math.prod(shape[:axis]), math.prod(shape[axis:])
    transpose = param.flag("transpose")
    specs = [BlobSpec("weight", (width, outputs) if transpose else (outputs, width))]
    if param.flag("bias_term"):
        specs.append(BlobSpec("bias", (outputs,)))
    arrays = context.blobs(*specs)
    names = [context.constant(spec.role, array) for spec, array in zip(specs, arrays, strict=True)]
    source = context.bottoms[0]
    if axis == 1 and len(shape) != 2:
        source = context.emit("Flatten", [source], (rows, width), "flatten", axis=1)
    elif axis != 1:
        source = context.emit(
            "Reshape", [source, context.indices("rows", [rows, width])], (rows, width), "flatten"
        )
    result = (*shape[:axis], outputs)
    part = "" if axis == 1 else "gemm"
    product = context.emit("Gemm", [source, *names], (rows, outputs), part, transB=int(not transpose))
    if part:
        context.emit("Reshape", [product, context.indices("shape", result)], result)
