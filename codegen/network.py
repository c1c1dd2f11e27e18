"""All regions of a network: planned, or compiled by a plan. Faults of all regions are told together."""

from __future__ import annotations

from collections.abc import Sequence

from tilewright import debug
from tilewright.codegen.checks import plan_faults
from tilewright.codegen.compile import compile_default, compile_prepared
from tilewright.codegen.graph import Graph
from tilewright.codegen.plan import Plan, RegionPlan
from tilewright.codegen.prepared import prepare
from tilewright.errors import FaultList, ScheduleError
from tilewright.targets.config import Overlay
from tilewright.targets.isa.codec import decode_stream
from tilewright.targets.isa.listing import line
from tilewright.targets.region import CompiledRegion


def plan_regions(graphs: Sequence[Graph], overlay: Overlay, batch: int = 1) -> Plan:
    """The default plan of a network's regions. Raises ScheduleError with the layers that fit in no way."""
    faults = FaultList()
    found: list[RegionPlan] = []
    for graph in graphs:
        try:
            found.append(compile_default(prepare(graph, overlay, batch))[0])
        except ScheduleError as error:
            faults.faults += error.faults
    faults.raise_if_any(ScheduleError)
    return Plan.of(found, overlay, batch)


def compile_regions(
    graphs: Sequence[Graph], overlay: Overlay, plan: Plan | None = None, batch: int = 1
) -> tuple[tuple[CompiledRegion, ...], Plan]:
    """Compile a network's regions, by the default plan where none is given. Returns the plan that was used as well.

    Raises ScheduleError with all that is wrong with the plan, or with the layers that fit in no way.
    """
    faults = FaultList()
    given: dict[str, RegionPlan] = {}
    if plan is not None:
        faults.faults += plan_faults(plan, [graph.name for graph in graphs], overlay, batch)
        given = {region.region: region for region in plan.regions}
    compiled: list[CompiledRegion] = []
    used: list[RegionPlan] = []
    for graph in graphs:
        if plan is not None and graph.name not in given:
            continue
        try:
            prepared = prepare(graph, overlay, batch)
            if plan is None:
                chosen, region = compile_default(prepared)
            else:
                chosen = given[graph.name]
                region = compile_prepared(prepared, chosen)
            compiled.append(region)
            used.append(chosen)
        except ScheduleError as error:
            faults.faults += error.faults
    faults.raise_if_any(ScheduleError)
    _tell(compiled, used)
    return tuple(compiled), Plan.of(used, overlay, batch)


def _tell(regions: Sequence[CompiledRegion], plans: Sequence[RegionPlan]) -> None:
    if debug.enabled(debug.PASSES):
        for plan in plans:
            debug.tell(debug.PASSES, "plan of region %s: %s", plan.region, plan.model_dump_json())
    if debug.enabled(debug.INSTRUCTIONS):
        for region in regions:
            for number, instruction in enumerate(decode_stream(region.stream)):
                layer = region.layers[region.layer_of[number]]
                debug.tell(debug.INSTRUCTIONS, "%s %d: %s", region.name, number, line(instruction, layer))
