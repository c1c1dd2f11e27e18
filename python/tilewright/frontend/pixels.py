"""Pixels: reading an image file, colour and gray, resizing, by Pillow."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt
from PIL import Image

from tilewright.errors import DataError, Fault

Pixels = npt.NDArray[np.generic]

MAX_PIXELS = 1 << 26  # of an image, before or after resizing: 64 M, 192 MB as RGB


def read_image(path: str | Path) -> Image.Image:
    """Read and decode an image file.

    Raises:
        DataError: it is missing, is no image, is damaged, or is larger than 64 M pixels.
    """
    try:
        with Image.open(path) as image:
            if image.width * image.height > MAX_PIXELS:
                raise DataError(
                    Fault(
                        f"expected at most {MAX_PIXELS} pixels, found {image.width}x{image.height}", f"{path}"
                    )
                )
            image.load()
            return image.copy()
    # Pillow's decoders raise all of these on damaged files; SyntaxError is its PNG reader's.
    except (OSError, ValueError, SyntaxError, EOFError, Image.DecompressionBombError) as error:
        raise DataError(Fault(f"cannot be read as an image ({brief(error)})", f"{path}")) from error


def check_values(array: Pixels) -> Pixels:
    """Return `array` if its values are finite real numbers.

    Raises:
        DataError: they are not.
    """
    if array.dtype.kind not in "uif" or array.dtype.itemsize > 8:
        raise DataError(f"expected integers or floats, found {array.dtype}")
    if array.dtype.kind == "f" and not np.isfinite(array).all():
        raise DataError(f"expected finite values, found {int((~np.isfinite(array)).sum())} NaN or Inf")
    return array


def of_pillow(image: Image.Image, channels: str) -> Pixels:
    """(H, W, 3) RGB or (H, W, 1) gray, uint8, of a Pillow image."""
    if image.mode.startswith(("I", "F")):
        raise DataError(
            Fault(
                f"expected 8 bits a channel, found Pillow mode {image.mode}",
                remedy="convert it to 8 bits, or give an NPY",
            )
        )
    try:
        pixels = np.asarray(image.convert("L" if channels == "gray" else "RGB"))
    except ValueError as error:  # LAB and HSV, for which Pillow needs a colour profile
        raise DataError(f"expected an RGB or gray image, found Pillow mode {image.mode}") from error
    return pixels[:, :, np.newaxis] if pixels.ndim == 2 else pixels


def scale_pixels(pixels: Pixels, rows: int, columns: int) -> Pixels:
    """Bilinear by Pillow; (H, W, C) uint8 stays uint8, other types become float32."""
    if pixels.dtype == np.uint8 and pixels.shape[2] == 3:
        image = Image.fromarray(np.ascontiguousarray(pixels))
        return np.asarray(image.resize((columns, rows), Image.Resampling.BILINEAR))
    plane_type = np.uint8 if pixels.dtype == np.uint8 else np.float32
    planes = [
        np.asarray(
            Image.fromarray(np.ascontiguousarray(pixels[:, :, c]).astype(plane_type)).resize(
                (columns, rows), Image.Resampling.BILINEAR
            )
        )
        for c in range(pixels.shape[2])
    ]
    return np.stack(planes, axis=2)


def times(sizes: Sequence[int]) -> str:
    """`1x3x32x32` for messages."""
    return "x".join(str(size) for size in sizes) or "()"


def brief(error: BaseException) -> str:
    """The first line of an error, for a message of our own."""
    return str(error).splitlines()[0][:120] if str(error) else type(error).__name__
