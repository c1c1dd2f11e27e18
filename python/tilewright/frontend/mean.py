"""Caffe's mean files (`*.binaryproto`): one serialised `BlobProto`, as `compute_image_mean` writes it.

The field numbers are those of BVLC Caffe's `caffe.proto`, message `BlobProto`.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from google.protobuf import descriptor_pb2, descriptor_pool, message_factory
from google.protobuf.message import DecodeError

from tilewright.errors import ConfigError, Fault

_FIELD = descriptor_pb2.FieldDescriptorProto
_LEGACY_SIZES = ("num", "channels", "height", "width")


def _blob_class() -> Any:
    """Build the message class in a pool of its own, so that no other Caffe schema in the process clashes."""
    file = descriptor_pb2.FileDescriptorProto(name="tilewright_mean.proto", package="tilewright.mean")
    shape = file.message_type.add(name="BlobShape")
    shape.field.add(name="dim", number=1, label=_FIELD.LABEL_REPEATED, type=_FIELD.TYPE_INT64)
    blob = file.message_type.add(name="BlobProto")
    for number, name in enumerate(_LEGACY_SIZES, start=1):
        blob.field.add(name=name, number=number, label=_FIELD.LABEL_OPTIONAL, type=_FIELD.TYPE_INT32)
    blob.field.add(name="data", number=5, label=_FIELD.LABEL_REPEATED, type=_FIELD.TYPE_FLOAT)
    blob.field.add(
        name="shape",
        number=7,
        label=_FIELD.LABEL_OPTIONAL,
        type=_FIELD.TYPE_MESSAGE,
        type_name=".tilewright.mean.BlobShape",
    )
    blob.field.add(name="double_data", number=8, label=_FIELD.LABEL_REPEATED, type=_FIELD.TYPE_DOUBLE)
    pool = descriptor_pool.DescriptorPool()
    pool.Add(file)
    return message_factory.GetMessageClass(pool.FindMessageTypeByName("tilewright.mean.BlobProto"))


_BlobProto = _blob_class()


@dataclass(frozen=True)
class MeanMap:
    """A mean for each pixel: `data` holds (C, H, W) float32, little endian, row-major."""

    shape: tuple[int, int, int]
    data: bytes

    @property
    def array(self) -> npt.NDArray[np.float32]:
        """The mean as (C, H, W) float32."""
        return np.frombuffer(self.data, dtype="<f4").reshape(self.shape).astype(np.float32)

    @classmethod
    def of(cls, values: npt.ArrayLike) -> MeanMap:
        """Wrap a (C, H, W) array."""
        array = np.asarray(values, dtype="<f4")
        channels, height, width = array.shape
        return cls((channels, height, width), array.tobytes())


def read_mean(path: str | Path) -> npt.NDArray[np.float32]:
    """Read a mean file.

    Shapes: the result is (C, H, W) float32, in the channel order of the network that it was made for;
    a file that holds one value a channel gives (C, 1, 1).

    Raises:
        ConfigError: the file is missing, is no BlobProto, or its sizes, number of values or values are wrong.
    """
    where = f"mean file {path}"
    try:
        blob = _BlobProto.FromString(Path(path).read_bytes())
    except OSError as error:
        raise ConfigError(Fault(f"cannot be read ({error.strerror or error})", where)) from error
    except DecodeError as error:
        raise ConfigError(Fault("is not a Caffe BlobProto", where, "give a *.binaryproto file")) from error
    with np.errstate(invalid="ignore"):  # a signalling NaN is told below
        values = np.array(blob.data if len(blob.data) else blob.double_data, dtype=np.float64)
    sizes = [int(d) for d in blob.shape.dim] or [int(getattr(blob, name)) for name in _LEGACY_SIZES]
    if len(sizes) == 1:
        sizes += [1, 1]
    while len(sizes) > 3 and sizes[0] in (0, 1):  # `num` is 1, and 0 when it was never set
        sizes = sizes[1:]
    if len(sizes) != 3 or min(sizes) < 1:
        text = "x".join(map(str, sizes))
        raise ConfigError(
            Fault(
                f"expected one mean of channels x height x width, found sizes {text}",
                where,
                "give a *.binaryproto file",
            )
        )
    if values.size != sizes[0] * sizes[1] * sizes[2]:
        raise ConfigError(
            Fault(
                f"expected {sizes[0]}x{sizes[1]}x{sizes[2]} values, found {values.size}",
                where,
                "is it complete?",
            )
        )
    finite = np.abs(values) <= np.finfo(np.float32).max
    if not finite.all():
        raise ConfigError(Fault(f"expected finite values, found {(~finite).sum()} NaN or Inf", where))
    return values.astype(np.float32).reshape(sizes)
