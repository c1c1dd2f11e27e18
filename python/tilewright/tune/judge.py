"""What is known of a plan before it is compiled: whether it is legal, and about what it costs.

Both are the code generator's own answers (`codegen/schedule.py`, `allocate.py`, `cost.py`), asked for often: a
neighbour of a plan differs in a group or two, so what a group needs is remembered.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from tilewright.codegen.allocate import Need, peak, place
from tilewright.codegen.buffers import Buffer, Schedule
from tilewright.codegen.cost import Cost, Coster
from tilewright.codegen.course import Clock
from tilewright.codegen.merging import check
from tilewright.codegen.plan import Group, RegionPlan
from tilewright.codegen.prepared import Prepared
from tilewright.codegen.schedule import GroupSchedule, passing
from tilewright.codegen.values import Map
from tilewright.errors import Fault
from tilewright.tune.measurement import Measurement

_Key = tuple[int, Group, frozenset[Map], frozenset[Map]]


@dataclass(frozen=True)
class _Needs:
    """What a group needs: half words of ACT for each new buffer and the map that it is kept for, and its cost."""

    buffers: tuple[tuple[int, Map | None], ...]
    cost: Cost


class Judge:
    """Judges plans of a prepared region; `macs` are those of its layers."""

    def __init__(self, prepared: Prepared, macs: int) -> None:
        self._prepared, self._flow, self._macs = prepared, prepared.flow, macs
        self._coster = Coster(prepared)
        self._known: dict[_Key, _Needs] = {}
        self._passing: dict[tuple[tuple[int, tuple[str, ...]], ...], set[Map]] = {}
        self._places: dict[tuple[Need, ...], int] = {}
        self._touched: dict[tuple[int, int], tuple[frozenset[Map], frozenset[Map]]] = {}

    def faults(self, plan: RegionPlan) -> Sequence[Fault]:
        """What makes a plan illegal: names and merges, and memory that is short."""
        found = check(self._flow, plan)
        if found:
            return found
        used, at = self._act(plan)
        overlay = self._prepared.overlay
        if used <= overlay.act_half_words:
            return ()
        text = f"needs {used} half words of ACT, {overlay.name} has {overlay.act_half_words}"
        return (Fault(text, f"layer {plan.groups[at].layers[0]}"),)

    def _act(self, plan: RegionPlan) -> tuple[int, int]:
        """The most half words of ACT in use, and a group at which that is.

        Groups between which nothing is kept are placed apart: their buffers never meet.
        """
        most, at, first = 0, 0, 0
        needs: list[Need] = []
        held: dict[Map, int] = {}
        for g, (group, need) in enumerate(zip(plan.groups, self._groups(plan), strict=True)):
            keep = {self._flow.maps[name] for name in group.keep}
            new = {m: len(needs) + i for i, (_, m) in enumerate(need.buffers) if m is not None}
            needs += [Need(size, g - first, g - first) for size, _ in need.buffers]
            held = {m: i for m, i in (held | new).items() if m in keep}
            for i in held.values():
                needs[i] = Need(needs[i].size, needs[i].first, g - first + 1)
            if not held:
                used = self._used(tuple(needs))
                if used > most:
                    most, at = used, first + peak(needs)[1]
                needs, first = [], g + 1
        return most, at

    def _used(self, needs: tuple[Need, ...]) -> int:
        if needs not in self._places:
            ends = (offset + need.size for offset, need in zip(place(needs), needs, strict=True))
            self._places[needs] = max(ends, default=0)
        return self._places[needs]

    def estimate(self, plan: RegionPlan) -> Measurement:
        """The analytic price of a legal plan."""
        clock, moved = Clock(), 0
        for needs in self._groups(plan):
            clock = needs.cost.behind(clock)
            moved += needs.cost.dram_bytes
        return Measurement.of(round(clock.end), moved, self._macs)

    def _groups(self, plan: RegionPlan) -> list[_Needs]:
        shape = tuple((len(group.layers), group.keep) for group in plan.groups)
        if shape not in self._passing:
            self._passing[shape] = passing(self._flow, plan)
        through_dram = self._passing[shape]
        resident: frozenset[Map] = frozenset()
        found, start = [], 0
        for group in plan.groups:
            stop = start + len(group.layers)
            read, written = self._maps(start, stop)
            key = (start, group, resident & (read | written), written & through_dram)
            if key not in self._known:
                self._known[key] = self._needs(range(start, stop), group, key[2], key[3])
            found.append(self._known[key])
            resident, start = frozenset(self._flow.maps[name] for name in group.keep), stop
        return found

    def _maps(self, start: int, stop: int) -> tuple[frozenset[Map], frozenset[Map]]:
        """The maps that layers read and write."""
        if (start, stop) not in self._touched:
            layers = range(start, stop)
            read = frozenset(m for i in layers for m in self._flow.read_by(i))
            self._touched[start, stop] = read, frozenset(self._flow.layers[i].output for i in layers)
        return self._touched[start, stop]

    def _needs(self, layers: range, group: Group, resident: frozenset[Map], stored: frozenset[Map]) -> _Needs:
        keep = {self._flow.maps[name] for name in group.keep}
        there = {m: Buffer(m, m.height, m.height, m.width, m.blocks, False, 0, 0) for m in resident}
        schedule = Schedule()
        run = GroupSchedule(self._flow, set(stored), schedule, 0, group, layers, keep, there)
        run.make_buffers()
        unit = self._prepared.overlay.half_word_bytes
        read = sum(m.height * m.width * self._read_blocks(m, layers, m in keep) for m in run.loaded) * unit
        write = 0
        for i in layers:
            layer = self._flow.layers[i]
            if layer.output in stored:
                rows, columns = layer.geometry.count
                write += rows * columns * layer.output.blocks * unit
        parts = group.stripes * group.strips * group.slices
        cost = self._coster.group(layers, parts, group.lag, read, write)
        buffers = tuple((b.half_words, b.map if b.map in keep else None) for b in schedule.buffers)
        return _Needs(buffers, cost)

    def _read_blocks(self, m: Map, layers: range, whole: bool) -> int:
        """Half words of a pixel that layers load."""
        if whole:
            return m.blocks
        spans = [self._flow.reading[i, m] for i in self._flow.readers[m] if i in layers]
        return max(s.first_block + s.blocks for s in spans) - min(s.first_block for s in spans)
