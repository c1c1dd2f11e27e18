"""Adaptive rounding of all layers in order, each with the inputs that the quantised network gives it.

The objective and its minimiser are in `rounding.py`. A layer's inputs in the float and in the quantised network are
found by running both side by side, piece by piece (`walk.py`): layers are rounded in topological order, so that each
makes good, as far as its weights can, for what those before it did. With bias correction on, the mean of the error goes
to the bias, and both matrices are those of the inputs less their means.

Memory and time are bounded: so many samples are used as fit `adaptive_mebibytes`, so many places of a map as
`_PLACES` and `_VALUES` allow over all samples, chosen with a seed. Layers with more than `LARGEST_TERMS` terms in a sum
keep the nearest integers, with corrected biases; so do transposed convolutions and maps that are not two-dimensional,
with their own biases.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
import onnx
from numpy.typing import NDArray

from tilewright.errors import DataError, Fault
from tilewright.quantize.graph import Graph
from tilewright.quantize.grouping import Scheme
from tilewright.quantize.options import WHOLE_BITS, QuantizeOptions
from tilewright.quantize.qdq import write_qdq
from tilewright.quantize.rounding import Doubles, bounds, damped, descend
from tilewright.quantize.samples import Sample, Samples
from tilewright.quantize.units import Unit, attribute
from tilewright.quantize.walk import Values, Walk
from tilewright.quantize.weights import Floats, IntegerWeights, weight_limit
from tilewright.quantize.widths import Widths

FEWEST_SAMPLES = 16
"""With fewer, weights are fitted to the samples and not to the network's task."""
LARGEST_TERMS = 4608
"""Of a layer's sums: 3x3x512. Its matrices take 170 MB each."""
ADAPTIVE_PASSES = 8
"""What it takes, about, in passes over the samples."""
_PLACES = 8192
_VALUES = 1 << 26
_MEBIBYTE = 1 << 20


def round_adaptively(
    graph: Graph,
    units: list[Unit],
    scheme: Scheme,
    weights: Mapping[str, IntegerWeights],
    floats: Mapping[str, tuple[Floats, Floats]],
    widths: Widths,
    calibration: Samples,
    options: QuantizeOptions,
) -> dict[str, IntegerWeights]:
    """Return the constants of all MAC units, those below 8 bits rounded adaptively.

    Args:
        graph: the float network.
        units: all units of it.
        scheme: parameters of its tensors.
        weights: nearest integers, by each MAC unit's first node's name.
        floats: weights and biases of the float network likewise.
        widths: of the operands.
        calibration: of which the kept samples are used.
        options: whether biases are corrected, and limits.

    Raises:
        DataError: fewer samples than `FEWEST_SAMPLES`, or than fit the memory.
    """
    samples = _bounded(graph, units, calibration.kept, options)
    macs = [unit for unit in units if unit.kind == "mac"]
    model = write_qdq(graph, units, scheme, weights)
    by_name = {node.name: node for node in model.graph.node}
    producer = {name: node for node in model.graph.node for name in node.output}
    rounded = Walk(model, samples, [by_name[unit.head.name].input[0] for unit in macs])
    exact = Walk(graph.slice_model([u.head.output[0] for u in macs]), samples, [u.inputs[0] for u in macs])
    result = dict(weights)
    work = ADAPTIVE_PASSES * len(calibration.kept)
    for k, unit in enumerate(macs):
        calibration.report(work * (k + 1) // len(macs) - work * k // len(macs))
        name = unit.head.name
        node = by_name[name]
        inputs, quantised = exact.reach(unit.inputs[0]), rounded.reach(node.input[0])
        layer = Layer.of(graph, unit, floats[name][0].shape)
        if layer is None:
            continue
        source = scheme[unit.inputs[0]]
        found = layer.round(
            weights[name], floats[name], inputs, quantised, widths[name].weights, options.bias_correction
        )
        if not _fits(found, layer, source.amax, options.accumulator_bits):
            continue
        result[name] = found
        for place, value in ((1, found.weight), (2, found.bias)):
            rounded.replace(producer[node.input[place]].input[0], value)
    return result


def _fits(found: IntegerWeights, layer: Layer, amax: int, accumulator_bits: int) -> bool:
    """Return whether no sum leaves the accumulator; scales left room for half a step of each weight, not for one."""
    sums = amax * np.abs(layer.matrix(found.weight.astype(np.float64))).sum(axis=-1).reshape(-1)
    largest = (sums + np.abs(found.bias.astype(np.float64))).max(initial=0.0)
    return bool(largest <= 2.0 ** (accumulator_bits - 1) - 1)


def _bounded(
    graph: Graph, units: list[Unit], samples: Sequence[Sample], options: QuantizeOptions
) -> Sequence[Sample]:
    """Return as many samples as the memory holds."""
    off = "or turn it off: adaptive_rounding=False (--rounding nearest)"
    if len(samples) < FEWEST_SAMPLES:
        raise DataError(
            Fault(
                f"adaptive rounding needs at least {FEWEST_SAMPLES} calibration samples, found {len(samples)}",
                remedy=f"give more samples, {off}",
            )
        )
    each = 2 * _largest_cut(graph, units)  # in both networks
    room = options.adaptive_mebibytes * _MEBIBYTE // max(each, 1)
    if room < FEWEST_SAMPLES:
        needed = -(-FEWEST_SAMPLES * each // _MEBIBYTE)
        raise DataError(
            Fault(
                f"adaptive rounding needs {needed} MiB for {FEWEST_SAMPLES} samples,"
                f" found adaptive_mebibytes={options.adaptive_mebibytes}",
                remedy=f"allow more memory, {off}",
            )
        )
    return samples[:room]


def _largest_cut(graph: Graph, units: list[Unit]) -> int:
    """Return the bytes of the float tensors between units that live at once, at their most."""
    last = {name: k for k, unit in enumerate(units) for name in unit.inputs}
    live: dict[str, int] = {}
    most = 0
    for k, unit in enumerate(units):
        for name in (*unit.inputs, *unit.outputs):
            live[name] = 4 * int(np.prod(graph.shapes[name]))
        most = max(most, sum(live.values()))
        live = {name: size for name, size in live.items() if last.get(name, -1) > k}
    return most


class Layer:
    """A Conv over maps or a Gemm as products of matrices, one for each group of channels."""

    def __init__(self, node: onnx.NodeProto, shape: tuple[int, ...], groups: int) -> None:
        self._node, self._shape, self._groups = node, shape, groups
        self._random = np.random.default_rng(0)

    @staticmethod
    def of(graph: Graph, unit: Unit, shape: tuple[int, ...]) -> Layer | None:
        """Return the layer, or None where it is of another kind."""
        node = unit.head
        groups = attribute(node, "group", 1)
        assert isinstance(groups, int)
        layer = Layer(node, shape, groups)
        two_dimensional = len(graph.shapes[unit.inputs[0]]) == (2 if node.op_type == "Gemm" else 4)
        return layer if node.op_type in ("Conv", "Gemm") and two_dimensional else None

    def matrix(self, weight: Doubles) -> Doubles:
        """Return the weights as (groups, rows, terms)."""
        if self._node.op_type == "Gemm":
            rows: Doubles = weight if attribute(self._node, "transB", 0) else weight.T
            return rows[None]
        return weight.reshape(self._groups, weight.shape[0] // self._groups, -1)

    def _unmatrix(self, rows: Doubles) -> Doubles:
        if self._node.op_type == "Gemm":
            matrix: Doubles = rows[0] if attribute(self._node, "transB", 0) else rows[0].T
            return matrix
        return rows.reshape(self._shape)

    def round(
        self,
        nearest: IntegerWeights,
        floats: tuple[Floats, Floats],
        inputs: Values,
        quantised: Values,
        bits: int,
        correct_bias: bool,
    ) -> IntegerWeights:
        """Return the integers with the smallest error found, and with `correct_bias` the bias for its mean."""
        exact, seen = self.columns(inputs, quantised)
        count = exact.shape[-1]
        exact_mean = exact.mean(axis=-1, dtype=np.float64) if correct_bias else np.zeros(exact.shape[:2])
        seen_mean = seen.mean(axis=-1, dtype=np.float64) if correct_bias else np.zeros(seen.shape[:2])
        weight = self.matrix(floats[0].astype(np.float64))
        scale = np.broadcast_to(
            nearest.scale.astype(np.float64).reshape(self._groups, -1, 1), (*weight.shape[:2], 1)
        )
        integers = self.matrix(nearest.weight.astype(np.float64))
        if 1 < bits < WHOLE_BITS and weight.shape[-1] <= LARGEST_TERMS:
            gram = (seen @ seen.swapaxes(1, 2)).astype(np.float64) / count
            cross = (seen @ exact.swapaxes(1, 2)).astype(np.float64) / count
            gram -= seen_mean[:, :, None] * seen_mean[:, None, :]
            cross -= seen_mean[:, :, None] * exact_mean[:, None, :]
            gram, cross = damped(gram, cross)
            low, high = bounds(weight, scale, weight_limit(bits))
            integers = descend(integers, scale, weight, gram, cross, low, high)
        bias = floats[1].astype(np.float64)
        bias += ((weight @ exact_mean[..., None]) - (integers * scale) @ seen_mean[..., None]).reshape(-1)
        limit = 2.0**31 - 1
        steps = np.clip(np.rint(bias / nearest.bias_scale.astype(np.float64)), -limit, limit)
        return IntegerWeights(
            self._unmatrix(integers).astype(np.int8),
            nearest.scale,
            nearest.axis,
            steps.astype(np.int32),
            nearest.bias_scale,
        )

    def columns(self, first: Values, second: Values) -> tuple[Floats, Floats]:
        """Return what the weights are multiplied with in both networks, at the same places: (groups, terms, count)."""
        if self._node.op_type == "Gemm":
            both = [np.concatenate(values).T[None] for values in (first, second)]
            return both[0].astype(np.float32), both[1].astype(np.float32)
        found: tuple[list[Floats], list[Floats]] = ([], [])
        for pair in zip(first, second, strict=True):
            places = self._places(pair[0].shape[2:], len(first))
            for columns, value in zip(found, pair, strict=True):
                columns.append(self._windows(value[0].astype(np.float32), places))
        return np.concatenate(found[0], axis=-1), np.concatenate(found[1], axis=-1)

    def _places(self, size: tuple[int, ...], samples: int) -> NDArray[np.int64]:
        """Return the upper left corners of some windows of a padded map: (count, 2)."""
        pads = self._attribute("pads", [0, 0, 0, 0])
        spans = [
            d * (k - 1) + 1
            for d, k in zip(self._attribute("dilations", [1, 1]), self._shape[2:], strict=True)
        ]
        steps = self._attribute("strides", [1, 1])
        counts = [(size[k] + pads[k] + pads[k + 2] - spans[k]) // steps[k] + 1 for k in range(2)]
        total, most = counts[0] * counts[1], max(self._most_places() // samples, 1)
        chosen = (
            np.sort(self._random.choice(total, most, replace=False)) if total > most else np.arange(total)
        )
        corners: NDArray[np.int64] = np.stack(np.divmod(chosen, counts[1]), axis=1) * np.array(steps)
        return corners

    def _most_places(self) -> int:
        return min(_PLACES, _VALUES // int(np.prod(self._shape[1:])))

    def _windows(self, value: Floats, places: NDArray[np.int64]) -> Floats:
        pads, (by_row, by_column) = (
            self._attribute("pads", [0, 0, 0, 0]),
            self._attribute("dilations", [1, 1]),
        )
        padded = np.pad(value, ((0, 0), (pads[0], pads[2]), (pads[1], pads[3])))
        rows = places[:, :1] + by_row * np.arange(self._shape[2])
        columns = places[:, 1:] + by_column * np.arange(self._shape[3])
        found = padded[:, rows[:, :, None], columns[:, None, :]]
        return np.ascontiguousarray(found.transpose(0, 2, 3, 1)).reshape(self._groups, -1, len(places))

    def _attribute(self, name: str, default: list[int]) -> list[int]:
        value = attribute(self._node, name, default)
        assert isinstance(value, list)
        return [int(item) for item in value]
