"""Boxes: overlap, non-maximum suppression, prior boxes.

Boxes are (N, 4) float64 corners x1, y1, x2, y2 of areas: a pixel in column i covers i..i+1.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import numpy as np
from numpy.typing import NDArray

Boxes = NDArray[np.float64]
Floats = NDArray[np.float64]
Indices = NDArray[np.int64]
Measure = Literal["union", "smaller"]


def areas(boxes: Boxes) -> Floats:
    """Of each box; 0 where corners are in reverse order."""
    sides = np.maximum(boxes[..., 2:] - boxes[..., :2], 0)
    return np.asarray(sides[..., 0] * sides[..., 1])


def overlaps(first: Boxes, second: Boxes, measure: Measure = "union") -> Floats:
    """Intersection of each pair over its union, or over the smaller of the two areas; 0 without area.

    Shapes: (N, 4), (M, 4) -> (N, M), 0..1.
    """
    corners = np.concatenate(
        [
            np.maximum(first[:, None, :2], second[None, :, :2]),
            np.minimum(first[:, None, 2:], second[None, :, 2:]),
        ],
        axis=2,
    )
    common = areas(corners)
    a, b = areas(first)[:, None], areas(second)[None, :]
    whole = a + b - common if measure == "union" else np.minimum(a, b)
    return np.divide(common, whole, out=np.zeros_like(common), where=whole > 0)


def nms(
    boxes: Boxes, scores: Floats, threshold: float, *, limit: int | None = None, measure: Measure = "union"
) -> Indices:
    """Greedy non-maximum suppression: by falling score, among equals by index, keep a box unless it overlaps a kept
    one by more than `threshold`.

    Shapes: (N, 4), (N,) -> (K,) indices by falling score, at most `limit`.
    """
    order = np.argsort(-scores, kind="stable")
    kept: list[int] = []
    while order.size and (limit is None or len(kept) < limit):
        best, order = int(order[0]), order[1:]
        kept.append(best)
        order = order[overlaps(boxes[best : best + 1], boxes[order], measure)[0] <= threshold]
    return np.array(kept, np.int64)


def match(first: Boxes, second: Boxes) -> list[tuple[int, int, float]]:
    """Pairs of boxes and their overlap, the largest first, each box in one pair at most; none without overlap."""
    between = overlaps(first, second)
    found = []
    while between.size and between.max() > 0:
        i, j = np.unravel_index(int(between.argmax()), between.shape)
        found.append((int(i), int(j), float(between[i, j])))
        between[i, :] = between[:, j] = 0
    return found


def squares(boxes: Boxes) -> Boxes:
    """The smallest squares around the same centres."""
    half = (boxes[:, 2:] - boxes[:, :2]).max(axis=1, keepdims=True) / 2
    centres = (boxes[:, :2] + boxes[:, 2:]) / 2
    return np.concatenate([centres - half, centres + half], axis=1)


def prior_boxes(height: int, width: int, table: Sequence[tuple[int, Sequence[float]]]) -> Floats:
    """Square priors of an SSD-like head that are centred in the cells of each map.

    Args:
        height, width: of the network's input, in pixels.
        table: of each map its stride in pixels, and the sides of its priors.

    Shapes: (P, 4), P by map, row, column, side: centre x, centre y, width, height as parts of the input, 0..1. A map
    has ceil(height / stride) rows; centres are (column + 0.5) * stride, as Liu et al., "SSD", ECCV 2016, put them.
    """
    found = []
    for stride, sides in table:
        rows, columns = -(-height // stride), -(-width // stride)
        y, x, side = np.meshgrid(np.arange(rows), np.arange(columns), np.asarray(sides, float), indexing="ij")
        parts = ((x + 0.5) * stride / width, (y + 0.5) * stride / height, side / width, side / height)
        found.append(np.stack(parts, axis=-1).reshape(-1, 4))
    return np.concatenate(found)


def decode_boxes(regression: Floats, priors: Floats, variances: tuple[float, float]) -> Boxes:
    """Boxes of an SSD head: centre = prior centre + v0 l size, size = prior size * exp(v1 l).

    Shapes: (P, 4), (P, 4) of :func:`prior_boxes` -> (P, 4) corners as parts of the input, not clipped.
    """
    centres = priors[:, :2] + variances[0] * regression[:, :2] * priors[:, 2:]
    sizes = priors[:, 2:] * np.exp(variances[1] * regression[:, 2:])
    return np.concatenate([centres - sizes / 2, centres + sizes / 2], axis=1)
