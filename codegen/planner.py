"""The default plan: the cheapest way through the layers by the estimate of `cost.py`.

Layers are taken in order; at each the search knows a few best ways to get there, which differ by the maps that stay in
ACT, and lengthens each by groups of one to `LONGEST` layers, in several numbers of stripes (beam search over what would
be shortest paths). What a group needs of ACT is estimated while searching; the plan found is then checked against the
allocator, and groups that do not fit after all are cut finer.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

from tilewright.codegen.allocate import place_buffers
from tilewright.codegen.cost import Coster
from tilewright.codegen.plan import Group, RegionPlan
from tilewright.codegen.prepared import Prepared
from tilewright.codegen.schedule import lags, make_schedule
from tilewright.codegen.values import Map
from tilewright.errors import Fault, ScheduleError
from tilewright.targets.isa.spec import Base

LONGEST = 12
"""Layers of a group at most."""
BEAM = 6
"""Ways to get to a layer that are followed."""
BYTE_PRICE = 1 / 48
"""Cycles that a byte of DRAM traffic is taken to cost beyond its time: energy, and what other units wait for it."""
STRIPES = (
    1,
    2,
    3,
    4,
    5,
    6,
    7,
    8,
    10,
    12,
    14,
    16,
    20,
    24,
    28,
    32,
    40,
    48,
    56,
    64,
    80,
    112,
    128,
    224,
    256,
    512,
)
FULL = 0.97
"""Share of ACT that the estimate may use: places do not fit without gaps."""


def default_plan(prepared: Prepared) -> RegionPlan:
    """A good plan for a region. Raises ScheduleError naming the layer that fits in no way."""
    return _fitted(prepared, _Search(prepared).run())


@dataclass(eq=False)
class _State:
    """A way to get to a layer: its cost, the maps in ACT, the group before."""

    cost: float
    resident: frozenset[Map]
    group: Group | None
    before: _State | None


@dataclass(eq=False)
class _Search:
    prepared: Prepared
    coster: Coster = field(init=False)

    def __post_init__(self) -> None:
        self.flow = self.prepared.flow
        self.coster = Coster(self.prepared)
        self.capacity = int(self.prepared.overlay.act_half_words * FULL)
        self.unit = self.prepared.overlay.half_word_bytes
        self.last_use = {m: max(readers) for m, readers in self.flow.readers.items()}
        self.plain = {m: self.flow.plain(m) for m in self.flow.maps.values()}
        self.memory: dict[tuple[int, int, int, int, frozenset[Map], frozenset[Map]], int] = {}
        self.depths: dict[tuple[int, int], dict[int, int]] = {}

    def run(self) -> list[Group]:
        count = len(self.flow.names)
        ways: list[dict[frozenset[Map], _State]] = [{} for _ in range(count + 1)]
        ways[0][frozenset()] = _State(0.0, frozenset(), None, None)
        for i in range(count):
            for state in sorted(ways[i].values(), key=lambda s: s.cost)[:BEAM]:
                for stop, after in self.extend(i, state):
                    known = ways[stop].get(after.resident)
                    if known is None or after.cost < known.cost:
                        ways[stop][after.resident] = after
        best = min(ways[count].values(), key=lambda s: s.cost)
        groups: list[Group] = []
        state: _State | None = best
        while state is not None and state.group is not None:
            groups.append(state.group)
            state = state.before
        return groups[::-1]

    def extend(self, i: int, state: _State) -> Iterator[tuple[int, _State]]:
        """The groups that may begin with layer i."""
        for stop in range(i + 1, min(i + LONGEST, len(self.flow.names)) + 1):
            layers = range(i, stop)
            if stop > i + 1 and not self.mergeable(layers):
                return
            striped = self.striped(layers)
            found = False
            for keep in self.keeps(layers, state.resident):
                for stripes, lag in self.cuts(layers, state.resident, keep, striped):
                    found = True
                    yield stop, self.step(layers, state, stripes, lag, keep)
            if not found and stop == i + 1:
                yield stop, self.step(layers, state, self.flow.layers[i].geometry.count[0], 0, frozenset())

    def mergeable(self, layers: range) -> bool:
        """Whether what a group reads of its own making is whole by then."""
        for i in layers:
            for m in self.flow.read_by(i):
                made = [w in layers for w in self.flow.writers.get(m, ())]
                if any(made) and not all(made):
                    return False
        return True

    def striped(self, layers: range) -> bool:
        """Whether a group may be cut into stripes."""
        for i in layers:
            for m in self.flow.read_by(i):
                if any(w in layers for w in self.flow.writers.get(m, ())) and (
                    not self.plain[m] or (self.flow.reading[i, m].whole and m.height > 1)
                ):
                    return False
        return True

    def keeps(self, layers: range, resident: frozenset[Map]) -> list[frozenset[Map]]:
        """Sets of maps that may stay after a group: what is needed later, all of it, what comes next, nothing."""
        here = set(resident)
        for i in layers:
            here |= {*self.flow.read_by(i), self.flow.layers[i].output}
        later = []
        for m in here:
            writers = self.flow.writers.get(m, ())
            complete = all(w in layers for w in writers) or all(w < layers.start for w in writers)
            if self.last_use.get(m, -1) >= layers.stop and complete:
                later.append(m)
        later.sort(key=lambda m: min(r for r in self.flow.readers[m] if r >= layers.stop))
        found: list[frozenset[Map]] = []
        kept: list[Map] = []
        room = self.capacity
        for m in later:
            if m.half_words <= room:
                kept.append(m)
                room -= m.half_words
        options = [frozenset(kept), frozenset(later[:1]), frozenset(later[:2]), frozenset()]
        held = frozenset(m for m in kept if m in resident)
        options.append(held)
        for option in options:
            if option not in found and sum(m.half_words for m in option) <= self.capacity:
                found.append(option)
        return found

    def cuts(
        self, layers: range, resident: frozenset[Map], keep: frozenset[Map], striped: bool
    ) -> Iterator[tuple[int, int]]:
        """Numbers of stripes that fit, the least one and some more, with and without lag."""
        most = max(self.flow.layers[i].geometry.count[0] for i in layers)
        for lag in (0, 1) if len(layers) > 1 else (0,):
            tried = 0
            for stripes in STRIPES if striped else (1,):
                if stripes > most or tried == 3:
                    break
                if lag and stripes < 3:
                    continue
                if self.needs(layers, stripes, lag, resident, keep) <= self.capacity:
                    tried += 1
                    yield stripes, lag

    def depth(self, layers: range, lag: int) -> dict[int, int]:
        key = (layers.start, layers.stop)
        if key not in self.depths:
            self.depths[key] = lags(self.flow, layers, 1)
        found = self.depths[key]
        return found if lag else dict.fromkeys(found, 0)

    def needs(
        self, layers: range, stripes: int, lag: int, resident: frozenset[Map], keep: frozenset[Map]
    ) -> int:
        """About the half words of ACT that a group and what stays meanwhile take."""
        own = {m for i in layers for m in (*self.flow.read_by(i), self.flow.layers[i].output)}
        staying = sum(m.half_words for m in resident - own)
        key = (layers.start, layers.stop, stripes, lag, resident & own, keep & own)
        if key not in self.memory:
            self.memory[key] = self.group_needs(layers, stripes, lag, resident & own, keep & own)
        return staying + self.memory[key]

    def group_needs(
        self, layers: range, stripes: int, lag: int, resident: frozenset[Map], keep: frozenset[Map]
    ) -> int:
        depth = self.depth(layers, lag)
        total = 0
        seen: set[Map] = set()
        for i in layers:
            for m in self.flow.read_by(i):
                if m in seen:
                    continue
                seen.add(m)
                if m in resident or m in keep:
                    total += m.half_words
                    continue
                readers = [c for c in self.flow.readers[m] if c in layers]
                made = any(w in layers for w in self.flow.writers.get(m, ()))
                if any(self.flow.reading[c, m].whole for c in readers) or (made and not self.plain[m]):
                    total += m.half_words
                    continue
                first = min(depth[c] for c in readers)
                start = depth[self.flow.writers[m][0]] if made else first - 1
                behind = max(depth[c] for c in readers) - start
                rows = -(-m.height // stripes) + (1 if m.height % stripes else 0)
                extra = max(self.halo(c) for c in readers)
                if made and self.leaves(m, layers, keep):
                    behind = max(behind, 1)
                lines = min(m.height, rows * (1 + behind) + extra)
                blocks = m.blocks
                if not made:
                    spans = [self.flow.reading[c, m] for c in readers]
                    low = min(r.first_block for r in spans)
                    blocks = max(r.first_block + r.blocks for r in spans) - low
                total += lines * m.width * blocks
        for i in layers:
            m = self.flow.layers[i].output
            if m in seen:
                continue
            if m in keep:
                seen.add(m)
                total += m.half_words
                continue
            rows, columns = self.flow.layers[i].geometry.count
            size = -(-rows // stripes)
            total += min(rows, 2 * size) * columns * m.blocks
        return total

    def halo(self, i: int) -> int:
        g = self.flow.layers[i].geometry
        return max((g.kernel[0] - 1) * g.dilation[0] + 1 - g.stride[0], 0)

    def leaves(self, m: Map, layers: range, keep: frozenset[Map]) -> bool:
        """Whether a map that a group writes goes to DRAM."""
        return m.segment is Base.OUTPUT or (self.last_use.get(m, -1) >= layers.stop and m not in keep)

    def step(self, layers: range, state: _State, stripes: int, lag: int, keep: frozenset[Map]) -> _State:
        """A way lengthened by a group."""
        read = write = 0
        loaded: set[Map] = set()
        made = {self.flow.layers[i].output for i in layers}
        for i in layers:
            for m in self.flow.read_by(i):
                if m in state.resident or m in loaded or (m in made and m in self.flow.writers):
                    continue
                loaded.add(m)
                r = self.flow.reading[i, m]
                read += m.height * m.width * (m.blocks if m in keep else r.blocks) * self.unit
        for m in made:
            if self.leaves(m, layers, keep):
                share = sum(w in layers for w in self.flow.writers[m]) / len(self.flow.writers[m])
                write += int(m.half_words * self.unit * share)
        for m in state.resident - keep:  # dropped though needed again: it should have been stored
            if (
                self.last_use.get(m, -1) >= layers.stop
                and m in self.flow.writers
                and m.segment is not Base.OUTPUT
            ):
                write += m.half_words * self.unit
        cost = self.coster.group(layers, stripes, lag, read, write)
        names = tuple(self.flow.names[i] for i in layers)
        kept = tuple(sorted(self.flow.name(m) for m in keep))
        group = Group.model_construct(layers=names, stripes=stripes, strips=1, lag=lag, keep=kept)
        return _State(state.cost + cost.cycles + cost.dram_bytes * BYTE_PRICE, keep, group, state)


def _fitted(prepared: Prepared, groups: list[Group]) -> RegionPlan:
    """Cut groups finer until the allocator agrees."""
    names = [g.layers[0] for g in groups]
    flow = prepared.flow
    number = {name: i for i, name in enumerate(flow.names)}
    while True:
        plan = RegionPlan(region=prepared.name, groups=tuple(groups))
        schedule = make_schedule(flow, plan)
        try:
            place_buffers(schedule.buffers, prepared.overlay, names)
            return plan
        except ScheduleError as error:
            (fault,) = error.faults
        sizes = [
            sum(b.half_words for b in schedule.buffers if b.first <= g <= b.last) for g in range(len(groups))
        ]
        worst = max(range(len(groups)), key=lambda g: sizes[g])
        finer = _finer(groups, worst, number, prepared)
        if finer is None:
            raise ScheduleError(Fault(fault.message, fault.where, "choose an overlay with more memory"))
        groups = finer
        names = [g.layers[0] for g in groups]


def _finer(groups: Sequence[Group], g: int, number: dict[str, int], prepared: Prepared) -> list[Group] | None:
    """The groups with one of them needing less: more stripes, fewer kept maps, parts, strips. None: nothing is left."""
    changed = list(groups)
    group = groups[g]
    layers = [prepared.flow.layers[number[name]] for name in group.layers]
    rows = max(layer.geometry.count[0] for layer in layers)
    probe = Group(layers=group.layers, stripes=min(rows, group.stripes + 1), lag=group.lag, keep=group.keep)
    searching = _Search(prepared)
    inside = range(number[group.layers[0]], number[group.layers[-1]] + 1)
    if group.stripes < rows and searching.striped(inside):
        changed[g] = probe
        return changed
    crossing = [*(groups[g - 1].keep if g else ()), *group.keep]
    if crossing:
        largest = max(crossing, key=lambda name: prepared.flow.maps[name].half_words)
        return [
            Group(
                layers=other.layers,
                stripes=other.stripes,
                lag=other.lag,
                strips=other.strips,
                keep=tuple(k for k in other.keep if k != largest),
            )
            for other in groups
        ]
    if len(layers) > 1:
        half = len(layers) // 2
        changed[g : g + 1] = [Group(layers=group.layers[:half]), Group(layers=group.layers[half:])]
        return changed
    if group.strips < layers[0].geometry.count[1]:
        changed[g] = Group(layers=group.layers, stripes=group.stripes, strips=group.strips + 1)
        return changed
    return None
