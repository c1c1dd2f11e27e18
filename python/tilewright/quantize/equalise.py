"""Cross-layer equalisation: rescale channels between two operators so that each uses its tensor's range.

After Nagel, van Baalen, Blankevoort and Welling, "Data-Free Quantization Through Weight Equalization and Bias
Correction", ICCV 2019, section 4.1: for f(s x) = s f(x), s > 0, the network is unchanged when channel c of
the first operator is divided by s[c] and the second's weights for input channel c are multiplied by it.
They choose s from weight ranges, for weights with one scale a tensor. Here weights have a scale for each
output channel, so that the first operator loses nothing; what matters is the range of each channel of the
tensor between, measured on the calibration set. Where only depthwise operators read it, their weights have
scales of their own too, and every channel is given the full range, `s = range / widest`. A dense reader must
represent columns of different size, so it meets the tensor half-way: `s = sqrt(range / widest)`, which measured
better than both ends and than the paper's balance with the columns' ranges (README). What a concat of channels joins
is one tensor here: its widest channel is the measure for all its parts.
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
# A channel that calibration hardly saw must not be blown up without limit.
_SMALLEST_FACTOR = 2.0**-5


@dataclass(frozen=True)
class Pair:
    """A MAC unit with those that read its output, through pooling or not; nothing else reads it.

    Attributes:
        first: the unit whose output channels are divided.
        readers: the units whose input channels are multiplied, with the number of their first channel that is the
            first unit's.
        tensor: the first unit's output.
        joined: the concat that it is part of, with its range, or the tensor itself.
    """

    first: Unit
    readers: tuple[tuple[Unit, int], ...]
    tensor: str
    joined: str


def find_pairs(graph: Graph, units: list[Unit]) -> list[Pair]:
    """Return the pairs that can be equalised, in topological order."""
    by_input: dict[str, list[Unit]] = {}
    for unit in units:
        for name in unit.inputs:
            by_input.setdefault(name, []).append(unit)
    shared = {name for name in graph.initializers if len(graph.consumers.get(name, [])) > 1}
    pairs = []
    for first in units:
        if first.kind != "mac" or any(node.op_type not in _HOMOGENEOUS for node in first.nodes[1:]):
            continue
        readers = _mac_readers(graph, by_input, first.outputs[0])
        weights = {*first.head.input[1:], *(reader.head.input[1] for reader, _ in readers)}
        if readers and not weights & shared and _columns_match(graph, first, readers):
            tensor = first.outputs[0]
            concats = [unit.outputs[0] for unit in by_input[tensor] if unit.kind == "concat"]
            pairs.append(Pair(first, readers, tensor, next(iter(concats), tensor)))
    return pairs


def _mac_readers(
    graph: Graph, by_input: dict[str, list[Unit]], name: str, start: int = 0
) -> tuple[tuple[Unit, int], ...]:
    """Return the MAC units that read `name`, channels from `start` on, or none where anything else does."""
    units = by_input.get(name, [])
    if name in graph.outputs or len(units) != len(graph.consumers.get(name, [])):
        return ()
    found: list[tuple[Unit, int]] = []
    for unit in units:
        place = _place_in_concat(graph, unit, name)
        shift = unit.kind == "move" and unit.head.op_type == "Conv"
        if unit.head.op_type in _PER_CHANNEL_UNITS or shift or place is not None:
            behind = _mac_readers(graph, by_input, unit.outputs[0], start + (place or 0))
            if not behind:
                return ()
            found += behind
        elif unit.kind == "mac" and unit.head.op_type != "ConvTranspose":
            found.append((unit, start))
        else:
            return ()
    return tuple(found)


def _place_in_concat(graph: Graph, unit: Unit, name: str) -> int | None:
    """Return the number of the first channel of `name` in a concat of channels that reads it once."""
    node = unit.head
    if unit.kind != "concat" or list(node.input).count(name) != 1:
        return None
    rank = len(graph.shapes[name])
    axis = attribute(node, "axis")
    assert isinstance(axis, int)
    if axis % rank != 1:
        return None
    before = list(node.input)[: list(node.input).index(name)]
    return sum(graph.shapes[other][1] for other in before)


def _is_grouped(unit: Unit) -> bool:
    return attribute(unit.head, "group", 1) != 1


def _columns_match(graph: Graph, first: Unit, readers: tuple[tuple[Unit, int], ...]) -> bool:
    """Return whether the first operator's output channels are input channels of each reader, one to one."""
    shape = graph.shapes[first.outputs[0]]
    channels = shape[1] if len(shape) > 1 else 0
    if first.head.op_type == "ConvTranspose" and _is_grouped(first):
        return False
    for reader, _ in readers:
        read = graph.shapes[reader.inputs[0]]
        if len(read) < 2 or len(shape) < 2:
            return False
        if reader.head.op_type == "Gemm":
            weight = graph.initializers[reader.head.input[1]]
            matches = weight.dims[1 if attribute(reader.head, "transB", 0) else 0] == read[1]
        else:
            # Grouped but not depthwise: the columns' scales are neither free nor one for all; left alone.
            matches = attribute(reader.head, "group", 1) in (1, read[1])
        if not matches:
            return False
    return channels > 0


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
    widest: dict[str, float] = {}
    for pair in pairs:
        widest[pair.joined] = max(widest.get(pair.joined, 0.0), float(ranges[pair.tensor].max()))
    for pair in pairs:
        _apply(graph, constants, pair, _factors(pair, ranges[pair.tensor], widest[pair.joined]))
    return Graph(result)


def _array(item: onnx.TensorProto) -> NDArray[np.float64]:
    return np.asarray(numpy_helper.to_array(item), np.float64)


def _columns(weight: NDArray[np.float64], unit: Unit) -> NDArray[np.float64]:
    """Return a view of the weights with the input channels (of a depthwise unit: all channels) in front."""
    if unit.head.op_type == "Gemm":
        return weight.T if attribute(unit.head, "transB", 0) else weight
    return weight if attribute(unit.head, "group", 1) != 1 else weight.swapaxes(0, 1)


def _factors(pair: Pair, ranges: NDArray[np.float64], widest: float) -> NDArray[np.float64]:
    """Return s: channel c of the first operator is to be divided by it; 1 for the widest channel."""
    alive = ranges > SMALLEST_RANGE
    if not alive.any():
        return np.ones_like(ranges)
    factors = np.where(alive, ranges, widest) / widest
    if not all(_is_grouped(reader) for reader, _ in pair.readers):
        factors = np.sqrt(factors)
    return np.asarray(np.clip(factors, _SMALLEST_FACTOR, 1.0), np.float64)


def _apply(
    graph: Graph, constants: dict[str, onnx.TensorProto], pair: Pair, factors: NDArray[np.float64]
) -> None:
    first = pair.first.head
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
    for reader, start in pair.readers:
        name = reader.head.input[1]
        weight = _array(constants[name])
        columns = _columns(weight, reader)
        # A depthwise operator may make several channels of each.
        each = len(columns) // graph.shapes[reader.inputs[0]][1]
        columns = columns[each * start : each * (start + len(factors))]
        columns *= factors.repeat(each).reshape(-1, *[1] * (columns.ndim - 1))
        _store(constants, name, weight)


def _store(constants: dict[str, onnx.TensorProto], name: str, value: NDArray[np.float64]) -> None:
    constants[name].CopyFrom(numpy_helper.from_array(np.ascontiguousarray(value, np.float32), name))
