"""Rounding of weights by what it does to the layer's result: the objective of AdaRound, and its minimiser.

Nagel, Amjad, van Baalen, Louizos and Blankevoort, "Up or Down? Adaptive Rounding for Post-Training Quantization", ICML
2020: to round each weight to its nearest integer is not the best; up or down should be chosen such that the mean square
error of the layer's result is smallest, with the inputs that it will have (their asymmetric reconstruction):

    min over q of  E (w x - s q x')^2,    q in {floor(w/s), ceil(w/s)}, within the width

x are the float network's inputs, x' the quantised one's. It is quadratic in q, and the data enters through two
matrices alone, `E x' x'^T` and `E x' x^T`. The authors relax the choice to a sigmoid and descend by gradient; with
these matrices the exact change of the error for each single choice is known, so that each weight in turn is set to its
best value until none changes: no step size, no relaxation, and never worse than the start.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

Doubles = NDArray[np.float64]

SWEEPS = 12
"""Most passes over all weights; few change after the third."""
_BLOCK = 64
# Added to both diagonals, as a part of the mean: directions that the samples hardly show keep their weights.
_DAMPING = 0.01


def damped(gram: Doubles, cross: Doubles) -> tuple[Doubles, Doubles]:
    """Return both matrices with a small multiple of the identity added."""
    size = gram.shape[-1]
    mean = np.trace(gram, axis1=-2, axis2=-1) / size
    added = (_DAMPING * mean + 1e-12)[:, None, None] * np.eye(size)
    return gram + added, cross + added


def error(integers: Doubles, scale: Doubles, weight: Doubles, gram: Doubles, cross: Doubles) -> Doubles:
    """Return the objective of each row, without what does not depend on `integers`; shapes as in `descend`."""
    rounded = integers * scale
    return np.asarray(
        np.einsum("gok,gok->go", rounded @ gram, rounded)
        - 2 * np.einsum("gok,gok->go", weight @ cross.swapaxes(1, 2), rounded)
    )


def bounds(weight: Doubles, scale: Doubles, limit: int) -> tuple[Doubles, Doubles]:
    """Return the smallest and largest integer of each weight: down and up, within -limit..limit."""
    steps = weight / scale
    return np.clip(np.floor(steps), -limit, limit), np.clip(np.ceil(steps), -limit, limit)


def descend(
    start: Doubles,
    scale: Doubles,
    weight: Doubles,
    gram: Doubles,
    cross: Doubles,
    low: Doubles,
    high: Doubles,
) -> Doubles:
    """Return integers with an error at most that of `start`.

    Args:
        start: (groups, rows, terms), integers within `low` and `high`.
        scale: (groups, rows, 1).
        weight: (groups, rows, terms), what the float network has.
        gram: (groups, terms, terms), `E x' x'^T`.
        cross: (groups, terms, terms), `E x' x^T`.
        low, high: (groups, rows, terms), the integers to choose from.
    """
    # Terms in front of rows: a column of weights is contiguous.
    found, lowest, highest = (np.ascontiguousarray(array.swapaxes(1, 2)) for array in (start, low, high))
    steps = scale.swapaxes(1, 2)
    diagonal = np.diagonal(gram, axis1=-2, axis2=-1)[..., None] * steps
    # Half the gradient of each row's error.
    slope = gram @ (found * steps) - cross @ weight.swapaxes(1, 2)
    for _ in range(SWEEPS):
        changed = False
        for first in range(0, found.shape[1], _BLOCK):
            block = slice(first, first + _BLOCK)
            here, local = found[:, block].copy(), slope[:, block].copy()
            curvature, least, most = diagonal[:, block], lowest[:, block], highest[:, block]
            if np.array_equal(_best(here, local, curvature, least, most), here):
                continue
            for k in range(here.shape[1]):
                best = _best(here[:, k], local[:, k], curvature[:, k], least[:, k], most[:, k])
                step = best - here[:, k]
                if step.any():
                    here[:, k] = best
                    moved = (step * steps[:, 0])[:, None, :]
                    local += gram[:, first + k, block, None] * moved
            difference = here - found[:, block]
            if difference.any():
                changed = True
                slope += gram[:, :, block] @ (difference * steps)
                found[:, block] = here
        if not changed:
            break
    return np.ascontiguousarray(found.swapaxes(1, 2))


def _best(found: Doubles, slope: Doubles, curvature: Doubles, low: Doubles, high: Doubles) -> Doubles:
    """Return the integers with the smallest error, each with all others as they are."""
    return np.asarray(np.clip(np.rint(found - slope / curvature), low, high))
