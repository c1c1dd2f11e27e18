"""The network's inputs and their shapes: `input:` fields, Input layers, and data layers of training files."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from tilewright.errors import FaultList
from tilewright.frontend.caffe.records import Record
from tilewright.frontend.caffe.weights import FileWeights, Shape, WeightSource

_REMEDY = (
    "replace the layer by an Input layer with a shape, or give the input's shape (--input-shape NAME=1,C,H,W)"
)


Readers = Mapping[str, Record]
"""Blob -> the first Convolution layer that reads it: its weights tell the blob's channels."""


@dataclass(frozen=True)
class InputBlob:
    """An input. `shape` is None where the file does not say it; `reason` and `remedy` say why then.

    `assumed` is a warning for the case that the shape was partly guessed.
    """

    name: str
    shape: Shape | None
    line: int
    reason: str = ""
    remedy: str = _REMEDY
    assumed: str = ""


def declared_inputs(net: Record, faults: FaultList, where: str) -> list[InputBlob]:
    """Inputs of the network's own `input` fields with `input_dim` (four each) or `input_shape`."""
    names, dims = net.words("input"), net.integers("input_dim")
    shapes: list[Shape] = [tuple(s.integers("dim")) for s in net.children("input_shape")]
    if dims and shapes:
        faults.add("the file gives input_dim and input_shape", where=where, remedy="leave one of them out")
        return []
    if dims:
        if len(dims) != 4 * len(names):
            faults.add(
                f"expected {4 * len(names)} input_dim (four for each input), found {len(dims)}",
                where=where,
            )
            return []
        shapes = [tuple(dims[4 * i : 4 * i + 4]) for i in range(len(names))]
    if shapes and len(shapes) not in (1, len(names)):
        faults.add(f"expected {len(names)} input_shape, one for each input, found {len(shapes)}", where=where)
        return []
    if not shapes:
        reason, remedy = "no input_dim and no input_shape", "add input_shape { dim: 1 dim: C dim: H dim: W }"
        return [InputBlob(name, None, net.line, reason, remedy) for name in names]
    return [InputBlob(name, shapes[i if len(shapes) > 1 else 0], net.line) for i, name in enumerate(names)]


def _given_shapes(layer: Record) -> list[Shape]:
    """Shapes that Input, DummyData and MemoryData layers write out."""
    if layer.word("type") == "Input":
        return [tuple(s.integers("dim")) for s in layer.child("input_param").children("shape")]
    if layer.word("type") == "DummyData":
        param = layer.child("dummy_data_param")
        if param.has("shape"):
            return [tuple(s.integers("dim")) for s in param.children("shape")]
        columns = [param.integers(n) for n in ("num", "channels", "height", "width")]
        return [tuple(dims) for dims in zip(*columns, strict=False)]
    param = layer.child("memory_data_param")
    names = ("batch_size", "channels", "height", "width")
    return [tuple(param.integer(n) for n in names)] if all(param.has(n) for n in names) else []


def _written(layer: Record, readers: Readers, source: WeightSource) -> list[InputBlob]:
    shapes, tops = _given_shapes(layer), layer.words("top")
    blobs = []
    for i, top in enumerate(tops):
        several = len(shapes) > 1
        shape = shapes[i if several else 0] if shapes and (not several or i < len(shapes)) else None
        if layer.word("type") == "MemoryData" and i:
            shape = None
        blobs.append(InputBlob(top, shape, layer.line, "the layer gives no shape for it"))
    return blobs


def _channels(layer: Record, readers: Readers, source: WeightSource) -> tuple[int, str]:
    """Channels of a data layer's images, and a warning where nothing in the file says it."""
    transform = layer.child("transform_param")
    image = layer.child("image_data_param")
    if transform.flag("force_gray") or (image.has("is_color") and not image.flag("is_color")):
        return 1, ""
    colour = transform.flag("force_color") or layer.child("data_param").flag("force_encoded_color")
    if colour or layer.word("type") == "ImageData":
        return 3, ""
    if len(transform.numbers("mean_value")) > 1:
        return len(transform.numbers("mean_value")), ""
    top = next(iter(layer.words("top")), "")
    reader = readers.get(top)
    if reader is not None and isinstance(source, FileWeights):
        blobs = source.by_layer.get(reader.word("name"))
        if blobs and blobs[0].ndim == 4:
            group = max(1, reader.child("convolution_param").integer("group"))
            return int(blobs[0].shape[1]) * group, ""
    return 3, f"input {top!r}: the file does not say its channels, 3 are assumed"


def _data(layer: Record, readers: Readers, source: WeightSource) -> list[InputBlob]:
    transform, image = layer.child("transform_param"), layer.child("image_data_param")
    crop = transform.integer("crop_size")
    size = (transform.integer("crop_h") or crop, transform.integer("crop_w") or crop)
    if not all(size):
        size = (image.integer("new_height"), image.integer("new_width"))
    tops = layer.words("top")
    reason = f"a {layer.word('type')} layer reads it from a database, and no crop_size is given"
    blobs = [InputBlob(top, None, layer.line, reason) for top in tops]
    if tops and all(size):
        channels, assumed = _channels(layer, readers, source)
        blobs[0] = InputBlob(tops[0], (1, channels, *size), layer.line, assumed=assumed)
    return blobs


def _unknown(layer: Record, readers: Readers, source: WeightSource) -> list[InputBlob]:
    reason = f"a {layer.word('type')} layer reads it from files"
    return [InputBlob(top, None, layer.line, reason) for top in layer.words("top")]


DATA_TYPES = {
    "Input": _written,
    "DummyData": _written,
    "MemoryData": _written,
    "Data": _data,
    "ImageData": _data,
    "AnnotatedData": _data,
    "HDF5Data": _unknown,
    "WindowData": _data,
}
"""Layer types that become inputs -> what finds their shapes."""


def layer_inputs(layer: Record, readers: Readers, source: WeightSource) -> list[InputBlob]:
    """The inputs that a layer of `DATA_TYPES` stands for, one for each top."""
    return DATA_TYPES[layer.word("type")](layer, readers, source)
