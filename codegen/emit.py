"""A schedule -> tile operations, turn by turn.

A turn's steps are emitted in portions, which are merged so that MATRIX and VECTOR get on equally fast: queues run in
order, so VECTOR should meet the sums of a piece of MATRIX's just when they are there, and other layers' portions in
between. A portion waits for what it reads, if the turn makes that.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from tilewright.codegen.flow import Flow, sources
from tilewright.codegen.layers import MatrixLayer, VectorLayer
from tilewright.codegen.matrix_tiles import MatrixEmitter
from tilewright.codegen.prepared import Prepared
from tilewright.codegen.schedule import Drain, Fill, Schedule, Step
from tilewright.codegen.tile import Portion, TileProgram
from tilewright.codegen.transfer import Transfer
from tilewright.codegen.vector_tiles import VectorEmitter


def emit(prepared: Prepared, schedule: Schedule) -> TileProgram:
    """The tile operations of a schedule whose buffers and maps have their places."""
    program = TileProgram()
    transfer = Transfer(prepared.overlay, prepared.flow, program)
    matrix, vector = MatrixEmitter(prepared.overlay), VectorEmitter(prepared.overlay)
    for turn in schedule.turns:
        for action in turn:
            if isinstance(action, Fill):
                transfer.fill(action)
        merged = _Turn(prepared.flow)
        for action in turn:
            if isinstance(action, Step):
                layer, i = prepared.flow.layers[action.layer], action.layer
                if isinstance(layer, MatrixLayer):
                    merged.matrix += [_Entry(i, p) for p in matrix.emit(layer, prepared.matrix[i], action)]
                else:
                    merged.vector += [_Entry(i, p) for p in vector.emit(layer, prepared.vector[i], action)]
        for portion in merged.run():
            program.operations += portion.operations
        for action in turn:
            if isinstance(action, Drain):
                transfer.drain(action)
    return program


@dataclass(frozen=True, eq=False)
class _Entry:
    layer: int
    portion: Portion


@dataclass(eq=False)
class _Turn:
    """The portions of one turn, those of each unit in order."""

    flow: Flow
    matrix: list[_Entry] = field(default_factory=list)
    vector: list[_Entry] = field(default_factory=list)

    def run(self) -> list[Portion]:
        """The portions merged."""
        made: dict[int, int] = {e.layer: 0 for e in (*self.matrix, *self.vector)}
        left = {i: sum(e.layer == i for e in (*self.matrix, *self.vector)) for i in made}
        queues = [self.matrix[::-1], self.vector[::-1]]
        totals = [max(1, sum(e.portion.cost for e in q)) for q in queues]
        done = [0, 0]
        merged: list[Portion] = []
        while queues[0] or queues[1]:
            ready = [bool(q) and self.ready(q[-1], made, left) for q in queues]
            unit = 1 if ready[1] and (not ready[0] or done[1] * totals[0] <= done[0] * totals[1]) else 0
            entry = queues[unit].pop()
            merged.append(entry.portion)
            done[unit] += entry.portion.cost
            made[entry.layer] = entry.portion.made
            left[entry.layer] -= 1
        return merged

    def ready(self, entry: _Entry, made: dict[int, int], left: dict[int, int]) -> bool:
        """Whether what the turn makes of a portion's operands is there."""
        layer = self.flow.layers[entry.layer]
        for m in self.flow.read_by(entry.layer):
            for w in self.flow.writers.get(m, ()):
                if w >= entry.layer or not left.get(w):
                    continue
                if isinstance(layer, MatrixLayer) or isinstance(self.flow.layers[w], VectorLayer):
                    return isinstance(layer, MatrixLayer) and isinstance(self.flow.layers[w], MatrixLayer)
                wanted = [
                    source.blocks[i][1]
                    for source in sources(layer)
                    for i in entry.portion.reads
                    if source.blocks[i][0] is m
                ]
                if wanted and max(wanted) >= made[w]:
                    return False
        return True
