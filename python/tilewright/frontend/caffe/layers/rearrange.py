"""Layers that move elements without changing them."""

from __future__ import annotations

import itertools
import math

from tilewright.frontend.caffe.context import MANY, LayerContext, converter
from tilewright.frontend.caffe.records import Record
from tilewright.frontend.caffe.weights import Shape


def _old_axis(context: LayerContext, param: Record, old: str) -> int:
    """`axis`, or its old name, which does not count from the end."""
    if param.has(old) and param.has("axis"):
        raise context.wrong(f"gives axis and {old}", "leave one of them out")
    return context.axis(param.integer(old if param.has(old) else "axis"), len(context.shape()))


def _reshape(context: LayerContext, shape: Shape) -> None:
    context.emit("Reshape", [context.bottoms[0], context.indices("shape", shape)], shape)


@converter("Concat", bottoms=(1, MANY))
def concat(context: LayerContext) -> None:
    """Concat along axis (old: concat_dim)."""
    first = context.shape()
    axis = _old_axis(context, context.param("concat_param"), "concat_dim")
    total = 0
    for i in range(len(context.bottoms)):
        shape = context.shape(i)
        if len(shape) != len(first) or any(
            a != b for j, (a, b) in enumerate(zip(first, shape, strict=True)) if j != axis
        ):
            raise context.wrong(f"shapes {first} and {shape} (bottom {i}) differ outside of axis {axis}")
        total += shape[axis]
    context.emit("Concat", context.bottoms, (*first[:axis], total, *first[axis + 1 :]), axis=axis)


@converter("Slice", tops=(1, MANY))
def slice_(context: LayerContext) -> None:
    """Split at slice_point, or in equal parts, along axis (old: slice_dim)."""
    param = context.param("slice_param")
    shape, parts = context.shape(), len(context.tops)
    axis, points = _old_axis(context, param, "slice_dim"), param.integers("slice_point")
    if not points:
        if shape[axis] % parts:
            raise context.wrong(f"{shape[axis]} values along axis {axis} do not make {parts} equal parts")
        points = [shape[axis] // parts * i for i in range(1, parts)]
    if len(points) != parts - 1:
        raise context.wrong(f"{len(points)} slice points for {parts} tops: has to be {parts - 1}")
    edges = [0, *points, shape[axis]]
    sizes = [high - low for low, high in itertools.pairwise(edges)]
    if min(sizes) < 1:
        raise context.wrong(f"slice points {points} do not rise inside of 0..{shape[axis]}")
    for top, size in zip(context.tops, sizes, strict=True):
        context.graph.shapes[top] = (*shape[:axis], size, *shape[axis + 1 :])
    context.graph.node(
        "Split",
        [context.bottoms[0], context.indices("sizes", sizes)],
        context.tops,
        context.name,
        attributes={"axis": axis},
    )


@converter("Flatten")
def flatten(context: LayerContext) -> None:
    """Join the axes from `axis` to `end_axis` (inclusive)."""
    param = context.param("flatten_param")
    shape = context.shape()
    first = context.axis(param.integer("axis"), len(shape))
    last = context.axis(param.integer("end_axis"), len(shape), "end_axis")
    if last < first:
        raise context.wrong(f"end_axis {last} comes before axis {first}")
    result = (*shape[:first], math.prod(shape[first : last + 1]), *shape[last + 1 :])
    if first == 1 and len(result) == 2:
        context.emit("Flatten", context.bottoms, result, axis=1)
    else:
        _reshape(context, result)


@converter("Reshape")
def reshape(context: LayerContext) -> None:
    """Replace the axes [axis, axis + num_axes) by `shape`: 0 keeps a size, one -1 is worked out."""
    param = context.param("reshape_param")
    shape = context.shape()
    dims = param.child("shape").integers("dim")
    start = context.axis(param.integer("axis"), len(shape), end=True)
    count = param.integer("num_axes")
    end = len(shape) if count == -1 else start + count
    if count < -1 or end > len(shape):
        raise context.wrong(f"num_axes {count} from axis {start} goes beyond an input of shape {shape}")
    middle: list[int] = []
    for i, dim in enumerate(dims):
        if dim == 0 and start + i >= len(shape):
            raise context.wrong(
                f"dim {i} is 0 (keep), but the input of shape {shape} has no axis {start + i}"
            )
        # The file's own batch size, written out, follows the batch that the model is made for.
        batch = start + i == 0 and dim == context.file_batch > 1
        middle.append(shape[start + i] if dim == 0 or batch else dim)
    result = [*shape[:start], *middle, *shape[end:]]
    free = [i for i, dim in enumerate(result) if dim == -1]
    known = math.prod(dim for dim in result if dim != -1)
    total = math.prod(shape)
    if len(free) > 1 or any(dim < -1 for dim in result) or known < 1:
        raise context.wrong(f"dims {dims} need sizes of 1 or more, 0, and at most one -1")
    if free:
        result[free[0]] = total // known
    if math.prod(result) != total:
        raise context.wrong(
            f"dims {dims} hold {known} values or a multiple, the input of shape {shape} has {total}"
        )
    _reshape(context, tuple(result))


@converter("Permute")
def permute(context: LayerContext) -> None:
    """Transpose; axes that `order` leaves out follow in their order (SSD)."""
    shape = context.shape()
    order = context.param("permute_param").integers("order")
    if len(set(order)) != len(order) or any(axis >= len(shape) for axis in order):
        raise context.wrong(f"order {order} is no order of the axes of shape {shape}")
    order += [axis for axis in range(len(shape)) if axis not in order]
    context.emit("Transpose", context.bottoms, [shape[axis] for axis in order], perm=order)


@converter("ShuffleChannel")
def shuffle_channel(context: LayerContext) -> None:
    """Channels seen as (group, C / group), transposed (ShuffleNet, Zhang et al. 2017)."""
    group = context.param("shuffle_channel_param").integer("group")
    batch, channels, height, width = context.image()
    if group < 1 or channels % group:
        raise context.wrong(f"group {group} does not divide {channels} channels")
    split = (batch, group, channels // group, height, width)
    swapped = (batch, channels // group, group, height, width)
    parts = context.emit("Reshape", [context.bottoms[0], context.indices("groups", split)], split, "split")
    mixed = context.emit("Transpose", [parts], swapped, "transpose", perm=(0, 2, 1, 3, 4))
    result = context.shape()
    context.emit("Reshape", [mixed, context.indices("shape", result)], result)


@converter("Crop", bottoms=(2, 2))
def crop(context: LayerContext) -> None:
    """Cut the first input to the second's size from `axis` on (default 2), starting at `offset` (default
    0).
    """
    param = context.param("crop_param")
    shape, reference = context.shape(), context.shape(1)
    axis, offsets = context.axis(param.integer("axis"), len(shape)), param.integers("offset")
    axes = list(range(axis, len(shape)))
    if len(reference) != len(shape):
        raise context.wrong(f"shapes {shape} and {reference} differ in the number of dimensions")
    if len(offsets) not in (0, 1, len(axes)):
        raise context.wrong(
            f"{len(offsets)} offsets for {len(axes)} cropped axes: give none, one, or one each"
        )
    starts = offsets if len(offsets) == len(axes) else (offsets or [0]) * len(axes)
    ends = [start + reference[a] for start, a in zip(starts, axes, strict=True)]
    for a, end in zip(axes, ends, strict=True):
        if end > shape[a]:
            raise context.wrong(
                f"axis {a}: the crop ends at {end}, the input has {shape[a]} (of shape {shape})"
            )
    parts = (("starts", starts), ("ends", ends), ("axes", axes))
    operands = [context.indices(part, values) for part, values in parts]
    context.emit("Slice", [context.bottoms[0], *operands], (*shape[:axis], *reference[axis:]))


@converter("Tile")
def tile(context: LayerContext) -> None:
    """Repeat along one axis."""
    param = context.param("tile_param")
    shape, tiles = context.shape(), param.integer("tiles")
    axis = context.axis(param.integer("axis"), len(shape))
    if tiles < 1:
        raise context.wrong(f"tiles is {tiles}: has to be 1 or more")
    repeats = context.indices("repeats", [tiles if i == axis else 1 for i in range(len(shape))])
    context.emit(
        "Tile", [context.bottoms[0], repeats], (*shape[:axis], shape[axis] * tiles, *shape[axis + 1 :])
    )
