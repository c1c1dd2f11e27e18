"""A region from graph to bits: lower, plan, schedule, place, emit tiles, load constants, give tokens, encode."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass

from tilewright.codegen.allocate import place_buffers, place_maps
from tilewright.codegen.buffers import Schedule
from tilewright.codegen.checks import act_faults, region_faults, stop
from tilewright.codegen.emit import emit
from tilewright.codegen.graph import Graph, Tensor
from tilewright.codegen.plan import RegionPlan
from tilewright.codegen.planner import default_plans
from tilewright.codegen.prepared import Prepared, prepare
from tilewright.codegen.residency import load_constants
from tilewright.codegen.schedule import make_schedule
from tilewright.codegen.tile import Space, TileProgram
from tilewright.codegen.tokens import add_tokens
from tilewright.codegen.values import Map
from tilewright.targets.config import Overlay
from tilewright.targets.isa.codec import encode_stream
from tilewright.targets.isa.spec import Base, Finish
from tilewright.targets.region import CompiledRegion, MapLayout
from tilewright.targets.sim import timing
from tilewright.targets.sim.program import Program


def compile_region(
    graph: Graph, overlay: Overlay, plan: RegionPlan | None = None, batch: int = 1
) -> CompiledRegion:
    """Compile a region for an overlay and a batch of images, by the default plan where none is given.

    Raises ScheduleError naming the layer where one does not fit the overlay's memories under the plan.
    """
    prepared = prepare(graph, overlay, batch)
    return compile_default(prepared)[1] if plan is None else compile_prepared(prepared, plan)


def compile_default(prepared: Prepared) -> tuple[RegionPlan, CompiledRegion]:
    """Compile a prepared region by the planner's plan that takes the fewest cycles; gives that plan too.

    Raises ScheduleError naming the layer that fits in no way.
    """
    plans = default_plans(prepared)
    regions = [compile_prepared(prepared, plan) for plan in plans]
    if len(plans) == 1:
        return plans[0], regions[0]
    cycles = [timing.run(Program(region.stream, prepared.overlay)).cycles for region in regions]
    best = cycles.index(min(cycles))
    return plans[best], regions[best]


@dataclass(frozen=True)
class Tiles:
    """A region as tile operations.

    Attributes:
        sizes: bytes of the workspace, input and output segments.
        program: with the constants' LOADs, without tokens.
    """

    prepared: Prepared
    schedule: Schedule
    sizes: Mapping[Base, int]
    program: TileProgram


def make_tiles(prepared: Prepared, plan: RegionPlan) -> Tiles:
    """The tile operations of a prepared region by a plan. Raises ScheduleError with all that the plan gets wrong."""
    overlay = prepared.overlay
    stop(region_faults(prepared, plan))
    schedule = make_schedule(prepared.flow, plan, prepared.batch)
    stop(act_faults(schedule, plan, overlay))
    place_buffers(schedule.buffers, overlay, [plan.groups[g].layers[0] for g in schedule.groups])
    sizes = place_maps(prepared.lowered.maps, schedule.through_dram, overlay, prepared.batch)
    return Tiles(prepared, schedule, sizes, load_constants(emit(prepared, schedule), overlay))


def compile_prepared(prepared: Prepared, plan: RegionPlan) -> CompiledRegion:
    """Compile a prepared region by a plan. Raises ScheduleError with all that the plan gets wrong."""
    tiles = make_tiles(prepared, plan)
    overlay, lowered = prepared.overlay, prepared.lowered
    program, sizes = tiles.program, tiles.sizes
    rows = {
        Space.ACT: overlay.act_half_words,
        Space.WGT: overlay.wgt_tiles,
        Space.PARAM: overlay.param_records,
        Space.DISP: overlay.disp_entries,
        Space.ACC: 2,
        Space.WORKSPACE: sizes[Base.WORKSPACE] // overlay.half_word_bytes,
        Space.OUTPUT: sizes[Base.OUTPUT] // overlay.half_word_bytes,
    }
    instructions = [*add_tokens(program, rows), Finish()]
    layers = list(dict.fromkeys(operation.layer for operation in program.operations))
    index = {name: i for i, name in enumerate(layers)}
    layer_of = [index[operation.layer] for operation in program.operations]
    layer_of.append(layer_of[-1] if layer_of else 0)
    return CompiledRegion(
        name=prepared.name,
        stream=encode_stream(instructions),
        layers=tuple(layers),
        layer_of=tuple(layer_of),
        constants=prepared.pool.bytes(),
        workspace_bytes=sizes[Base.WORKSPACE],
        input_bytes=sizes[Base.INPUT],
        output_bytes=sizes[Base.OUTPUT],
        inputs=_layouts(lowered.inputs),
        outputs=output_layouts(tiles),
        batch=prepared.batch,
        products=prepared.pool.products,
    )


def output_layouts(tiles: Tiles) -> tuple[MapLayout, ...]:
    """How a region's results lie in the output segment."""
    return _layouts(tiles.prepared.lowered.outputs)


def _layouts(found: Iterable[tuple[Tensor, Map, tuple[int, ...]]]) -> tuple[MapLayout, ...]:
    return tuple(
        MapLayout(t.name, t.shape, t.dtype, m.offset, lanes, m.packing, m.bits) for t, m, lanes in found
    )
