"""From a prototxt to a converted network: phases, inputs, names, and one converter for each layer."""

from __future__ import annotations

import math
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

import onnx

from tilewright.errors import Fault, FaultList, ModelError, TilewrightError, UnsupportedModel
from tilewright.frontend.caffe.context import Blobs, LayerContext
from tilewright.frontend.caffe.graph import MAX_ELEMENTS, Graph
from tilewright.frontend.caffe.inputs import DATA_TYPES, InputBlob, declared_inputs, layer_inputs
from tilewright.frontend.caffe.layers import CONVERTERS
from tilewright.frontend.caffe.random_weights import RandomWeights, weight_gains
from tilewright.frontend.caffe.records import Record, suggest, to_record
from tilewright.frontend.caffe.text import Block, read_text
from tilewright.frontend.caffe.upgrade import upgrade
from tilewright.frontend.caffe.weights import (
    Array,
    FileWeights,
    Shape,
    WeightSource,
    read_caffemodel,
)

DROPPED_TYPES = frozenset(
    {
        "Accuracy",
        "ContrastiveLoss",
        "DetectionEvaluate",
        "EuclideanLoss",
        "HDF5Output",
        "HingeLoss",
        "InfogainLoss",
        "MultiBoxLoss",
        "MultinomialLogisticLoss",
        "SigmoidCrossEntropyLoss",
        "SoftmaxWithLoss",
    }
)
"""Layers for training and measuring: left out, and what they read counts as not read."""


class CaffeWarning(UserWarning):
    """Something in a prototxt is ignored or assumed."""


@dataclass(frozen=True)
class CaffeNet:
    """A converted network.

    Attributes:
        model: ONNX, opset 21; see :func:`tilewright.frontend.caffe.load_caffe`.
        blobs: layer name -> its blobs as Caffe holds them (BatchNorm's three undivided), float32.
    """

    model: onnx.ModelProto
    blobs: Mapping[str, Sequence[Array]]


def _rule_met(rule: Record, level: int, stages: Sequence[str]) -> bool:
    """Whether the TEST phase at a level with some stages meets an include or exclude rule."""
    return (
        not (rule.has("phase") and rule.word("phase") != "TEST")
        and not (rule.has("min_level") and level < rule.integer("min_level"))
        and not (rule.has("max_level") and level > rule.integer("max_level"))
        and all(stage in stages for stage in rule.words("stage"))
        and not any(stage in stages for stage in rule.words("not_stage"))
    )


def _kept_layers(net: Record, faults: FaultList, where: str) -> list[Record]:
    """The layers of the TEST phase, without losses and measures."""
    state = net.child("state")
    level, stages = state.integer("level"), state.words("stage")
    kept = []
    for layer in net.children("layer"):
        include, exclude = layer.children("include"), layer.children("exclude")
        if include and exclude:
            faults.add(
                f"layer {layer.word('name')!r} has include and exclude rules: only one kind is allowed",
                where=f"{where}, line {layer.line}",
            )
        wanted = any(_rule_met(rule, level, stages) for rule in include) if include else True
        if any(_rule_met(rule, level, stages) for rule in exclude):
            wanted = False
        if wanted and layer.word("type") not in DROPPED_TYPES:
            kept.append(layer)
    return kept


def _check_fields(net: Record, kept: Sequence[Record], where: str) -> None:
    """Unknown fields: warn at net and layer level, refuse in a parameter block, where they may change
    results.
    """
    faults = FaultList()
    for owner in (net, *kept):
        for entry in owner.unknown:
            text = f"{where}, line {entry.line}: unknown field {entry.name!r} is ignored"
            warnings.warn(text, CaffeWarning, stacklevel=4)
    for layer in kept:
        for path, line in layer.unknown_fields()[len(layer.unknown) :]:
            faults.add(
                f"layer {layer.word('name')!r}: unknown field {path!r}, which may change the result",
                where=f"{where}, line {line}",
                remedy="remove it if it does not",
            )
    faults.raise_if_any(UnsupportedModel)


def _check_types(kept: Sequence[Record], where: str) -> None:
    faults = FaultList()
    for layer in kept:
        kind = layer.word("type")
        if kind not in CONVERTERS and kind not in DATA_TYPES:
            what = f"layer type {kind!r} is not supported" if kind else "the layer has no type"
            faults.add(
                f"layer {layer.word('name')!r}: {what}",
                where=f"{where}, line {layer.line}",
                remedy=suggest(kind, [*CONVERTERS, *DATA_TYPES]),
            )
    faults.raise_if_any(UnsupportedModel)


class _Conversion:
    """The walk over the layers in file order, which is Caffe's order of execution."""

    def __init__(self, name: str, kept: Sequence[Record], where: str, source: WeightSource) -> None:
        self.graph = Graph(name)
        self.where = where
        self.kept = kept
        self.faults: list[TilewrightError] = []
        self.weights = Blobs(source, errors=self.faults)
        self.current: dict[str, str] = {}  # blob -> tensor of its latest version
        self.broken: set[str] = set()  # blobs whose layer is at fault: not reported again
        self.unread: dict[str, None] = {}  # blobs nobody has read yet, in order
        self.last_writer = {top: i for i, layer in enumerate(kept) for top in layer.words("top")}
        self.inputs: set[str] = set()
        self.file_batch = 1
        # Blob names come first: a constant or an in-between tensor never takes the name of a blob.
        self.graph.tensor_names.update(dict.fromkeys(self.last_writer, 1))

    def fault(self, message: str, line: int, remedy: str = "") -> None:
        self.faults.append(ModelError(Fault(message, f"{self.where}, line {line}", remedy)))

    def add_input(self, blob: InputBlob, batch: int, override: Shape | None) -> None:
        if blob.name in self.current:
            self.fault(f"blob {blob.name!r} is produced twice", blob.line)
            return
        shape = override or blob.shape
        if shape is None:
            self.broken.add(blob.name)
            self.fault(
                f"the shape of input {blob.name!r} is not known: {blob.reason}", blob.line, blob.remedy
            )
            return
        if blob.shape is not None and len(blob.shape) > 1 and blob.shape[0] > 0:
            self.file_batch = max(self.file_batch, blob.shape[0])
            shape = override or (batch, *blob.shape[1:])
        if not shape or min(shape) < 1 or math.prod(shape) > MAX_ELEMENTS:
            self.broken.add(blob.name)
            self.fault(f"input {blob.name!r} has shape {shape}: each size has to be 1 or more", blob.line)
            return
        self.graph.tensor_names[blob.name] = 1
        self.inputs.add(blob.name)
        self.graph.inputs.append(blob.name)
        self.graph.shapes[blob.name] = shape
        self.current[blob.name] = blob.name
        self.unread[blob.name] = None

    def _tops(self, index: int, layer: Record, name: str) -> list[str]:
        """Tensor names: the last version of a blob has the blob's name, earlier ones `blob/layer`."""
        tensors = []
        for top in layer.words("top"):
            final = self.last_writer[top] == index and top not in self.inputs
            tensors.append(top if final else self.graph.tensor(f"{top}/{name}"))
        return tensors

    def add_layer(self, index: int, layer: Record, name: str) -> None:
        bottoms, tops = layer.words("bottom"), layer.words("top")
        label = f"layer {name!r} ({layer.word('type')})"
        entry = CONVERTERS[layer.word("type")]
        sound = True
        for what, blobs, (low, high) in (("bottoms", bottoms, entry.bottoms), ("tops", tops, entry.tops)):
            if not low <= len(blobs) <= high:
                allowed = f"{low}" if low == high else f"{low} or more" if high > 99 else f"{low} to {high}"
                self.fault(f"{label}: expected {allowed} {what}, found {len(blobs)}", layer.line)
                sound = False
        for bottom in bottoms:
            if bottom in self.broken:
                sound = False
            elif bottom not in self.current:
                remedy = (
                    suggest(bottom, list(self.current)) or "a layer has to come after those that it reads"
                )
                self.fault(f"{label}: no layer before it produces its bottom {bottom!r}", layer.line, remedy)
                sound = False
            elif self.current[bottom] in self.graph.dynamic:
                self.unsupported(
                    f"{label}: the size of its bottom {bottom!r} depends on the data", layer.line
                )
                sound = False
        own, seen = set(bottoms), set[str]()
        for top in tops:
            again = top in seen or (top not in own and (top in self.current or top in self.broken))
            seen.add(top)
            if again:
                self.fault(
                    f"{label}: blob {top!r} is produced twice", layer.line, "give each top its own name"
                )
                sound = False
        for bottom in bottoms:
            self.unread.pop(bottom, None)
        if sound:
            sound = self._convert(index, layer, name)
        if not sound:
            self.broken.update(tops)

    def unsupported(self, message: str, line: int) -> None:
        self.faults.append(UnsupportedModel(Fault(message, f"{self.where}, line {line}")))

    def _convert(self, index: int, layer: Record, name: str) -> bool:
        context = LayerContext(
            layer,
            name,
            [self.current[b] for b in layer.words("bottom")],
            self._tops(index, layer, name),
            self.graph,
            self.weights,
            self.file_batch,
        )
        try:
            CONVERTERS[layer.word("type")].convert(context)
        except TilewrightError as error:
            self.faults.append(error)
            return False
        for top, tensor in zip(layer.words("top"), context.tops, strict=True):
            self.current[top] = tensor
            self.unread[top] = None
        return True

    def finish(self) -> onnx.ModelProto:
        """The model, or all faults: as ModelError if any layer contradicts itself, else as
        UnsupportedModel.
        """
        if self.faults:
            faults = [fault for error in self.faults for fault in error.faults]
            if all(isinstance(error, UnsupportedModel) for error in self.faults):
                raise UnsupportedModel(*faults)
            raise ModelError(*faults)
        outputs = [self.current[blob] for blob in self.unread if self.current[blob] not in self.inputs]
        used = {name for node in self.graph.nodes for name in node.input}
        self.graph.inputs = [name for name in self.graph.inputs if name in used]
        if not outputs or not self.graph.nodes:
            raise ModelError(Fault("the network has no layers that compute anything", self.where))
        return self.graph.model(outputs)


def _unique_names(kept: Sequence[Record]) -> list[str]:
    """Layer names; unnamed layers are called after type and line."""
    return [layer.word("name") or f"{layer.word('type')}_{layer.line}" for layer in kept]


def _source(weights: str | Path | int | None, kept: Sequence[Record], where: str) -> WeightSource:
    if weights is None:
        raise ModelError(
            Fault(
                "the network needs weights",
                where,
                "give the caffemodel (--weights FILE.caffemodel), or random weights for studies of speed "
                "(--weights random:SEED)",
            )
        )
    if isinstance(weights, int):
        if weights < 0:
            raise ModelError(Fault(f"the seed of random weights is {weights}: has to be 0 or more"))
        return RandomWeights(weights, weight_gains(kept))
    return FileWeights(str(weights), read_caffemodel(weights))


def _overrides(
    given: Mapping[str, Sequence[int]] | None, inputs: Sequence[InputBlob], where: str
) -> dict[str, Shape]:
    shapes = {name: tuple(int(d) for d in shape) for name, shape in (given or {}).items()}
    names = [blob.name for blob in inputs]
    faults = FaultList()
    for name, shape in shapes.items():
        if name not in names:
            faults.add(
                f"input shape given for {name!r}, which is no input",
                where=where,
                remedy=suggest(name, names) or f"the inputs are {', '.join(names) or 'none'}",
            )
        elif not shape or min(shape) < 1:
            faults.add(f"input shape {shape} of {name!r}: each size has to be 1 or more", where=where)
    faults.raise_if_any(ModelError)
    return shapes


def _read_record(prototxt: Path, where: str) -> Record:
    faults = FaultList()
    tree: Block = upgrade(read_text(prototxt), faults, where)
    net = to_record(tree, "NetParameter", faults, where)
    faults.raise_if_any(ModelError)
    if not net.children("layer"):
        raise ModelError(Fault("the file describes no layers", where, "give the prototxt of a network"))
    return net


def read_caffe(
    prototxt: str | Path,
    weights: str | Path | int | None,
    *,
    batch: int = 1,
    input_shapes: Mapping[str, Sequence[int]] | None = None,
) -> CaffeNet:
    """Convert a Caffe network and keep its blobs; see :func:`tilewright.frontend.caffe.load_caffe`."""
    path = Path(prototxt)
    where = str(path)
    if batch < 1:
        raise ModelError(Fault(f"batch is {batch}: has to be 1 or more"))
    net = _read_record(path, where)
    faults = FaultList()
    kept = _kept_layers(net, faults, where)
    inputs = declared_inputs(net, faults, where)
    faults.raise_if_any(ModelError)
    _check_types(kept, where)
    _check_fields(net, kept, where)
    source = _source(weights, kept, where)
    readers = {
        bottom: layer
        for layer in reversed(kept)
        if layer.word("type") == "Convolution"
        for bottom in layer.words("bottom")
    }
    by_layer = {
        i: layer_inputs(x, readers, source) for i, x in enumerate(kept) if x.word("type") in DATA_TYPES
    }
    every_input = [*inputs, *(blob for blobs in by_layer.values() for blob in blobs)]
    overrides = _overrides(input_shapes, every_input, where)
    read = {bottom for layer in kept for bottom in layer.words("bottom")}
    conversion = _Conversion(net.word("name") or path.stem, kept, where, source)
    for blob in inputs:
        conversion.add_input(blob, batch, overrides.get(blob.name))
    for index, (layer, name) in enumerate(zip(kept, _unique_names(kept), strict=True)):
        if index not in by_layer:
            conversion.add_layer(index, layer, name)
            continue
        for blob in by_layer[index]:
            if blob.name in read:  # labels and the like, which only dropped layers read, are no inputs
                if blob.assumed and blob.name not in overrides:
                    warnings.warn(f"{where}, line {blob.line}: {blob.assumed}", CaffeWarning, stacklevel=3)
                conversion.add_input(blob, batch, overrides.get(blob.name))
    return CaffeNet(conversion.finish(), conversion.weights.used)
