"""Ranges below 8 bits: the smallest mean square error, against every range by the definition."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.quantize.builders import build, node

from tilewright.quantize.affine import Affine, Range, affine_of
from tilewright.quantize.clipping import (
    BINS,
    Histogram,
    best_affine,
    candidate_ranges,
    collect_histograms,
    mean_square_error,
)
from tilewright.quantize.graph import Graph


def _defined_error(affine: Affine, histogram: Histogram, seen: Range) -> float:
    """The error from all numbers that the integers stand for: each value goes to the nearest one."""
    integers = np.array([-1, 1]) if affine.bipolar else np.arange(2**affine.bits)
    numbers = (integers - affine.zero_point) * float(affine.scale)
    total = 0.0
    for value, count in zip(histogram.middles(), histogram.counts, strict=True):
        kept = min(max(value, seen.low), seen.high)
        total += count * float(np.min((numbers - kept) ** 2))
    return total / float(histogram.counts.sum())


@st.composite
def _histograms(draw: st.DrawFn) -> Histogram:
    low = draw(st.sampled_from([0.0, -0.5, -3.0]))
    high = draw(st.sampled_from([0.0, 1.0, 7.0]))
    counts = draw(st.lists(st.integers(0, 9), min_size=8, max_size=8))
    if low == high == 0.0:
        high = 2.0
    return Histogram(Range(low, high), np.array(counts, np.float64))


@settings(derandomize=True, deadline=None, max_examples=25)
@given(_histograms(), st.sampled_from([1, 2, 4]))
def test_no_candidate_has_a_smaller_error(histogram: Histogram, bits: int) -> None:
    span = histogram.span
    found = best_affine([(histogram, span)], span, bits)
    assert found.bits == bits
    if not histogram.counts.any():
        return
    error = _defined_error(found, histogram, span)
    if found.bipolar:
        others = [Affine(np.float32(scale), 0, 1, bipolar=True) for scale in np.linspace(0.01, 8, 200)]
    else:
        others = [affine_of(item, bits) for item in candidate_ranges(span)[::17]]
    assert all(error <= _defined_error(other, histogram, span) * (1 + 1e-6) + 1e-12 for other in others)


def test_outliers_are_cut_off_and_a_uniform_tensor_keeps_its_range() -> None:
    span = Range(0.0, 100.0)
    counts = np.zeros(1000)
    counts[:20], counts[-1] = 1000, 1
    narrow = best_affine([(Histogram(span, counts), span)], span, 4)
    assert float(narrow.scale) * 15 < 20 and narrow.zero_point == 0
    uniform = best_affine([(Histogram(span, np.ones(1000)), span)], span, 4)
    assert float(uniform.scale) * 15 > 95


def test_values_that_no_reader_can_tell_apart_cost_nothing() -> None:
    """Negative numbers before a Relu, that QuantizeLinear saturates to zero."""
    span, seen = Range(-8.0, 1.0), Range(0.0, 1.0)
    counts = np.zeros(900)
    counts[:800], counts[800:] = 50, 1
    found = best_affine([(Histogram(span, counts), seen)], seen, 4)
    assert found.zero_point == 0 and float(found.scale) * 15 == pytest.approx(1.0, abs=0.1)


def test_error_is_weighted_with_counts() -> None:
    affine = Affine(np.float32(1.0), 0, 2)
    error = mean_square_error(affine, np.array([0.25, 5.0]), np.array([3.0, 1.0]))
    assert error == pytest.approx((3 * 0.0625 + 4.0) / 4)


def test_histograms_count_what_is_not_zero() -> None:
    graph = Graph(build([node("Relu", "x", "y")], {"x": (1, 1, 2, 3)}, ["y"]))
    values = np.array([-1.0, 0.0, 1.0, 2.0, 3.0, 4.0], np.float32).reshape(1, 1, 2, 3)
    ranges = {"x": Range(-1.0, 4.0), "y": Range(0.0, 4.0)}
    found = collect_histograms(graph, ranges, [[{"x": values}], [{"x": values}]])
    assert {name: int(item.counts.sum()) for name, item in found.items()} == {"x": 10, "y": 8}
    assert found["y"].counts[-1] == 2 and found["y"].counts[BINS // 4] == 2
    assert collect_histograms(graph, {"y": Range(0.0, 0.0)}, [[{"x": values}]]) == {}
