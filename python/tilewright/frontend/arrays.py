"""Arrays from files, and which of their axes are what."""

from __future__ import annotations

import struct
import tokenize
import zipfile
import zlib
from collections.abc import Sequence
from pathlib import Path
from typing import Literal, get_args

import numpy as np

from tilewright.errors import ConfigError, DataError, Fault
from tilewright.frontend.pixels import Pixels, brief, check_values, times

Layout = Literal["nhwc", "nchw"]

# What NumPy and zipfile raise on damaged files (found by changing single bytes); MemoryError where a head
# claims a huge shape, NotImplementedError and RuntimeError for foreign compression and encryption.
_DAMAGE = (
    OSError,
    ValueError,
    EOFError,
    KeyError,
    TypeError,
    IndexError,
    SyntaxError,
    MemoryError,
    OverflowError,
    NotImplementedError,
    RuntimeError,
    struct.error,
    tokenize.TokenError,
    zipfile.BadZipFile,
    zlib.error,
)
_PICKLED = "holds Python objects, which are never loaded"


def load_npy(path: str | Path) -> Pixels:
    """Read an NPY file. Objects (pickle) are refused.

    Raises:
        DataError: it cannot be read, is damaged or holds objects.
    """
    try:
        with Path(path).open("rb") as file:
            value = np.load(file, allow_pickle=False)
    except _DAMAGE as error:
        raise _unreadable(error, str(path), "an NPY file") from error
    if not isinstance(value, np.ndarray):
        value.close()
        raise DataError(Fault("expected one array, found an NPZ archive", str(path), "name it *.npz"))
    return value


def load_npz(path: str | Path) -> dict[str, Pixels]:
    """Read all arrays of an NPZ file. Objects (pickle) are refused.

    Raises:
        DataError: it cannot be read, is damaged or holds objects.
    """
    try:
        # Opened here, since NumPy leaves the file open when it is damaged.
        with Path(path).open("rb") as file:
            archive = np.load(file, allow_pickle=False)
            if not isinstance(archive, np.ndarray):
                with archive:
                    return {key: archive[key] for key in archive.files}
    except _DAMAGE as error:
        raise _unreadable(error, str(path), "an NPZ file") from error
    raise DataError(Fault("expected an NPZ archive, found one array", str(path), "name it *.npy"))


def _unreadable(error: BaseException, where: str, kind: str) -> DataError:
    if "Object arrays cannot be loaded" in str(error):
        return DataError(Fault(_PICKLED, where, "save it as an array of numbers"))
    if "pickled data" in str(error):  # NumPy takes everything unknown for a pickle
        return DataError(Fault(f"is not {kind}, or {_PICKLED}", where))
    return DataError(Fault(f"cannot be read as {kind} ({brief(error)})", where))


def as_images(
    values: Pixels, input_shape: Sequence[int], layout: str | None, convert: bool, source: str
) -> Pixels:
    """See an array as images.

    Shapes: (N, H, W), (N, H, W, C) or (N, C, H, W) -> (N, H, W, C) for an input (1, C, H, W); (N, ...) as it
    is for an input (1, ...) of another rank. Which one it is follows from the input's size, or else from its
    number of channels; `convert` says that 1 and 3 channels may be converted into each other.

    Raises:
        DataError: no image, NaN or Inf, no such shape, or both layouts fit and `layout` is None.
        ConfigError: `layout` is neither nhwc nor nchw.
    """
    if layout is not None and layout not in get_args(Layout):
        raise ConfigError(Fault(f"expected nhwc or nchw, found {layout!r}", "layout"))
    if values.ndim and not len(values):
        raise DataError(Fault("holds no image", source))
    try:
        check_values(values)
    except DataError as error:
        raise DataError(*(Fault(f.message, source, f.remedy) for f in error.faults)) from error
    if len(input_shape) != 4:
        if values.shape[1:] != tuple(input_shape[1:]) or not values.ndim:
            raise DataError(
                Fault(f"expected Nx{times(input_shape[1:])}, found {times(values.shape)}", source)
            )
        return values
    if values.ndim == 3:
        return values[..., np.newaxis]
    if values.ndim != 4 or min(values.shape) < 1:
        raise DataError(
            Fault(f"expected images of shape NxHxW, NxHxWxC or NxCxHxW, found {times(values.shape)}", source)
        )
    chosen = layout or _layout(values.shape, input_shape, convert, source)
    return values if chosen == "nhwc" else values.transpose(0, 2, 3, 1)


def _layout(shape: Sequence[int], input_shape: Sequence[int], convert: bool, source: str) -> Layout:
    """The one layout that fits: by size and channels, else by channels, else (if allowed) by 1 or 3."""
    channels, height, width = input_shape[1:]
    rules: list[list[Layout]] = [
        _which(shape[1:] == (channels, height, width), shape[1:] == (height, width, channels)),
        _which(shape[1] == channels, shape[3] == channels),
        _which(convert and shape[1] in (1, 3), convert and shape[3] in (1, 3)),
    ]
    fitting: list[Layout] = next((found for found in rules if found), [])
    if len(fitting) == 1:
        return fitting[0]
    wanted = f"{channels} channels of {height}x{width}"
    if fitting:
        raise DataError(
            Fault(
                f"{times(shape)} may be NxCxHxW or NxHxWxC for {wanted}",
                source,
                "say --layout nchw or --layout nhwc",
            )
        )
    raise DataError(
        Fault(
            f"expected {wanted} (NxHxWxC or NxCxHxW), found {times(shape)}",
            source,
            "give --channels to convert between gray and colour" if {1, 3} & {shape[1], shape[3]} else "",
        )
    )


def _which(nchw: bool, nhwc: bool) -> list[Layout]:
    found: list[Layout] = []
    if nchw:
        found.append("nchw")
    if nhwc:
        found.append("nhwc")
    return found
