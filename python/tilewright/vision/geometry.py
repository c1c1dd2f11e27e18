"""From the coordinates of a network's input to those of the image, and back."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from tilewright.frontend.preprocess import Preprocess

Floats = NDArray[np.float64]


@dataclass(frozen=True)
class Geometry:
    """How the image lies in an input: input = image * scale - corner, in pixels along x and y.

    Attributes:
        scale: input pixels to one of the image, x and y.
        corner: of the input in the resized image, x and y.
        size: width and height of the input.
        image_size: width and height of the image.
    """

    scale: tuple[float, float]
    corner: tuple[float, float]
    size: tuple[int, int]
    image_size: tuple[int, int]

    @staticmethod
    def of(preprocess: Preprocess, image_size: tuple[int, int], input_shape: Sequence[int]) -> Geometry:
        """Of an image of (width, height) that `preprocess` brings to a (1, C, H, W) input. Raises DataError."""
        width, height = image_size
        rows, columns, top, left = preprocess.window(height, width, input_shape)
        return Geometry(
            (columns / width, rows / height), (left, top), (input_shape[3], input_shape[2]), (width, height)
        )

    @staticmethod
    def fitting(image_size: tuple[int, int], size: tuple[int, int]) -> Geometry:
        """Of an image in the upper left of an input of (width, height), as large as fits, its proportions kept.

        Sides are rounded to whole pixels, at least one; `scale` is what that makes of it.
        """
        ratio = min(size[0] / image_size[0], size[1] / image_size[1])
        inner = [
            max(min(math.floor(side * ratio + 0.5), most), 1)
            for side, most in zip(image_size, size, strict=True)
        ]
        return Geometry((inner[0] / image_size[0], inner[1] / image_size[1]), (0, 0), size, image_size)

    def to_image(self, points: Floats) -> Floats:
        """Shapes: (..., 2k) x and y in turn -> the same, in the image."""
        corner, scale = (np.resize(v, points.shape[-1]) for v in (self.corner, self.scale))
        return np.asarray((points + corner) / scale)

    def to_input(self, points: Floats) -> Floats:
        """The inverse of :meth:`to_image`."""
        corner, scale = (np.resize(v, points.shape[-1]) for v in (self.corner, self.scale))
        return np.asarray(points * scale - corner)

    def from_parts(self, points: Floats) -> Floats:
        """Shapes: (..., 2k) x and y in turn as parts of the input, 0..1 -> in the image."""
        return self.to_image(points * np.resize(self.size, points.shape[-1]))
