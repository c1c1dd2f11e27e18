"""A schedule -> tile operations, turn by turn.

A turn's steps are emitted in portions, a piece of MATRIX's sums or an instruction of VECTOR's each. The units' queues
run in order, so the portions are merged: VECTOR works on the first channels while MATRIX makes the next ones.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from itertools import groupby

from tilewright.codegen.buffers import Drain, Fill, Schedule, Step
from tilewright.codegen.flow import Flow, sources
from tilewright.codegen.layers import MatrixLayer, VectorLayer
from tilewright.codegen.matrix_tiles import MatrixEmitter
from tilewright.codegen.prepared import Prepared
from tilewright.codegen.tile import Portion, TileProgram
from tilewright.codegen.transfer import Transfer
from tilewright.codegen.vector_tiles import VectorEmitter


def emit(prepared: Prepared, schedule: Schedule) -> TileProgram:
    """The tile operations of a schedule whose buffers and maps have their places."""
    program = TileProgram()
    transfer = Transfer(prepared.overlay, prepared.flow, program)
    matrix, vector = MatrixEmitter(prepared.overlay, prepared.entries), VectorEmitter(prepared.overlay)
    for turn in schedule.turns:
        for action in turn:
            if isinstance(action, Fill):
                transfer.fill(action)
        merged = _Turn(prepared.flow)
        steps = (action for action in turn if isinstance(action, Step))
        for i, beside in groupby(steps, key=lambda step: step.layer):
            layer = prepared.flow.layers[i]
            if isinstance(layer, MatrixLayer):
                merged.matrix += matrix.emit(layer, prepared.matrix[i], list(beside))
            else:
                merged.vector += vector.emit(layer, prepared.vector[i], list(beside))
        for portion in merged.run():
            program.operations += portion.operations
        for action in turn:
            if isinstance(action, Drain):
                transfer.drain(action)
    return program


@dataclass(eq=False)
class _Turn:
    """The portions of one turn, those of each unit in order."""

    flow: Flow
    matrix: list[Portion] = field(default_factory=list)
    vector: list[Portion] = field(default_factory=list)

    def run(self) -> list[Portion]:
        """The portions merged, VECTOR's as soon as they are ready.

        A portion of MATRIX comes when all of VECTOR's that are ready have been; those of layers before it are, for what
        they wait for comes before it. So what it reads is there.
        """
        made: Counter[tuple[int, int]] = Counter()
        left = Counter((p.layer, p.image) for p in (*self.matrix, *self.vector))
        matrix, vector = self.matrix[::-1], self.vector[::-1]
        merged: list[Portion] = []
        while matrix or vector:
            queue = vector if vector and self.ready(vector[-1], made, left) else matrix
            portion = queue.pop()
            merged.append(portion)
            made[portion.layer, portion.image] = portion.made
            left[portion.layer, portion.image] -= 1
        return merged

    def ready(self, portion: Portion, made: Counter[tuple[int, int]], left: Counter[tuple[int, int]]) -> bool:
        """Whether MATRIX has made what a portion of VECTOR's reads, if the turn makes it."""
        for m in self.flow.read_by(portion.layer):
            for w in self.flow.writers.get(m, ()):
                writer = w, portion.image
                if w > portion.layer or not left[writer] or isinstance(self.flow.layers[w], VectorLayer):
                    continue
                wanted = [
                    source.blocks[i][1]
                    for source in sources(self.flow.layers[portion.layer])
                    for i in portion.reads
                    if source.blocks[i][0] is m
                ]
                if max(wanted, default=-1) >= made[writer]:
                    return False
        return True
