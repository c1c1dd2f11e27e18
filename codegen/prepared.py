"""What no plan changes: a region's machine layers, how they hang together, and their constants."""

from __future__ import annotations

from dataclasses import dataclass, field

from tilewright.codegen.chunks import MatrixChunk, VectorChunk, matrix_chunks, vector_chunks
from tilewright.codegen.constants import Pool
from tilewright.codegen.displacement import Entries, table_rows
from tilewright.codegen.flow import Flow
from tilewright.codegen.graph import Graph
from tilewright.codegen.layers import MatrixLayer
from tilewright.codegen.lower import Lowered, lower
from tilewright.targets.config import Overlay


@dataclass(eq=False)
class Prepared:
    """A region before it is planned.

    Attributes:
        batch: images that a launch works on.
        matrix, vector: by layer number the chunks in which its constants come on chip; the bytes are in `pool`.
        entries: of the displacement table.
    """

    name: str
    overlay: Overlay
    lowered: Lowered
    flow: Flow
    pool: Pool
    batch: int = 1
    matrix: dict[int, tuple[MatrixChunk, ...]] = field(default_factory=dict)
    vector: dict[int, tuple[VectorChunk, ...]] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.entries = Entries(self.overlay, self.pool)


def prepare(graph: Graph, overlay: Overlay, batch: int = 1) -> Prepared:
    """Lower a region and arrange its constants. Raises ScheduleError for a layer that cannot be on the overlay."""
    lowered = lower(graph, overlay)
    flow, pool = Flow(lowered.layers), Pool(overlay.half_word_bytes)
    prepared = Prepared(graph.name, overlay, lowered, flow, pool, batch)
    for i, layer in enumerate(lowered.layers):
        if isinstance(layer, MatrixLayer):
            prepared.matrix[i] = matrix_chunks(layer, overlay, prepared.pool)
        else:
            prepared.vector[i] = vector_chunks(layer, overlay, prepared.pool)
    runs = (
        table_rows(flow.layers[i].source, p.block, p.count_ic)
        for i, chunks in prepared.matrix.items()
        for chunk in chunks
        for load in chunk.loads
        for p in load.passes
    )
    prepared.entries.store(run for run in runs if run)
    return prepared
