"""Filters of grouped, dilated and transposed convolutions as plain ones."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
from numpy.typing import NDArray

from tilewright.codegen.layers import Geometry
from tilewright.integer import ops


def ungrouped(
    weight: NDArray[np.generic], groups: int
) -> tuple[NDArray[np.integer], NDArray[np.bool_] | None]:
    """Weights (O, I/groups, KH, KW) -> (O, I, KH, KW), and where they are present, (O, I, KW) or None."""
    if groups == 1:
        return weight, None  # type: ignore[return-value]
    outputs, per_group = weight.shape[0] // groups, weight.shape[1]
    full = np.zeros((weight.shape[0], per_group * groups, *weight.shape[2:]), weight.dtype)
    present = np.zeros((*full.shape[:2], full.shape[3]), np.bool_)
    for g in range(groups):
        rows, columns = slice(g * outputs, (g + 1) * outputs), slice(g * per_group, (g + 1) * per_group)
        full[rows, columns] = weight[rows]
        present[rows, columns] = True
    return full, present


def dilated(weight: NDArray[np.generic], dilation: tuple[int, int]) -> NDArray[np.generic]:
    """Weights with the zeros of a dilation written out."""
    if dilation == (1, 1):
        return weight
    kh, kw = ((k - 1) * d + 1 for k, d in zip(weight.shape[2:], dilation, strict=True))
    full = np.zeros((*weight.shape[:2], kh, kw), weight.dtype)
    full[:, :, :: dilation[0], :: dilation[1]] = weight
    return full


def phase_taps(phase: int, padding: int, stride: int, kernel: int) -> tuple[list[int], int]:
    """Taps of a transposed convolution that fall on results phase, phase+stride, .., and the first one's source row.

    Result stride*j + phase takes tap k from source row (stride*j + phase + padding - k) / stride; taps are listed so
    that the source row rises.
    """
    taps = [k for k in range(kernel) if (phase + padding - k) % stride == 0][::-1]
    return taps, (phase + padding - taps[0]) // stride if taps else 0


def transposed_phases(
    op: ops.ConvTranspose2d, kernel: Sequence[int], size: Sequence[int]
) -> Iterator[tuple[Geometry, list[int], list[int]]]:
    """The convolutions that a transposed one amounts to: geometry, tap rows and tap columns of each.

    `kernel` is the dilated filter's size, `size` the result's. There is one for each phase of the result's rows and
    columns by the stride, with every stride-th tap.
    """
    for ay in range(min(op.strides[0], size[0])):
        for ax in range(min(op.strides[1], size[1])):
            taps_y, offset_y = phase_taps(ay, op.padding[0], op.strides[0], kernel[0])
            taps_x, offset_x = phase_taps(ax, op.padding[1], op.strides[1], kernel[1])
            geometry = Geometry(
                kernel=(max(len(taps_y), 1), max(len(taps_x), 1)),
                offset=(offset_y, offset_x),
                count=(-(-(size[0] - ay) // op.strides[0]), -(-(size[1] - ax) // op.strides[1])),
                first=(ay, ax),
                step=op.strides,
            )
            yield geometry, taps_y, taps_x
