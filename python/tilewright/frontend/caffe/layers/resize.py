"""Interp (DeepLab, PSPNet) and Upsample (YOLO): layers of forks that enlarge maps."""

from __future__ import annotations

from tilewright.frontend.caffe.context import LayerContext, converter


@converter("Interp")
def interp(context: LayerContext) -> None:
    """Bilinear Resize whose corner pixels stay at the corners. Size: height and width, or by shrink and
    zoom.
    """
    param = context.param("interp_param")
    batch, channels, *size = context.image()
    if param.integer("pad_beg") or param.integer("pad_end"):
        raise context.unsupported(
            "pad_beg and pad_end are not supported", "pad or crop in a layer of its own"
        )
    named = [param.integer("height"), param.integer("width")]
    shrink, zoom = param.integer("shrink_factor"), param.integer("zoom_factor")
    if shrink < 1 or zoom < 1:
        raise context.wrong(f"zoom_factor {zoom} and shrink_factor {shrink} have to be 1 or more")
    factors = [(length - 1) // shrink + 1 for length in size]
    out = named if any(named) else [length + (length - 1) * (zoom - 1) for length in factors]
    shape = (batch, channels, *out)
    context.emit(
        "Resize",
        [context.bottoms[0], "", "", context.indices("sizes", shape)],
        shape,
        mode="linear",
        coordinate_transformation_mode="align_corners",
    )


@converter("Upsample")
def upsample(context: LayerContext) -> None:
    """Nearest-neighbour Resize by a whole factor."""
    factor = context.param("upsample_param").integer("scale")
    batch, channels, height, width = context.image()
    shape = (batch, channels, height * factor, width * factor)
    context.emit(
        "Resize",
        [context.bottoms[0], "", context.constant("scales", [1, 1, factor, factor])],
        shape,
        mode="nearest",
        coordinate_transformation_mode="asymmetric",
        nearest_mode="floor",
    )
