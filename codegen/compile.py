"""A region from graph to bits: lower, place maps in DRAM, emit tiles, give tokens, encode."""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from tilewright.codegen.allocate import place_maps
from tilewright.codegen.constants import Pool
from tilewright.codegen.graph import Graph, Tensor
from tilewright.codegen.layers import Layer, MatrixLayer
from tilewright.codegen.lower import lower
from tilewright.codegen.matrix_tiles import emit_matrix
from tilewright.codegen.scratchpad import Scratchpads
from tilewright.codegen.tile import Space, TileProgram
from tilewright.codegen.tokens import add_tokens
from tilewright.codegen.transfer import Transfer
from tilewright.codegen.values import Map
from tilewright.codegen.vector_tiles import emit_vector
from tilewright.targets.config import Overlay
from tilewright.targets.isa.codec import encode_stream
from tilewright.targets.isa.spec import Base, Finish
from tilewright.targets.region import CompiledRegion, MapLayout


def compile_region(graph: Graph, overlay: Overlay) -> CompiledRegion:
    """Compile a region for an overlay.

    Raises ScheduleError naming the layer where one does not fit the overlay's memories.
    """
    lowered = lower(graph, overlay)
    sizes = place_maps(lowered.maps, lowered.layers, overlay)
    pool = Pool(overlay.half_word_bytes)
    program = TileProgram()
    emit_layers(lowered.layers, Scratchpads(overlay), Transfer(overlay, pool, program))
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
        name=graph.name,
        stream=encode_stream(instructions),
        layers=tuple(layers),
        layer_of=tuple(layer_of),
        constants=pool.bytes(),
        workspace_bytes=sizes[Base.WORKSPACE],
        input_bytes=sizes[Base.INPUT],
        output_bytes=sizes[Base.OUTPUT],
        inputs=_layouts(lowered.inputs),
        outputs=_layouts(lowered.outputs),
        products=pool.products,
    )


def emit_layers(layers: Sequence[Layer], pads: Scratchpads, transfer: Transfer) -> None:
    """Append the tile operations of all layers."""
    for layer in layers:
        if isinstance(layer, MatrixLayer):
            emit_matrix(layer, pads, transfer)
        else:
            emit_vector(layer, pads, transfer)


def _layouts(found: Iterable[tuple[Tensor, Map, tuple[int, ...]]]) -> tuple[MapLayout, ...]:
    return tuple(MapLayout(t.name, t.shape, t.dtype, m.offset, lanes, m.packing) for t, m, lanes in found)
