"""Say everything about a window: kernel, strides, dilations, padding.

    Conv, ConvTranspose, MaxPool, AveragePool with auto_pad, output_shape or defaults left out
        ->  the same with kernel_shape, strides, dilations, pads (and group, output_padding) given
    SAME: out = ceil(in / s);  total = max((out - 1) * s + (k - 1) * d + 1 - in, 0), the odd one at the
    end (UPPER) or at the beginning (LOWER).   Source: ONNX operator specification, Conv and ConvTranspose.

Why: the MATRIX and VECTOR units take padding and strides as fields of an instruction; no later pass
should have to know the defaults.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, ClassVar

from ..graph import Graph, Node, Shape
from .base import NodePass


@dataclass(frozen=True)
class ExplicitWindows(NodePass):
    """Give the windows of convolutions and poolings all their attributes."""

    name: ClassVar[str] = "explicit_windows"
    on_quantised: ClassVar[bool] = True
    ops: ClassVar[tuple[str, ...]] = ("Conv", "ConvTranspose", "MaxPool", "AveragePool")

    def rewrite(self, graph: Graph, node: Node) -> bool:
        """Fill in the attributes of `node`."""
        shape, result = graph.shape(node.inputs[0]), graph.shape(node.output)
        weight = graph.shape(node.inputs[1]) if node.op.startswith("Conv") else ()
        if shape is None or result is None or weight is None:
            return False
        attrs = _window(node, shape[2:], result[2:], weight)
        if attrs == node.attrs:
            return False
        graph.become(node, node.op, node.inputs, **attrs)
        return True


def _window(node: Node, size: Shape, out: Shape, weight: Shape) -> dict[str, Any]:
    axes = len(size)
    kernel = node.ints("kernel_shape", weight[2:])
    strides = node.ints("strides", [1] * axes)
    dilations = node.ints("dilations", [1] * axes)
    auto = node.text("auto_pad", "NOTSET")
    attrs: dict[str, Any] = {"kernel_shape": kernel, "strides": strides, "dilations": dilations}
    extents = [(k - 1) * d + 1 for k, d in zip(kernel, dilations, strict=True)]
    if node.op == "ConvTranspose":
        extra = node.ints("output_padding", [0] * axes)
        attrs["group"] = node.int("group", 1)
        if auto == "NOTSET" and "output_shape" not in node.attrs:
            attrs["pads"] = node.ints("pads", [0] * 2 * axes)
        else:
            full = [s * (n - 1) + e for s, n, e in zip(strides, size, extents, strict=True)]
            if auto == "VALID" and "output_shape" not in node.attrs:
                totals = [0] * axes
            else:
                totals = [f + x - o for f, x, o in zip(full, extra, out, strict=True)]
            extra = [x + max(-t, 0) for x, t in zip(extra, totals, strict=True)]
            totals = [max(t, 0) for t in totals]
            # the halves are the other way round than in Conv
            attrs["pads"] = _halves(totals, at_end=auto == "SAME_UPPER")
        attrs["output_padding"] = extra
        return attrs
    if auto in ("SAME_UPPER", "SAME_LOWER"):
        totals = [
            max((-(-n // s) - 1) * s + e - n, 0) for n, s, e in zip(size, strides, extents, strict=True)
        ]
        attrs["pads"] = _halves(totals, at_end=auto == "SAME_UPPER")
    else:
        attrs["pads"] = [0] * 2 * axes if auto == "VALID" else node.ints("pads", [0] * 2 * axes)
    if node.op == "Conv":
        attrs["group"] = node.int("group", 1)
        return attrs
    # SAME and VALID define the output size themselves
    attrs["ceil_mode"] = node.int("ceil_mode", 0) if auto == "NOTSET" else 0
    if node.op == "AveragePool":
        attrs["count_include_pad"] = node.int("count_include_pad", 0)
        if set(dilations) == {1}:
            # ONNX Runtime's fused QLinearAveragePool knows no dilations and refuses the model that names them.
            del attrs["dilations"]
    elif len(node.outputs) > 1:
        attrs["storage_order"] = node.int("storage_order", 0)
    return attrs


def _halves(totals: list[int], at_end: bool) -> list[int]:
    small = [t // 2 for t in totals]
    large = [t - t // 2 for t in totals]
    return [*small, *large] if at_end else [*large, *small]
