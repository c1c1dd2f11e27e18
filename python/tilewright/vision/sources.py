"""Where a pipeline's images come from.

"photo.jpg", "photos/"          a file; every image in a folder, by name
["a.jpg", Path("b.png"), ...]   any iterable, also an endless one, of files, Pillow images, uint8 arrays
(("door", array), ...)          (H, W) or (H, W, 3) RGB, or of pairs of a name and one of these
camera(device)                  what has OpenCV's `read()`
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Any, Literal, Protocol

import numpy as np
import numpy.typing as npt
from PIL import Image

from tilewright.errors import DataError, Fault
from tilewright.frontend.dataset import images_in
from tilewright.frontend.pixels import Pixels, read_image, times

Picture = Image.Image | Pixels | str | Path
Source = str | Path | Iterable[Picture | tuple[str, Picture]]
Loader = Callable[[], Image.Image]


class Camera(Protocol):
    """A device that gives one image after another, as OpenCV's VideoCapture does."""

    def read(self) -> tuple[bool, npt.NDArray[Any]]:
        """Whether there was an image, and its pixels (H, W, 3) uint8."""


def camera(device: Camera, channels: Literal["bgr", "rgb"] = "bgr") -> Iterator[Pixels]:
    """The images of a camera, RGB, until it has no more; `channels` is the order in which it gives them."""
    while True:
        there, pixels = device.read()
        if not there:
            return
        yield pixels[:, :, ::-1] if channels == "bgr" else pixels


def open_source(source: Source) -> Iterator[tuple[str, Loader]]:
    """Names, and what reads each image.

    Raises:
        DataError: the file or folder is not there, or holds no image; a loader raises it where its image cannot be
            read.
    """
    if not isinstance(source, str | Path):
        if isinstance(source, Image.Image | np.ndarray | bytes) or not isinstance(source, Iterable):
            raise DataError(
                Fault(
                    f"expected a file, a folder or an iterable of images, found {type(source).__name__}",
                    remedy="give a list of one image",
                )
            )
        return _named(source)
    path = Path(source)
    if not path.exists():
        raise DataError(Fault("no such file or folder", f"{path}", "give an image or a folder of images"))
    if not path.is_dir():
        return _named([path])
    files = images_in(path) or images_in(path / "images")
    if not files:
        raise DataError(Fault("holds no image", f"{path}"))
    return _named(files)


def _named(source: Iterable[Picture | tuple[str, Picture]]) -> Iterator[tuple[str, Loader]]:
    iterator = iter(source)
    try:
        for index, item in enumerate(iterator):
            if isinstance(item, tuple) and len(item) == 2 and isinstance(item[0], str):
                name, picture = item
            else:
                picture = item
                name = str(item) if isinstance(item, str | Path) else f"{index}"
            yield name, lambda picture=picture: _read(picture)  # type: ignore[misc]
    finally:
        close = getattr(iterator, "close", None)
        if close is not None:
            close()  # a generator may hold a camera


def _read(picture: object) -> Image.Image:
    if isinstance(picture, str | Path):
        return read_image(picture)
    if isinstance(picture, Image.Image):
        picture.load()
        return picture
    if not isinstance(picture, np.ndarray):
        raise DataError(f"expected a file name, a Pillow image or an array, found {type(picture).__name__}")
    flat = picture.ndim == 2
    if picture.dtype != np.uint8 or not (flat or (picture.ndim == 3 and picture.shape[2] == 3)):
        raise DataError(
            f"expected uint8 of height x width [x 3], found {picture.dtype} of {times(picture.shape)}"
        )
    if min(picture.shape) < 1:
        raise DataError(f"expected an image with pixels, found {times(picture.shape)}")
    return Image.fromarray(np.ascontiguousarray(picture))
