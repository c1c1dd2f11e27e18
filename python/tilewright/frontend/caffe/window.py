"""Kernel, stride, padding and dilation of convolution and pooling, which files write in three ways."""

from __future__ import annotations

from dataclasses import dataclass

from tilewright.frontend.caffe.context import LayerContext
from tilewright.frontend.caffe.records import Record

Pair = tuple[int, int]


@dataclass(frozen=True)
class Window:
    """Sizes along (height, width), in pixels."""

    kernel: Pair
    stride: Pair
    pad: Pair
    dilation: Pair = (1, 1)

    @property
    def extent(self) -> Pair:
        """Pixels that the dilated kernel spans."""
        (kh, kw), (dh, dw) = self.kernel, self.dilation
        return dh * (kh - 1) + 1, dw * (kw - 1) + 1


def _pair(context: LayerContext, param: Record, name: str, short: str, default: int | None) -> Pair:
    """`kernel_size: 3`, `kernel_size: 3 kernel_size: 5` (height, width), or `kernel_h: 3 kernel_w: 5`."""
    sizes = param.integers(name)
    high, wide = f"{short}_h", f"{short}_w"
    if param.has(high) or param.has(wide):
        if sizes:
            raise context.wrong(f"gives {name} and {high}/{wide}", "leave one of them out")
        if default is None and not (param.has(high) and param.has(wide)):
            raise context.wrong(f"gives only one of {high} and {wide}", "give both")
        empty = default or 0
        return (
            param.integer(high) if param.has(high) else empty,
            param.integer(wide) if param.has(wide) else empty,
        )
    if len(sizes) > 2:
        raise context.unsupported(
            f"{name} has {len(sizes)} values: only two dimensions (height, width) are supported"
        )
    if not sizes:
        if default is None:
            raise context.wrong(f"gives no {name}", f"add {name}, or {high} and {wide}")
        sizes = [default]
    return sizes[0], sizes[-1]


def read_window(context: LayerContext, param: Record, *, dilated: bool = False) -> Window:
    """The window of a convolution_param or pooling_param; sizes below 1 are faults."""
    window = Window(
        _pair(context, param, "kernel_size", "kernel", None),
        _pair(context, param, "stride", "stride", 1),
        _pair(context, param, "pad", "pad", 0),
        _dilation(context, param) if dilated else (1, 1),
    )
    for what, pair in (("kernel", window.kernel), ("stride", window.stride), ("dilation", window.dilation)):
        if min(pair) < 1:
            raise context.wrong(f"{what} is {pair[0]}x{pair[1]}: has to be 1 or more")
    return window


def _dilation(context: LayerContext, param: Record) -> Pair:
    sizes = param.integers("dilation") or [1]
    if len(sizes) > 2:
        raise context.unsupported(f"dilation has {len(sizes)} values: only two dimensions are supported")
    return sizes[0], sizes[-1]
