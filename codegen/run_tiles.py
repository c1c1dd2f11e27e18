"""Run tile operations in NumPy: the level above the stream, before there are tokens, bits and bytes.

What an instruction does is taken from the reference simulator's units. Nothing is encoded, and operations run one
after the other. What is checked here and nowhere below: that an operation touches only the places that it names, for
from these the tokens are made.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from tilewright.codegen.tile import Access, Space, TileOperation
from tilewright.errors import Fault, SimError
from tilewright.targets.config import Overlay
from tilewright.targets.isa.listing import line
from tilewright.targets.isa.spec import Base, Finish, Instruction
from tilewright.targets.sim.memory import I64, Memories, Rows, Trap
from tilewright.targets.sim.program import Bytes, DramImage, Statistics
from tilewright.targets.sim.reference import effect_of


def run_tiles(
    instructions: Sequence[Instruction],
    operations: Sequence[TileOperation | None],
    overlay: Overlay,
    dram: DramImage,
) -> Bytes:
    """Run instructions in order and give the output segment.

    Args:
        instructions: without tokens; FINISH does nothing.
        operations: of each instruction the operation that it is, or None where nothing names what it touches.
        overlay, dram: the machine, and its DRAM at the start.

    Raises SimError, naming instruction and layer, for what the reference simulator refuses but tokens, and for a
    place that an operation touches without naming it.
    """
    memories, statistics = Memories(overlay, dram), Statistics()
    places = _places(memories, overlay)
    for i, (x, operation) in enumerate(zip(instructions, operations, strict=True)):
        if isinstance(x, Finish):
            continue
        try:
            effect = effect_of(x, memories, overlay, statistics)
            if operation is not None:
                for memory, rows in effect.reads:
                    _check(operation.accesses, memory, rows, False, places)
                _check(operation.accesses, effect.memory, effect.rows, True, places)
        except Trap as trap:
            layer = f", layer {operation.layer}" if operation is not None else ""
            raise SimError(Fault(trap.message, f"operation {i} ({line(x)}{layer})", trap.remedy)) from None
        effect.memory.write(effect.rows, effect.values)
    outputs = np.zeros(dram.output_bytes, np.uint8)
    data = memories.dram[Base.OUTPUT].data
    outputs[: data.size] = data.ravel()
    return outputs


_Places = Mapping[int, tuple[Space, int]]


def _places(memories: Memories, overlay: Overlay) -> _Places:
    """By memory the space in which operations name its rows, and how many of its rows are one there."""
    half = overlay.half_word_bytes // memories.granule
    return {
        id(memories.act): (Space.ACT, 1),
        id(memories.wgt): (Space.WGT, 1),
        id(memories.param): (Space.PARAM, 1),
        id(memories.disp): (Space.DISP, 1),
        id(memories.acc): (Space.ACC, 1 << memories.acc.race_shift),
        id(memories.dram[Base.WORKSPACE]): (Space.WORKSPACE, half),
        id(memories.dram[Base.OUTPUT]): (Space.OUTPUT, half),
    }


def _check(accesses: Sequence[Access], memory: Rows, rows: I64, write: bool, places: _Places) -> None:
    """Trap where a row lies in no place that the operation names."""
    if id(memory) not in places or not rows.size:
        return  # constants and inputs are written by nobody
    space, many = places[id(memory)]
    touched = np.asarray(rows // many, np.int64)
    named: NDArray[np.bool_] = np.zeros(touched.shape, np.bool_)
    for access in accesses:
        if access.space is space and access.write >= write:  # what orders a write orders a read as well
            named |= access.holds(touched)
    if not named.all():
        row = int(rows[~named][0])
        verb = "writes" if write else "reads"
        raise Trap(f"{verb} {memory.name(row)}, which its tile operation does not name")
