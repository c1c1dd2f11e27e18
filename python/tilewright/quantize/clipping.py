"""Ranges of activations below 8 bits: what is cut off makes the mean square error of the tensor smallest.

With 16 or 4 numbers a range that holds the largest value leaves most others on two or three of them. Banner, Nahshan
and Soudry, "Post training 4-bit quantization of convolutional networks for rapid-deployment", NeurIPS 2019, choose the
cut that makes rounding error plus saturation error smallest, for a Gaussian or Laplace distribution. Here the
distribution is the calibration set's histogram, and both ends are searched, so that nothing is assumed of its form.

The error is that of all tensors with one scale together. Values outside what a tensor's readers can tell apart
(`grouping.py`) count with the end of that range: to saturate them costs nothing.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from tilewright.quantize.affine import SMALLEST_RANGE, Affine, Range, affine_of, quantize_array
from tilewright.quantize.graph import Graph
from tilewright.quantize.observe import open_session, require_finite, run_samples
from tilewright.quantize.samples import Sample

BINS = 2048
# Of a tensor on one sample; larger ones are read with a stride.
_VALUES = 1 << 16
# Ends of the candidate ranges, as parts of the calibrated one.
_STEPS = np.linspace(1.0, 0.02, 50)


@dataclass(frozen=True)
class Histogram:
    """How many values of a tensor lie in each of the equal bins of `span`."""

    span: Range
    counts: NDArray[np.float64]

    def middles(self) -> NDArray[np.float64]:
        """The bins' middles; values of a bin count as that."""
        edges = np.linspace(self.span.low, self.span.high, len(self.counts) + 1)
        return np.asarray((edges[1:] + edges[:-1]) / 2)


Histograms = Mapping[str, Histogram]


def collect_histograms(
    graph: Graph, ranges: Mapping[str, Range], batches: Iterable[list[Sample]]
) -> dict[str, Histogram]:
    """Return the histogram of each tensor of `ranges` over the samples; one that is always zero has none.

    Zeros are not counted: they are exact with every range.

    Raises:
        DataError: an activation is NaN or infinite.
    """
    names = [name for name, span in ranges.items() if span.width > SMALLEST_RANGE]
    counts = {name: np.zeros(BINS) for name in names}
    if not names:
        return {}
    session = open_session(graph.slice_model(names))
    for values in run_samples(session, names, batches):
        require_finite(names, values)
        for name, value in zip(names, values, strict=True):
            some = value.reshape(-1)[:: max(value.size // _VALUES, 1)]
            span = ranges[name]
            counts[name] += np.histogram(some[some != 0], BINS, (span.low, span.high))[0]
    return {name: Histogram(ranges[name], count) for name, count in counts.items()}


def best_affine(members: Iterable[tuple[Histogram, Range]], span: Range, bits: int) -> Affine:
    """Return the parameters with the smallest mean square error, of those for parts of `span`.

    Args:
        members: the histogram of each tensor with this scale, and the range that its readers can tell apart; with
            none, nothing is cut off.
        span: what holds all of these ranges.
        bits: width below 8.
    """
    values, counts = [np.zeros(0)], [np.zeros(0)]
    for histogram, seen in members:
        kept = histogram.counts > 0
        values.append(np.clip(histogram.middles()[kept], seen.low, seen.high))
        counts.append(histogram.counts[kept])
    value, count = np.concatenate(values), np.concatenate(counts)
    if span.width < SMALLEST_RANGE or not count.any():
        return _affine(span, bits)
    if bits == 1 and span.low < 0:
        # The scale with the smallest error is the mean magnitude (Rastegari et al., "XNOR-Net", 2016, section 3.1).
        return Affine(np.float32(np.average(np.abs(value), weights=count)), 0, 1, bipolar=True)
    best, least = _affine(span, bits), np.inf
    for candidate in candidate_ranges(span):
        affine = _affine(candidate, bits)
        error = mean_square_error(affine, value, count)
        if error < least:
            best, least = affine, error
    return best


def _affine(span: Range, bits: int) -> Affine:
    if bits == 1 and span.low < 0:
        return Affine(np.float32(max(-span.low, span.high)), 0, 1, bipolar=True)
    return affine_of(span, bits)


def candidate_ranges(span: Range) -> list[Range]:
    """Return the ranges that are tried, the whole one first."""
    lows = _STEPS * span.low if span.low < 0 else np.zeros(1)
    highs = _STEPS * span.high if span.high > 0 else np.zeros(1)
    return [Range(float(low), float(high)) for low in lows for high in highs]


def mean_square_error(affine: Affine, values: NDArray[np.float64], counts: NDArray[np.float64]) -> float:
    """Return the mean square difference of `values`, each `counts` times, to what their integers stand for."""
    back = (quantize_array(values, affine) - affine.zero_point) * float(affine.scale)
    return float(np.average((values - back) ** 2, weights=counts))
