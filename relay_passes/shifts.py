"""Shifts among the float operators: a depthwise convolution with a one-hot kernel (`frontend/shift_kernel.py`)."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from tilewright.frontend.shift_kernel import displacements


@dataclass(frozen=True, eq=False)
class Move:
    """What a shift does. Shapes: `displacement` (C, 2), (dy, dx) of each channel."""

    displacement: NDArray[np.int64]
    strides: tuple[int, int]

    @property
    def nothing(self) -> bool:
        """Whether no channel moves and no pixel is left out."""
        return self.strides == (1, 1) and not self.displacement.any()


def move_of(weight: NDArray[Any], attrs: Any) -> Move | None:
    """Return what a convolution with these weights (O, I/groups, KH, KW) moves; None where it computes."""
    if attrs.data_layout != "NCHW" or attrs.kernel_layout != "OIHW":
        return None
    pads, dilations = [int(p) for p in attrs.padding], [int(d) for d in attrs.dilation]
    found = displacements(weight, int(attrs.groups), pads, dilations)
    return None if found is None else Move(found, (int(attrs.strides[0]), int(attrs.strides[1])))
