"""To which layer each cycle of a run belongs, and to which unit.

Layers overlap: one is loaded while another is computed, and merged layers take turns stripe by stripe. So that layers'
cycles add up to the run's, each cycle is counted once, by this rule:

* A unit works on its oldest instruction on the way, from its start (or the retirement of the one before, if that is
  later) to its retirement, as the Chrome trace draws it.
* A cycle belongs to the layer of the instruction on the first unit that works: MATRIX before VECTOR before LOAD before
  STORE. MATRIX comes first since it is what a network is meant to wait for; a layer whose transfers and vector work
  hide behind another's MATRIX work costs nothing.
* A cycle in which no unit works (tokens pass on, FETCH is late) belongs to the layer of the next instruction to start;
  after the last one, to the layer of the last to retire.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from tilewright.targets.isa.spec import Opcode, Unit
from tilewright.targets.sim.timing import Timing

I64 = NDArray[np.int64]

PRIORITY = (Unit.MATRIX, Unit.VECTOR, Unit.LOAD, Unit.STORE)
"""The unit whose layer a cycle belongs to where several work."""
NO_UNIT = len(Unit)
"""Column of cycles in which no unit works."""


@dataclass(frozen=True)
class Spans:
    """When a unit works on which instruction; the spans of a unit do not overlap.

    Attributes:
        unit: the unit.
        start, end: cycles, the end exclusive; ascending. Shape of each: (spans,).
        instruction: index in the stream. Shape: (spans,).
    """

    unit: Unit
    start: I64
    end: I64
    instruction: I64


def unit_spans(timing: Timing) -> tuple[Spans, ...]:
    """What each unit works on, in the order of :class:`Unit`."""
    found = []
    for unit in Unit:
        index = np.flatnonzero(timing.opcodes == int(unit) + 1)
        end = np.minimum(timing.end[index] + 1, timing.cycles)
        before = np.concatenate([np.zeros(min(len(end), 1), np.int64), np.maximum.accumulate(end)[:-1]])
        start = np.maximum(timing.start[index], before)
        real = end > start
        found.append(Spans(unit, start[real], end[real], index[real]))
    return tuple(found)


def attribute(timing: Timing, layer_of: Sequence[int], layers: int) -> I64:
    """Cycles by layer and unit; their sum is the run's cycles.

    Args:
        timing: a run.
        layer_of: for each instruction the number of its layer.
        layers: how many layers there are.

    Returns:
        Shape: (layers, units + 1); the last column counts cycles in which no unit works.
    """
    owner = np.asarray(layer_of, np.int64)
    spans = unit_spans(timing)
    edges = np.unique(np.concatenate([[0, timing.cycles], *(a for s in spans for a in (s.start, s.end))]))
    begin, length = edges[:-1], np.diff(edges)
    layer, column = _waited_for(timing, owner, begin), np.full(len(begin), NO_UNIT)
    for unit in reversed(PRIORITY):
        s = spans[unit]
        if not len(s.start):
            continue
        place = np.searchsorted(s.start, begin, "right") - 1
        works = (place >= 0) & (s.end[place] > begin)
        layer[works] = owner[s.instruction[place[works]]]
        column[works] = unit
    cycles = np.zeros((layers, NO_UNIT + 1), np.int64)
    np.add.at(cycles, (layer, column), length)
    return cycles


def _waited_for(timing: Timing, owner: I64, begin: I64) -> I64:
    """The layer of the next instruction to start at each of these cycles."""
    real = np.flatnonzero(timing.opcodes != int(Opcode.FINISH))
    if not len(real):
        return np.zeros(len(begin), np.int64)
    order = real[np.argsort(timing.start[real], kind="stable")]
    place = np.searchsorted(timing.start[order], begin, "left")
    last = real[np.argmax(timing.end[real])]
    return np.where(place < len(order), owner[order[np.minimum(place, len(order) - 1)]], owner[last])
