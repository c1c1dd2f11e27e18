"""Region graph -> machine layers: layouts resolved, values made unsigned, operators assigned to units."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field, replace

import numpy as np
from numpy.typing import NDArray

from tilewright.codegen.channel_order import channel_order
from tilewright.codegen.constants import unbalanced
from tilewright.codegen.displacement import decoded, displaced_source, fold, place_shift, reaching, readable
from tilewright.codegen.filters import dilated, transposed_phases, ungrouped
from tilewright.codegen.graph import Graph, Node, Tensor
from tilewright.codegen.layers import (
    Geometry,
    Layer,
    MatrixLayer,
    Parameters,
    VectorLayer,
    arranged,
    identity,
    machine_parameters,
    stored_table,
)
from tilewright.codegen.layouts import Gather, gather_of, gathers, place_layout
from tilewright.codegen.packing import Convolution, in_planes, lanes_of, packed
from tilewright.codegen.values import (
    CONSTANT,
    I32,
    Map,
    Source,
    Value,
    channel_source,
    flat_source,
    matching_source,
)
from tilewright.codegen.widths import storages
from tilewright.errors import Fault, ScheduleError
from tilewright.relay_passes.integer import ops
from tilewright.targets.config import Overlay
from tilewright.targets.isa.spec import Base, VectorOp
from tilewright.targets.storage import Storage

LEAST_USE = 0.5
"""A value that uses a smaller share of the lanes it makes consumers read is copied together."""


@dataclass(eq=False)
class Lowered:
    """A region as machine layers in order, with the maps of its inputs and outputs."""

    inputs: list[tuple[Tensor, Map, tuple[int, ...]]]
    outputs: list[tuple[Tensor, Map, tuple[int, ...]]]
    layers: list[Layer]
    maps: list[Map]


def lower(graph: Graph, overlay: Overlay) -> Lowered:
    """Lower a region. Raises ScheduleError naming the layer where an operator has no form on the machine."""
    return _Lowering(graph, overlay).run()


def _blocks(channels: int, block_in: int) -> int:
    return -(-channels // block_in)


def _pointwise(height: int, width: int) -> Geometry:
    return Geometry(count=(height, width))


@dataclass(eq=False)
class _Lowering:
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

    def run(self) -> Lowered:
        self.order = channel_order(self.graph, self.overlay)
        self.storages = storages(self.graph, self.overlay)
        for tensor in self.graph.inputs:
            shape = tensor.shape[1:]
            m = self.new_map(tensor.name, shape, self.bits(tensor), Base.INPUT)
            self.values[tensor.name] = Value.of_map(m, range(shape[0]), shape)
        self.uses = Counter(t.name for node in self.graph.nodes for t in node.inputs)
        self.uses.update(t.name for t in self.graph.outputs)
        made = (n.output.name for n in self.graph.nodes if isinstance(n.operator, ops.Conv2d))
        self.convolved = frozenset(made)
        self.packable = {t.name for t in self.graph.inputs if self.uses[t.name] == 1}
        previous: Node | None = None
        for node in self.graph.nodes:
            fused = previous is not None and self.fuse_table(node, previous)
            if not fused:
                operands = [self.values[t.name] for t in node.inputs]
                self.values[node.output.name] = _LOWER[type(node.operator)](self, node, operands)
            previous = node
        inputs = [self.input(tensor) for tensor in self.graph.inputs]
        outputs = [self.output(tensor) for tensor in self.graph.outputs]
        return Lowered(inputs, outputs, self.layers, self.maps)

    def fuse_table(self, node: Node, previous: Node) -> bool:
        """Let the layer just made look its results up, where nothing else reads them."""
        (source, *_) = node.inputs
        if not isinstance(node.operator, ops.Table) or previous.output.name != source.name:
            return False
        if self.uses[source.name] != 1 or isinstance(previous.operator, ops.Layout | ops.Shift):
            return False
        value = self.values[source.name]
        written = value.maps[0]
        if self.bits(node.output) != written.bits:
            return False
        table = self.stored_table(node)
        for i, layer in enumerate(self.layers):
            if layer.output is written:
                if layer.table is not None:
                    return False
                self.layers[i] = replace(layer, table=table)
        self.values[node.output.name] = value
        return True

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
        blocks = _blocks(shape[0], self.overlay.block_in) * planes
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
        return ScheduleError(Fault(message, f"layer {name}", "keep this operator on the host"))

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

    def conv2d(self, node: Node, operands: Sequence[Value]) -> Value:
        op = node.operator
        assert isinstance(op, ops.Conv2d)
        (tensor,) = node.inputs
        geometry = Geometry(
            op.weight.shape[2:],
            op.strides,
            op.dilation,
            (-op.padding[0], -op.padding[1]),
            node.output.shape[2:],  # type: ignore[arg-type]
        )
        if self.depthwise(op.weight, op.groups, tensor, [geometry]):
            layer: Layer = self.depthwise_layer(
                node, operands[0], geometry, op.weight, op.zero_point, op.rescale
            )
        else:
            output = self.result_map(node)
            zero_point = self.zero_point(tensor, op.zero_point)
            folded = None
            if operands[0].moved is not None:
                folded = fold(operands[0], geometry, zero_point, self.overlay)
            if folded is None:
                source, pad = self.source(node.name, operands[0]), zero_point
            else:
                source, geometry, pad = folded.source, folded.geometry, folded.pad
            convolution = Convolution(source, geometry, *ungrouped(op.weight, op.groups))
            if tensor.name in self.packable and self.overlay.wgt_bits > 1:
                convolution = packed(convolution, zero_point, self.overlay)
            layer = replace(self.matrix_layer(node, convolution, output, zero_point, op.rescale), pad=pad)
        self.layers.append(layer)
        return self.result(node, layer)

    def depthwise(
        self, weight: NDArray[np.generic], groups: int, tensor: Tensor, geometries: Sequence[Geometry]
    ) -> bool:
        """Whether VECTOR does it: one filter a channel, whose taps fit PARAM twice and always meet the map."""
        taps = int(np.prod(weight.shape[2:]))
        records = self.overlay.block_in * (1 + 1) + taps * self.overlay.block_in // 8 + 16
        return (
            groups == tensor.shape[1] == weight.shape[0]
            and weight.shape[1] == 1
            and 2 * records <= self.overlay.param_records
            and all(g.reads(0, tensor.shape[2]) and g.reads(1, tensor.shape[3]) for g in geometries)
        )

    def depthwise_layer(
        self,
        node: Node,
        value: Value,
        geometry: Geometry,
        weight: NDArray[np.generic],
        zero_point: int,
        rescale: ops.Rescale,
        output: Map | None = None,
    ) -> VectorLayer:
        source = self.source(node.name, value)
        channels = weight.shape[0]
        return VectorLayer(
            node.name,
            VectorOp.DEPTHWISE,
            source,
            output or self.vector_map(node, source),
            geometry,
            self.parameters(node, rescale, channels),
            self.zero_point(node.inputs[0], zero_point),
            weight=weight.astype(np.int16).reshape(channels, -1),
        )

    def matrix_layer(
        self,
        node: Node,
        c: Convolution,
        output: Map,
        zero_point: int,
        rescale: ops.Rescale,
    ) -> MatrixLayer:
        added = zero_point * c.weight.sum((1, 2, 3), dtype=np.int64)
        if self.overlay.wgt_bits == 1:
            added += unbalanced(c.source.lanes) * math.prod(c.geometry.kernel)
        parameters = self.parameters(node, rescale, c.weight.shape[0], added)
        weight, present = c.weight, c.present
        if node.output.name in self.order:
            weight, present, parameters = arranged(weight, present, parameters, self.places(node))
        return MatrixLayer(
            node.name,
            c.source,
            output,
            c.geometry,
            weight,
            parameters,
            zero_point,
            present,
            quartered=c.quartered,
        )

    def parameters(
        self,
        node: Node,
        rescale: ops.Rescale,
        channels: int,
        added: NDArray[np.int64] | None = None,
    ) -> Parameters:
        return machine_parameters(rescale, self.storages[node.output.name], channels, added)

    def conv2d_transpose(self, node: Node, operands: Sequence[Value]) -> Value:
        """Each phase of the result's rows and columns is a convolution of its own with every stride-th tap."""
        op = node.operator
        assert isinstance(op, ops.ConvTranspose2d)
        (tensor,) = node.inputs
        weight = dilated(op.weight, op.dilation)
        per_group = weight.shape[0] // op.groups
        parts = [weight[g * per_group : (g + 1) * per_group].swapaxes(0, 1) for g in range(op.groups)]
        weight = np.concatenate(parts, axis=0)  # (O, I/groups, KH, KW)
        phases = list(transposed_phases(op, weight.shape[2:], node.output.shape[2:]))
        depthwise = self.depthwise(weight, op.groups, tensor, [geometry for geometry, _, _ in phases])
        output: Map | None = None
        for geometry, taps_y, taps_x in phases:
            cut = weight[:, :, taps_y][:, :, :, taps_x]
            if cut.size == 0:  # no tap falls on this phase: the result is the bias
                cut = np.zeros((*weight.shape[:2], *geometry.kernel), weight.dtype)
            if depthwise:
                layer: Layer = self.depthwise_layer(
                    node, operands[0], geometry, cut, op.zero_point, op.rescale, output
                )
            else:
                source = self.source(node.name, operands[0])
                layer = self.matrix_layer(
                    node,
                    Convolution(source, geometry, *ungrouped(cut, op.groups)),
                    output or self.result_map(node),
                    self.zero_point(tensor, op.zero_point),
                    op.rescale,
                )
            output = layer.output
            self.layers.append(layer)
        return self.result(node, layer)

    def dense(self, node: Node, operands: Sequence[Value]) -> Value:
        op = node.operator
        assert isinstance(op, ops.Dense)
        source = flat_source(operands[0], self.overlay.block_in)
        zero_point = self.zero_point(node.inputs[0], op.zero_point)
        convolution = Convolution(source, Geometry(), op.weight[:, :, None, None], None)  # type: ignore[arg-type]
        layer = self.matrix_layer(node, convolution, self.result_map(node), zero_point, op.rescale)
        self.layers.append(layer)
        return self.result(node, layer)

    def max_pool2d(self, node: Node, operands: Sequence[Value]) -> Value:
        op = node.operator
        assert isinstance(op, ops.MaxPool2d)
        geometry = self.window(node, op.kernel, op.strides, op.dilation, op.padding)
        apart = op.dilation == (1, 1) and all(k <= s for k, s in zip(op.kernel, op.strides, strict=True))
        if apart and operands[0].moved is not None and readable(operands[0]):
            return self.pooled_copy(node, operands[0], geometry)
        if apart and self.fuse_pool(node, operands[0], geometry):
            return self.result(node, self.layers[-1])
        source = self.source(node.name, operands[0])
        parameters = identity(node.inputs[0].shape[1], self.bits(node.inputs[0]))
        return self.vector(node, VectorOp.MAX, source, geometry, parameters)

    def fuse_pool(self, node: Node, value: Value, pool: Geometry) -> bool:
        """Let the convolution just made give the largest of each window, where nothing else reads its results.

        Requantisation must not fall; then the largest sum gives the largest result.
        """
        layer, (tensor,) = self.layers[-1] if self.layers else None, node.inputs
        part = tensor.name not in self.convolved  # a layout of its results: others may read the rest of them
        if not isinstance(layer, MatrixLayer) or part or self.uses[tensor.name] != 1:
            return False
        g, p, number = layer.geometry, layer.parameters, np.unique(value.number)
        own = len(number) == 1 and value.maps[int(number[0])] is layer.output and value.channels_in_place()
        plain = g.first == (0, 0) and g.step == (1, 1) and not g.swapped and layer.pool is None
        rising = layer.table is None and not p.negative and bool((p.m >= 0).all())
        if not (own and plain and rising and g.count == value.shape[1:]):
            return False
        self.maps.remove(layer.output)
        places = value.channel_places()[1]
        output = self.new_map(layer.name, (int(places.max()) + 1, *node.output.shape[2:]), layer.output.bits)
        self.order[node.output.name] = places
        self.layers[-1] = layer.pooled(pool, output)
        return True

    def sum_pool2d(self, node: Node, operands: Sequence[Value]) -> Value:
        op = node.operator
        assert isinstance(op, ops.SumPool2d)
        geometry = self.window(node, op.kernel, op.strides, (1, 1), op.padding)
        source = self.source(node.name, operands[0])
        zero_point = self.zero_point(node.inputs[0], op.zero_point)
        shape = np.broadcast_shapes(op.rescale.m.shape, op.rescale.s.shape, op.rescale.b.shape)
        if len(shape) == 3 and shape[1] * shape[2] > 1:
            count = node.output.shape[2] * node.output.shape[3]
            m, s, b = (
                np.broadcast_to(a, (1, *geometry.count)) for a in (op.rescale.m, op.rescale.s, op.rescale.b)
            )
            spread = replace(op.rescale, m=m, s=s, b=b)
            flat = self.parameters(node, spread, count)
            parameters = replace(
                flat,
                m=flat.m.reshape(geometry.count),
                s=flat.s.reshape(geometry.count),
                b=flat.b.reshape(geometry.count),
                by_position=True,
            )
        else:
            parameters = self.parameters(node, op.rescale, node.output.shape[1])
        return self.vector(node, VectorOp.SUM, source, geometry, parameters, zero_point)

    def add(self, node: Node, operands: Sequence[Value]) -> Value:
        op = node.operator
        assert isinstance(op, ops.Add)
        m2 = np.full(node.output.shape[1], op.m2, np.int64)
        parameters = self.parameters(node, op.rescale, node.output.shape[1])
        parameters = replace(parameters, m2=m2, b2=0 * m2)
        return self.binary(node, operands, VectorOp.SCALED_ADD, op, parameters)

    def multiply(self, node: Node, operands: Sequence[Value]) -> Value:
        op = node.operator
        assert isinstance(op, ops.Multiply)
        parameters = self.parameters(node, op.rescale, node.output.shape[1])
        return self.binary(node, operands, VectorOp.MULTIPLY, op, parameters)

    def binary(
        self,
        node: Node,
        operands: Sequence[Value],
        op: VectorOp,
        operator: ops.Add | ops.Multiply,
        parameters: Parameters,
    ) -> Value:
        a, b = (self.in_place(node.name, v) for v in operands)
        block_in = self.overlay.block_in
        source = channel_source(a, block_in)
        source2 = matching_source(source, b, block_in)
        if source2 is None:  # lanes differ: bring both into order
            a, b = (
                v if v.in_order() else self.copy(node.name, v, self.bits(t))
                for v, t in zip((a, b), node.inputs, strict=True)
            )
            source = channel_source(a, block_in)
            source2 = matching_source(source, b, block_in)
        if source2 is None:
            raise self.fail(node.name, f"operands {a.shape} and {b.shape} have different channels")
        layer = VectorLayer(
            node.name,
            op,
            source,
            self.vector_map(node, source),
            _pointwise(source.height, source.width),
            parameters,
            self.zero_point(node.inputs[0], operator.zero_point_a),
            source2,
            self.zero_point(node.inputs[1], operator.zero_point_b),
        )
        self.layers.append(layer)
        return self.result(node, layer)

    def table(self, node: Node, operands: Sequence[Value]) -> Value:
        op = node.operator
        assert isinstance(op, ops.Table)
        source = self.source(node.name, operands[0])
        parameters = identity(node.inputs[0].shape[1], self.bits(node.inputs[0]))
        geometry = _pointwise(source.height, source.width)
        return self.vector(node, VectorOp.SUM, source, geometry, parameters, table=self.stored_table(node))

    def layout(self, node: Node, operands: Sequence[Value]) -> Value:
        op = node.operator
        assert isinstance(op, ops.Layout)
        stored = self.storages[node.output.name]
        bits = stored.bits
        value = place_layout(op, stored, operands)
        if value.moved is not None and not readable(value):
            operands = [v if v.moved is None else self.in_place(node.name, v) for v in operands]
            value = place_layout(op, stored, operands)
        if value.moved is not None:
            return value
        if len(value.shape) == 1:
            return self.copy(node.name, value, bits) if value.number.min() == CONSTANT else value
        if not value.channels_in_place():
            return self.copy(node.name, value, bits)
        source = channel_source(value, self.overlay.block_in)
        use = value.shape[0] / (len(source.blocks) * self.overlay.block_in)
        rounded = value.shape[0] / (_blocks(value.shape[0], self.overlay.block_in) * self.overlay.block_in)
        return self.copy(node.name, value, bits) if use < LEAST_USE * rounded else value

    def shift(self, node: Node, operands: Sequence[Value]) -> Value:
        op = node.operator
        assert isinstance(op, ops.Shift)
        fill = self.zero_point(node.inputs[0], op.zero_point)
        return place_shift(op, fill, self.in_place(node.inputs[0].name, operands[0]), self.overlay)

    # What several of them share.

    def window(
        self,
        node: Node,
        kernel: tuple[int, int],
        strides: tuple[int, int],
        dilation: tuple[int, int],
        padding: ops.Pads,
    ) -> Geometry:
        _, _, height, width = node.output.shape
        return Geometry(kernel, strides, dilation, (-padding[0], -padding[1]), (height, width))

    def vector_map(self, node: Node, source: Source) -> Map:
        height, width = node.output.shape[2:] if len(node.output.shape) == 4 else (1, 1)
        bits = self.bits(node.output)
        planes = -(-bits // self.overlay.inp_bits)
        m = Map(node.name, height, width, len(source.blocks) * planes, bits=bits, planes=planes)
        self.maps.append(m)
        return m

    def vector(
        self,
        node: Node,
        op: VectorOp,
        source: Source,
        geometry: Geometry,
        parameters: Parameters,
        zero_point: int = 0,
        table: NDArray[np.uint8] | None = None,
    ) -> Value:
        output = self.vector_map(node, source)
        layer = VectorLayer(node.name, op, source, output, geometry, parameters, zero_point, table=table)
        self.layers.append(layer)
        return self.result(node, layer)

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


_LOWER: dict[type[ops.Operator], Callable[[_Lowering, Node, Sequence[Value]], Value]] = {
    ops.Conv2d: _Lowering.conv2d,
    ops.ConvTranspose2d: _Lowering.conv2d_transpose,
    ops.Dense: _Lowering.dense,
    ops.MaxPool2d: _Lowering.max_pool2d,
    ops.SumPool2d: _Lowering.sum_pool2d,
    ops.Add: _Lowering.add,
    ops.Multiply: _Lowering.multiply,
    ops.Table: _Lowering.table,
    ops.Shift: _Lowering.shift,
    ops.Layout: _Lowering.layout,
}
