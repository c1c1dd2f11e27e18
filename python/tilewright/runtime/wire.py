"""What goes over the wire to a board's server and back: a line of JSON, then the elements of arrays. Data only.

The line's `arrays` lists name, type and shape of each array; their elements follow in that order, row-major and
little-endian, with nothing between. An answer's line holds either results or `error` (the error's class) and `faults`.
"""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tilewright import errors
from tilewright.errors import DataError, Fault, TilewrightError
from tilewright.targets.host_ops import HOST_DTYPES

Array = NDArray[Any]
_REMEDY = "install the same version of Tilewright on both machines"


def pack(head: Mapping[str, Any], arrays: Mapping[str, Array] | None = None) -> bytes:
    """A message; `head` is JSON and has no key `arrays`."""
    listed = [[name, a.dtype.name, list(a.shape)] for name, a in (arrays or {}).items()]
    line = json.dumps({**head, "arrays": listed}).encode()
    data = [np.ascontiguousarray(a, a.dtype.newbyteorder("<")).tobytes() for a in (arrays or {}).values()]
    return b"".join([line, b"\n", *data])


def unpack(message: bytes) -> tuple[dict[str, Any], dict[str, Array]]:
    """Head and arrays of a message from anybody. Raises DataError for all that :func:`pack` does not make."""
    line, _, data = message.partition(b"\n")
    try:
        head = json.loads(line)
        listed = [
            (str(name), str(dtype), tuple(int(n) for n in shape)) for name, dtype, shape in head.pop("arrays")
        ]
    except (ValueError, TypeError, KeyError, AttributeError, RecursionError):
        raise DataError(Fault(f"expected a message, found {message[:16]!r}", remedy=_REMEDY)) from None
    arrays: dict[str, Array] = {}
    offset = 0
    for name, dtype, shape in listed:
        if dtype not in HOST_DTYPES or any(n < 0 for n in shape) or name in arrays:
            raise DataError(Fault(f"expected an array, found {dtype} {shape}", f"array {name}", _REMEDY))
        size = math.prod(shape) * np.dtype(dtype).itemsize
        if size > len(data) - offset:
            text = f"expected {size} bytes, found {len(data) - offset}"
            raise DataError(Fault(text, f"array {name}", _REMEDY))
        flat = np.frombuffer(data, np.dtype(dtype).newbyteorder("<"), math.prod(shape), offset)
        arrays[name] = flat.astype(dtype).reshape(shape)
        offset += size
    if offset != len(data):
        raise DataError(Fault(f"{len(data) - offset} bytes belong to no array", remedy=_REMEDY))
    return head, arrays


def pack_error(error: TilewrightError) -> bytes:
    """An answer that :func:`raise_error` raises again."""
    faults = [[f.message, f.where, f.remedy] for f in error.faults]
    return pack({"error": type(error).__name__, "faults": faults})


def raise_error(head: Mapping[str, Any], where: str) -> None:
    """Raise the error that an answer holds, if one: its class and faults, `where` in front of where they are.

    Raises AssertionError for a bug on the other side.
    """
    if "error" not in head:
        return
    kind = getattr(errors, str(head["error"]), None)
    if not (isinstance(kind, type) and issubclass(kind, TilewrightError)):
        raise AssertionError(f"{where} failed: {head['faults']}")
    raise kind(
        *(
            Fault(str(text), f"{where}, {place}" if place else where, str(todo))
            for text, place, todo in head["faults"]
        )
    )
