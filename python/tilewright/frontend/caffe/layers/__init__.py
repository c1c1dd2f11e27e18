"""Converters of the layer types, by family. Importing this package fills `context.CONVERTERS`."""

from tilewright.frontend.caffe.layers import (
    arithmetic,
    convolution,
    detection,
    elementwise,
    normalization,
    pooling,
    rearrange,
    resize,
)

__all__ = [
    "arithmetic",
    "convolution",
    "detection",
    "elementwise",
    "normalization",
    "pooling",
    "rearrange",
    "resize",
]
