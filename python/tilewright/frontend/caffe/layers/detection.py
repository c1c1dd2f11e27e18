"""PriorBox and DetectionOutput of the SSD detectors (Liu et al. 2016)."""

from __future__ import annotations

import math

import numpy as np
from onnx import numpy_helper

from tilewright.frontend.caffe.context import LayerContext, converter
from tilewright.frontend.caffe.detection_function import DOMAIN, NAME, detection_function
from tilewright.frontend.caffe.graph import MAX_ELEMENTS
from tilewright.frontend.caffe.records import Record
from tilewright.frontend.caffe.weights import Array

_LOWEST = -3.4028234663852886e38  # -FLT_MAX: no confidence threshold


def _pair(
    context: LayerContext, param: Record, name: str, high: str, wide: str
) -> tuple[float, float] | None:
    """(height, width) from one field or two; None where the file gives neither."""
    one = param.has(name)
    if one and (param.has(high) or param.has(wide)):
        raise context.wrong(f"gives {name} and {high}/{wide}", "leave one of them out")
    if not one and not param.has(high) and not param.has(wide):
        return None
    pair = tuple(float(param.values.get(n, [0])[0]) for n in ((name, name) if one else (high, wide)))
    if min(pair) <= 0:
        raise context.wrong(f"{name} is {pair[0]:g}x{pair[1]:g}: has to be more than 0")
    return pair[0], pair[1]


def _box_sizes(context: LayerContext, param: Record) -> list[tuple[float, float]]:
    """(width, height) in pixels of the boxes at one position: for each minimum size the square, the square
    between minimum and maximum, and one box for each aspect ratio other than 1."""
    low, high = param.numbers("min_size"), param.numbers("max_size")
    if not low or min(low) <= 0:
        raise context.wrong(f"min_size is {low}: give at least one, more than 0")
    if high and (len(high) != len(low) or any(b <= a for a, b in zip(low, high, strict=True))):
        raise context.wrong(f"max_size {high} needs one value above each min_size {low}")
    ratios: list[float] = [1.0]
    for ratio in param.numbers("aspect_ratio"):
        if ratio <= 0:
            raise context.wrong(f"aspect_ratio is {ratio}: has to be more than 0")
        if all(abs(ratio - known) >= 1e-6 for known in ratios):
            ratios += [ratio, 1 / ratio] if param.flag("flip") else [ratio]
    boxes: list[tuple[float, float]] = []
    for i, size in enumerate(low):
        boxes.append((size, size))
        if high:
            between = math.sqrt(size * high[i])
            boxes.append((between, between))
        boxes += [(size * math.sqrt(r), size / math.sqrt(r)) for r in ratios if abs(r - 1) >= 1e-6]
    return boxes


@converter("PriorBox", bottoms=(2, 2))
def prior_box(context: LayerContext) -> None:
    """A constant of shape (1, 2, positions * boxes * 4): corners (xmin, ymin, xmax, ymax) in image widths and
    heights, then their variances. It depends on the two inputs' sizes only."""
    param = context.param("prior_box_param")
    _, _, height, width = context.image(0)
    image_size = _pair(context, param, "img_size", "img_h", "img_w") or context.image(1)[2:]
    step = _pair(context, param, "step", "step_h", "step_w") or (
        image_size[0] / height,
        image_size[1] / width,
    )
    variance = param.numbers("variance") or [0.1]
    if len(variance) not in (1, 4) or min(variance) <= 0:
        raise context.wrong(f"variance is {variance}: give one value or four, more than 0")
    boxes = np.array(_box_sizes(context, param))
    if height * width * boxes.size * 4 > MAX_ELEMENTS:
        raise context.wrong(f"{height * width * len(boxes)} prior boxes are too many")
    offset = param.number("offset")
    y, x = np.meshgrid(
        (np.arange(height) + offset) * step[0], (np.arange(width) + offset) * step[1], indexing="ij"
    )
    centre = np.stack([x, y], axis=-1)[:, :, np.newaxis, :]
    scale = np.array([image_size[1], image_size[0]], dtype=np.float64)
    corners = np.concatenate([(centre - boxes / 2) / scale, (centre + boxes / 2) / scale], axis=-1)
    if param.flag("clip"):
        corners = np.clip(corners, 0.0, 1.0)
    flat = corners.reshape(-1)
    values: Array = np.stack([flat, np.resize(variance, flat.size)]).astype(np.float32)[np.newaxis]
    context.emit("Constant", [], values.shape, value=numpy_helper.from_array(values))


@converter("DetectionOutput", bottoms=(3, 3))
def detection_output(context: LayerContext) -> None:
    """One call of the local function `tilewright.DetectionOutput` (see `detection_function`)."""
    param = context.param("detection_output_param")
    nms = param.child("nms_param")
    classes, background = param.integer("num_classes"), param.integer("background_label_id")
    share = param.flag("share_location")
    if classes < 1 or not -1 <= background < classes or (classes == 1 and background == 0):
        raise context.wrong(
            f"num_classes {classes} and background_label_id {background} leave no class",
            "num_classes counts the background; background_label_id is -1 without one",
        )
    if nms.number("eta") != 1:
        raise context.unsupported(
            f"eta {nms.number('eta'):g} (adaptive suppression) is not supported", "use eta 1"
        )
    top_k, keep, threshold = nms.integer("top_k"), param.integer("keep_top_k"), nms.number("nms_threshold")
    if not 0 <= threshold <= 1:
        raise context.wrong(f"nms_threshold is {threshold:g}: has to be in 0..1")
    if top_k == 0 or top_k < -1 or keep == 0 or keep < -1:
        raise context.wrong(f"top_k {top_k} and keep_top_k {keep} have to be more than 0, or -1 for all")
    location, confidence, prior = (context.shape(i) for i in range(3))
    if len(prior) != 3 or prior[:2] != (1, 2) or prior[2] % 4:
        raise context.wrong(f"expected prior boxes of shape (1, 2, 4 P), found {prior}")
    count = prior[2] // 4
    if location[0] != 1:
        raise context.unsupported(
            f"batch {location[0]}: detection works on one image at a time", "use batch 1"
        )
    for what, shape, expected in (
        ("location", location, count * 4 * (1 if share else classes)),
        ("confidence", confidence, count * classes),
    ):
        if math.prod(shape) != expected:
            raise context.wrong(f"{what} has shape {shape}: {count} prior boxes need {expected} values")
    graph, output = context.graph, context.tops[0]
    graph.functions.setdefault(NAME, detection_function())
    graph.dynamic[output] = (1, 1, f"{context.name}_detections", 7)
    graph.node(
        NAME,
        context.bottoms,
        [output],
        context.name,
        domain=DOMAIN,
        attributes={
            "num_classes": classes,
            "share_location": int(share),
            "background_label_id": background,
            "nms_threshold": threshold,
            "top_k": top_k,
            "keep_top_k": keep,
            "confidence_threshold": param.number("confidence_threshold")
            if param.has("confidence_threshold")
            else _LOWEST,
            "code_type": param.word("code_type"),
            "variance_encoded_in_target": int(param.flag("variance_encoded_in_target")),
        },
    )
