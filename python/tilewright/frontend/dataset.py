"""Images with or without labels, from folders, NPZ files, arrays or noise, as a network's inputs.

DIR with labels.csv     `file,label[,name]`, and the files in DIR/images
DIR                     every image in it (or in DIR/images); no labels
FILE.npz                `images` or `x`, and `labels` or `y`; or one array for each input of the network
FILE.npy, an image      without labels
random:SEED             noise, for studies of speed
"""

from __future__ import annotations

import csv
import re
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from pathlib import Path

import numpy as np
import numpy.typing as npt
from PIL import Image

from tilewright.errors import DataError, Fault, FaultList, TilewrightError
from tilewright.frontend.arrays import as_images, load_npy, load_npz
from tilewright.frontend.pixels import Pixels, brief, check_values, read_image, times
from tilewright.frontend.preprocess import Float32, Preprocess

Feeds = dict[str, Float32]
Shapes = Mapping[str, Sequence[int]]
Labels = npt.NDArray[np.int64]

RANDOM_COUNT = 4  # images of a random set, unless told: more make nothing better
MAX_FAULTS = 20  # listed one by one; the rest is counted
_IMAGES = ("images", "x")
_LABELS = ("labels", "y")
_NOTES = ("classes", "files")  # names of the classes and of the images
_SUFFIXES = (".bmp", ".gif", ".jpeg", ".jpg", ".pgm", ".png", ".ppm", ".tif", ".tiff", ".webp")


@dataclass(frozen=True)
class Dataset:
    """Inputs of a network, made when they are asked for.

    Iterating gives (feeds, label): a dict of one float32 array of the input's shape for each input, and the
    index of the right class or None.

    Attributes:
        source: where it comes from, for messages.
        names: one for each image.
        labels: (N,) int64 indices of the network's classes, `label_offset` added; None without labels.
        class_names: index of the network's class -> name, as far as the set says.
        random: whether it is noise, of which no accuracy may be told.
    """

    source: str
    names: Sequence[str]
    load: Callable[[int], Feeds] = field(repr=False)
    labels: Labels | None = None
    class_names: Mapping[int, str] = field(default_factory=dict)
    random: bool = False

    def __len__(self) -> int:
        return len(self.names)

    def __iter__(self) -> Iterator[tuple[Feeds, int | None]]:
        """Give all images.

        Raises:
            DataError: an image cannot be read; the message lists all such images from that one on.
        """
        for index in range(len(self)):
            try:
                feeds = self.load(index)
            except DataError:
                self._raise_all(index)
                raise
            yield feeds, None if self.labels is None else int(self.labels[index])

    def _raise_all(self, first: int) -> None:
        faults = FaultList()
        for index in range(first, len(self)):
            with _gathered(faults, self.names[index]):
                self.load(index)
        _raise_limited(faults)

    def subset(self, start: int, stop: int | None = None) -> Dataset:
        """Images `start` up to and without `stop`.

        Raises:
            DataError: there are none.
        """
        chosen = range(len(self))[start:stop]
        if not chosen:
            raise DataError(Fault(f"images {start} to {stop} of {len(self)} are none", self.source))
        load = self.load
        return replace(
            self,
            names=[self.names[i] for i in chosen],
            load=lambda index: load(chosen[index]),
            labels=None if self.labels is None else self.labels[chosen.start : chosen.stop],
        )


def open_dataset(
    spec: str | Path | Pixels | Dataset,
    *,
    input_shapes: Shapes,
    preprocess: Preprocess | None = None,
    labels_required: bool = False,
    layout: str | None = None,
    label_offset: int = 0,
    classes: int | None = None,
    count: int = RANDOM_COUNT,
) -> Dataset:
    """Open a set of images for a network.

    Args:
        spec: see the head of this module; or an array as `images` of an NPZ; or a set that is open already.
        input_shapes: name -> (1, C, H, W), or (1, ...) for inputs that are no images.
        preprocess: from stored values to input values; None only resizes to the input's size.
        labels_required: whether a set without labels is an error.
        layout: "nhwc" or "nchw", needed where an array could be either.
        label_offset: added to every label (1 for networks of 1001 classes).
        classes: number of the network's classes, against which labels are checked; None does not check.
        count: number of images of a random set.

    Raises:
        DataError: nothing there, or labels, sizes or values are wrong; every such image is listed (the first
            twenty).
        ConfigError: the preprocessing does not fit the network's input.
    """
    if isinstance(spec, Dataset):
        if labels_required and spec.labels is None:
            raise _no_labels(spec.source, "")
        return spec
    settings = preprocess or Preprocess()
    opener = _Opener(input_shapes, settings, labels_required, layout, label_offset, classes)
    if isinstance(spec, np.ndarray):
        return opener.of_array(spec, "array")
    seed = re.fullmatch(r"random:(.*)", str(spec), re.DOTALL)
    if seed is not None:
        if labels_required:
            raise _no_labels(str(spec), "give a folder or an NPZ file")
        return random_dataset(_seed(seed[1]), count, input_shapes, settings)
    path = Path(spec)
    if not path.exists():
        raise DataError(
            Fault("no such file or folder", str(path), "give a folder of images, an NPZ file or random:SEED")
        )
    if path.is_dir():
        return opener.of_folder(path)
    if path.suffix == ".npz":
        return opener.of_npz(path)
    if path.suffix == ".npy":
        return opener.of_array(load_npy(path), str(path))
    if labels_required:
        raise _no_labels(str(path), "give a folder with labels.csv or an NPZ file with labels")
    return opener.of_files([path], str(path))


def random_dataset(seed: int, count: int, input_shapes: Shapes, preprocess: Preprocess) -> Dataset:
    """Noise: uniform 0..255 through mean and std for images of 1 or 3 channels, else standard normal."""
    if count < 1:
        raise DataError(f"expected at least one random image, found {count}")
    for shape in input_shapes.values():
        preprocess.check(shape)

    def load(index: int) -> Feeds:
        generator = np.random.default_rng([seed, index])
        feeds: Feeds = {}
        for name, shape in input_shapes.items():
            if len(shape) == 4 and shape[1] in (1, 3):
                pixels = generator.integers(0, 256, tuple(shape[1:]), dtype=np.uint8)
                feeds[name] = preprocess.normalise(pixels, shape)
            else:
                feeds[name] = generator.standard_normal((1, *shape[1:]), dtype=np.float32)
        return feeds

    names = [f"random:{seed} image {index}" for index in range(count)]
    return Dataset(f"random:{seed}", names, load, random=True)


def load_input(
    spec: str | Path,
    *,
    input_shapes: Shapes,
    preprocess: Preprocess | None = None,
) -> Feeds:
    """Read one input of a network, for `run`.

    An image, or an NPY of any other type than float32, is preprocessed; a float32 NPY of the input's shape
    goes in as it is; an NPZ holds one of these for each input, by name; `random:SEED` is noise.

    Raises:
        DataError: it cannot be read or does not fit; all faults together.
        ConfigError: the preprocessing does not fit the network's input.
    """
    settings = preprocess or Preprocess()
    seed = re.fullmatch(r"random:(.*)", str(spec), re.DOTALL)
    if seed is not None:
        return random_dataset(_seed(seed[1]), 1, input_shapes, settings).load(0)
    path = Path(spec)
    if path.is_dir():
        remedy = "give one of its files; `tilewright evaluate` runs on a folder"
        raise DataError(Fault("expected an image, an NPY or an NPZ file, found a folder", str(path), remedy))
    if not path.is_file():
        raise DataError(Fault("no such file", str(path), "give an image, an NPY or an NPZ file"))
    if path.suffix == ".npz":
        arrays = load_npz(path)
        faults = FaultList()
        _match_names(arrays, input_shapes, str(path), faults)
        feeds: Feeds = {}
        for name in [name for name in input_shapes if name in arrays]:
            with _gathered(faults, f"{path}, {name!r}"):
                feeds[name] = _one(arrays[name], input_shapes[name], settings)
        faults.raise_if_any(DataError)
        return feeds
    name, shape = _only_input(input_shapes, str(path))
    value: Pixels | Image.Image = load_npy(path) if path.suffix == ".npy" else read_image(path)
    faults = FaultList()
    result: Feeds = {}
    with _gathered(faults, str(path)):
        result[name] = _one(value, shape, settings)
    faults.raise_if_any(DataError)
    return result


def _one(value: Pixels | Image.Image, shape: Sequence[int], preprocess: Preprocess) -> Float32:
    """One input from a float32 array as it is, or from anything else through preprocessing."""
    if isinstance(value, np.ndarray) and value.dtype.kind == "f":
        wanted = (1, *shape[1:])
        if value.shape != wanted or value.dtype != np.float32:
            raise DataError(
                Fault(
                    f"expected float32 of shape {times(wanted)}, found {value.dtype} of {times(value.shape)}",
                    remedy="floats are not preprocessed; give the stored image as uint8 for that",
                )
            )
        return np.ascontiguousarray(check_values(value), dtype=np.float32)
    return preprocess.apply(value, shape)


@dataclass(frozen=True)
class _Opener:
    """What all kinds of sets need to know."""

    input_shapes: Shapes
    preprocess: Preprocess
    labels_required: bool
    layout: str | None
    label_offset: int
    classes: int | None

    def of_folder(self, path: Path) -> Dataset:
        """A folder, with or without `labels.csv`."""
        table = path / "labels.csv"
        if table.is_file():
            return self._of_table(path, table)
        if self.labels_required:
            raise _no_labels(str(path), "expected labels.csv in it, with the columns file and label")
        files = images_in(path) or images_in(path / "images")
        if not files:
            raise DataError(Fault(f"holds no image ({' '.join(_SUFFIXES)})", str(path)))
        return self.of_files(files, str(path))

    def of_files(self, files: Sequence[Path], source: str) -> Dataset:
        """Image files; their heads are read here, their pixels later."""
        name, shape = _only_input(self.input_shapes, source)
        self.preprocess.check(shape)
        faults = FaultList()
        for file in files:
            with _gathered(faults, str(file)):
                self._check_head(file, shape)
        _raise_limited(faults)

        def load(index: int) -> Feeds:
            return {name: self.preprocess.apply(files[index], shape)}

        return Dataset(source, [str(file) for file in files], load)

    def _check_head(self, file: Path, shape: Sequence[int]) -> None:
        """Raise if the file is no image, or its size will not do."""
        try:
            with Image.open(file) as image:
                width, height = image.size
        except (OSError, ValueError, SyntaxError, Image.DecompressionBombError) as error:
            raise DataError(Fault(f"cannot be read as an image ({brief(error)})", str(file))) from error
        if len(shape) == 4:
            self.preprocess.final_size(height, width, shape)

    def _of_table(self, path: Path, table: Path) -> Dataset:
        """A folder with `labels.csv`."""
        rows = _read_table(table, self.labels_required)
        files = [path / "images" / row["file"] for row in rows]
        data = self.of_files(files, str(path))
        if "label" not in rows[0]:
            return data
        faults = FaultList()
        labels: list[int] = []
        for number, row in enumerate(rows, start=2):
            text = (row["label"] or "").strip()
            if re.fullmatch(r"-?[0-9]{1,15}", text):
                labels.append(int(text))
            else:
                faults.add(f"expected an integer as label, found {text!r}", where=f"{table}, line {number}")
        _raise_limited(faults)
        checked = self._check_labels(np.array(labels, np.int64), [str(file) for file in files])
        named = zip(checked.tolist(), (row.get("name") for row in rows), strict=True)
        return replace(data, labels=checked, class_names={label: name for label, name in named if name})

    def of_npz(self, path: Path) -> Dataset:
        """An NPZ with `images`, or with an array for each input."""
        arrays = load_npz(path)
        known: tuple[str, ...] = (*_IMAGES, *_LABELS, *_NOTES)
        found = [key for key in _IMAGES if key in arrays]
        if not found and set(self.input_shapes) <= set(arrays):
            known, values = (*self.input_shapes, *_LABELS, *_NOTES), None
        else:
            values = arrays[found[0]] if found else None
        faults = FaultList()
        if len(found) > 1:
            faults.add("expected either images or x, found both", where=str(path))
        if values is None and known[0] in _IMAGES:
            faults.add(f"expected images or x, found {', '.join(arrays) or 'nothing'}", where=str(path))
        for key in sorted(set(arrays) - set(known)):
            faults.add(f"unknown array {key!r}", where=str(path), remedy=f"known are {', '.join(known)}")
        if all(key in arrays for key in _LABELS):
            faults.add("expected either labels or y, found both", where=str(path))
        faults.raise_if_any(DataError)
        if values is None:
            data = self._of_inputs({name: arrays[name] for name in self.input_shapes}, str(path))
        else:
            data = self.of_array(values, str(path), labelled=True)
        labels = next((arrays[key] for key in _LABELS if key in arrays), None)
        if labels is None:
            if self.labels_required:
                raise _no_labels(str(path), "expected an array labels or y")
            return data
        if labels.dtype.kind not in "ui" or labels.shape not in ((len(data),), (len(data), 1)):
            raise DataError(
                Fault(
                    f"expected {len(data)} integer labels, found {labels.dtype} of {times(labels.shape)}",
                    str(path),
                )
            )
        checked = self._check_labels(labels.reshape(-1).astype(np.int64), data.names)
        classes = arrays.get("classes", np.array([], np.str_))
        names = {index + self.label_offset: str(name) for index, name in enumerate(classes.ravel())}
        return replace(data, labels=checked, class_names=names)

    def of_array(self, values: Pixels, source: str, labelled: bool = False) -> Dataset:
        """An array of images, or of inputs that are no images."""
        if self.labels_required and not labelled:
            raise _no_labels(source, "give an NPZ file with images and labels")
        name, shape = _only_input(self.input_shapes, source)
        self.preprocess.check(shape)
        images = as_images(values, shape, self.layout, self.preprocess.channels is not None, source)

        def load(index: int) -> Feeds:
            return {name: self.preprocess.apply(images[index], shape)}

        faults = FaultList()
        with _gathered(faults, source):
            load(0)  # they are all of one shape and type
        faults.raise_if_any(DataError)
        return Dataset(source, [f"{source}[{index}]" for index in range(len(images))], load)

    def _of_inputs(self, arrays: Mapping[str, Pixels], source: str) -> Dataset:
        """One array for each input, taken as they are."""
        faults = FaultList()
        counts = {len(array) if array.ndim else 0 for array in arrays.values()}
        if len(counts) != 1 or 0 in counts:
            faults.add(
                f"expected the same number of inputs in each array, found {sorted(counts)}", where=source
            )
        for name, array in arrays.items():
            shape = self.input_shapes[name]
            if array.shape[1:] != tuple(shape[1:]):
                faults.add(
                    f"expected {name!r} of shape Nx{times(shape[1:])}, found {times(array.shape)}",
                    where=source,
                )
            with _gathered(faults, f"{source}, {name!r}"):
                check_values(array)
        faults.raise_if_any(DataError)

        def load(index: int) -> Feeds:
            return {name: array[index : index + 1].astype(np.float32) for name, array in arrays.items()}

        return Dataset(source, [f"{source}[{index}]" for index in range(counts.pop())], load)

    def _check_labels(self, labels: Labels, names: Sequence[str]) -> Labels:
        """Labels with the offset added, if they all are classes."""
        shifted = labels + self.label_offset
        faults = FaultList()
        last = "" if self.classes is None else f"..{self.classes - 1}"
        wrong = (shifted < 0) | (
            shifted >= (np.iinfo(np.int64).max if self.classes is None else self.classes)
        )
        for index in np.flatnonzero(wrong).tolist():
            offset = f" + offset {self.label_offset}" if self.label_offset else ""
            faults.add(
                f"expected a class 0{last}, found label {labels[index]}{offset}",
                where=names[index],
                remedy="--label-offset moves all labels",
            )
        _raise_limited(faults)
        return shifted


def _read_table(table: Path, labels_required: bool) -> list[dict[str, str]]:
    """The rows of labels.csv."""
    try:
        with table.open(encoding="utf-8-sig", newline="") as file:
            reader = csv.DictReader(file, restval="")
            rows = list(reader)
            columns = reader.fieldnames or ()
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise DataError(Fault(f"cannot be read ({brief(error)})", str(table))) from error
    faults = FaultList()
    for column in ("file", "label") if labels_required else ("file",):
        if column not in columns:
            faults.add(
                f"expected a column {column}, found {', '.join(columns) or 'nothing'}", where=str(table)
            )
    faults.raise_if_any(DataError)
    if not rows:
        raise DataError(Fault("lists no image", str(table)))
    for number, row in enumerate(rows, start=2):
        if not row["file"]:
            faults.add("expected a file name, found none", where=f"{table}, line {number}")
    _raise_limited(faults)
    return rows


def images_in(path: Path) -> list[Path]:
    """The images in a folder, by name."""
    if not path.is_dir():
        return []
    return sorted(file for file in path.iterdir() if file.suffix.lower() in _SUFFIXES and file.is_file())


def _only_input(input_shapes: Shapes, source: str) -> tuple[str, Sequence[int]]:
    """The name and shape of the network's one input."""
    if len(input_shapes) != 1:
        names = ", ".join(input_shapes) or "none"
        raise DataError(
            Fault(
                f"expected a network of one input, found {len(input_shapes)} ({names})",
                source,
                "give an NPZ with an array for each",
            )
        )
    return next(iter(input_shapes.items()))


def _match_names(arrays: Mapping[str, Pixels], input_shapes: Shapes, source: str, faults: FaultList) -> None:
    for name in input_shapes:
        if name not in arrays:
            faults.add(
                f"expected an array for input {name!r}, found {', '.join(arrays) or 'nothing'}", where=source
            )
    for name in sorted(set(arrays) - set(input_shapes)):
        faults.add(f"unknown array {name!r}", where=source, remedy=f"inputs are {', '.join(input_shapes)}")


def _seed(text: str) -> int:
    if not re.fullmatch(r"[0-9]{1,18}", text):
        raise DataError(
            Fault(f"expected a number as seed, found {text!r}", f"random:{text}", "give random:1")
        )
    return int(text)


def _no_labels(source: str, remedy: str) -> DataError:
    return DataError(Fault("has no labels, which accuracy needs", source, remedy))


@contextmanager
def _gathered(faults: FaultList, where: str) -> Iterator[None]:
    """Put the faults of the block into `faults`, with `where` if they do not say where they are."""
    try:
        yield
    except TilewrightError as error:
        faults.faults.extend(fault if fault.where else replace(fault, where=where) for fault in error.faults)


def _raise_limited(faults: FaultList) -> None:
    """Raise the first twenty faults and the number of the others."""
    surplus = len(faults) - MAX_FAULTS
    if surplus > 0:
        del faults.faults[MAX_FAULTS:]
        faults.add(f"and {surplus} more")
    faults.raise_if_any(DataError)
