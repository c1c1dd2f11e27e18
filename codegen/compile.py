"""A region from graph to bits: lower, plan, schedule, place, emit tiles, load constants, give tokens, encode."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable, Iterator

from tilewright.codegen.allocate import place_buffers, place_maps
from tilewright.codegen.checks import act_faults, region_faults, stop
from tilewright.codegen.flow import Flow, sources
from tilewright.codegen.graph import Graph, Tensor
from tilewright.codegen.layers import MatrixLayer, VectorLayer
from tilewright.codegen.matrix_tiles import MatrixEmitter
from tilewright.codegen.plan import RegionPlan
from tilewright.codegen.planner import default_plan
from tilewright.codegen.prepared import Prepared, prepare
from tilewright.codegen.residency import load_constants
from tilewright.codegen.schedule import Action, Drain, Fill, Schedule, Step, make_schedule
from tilewright.codegen.tile import Space, TileProgram
from tilewright.codegen.tokens import add_tokens
from tilewright.codegen.transfer import Transfer
from tilewright.codegen.values import Map
from tilewright.codegen.vector_tiles import VectorEmitter
from tilewright.targets.config import Overlay
from tilewright.targets.isa.codec import encode_stream
from tilewright.targets.isa.spec import Base, Finish
from tilewright.targets.region import CompiledRegion, MapLayout


def compile_region(graph: Graph, overlay: Overlay, plan: RegionPlan | None = None) -> CompiledRegion:
    """Compile a region for an overlay, by the default plan where none is given.

    Raises ScheduleError naming the layer where one does not fit the overlay's memories under the plan.
    """
    prepared = prepare(graph, overlay)
    return compile_prepared(prepared, plan or default_plan(prepared))


def compile_prepared(prepared: Prepared, plan: RegionPlan) -> CompiledRegion:
    """Compile a prepared region by a plan. Raises ScheduleError with all that the plan gets wrong."""
    overlay, lowered = prepared.overlay, prepared.lowered
    stop(region_faults(prepared, plan))
    schedule = make_schedule(prepared.flow, plan)
    stop(act_faults(schedule.buffers, plan, overlay))
    place_buffers(schedule.buffers, overlay, [group.layers[0] for group in plan.groups])
    sizes = place_maps(lowered.maps, schedule.through_dram, overlay)
    program = load_constants(emit(prepared, schedule), overlay)
    rows = {
        Space.ACT: overlay.act_half_words,
        Space.WGT: overlay.wgt_tiles,
        Space.PARAM: overlay.param_records,
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
        outputs=_layouts(lowered.outputs),
        products=prepared.pool.products,
    )


def emit(prepared: Prepared, schedule: Schedule) -> TileProgram:
    """The tile operations of a schedule whose buffers and maps have their places."""
    program = TileProgram()
    transfer = Transfer(prepared.overlay, prepared.flow, program)
    matrix, vector = MatrixEmitter(prepared.overlay, program), VectorEmitter(prepared.overlay, program)
    layers = prepared.flow.layers
    waiting: deque[Action] = deque(schedule.actions)
    while waiting:
        action = waiting.popleft()
        if isinstance(action, Fill):
            transfer.fill(action)
            continue
        if isinstance(action, Drain):
            transfer.drain(action)
            continue
        layer = layers[action.layer]
        if isinstance(layer, VectorLayer):
            deque(vector.emit(layer, prepared.vector[action.layer], action), maxlen=0)
            continue
        made = matrix.emit(layer, prepared.matrix[action.layer], action)
        follower = take_follower(prepared.flow, action, waiting)
        if follower is None:
            deque(made, maxlen=0)
            continue
        after = layers[follower.layer]
        assert isinstance(after, VectorLayer)
        interleave(layer, made, after, vector.emit(after, prepared.vector[follower.layer], follower))
    return program


def take_follower(flow: Flow, step: Step, waiting: deque[Action]) -> Step | None:
    """The step of VECTOR that comes next and reads what this step of MATRIX makes, taken from `waiting`."""
    for i, action in enumerate(waiting):
        if isinstance(action, Drain) and action.layer == step.layer:
            continue
        if not isinstance(action, Step) or not isinstance(flow.layers[action.layer], VectorLayer):
            return None
        if flow.layers[step.layer].output not in flow.read_by(action.layer):
            return None
        del waiting[i]
        return action
    return None


def interleave(layer: MatrixLayer, made: Iterator[int], after: VectorLayer, wanted: Iterator[range]) -> None:
    """Emit a chunk of VECTOR's as soon as the chunks of MATRIX before it have made what it reads.

    VECTOR then works on the first channels while MATRIX makes the next ones.
    """
    reads = [
        [block for source in sources(after) for block in source.blocks[i : i + 1] if block[0] is layer.output]
        for i in range(len(after.source.blocks))
    ]
    blocks = next(wanted, None)
    for ready in made:
        while blocks is not None and all(block < ready for i in blocks for _, block in reads[i]):
            blocks = next(wanted, None)
    while blocks is not None:
        blocks = next(wanted, None)


def _layouts(found: Iterable[tuple[Tensor, Map, tuple[int, ...]]]) -> tuple[MapLayout, ...]:
    return tuple(MapLayout(t.name, t.shape, t.dtype, m.offset, lanes, m.packing) for t, m, lanes in found)
