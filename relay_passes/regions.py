"""A quantised network parted: its integer level, and the regions of the accelerator as graphs."""

from __future__ import annotations

from dataclasses import dataclass

from tvm.ir import IRModule

from tilewright.codegen.graph import Graph
from tilewright.codegen.lift import lift
from tilewright.relay_passes.partition import Partition, is_region
from tilewright.relay_passes.supported import Stages, lowered
from tilewright.targets.config import Overlay


@dataclass(frozen=True)
class Regions:
    """A network in parts.

    Attributes:
        stages: what it was on the way, for the reasons of each placement.
        module: the host's part, which calls the regions.
        graphs: the regions in the order in which they are called.
    """

    stages: Stages
    module: IRModule
    graphs: list[Graph]


def find_regions(imported: IRModule, overlay: Overlay) -> Regions:
    """Part a network, given as Relax with QDQ. Raises UnsupportedModel for operators that nobody runs."""
    stages = lowered(imported, overlay)
    module = Partition(overlay)(stages.integer, stages.evicted)
    return Regions(stages, module, graphs_of(module))


def graphs_of(module: IRModule) -> list[Graph]:
    """The regions of a partitioned module as graphs, in the order in which they are called."""
    # They are named tilewright_0, tilewright_1, .. in that order.
    found = {symbol.name_hint: f for symbol, f in module.functions.items() if is_region(f)}
    names = sorted(found, key=lambda name: int(name.rpartition("_")[2]))
    return [lift(found[name], name) for name in names]
