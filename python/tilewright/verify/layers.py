"""The layers of a quantised network, by the tensors that hold their results at each level.

A layer is an operator of the integer level. Its result is an integer tensor of the quantised ONNX, a variable of the
imported Relax module and of the integer module, a tensor of a region's graph, and lanes of a map in the machine.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import numpy_helper
from tvm import relax
from tvm.ir import GlobalVar, IRModule

from tilewright.codegen.graph import Graph
from tilewright.frontend.relax_import import Sources
from tilewright.integer.emit import LAYER
from tilewright.integer.parse import kind_of, parse
from tilewright.relay_passes.regions import Regions
from tilewright.relay_passes.rewrite import bindings_of

Array = NDArray[Any]

_QUANTISERS = frozenset({"QuantizeLinear", "Clip", "Where", "GreaterOrEqual", "Cast"})


@dataclass(frozen=True)
class Scale:
    """(q - zero) * scale for integers q from `low` to `high`."""

    scale: float
    zero: int
    low: int
    high: int

    @property
    def bits(self) -> int:
        """Width of the integers."""
        return (self.high - self.low).bit_length() if self.high - self.low != 2 else 1

    def clipped(self, real: Array) -> Array:
        """Numbers within what the integers stand for."""
        return np.clip(real, (self.low - self.zero) * self.scale, (self.high - self.zero) * self.scale)

    def values(self, q: Array) -> NDArray[np.float32]:
        """Numbers of integers."""
        return np.asarray((q.astype(np.float32) - np.float32(self.zero)) * np.float32(self.scale))


@dataclass(frozen=True)
class Layer:
    """A layer and its result.

    Attributes:
        name: source layer, made different by its tensor's name where several stem from one node.
        kind: of the integer operator.
        variable: in the integer module.
        composite: its function there.
        operands: variables that it reads.
        tensor: in the quantised ONNX; None where a rewrite made it.
        real: the float tensor before its quantiser there; None likewise.
        dequantised: the float tensor that its integers stand for there; None where nothing dequantises them.
        region, region_tensor: where a graph has it; None on the host.
        scale: of the integers; None where a tensor has several.
        weight_bits: that the weights need; 8 for a layer without.
    """

    name: str
    kind: str
    variable: str
    composite: GlobalVar
    operands: tuple[str, ...]
    tensor: str | None
    real: str | None
    dequantised: str | None
    region: int | None
    region_tensor: str
    scale: Scale | None
    weight_bits: int


@dataclass(frozen=True)
class Operand:
    """What layers read and none makes: integers of an input, or of what the host computes.

    Attributes: as in :class:`Layer`.
    """

    variable: str
    tensor: str
    real: str | None
    scale: Scale | None


class OnnxIndex:
    """Who makes and who reads each tensor of a quantised model."""

    def __init__(self, model: onnx.ModelProto) -> None:
        self.graph = model.graph
        self.constants = {item.name: item for item in self.graph.initializer}
        self.maker = {name: node for node in self.graph.node for name in node.output}
        self.readers: dict[str, list[onnx.NodeProto]] = {}
        for node in self.graph.node:
            for name in dict.fromkeys(node.input):
                self.readers.setdefault(name, []).append(node)

    def real(self, tensor: str) -> str | None:
        """The float tensor that a chain of quantiser nodes makes integers of."""
        for _ in range(len(_QUANTISERS)):
            node = self.maker.get(tensor)
            if node is None or node.op_type not in _QUANTISERS:
                return None
            operands = [name for name in node.input if name and name not in self.constants]
            if not operands:
                return None
            tensor = operands[0]
            if node.op_type in ("QuantizeLinear", "GreaterOrEqual"):
                return tensor
        return None

    def dequantised(self, tensor: str) -> str | None:
        """The float tensor that a tensor's integers stand for."""
        for node in self.readers.get(tensor, []):
            if node.op_type == "DequantizeLinear":
                return str(node.output[0])
            if node.op_type == "Clip":
                return self.dequantised(node.output[0])
        return None

    def scale(self, tensor: str) -> Scale | None:
        """By what the integers of a tensor are dequantised."""
        for node in self.readers.get(tensor, []):
            if node.op_type == "DequantizeLinear" and node.input[0] == tensor:
                parts = [self.value(name) for name in node.input[1:]]
                if parts and all(part is not None and part.size == 1 for part in parts):
                    zero = parts[1] if len(parts) > 1 else np.zeros(1, np.uint8)
                    assert parts[0] is not None and zero is not None
                    ends = self.ends(tensor) or _ends_of(zero.dtype)
                    return Scale(float(parts[0].item()), int(zero.item()), *ends)
            elif node.op_type == "Clip":
                found = self.scale(node.output[0])
                if found is not None:
                    return found
        return None

    def ends(self, tensor: str) -> tuple[int, int] | None:
        """Least and largest of the integers that a Clip or a Where between two leaves."""
        node = self.maker.get(tensor)
        if node is None or node.op_type not in ("Clip", "Where") or len(node.input) < 3:
            return None
        first, second = (self.value(name) for name in node.input[1:3])
        if first is None or second is None or first.size != 1 or second.size != 1:
            return None
        low, high = sorted((int(first.item()), int(second.item())))
        return low, high

    def value(self, name: str) -> Array | None:
        """A constant's value."""
        item = self.constants.get(name)
        return None if item is None else np.asarray(numpy_helper.to_array(item))


def _ends_of(dtype: np.dtype[Any]) -> tuple[int, int]:
    info = np.iinfo(dtype)
    return int(info.min), int(info.max)


def find_operands(model: onnx.ModelProto, regions: Regions, layers: Sequence[Layer]) -> list[Operand]:
    """The tensors that layers read from elsewhere."""
    index, sources = OnnxIndex(model), Sources.of(regions.stages.integer["main"])
    tensor_of = {variable: tensor for tensor, variable in reversed(sources.variable_of.items())}
    made = {layer.variable for layer in layers}
    names = dict.fromkeys(name for layer in layers for name in layer.operands if name not in made)
    return [
        Operand(name, tensor_of[name], index.real(tensor_of[name]), index.scale(tensor_of[name]))
        for name in names
        if name in tensor_of
    ]


def find_layers(model: onnx.ModelProto, regions: Regions) -> list[Layer]:
    """The layers in the order of the integer module."""
    module = regions.stages.integer
    main, index = module["main"], OnnxIndex(model)
    sources = Sources.of(main)
    tensor_of = {variable: tensor for tensor, variable in reversed(sources.variable_of.items())}
    calls = [
        b
        for b in bindings_of(main)
        if isinstance(b.value, relax.Call)
        and isinstance(b.value.op, GlobalVar)
        and kind_of(module[b.value.op])
    ]
    names = [_layer_name(module, b) for b in calls]
    operators = [parse(module[b.value.op]) for b in calls]
    kinds = [operator.kind for operator in operators]
    places = _places(list(zip([b.var.name for b in calls], names, kinds, strict=True)), regions.graphs)
    layers: list[Layer] = []
    taken: set[str] = set()
    for binding, name, operator in zip(calls, names, operators, strict=True):
        variable = binding.var.name
        tensor = tensor_of.get(variable)
        region, region_tensor = places.get(variable, (None, ""))
        shown = name if name not in taken else variable
        taken.add(shown)
        layers.append(
            Layer(
                shown,
                operator.kind,
                variable,
                binding.value.op,
                tuple(a.name for a in binding.value.args),
                tensor,
                None if tensor is None else index.real(tensor),
                None if tensor is None else index.dequantised(tensor),
                region,
                region_tensor,
                None if tensor is None else index.scale(tensor),
                _bits(getattr(operator, "weight", None)),
            )
        )
    return layers


def _bits(weight: Array | None) -> int:
    """Of 8, 4, 2 and 1 the fewest that hold signed weights; -1 and +1 need 1."""
    if weight is None or not weight.size:
        return 8
    low, high = int(weight.min()), int(weight.max())
    if bool((np.abs(weight) == 1).all()):
        return 1
    return next((bits for bits in (2, 4) if -(1 << bits - 1) <= low and high < 1 << bits - 1), 8)


def _layer_name(module: IRModule, binding: relax.VarBinding) -> str:
    attrs = module[binding.value.op].attrs
    return str(attrs[LAYER]) if LAYER in attrs else str(binding.var.name)


def _places(calls: Sequence[tuple[str, str, str]], graphs: Sequence[Graph]) -> Mapping[str, tuple[int, str]]:
    """Variable -> region and tensor there. Results of regions are renamed: those are found by layer and kind."""
    known = {variable for variable, _, _ in calls}
    found: dict[str, tuple[int, str]] = {}
    renamed: dict[tuple[str, str], list[tuple[int, str]]] = {}
    for number, graph in enumerate(graphs):
        for node in graph.nodes:
            name = node.output.name
            if name in known and name not in found:
                found[name] = (number, name)
            else:
                renamed.setdefault((node.name, node.operator.kind), []).append((number, name))
    for variable, layer, kind in calls:
        waiting = renamed.get((layer, kind), [])
        if variable not in found and waiting:
            found[variable] = waiting.pop(0)
    return found
