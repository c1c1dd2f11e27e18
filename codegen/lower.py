"""Region graph -> machine layers: layouts resolved, values made unsigned, operators assigned to units."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from tilewright.codegen.channel_order import channel_order
from tilewright.codegen.constants import unbalanced
from tilewright.codegen.displacement import fold, place_shift, readable
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
)
from tilewright.codegen.layouts import place_layout
from tilewright.codegen.maps import Maps, blocks_of
from tilewright.codegen.packing import Convolution, packed
from tilewright.codegen.values import (
    CONSTANT,
    Map,
    Source,
    Value,
    channel_source,
    flat_source,
    matching_source,
)
from tilewright.codegen.widths import storages
from tilewright.integer import ops
from tilewright.targets.config import Overlay
from tilewright.targets.isa.spec import Base, VectorOp

LEAST_USE = 0.5
"""A value that uses a smaller share of the lanes it makes consumers read is copied together."""


@dataclass(eq=False)
class Lowered:
    """A region as machine layers in order, with the maps of its inputs and outputs, and where each tensor lies."""

    inputs: list[tuple[Tensor, Map, tuple[int, ...]]]
    outputs: list[tuple[Tensor, Map, tuple[int, ...]]]
    layers: list[Layer]
    maps: list[Map]
    values: Mapping[str, Value]


def lower(graph: Graph, overlay: Overlay) -> Lowered:
    """Lower a region. Raises ScheduleError naming the layer where an operator has no form on the machine."""
    return _Lowering(graph, overlay).run()


def _pointwise(height: int, width: int) -> Geometry:
    return Geometry(count=(height, width))


class _Lowering(Maps):
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
        return Lowered(inputs, outputs, self.layers, self.maps, self.values)

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
        rounded = value.shape[0] / (blocks_of(value.shape[0], self.overlay.block_in) * self.overlay.block_in)
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
