"""A schedule -> tile operations, turn by turn.

A turn's steps are emitted in portions, a piece of MATRIX's sums or an instruction of VECTOR's each. The units' queues
run in order, so `interleave.py` merges them: VECTOR works on the first channels while MATRIX makes the next ones.
"""

from __future__ import annotations

from itertools import groupby

from tilewright.codegen.buffers import Drain, Fill, Schedule, Step
from tilewright.codegen.interleave import Interleave
from tilewright.codegen.layers import MatrixLayer
from tilewright.codegen.matrix_tiles import MatrixEmitter
from tilewright.codegen.prepared import Prepared
from tilewright.codegen.tile import Portion, TileProgram
from tilewright.codegen.transfer import Transfer
from tilewright.codegen.vector_tiles import VectorEmitter
from tilewright.targets.isa.spec import Vector


def emit(prepared: Prepared, schedule: Schedule) -> TileProgram:
    """The tile operations of a schedule whose buffers and maps have their places."""
    program = TileProgram()
    transfer = Transfer(prepared.overlay, prepared.flow, program)
    matrix, vector = MatrixEmitter(prepared.overlay, prepared.entries), VectorEmitter(prepared.overlay)
    interleave = Interleave(prepared.flow, prepared.overlay)
    made = 0
    for turn in schedule.turns:
        steps = [action for action in turn if isinstance(action, Step)]
        sums: list[Portion] = []
        own: list[Portion] = []
        for i, beside in groupby(steps, key=lambda step: step.layer):
            layer = prepared.flow.layers[i]
            if isinstance(layer, MatrixLayer):
                sums += matrix.emit(layer, prepared.matrix[i], list(beside))
            else:
                own += vector.emit(layer, prepared.vector[i], list(beside))
        for portion in interleave.run(steps, sums, own):
            program.operations += portion.operations
            made += sum(isinstance(x.instruction, Vector) for x in portion.operations)
        program.turns.append(made)
        for action in turn:
            if isinstance(action, Fill):
                transfer.fill(action)
        for action in turn:
            if isinstance(action, Drain):
                transfer.drain(action)
    return program
