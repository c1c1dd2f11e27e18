"""Where images come from."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from tilewright.errors import DataError
from tilewright.vision.sources import camera, open_source


def _arrays(source: Any) -> list[tuple[str, Any]]:
    return [(name, np.asarray(load())) for name, load in open_source(source)]


def test_a_file_a_folder_and_a_list_of_files(tmp_path: Path) -> None:
    for value, name in enumerate(("b.png", "a.png", "c.txt")):
        Image.new("L", (2, 1), value).save(tmp_path / name, format="PNG")
    a, b = tmp_path / "a.png", tmp_path / "b.png"
    assert [(n, v.tolist()) for n, v in _arrays(tmp_path)] == [(str(a), [[1, 1]]), (str(b), [[0, 0]])]
    assert [n for n, _ in _arrays(str(a))] == [str(a)]
    assert [n for n, _ in _arrays([b, str(a)])] == [str(b), str(a)]
    nested = tmp_path / "set" / "images"
    nested.mkdir(parents=True)
    a.rename(nested / "a.png")
    assert [n for n, _ in _arrays(tmp_path / "set")] == [str(nested / "a.png")]


def test_images_arrays_and_pairs() -> None:
    gray = np.arange(6, dtype=np.uint8).reshape(2, 3)
    colour = np.arange(18, dtype=np.uint8).reshape(2, 3, 3)
    found = _arrays(x for x in (gray, ("door", colour), Image.fromarray(colour)))
    assert [name for name, _ in found] == ["0", "door", "2"]
    for (_, array), wanted in zip(found, (gray, colour, colour), strict=True):
        assert np.array_equal(array, wanted)


def test_a_camera_gives_rgb_until_it_ends() -> None:
    class Device:
        left = 2

        def read(self) -> tuple[bool, Any]:
            self.left -= 1
            return self.left >= 0, np.array([[[1, 2, 3]]], np.uint8)

    assert [a.tolist() for _, a in _arrays(camera(Device()))] == [[[[3, 2, 1]]]] * 2
    assert [a.tolist() for _, a in _arrays(camera(Device(), "rgb"))] == [[[[1, 2, 3]]]] * 2


def test_what_is_no_source(tmp_path: Path) -> None:
    for source, message in (
        (tmp_path / "x", f"{tmp_path}/x: no such file or folder; give an image or a folder of images"),
        (tmp_path, f"{tmp_path}: holds no image"),
        (
            np.zeros((2, 2), np.uint8),
            "expected a file, a folder or an iterable of images, found ndarray; give a list of one image",
        ),
        (
            b"jpeg",
            "expected a file, a folder or an iterable of images, found bytes; give a list of one image",
        ),
        (3, "expected a file, a folder or an iterable of images, found int; give a list of one image"),
    ):
        with pytest.raises(DataError) as caught:
            open_source(source)  # type: ignore[arg-type]
        assert str(caught.value) == message


@pytest.mark.parametrize(
    ("item", "message"),
    [
        (3, "expected a file name, a Pillow image or an array, found int"),
        (np.zeros((2, 2)), "expected uint8 of height x width [x 3], found float64 of 2x2"),
        (np.zeros((2, 2, 4), np.uint8), "expected uint8 of height x width [x 3], found uint8 of 2x2x4"),
        (np.zeros((0, 2), np.uint8), "expected an image with pixels, found 0x2"),
    ],
)
def test_items_that_are_no_images(item: Any, message: str) -> None:
    ((_, load),) = open_source([item])
    with pytest.raises(DataError) as caught:
        load()
    assert str(caught.value) == message
