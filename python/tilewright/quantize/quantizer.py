"""The steps of post-training quantisation, in order."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace

import numpy as np
import onnx
from numpy.typing import NDArray

from tilewright.errors import ConfigError, Fault, UnsupportedModel
from tilewright.quantize.adaptive import ADAPTIVE_PASSES, round_adaptively
from tilewright.quantize.affine import Range
from tilewright.quantize.clipping import Histograms, collect_histograms
from tilewright.quantize.correction import mean_errors
from tilewright.quantize.equalise import equalise, find_pairs
from tilewright.quantize.exact import multiply, short_scales
from tilewright.quantize.factors import note_factors
from tilewright.quantize.graph import Graph
from tilewright.quantize.grouping import Scheme, make_scheme, quantised_tensors, read_in_float
from tilewright.quantize.mixed import average_width, by_sensitivity, within_points, within_width
from tilewright.quantize.observe import open_session
from tilewright.quantize.options import QuantizeOptions
from tilewright.quantize.qdq import write_qdq
from tilewright.quantize.ranges import calibrate_ranges
from tilewright.quantize.samples import Samples
from tilewright.quantize.scoring import certainty_lost, is_classifier, run_scores, scores_model
from tilewright.quantize.units import Unit, find_units
from tilewright.quantize.weights import Floats, IntegerWeights, float_weights, integer_weights
from tilewright.quantize.widths import Widths, make_widths

_DEFAULT = QuantizeOptions()


def quantize_onnx(
    model: onnx.ModelProto,
    calibration: Iterable[Mapping[str, NDArray[np.generic]]],
    options: QuantizeOptions = _DEFAULT,
    progress: Callable[[int, int], None] | None = None,
) -> onnx.ModelProto:
    """Return `model` quantised, as QDQ ONNX (opset 21) that ONNX Runtime runs.

    The same model, samples and options give the same bytes.

    Args:
        model: a float model in canonical form; not changed.
        calibration: samples, each a mapping from input name to an array of the input's shape and type; read
        once. options: widths, calibration method and corrections. progress: called after each batch with
        the samples done so far and the number in all passes (0 where
            `calibration` does not tell its length).

    Raises:
        UnsupportedModel: the model is quantised already, is not of opset 21, or has nothing to quantise.
        ModelError: the model contradicts itself or holds weights that are not finite.
        DataError: no samples, samples that do not fit the inputs, or activations that are not finite.
    """
    original = graph = Graph(model)
    units = find_units(graph)
    if not units:
        found = ", ".join(sorted({node.op_type for node in graph.nodes})) or "none"
        raise UnsupportedModel(f"no operator of the model can be quantised: found {found}")
    samples = Samples(graph, calibration, options.statistics_samples, progress)
    pairs = find_pairs(graph, units) if options.equalise else []
    corrects = options.bias_correction and not options.adapts
    passes = bool(pairs) + options.clips + corrects + (ADAPTIVE_PASSES if options.adapts else 0)
    samples.plan(statistics_passes=passes)
    if pairs:
        graph = equalise(graph, pairs, samples.batches_of_kept())
        units = find_units(graph)
    tensors = quantised_tensors(units)
    whole = read_in_float(graph, units)
    ranges = calibrate_ranges(graph, tensors, whole, samples.batches_of_all(), options)
    histograms: Histograms = {}
    if options.clips:
        cut = {name: ranges[name] for name in tensors if name not in whole}
        histograms = collect_histograms(graph, cut, samples.batches_of_kept())
    network = Calibrated(graph, units, ranges, histograms, samples)
    widths: Widths = make_widths(graph, units, options)
    if options.mixed is not None:
        widths = _mixed_widths(network, widths, options)
    rounded = _round(network, widths, options)
    result = rounded.write()
    note_factors(result, original, rounded.graph, tensors, samples.kept)
    return result


def equalise_onnx(
    model: onnx.ModelProto,
    calibration: Iterable[Mapping[str, NDArray[np.generic]]],
    statistics_samples: int = _DEFAULT.statistics_samples,
) -> onnx.ModelProto:
    """Return `model` equalised, the first thing that :func:`quantize_onnx` does; itself where there is nothing to do.

    Args and Raises: as there.
    """
    graph = Graph(model)
    pairs = find_pairs(graph, find_units(graph))
    if not pairs:
        return model
    samples = Samples(graph, calibration, statistics_samples, None)
    return equalise(graph, pairs, samples.batches_of_kept()).model


@dataclass(frozen=True)
class Calibrated:
    """A float network with what its calibration samples tell."""

    graph: Graph
    units: list[Unit]
    ranges: Mapping[str, Range]
    histograms: Histograms
    samples: Samples


@dataclass(frozen=True)
class Rounded:
    """A float network with short scales, and its parameters and constants at some widths."""

    graph: Graph
    units: list[Unit]
    scheme: Scheme
    weights: Mapping[str, IntegerWeights]

    def write(self) -> onnx.ModelProto:
        """Return the quantised model."""
        return write_qdq(self.graph, self.units, self.scheme, self.weights)


def _mixed_widths(network: Calibrated, widths: Widths, options: QuantizeOptions) -> Widths:
    """Return the widths within the budget of mixed precision."""
    assert options.mixed is not None
    graph, units, kept = network.graph, network.units, network.samples.kept
    exact = run_scores(open_session(scores_model(graph.model)), kept)
    if options.mixed.points is not None and not is_classifier(exact):
        raise ConfigError(
            Fault(
                f"mixed points={options.mixed.points:g}: expected a classifier with one output of scores",
                remedy="give mixed width=5 instead, the average width",
            )
        )
    low = _round(network, widths, replace(options, adaptive_rounding=False))
    order = by_sensitivity(low.graph, low.units, widths, low.scheme, low.weights, kept)

    def width_of(trial: Widths) -> float:
        scheme = make_scheme(graph, units, network.ranges, options, trial, {})
        return average_width(graph, units, trial, scheme)

    def points_of(trial: Widths) -> float:
        model = _round(network, trial, options).write()
        return certainty_lost(exact, run_scores(open_session(scores_model(model)), kept))

    if options.mixed.width is not None:
        return within_width(order, widths, options.mixed, width_of)
    return within_points(order, widths, options.mixed, points_of)


def _round(network: Calibrated, widths: Widths, options: QuantizeOptions) -> Rounded:
    """Return the network with the given widths, weights rounded and biases corrected."""
    graph, units, samples = network.graph, network.units, network.samples
    scheme = make_scheme(graph, units, network.ranges, options, widths, network.histograms)
    if options.exact_sums:
        scheme, factors = short_scales(graph, units, scheme)
        graph = multiply(graph, units, factors)
        units = find_units(graph)
    macs = [unit for unit in units if unit.kind == "mac"]
    floats = {unit.head.name: float_weights(graph, unit) for unit in macs}

    def round_weights(values: Mapping[str, tuple[Floats, Floats]]) -> dict[str, IntegerWeights]:
        return {
            unit.head.name: integer_weights(
                unit,
                *values[unit.head.name],
                scheme[unit.inputs[0]],
                scheme[unit.outputs[0]],
                options,
                widths[unit.head.name].weights,
            )
            for unit in macs
        }

    weights = round_weights(floats)
    if options.adapts:
        weights = round_adaptively(graph, units, scheme, weights, floats, widths, samples, options)
    elif options.bias_correction:
        errors = mean_errors(graph, units, scheme, weights, samples.batches_of_kept())
        weights = round_weights(
            {name: (weight, bias + errors[name]) for name, (weight, bias) in floats.items()}
        )
    return Rounded(graph, units, scheme, weights)
