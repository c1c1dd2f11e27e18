"""ONNX's Resize along one axis as a matrix, for every mode of the operator.

    y = A x,  A[i, j] = weight of input j in output i            the axes are independent of each other

Coordinates, weights and rounding: onnx.ai/onnx/operators/onnx__Resize.html (opset 19); cubic weights by R. Keys, "Cubic
convolution interpolation for digital image processing", 1981, equation 15 with a in place of -1/2.
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

F64 = NDArray[np.float64]


@dataclass(frozen=True)
class ResizeAxis:
    """One axis of a Resize.

    Attributes:
        size, out: elements before and after.
        scale: output elements an input element; `out` is `size * scale` rounded.
        mode: nearest, linear or cubic.
        coordinate: attribute coordinate_transformation_mode.
        nearest: attribute nearest_mode.
        cubic_a, exclude_outside, antialias: attributes.
        roi: first and last of the region, in parts of the axis; of tf_crop_and_resize only.
    """

    size: int
    out: int
    scale: float
    mode: str
    coordinate: str
    nearest: str = "round_prefer_floor"
    cubic_a: float = -0.75
    exclude_outside: bool = False
    antialias: bool = False
    roi: tuple[float, float] = (0.0, 1.0)

    def sources(self) -> F64:
        """Of each output the place in the input that it stands for. Raises ValueError for an unknown mode."""
        i = np.arange(self.out, dtype=np.float64)
        length = self.scale * self.size
        last = self.size - 1
        half = (i + 0.5) / self.scale - 0.5
        if self.coordinate == "half_pixel":
            return half
        if self.coordinate == "half_pixel_symmetric":
            return half + self.size / 2 * (1 - self.out / length)
        if self.coordinate == "pytorch_half_pixel":
            return half if length != 1 else np.full_like(i, -0.5)
        if self.coordinate == "asymmetric":
            return i / self.scale
        if self.coordinate == "align_corners":
            return i * last / (length - 1) if length != 1 else np.zeros_like(i)
        if self.coordinate == "tf_crop_and_resize":
            start, end = self.roi
            step = (end - start) * last
            return start * last + (i * step / (length - 1) if length != 1 else np.full_like(i, step / 2))
        raise ValueError(f"coordinate_transformation_mode {self.coordinate!r} is unknown")

    def inside(self) -> NDArray[np.bool_]:
        """Which outputs have a source; the others hold the extrapolation value."""
        if self.coordinate != "tf_crop_and_resize":
            return np.ones(self.out, np.bool_)
        at = self.sources()
        return (at >= 0) & (at <= self.size - 1)

    def indices(self) -> NDArray[np.int64]:
        """Mode nearest: of each output the input that it copies."""
        at = self.sources()
        if self.nearest == "floor":
            found = np.floor(at)
        elif self.nearest == "ceil":
            found = np.ceil(at)
        elif self.nearest == "round_prefer_floor":
            found = np.ceil(at - 0.5)
        elif self.nearest == "round_prefer_ceil":
            found = np.floor(at + 0.5)
        else:
            raise ValueError(f"nearest_mode {self.nearest!r} is unknown")
        return np.clip(found, 0, self.size - 1).astype(np.int64)

    def matrix(self) -> NDArray[np.float32]:
        """Modes linear and cubic: the weights, (out, size)."""
        if self.mode not in ("linear", "cubic"):
            raise ValueError(f"mode {self.mode!r} is unknown")
        at = self.sources()
        wide = max(1.0, 1 / self.scale) if self.antialias else 1.0
        reach = math.ceil((2 if self.mode == "cubic" else 1) * wide) + 1
        taps = np.floor(at)[:, None] + np.arange(-reach, reach + 1)
        distance = np.abs(taps - at[:, None]) / wide
        weights = self._cubic(distance) if self.mode == "cubic" else np.maximum(1 - distance, 0)
        if self.exclude_outside:
            weights = np.where((taps < 0) | (taps >= self.size), 0, weights)
        if self.exclude_outside or self.antialias:
            weights /= weights.sum(axis=1, keepdims=True)
        found = np.zeros((self.out, self.size))
        rows = np.broadcast_to(np.arange(self.out)[:, None], taps.shape)
        np.add.at(found, (rows, np.clip(taps, 0, self.size - 1).astype(np.int64)), weights)
        return found.astype(np.float32)

    def _cubic(self, x: F64) -> F64:
        a = self.cubic_a
        near = ((a + 2) * x - (a + 3)) * x * x + 1
        far = ((a * x - 5 * a) * x + 8 * a) * x - 4 * a
        return np.where(x <= 1, near, np.where(x < 2, far, 0.0))
