"""Weights: read and write caffemodel files, or draw them at random.

A caffemodel is the network message with the blobs in its layers; often it is the training network. Only names
and blobs are read from it, matched with the prototxt's layers by name, as Caffe does. The schema below holds
the few fields for that, whose numbers are the same in every fork. Blob data is declared as `bytes`: packed
floats and bytes have one wire form, and 500 MB of floats need not become Python objects.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt
from google.protobuf import descriptor_pb2, descriptor_pool, message_factory
from google.protobuf.message import DecodeError, EncodeError

from tilewright.errors import Fault, ModelError
from tilewright.frontend.caffe.text import read_bytes

Array = npt.NDArray[np.float32]
Shape = tuple[int, ...]

MAX_BYTES = (1 << 31) - 1
"""Protobuf's own limit of a message, which also holds for the ONNX model that comes out."""

_FIELDS: dict[str, tuple[tuple[str, int, str], ...]] = {
    "BlobShape": (("dim", 1, "int64*"),),
    "Blob": (
        ("num", 1, "int64"),
        ("channels", 2, "int64"),
        ("height", 3, "int64"),
        ("width", 4, "int64"),
        ("data", 5, "bytes*"),
        ("shape", 7, "BlobShape"),
        ("double_data", 8, "bytes*"),
    ),
    "UnpackedBlob": (("data", 5, "float*"), ("double_data", 8, "double*")),
    "Layer": (("name", 1, "bytes"), ("type", 2, "bytes"), ("blobs", 7, "Blob*")),
    "V0Layer": (("name", 1, "bytes"), ("type", 2, "bytes"), ("blobs", 50, "Blob*")),
    "V1Layer": (("layer", 1, "V0Layer"), ("name", 4, "bytes"), ("type", 5, "int32"), ("blobs", 6, "Blob*")),
    "Net": (("name", 1, "bytes"), ("layers", 2, "V1Layer*"), ("layer", 100, "Layer*")),
}
"""Message -> (field, number in caffe.proto, type); `*` = repeated."""

_LEGACY = ("num", "channels", "height", "width")


def _message_classes() -> dict[str, Any]:
    proto = descriptor_pb2.FieldDescriptorProto
    file = descriptor_pb2.FileDescriptorProto(
        name="weights.proto", package="tilewright.caffe", syntax="proto2"
    )
    for message, fields in _FIELDS.items():
        added = file.message_type.add(name=message)
        for name, number, kind in fields:
            plain = kind.rstrip("*")
            label = proto.LABEL_REPEATED if kind.endswith("*") else proto.LABEL_OPTIONAL
            entry = added.field.add(name=name, number=number, label=label)
            if plain in _FIELDS:
                entry.type, entry.type_name = proto.TYPE_MESSAGE, f".tilewright.caffe.{plain}"
            else:
                entry.type = proto.Type.Value(f"TYPE_{plain.upper()}")
    pool = descriptor_pool.DescriptorPool()
    pool.Add(file)
    return {
        name: message_factory.GetMessageClass(pool.FindMessageTypeByName(f"tilewright.caffe.{name}"))
        for name in _FIELDS
    }


_MESSAGES = _message_classes()


def _blob_array(blob: Any, where: str) -> Array:
    """A blob's values as float32 in its own shape."""
    if blob.HasField("shape"):
        shape = tuple(blob.shape.dim)
    else:
        shape = tuple(getattr(blob, name) for name in _LEGACY)
        shape = () if not any(blob.HasField(name) for name in _LEGACY) else shape
    pieces, width = (blob.data, 4) if blob.data else (blob.double_data, 8)
    raw = b"".join(pieces)
    if len(raw) % width:
        raise ModelError(Fault(f"{len(raw)} bytes of data are no whole number of values", where))
    flat = np.frombuffer(raw, "<f4" if width == 4 else "<f8")
    if not pieces:  # values written one by one, as protobuf allows, fall outside the bytes fields
        plain = _MESSAGES["UnpackedBlob"].FromString(blob.SerializeToString())
        flat = np.array(plain.data or plain.double_data, dtype=np.float64)
    if any(d < 0 for d in shape) or math.prod(shape) != flat.size:
        raise ModelError(
            Fault(
                f"shape {shape} needs {math.prod(shape)} values, found {flat.size}",
                where,
                "the file is damaged",
            )
        )
    with np.errstate(over="ignore"):  # doubles beyond float32 become inf, which the caller reports
        return flat.astype(np.float32, copy=False).reshape(shape)


def read_caffemodel(path: str | Path) -> dict[str, list[Array]]:
    """Read the blobs of a caffemodel (V0, V1 or today's form) by layer name.

    Returns:
        layer name -> its blobs in file order, float32, in the shapes of the file (old files: always four
        dimensions). Layers without blobs are left out; of two layers of one name the first counts.

    Raises:
        ModelError: the file is missing, no caffemodel, damaged, or holds no weights.
    """
    path = Path(path)
    where = str(path)
    data = read_bytes(path, MAX_BYTES, "a caffemodel")
    if data.startswith(b"\x89HDF"):
        raise ModelError(Fault("HDF5 weights are not read", where, "snapshot as BINARYPROTO (.caffemodel)"))
    if data.startswith(b"version https://git-lfs"):
        raise ModelError(
            Fault("this is a Git LFS pointer and not the file", where, "fetch it with `git lfs pull`")
        )
    try:
        net = _MESSAGES["Net"].FromString(data)
    except DecodeError:
        raise ModelError(
            Fault(
                "expected a caffemodel, found bytes that do not decode",
                where,
                "the file is cut short or no caffemodel",
            )
        ) from None
    found: dict[str, list[Array]] = {}
    for old in net.layers:
        entry = old.layer if old.HasField("layer") else old
        _add(found, entry, where)
    for entry in net.layer:
        _add(found, entry, where)
    if not found:
        raise ModelError(Fault("the file holds no weights", where, "give the caffemodel that training wrote"))
    return found


def _add(found: dict[str, list[Array]], entry: Any, where: str) -> None:
    name = entry.name.decode("utf-8", errors="replace")
    if entry.blobs and name not in found:
        found[name] = [
            _blob_array(blob, f"{where}, layer {name!r}, blob {i}") for i, blob in enumerate(entry.blobs)
        ]


def write_caffemodel(
    path: str | Path, blobs: Mapping[str, Sequence[npt.ArrayLike]], *, legacy: bool = False
) -> None:
    """Write blobs by layer name as a caffemodel that Caffe, OpenCV and :func:`read_caffemodel` read.

    Args:
        path: the file to write.
        blobs: layer name -> arrays in Caffe's order; stored as float32.
        legacy: write the V1 form, with shapes of four dimensions (at most four are then allowed).

    Raises:
        ModelError: more than four dimensions with `legacy`, more than 2 GiB, or the file cannot be written.
    """
    net = _MESSAGES["Net"]()
    for name, arrays in blobs.items():
        layer = (net.layers if legacy else net.layer).add(name=name.encode())
        for array in arrays:
            values = np.asarray(array, dtype="<f4")
            blob = layer.blobs.add(data=[values.tobytes()])
            if not legacy:
                blob.shape.dim.extend(values.shape)
                continue
            if values.ndim > 4:
                raise ModelError(
                    Fault(f"shape {values.shape} has more than four dimensions", f"layer {name!r}")
                )
            for field, size in zip(_LEGACY, (1,) * (4 - values.ndim) + values.shape, strict=True):
                setattr(blob, field, size)
    try:
        Path(path).write_bytes(net.SerializeToString())
    except EncodeError:
        raise ModelError(Fault("the weights need more than 2 GiB", str(path))) from None
    except OSError as error:
        raise ModelError(Fault(f"cannot be written: {error}", str(path))) from None


@dataclass(frozen=True)
class BlobSpec:
    """A blob that a layer needs: its role, for random values and messages, and its shape."""

    role: str
    shape: Shape


class WeightSource(Protocol):
    """Where a layer's blobs come from."""

    def blobs(self, layer: str, specs: Sequence[BlobSpec]) -> list[Array] | None:
        """The blobs in the shapes asked for, or None where the source does not know the layer.

        Raises:
            ModelError: blobs do not fit, or hold NaN or Inf.
        """


def _squeezed(shape: Sequence[int]) -> tuple[int, ...]:
    return tuple(d for d in shape if d != 1)


@dataclass(frozen=True)
class FileWeights:
    """Blobs of a caffemodel. A shape may differ from the expected one by dimensions of 1 only (old files)."""

    path: str
    by_layer: Mapping[str, Sequence[Array]]

    def blobs(self, layer: str, specs: Sequence[BlobSpec]) -> list[Array] | None:
        """See :class:`WeightSource`."""
        found = self.by_layer.get(layer)
        if found is None:
            return None
        where = f"layer {layer!r}"
        expected = ", ".join(f"{s.role} {s.shape}" for s in specs)
        if len(found) != len(specs):
            shapes = ", ".join(str(a.shape) for a in found)
            raise ModelError(
                Fault(
                    f"expected {len(specs)} blobs ({expected}), found {len(found)} in {self.path} ({shapes})",
                    where,
                    "the prototxt and the caffemodel are of different networks, or bias_term differs",
                )
            )
        faults = []
        for spec, array in zip(specs, found, strict=True):
            if _squeezed(spec.shape) != _squeezed(array.shape):
                faults.append(
                    Fault(
                        f"expected {spec.role} of shape {spec.shape}, found {array.shape} in {self.path}",
                        where,
                        "the prototxt and the caffemodel are of different networks",
                    )
                )
            elif not np.isfinite(array).all():
                bad = int(np.count_nonzero(~np.isfinite(array)))
                faults.append(
                    Fault(
                        f"{spec.role} holds {bad} values of {array.size} that are NaN or Inf",
                        where,
                        "retrain",
                    )
                )
        if faults:
            raise ModelError(*faults)
        return [a.reshape(s.shape) for s, a in zip(specs, found, strict=True)]
