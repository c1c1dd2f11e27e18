"""Pooling: MAX and AVE, rounding up by default, in exactly Caffe's arithmetic.

Caffe's output size is ceil((H + 2 pad - kernel) / stride) + 1; where there is padding, the last window is
dropped if it would start beyond H + pad. A window may thus reach past the lower padding, and AVE divides by
the part of it that lies inside H + 2 pad, padding included. ONNX's AveragePool does just that from opset 19
on with ceil_mode and count_include_pad set (opset 21 here; the facts page names the runtimes that get older
opsets wrong); where no window reaches past the padding, plain floor mode gives the same numbers and is used.
MAX takes explicit end pads: its padding has no value.
"""

from __future__ import annotations

from tilewright.frontend.caffe.context import LayerContext, converter
from tilewright.frontend.caffe.window import Pair, Window, read_window


def _sizes(context: LayerContext, size: Pair, window: Window, *, ceil: bool) -> tuple[Pair, Pair]:
    """Output size and end pads along (height, width)."""
    out, ends = [], []
    padded = any(window.pad)
    for length, kernel, stride, pad in zip(size, window.kernel, window.stride, window.pad, strict=True):
        if pad >= kernel:
            raise context.wrong(f"pad {pad} has to be smaller than the kernel ({kernel})")
        span = length + 2 * pad - kernel
        if span < 0:
            raise context.wrong(f"the kernel spans {kernel} pixels, the padded input has {length + 2 * pad}")
        count = (-(-span // stride) if ceil else span // stride) + 1
        if padded and (count - 1) * stride >= length + pad:
            count -= 1
        if (count - 1) * stride >= length + pad:
            raise context.wrong(
                f"the last window would start at pixel {(count - 1) * stride}, the input has {length}",
                "round down (ceil_mode: false), or use a stride that is not larger than the kernel",
            )
        out.append(count)
        ends.append(max(0, (count - 1) * stride + kernel - length - pad))
    return (out[0], out[1]), (ends[0], ends[1])


@converter("Pooling")
def pooling(context: LayerContext) -> None:
    """MaxPool, AveragePool, GlobalMaxPool or GlobalAveragePool."""
    param = context.param("pooling_param")
    batch, channels, *size = context.image()
    method = param.word("pool")
    if method not in ("MAX", "AVE"):
        raise context.unsupported("STOCHASTIC pooling is not supported", "use MAX or AVE")
    if param.flag("global_pooling"):
        if any(param.has(n) for n in ("kernel_size", "kernel_h", "kernel_w")):
            raise context.wrong(
                "global_pooling and a kernel size exclude each other", "leave one of them out"
            )
        stepped = [*param.integers("stride"), param.integer("stride_h") or 1, param.integer("stride_w") or 1]
        padded = [*param.integers("pad"), param.integer("pad_h"), param.integer("pad_w")]
        if any(padded) or any(s != 1 for s in stepped):
            raise context.wrong("global_pooling takes pad 0 and stride 1 only")
        context.emit(
            "GlobalMaxPool" if method == "MAX" else "GlobalAveragePool",
            context.bottoms,
            (batch, channels, 1, 1),
        )
        return
    window = read_window(context, param)
    ceil = param.flag("ceil_mode") and param.word("round_mode") == "CEIL"
    out, ends = _sizes(context, (size[0], size[1]), window, ceil=ceil)
    overhang = any(end > pad for end, pad in zip(ends, window.pad, strict=True))
    shape = (batch, channels, *out)
    if method == "MAX":
        context.emit(
            "MaxPool",
            context.bottoms,
            shape,
            kernel_shape=window.kernel,
            strides=window.stride,
            pads=(*window.pad, *ends),
        )
        return
    context.emit(
        "AveragePool",
        context.bottoms,
        shape,
        kernel_shape=window.kernel,
        strides=window.stride,
        pads=(*window.pad, *(min(end, pad) for end, pad in zip(ends, window.pad, strict=True))),
        ceil_mode=int(overhang),
        count_include_pad=1,
    )
