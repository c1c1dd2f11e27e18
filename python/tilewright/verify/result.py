"""What `verify` found: a row a layer, with a measurement at each level, and the faults in order."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from tilewright.verify.layers import Array

FLOAT, QUANTISED, GRAPH, INTEGER, TILE = "float", "quantised", "graph", "integer", "tile"
STREAMS = {"reference": "reference", "fast": "sim"}
"""Levels that run the stream, and their back ends."""
LEVELS = (FLOAT, QUANTISED, GRAPH, INTEGER, TILE, *STREAMS)
"""All levels but back ends that are named, from the top."""

EQUAL_SHARE = 0.98
"""Least share of equal elements between levels that add up in float32: there a sum next to a half rounds to the other
side. Measured on the networks of `benchmark equality`, it is above 0.999."""
EQUAL_SHARE_OF_SIGNS = 0.9
"""The same for results of 1 bit: of 64 products -1 and +1 every tenth sum is 0, and float32 may leave a little."""
SPARE = 4
"""Elements that may differ however few there are."""


@dataclass(frozen=True)
class Difference:
    """Integers of a layer at a level and at the level above.

    Attributes:
        elements: compared.
        unequal: how many differ.
        largest: largest difference, in steps.
        first: index of the first that differs; None: none does.
    """

    elements: int
    unequal: int
    largest: int
    first: tuple[int, ...] | None

    @staticmethod
    def of(found: Array, expected: Array) -> Difference:
        """Compare arrays of one shape."""
        apart = np.abs(found.astype(np.int64) - expected.astype(np.int64))
        unequal = int(np.count_nonzero(apart))
        first = (
            None
            if unequal == 0
            else tuple(int(i) for i in np.unravel_index(int(apart.argmax() if unequal else 0), apart.shape))
        )
        return Difference(int(apart.size), unequal, int(apart.max(initial=0)), first)


@dataclass(frozen=True)
class Cell:
    """A layer at a level.

    Attributes:
        snr: signal-to-noise ratio against the float level, dB, of the values that the level computes from its own
            values of earlier layers (graph: from the quantised level's); None: there is no float value.
        fed_snr: of the quantised level, against the float layer on the same operands.
        difference: to the level above: on the same operands at graph and integer level, of whole runs below.
        fault: why this is not as it must be; empty: it is.
    """

    snr: float | None = None
    fed_snr: float | None = None
    difference: Difference | None = None
    fault: str = ""


@dataclass(frozen=True)
class Row:
    """A layer, or an output of the network.

    Attributes:
        name, kind: of the layer; kind `output` for outputs.
        cells: by level; levels at which the value cannot be had are left out.
        histogram: counts of the noise against float at the lowest level, and the edges of the bins; None: no float.
    """

    name: str
    kind: str
    cells: Mapping[str, Cell] = field(default_factory=dict)
    histogram: tuple[tuple[int, ...], tuple[float, ...]] | None = None


@dataclass(frozen=True)
class LevelFault:
    """Something wrong at a level.

    Attributes:
        level: where it arose: the level above is right.
        layer: the first at that level; empty where it is not known.
        message: what is wrong.
    """

    level: str
    layer: str
    message: str

    def __str__(self) -> str:
        return (
            f"{self.level}, layer {self.layer}: {self.message}"
            if self.layer
            else f"{self.level}: {self.message}"
        )


@dataclass(frozen=True)
class Verification:
    """All levels of a network on the same input.

    Attributes:
        name, overlay: of the package.
        levels: that ran, from the top.
        images: how many.
        rows: layers in order, then outputs.
        faults: from the highest level down, layers in order; of a level only the first layer is at fault for sure.
        notes: what is worth knowing and no fault.
        seconds: of each level.
    """

    name: str
    overlay: str
    levels: tuple[str, ...]
    images: int
    rows: tuple[Row, ...]
    faults: tuple[LevelFault, ...]
    notes: tuple[str, ...] = ()
    seconds: Mapping[str, float] = field(default_factory=dict)

    @property
    def passed(self) -> bool:
        """Whether every level is as it must be."""
        return not self.faults

    @property
    def first(self) -> LevelFault | None:
        """The first fault of the highest level that has one."""
        return self.faults[0] if self.faults else None

    def to_dict(self) -> dict[str, Any]:
        """As plain values for JSON; ratios of exact values, which are infinite, become null."""
        first = self.first
        return {
            "name": self.name,
            "overlay": self.overlay,
            "images": self.images,
            "passed": self.passed,
            "first": None if first is None else _fault(first),
            "faults": [_fault(f) for f in self.faults],
            "notes": list(self.notes),
            "levels": list(self.levels),
            "seconds": dict(self.seconds),
            "layers": [
                {
                    "name": row.name,
                    "op": row.kind,
                    "levels": {level: _cell(cell) for level, cell in row.cells.items()},
                }
                for row in self.rows
            ],
        }


def _fault(fault: LevelFault) -> dict[str, str]:
    return {"level": fault.level, "layer": fault.layer, "message": fault.message}


def _cell(cell: Cell) -> dict[str, Any]:
    d = cell.difference
    return {
        "snr_db": cell.snr,
        "fed_snr_db": cell.fed_snr,
        "elements": None if d is None else d.elements,
        "unequal": None if d is None else d.unequal,
        "largest_difference": None if d is None else d.largest,
        "fault": cell.fault,
    }


def snr(signal: Array, values: Array) -> float | None:
    """20 log10 of the norms of the signal and of the noise, dB; infinite without noise, None without signal.

    Elements of the signal that are not finite are left out.
    """
    x = signal.astype(np.float64).reshape(-1)
    y = values.astype(np.float64).reshape(-1)
    kept = np.isfinite(x)
    x, y = x[kept], y[kept]
    power, noise = float(x @ x), float((y - x) @ (y - x))
    if not power or not math.isfinite(noise):
        return None
    return math.inf if noise == 0 else 10 * math.log10(power / noise)


BINS = 41
"""Of a histogram."""


def noise_histogram(signal: Array, values: Array) -> tuple[tuple[int, ...], tuple[float, ...]] | None:
    """Counts of values - signal in equal bins around 0, and the bins' edges; None without a finite element."""
    noise = (values.astype(np.float64) - signal.astype(np.float64)).reshape(-1)
    noise = noise[np.isfinite(noise)]
    if not noise.size:
        return None
    most = float(np.abs(noise).max()) or 1.0
    counts, edges = np.histogram(noise, BINS, (-most, most))
    return tuple(int(n) for n in counts), tuple(float(e) for e in edges)
