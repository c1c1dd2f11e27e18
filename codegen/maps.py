"""Maps of a region being lowered, the values that they hold, and copies of values whose channels are not in place."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from tilewright.codegen.displacement import decoded, displaced_source, reaching
from tilewright.codegen.graph import Graph, Node, Tensor
from tilewright.codegen.layers import (
    Geometry,
    Layer,
    MatrixLayer,
    identity,
    stored_table,
)
from tilewright.codegen.layouts import Gather, gather_of, gathers
from tilewright.codegen.packing import in_planes, lanes_of
from tilewright.codegen.values import (
    CONSTANT,
    I32,
    Map,
    Source,
    Value,
    channel_source,
)
from tilewright.errors import Fault, ScheduleError
from tilewright.integer import ops
from tilewright.targets.config import Overlay
from tilewright.targets.isa.spec import Base
from tilewright.targets.storage import Storage


def blocks_of(channels: int, block_in: int) -> int:
    """Half words of so many channels."""
    return -(-channels // block_in)


@dataclass(eq=False)
class Maps:
    """What lowering has made so far: layers, maps, and the value of each tensor."""

    graph: Graph
    overlay: Overlay
    values: dict[str, Value] = field(default_factory=dict)
    layers: list[Layer] = field(default_factory=list)
    maps: list[Map] = field(default_factory=list)
    packable: set[str] = field(default_factory=set)
    """Inputs that only one node reads: their maps may be laid out as that node likes."""

    copied: dict[Value, Value] = field(default_factory=dict)
    """Copies of values whose channels are not in place, for all who need one."""

    order: dict[str, I32] = field(default_factory=dict)
    """Lanes of the channels of results of MATRIX where they are not the channels' numbers."""

    uses: Counter[str] = field(default_factory=Counter)
    """Readers of tensors, the region's outputs among them."""

    storages: dict[str, Storage] = field(default_factory=dict)
    """How tensors are stored."""

    def bits(self, tensor: Tensor) -> int:
        return self.storages[tensor.name].bits

    def zero_point(self, tensor: Tensor, zero_point: int) -> int:
        """A tensor's zero point as it is stored."""
        return zero_point + self.storages[tensor.name].offset

    def stored_table(self, node: Node) -> NDArray[np.uint8]:
        assert isinstance(node.operator, ops.Table)
        return stored_table(
            node.operator, self.storages[node.inputs[0].name], self.storages[node.output.name]
        )

    def new_map(self, name: str, shape: tuple[int, ...], bits: int, segment: Base = Base.WORKSPACE) -> Map:
        height, width = shape[1:] if len(shape) == 3 else (1, 1)
        planes = -(-bits // self.overlay.inp_bits)
        blocks = blocks_of(shape[0], self.overlay.block_in) * planes
        m = Map(name, height, width, blocks, segment, bits=bits, planes=planes)
        self.maps.append(m)
        return m

    def places(self, node: Node) -> I32:
        """Lanes of the channels of a result of MATRIX."""
        return self.order.get(node.output.name, np.arange(node.output.shape[1], dtype=np.int32))

    def result_map(self, node: Node) -> Map:
        """A map for a result of MATRIX."""
        shape = (int(self.places(node).max()) + 1, *node.output.shape[2:])
        return self.new_map(node.name, shape, self.bits(node.output))

    def input(self, tensor: Tensor) -> tuple[Tensor, Map, tuple[int, ...]]:
        """An input's map and what its lanes hold: channels, or with a packing columns and channels, in order."""
        (m,) = self.values[tensor.name].maps
        held = tensor.shape[1] * (1 if m.packing is None else m.packing.taps)
        lanes = in_planes(lanes_of(held, self.overlay.block_in).reshape(-1), m.planes, held)
        return tensor, m, m.lanes or lanes

    def output(self, tensor: Tensor) -> tuple[Tensor, Map, tuple[int, ...]]:
        """Bring a result into one map of the output segment."""
        value = self.values[tensor.name]
        number = np.unique(value.number)
        places = value.channel_places()[1] if value.channels_in_place() else None
        plain = places is not None and len(number) == 1 and len(np.unique(places)) == len(places)
        if not plain or value.maps[int(number[0])].segment is Base.INPUT:
            value = self.copy(tensor.name, value, self.bits(tensor))
            number = np.array([0])
        m = value.maps[int(number[0])]
        m.segment = Base.OUTPUT
        lane = value.channel_places()[1]
        lanes = np.full(m.plane_blocks * self.overlay.block_in, -1, np.int32)
        lanes[lane] = np.arange(len(lane))
        return tensor, m, in_planes(lanes, m.planes, len(lane))

    def fail(self, name: str, message: str) -> ScheduleError:
        """The error of a layer, or of a tensor: then with the name of the layer that makes it."""
        layer = next((node.name for node in self.graph.nodes if node.output.name == name), name)
        return ScheduleError(Fault(message, f"layer {layer}", "keep this operator on the host"))

    def in_place(self, name: str, value: Value) -> Value:
        """The value with its channels in place, copied where they are not."""
        if value.channels_in_place():
            return value
        if value not in self.copied:
            self.copied[value] = self.copy(name, value, max(m.bits for m in value.maps))
        return self.copied[value]

    def source(self, name: str, value: Value) -> Source:
        return channel_source(self.in_place(name, value), self.overlay.block_in)

    def copy(self, name: str, value: Value, bits: int) -> Value:
        """Copy a value's channels into a map of its own, in order: selections on MATRIX, exact."""
        if self.overlay.wgt_bits == 1:
            raise self.fail(
                name, f"a {value.shape} tensor must be copied, and weights of 1 bit cannot select"
            )
        if len(value.shape) == 1:
            number, pixel, lane = (a[:, None, None] for a in (value.number, value.pixel, value.lane))
            copied = self.copy(name, Value(value.maps, number, pixel, lane), bits)
            number, pixel, lane = (a[:, 0, 0] for a in (copied.number, copied.pixel, copied.lane))
            return Value(copied.maps, number, pixel, lane)
        found = gathers(value)
        if found is None:
            raise self.fail(name, f"elements of a {value.shape} tensor are not moved by whole channels")
        output = self.new_map(name, value.shape, bits)
        for gather in found:
            self.layers.append(self.copy_layer(name, value, gather, output))
        return Value.of_map(output, range(value.shape[0]), value.shape)

    def pooled_copy(self, node: Node, value: Value, pool: Geometry) -> Value:
        """A copy on MATRIX whose sums VECTOR pools as it takes them: a map and a pass of VECTOR less."""
        gather = gather_of(value)
        assert gather is not None
        output = self.new_map(node.name, node.output.shape[1:], self.bits(node.output))
        self.layers.append(self.copy_layer(node.name, value, gather, output).pooled(pool, output))
        return Value.of_map(output, range(node.output.shape[1]), node.output.shape[1:])

    def copy_layer(self, name: str, value: Value, gather: Gather, output: Map) -> MatrixLayer:
        held = np.flatnonzero(gather.number != CONSTANT)
        if not len(held):
            raise self.fail(name, "a copy reads nothing: all its channels are constant")
        first = value.maps[int(gather.number[held[0]])]
        moves, fills = decoded(gather.moved[held])
        size = (first.height, first.width)
        source = displaced_source(
            value.maps, gather.number[held], gather.lane[held], moves, size, self.overlay, True
        )
        assert source is not None
        channels = len(gather.number)
        weight = np.zeros((channels, len(held), 1, 1), np.int8)
        weight[held, np.arange(len(held))] = 1
        parameters = identity(channels, output.bits)
        fill = gather.number == CONSTANT
        parameters.m[fill], parameters.s[fill] = 0, 1
        parameters.b[fill] = gather.lane[fill].astype(np.int64) << 1
        geometry = Geometry(
            stride=gather.stride,
            offset=gather.origin,
            count=gather.count[::-1] if gather.swapped else gather.count,
            first=gather.first,
            step=gather.step,
            swapped=gather.swapped,
        )
        return MatrixLayer(
            name,
            source,
            output,
            reaching(geometry, moves),
            weight,
            parameters,
            int(fills[0]) if len(fills) else 0,
            present=weight[:, :, 0] != 0,
            counted=False,
        )

    # One method for each operator; the result's value is returned.

    def vector_map(self, node: Node, source: Source) -> Map:
        height, width = node.output.shape[2:] if len(node.output.shape) == 4 else (1, 1)
        bits = self.bits(node.output)
        planes = -(-bits // self.overlay.inp_bits)
        m = Map(node.name, height, width, len(source.blocks) * planes, bits=bits, planes=planes)
        self.maps.append(m)
        return m

    def result(self, node: Node, layer: Layer) -> Value:
        """The value that a layer has written: MATRIX writes them as ordered, VECTOR in the source's lanes."""
        shape = node.output.shape[1:]
        if isinstance(layer, MatrixLayer):
            return Value.of_map(layer.output, self.places(node).tolist(), shape)
        lanes = layer.source.lanes.reshape(-1)
        places = np.zeros(shape[0], np.int32)
        held = np.flatnonzero(lanes >= 0)
        places[lanes[held]] = held
        return Value.of_map(layer.output, places.tolist(), shape)
