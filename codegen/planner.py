"""Default plans: the cheapest ways through the layers by the estimate of `cost.py`.

Layers are taken in order; at each the search knows a few best ways to get there, which differ by the maps that stay in
ACT, and lengthens each by groups of one to `LONGEST` layers, in several numbers of stripes (a beam search over what
would be a shortest path). What a group needs of ACT is estimated while searching; the plan that is found is checked
against the allocator, and groups that do not fit after all are cut finer. A fuller ACT keeps more maps, an emptier one
lets LOAD run ahead: the search is made for several shares of it, and the timing simulator decides (`compile.py`).

Of a batch the first groups take few images at a time, since their maps are large, and later ones more, since their
weights are: from layer to layer the number only grows, and no map stays in ACT where it does.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass

import numpy as np

from tilewright.codegen.allocate import place_buffers
from tilewright.codegen.buffers import Schedule
from tilewright.codegen.course import Clock
from tilewright.codegen.layers import VectorLayer
from tilewright.codegen.plan import Group, RegionPlan
from tilewright.codegen.prepared import Prepared
from tilewright.codegen.schedule import make_schedule
from tilewright.codegen.segments import Segment, Segments
from tilewright.errors import Fault, ScheduleError

LONGEST = 12
"""Layers of a group at most."""
BEAM = 4
"""Ways to get to a layer that are followed."""
IMAGES = (2, 4, 8)
"""Of a batch, what a group may take at a time besides one and all."""
BYTE_PRICE = 1 / 24
"""Cycles that a byte of DRAM traffic is taken to cost beyond its time: energy, and what other units wait for it."""
FULL = (0.9, 0.7, 0.8)
"""Shares of ACT that the estimate may use: places do not fit without gaps."""
SEVERAL = 150
"""Layers, times images, of all plans of a region: the more it has, the longer a search, and the less plans differ."""


def default_plans(prepared: Prepared) -> list[RegionPlan]:
    """Good plans for a region, one or more. Raises ScheduleError naming the layer that fits in no way."""
    segments = Segments(prepared)
    found: dict[RegionPlan, None] = {}
    wanted = SEVERAL // (len(prepared.flow.names) * prepared.batch)
    for number, share in enumerate(FULL):
        if found and number >= wanted:
            break
        groups = _Search(prepared, segments, share).run()
        plan = RegionPlan(region=prepared.name, groups=tuple(groups))
        try:
            _place(prepared, plan, make_schedule(prepared.flow, plan, prepared.batch))
        except ScheduleError:
            continue
        found[plan] = None
    return list(found) or [_fitted(prepared, segments, groups)]


def _place(prepared: Prepared, plan: RegionPlan, schedule: Schedule) -> None:
    """Raise ScheduleError where the buffers find no place."""
    names = [plan.groups[g].layers[0] for g in schedule.groups]
    place_buffers(schedule.buffers, prepared.overlay, names)


@dataclass(eq=False)
class _Way:
    """A way to get to a layer: when units are free, price of bytes, both for an image; maps in ACT; the last group."""

    clock: Clock
    price: float
    resident: int
    segment: Segment | None
    stripes: int
    lag: int
    images: int
    before: _Way | None

    @property
    def cost(self) -> float:
        """What the search makes small."""
        return self.clock.end + self.price


class _Search:
    def __init__(self, prepared: Prepared, segments: Segments, share: float) -> None:
        self.flow = prepared.flow
        self.segments = segments
        self.capacity = int(prepared.overlay.act_half_words * share)
        maps = self.segments.maps
        self.sizes = {self.segments.bit[m]: m.half_words for m in maps}
        self.uses = {self.segments.bit[m]: self.flow.readers.get(m, []) for m in maps}
        batch = prepared.batch
        self.images = sorted({1, *(n for n in IMAGES if n < batch), batch})
        self.writers = {self.segments.bit[m]: self.flow.writers.get(m, []) for m in maps}

    def run(self) -> list[Group]:
        count = len(self.flow.names)
        ways: list[dict[tuple[int, int], _Way]] = [{} for _ in range(count + 1)]
        ways[0][0, 1] = _Way(Clock(), 0.0, 0, None, 1, 0, 1, None)
        for i in range(count):
            for way in self.best(ways[i].values()):
                for images in self.images if not way.resident else (way.images,):
                    for after in self.extend(i, way, images) if images >= way.images else ():
                        assert after.segment is not None
                        found, key = ways[after.segment.layers.stop], (after.resident, images)
                        if key not in found or after.cost < found[key].cost:
                            found[key] = after
        last: _Way | None = min(ways[count].values(), key=lambda w: w.cost)
        groups: list[Group] = []
        while last is not None and last.segment is not None:
            keep = tuple(sorted(self.flow.name(m) for m in self.segments.of(last.resident)))
            names = tuple(self.flow.names[i] for i in last.segment.layers)
            groups.append(
                Group(layers=names, stripes=last.stripes, lag=last.lag, keep=keep, images=last.images)
            )
            last = last.before
        return groups[::-1]

    def best(self, ways: Iterable[_Way]) -> Iterator[_Way]:
        """The cheapest ways of each number of images."""
        left = dict.fromkeys(self.images, BEAM)
        for way in sorted(ways, key=lambda w: w.cost):
            left[way.images] -= 1
            if left[way.images] >= 0:
                yield way

    def extend(self, i: int, way: _Way, images: int) -> Iterator[_Way]:
        """The groups of so many images that may begin with layer i."""
        for stop in range(i + 1, min(i + LONGEST, len(self.flow.names)) + 1):
            segment = self.segments.get(i, stop)
            if segment is None:
                return
            found = False
            for keep in self.keeps(segment, way.resident, images):
                room = self.capacity // images - self.segments.size(way.resident & ~segment.own)
                for stripes, lag in self.cuts(segment, way.resident, keep, room):
                    found = True
                    yield self.step(segment, way, stripes, lag, keep, images)
            if not found and stop == i + 1 and images == 1:  # left to `_fitted`
                yield self.step(segment, way, int(segment.stripes[-1]), 0, 0, images)
            if not found and stop > i + 1 and len(segment.stripes) == 1:
                return

    def keeps(self, segment: Segment, resident: int, images: int) -> list[int]:
        """Sets of maps that may stay after a group: all of what is needed later, what is needed next, nothing."""
        later = []
        for m in self.segments.of(resident | segment.own):
            bit = self.segments.bit[m]
            next_use = next((r for r in self.uses[bit] if r >= segment.layers.stop), None)
            writers = self.writers[bit]
            inside = [w in segment.layers for w in writers]
            if next_use is not None and (all(inside) or all(w < segment.layers.start for w in writers)):
                later.append((next_use, self.sizes[bit], bit))
        later.sort()
        kept, room, nearest = 0, self.capacity // images, [0]
        for _, size, bit in later:
            if size <= room:
                kept |= bit
                room -= size
                if len(nearest) < 3:
                    nearest.append(kept)
        return list(dict.fromkeys((kept, *nearest[::-1], kept & resident)))

    def cuts(self, segment: Segment, resident: int, keep: int, room: int) -> Iterator[tuple[int, int]]:
        """The least number of stripes that fits and some more, with and without lag."""
        fits = segment.needs(resident | keep) <= room
        for lag in segment.lags:
            found = np.flatnonzero(fits[lag])
            if not len(found):
                continue
            first = max(int(found[0]), 2 if lag else 0)
            for n in (first, first + 1, first + 3):
                if n < len(segment.stripes):
                    yield int(segment.stripes[n]), lag

    def step(self, segment: Segment, way: _Way, stripes: int, lag: int, keep: int, images: int) -> _Way:
        """A way lengthened by a group."""
        read, write = segment.traffic(way.resident, keep)
        dropped = way.resident & ~keep
        if dropped:  # what is dropped though it is needed again should have been stored
            for m in self.segments.of(dropped):
                if self.segments.last_use[m] >= segment.layers.stop and m in self.flow.writers:
                    write += m.half_words * self.segments.unit
        cost = self.segments.cost(segment, stripes, lag, read, write, images)
        price = way.price + cost.dram_bytes * BYTE_PRICE / images
        return _Way(cost.behind(way.clock), price, keep, segment, stripes, lag, images, way)


def _fitted(prepared: Prepared, segments: Segments, groups: list[Group]) -> RegionPlan:
    """Cut groups finer until the allocator agrees."""
    number = {name: i for i, name in enumerate(prepared.flow.names)}
    while True:
        plan = RegionPlan(region=prepared.name, groups=tuple(groups))
        schedule = make_schedule(prepared.flow, plan, prepared.batch)
        try:
            _place(prepared, plan, schedule)
            return plan
        except ScheduleError as error:
            (fault,) = error.faults
        worst = max(enumerate(schedule.sizes()), key=lambda run: run[1])[0]
        worst = schedule.groups[worst]
        layers = range(number[groups[worst].layers[0]], number[groups[worst].layers[-1]] + 1)
        segment = segments.get(layers.start, layers.stop)
        assert segment is not None
        if not _finer(groups, worst, segment, prepared):
            raise ScheduleError(Fault(fault.message, fault.where, "choose an overlay with more memory"))


def _finer(groups: list[Group], g: int, segment: Segment, prepared: Prepared) -> bool:
    """Let a group need less: fewer images, more stripes, fewer kept maps, parts, strips, slices.

    False: nothing is left to try.
    """
    group, layer = groups[g], prepared.flow.layers[segment.layers.start]
    crossing = [*(groups[g - 1].keep if g else ()), *group.keep]
    if group.images > 1:
        groups[g] = group.model_copy(update={"images": group.images // 2})
    elif group.stripes < layer.geometry.count[0] and (len(segment.stripes) > 1 or len(group.layers) == 1):
        groups[g] = group.model_copy(update={"stripes": group.stripes + 1})
    elif crossing:
        largest = max(crossing, key=lambda name: prepared.flow.maps[name].half_words)
        for i, other in enumerate(groups):
            groups[i] = other.model_copy(update={"keep": tuple(k for k in other.keep if k != largest)})
    elif len(group.layers) > 1:
        half = len(group.layers) // 2
        groups[g : g + 1] = [Group(layers=group.layers[:half]), Group(layers=group.layers[half:])]
    elif group.slices == 1 and group.strips < layer.geometry.count[1]:
        groups[g] = group.model_copy(update={"strips": group.strips + 1})
    elif group.slices < len(layer.source.blocks) and isinstance(layer, VectorLayer):
        groups[g] = group.model_copy(update={"slices": group.slices + 1, "strips": 1})
    else:
        return False
    return True
