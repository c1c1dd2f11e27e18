"""Converters of the layer types, by family. Importing them fills `CONVERTERS`."""

from tilewright.frontend.caffe.context import CONVERTERS
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
    "CONVERTERS",
    "arithmetic",
    "convolution",
    "detection",
    "elementwise",
    "normalization",
    "pooling",
    "rearrange",
    "resize",
]
