"""Cross-layer equalisation: rescale channels between two operators so that each uses its tensor's range.

After Nagel, van Baalen, Blankevoort and Welling, "Data-Free Quantization Through Weight Equalization and Bias
Correction", ICCV 2019, section 4.1: for f(s x) = s f(x), s > 0, the network is unchanged when channel c of
the first operator is divided by s[c] and the second's weights for input channel c are multiplied by it.
They choose s from weight ranges, for weights with one scale a tensor. Here weights have a scale for each
output channel, so the first operator's ranges are free; what matters is the range of each channel of the
tensor between, measured on the calibration set, against the second operator's columns. Where that is
depthwise, its columns have scales of their own as well, and every channel is given the full range.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import numpy_helper

from tilewright.quantize.affine import SMALLEST_RANGE
from tilewright.quantize.graph import Graph
from tilewright.quantize.observe import open_session, require_finite, run_samples, watch_channels
from tilewright.quantize.samples import Sample
from tilewright.quantize.units import Unit, attribute

# f(s x) = s f(x) for s > 0.
_HOMOGENEOUS = frozenset({"Relu", "LeakyRelu", "PRelu"})
# Act on each channel alone and commute with its scale.
_PER_CHANNEL_UNITS = frozenset({"MaxPool", "AveragePool", "GlobalAveragePool"})
# Limits of a factor: a channel that calibration hardly saw must not be blown up.
_SMALLEST_FACTOR, _LARGEST_FACTOR = 2.0**-5, 2.0**5


@dataclass(frozen=True)
class Pair:
    """Two MAC units with the tensor between them, read by nothing else.

    Attributes:
        first: the unit whose output channels are divided.
        second: the unit whose input channels are multiplied.
        tensor: the first unit's output.
    """

    first: Unit
    second: Unit
    tensor: str

    @property
    def second_is_depthwise(self) -> bool:
        """Whether each input channel of `second` meets its own output channels only."""
        return attribute(self.second.head, "group", 1) != 1


def find_pairs(graph: Graph, units: list[Unit]) -> list[Pair]:
    """Return the pairs that can be equalised, in topological order."""
    by_input: dict[str, list[Unit]] = {}
    for unit in units:
        for name in unit.inputs:
            by_input.setdefault(name, []).append(unit)
    shared = _shared_constants(graph)
    pairs = []
    for first in units:
        if first.kind != "mac" or any(node.op_type not in _HOMOGENEOUS for node in first.nodes[1:]):
            continue
        tensor = name = first.outputs[0]
        second = _only_reader(graph, by_input, name)
        while second is not None and second.head.op_type in _PER_CHANNEL_UNITS:
            name = second.outputs[0]
            second = _only_reader(graph, by_input, name)
        if second is None or second.kind != "mac" or second.head.op_type == "ConvTranspose":
            continue
        weights = {*first.head.input[1:], second.head.input[1]}
        depthwise = any(attribute(unit.head, "group", 1) != 1 for unit in (first, second))
        # Between dense layers it gains nothing at 8 bits (README).
        if depthwise and not weights & shared and _columns_match(graph, first, second, tensor):
            pairs.append(Pair(first, second, tensor))
    return pairs


def _shared_constants(graph: Graph) -> set[str]:
    return {name for name in graph.initializers if len(graph.consumers.get(name, [])) > 1}


def _only_reader(graph: Graph, by_input: dict[str, list[Unit]], name: str) -> Unit | None:
    readers = by_input.get(name, [])
    return readers[0] if len(readers) == 1 and graph.only_consumer(name) is not None else None


def _columns_match(graph: Graph, first: Unit, second: Unit, tensor: str) -> bool:
    """Return whether the second operator's input channels are the first one's output channels, one to one."""
    channels = graph.shapes[tensor][1] if len(graph.shapes[tensor]) > 1 else 0
    groups = attribute(second.head, "group", 1)
    first_ok = first.head.op_type != "ConvTranspose" or attribute(first.head, "group", 1) == 1
    if second.head.op_type == "Gemm":
        weight = graph.initializers[second.head.input[1]]
        return first_ok and weight.dims[1 if attribute(second.head, "transB", 0) else 0] == channels
    # Grouped but not depthwise: the columns' scales are neither free nor one for all; left alone.
    return first_ok and groups in (1, channels)


def equalise(graph: Graph, pairs: list[Pair], batches: Iterable[list[Sample]]) -> Graph:
    """Return the graph with rescaled weights; its function is the same but for float rounding."""
    model = graph.slice_model([pair.tensor for pair in pairs])
    model.graph.ClearField("output")
    tensors = [pair.tensor for pair in pairs]
    rank = {name: len(graph.shapes[name]) for name in tensors}
    names = watch_channels(model, tensors, rank, "ReduceMax") + watch_channels(
        model, tensors, rank, "ReduceMin"
    )
    means = watch_channels(model, tensors, rank, "ReduceMean")
    largest: list[NDArray[np.float32]] | None = None
    for values in run_samples(open_session(model), names + means, batches):
        require_finite(tensors, values[len(names) :])
        magnitudes = [np.abs(value) for value in values[: len(names)]]
        largest = magnitudes if largest is None else list(map(np.maximum, largest, magnitudes))
    assert largest is not None, "the calibration set was checked to hold samples"
    ranges = {
        name: np.maximum(high, low).astype(np.float64)
        for name, high, low in zip(tensors, largest[: len(pairs)], largest[len(pairs) :], strict=True)
    }
    result = onnx.ModelProto()
    result.CopyFrom(graph.model)
    constants = {item.name: item for item in result.graph.initializer}
    for pair in pairs:
        _apply(constants, pair, _factors(constants, pair, ranges[pair.tensor]))
    return Graph(result)


def _array(item: onnx.TensorProto) -> NDArray[np.float64]:
    return np.asarray(numpy_helper.to_array(item), np.float64)


def _columns(weight: NDArray[np.float64], unit: Unit) -> NDArray[np.float64]:
    """Return a view of the weights with the input channels (of a depthwise unit: all channels) in front."""
    if unit.head.op_type == "Gemm":
        return weight.T if attribute(unit.head, "transB", 0) else weight
    return weight if attribute(unit.head, "group", 1) != 1 else weight.swapaxes(0, 1)


def _factors(
    constants: dict[str, onnx.TensorProto], pair: Pair, ranges: NDArray[np.float64]
) -> NDArray[np.float64]:
    """Return s: channel c of the first operator is to be divided by it."""
    alive = ranges > SMALLEST_RANGE
    if pair.second_is_depthwise:
        wanted = np.where(alive, ranges, 1.0)
    else:
        columns = _columns(_array(constants[pair.second.head.input[1]]), pair.second)
        reach = np.abs(columns).reshape(len(columns), -1).max(axis=1)
        alive &= reach > SMALLEST_RANGE
        # sqrt(range * reach) / reach makes range and reach of each channel equal, equation 11 of the paper.
        wanted = np.sqrt(np.where(alive, ranges, 1.0) / np.where(alive, reach, 1.0))
    if not alive.any():
        return np.ones_like(ranges)
    # The common factor is immaterial: keep the largest range of the tensor as it is.
    wanted = wanted * ((np.where(alive, ranges, 0.0) / wanted).max() / ranges.max())
    return np.where(alive, np.clip(wanted, _SMALLEST_FACTOR, _LARGEST_FACTOR), 1.0)


def _apply(constants: dict[str, onnx.TensorProto], pair: Pair, factors: NDArray[np.float64]) -> None:
    first, second = pair.first.head, pair.second.head
    weight = _array(constants[first.input[1]])
    rows = {
        "Conv": weight,
        "ConvTranspose": weight.swapaxes(0, 1),
        "Gemm": weight if attribute(first, "transB", 0) else weight.T,
    }[first.op_type]
    rows /= factors.reshape(-1, *[1] * (rows.ndim - 1))
    _store(constants, first.input[1], weight)
    if len(first.input) > 2 and first.input[2]:
        bias = _array(constants[first.input[2]])
        _store(constants, first.input[2], bias / factors)
    weight = _array(constants[second.input[1]])
    columns = _columns(weight, pair.second)
    columns *= factors.repeat(len(columns) // len(factors)).reshape(-1, *[1] * (columns.ndim - 1))
    _store(constants, second.input[1], weight)


def _store(constants: dict[str, onnx.TensorProto], name: str, value: NDArray[np.float64]) -> None:
    constants[name].CopyFrom(numpy_helper.from_array(np.ascontiguousarray(value, np.float32), name))
