"""The portions of both units in one order, so that MATRIX rarely waits for VECTOR.

The units' queues run in order and MATRIX has two halves of ACC, so it stops when VECTOR is two of its portions behind.
A portion of VECTOR's own layers therefore takes its turn only where it is done by then. Both clocks are estimates and
go on from turn to turn.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field

from tilewright.codegen.buffers import Step
from tilewright.codegen.flow import Flow, sources
from tilewright.codegen.layers import VectorLayer
from tilewright.codegen.tile import Portion
from tilewright.codegen.values import Map
from tilewright.targets.config import Overlay
from tilewright.targets.isa.spec import Instruction, Matrix, Vector, VectorOp
from tilewright.targets.sim.rules import Rules

RULES = Rules()


def busy(i: Instruction, overlay: Overlay) -> int:
    """About the cycles of MATRIX or VECTOR for an instruction."""
    if isinstance(i, Matrix):
        return i.n_oc * i.n_ic * i.n_ky * i.n_kx * i.n_y * i.n_x + RULES.start_cycles + RULES.tile_cycles
    if not isinstance(i, Vector):
        return 0
    second = i.op in (VectorOp.SCALED_ADD, VectorOp.MULTIPLY)
    reads = i.n_y * i.n_x * (i.kernel_y * min(i.stride_x, i.kernel_x) + second)
    return -(-i.n_c * overlay.block_in // overlay.vector_lanes) * reads + RULES.start_cycles


@dataclass(eq=False)
class Interleave:
    """Merges turn by turn; `matrix`, `vector`: when the units are free by the instructions so far."""

    flow: Flow
    overlay: Overlay
    matrix: int = 0
    vector: int = 0

    def run(
        self, steps: Sequence[Step], matrix: Sequence[Portion], vector: Sequence[Portion]
    ) -> list[Portion]:
        """The portions of a turn's steps, those of each unit in order."""
        turn = _Turn(self.flow, {step.layer: step for step in steps}, (*matrix, *vector))
        to_sum, to_make = list(matrix)[::-1], list(vector)[::-1]
        merged: list[Portion] = []
        while to_sum or to_make:
            own = bool(to_make) and turn.ready(to_make[-1])
            if own and to_sum and turn.ready(to_sum[-1]):
                sums, results = self.work(to_sum[-1])[0], self.work(to_make[-1])[1]
                own = self.vector + results <= self.matrix + 2 * sums
            portion = (to_make if own else to_sum).pop()
            self.pass_by(portion)
            turn.take(portion)
            merged.append(portion)
        return merged

    def work(self, portion: Portion) -> tuple[int, int]:
        """Cycles of MATRIX, of VECTOR."""
        found = [0, 0]
        for operation in portion.operations:
            found[isinstance(operation.instruction, Vector)] += busy(operation.instruction, self.overlay)
        return found[0], found[1]

    def pass_by(self, portion: Portion) -> None:
        matrix, vector = self.work(portion)
        self.matrix += matrix
        self.vector = max(self.vector, self.matrix if matrix else 0) + vector
        # Sums of a portion more fit into ACC than VECTOR has taken.
        if matrix:
            self.matrix = max(self.matrix, self.vector - 2 * vector)


@dataclass(eq=False)
class _Turn:
    flow: Flow
    steps: dict[int, Step]
    portions: Sequence[Portion]
    made: Counter[tuple[int, int]] = field(default_factory=Counter)
    left: Counter[tuple[int, int]] = field(init=False)

    def __post_init__(self) -> None:
        self.left = Counter((p.layer, p.image) for p in self.portions)

    def take(self, portion: Portion) -> None:
        """It comes next."""
        self.made[portion.layer, portion.image] = portion.made
        self.left[portion.layer, portion.image] -= 1

    def ready(self, portion: Portion) -> bool:
        """Whether what a portion reads has been made, as far as the turn makes it."""
        for m in self.flow.read_by(portion.layer):
            for w in self.flow.writers.get(m, ()):
                by_vector = isinstance(self.flow.layers[portion.layer], VectorLayer)
                if w >= portion.layer or by_vector == isinstance(self.flow.layers[w], VectorLayer):
                    continue  # its unit's order
                # A portion of MATRIX may hold the steps of several images.
                images = [portion.image] if by_vector else [image for layer, image in self.left if layer == w]
                if not any(self.left[w, image] for image in images) or self.earlier(portion.layer, w, m):
                    continue
                if not by_vector:
                    return False
                wanted = [
                    source.blocks[i][1]
                    for source in sources(self.flow.layers[portion.layer])
                    for i in portion.reads
                    if source.blocks[i][0] is m
                ]
                if max(wanted, default=-1) >= self.made[w, portion.image]:
                    return False
        return True

    def earlier(self, reader: int, writer: int, m: Map) -> bool:
        """Whether the rows of a map that are read were made in turns before."""
        step = self.steps[reader]
        stop = self.flow.needs(reader, m, step.start, step.stop)[1]
        return self.flow.plain(m) and stop <= self.steps[writer].start
