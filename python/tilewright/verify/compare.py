"""What the levels gave, compared layer by layer: a row for each, and what is not as it must be."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np

from tilewright.verify.layers import Array, Layer
from tilewright.verify.result import (
    EQUAL_SHARE,
    EQUAL_SHARE_OF_SIGNS,
    FLOAT,
    GRAPH,
    INTEGER,
    QUANTISED,
    SPARE,
    Cell,
    Difference,
    LevelFault,
    Row,
    noise_histogram,
    snr,
)

Values = dict[str, Array]
"""By name; the first dimension counts the images."""
HOST_TOLERANCE = 1e-4
"""Largest difference between outputs of the package's host part and ONNX Runtime's on the same integers, as a part of
the largest output: float32 has 2^-24, and a softmax or a sum over 1000 classes loses some bits of it."""


@dataclass
class Results:
    """What the levels gave.

    Attributes:
        values: of layers, by level and variable; integers.
        fed: the same on the quantised level's operands, at the graph and the integer level.
        real: of layers at the float level, scaled as the quantised network scales them; by variable.
        fed_real: the same on the numbers that the quantised level's operands stand for.
        outputs: of the network, by level and name.
        host_outputs: those that the package's host part makes of the quantised level's integers.
    """

    values: dict[str, Values] = field(default_factory=dict)
    fed: dict[str, Values] = field(default_factory=dict)
    real: Values = field(default_factory=dict)
    fed_real: Values = field(default_factory=dict)
    outputs: dict[str, Values] = field(default_factory=dict)
    host_outputs: Values = field(default_factory=dict)


def compare(
    results: Results, layers: Sequence[Layer], outputs: Sequence[str], levels: Sequence[str]
) -> tuple[list[Row], list[LevelFault]]:
    """Rows of layers and of outputs, and what is wrong; `levels` below float that ran, from the top."""
    faults: list[LevelFault] = []
    rows = [_row(results, layer, levels, faults) for layer in layers]
    rows += [_output(results, name, levels, faults) for name in outputs]
    return rows, faults


def _row(r: Results, layer: Layer, levels: Sequence[str], faults: list[LevelFault]) -> Row:
    """A layer; what is wrong is added to `faults`."""
    cells: dict[str, Cell] = {}
    real = r.real.get(layer.variable)
    above: Array | None = None
    known: dict[int, float | None] = {}
    lowest: Array | None = None
    for level in levels:
        values = r.values.get(level, {}).get(layer.variable)
        fed = r.fed.get(level, {}).get(layer.variable)
        shown = values if values is not None else fed
        if shown is None:
            continue
        difference: Difference | None = None
        fault = ""
        if level in (GRAPH, INTEGER):
            base = r.fed.get(GRAPH, {}).get(layer.variable) if level == INTEGER else None
            base = base if base is not None else r.values[QUANTISED].get(layer.variable)
            if fed is not None and base is not None:
                difference = Difference.of(fed, base)
                fault = _near(difference, layer.scale.bits if layer.scale is not None else 8)
        elif level != QUANTISED and above is not None:
            difference = Difference.of(shown, above)
            fault = _same(difference)
        ratio, fed_ratio = None, None
        if real is not None and layer.scale is not None:
            if (
                difference is None
                or difference.unequal
                or level in (GRAPH, INTEGER)
                or id(above) not in known
            ):
                known[id(shown)] = snr(real, layer.scale.values(shown))
            else:
                known[id(shown)] = known[id(above)]
            ratio = known[id(shown)]
            lowest = shown
            if level == QUANTISED and layer.variable in r.fed_real:
                expected = layer.scale.clipped(r.fed_real[layer.variable])
                fed_ratio = snr(expected, layer.scale.values(shown))
                fault = _noisy(fed_ratio, min(layer.scale.bits, layer.weight_bits))
        cells[level] = Cell(ratio, fed_ratio, difference, fault)
        if fault:
            faults.append(LevelFault(level, layer.name, fault))
        if level not in (QUANTISED, GRAPH):
            above = shown
    histogram = None
    if real is not None and lowest is not None and layer.scale is not None:
        histogram = noise_histogram(real, layer.scale.values(lowest))
    return Row(layer.name, layer.kind, cells, histogram)


def _output(r: Results, name: str, levels: Sequence[str], faults: list[LevelFault]) -> Row:
    """An output of the network."""
    cells: dict[str, Cell] = {}
    real = r.outputs.get(FLOAT, {}).get(name)
    above: Array | None = None
    lowest: Array | None = None
    for level in levels:
        found = r.outputs.get(level, {}).get(name)
        if found is None:
            continue
        fault = ""
        if level == INTEGER and name in r.host_outputs:
            fault = _close(r.host_outputs[name], r.outputs[QUANTISED].get(name))
        elif above is not None and level != INTEGER and not np.array_equal(found, above, equal_nan=True):
            fault = "differs from the level above"
        ratio = None
        if real is not None and real.shape == found.shape and real.dtype.kind == "f":
            ratio, lowest = snr(real, found), found
        cells[level] = Cell(ratio, None, None, fault)
        if fault:
            faults.append(LevelFault(level, name, fault))
        if level != QUANTISED:
            above = found
    histogram = None if real is None or lowest is None else noise_histogram(real, lowest)
    return Row(name, "output", cells, histogram)


def _near(d: Difference, bits: int) -> str:
    """What a sum next to a half may differ; -1 and +1 are two apart."""
    allowed, share = (2, EQUAL_SHARE_OF_SIGNS) if bits == 1 else (1, EQUAL_SHARE)
    if d.largest > allowed:
        return f"differs by {d.largest} steps at {d.first} on the same operands; {allowed} is allowed"
    if d.unequal > SPARE + (1 - share) * d.elements:
        return f"{d.unequal} of {d.elements} elements are a step apart on the same operands"
    return ""


def _same(d: Difference) -> str:
    if not d.unequal:
        return ""
    return (
        f"{d.unequal} of {d.elements} elements differ from the level above, by up to {d.largest} at {d.first}"
    )


FLOOR_DB = {8: 20.0, 4: 9.0, 2: 3.0}
"""Least signal-to-noise ratio, dB, of a layer against the float layer on the same operands, by the fewest bits of its
weights and results. A scale that is wrong by half leaves 6 dB, by a factor of two 0 dB; what the quantiser makes of
ResNet-20 and the demo has 35, 18 and 6 dB at least. Of 1 bit nothing can be said."""


def _noisy(ratio: float | None, bits: int) -> str:
    floor = next((db for least, db in FLOOR_DB.items() if bits >= least), None)
    if ratio is None or floor is None or ratio >= floor:
        return ""
    return f"{ratio:.1f} dB from the float layer on the same operands; rounding leaves at least {floor:g} dB"


def _close(found: Array, expected: Array | None) -> str:
    """Outputs of two host parts on the same integers."""
    if expected is None:
        return ""
    if found.shape != expected.shape:
        return f"has shape {found.shape}, the quantised level's host part gives {expected.shape}"
    if found.dtype.kind != "f":
        return ""
    apart = float(np.nanmax(np.abs(found.astype(np.float64) - expected), initial=0.0))
    most = float(np.nanmax(np.abs(expected), initial=0.0))
    if apart <= HOST_TOLERANCE * max(most, 1e-30):
        return ""
    return f"the host part gives values up to {apart:.3g} from ONNX Runtime's on the same integers"
