"""The steps of post-training quantisation, in order."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping

import numpy as np
import onnx
from numpy.typing import NDArray

from tilewright.errors import UnsupportedModel
from tilewright.quantize.correction import mean_errors
from tilewright.quantize.equalise import equalise, find_pairs
from tilewright.quantize.exact import multiply, short_scales
from tilewright.quantize.graph import Graph
from tilewright.quantize.grouping import make_scheme, quantised_tensors, read_in_float
from tilewright.quantize.options import QuantizeOptions
from tilewright.quantize.qdq import write_qdq
from tilewright.quantize.ranges import calibrate_ranges
from tilewright.quantize.samples import Samples
from tilewright.quantize.units import find_units
from tilewright.quantize.weights import IntegerWeights, float_weights, integer_weights

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
    graph = Graph(model)
    units = find_units(graph)
    if not units:
        found = ", ".join(sorted({node.op_type for node in graph.nodes})) or "none"
        raise UnsupportedModel(f"no operator of the model can be quantised: found {found}")
    samples = Samples(graph, calibration, options.statistics_samples, progress)
    pairs = find_pairs(graph, units) if options.equalise else []
    samples.plan(statistics_passes=bool(pairs) + options.bias_correction)
    if pairs:
        graph = equalise(graph, pairs, samples.batches_of_kept())
        units = find_units(graph)
    tensors = quantised_tensors(units)
    whole = read_in_float(graph, units)
    ranges = calibrate_ranges(graph, tensors, whole, samples.batches_of_all(), options)
    scheme = make_scheme(graph, units, ranges, options)
    if options.exact_sums:
        scheme, factors = short_scales(graph, units, scheme)
        graph = multiply(graph, units, factors)
        units = find_units(graph)
    floats = {unit.head.name: float_weights(graph, unit) for unit in units if unit.kind == "mac"}

    def round_weights() -> dict[str, IntegerWeights]:
        return {
            unit.head.name: integer_weights(
                unit, *floats[unit.head.name], scheme[unit.inputs[0]], scheme[unit.outputs[0]], options
            )
            for unit in units
            if unit.kind == "mac"
        }

    weights = round_weights()
    if options.bias_correction:
        errors = mean_errors(graph, units, scheme, weights, samples.batches_of_kept())
        floats = {name: (weight, bias + errors[name]) for name, (weight, bias) in floats.items()}
        weights = round_weights()
    return write_qdq(graph, units, scheme, weights)
