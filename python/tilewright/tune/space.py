"""The space of plans of a region: points, the steps between neighbours, and all of it where it is small.

A point is a plan as numbers, a :class:`Cut` for each group. Points are kept in one form, so that no plan has two:
a lag that does nothing is 0, maps are kept in one order and only where a later group reads them.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator, Sequence
from functools import cached_property
from itertools import chain, combinations, islice, product
from typing import NamedTuple

from tilewright.codegen.plan import Group, RegionPlan
from tilewright.tune.measurement import Region

LAGS = (0, 1, 2)
"""What a group's lag may be."""


class Cut(NamedTuple):
    """A group: layers up to the one before position `end`, and its integers; `keep` holds positions of maps."""

    end: int
    stripes: int = 1
    strips: int = 1
    slices: int = 1
    lag: int = 0
    keep: tuple[int, ...] = ()


Point = tuple[Cut, ...]


class Edit(NamedTuple):
    """A step from a point: what is done at group `group`, and where or with what."""

    kind: str
    group: int
    value: int


def heights(rows: int) -> tuple[int, ...]:
    """Numbers of stripes that cut `rows` into parts of different height: 1, 2, 3, ... rows.

    >>> heights(7)
    (1, 2, 3, 4, 7)
    """
    return tuple(sorted({-(-rows // height) for height in range(1, rows + 1)}))


class Space:
    """The plans of a region. `legal` remembers its answers."""

    def __init__(self, region: Region) -> None:
        self.region = region
        self.layers = tuple(region.layers)
        self.maps = tuple(region.maps)
        self._number = {m.name: i for i, m in enumerate(self.maps)}
        self._legal: dict[Point, bool] = {}
        self._groups: dict[tuple[int, Cut], Group] = {}
        self._crossing: dict[tuple[int, int], list[tuple[int, bool]]] = {}
        self._first = [min(m.writers, default=0) for m in self.maps]
        self._whole = [max(m.writers, default=-1) for m in self.maps]
        self._last = [max(m.readers, default=-1) for m in self.maps]
        sizes = {n for layer in self.layers for n in (layer.rows, layer.columns, layer.slices)}
        self._heights = {n: heights(n) for n in sizes}
        self._steps: dict[str, Callable[[Point, Edit], Iterator[Sequence[Cut]]]] = {
            "merge": self._merge,
            "split": self._split,
            "move": self._move,
            "stripes": self._set,
            "strips": self._set,
            "slices": self._set,
            "lag": self._set,
            "keep": self._keep,
        }

    # Points and plans.

    @cached_property
    def default(self) -> Point:
        """The planner's plan."""
        return self.point(self.region.default)

    def point(self, plan: RegionPlan) -> Point:
        """A plan as numbers."""
        cuts, end = [], 0
        for group in plan.groups:
            end += len(group.layers)
            keep = tuple(self._number[name] for name in group.keep if name in self._number)
            cuts.append(Cut(end, group.stripes, group.strips, group.slices, group.lag, keep))
        return self.normal(cuts)

    def plan(self, point: Point) -> RegionPlan:
        """Numbers as a plan."""
        groups, start = [], 0
        for cut in point:
            group = self._groups.get((start, cut))
            if group is None:
                layers = tuple(layer.name for layer in self.layers[start : cut.end])
                keep = tuple(self.maps[m].name for m in cut.keep)
                numbers = {f: getattr(cut, f) for f in ("stripes", "strips", "slices", "lag")}
                group = Group(layers=layers, keep=keep, **numbers)
                self._groups[start, cut] = group
            groups.append(group)
            start = cut.end
        return RegionPlan.model_construct(region=self.region.name, groups=tuple(groups))

    def normal(self, cuts: Sequence[Cut]) -> Point:
        """The one form of a point; what means nothing is dropped."""
        found, start = [], 0
        kept: frozenset[int] = frozenset()
        for cut in cuts:
            rows = self.layers[cut.end - 1].rows
            stripes = min(cut.stripes, rows)
            single = cut.end - start == 1
            held = set(self.crossing(start, cut.end, kept)) if cut.keep else set()
            keep = tuple(sorted(held.intersection(cut.keep)))
            parted = single and not keep
            strips = min(cut.strips, self.layers[start].columns) if parted else 1
            slices = min(cut.slices, self.layers[start].slices) if parted else 1
            lag = cut.lag if stripes > 1 and not single else 0
            found.append(Cut(cut.end, stripes, strips, slices, lag, keep))
            start, kept = cut.end, frozenset(keep)
        return tuple(found)

    def crossing(self, start: int, end: int, kept: frozenset[int] | None = None) -> list[int]:
        """Maps that a group of layers start .. end-1 may keep, given those kept before it (None: any)."""
        known = self._crossing.get((start, end))
        if known is None:
            known = self._crossing[start, end] = [
                (m, any(start <= i < end for i in chain(facts.readers, facts.writers)))
                for m, facts in enumerate(self.maps)
                if self._last[m] >= end > max(self._whole[m], self._first[m])
            ]
        return [
            m for m, touched in known if touched or (self._whole[m] < start if kept is None else m in kept)
        ]

    def legal(self, point: Point) -> bool:
        """Whether nothing speaks against compiling and measuring a point."""
        known = self._legal.get(point)
        if known is None:
            known = self._legal[point] = not self.region.faults(self.plan(point))
        return known

    # All of it.

    def raw_count(self, limit: int) -> int:
        """Points before legality, counted no further than `limit + 1`."""
        count = [0] * (len(self.layers) + 1)
        count[-1] = 1
        for start in reversed(range(len(self.layers))):
            total = 0
            for end in range(start + 1, len(self.layers) + 1):
                options = (1 << len(self.crossing(start, end))) * len(self._numbers(start, end))
                total += options * count[end]
                if total > limit:
                    total = limit + 1
                    break
            count[start] = total
        return min(count[0], limit + 1)

    def _numbers(self, start: int, end: int) -> list[tuple[int, int, int, int]]:
        """Stripes, strips, slices and lag of a group."""
        stripes = self._heights[self.layers[end - 1].rows]
        if end - start == 1:
            layer = self.layers[start]
            parts = product(self._heights[layer.columns], self._heights[layer.slices])
            return [(s, *part, 0) for part in parts for s in stripes]
        return [(s, 1, 1, lag) for s in stripes for lag in LAGS if not lag or s > 1]

    def points(self) -> Iterator[Point]:
        """All legal points, each once; for spaces that :meth:`raw_count` calls small."""
        seen: set[Point] = set()
        for cuts in self._cuts(0):
            point = self.normal(cuts)
            if point not in seen:
                seen.add(point)
                if self.legal(point):
                    yield point

    def _cuts(self, start: int) -> Iterator[tuple[Cut, ...]]:
        if start == len(self.layers):
            yield ()
            return
        for end in range(start + 1, len(self.layers) + 1):
            maps = self.crossing(start, end)
            keeps = list(chain.from_iterable(combinations(maps, n) for n in range(len(maps) + 1)))
            for rest in self._cuts(end):
                for numbers in self._numbers(start, end):
                    for keep in keeps:
                        yield (Cut(end, *numbers, keep), *rest)

    def small(self, limit: int) -> list[Point] | None:
        """All legal points with the default first, if there are `limit` or fewer and they are soon found."""
        if self.raw_count(RAW_SHARE * limit) > RAW_SHARE * limit:
            return None
        found = [self.default]
        for point in self.points():
            if point != self.default:
                found.append(point)
            if len(found) > limit:
                return None
        return found

    # Neighbours.

    def edits(self, point: Point) -> list[list[Edit]]:
        """The steps from a point, those of one kind together; some may lead to illegal points only."""
        kinds: dict[str, list[Edit]] = {kind: [] for kind in self._steps}
        start, kept = 0, frozenset[int]()
        for g, cut in enumerate(point):
            single = cut.end - start == 1
            if g + 1 < len(point):
                kinds["merge"].append(Edit("merge", g, cut.end))
                if not single:
                    kinds["move"].append(Edit("move", g, cut.end - 1))
                if point[g + 1].end - cut.end > 1:
                    kinds["move"].append(Edit("move", g, cut.end + 1))
            kinds["split"] += [Edit("split", g, at) for at in range(start + 1, cut.end)]
            stripes = self._heights[self.layers[cut.end - 1].rows]
            kinds["stripes"] += [Edit("stripes", g, s) for s in _near(stripes, cut.stripes)]
            if single and not cut.keep:
                layer = self.layers[start]
                kinds["strips"] += [
                    Edit("strips", g, s) for s in _near(self._heights[layer.columns], cut.strips)
                ]
                kinds["slices"] += [
                    Edit("slices", g, s) for s in _near(self._heights[layer.slices], cut.slices)
                ]
            if not single and cut.stripes > 1:
                kinds["lag"] += [Edit("lag", g, lag) for lag in LAGS if lag != cut.lag]
            kinds["keep"] += [Edit("keep", g, m) for m in self.crossing(start, cut.end, kept)]
            start, kept = cut.end, frozenset(cut.keep)
        return [edits for edits in kinds.values() if edits]

    def text(self, point: Point, edit: Edit) -> str:
        """A step, for people."""
        cut = point[edit.group]
        first = self.layers[point[edit.group - 1].end if edit.group else 0].name
        if edit.kind in ("merge", "split", "move"):
            return f"{edit.kind} at {self.layers[edit.value].name}"
        if edit.kind == "keep":
            return (
                f"{'drop' if edit.value in cut.keep else 'keep'} {self.maps[edit.value].name} after {first}"
            )
        return f"{edit.kind} of {first} {getattr(cut, edit.kind)} -> {edit.value}"

    def apply(self, point: Point, edit: Edit) -> Iterator[Point]:
        """The points to which a step may lead, legal or not, the likeliest first."""
        for cuts in self._steps[edit.kind](point, edit):
            other = self.normal(cuts)
            if other != point:
                yield other

    def neighbours(self, point: Point) -> Iterator[tuple[str, Point]]:
        """All legal neighbours, each once."""
        seen = {point}
        for edit in chain.from_iterable(self.edits(point)):
            for other in self.apply(point, edit):
                if other not in seen:
                    seen.add(other)
                    if self.legal(other):
                        yield self.text(point, edit), other

    def step(self, point: Point, rng: random.Random, tries: int = 8) -> tuple[str, Point] | None:
        """A random legal neighbour; None where none is found in so many tries."""
        kinds = self.edits(point)
        for _ in range(tries if kinds else 0):
            edit = rng.choice(rng.choice(kinds))
            legal = list(islice(filter(self.legal, self.apply(point, edit)), VARIANTS))
            if legal:
                return self.text(point, edit), rng.choice(legal)
        return None

    def crossed(self, left: Point, right: Point, rng: random.Random, tries: int = 4) -> Point | None:
        """The first groups of one point and the last of another, from a layer at which both begin a group."""
        common = sorted({cut.end for cut in left[:-1]} & {cut.end for cut in right[:-1]})
        for _ in range(tries if common else 0):
            at = rng.choice(common)
            point = self.normal(
                [*(cut for cut in left if cut.end <= at), *(cut for cut in right if cut.end > at)]
            )
            if point not in (left, right) and self.legal(point):
                return point
        return None

    def _merge(self, point: Point, edit: Edit) -> Iterator[Sequence[Cut]]:
        """Two groups as one; the fewest stripes that are legal are the likeliest."""
        g = edit.group
        first, second = point[g], point[g + 1]
        lag = max(first.lag, second.lag)
        for stripes in self._heights[self.layers[second.end - 1].rows]:
            for lagging in (lag, *(other for other in LAGS if other != lag)):
                yield [*point[:g], Cut(second.end, stripes, lag=lagging, keep=second.keep), *point[g + 2 :]]

    def _split(self, point: Point, edit: Edit) -> Iterator[Sequence[Cut]]:
        """A group as two, with what passes between them kept or not."""
        g = edit.group
        cut, start = point[g], point[g - 1].end if g else 0
        kept = frozenset(point[g - 1].keep) if g else frozenset()
        for keep in (tuple(self.crossing(start, edit.value, kept)), tuple(m for m in cut.keep if m in kept)):
            for one in dict.fromkeys((cut.stripes, 1)):
                for other in dict.fromkeys((cut.stripes, 1)):
                    first = cut._replace(end=edit.value, stripes=one, keep=keep)
                    yield [*point[:g], first, cut._replace(stripes=other), *point[g + 1 :]]

    def _move(self, point: Point, edit: Edit) -> Iterator[Sequence[Cut]]:
        """The border of two groups a layer earlier or later; its maps kept if some were before."""
        g = edit.group
        first, second = point[g], point[g + 1]
        kept = frozenset(point[g - 1].keep) if g else frozenset()
        everything = tuple(self.crossing(point[g - 1].end if g else 0, edit.value, kept))
        for keep in (everything, ()) if first.keep else ((), everything):
            yield [*point[:g], first._replace(end=edit.value, keep=keep), second, *point[g + 2 :]]

    def _set(self, point: Point, edit: Edit) -> Iterator[Sequence[Cut]]:
        g = edit.group
        changed = {**point[g]._asdict(), edit.kind: edit.value}
        yield [*point[:g], Cut(**changed), *point[g + 1 :]]

    def _keep(self, point: Point, edit: Edit) -> Iterator[Sequence[Cut]]:
        """Keep a map until its last reader, or for the next group only; or drop it from here on."""
        g, m = edit.group, edit.value
        cut = point[g]
        if m in cut.keep:
            yield [*point[:g], cut._replace(keep=tuple(k for k in cut.keep if k != m)), *point[g + 1 :]]
            return
        through = list(point)
        for later in range(g, len(point)):
            if point[later].end <= self._last[m]:
                through[later] = point[later]._replace(keep=(*point[later].keep, m))
        yield through
        yield [*point[:g], cut._replace(keep=(*cut.keep, m)), *point[g + 1 :]]


RAW_SHARE = 20
"""A space is looked through whole while it has at most so many points, legal or not, for each that may be measured."""
VARIANTS = 2
"""A step's legal points among which one is drawn."""
NEAR = 2


def _near(values: Sequence[int], current: int) -> list[int]:
    """The values next to the current one on both sides, and the smallest."""
    below = [v for v in values if v < current]
    above = [v for v in values if v > current]
    return sorted({*below[:1], *below[-NEAR:], *above[:NEAR]})
