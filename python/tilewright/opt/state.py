"""A network on its way down: what it is held as at each level, and what later levels need of earlier ones."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal, TypeAlias, get_args

import onnx

from tilewright.frontend.graph import Graph
from tilewright.frontend.infer_types import infer_types
from tilewright.frontend.model import Model
from tilewright.runtime import Package
from tilewright.targets.config import Overlay
from tilewright.targets.region import CompiledRegion

if TYPE_CHECKING:
    from tvm.ir import IRModule

    from tilewright.codegen.plan import Plan
    from tilewright.pipeline import Calibration
    from tilewright.relay_passes.regions import Regions

Level: TypeAlias = Literal[
    "float", "quantised", "graph", "integer", "regions", "planned", "stream", "package"
]
LEVELS: tuple[Level, ...] = get_args(Level)
ONNX_LEVELS = ("float", "quantised")
RELAX_LEVELS = ("graph", "integer", "regions")

ABOUT: dict[Level, str] = {
    "float": "ONNX",
    "quantised": "ONNX with QuantizeLinear and DequantizeLinear",
    "graph": "Relax, as imported",
    "integer": "Relax with integer operators",
    "regions": "Relax with accelerator regions",
    "planned": "regions with a plan",
    "stream": "instructions and constants of each region",
    "package": "a compiled network",
}
"""What a network is held as at each level, from the top down."""


@dataclass
class State:
    """A network at a level. Passes change it in place.

    Attributes:
        level: where it is.
        overlay: that it is compiled for.
        model: the network as ONNX; None where a file of Relax was read.
        calibration, layout: for the quantiser.
        graph: the ONNX graph while rewrites run on it.
        imported, integer, module: Relax as imported, as partitioning finds it, and as it is now.
        regions, plan, streams, package: what the levels below hold.
        name: of the network.
    """

    level: Level
    overlay: Overlay
    model: Model | None = None
    calibration: Calibration | None = None
    layout: str | None = None
    graph: Graph | None = field(default=None, repr=False)
    imported: IRModule | None = field(default=None, repr=False)
    integer: IRModule | None = field(default=None, repr=False)
    module: IRModule | None = field(default=None, repr=False)
    regions: Regions | None = field(default=None, repr=False)
    plan: Plan | None = field(default=None, repr=False)
    streams: tuple[CompiledRegion, ...] = field(default=(), repr=False)
    package: Package | None = field(default=None, repr=False)
    name: str = "network"

    @property
    def batch(self) -> int:
        """Images of a launch."""
        return 1 if self.model is None else self.model.batch

    def rewritable(self) -> Graph:
        """The ONNX graph, to be rewritten in place."""
        if self.graph is None:
            self.graph = Graph.from_model(self.onnx())
            infer_types(self.graph)
        return self.graph

    def onnx(self) -> onnx.ModelProto:
        """The ONNX model at this level, or the last one above it."""
        if self.graph is not None:
            return self.graph.to_model()
        assert self.model is not None, "only levels of Relax come without a model"
        return self.model.proto

    def settle(self) -> Model:
        """The network as a model, after rewrites."""
        from dataclasses import replace

        assert self.model is not None, "only levels of Relax come without a model"
        if self.graph is not None:
            self.model = replace(self.model, proto=self.graph.to_model())
            self.graph = None
        return self.model
