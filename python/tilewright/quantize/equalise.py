"""Cross-layer equalisation: rescale channels between two operators so that each uses its tensor's range.

After Nagel, van Baalen, Blankevoort and Welling, "Data-Free Quantization Through Weight Equalization and Bias
Correction", ICCV 2019, section 4.1: for f(s x) = s f(x), s > 0, the network is unchanged when channel c of
the first operator is divided by s[c] and the second's weights for input channel c are multiplied by it.
They choose s from weight ranges, for weights with one scale a tensor. Here weights have a scale for each
output channel, so that the first operator loses nothing; what matters is the range of each channel of the
tensor between, measured on the calibration set. Where only depthwise operators read it, their weights have
scales of their own too, and every channel is given the full range, `s = range / widest`. A dense reader must
represent columns of different size, so it meets the tensor half-way: `s = sqrt(range / widest)`, which measured
better than both ends and than the paper's balance with the columns' ranges (README).
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
        readers: the units whose input channels are multiplied.
        tensor: the first unit's output.
    """

    first: Unit
    readers: tuple[Unit, ...]
    tensor: str


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
        weights = {*first.head.input[1:], *(reader.head.input[1] for reader in readers)}
        if readers and not weights & shared and _columns_match(graph, first, readers):
            pairs.append(Pair(first, readers, first.outputs[0]))
    return pairs


def _mac_readers(graph: Graph, by_input: dict[str, list[Unit]], name: str) -> tuple[Unit, ...]:
    """Return the MAC units that read `name`, or none where anything else does."""
    units = by_input.get(name, [])
    if name in graph.outputs or len(units) != len(graph.consumers.get(name, [])):
        return ()
    found: list[Unit] = []
    for unit in units:
        if unit.head.op_type in _PER_CHANNEL_UNITS:
            behind = _mac_readers(graph, by_input, unit.outputs[0])
            if not behind:
                return ()
            found += behind
        elif unit.kind == "mac" and unit.head.op_type != "ConvTranspose":
            found.append(unit)
        else:
            return ()
    return tuple(found)


def _is_grouped(unit: Unit) -> bool:
    return attribute(unit.head, "group", 1) != 1


def _columns_match(graph: Graph, first: Unit, readers: tuple[Unit, ...]) -> bool:
    """Return whether the readers' input channels are the first operator's output channels, one to one."""
    shape = graph.shapes[first.outputs[0]]
    channels = shape[1] if len(shape) > 1 else 0
    if first.head.op_type == "ConvTranspose" and _is_grouped(first):
        return False
    for reader in readers:
        weight = graph.initializers[reader.head.input[1]]
        if reader.head.op_type == "Gemm":
            matches = weight.dims[1 if attribute(reader.head, "transB", 0) else 0] == channels
        else:
            # Grouped but not depthwise: the columns' scales are neither free nor one for all; left alone.
            matches = attribute(reader.head, "group", 1) in (1, channels)
        if not matches:
            return False
    return True


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
        _apply(constants, pair, _factors(pair, ranges[pair.tensor]))
    return Graph(result)


def _array(item: onnx.TensorProto) -> NDArray[np.float64]:
    return np.asarray(numpy_helper.to_array(item), np.float64)


def _columns(weight: NDArray[np.float64], unit: Unit) -> NDArray[np.float64]:
    """Return a view of the weights with the input channels (of a depthwise unit: all channels) in front."""
    if unit.head.op_type == "Gemm":
        return weight.T if attribute(unit.head, "transB", 0) else weight
    return weight if attribute(unit.head, "group", 1) != 1 else weight.swapaxes(0, 1)


def _factors(pair: Pair, ranges: NDArray[np.float64]) -> NDArray[np.float64]:
    """Return s: channel c of the first operator is to be divided by it; 1 for the widest channel."""
    alive = ranges > SMALLEST_RANGE
    if not alive.any():
        return np.ones_like(ranges)
    factors = np.where(alive, ranges, ranges.max()) / ranges.max()
    if not all(_is_grouped(reader) for reader in pair.readers):
        factors = np.sqrt(factors)
    return np.asarray(np.clip(factors, _SMALLEST_FACTOR, 1.0), np.float64)


def _apply(constants: dict[str, onnx.TensorProto], pair: Pair, factors: NDArray[np.float64]) -> None:
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
    for reader in pair.readers:
        name = reader.head.input[1]
        weight = _array(constants[name])
        columns = _columns(weight, reader)
        columns *= factors.repeat(len(columns) // len(factors)).reshape(-1, *[1] * (columns.ndim - 1))
        _store(constants, name, weight)


def _store(constants: dict[str, onnx.TensorProto], name: str, value: NDArray[np.float64]) -> None:
    constants[name].CopyFrom(numpy_helper.from_array(np.ascontiguousarray(value, np.float32), name))
