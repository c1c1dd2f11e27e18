"""From an image to a network's input: resize, crop, channel order, mean and standard deviation.

    input = (stored value - mean) / std

Everything works on the stored values, whatever their type: an 8-bit image gives 0..255, and a network that
was trained on 0..1 takes `std=255`. Mean and std are in the network's channel order. The settings are kept
in the package, so the same ones serve calibration, `run` and `evaluate`.
"""

from __future__ import annotations

import base64
import binascii
import json
import math
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, cast, get_args

import numpy as np
import numpy.typing as npt
from PIL import Image

from tilewright.errors import ConfigError, DataError, Fault, FaultList
from tilewright.frontend.mean import MeanMap, read_mean
from tilewright.frontend.pixels import (
    MAX_PIXELS,
    Pixels,
    check_values,
    of_pillow,
    read_image,
    scale_pixels,
    times,
)

Channels = Literal["bgr", "rgb", "gray"]
Float32 = npt.NDArray[np.float32]
ImageLike = Image.Image | Pixels | str | Path

MAX_SIDE = 16384  # of an input, a resize or a crop, in pixels: larger is a slip of the pen
_KEYS = ("resize", "crop", "channels", "mean", "std")
_CHANNEL_COUNT = {"bgr": 3, "rgb": 3, "gray": 1}


Values = float | Sequence[float]
Mean = Values | MeanMap | npt.NDArray[np.generic] | str | Path


@dataclass(frozen=True, init=False)
class Preprocess:
    """How an image becomes a network's input.

    Attributes:
        resize: length of the shorter side in pixels (the longer one in proportion, rounded down), or
            (height, width). Pillow, bilinear, antialiased. None: without `crop` the image is resized to the
            input's size.
        crop: side of the centred square that is cut out after resizing, in pixels.
        channels: what the network takes. None: "rgb" for three input channels, "gray" (ITU-R 601 luma)
            for one.
        mean: subtracted; one value, one a channel, or a map. A map has the input's size, or, if `crop` is
            given, the size of the resized image, and is then cropped like it (as Caffe does).
        std: divides; one value or one a channel.

    A single number serves as `mean` or `std` of all channels; `mean` also takes a (C, H, W) array or the name
    of a `.binaryproto` file. Arrays are taken to be stored as RGB. Orientation tags are not applied
    and an alpha channel is dropped.

    Raises:
        ConfigError: all settings that are wrong, together.
    """

    resize: int | tuple[int, int] | None
    crop: int | None
    channels: Channels | None
    mean: tuple[float, ...] | MeanMap
    std: tuple[float, ...]

    def __init__(
        self,
        resize: int | Sequence[int] | None = None,
        crop: int | None = None,
        channels: Channels | None = None,
        mean: Mean = (0.0,),
        std: Values = (1.0,),
    ) -> None:
        faults = FaultList()
        sides = _as_sizes(resize, faults)
        if crop is not None:
            _check_side(crop, "crop", faults)
        if channels is not None and channels not in get_args(Channels):
            faults.add(f"expected bgr, rgb or gray, found {channels!r}", where="channels")
        averages = _as_mean(mean, faults)
        deviations = _as_values(std, "std", faults)
        if any(v < float(np.finfo(np.float32).tiny) for v in deviations):
            faults.add(f"expected values above 0, found {_comma(deviations)}", where="std")
        if not faults and crop is not None and sides and crop > min(sides):
            faults.add(
                f"{crop} pixels do not fit the resized image, whose shorter side is {min(sides)}",
                where="crop",
                remedy="give a larger resize or a smaller crop",
            )
        faults.raise_if_any(ConfigError)
        scaled = sides[0] if len(sides) == 1 else (sides[0], sides[1]) if sides else None
        settings = (scaled, crop, channels, averages, deviations)
        for name, value in zip(_KEYS, settings, strict=True):
            object.__setattr__(self, name, value)

    @classmethod
    def parse(
        cls,
        *,
        resize: str | None = None,
        crop: str | None = None,
        channels: str | None = None,
        mean: str | None = None,
        std: str | None = None,
    ) -> Preprocess:
        """Make one from the command line's strings: `256` or `120x96`, `227`, `bgr`, `104,117,123` or a
        file name, `58.4,57.1,57.4`.

        Raises:
            ConfigError: all options that are wrong, together.
        """
        faults = FaultList()
        sizes = _parse_sizes(resize, faults) if resize is not None else None
        side: int | None = None
        if crop is not None:
            if crop.strip().isdecimal():
                side = int(crop)
            else:
                faults.add(f"expected a number of pixels such as 227, found {crop!r}", where="crop")
        averages: tuple[float, ...] | MeanMap = (0.0,)
        if mean is not None and _is_mean_file(mean):
            try:
                averages = _from_file(mean)
            except ConfigError as error:
                faults.faults.extend(error.faults)
        elif mean is not None:
            averages = _parse_values(mean, "mean", "or a .binaryproto file", faults) or averages
        deviations = _parse_values(std, "std", "", faults) if std is not None else None
        order = cast("Channels | None", channels.strip().lower() if channels is not None else None)
        try:
            parsed = cls(sizes, side, order, averages, deviations or (1.0,))
        except ConfigError as error:
            faults.faults.extend(error.faults)
        faults.raise_if_any(ConfigError)
        return parsed

    def to_json(self) -> str:
        """The settings as one JSON object, which :meth:`from_json` reads back to an equal value."""
        mean: object = list(self.mean) if isinstance(self.mean, tuple) else _map_to_json(self.mean)
        resize = list(self.resize) if isinstance(self.resize, tuple) else self.resize
        values = {"resize": resize, "crop": self.crop, "channels": self.channels, "mean": mean}
        return json.dumps(values | {"std": list(self.std)})

    @classmethod
    def from_json(cls, text: str) -> Preprocess:
        """Read what :meth:`to_json` wrote.

        Raises:
            ConfigError: it is not such an object; all faults together.
        """
        try:
            values = json.loads(text)
        except (ValueError, RecursionError) as error:
            raise ConfigError(Fault(f"is not JSON ({error})", "preprocessing")) from error
        if not isinstance(values, dict):
            raise ConfigError(Fault(f"expected an object, found {values!r:.60}", "preprocessing"))
        unknown = sorted(set(values) - set(_KEYS))
        if unknown:
            raise ConfigError(
                Fault(
                    f"unknown setting {', '.join(unknown)}", "preprocessing", f"known are {', '.join(_KEYS)}"
                )
            )
        if isinstance(values.get("mean"), dict):
            values["mean"] = _map_from_json(values["mean"])
        return cls(**values)

    @property
    def is_default(self) -> bool:
        """Whether nothing was said."""
        return self == Preprocess()

    def check(self, input_shape: Sequence[int]) -> None:
        """Compare the settings with a network's input.

        Shapes: (1, C, H, W), or anything else for a network that takes no images.

        Raises:
            ConfigError: they can never give that input; all faults together.
        """
        faults = FaultList()
        shape = tuple(input_shape)
        if len(shape) != 4:
            for name in ("resize", "crop", "channels"):
                if getattr(self, name) is not None:
                    faults.add(f"the input has shape {times(shape)} and is no image", where=name)
            if isinstance(self.mean, MeanMap):
                faults.add(f"the input has shape {times(shape)} and is no image", where="mean")
            channels = 1
        else:
            channels = shape[1]
            self._check_sizes(shape[2], shape[3], faults)
            expected = None if self.channels is None else _CHANNEL_COUNT[self.channels]
            if expected not in (None, channels):
                faults.add(
                    f"{self.channels} makes {expected}, the network takes {channels}", where="channels"
                )
        if isinstance(self.mean, MeanMap):
            counts = {"mean": (self.mean.shape[0], {channels})}
        else:
            counts = {"mean": (len(self.mean), {1, channels})}
        counts["std"] = (len(self.std), {1, channels})
        for name, (found, allowed) in counts.items():
            if found not in allowed:
                wanted = " or ".join(str(count) for count in sorted(allowed))
                faults.add(f"expected values for {wanted} channels, found {found}", where=name)
        faults.raise_if_any(ConfigError)

    def _check_sizes(self, height: int, width: int, faults: FaultList) -> None:
        """Add the faults of `resize`, `crop` and a mean map against an input of `height` x `width`."""
        if self.crop is not None and (self.crop, self.crop) != (height, width):
            faults.add(
                f"a crop of {self.crop}x{self.crop} is not the network's input of {height}x{width}",
                where="crop",
                remedy=f"give --crop {height}"
                if height == width
                else f"give --resize {height}x{width} and no crop",
            )
        if self.crop is None and isinstance(self.resize, tuple) and self.resize != (height, width):
            faults.add(
                f"{times(self.resize)} is not the network's input of {height}x{width}",
                where="resize",
                remedy=f"give --resize {height}x{width}, or a --crop",
            )
        if self.crop is None and isinstance(self.resize, int) and self.resize != min(height, width):
            faults.add(
                f"a shorter side of {self.resize} is not that of the network's input of {height}x{width}",
                where="resize",
                remedy=f"add --crop {height}" if height == width else f"give --resize {height}x{width}",
            )
        if isinstance(self.mean, MeanMap) and self.mean.shape[1:] != (height, width):
            rows, columns = self.mean.shape[1:]
            shorter = min(self.resize) if isinstance(self.resize, tuple) else self.resize
            fits = rows >= height and columns >= width and shorter in (None, min(rows, columns))
            if self.crop is None or not fits:
                averages = _comma(self.mean.array.mean(axis=(1, 2), dtype=np.float64).round(3).tolist())
                faults.add(
                    f"the map of {rows}x{columns} fits neither the network's input of {height}x{width} "
                    "nor what is cropped to it",
                    where="mean",
                    remedy=f"give one value a channel: --mean {averages}",
                )

    def final_size(self, height: int, width: int, input_shape: Sequence[int]) -> tuple[int, int]:
        """Size of an image of `height` x `width` after resizing and cropping, for a (1, C, H, W) input.

        Raises:
            DataError: that is not the input's size.
        """
        rows, columns = self._resized(height, width, input_shape)
        if self.crop is not None:
            if self.crop > min(rows, columns):
                raise DataError(
                    Fault(
                        f"expected at least {self.crop}x{self.crop} to crop from, found {rows}x{columns}",
                        remedy="give a --resize",
                    )
                )
            rows = columns = self.crop
        if (rows, columns) != tuple(input_shape[2:]):
            raise DataError(
                Fault(
                    f"expected an image of {times(input_shape[2:])}, found {height}x{width}"
                    + (f", resized to {rows}x{columns}" if (rows, columns) != (height, width) else ""),
                    remedy=f"give --resize {times(input_shape[2:])}, or --resize N and --crop N",
                )
            )
        return rows, columns

    def _resized(self, height: int, width: int, input_shape: Sequence[int]) -> tuple[int, int]:
        """Size after resizing."""
        if self.resize is None:
            return (height, width) if self.crop is not None else (input_shape[2], input_shape[3])
        if isinstance(self.resize, tuple):
            return self.resize
        shorter = min(height, width)
        rows, columns = height * self.resize // shorter, width * self.resize // shorter
        if rows * columns > MAX_PIXELS:
            raise DataError(
                f"an image of {height}x{width} would become {rows}x{columns}: too long for its shorter side"
            )
        return rows, columns

    def apply(self, image: ImageLike, input_shape: Sequence[int]) -> Float32:
        """Turn one image into an input.

        Shapes: a Pillow image, a file name, or an array (H, W, C) or (H, W) of any real type (resized without
        being asked only if it is uint8); the result is (1, C, H, W) float32, where `input_shape` is (1, C, H,
        W). Where the input has another rank, an array of `input_shape[1:]`, and the result has the input's.

        Raises:
            ConfigError: the settings do not fit the input.
            DataError: the image cannot be read or does not fit.
        """
        self.check(input_shape)
        if isinstance(image, str | Path):
            image = read_image(image)
        if len(input_shape) != 4:
            if isinstance(image, Image.Image) or image.shape != tuple(input_shape[1:]):
                found = "an image" if isinstance(image, Image.Image) else f"shape {times(image.shape)}"
                raise DataError(f"expected an array of shape {times(input_shape[1:])}, found {found}")
            return self.normalise(check_values(image), input_shape)
        return self.normalise(self.layout(self.scale(image, input_shape)), input_shape)

    def scale(self, image: Image.Image | Pixels, input_shape: Sequence[int]) -> Pixels:
        """Resize and crop, and choose channels.

        Shapes: a Pillow image, or an array (H, W, C) or (H, W) -> (H, W, C) of stored values, where `input_shape`
        is (1, C, H, W); channels not yet in the network's order.

        Raises:
            DataError: the image does not fit.
        """
        channels = input_shape[1]
        if isinstance(image, Image.Image):
            pixels = of_pillow(image, self.channels or ("gray" if channels == 1 else "rgb"))
        else:
            pixels = self._of_array(check_values(image), channels)
        if pixels.shape[2] != channels:
            raise DataError(f"expected {channels} channels, found {pixels.shape[2]}")
        height, width = pixels.shape[:2]
        not_resized = self.resize is None and self.crop is None and pixels.dtype != np.uint8
        if not_resized and (height, width) != tuple(input_shape[2:]):
            raise DataError(
                Fault(
                    f"expected {pixels.dtype} values of {times(input_shape[2:])}, found {height}x{width}",
                    remedy=f"give --resize {times(input_shape[2:])} if they may be resized",
                )
            )
        rows, columns, top, left = self.window(height, width, input_shape)
        if (rows, columns) != (height, width):
            pixels = scale_pixels(pixels, rows, columns)
        return pixels[top : top + input_shape[2], left : left + input_shape[3]]

    def window(self, height: int, width: int, input_shape: Sequence[int]) -> tuple[int, int, int, int]:
        """Rows and columns of an image of `height` x `width` after resizing, and top and left of the crop there.

        Raises:
            DataError: the image does not fit.
        """
        self.final_size(height, width, input_shape)
        rows, columns = self._resized(height, width, input_shape)
        if self.crop is None:
            return rows, columns, 0, 0
        return rows, columns, (rows - self.crop) // 2, (columns - self.crop) // 2

    def layout(self, pixels: Pixels) -> Pixels:
        """(H, W, C) as stored -> (C, H, W) in the network's channel order."""
        if self.channels == "bgr":
            pixels = pixels[:, :, ::-1]
        return np.ascontiguousarray(pixels.transpose(2, 0, 1))

    def _of_array(self, pixels: Pixels, channels: int) -> Pixels:
        """(H, W, C) from an array (H, W, C) or (H, W); converted only if `channels` was said."""
        if pixels.ndim == 2:
            pixels = pixels[:, :, np.newaxis]
        if pixels.ndim != 3 or min(pixels.shape) < 1:
            raise DataError(
                f"expected an image of shape height x width x channels, found {times(pixels.shape)}"
            )
        count = pixels.shape[2]
        if count == channels:
            return pixels
        if self.channels is None or count not in (1, 3):
            raise DataError(
                Fault(
                    f"expected {channels} channels, found {count} (shape {times(pixels.shape)})",
                    remedy="give --channels to convert between gray and colour" if count in (1, 3) else "",
                )
            )
        if channels == 3:
            return np.repeat(pixels, 3, axis=2)
        if pixels.dtype != np.uint8:
            raise DataError(f"expected uint8 to convert from colour to gray, found {pixels.dtype}")
        return of_pillow(Image.fromarray(np.ascontiguousarray(pixels)), "gray")

    def normalise(self, planes: Pixels, input_shape: Sequence[int]) -> Float32:
        """(stored value - mean) / std.

        Shapes: (C, H, W) in the network's channel order -> (1, C, H, W) float32; other ranks likewise.
        """
        column = (-1,) + (1,) * (planes.ndim - 1)
        if isinstance(self.mean, MeanMap):
            mean = self.mean.array
            rows, columns = input_shape[2:]
            top, left = (mean.shape[1] - rows) // 2, (mean.shape[2] - columns) // 2
            mean = mean[:, top : top + rows, left : left + columns]
        else:
            mean = np.array(self.mean, np.float32).reshape(column)
        std = np.array(self.std, np.float32).reshape(column)
        with np.errstate(over="ignore"):
            values = ((planes.astype(np.float32) - mean) / std).astype(np.float32)
        if not np.isfinite(values).all():
            raise DataError(
                "expected values that float32 can hold after subtracting mean and dividing by std"
            )
        return values[np.newaxis]


def _check_side(side: object, where: str, faults: FaultList) -> None:
    if isinstance(side, bool) or not isinstance(side, int) or not 1 <= side <= MAX_SIDE:
        faults.add(f"expected 1 to {MAX_SIDE} pixels, found {side!r}", where=where)


def _as_sizes(resize: object, faults: FaultList) -> list[int]:
    """Nothing, the length of the shorter side, or height and width."""
    if resize is None:
        return []
    if isinstance(resize, str) or (isinstance(resize, Sequence) and len(resize) != 2):
        faults.add(f"expected a length or (height, width), found {resize!r}", where="resize")
        return []
    sides: list[int] = list(resize) if isinstance(resize, Sequence) else [cast("int", resize)]
    for side in sides:
        _check_side(side, "resize", faults)
    return sides


def _as_values(values: object, where: str, faults: FaultList) -> tuple[float, ...]:
    """One or more finite floats; a single number is a sequence of one."""
    single = isinstance(values, str) or not isinstance(values, Sequence | np.ndarray)
    sequence: list[Any] = [values] if single else list(cast("Sequence[Any]", values))
    try:
        if any(isinstance(v, str | bytes | bool) for v in sequence):
            raise TypeError
        floats = tuple(float(v) for v in sequence)
    except (TypeError, ValueError, OverflowError):
        faults.add(f"expected numbers, found {values!r:.60}", where=where)
        return (1.0,)
    if not floats or not all(math.isfinite(v) and abs(v) <= float(np.finfo(np.float32).max) for v in floats):
        faults.add(f"expected finite numbers, found {_comma(floats) or 'none'}", where=where)
        return (1.0,)
    return floats


def _as_mean(mean: object, faults: FaultList) -> tuple[float, ...] | MeanMap:
    if isinstance(mean, str | Path):
        try:
            return _from_file(mean)
        except ConfigError as error:
            faults.faults.extend(error.faults)
            return (0.0,)
    if isinstance(mean, MeanMap):
        if len(mean.shape) != 3 or min(mean.shape) < 1 or len(mean.data) != 4 * math.prod(mean.shape):
            faults.add(
                f"expected 4 bytes for each of {times(mean.shape)} values, found {len(mean.data)}",
                where="mean",
            )
        elif not np.isfinite(mean.array).all():
            faults.add("expected finite numbers, found NaN or Inf in the map", where="mean")
        return mean
    if isinstance(mean, np.ndarray) and mean.ndim == 3 and mean.dtype.kind in "uif":
        return _as_mean(_squeeze(mean), faults)
    return _as_values(mean, "mean", faults)


def _squeeze(mean: npt.NDArray[np.generic]) -> tuple[float, ...] | MeanMap:
    """One value a channel where (C, H, W) is (C, 1, 1)."""
    return tuple(float(v) for v in mean.ravel()) if mean.shape[1:] == (1, 1) else MeanMap.of(mean)


def _from_file(path: str | Path) -> tuple[float, ...] | MeanMap:
    return _squeeze(read_mean(path))


def _map_to_json(mean: MeanMap) -> dict[str, object]:
    return {"shape": list(mean.shape), "float32": base64.b64encode(mean.data).decode("ascii")}


def _map_from_json(value: dict[str, object]) -> MeanMap:
    shape, data = value.get("shape"), value.get("float32")
    if set(value) == {"shape", "float32"} and isinstance(shape, list) and isinstance(data, str):
        try:
            channels, height, width = (int(side) for side in shape)
            return MeanMap((channels, height, width), base64.b64decode(data, validate=True))
        except (TypeError, ValueError, binascii.Error):
            pass  # the same message as for missing keys
    raise ConfigError(
        Fault("expected a mean map of 'shape' (C, H, W) and 'float32' (base64)", "preprocessing")
    )


def _is_mean_file(text: str) -> bool:
    """Whether `--mean` names a file: one that exists, or a missing one whose name says what it should be."""
    return text.endswith(".binaryproto") or Path(text).is_file()


def _parse_sizes(text: str, faults: FaultList) -> int | tuple[int, int] | None:
    match = re.fullmatch(r"\s*(\d{1,9})(?:x(\d{1,9}))?\s*", text, re.ASCII)
    if match is None:
        faults.add(
            f"expected a length such as 256 or HEIGHTxWIDTH such as 120x96, found {text!r}", where="resize"
        )
        return None
    return int(match[1]) if match[2] is None else (int(match[1]), int(match[2]))


def _parse_values(text: str, where: str, also: str, faults: FaultList) -> tuple[float, ...] | None:
    try:
        return tuple(float(part) for part in text.split(","))
    except ValueError:
        also = f" {also}" if also else ""
        faults.add(f"expected numbers such as 104,117,123{also}, found {text!r}", where=where)
        return None


def _comma(values: Sequence[float]) -> str:
    return ",".join(f"{value:g}" for value in values)
