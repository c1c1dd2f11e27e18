"""Folders, archives, arrays and noise as datasets, and everything that can be wrong with them."""

from __future__ import annotations

import contextlib
import re
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from PIL import Image

from tilewright.errors import ConfigError, DataError
from tilewright.frontend.dataset import Dataset, load_input, open_dataset
from tilewright.frontend.preprocess import Preprocess

COLOUR = {"data": (1, 3, 8, 8)}
GRAY = {"data": (1, 1, 8, 8)}


def _pixels(count: int = 3, shape: tuple[int, ...] = (8, 8, 3), seed: int = 0) -> npt.NDArray[np.uint8]:
    return np.random.default_rng(seed).integers(0, 256, (count, *shape), dtype=np.uint8)


def _folder(path: Path, table: str | None, images: npt.NDArray[np.uint8] | None = None) -> Path:
    """A folder with images 0.png, 1.png, ... in images/."""
    (path / "images").mkdir(parents=True)
    for index, pixels in enumerate(_pixels() if images is None else images):
        Image.fromarray(pixels).save(path / "images" / f"{index}.png")
    if table is not None:
        (path / "labels.csv").write_text(table, encoding="utf-8")
    return path


def _npz(path: Path, **arrays: Any) -> Path:
    np.savez(path / "set.npz", **arrays)
    return path / "set.npz"


def _inputs(data: Dataset) -> npt.NDArray[np.float32]:
    return np.concatenate([feeds["data"] for feeds, _ in data])


def _fails(
    message: str, spec: Any, shapes: Any = COLOUR, error: type[Exception] = DataError, **options: Any
) -> None:
    with pytest.raises(error) as caught:
        list(open_dataset(spec, input_shapes=shapes, **options))
    assert re.sub(r"/\S*/", "", str(caught.value)) == message


def test_folder_with_labels(tmp_path: Path) -> None:
    path = _folder(tmp_path / "set", 'file,label,name\n2.png,7,"seven, 7"\n0.png,1,one\n')
    data = open_dataset(path, input_shapes=COLOUR, labels_required=True, classes=10)
    assert len(data) == 2
    assert [label for _, label in data] == [7, 1]
    assert np.array_equal(_inputs(data), _pixels()[[2, 0]].transpose(0, 3, 1, 2).astype(np.float32))
    assert data.class_names == {7: "seven, 7", 1: "one"}
    assert not data.random


def test_folder_without_labels_is_all_its_images_by_name(tmp_path: Path) -> None:
    path = _folder(tmp_path / "set", None)
    (path / "images" / "notes.txt").write_text("not an image")
    for folder in (path, path / "images"):
        data = open_dataset(folder, input_shapes=COLOUR)
        assert [Path(name).name for name in data.names] == ["0.png", "1.png", "2.png"]
        assert [label for _, label in data] == [None, None, None]


def test_folder_with_files_only_in_its_table(tmp_path: Path) -> None:
    path = _folder(tmp_path / "set", "file\n1.png\n")
    assert open_dataset(path, input_shapes=COLOUR).labels is None
    _fails("labels.csv: expected a column label, found file", path, labels_required=True)


@pytest.mark.parametrize(("images", "labels"), [("images", "labels"), ("x", "y")])
def test_npz_of_both_layouts(tmp_path: Path, images: str, labels: str) -> None:
    pixels = _pixels()
    planes = pixels.transpose(0, 3, 1, 2)
    for stored in (pixels, planes):
        path = _npz(
            tmp_path, **{images: stored, labels: np.array([1, 0, 2], np.uint8), "classes": ["a", "b", "c"]}
        )
        data = open_dataset(path, input_shapes=COLOUR, labels_required=True, classes=3)
        assert np.array_equal(_inputs(data), planes.astype(np.float32))
        assert data.labels is not None and data.labels.tolist() == [1, 0, 2]
        assert data.class_names == {0: "a", 1: "b", 2: "c"}


def test_gray_npz_with_and_without_a_channel_axis(tmp_path: Path) -> None:
    pixels = _pixels(shape=(8, 8))
    for stored in (pixels, pixels[..., np.newaxis], pixels[:, np.newaxis]):
        data = open_dataset(_npz(tmp_path, images=stored), input_shapes=GRAY)
        assert np.array_equal(_inputs(data), pixels[:, np.newaxis].astype(np.float32))


def test_a_kws_like_set_is_not_ambiguous(tmp_path: Path) -> None:
    stored = np.random.default_rng(0).integers(-128, 128, (4, 49, 10, 1), dtype=np.int8)
    data = open_dataset(
        _npz(tmp_path, x=stored), input_shapes={"data": (1, 1, 49, 10)}, preprocess=Preprocess(mean=83, std=2)
    )
    assert np.array_equal(_inputs(data), (stored.transpose(0, 3, 1, 2).astype(np.float32) - 83) / 2)


def test_ambiguous_layout_needs_to_be_said(tmp_path: Path) -> None:
    pixels = _pixels(shape=(3, 3, 3))
    path = _npz(tmp_path, images=pixels)
    shapes = {"data": (1, 3, 3, 3)}
    _fails(
        "set.npz: 3x3x3x3 may be NxCxHxW or NxHxWxC for 3 channels of 3x3; "
        "say --layout nchw or --layout nhwc",
        path,
        shapes,
    )
    as_nchw = _inputs(open_dataset(path, input_shapes=shapes, layout="nchw"))
    as_nhwc = _inputs(open_dataset(path, input_shapes=shapes, layout="nhwc"))
    assert np.array_equal(as_nchw, pixels.astype(np.float32))
    assert np.array_equal(as_nhwc, pixels.transpose(0, 3, 1, 2).astype(np.float32))
    _fails("layout: expected nhwc or nchw, found 'chw'", path, shapes, ConfigError, layout="chw")


def test_arrays_of_another_size_are_resized_only_as_bytes(tmp_path: Path) -> None:
    path = _npz(tmp_path, images=_pixels(shape=(9, 8, 3)))
    assert _inputs(open_dataset(path, input_shapes=COLOUR)).shape == (3, 3, 8, 8)
    path = _npz(tmp_path, images=_pixels(shape=(9, 8, 3)).astype(np.float32))
    _fails(
        "set.npz: expected float32 values of 8x8, found 9x8; give --resize 8x8 if they may be resized", path
    )


def test_colour_to_gray_where_said(tmp_path: Path) -> None:
    path = _npz(tmp_path, images=_pixels())
    data = open_dataset(path, input_shapes=GRAY, preprocess=Preprocess(channels="gray"))
    luma = np.asarray(Image.fromarray(_pixels()[1]).convert("L"), np.float32)
    assert np.array_equal(_inputs(data)[1, 0], luma)
    _fails(
        "set.npz: expected 1 channels of 8x8 (NxHxWxC or NxCxHxW), found 3x8x8x3; "
        "give --channels to convert between gray and colour",
        path,
        GRAY,
    )


def test_arrays_images_files_and_open_sets_are_specs_too(tmp_path: Path) -> None:
    pixels = _pixels()
    np.save(tmp_path / "a.npy", pixels)
    Image.fromarray(pixels[0]).save(tmp_path / "a.png")
    data = open_dataset(pixels, input_shapes=COLOUR)
    assert np.array_equal(_inputs(data), _inputs(open_dataset(tmp_path / "a.npy", input_shapes=COLOUR)))
    assert np.array_equal(
        _inputs(data)[:1], _inputs(open_dataset(str(tmp_path / "a.png"), input_shapes=COLOUR))
    )
    assert open_dataset(data, input_shapes=COLOUR) is data
    for spec in (pixels, data, tmp_path / "a.npy", tmp_path / "a.png", "random:1"):
        with pytest.raises(DataError, match="has no labels, which accuracy needs"):
            open_dataset(spec, input_shapes=COLOUR, labels_required=True)


def test_subset(tmp_path: Path) -> None:
    data = open_dataset(_npz(tmp_path, x=_pixels(5), y=np.arange(5)), input_shapes=COLOUR)
    rest = data.subset(2).subset(1, 3)
    assert [label for _, label in rest] == [3, 4]
    assert np.array_equal(_inputs(rest), _inputs(data)[3:])
    with pytest.raises(DataError, match=r"set\.npz: images 5 to None of 5 are none$"):
        data.subset(5)


def test_label_offset(tmp_path: Path) -> None:
    path = _npz(tmp_path, x=_pixels(), y=[0, 1, 999], classes=["a", "b"])
    data = open_dataset(path, input_shapes=COLOUR, label_offset=1, classes=1001)
    assert data.labels is not None and data.labels.tolist() == [1, 2, 1000]
    assert data.class_names == {1: "a", 2: "b"}
    _fails(
        "set.npz[2]: expected a class 0..999, found label 999 + offset 1; --label-offset moves all labels",
        path,
        label_offset=1,
        classes=1000,
    )
    _fails(
        "set.npz[0]: expected a class 0, found label 0 + offset -1; --label-offset moves all labels",
        path,
        label_offset=-1,
    )


def test_inputs_that_are_no_images_and_several_inputs(tmp_path: Path) -> None:
    values = np.random.default_rng(0).normal(size=(4, 6))
    data = open_dataset(_npz(tmp_path, x=values), input_shapes={"data": (1, 6)})
    assert np.array_equal(_inputs(data), values.astype(np.float32))
    shapes = {"a": (1, 6), "b": (1, 2, 3)}
    path = _npz(tmp_path, a=values, b=values.reshape(4, 2, 3), y=[0, 1, 0, 1])
    pair = open_dataset(path, input_shapes=shapes, labels_required=True)
    feeds, label = list(pair)[3]
    assert label == 1
    assert np.array_equal(feeds["b"], values[3:].reshape(1, 2, 3).astype(np.float32))
    _fails(
        "set.npz: expected the same number of inputs in each array, found [4, 8]\n"
        "set.npz: expected 'b' of shape Nx2x3, found 8x3",
        _npz(tmp_path, a=values, b=np.zeros((8, 3))),
        shapes,
    )
    _fails(
        "set.npz: expected a network of one input, found 2 (a, b); give an NPZ with an array for each",
        _npz(tmp_path, x=values),
        shapes,
    )


def test_random_sets_repeat_and_are_marked() -> None:
    shapes = {"data": (1, 3, 8, 8), "state": (1, 6)}
    settings = Preprocess(mean=100, std=2)
    data = open_dataset("random:7", input_shapes=shapes, preprocess=settings, count=5)
    assert data.random and len(data) == 5 and data.labels is None
    again = open_dataset("random:7", input_shapes=shapes, preprocess=settings, count=5)
    assert all(
        np.array_equal(a[name], b[name]) for (a, _), (b, _) in zip(data, again, strict=True) for name in a
    )
    images = _inputs(data)
    assert images.dtype == np.float32 and -50 <= images.min() < -40 and 70 < images.max() <= 77.5
    assert not np.array_equal(images, _inputs(open_dataset("random:8", input_shapes=shapes, count=5)))
    _fails("random:x: expected a number as seed, found 'x'; give random:1", "random:x")


@pytest.mark.parametrize(
    ("arrays", "message"),
    [
        ({"data2": _pixels()}, "set.npz: expected images or x, found data2\n"
            "set.npz: unknown array 'data2'; known are images, x, labels, y, classes, files"),
        ({"x": _pixels(), "images": _pixels()}, "set.npz: expected either images or x, found both"),
        ({"x": _pixels(), "y": [0, 1, 2], "labels": [0, 1, 2]},
            "set.npz: expected either labels or y, found both"),
        ({"x": _pixels(), "extra": [1]},
            "set.npz: unknown array 'extra'; known are images, x, labels, y, classes, files"),
        ({"x": _pixels(0)}, "set.npz: holds no image"),
        ({"x": _pixels(), "y": [1, 2]}, "set.npz: expected 3 integer labels, found int64 of 2"),
        ({"x": _pixels(), "y": [1.0, 2, 3]}, "set.npz: expected 3 integer labels, found float64 of 3"),
        ({"x": _pixels(shape=(8, 8, 4))},
            "set.npz: expected 3 channels of 8x8 (NxHxWxC or NxCxHxW), found 3x8x8x4"),
        ({"x": np.zeros((3, 3, 8, 8, 1))},
            "set.npz: expected images of shape NxHxW, NxHxWxC or NxCxHxW, found 3x3x8x8x1"),
        ({"x": np.full((1, 8, 8, 3), np.inf)}, "set.npz: expected finite values, found 192 NaN or Inf"),
        ({"x": np.array(["a", "b"])}, "set.npz: expected integers or floats, found <U1"),
        ({"x": np.array([1, None], object)},
            "set.npz: holds Python objects, which are never loaded; save it as an array of numbers"),
    ],
)  # fmt: skip
def test_wrong_archives(tmp_path: Path, arrays: dict[str, Any], message: str) -> None:
    _fails(message, _npz(tmp_path, **arrays))


def test_labels_missing_where_needed(tmp_path: Path) -> None:
    path = _npz(tmp_path, x=_pixels())
    _fails(
        "set.npz: has no labels, which accuracy needs; expected an array labels or y",
        path,
        labels_required=True,
    )
    _fails(
        "set: has no labels, which accuracy needs; "
        "expected labels.csv in it, with the columns file and label",
        _folder(tmp_path / "set", None),
        labels_required=True,
    )


def test_damaged_archives(tmp_path: Path) -> None:
    whole = _npz(tmp_path, x=_pixels()).read_bytes()
    path = tmp_path / "set.npz"
    for damaged in (b"", b"PK\x03\x04 no archive", whole[:200], whole[:60] + b"\x00" * 40 + whole[100:]):
        path.write_bytes(damaged)
        with pytest.raises(
            DataError,
            match=r"set\.npz: (cannot be read as an NPZ file \(|is not an NPZ file, or holds Python)",
        ):
            open_dataset(path, input_shapes=COLOUR)


def test_a_head_that_claims_a_huge_array(tmp_path: Path) -> None:
    path = tmp_path / "a.npy"
    np.save(path, _pixels(1))
    claim = b"(1, 8, 8, 30000000000)"
    whole = path.read_bytes()
    path.write_bytes(whole.replace(b"(1, 8, 8, 3), }" + b" " * (len(claim) - 12), claim + b", }"))
    assert claim in path.read_bytes()[: len(whole)]
    with pytest.raises(DataError, match=r"a\.npy: cannot be read as an NPY file \("):
        open_dataset(path, input_shapes=COLOUR)


@pytest.mark.parametrize("suffix", ["npz", "npy", "png", "jpg", "gif", "tiff", "webp", "csv"])
@settings(max_examples=40, derandomize=True, deadline=None)
@given(data=st.data())
def test_files_with_changed_bytes_give_a_data_error_or_a_set(
    tmp_path_factory: pytest.TempPathFactory, suffix: str, data: st.DataObject
) -> None:
    path = tmp_path_factory.getbasetemp() / f"changed.{suffix}"
    pixels = _pixels(1, (32, 32, 3))
    if suffix == "npz":
        np.savez(path, x=pixels, y=[1])
    elif suffix == "npy":
        np.save(path, pixels)
    elif suffix == "csv":
        path = _folder(tmp_path_factory.mktemp("set"), "file,label\n0.png,3\n", pixels) / "labels.csv"
    else:
        Image.fromarray(pixels[0]).save(path)
    whole = bytearray(path.read_bytes())
    places = st.integers(0, min(len(whole), 400) - 1)  # heads, where most can go wrong
    for place, value in data.draw(st.lists(st.tuples(places, st.integers(0, 255)), min_size=1, max_size=3)):
        whole[place] = value
    path.write_bytes(whole[: data.draw(st.integers(1, len(whole)))])
    spec = path.parent if suffix == "csv" else path
    # Pillow warns of oddities in heads; whether the pixels can be had is what counts.
    with warnings.catch_warnings(), contextlib.suppress(DataError):
        warnings.simplefilter("ignore")
        assert _inputs(open_dataset(spec, input_shapes=COLOUR)).shape[1:] == (3, 8, 8)


def test_nothing_there(tmp_path: Path) -> None:
    (tmp_path / "set").mkdir()
    _fails("set: holds no image (.bmp .gif .jpeg .jpg .pgm .png .ppm .tif .tiff .webp)", tmp_path / "set")
    with pytest.raises(
        DataError, match=r"none: no such file or folder; give a folder of images, an NPZ file or random:"
    ):
        open_dataset(tmp_path / "none", input_shapes=COLOUR)
    _fails("labels.csv: lists no image", _folder(tmp_path / "b", "file,label\n"), labels_required=True)


def test_all_wrong_labels_are_listed(tmp_path: Path) -> None:
    path = _folder(tmp_path / "set", "file,label\n0.png,one\n1.png,\n2.png,3\n")
    _fails(
        "labels.csv, line 2: expected an integer as label, found 'one'\n"
        "labels.csv, line 3: expected an integer as label, found ''",
        path,
        labels_required=True,
    )


def test_all_unreadable_files_are_listed_up_to_a_limit(tmp_path: Path) -> None:
    path = _folder(tmp_path / "set", None, _pixels(30))
    for index in range(25):
        (path / "images" / f"{index}.png").write_bytes(b"nothing")
    with pytest.raises(DataError) as caught:
        open_dataset(path, input_shapes=COLOUR)
    lines = str(caught.value).splitlines()
    assert len(lines) == 21
    assert lines[-1] == "and 5 more"
    assert all("cannot be read as an image (cannot identify image file" in line for line in lines[:-1])


def test_files_damaged_after_their_head_are_listed_while_iterating(tmp_path: Path) -> None:
    path = _folder(tmp_path / "set", None, _pixels(4, (64, 64, 3)))
    for index in (1, 3):
        file = path / "images" / f"{index}.png"
        file.write_bytes(file.read_bytes()[:600])
    data = open_dataset(path, input_shapes=COLOUR)
    with pytest.raises(DataError) as caught:
        list(data)
    assert [re.search(r"\d\.png", line)[0] for line in str(caught.value).splitlines()] == ["1.png", "3.png"]  # type: ignore[index]


def test_images_of_another_size(tmp_path: Path) -> None:
    path = _folder(tmp_path / "set", None)
    Image.fromarray(_pixels(1, (6, 7, 3))[0]).save(path / "images" / "small.png")
    _fails(
        "small.png: expected at least 8x8 to crop from, found 6x7; give a --resize",
        path,
        preprocess=Preprocess(crop=8),
    )


def test_tables_that_are_no_text(tmp_path: Path) -> None:
    path = _folder(tmp_path / "set", None)
    (path / "labels.csv").write_bytes(b"file,label\n\xff\xfe,1\n")
    with pytest.raises(DataError, match=r"labels\.csv: cannot be read \('utf-8"):
        open_dataset(path, input_shapes=COLOUR)
    (path / "labels.csv").write_text("file,label\n,3\n")
    _fails("labels.csv, line 2: expected a file name, found none", path)
    (path / "labels.csv").write_text("")
    _fails("labels.csv: expected a column file, found nothing", path)


def test_one_input(tmp_path: Path) -> None:
    pixels, settings = _pixels(1)[0], Preprocess(mean=5)
    expected = (pixels.transpose(2, 0, 1).astype(np.float32) - 5)[np.newaxis]
    Image.fromarray(pixels).save(tmp_path / "a.png")
    np.save(tmp_path / "bytes.npy", pixels)
    np.save(tmp_path / "floats.npy", expected)
    for name in ("a.png", "bytes.npy", "floats.npy"):
        found = load_input(tmp_path / name, input_shapes=COLOUR, preprocess=settings)
        assert np.array_equal(found["data"], expected)
    np.savez(tmp_path / "two.npz", data=pixels, state=np.ones((1, 6), np.float32))
    both = load_input(tmp_path / "two.npz", input_shapes={**COLOUR, "state": (1, 6)}, preprocess=settings)
    assert np.array_equal(both["data"], expected) and both["state"].sum() == 6
    noise = load_input("random:3", input_shapes=COLOUR)["data"]
    assert noise.shape == (1, 3, 8, 8) and noise.dtype == np.float32


def test_one_input_that_does_not_fit(tmp_path: Path) -> None:
    shapes = {**COLOUR, "state": (1, 6)}
    np.savez(tmp_path / "a.npz", state=np.ones((1, 5), np.float32), other=np.ones(3))
    with pytest.raises(DataError) as caught:
        load_input(tmp_path / "a.npz", input_shapes=shapes)
    assert [str(fault).removeprefix(str(tmp_path / "a.npz")) for fault in caught.value.faults] == [
        ": expected an array for input 'data', found state, other",
        ": unknown array 'other'; inputs are data, state",
        ", 'state': expected float32 of shape 1x6, found float32 of 1x5; "
        "floats are not preprocessed; give the stored image as uint8 for that",
    ]
    np.save(tmp_path / "a.npy", np.full((1, 3, 8, 8), np.nan, np.float32))
    with pytest.raises(DataError, match=r"a\.npy: expected finite values, found 192 NaN or Inf$"):
        load_input(tmp_path / "a.npy", input_shapes=COLOUR)
    np.save(tmp_path / "a.npy", np.zeros((1, 3, 8, 8)))
    with pytest.raises(
        DataError, match=r"a\.npy: expected float32 of shape 1x3x8x8, found float64 of 1x3x8x8; "
    ):
        load_input(tmp_path / "a.npy", input_shapes=COLOUR)
    with pytest.raises(DataError, match=r"a\.npy: expected a network of one input, found 2 \(data, state\)"):
        load_input(tmp_path / "a.npy", input_shapes=shapes)
    folder = r"expected an image, an NPY or an NPZ file, found a folder; give one of its files; `tilewright evaluate` runs on a folder$"
    with pytest.raises(DataError, match=folder):
        load_input(tmp_path, input_shapes=COLOUR)
    with pytest.raises(DataError, match=r"none\.png: no such file; give an image, an NPY or an NPZ file$"):
        load_input(tmp_path / "none.png", input_shapes=COLOUR)
    (tmp_path / "no.npy").write_bytes((tmp_path / "a.npz").read_bytes())
    with pytest.raises(
        DataError, match=r"no\.npy: expected one array, found an NPZ archive; name it \*\.npz$"
    ):
        load_input(tmp_path / "no.npy", input_shapes=COLOUR)
