"""What a layer's converter sees: its parameters, the shapes of its inputs, its blobs, and where nodes go."""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field

import numpy as np
import numpy.typing as npt

from tilewright.errors import Fault, ModelError, TilewrightError, UnsupportedModel
from tilewright.frontend.caffe.graph import MAX_ELEMENTS, Attribute, Graph
from tilewright.frontend.caffe.records import Record
from tilewright.frontend.caffe.weights import Array, BlobSpec, Shape, WeightSource


@dataclass
class Blobs:
    """The weight source, blobs shared by name (`param { name: ... }`), every blob handed out, by layer, and
    the faults of those that could not be.
    """

    source: WeightSource
    shared: dict[str, Array] = field(default_factory=dict)
    used: dict[str, list[Array]] = field(default_factory=dict)
    errors: list[TilewrightError] = field(default_factory=list)


@dataclass
class LayerContext:
    """One layer being converted. `tops` are the tensor names that the converter has to produce."""

    record: Record
    name: str
    bottoms: list[str]
    tops: list[str]
    graph: Graph
    weights: Blobs
    file_batch: int = 1

    @property
    def type(self) -> str:
        """The Caffe layer type."""
        return self.record.word("type")

    def param(self, name: str) -> Record:
        """A parameter block such as `pooling_param`, all defaults where the file has none."""
        return self.record.child(name)

    def shape(self, bottom: int = 0) -> Shape:
        """Shape of an input."""
        return self.graph.shapes[self.bottoms[bottom]]

    def image(self, bottom: int = 0) -> tuple[int, int, int, int]:
        """Shape of an input that has to be N, C, H, W."""
        shape = self.shape(bottom)
        if len(shape) != 4:
            raise self.wrong(f"expected an input of 4 dimensions (N, C, H, W), found shape {shape}")
        return shape[0], shape[1], shape[2], shape[3]

    def axis(self, axis: int, rank: int, what: str = "axis", *, end: bool = False) -> int:
        """A Caffe axis, negative from the end, as 0..rank-1 (0..rank with `end`)."""
        limit = rank + 1 if end else rank
        resolved = axis + limit if axis < 0 else axis
        if not 0 <= resolved < limit:
            raise self.wrong(f"{what} {axis} is outside of an input with {rank} dimensions")
        return resolved

    def wrong(self, message: str, remedy: str = "") -> TilewrightError:
        """The error of a layer that contradicts itself or its inputs."""
        return ModelError(Fault(message, self.where, remedy))

    def unsupported(self, message: str, remedy: str = "") -> TilewrightError:
        """The error of a valid layer that is not supported."""
        return UnsupportedModel(Fault(message, self.where, remedy))

    @property
    def where(self) -> str:
        """Layer, type and line, for messages."""
        return f"layer {self.name!r} ({self.type}, line {self.record.line})"

    def constant(self, part: str, values: npt.ArrayLike, dtype: npt.DTypeLike = np.float32) -> str:
        """Add a constant named `layer/part`; returns its tensor name."""
        return self.graph.constant(f"{self.name}/{part}", np.asarray(values, dtype=dtype))

    def indices(self, part: str, values: Sequence[int]) -> str:
        """Add an int64 constant (shapes, axes, positions)."""
        return self.constant(part, np.asarray(values, dtype=np.int64), np.int64)

    def emit(
        self, op: str, inputs: Sequence[str], shape: Sequence[int], part: str = "", **attributes: Attribute
    ) -> str:
        """Add a node, return its output; without `part` it is the last node and gives the first top."""
        size = math.prod(shape)
        if min(shape, default=1) < 1 or size > MAX_ELEMENTS:
            raise self.wrong(f"its output would have shape {tuple(shape)}", "each size has to be 1 or more")
        label = f"{self.name}/{part}" if part else self.name
        output = self.graph.tensor(label) if part else self.tops[0]
        self.graph.shapes[output] = tuple(shape)
        self.graph.node(op, inputs, [output], label, attributes=attributes)
        return output

    def blobs(self, *specs: BlobSpec) -> list[Array]:
        """The layer's blobs in the shapes asked for.

        Where the weights lack the layer or do not fit, ones take their place, so that the layers behind it are
        checked too; the fault goes to `weights.errors`.
        """
        try:
            return self._blobs(specs)
        except TilewrightError as error:
            if any(min(s.shape, default=1) < 1 or math.prod(s.shape) > MAX_ELEMENTS for s in specs):
                raise
            self.weights.errors.append(error)
            return [np.broadcast_to(np.float32(1), spec.shape) for spec in specs]

    def _blobs(self, specs: Sequence[BlobSpec]) -> list[Array]:
        for spec in specs:
            if min(spec.shape, default=1) < 1:
                raise self.wrong(
                    f"{spec.role} would have shape {spec.shape}", "each size has to be 1 or more"
                )
        names = [p.word("name") for p in self.record.children("param")][: len(specs)]
        names += [""] * (len(specs) - len(names))
        kept = [self.weights.shared.get(n) if n else None for n in names]
        found = self.weights.source.blobs(self.name, specs)
        arrays: list[Array] = []
        for index, (spec, name, old) in enumerate(zip(specs, names, kept, strict=True)):
            if old is not None and old.shape == spec.shape:
                arrays.append(old)
            elif found is not None:
                arrays.append(found[index])
            else:
                wanted = ", ".join(f"{s.role} {s.shape}" for s in specs)
                raise self.wrong(
                    f"the caffemodel has no blobs for it (expected {wanted})",
                    "the prototxt and the caffemodel have to name their layers alike",
                )
            if name:
                self.weights.shared.setdefault(name, arrays[-1])
        self.weights.used[self.name] = arrays
        return arrays


@dataclass(frozen=True)
class Converter:
    """How many inputs and outputs a layer type takes (inclusive limits), and what turns it into nodes."""

    convert: Callable[[LayerContext], None]
    bottoms: tuple[int, int]
    tops: tuple[int, int]


MANY = 1 << 30
CONVERTERS: dict[str, Converter] = {}
"""Layer type -> converter; filled by the modules of `layers/`."""


def converter(
    *types: str, bottoms: tuple[int, int] = (1, 1), tops: tuple[int, int] = (1, 1)
) -> Callable[[Callable[[LayerContext], None]], Callable[[LayerContext], None]]:
    """Register a function as the converter of some layer types."""

    def register(function: Callable[[LayerContext], None]) -> Callable[[LayerContext], None]:
        for name in types:
            CONVERTERS[name] = Converter(function, bottoms, tops)
        return function

    return register
