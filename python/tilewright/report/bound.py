"""The bound: how fast a region could run if nothing but the machine's widths held it up.

The bound of a network is the largest of three numbers of cycles:

* MATRIX: one step for each output block, input block, tap and output pixel. Channels are padded to blocks, but a
  layer that reads the region's input has its kernel columns packed into channels. Depthwise layers take none.
* VECTOR: one cycle for each read of `vector_lanes` lanes: a read for each output of a convolution, the reads of running
  windows for pooling and depthwise layers (`targets/timing.md`), one for each operand of an addition or product. Tables
  ride on the layer before; layouts and shifts cost nothing.
* Values wider than the overlay's operands take a step and a read for each plane, such weights a step for each digit;
  where the region's input and its weights are two digits wide, one step makes all products of a quarter of a block.
* DRAM: the region's inputs and outputs, weights and channel parameters, each moved once, over DRAM's widths.

It is no promise that a plan exists; a ratio to it says how much there is left to look for. A window that VECTOR
takes straight from ACC can beat the sum above by the convolution's own reads. *Unmerged* bytes are what a compiler
moves that keeps no map on the chip: every layer reads its operands from DRAM and writes its result there once, and
reads its weights and parameters once.
"""

from __future__ import annotations

import math
import sys
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, fields
from functools import cache
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from tilewright.codegen.constants import weight_bits
from tilewright.codegen.graph import Graph, Node, Tensor
from tilewright.errors import ConfigError, Fault
from tilewright.integer import ops
from tilewright.targets.config import FOLDER, Overlay
from tilewright.targets.isa.spec import RECORD_BYTES
from tilewright.targets.sim.rules import Rules
from tilewright.targets.storage import storage

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib

BASELINE = FOLDER / "bound_baseline.toml"
LimitedBy = Literal["MATRIX", "VECTOR", "DRAM"]
FREE = (ops.Layout, ops.Shift)
"""Operators that move values: addresses of those who read them."""


@dataclass(frozen=True)
class Limits:
    """The widths that bound a machine, in the words of `targets/config.py`; DRAM's of all ports together."""

    block_in: int
    block_out: int
    inp_bits: int
    wgt_bits: int
    vector_lanes: int
    window_reuse: int
    mhz: int
    dram_read_bytes_per_cycle: int
    dram_write_bytes_per_cycle: int
    dram_bytes_per_cycle: int

    @staticmethod
    def of(overlay: Overlay, rules: Rules | None = None) -> Limits:
        """Those of an overlay as it is now."""
        own = {f.name: getattr(overlay, f.name) for f in fields(Limits) if hasattr(overlay, f.name)}
        board = overlay.board
        return Limits(
            **own,
            window_reuse=(rules or Rules()).window_reuse,
            dram_read_bytes_per_cycle=board.dram_most_read_bytes_per_cycle,
            dram_write_bytes_per_cycle=board.dram_write_bytes_per_cycle,
            dram_bytes_per_cycle=board.dram_bytes_per_cycle,
        )

    def dram_cycles(self, read_bytes: int, write_bytes: int) -> int:
        """Least cycles to move so many bytes."""
        return max(
            _ceil(read_bytes, self.dram_read_bytes_per_cycle),
            _ceil(write_bytes, self.dram_write_bytes_per_cycle),
            _ceil(read_bytes + write_bytes, self.dram_bytes_per_cycle),
        )


@cache
def _baselines() -> Mapping[str, Limits]:
    tables = tomllib.loads(BASELINE.read_text(encoding="utf-8"))
    return {name: Limits(**table) for name, table in tables.items()}


def baseline(overlay: Overlay) -> Limits:
    """The limits of the overlay of that name as first landed (`targets/bound_baseline.toml`).

    Raises ConfigError for an overlay that has none.
    """
    known = _baselines()
    if overlay.name not in known:
        text = f"overlay {overlay.name} has no baseline, known are {', '.join(known)}"
        raise ConfigError(Fault(text, "bound", "use Limits.of(overlay)"))
    return known[overlay.name]


@dataclass(frozen=True)
class LayerBound:
    """The bound of a layer.

    Attributes:
        name, kind: source layer, and operator of the integer level.
        macs: products of the network, padding of blocks left out; these and all others of the whole batch.
        matrix_cycles, vector_cycles: least cycles of the units.
        read_bytes: compulsory: weights, parameters, and operands that are inputs of the region, at their first use.
        write_bytes: compulsory: a result that is an output of the region.
        unmerged_read_bytes, unmerged_write_bytes: without any map kept on the chip.
        dram_cycles: least cycles for the compulsory bytes.
    """

    name: str
    kind: str
    macs: int
    matrix_cycles: int
    vector_cycles: int
    read_bytes: int
    write_bytes: int
    unmerged_read_bytes: int
    unmerged_write_bytes: int
    dram_cycles: int

    @property
    def cycles(self) -> int:
        """The layer's bound."""
        return max(self.matrix_cycles, self.vector_cycles, self.dram_cycles)


@dataclass(frozen=True)
class NetworkBound:
    """The bound of a region; sums over its layers, of which the largest counts."""

    name: str
    limits: Limits
    layers: tuple[LayerBound, ...]

    @property
    def macs(self) -> int:
        """Products."""
        return sum(layer.macs for layer in self.layers)

    @property
    def matrix_cycles(self) -> int:
        """Least cycles of MATRIX."""
        return sum(layer.matrix_cycles for layer in self.layers)

    @property
    def vector_cycles(self) -> int:
        """Least cycles of VECTOR."""
        return sum(layer.vector_cycles for layer in self.layers)

    @property
    def dram_bytes(self) -> int:
        """Compulsory bytes."""
        return sum(layer.read_bytes + layer.write_bytes for layer in self.layers)

    @property
    def dram_bytes_unmerged(self) -> int:
        """Bytes without any map kept on the chip."""
        return sum(layer.unmerged_read_bytes + layer.unmerged_write_bytes for layer in self.layers)

    @property
    def dram_cycles(self) -> int:
        """Least cycles for the compulsory bytes."""
        read, write = sum(x.read_bytes for x in self.layers), sum(x.write_bytes for x in self.layers)
        return self.limits.dram_cycles(read, write)

    @property
    def cycles(self) -> int:
        """The bound."""
        return max(self.matrix_cycles, self.vector_cycles, self.dram_cycles)

    @property
    def limited_by(self) -> LimitedBy:
        """Which of the three it is; the first of equals."""
        found: dict[LimitedBy, int] = {
            "MATRIX": self.matrix_cycles,
            "VECTOR": self.vector_cycles,
            "DRAM": self.dram_cycles,
        }
        return max(found, key=lambda name: found[name])

    @property
    def fps(self) -> float:
        """Runs a second at the clock of the limits."""
        return self.limits.mhz * 1e6 / self.cycles


def bound(graph: Graph, limits: Limits, batch: int = 1) -> NetworkBound:
    """The bound of a region for a batch of images, layer by layer in the order of its nodes.

    Constants are read once for all images.
    """
    return NetworkBound(graph.name, limits, tuple(_layers(graph, limits, batch)))


def _layers(graph: Graph, limits: Limits, batch: int) -> Iterator[LayerBound]:
    inputs = {t.name for t in graph.inputs}
    behind = _behind_layouts(graph)
    outputs = {name for t in graph.outputs for name in behind.get(t.name, {t.name})}
    uses = Counter(t.name for node in graph.nodes for t in node.inputs)
    uses.update(t.name for t in graph.outputs)
    makers = {node.output.name: node for node in graph.nodes}
    shapes = {t.name: t for node in graph.nodes for t in (*node.inputs, node.output)}
    fetched: set[str] = set()
    for node in graph.nodes:
        if isinstance(node.operator, FREE):
            continue
        sources = [name for t in node.inputs for name in sorted(behind.get(t.name, {t.name}))]
        packed = any(name in inputs for name in sources)
        new = {name for name in sources if name in inputs} - fetched
        fetched |= new
        constants = _constant_bytes(node, limits)
        read = constants + batch * sum(_bytes(shapes[name], limits) for name in new)
        write = batch * _bytes(node.output, limits) if node.output.name in outputs else 0
        rides = _rides(node, makers, uses)
        moved = 0 if rides else batch * sum(_bytes(t, limits) for t in node.inputs)
        yield LayerBound(
            name=node.name,
            kind=node.operator.kind,
            macs=batch * _macs(node),
            matrix_cycles=batch * matrix_cycles(node, limits, packed),
            vector_cycles=0 if rides else batch * vector_cycles(node, limits),
            read_bytes=read,
            write_bytes=write,
            unmerged_read_bytes=constants + moved,
            unmerged_write_bytes=0 if rides else batch * _bytes(node.output, limits),
            dram_cycles=limits.dram_cycles(read, write),
        )


def _behind_layouts(graph: Graph) -> dict[str, set[str]]:
    """For each result of layouts the tensors whose elements it holds."""
    behind: dict[str, set[str]] = {}
    for node in graph.nodes:
        if isinstance(node.operator, FREE):
            behind[node.output.name] = {s for t in node.inputs for s in behind.get(t.name, {t.name})}
    return behind


def _rides(node: Node, makers: Mapping[str, Node], uses: Counter[str]) -> bool:
    """Whether a table is looked up by the layer before."""
    if not isinstance(node.operator, ops.Table):
        return False
    maker = makers.get(node.inputs[0].name)
    held = maker is not None and not isinstance(maker.operator, (*FREE, ops.Table))
    return held and uses[node.inputs[0].name] == 1


def _ceil(a: int, b: int) -> int:
    return -(-a // b)


def _bits(tensor: Tensor, limits: Limits) -> int:
    """Of a stored value of a tensor."""
    return storage(tensor.dtype, tensor.range, limits.inp_bits).bits


def _planes(tensor: Tensor, limits: Limits) -> int:
    return _ceil(_bits(tensor, limits), limits.inp_bits)


def _bytes(tensor: Tensor, limits: Limits) -> int:
    return _ceil(math.prod(tensor.shape) * _bits(tensor, limits), 8)


def _parts(weight: NDArray[np.generic], limits: Limits) -> int:
    """Digits that the array's width cuts weights into; those of a zero point are few and left out."""
    return _ceil(min(weight_bits(weight), 8), limits.wgt_bits)


def _size(tensor: Tensor) -> tuple[int, int, int]:
    """Channels, rows and columns."""
    _, channels, *size = tensor.shape
    return (channels, size[0], size[1]) if size else (channels, 1, 1)


def is_depthwise(operator: ops.Operator) -> bool:
    """Whether a convolution goes to VECTOR: one input channel for each output channel."""
    if not isinstance(operator, ops.Conv2d):
        return False
    outputs, inputs = operator.weight.shape[:2]
    return bool(inputs == 1 and operator.groups == outputs and outputs > 1)


def _macs(node: Node) -> int:
    op = node.operator
    if isinstance(op, ops.Dense):
        return op.weight.size
    if isinstance(op, ops.Conv2d):
        _, rows, columns = _size(node.output)
        return op.weight.size * rows * columns
    if isinstance(op, ops.ConvTranspose2d):
        _, rows, columns = _size(node.inputs[0])
        return op.weight.size * rows * columns
    return 0


def matrix_cycles(node: Node, limits: Limits, packed: bool) -> int:
    """Steps of MATRIX; `packed` where the layer may have kernel columns packed into channels."""
    op = node.operator
    if isinstance(op, ops.Dense):
        outputs, inputs = op.weight.shape
        digits = _planes(node.inputs[0], limits) * _parts(op.weight, limits)
        return digits * _ceil(outputs, limits.block_out) * _ceil(inputs, limits.block_in)
    if not isinstance(op, ops.Conv2d | ops.ConvTranspose2d) or is_depthwise(op):
        return 0
    if isinstance(op, ops.Conv2d):
        outputs, group_inputs, rows, columns = op.weight.shape
        _, height, width = _size(node.output)
    else:  # each input pixel meets each tap once
        group_inputs = op.weight.shape[0] // op.groups
        outputs, rows, columns = op.weight.shape[1] * op.groups, *op.weight.shape[2:]
        _, height, width = _size(node.inputs[0])
    blocks = _blocks(outputs, group_inputs, op.groups, limits)
    planes, parts = _planes(node.inputs[0], limits), _parts(op.weight, limits)
    steps = planes * parts * blocks * rows * columns
    if packed and op.groups == 1:
        wide = _ceil(outputs, limits.block_out) * rows
        steps = min(steps, planes * parts * wide * _ceil(group_inputs * columns, limits.block_in))
        if (
            planes == parts == 2 and limits.inp_bits == limits.wgt_bits
        ):  # all four products of digits in one step
            steps = min(steps, wide * _ceil(group_inputs * columns, limits.block_in // 4))
    return int(steps * height * width)


def _blocks(outputs: int, group_inputs: int, groups: int, limits: Limits) -> int:
    """Pairs of an output and an input block: groups one by one, or as many as a block of outputs holds together."""
    group_outputs = outputs // groups
    split = groups * _ceil(group_outputs, limits.block_out) * _ceil(group_inputs, limits.block_in)
    met = min(groups, _ceil(limits.block_out, group_outputs))
    joined = _ceil(outputs, limits.block_out) * _ceil(met * group_inputs, limits.block_in)
    return min(split, joined)


def vector_cycles(node: Node, limits: Limits) -> int:
    """Reads of VECTOR, or its writes where those are more, `vector_lanes` lanes and a plane a cycle."""
    channels, height, width = _size(node.output)
    half_words = _ceil(channels, limits.block_in)
    writes = height * width * _planes(node.output, limits)
    cycles = max(_reads(node, height, width, limits), writes)
    return _ceil(half_words * cycles * limits.block_in, limits.vector_lanes)


def _reads(node: Node, height: int, width: int, limits: Limits) -> int:
    """Reads for a half word of channels of the whole map."""
    op = node.operator
    pixels, planes = height * width, _planes(node.inputs[0], limits)
    if isinstance(op, ops.Add | ops.Multiply):
        second = _size(node.inputs[1])
        return planes * pixels + _planes(node.inputs[1], limits) * second[1] * second[2]
    if isinstance(op, ops.MaxPool2d):
        return planes * _window_reads(node, op.kernel, op.strides, op.padding, op.dilation, limits)
    if isinstance(op, ops.SumPool2d):
        return planes * _window_reads(node, op.kernel, op.strides, op.padding, (1, 1), limits)
    if isinstance(op, ops.Conv2d) and is_depthwise(op):
        kernel = (op.weight.shape[2], op.weight.shape[3])
        return planes * _window_reads(node, kernel, op.strides, op.padding, op.dilation, limits)
    matrix = isinstance(op, ops.Conv2d | ops.ConvTranspose2d | ops.Dense)
    return pixels if matrix else planes * pixels  # sums come from ACC


def _window_reads(
    node: Node, kernel: ops.Pair, strides: ops.Pair, padding: ops.Pads, dilation: ops.Pair, limits: Limits
) -> int:
    """Rows inside the map times columns read for each, as VECTOR reads running windows."""
    _, in_height, in_width = _size(node.inputs[0])
    _, height, width = _size(node.output)

    def taps(axis: int, count: int, before: int, size: int) -> list[list[int]]:
        starts = [i * strides[axis] - before for i in range(count)]
        places = [[s + k * dilation[axis] for k in range(kernel[axis])] for s in starts]
        return [[p for p in window if 0 <= p < size] for window in places]

    rows = sum(len(window) for window in taps(0, height, padding[0], in_height))
    columns = taps(1, width, padding[1], in_width)
    if dilation[1] > 1 and kernel[1] > 1:
        return rows * sum(len(window) for window in columns)
    windows = min(width, _ceil(kernel[1], strides[1]))
    return rows * len({p for window in columns for p in window}) * _ceil(windows, limits.window_reuse)


def _constant_bytes(node: Node, limits: Limits) -> int:
    """Weights, and a record of parameters for each channel that has its own."""
    op = node.operator
    weights = 0
    if isinstance(op, ops.Conv2d | ops.ConvTranspose2d | ops.Dense):
        digits = 1 if is_depthwise(op) else _parts(op.weight, limits)
        weights = _ceil(op.weight.size * digits * limits.wgt_bits, 8)
    if isinstance(op, ops.Table):
        return op.table.size
    rescale = getattr(op, "rescale", None)
    if not isinstance(rescale, ops.Rescale):
        return weights
    sets = 2 if rescale.m_neg is not None or isinstance(op, ops.Add) else 1
    return weights + RECORD_BYTES * sets * max(rescale.m.size, rescale.b.size, limits.block_in)
