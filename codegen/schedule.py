"""A plan carried out: the order in which stripes of layers, fills and drains happen, and the ACT buffers they use.

A group's last layers make their results in equal stripes; what the layers before them must have made by then follows
from the windows, row by row, so nothing is computed twice: rows that the next stripe needs again stay in their
buffer. A buffer holds as many rows as there ever are between the first still needed and the last written, row y of
the map lying in line y modulo that number.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from itertools import accumulate, groupby, pairwise, product

from tilewright.codegen.buffers import Action, Buffer, Drain, Fill, Schedule, Step, Window
from tilewright.codegen.flow import Flow, sources
from tilewright.codegen.layers import MatrixLayer, VectorLayer
from tilewright.codegen.merging import check
from tilewright.codegen.plan import Group, RegionPlan
from tilewright.codegen.values import Map
from tilewright.errors import ScheduleError
from tilewright.targets.isa.spec import Base


def passing(flow: Flow, plan: RegionPlan) -> set[Map]:
    """Maps that must be stored in DRAM: outputs, and what is read after it has left ACT, or in parts."""
    number = {name: i for i, name in enumerate(flow.names)}
    group_of = {number[name]: g for g, group in enumerate(plan.groups) for name in group.layers}
    keep = [{flow.maps[name] for name in group.keep} for group in plan.groups]
    found = set()
    for m, writers in flow.writers.items():
        made = {group_of[w] for w in writers}
        for h in (group_of[r] for r in flow.readers.get(m, ())):
            if not all(m in keep[k] for k in range(max(made), h)) or len(made) > 1:
                found.add(m)
        if m.segment is Base.OUTPUT:
            found.add(m)
    return found


def runs(plan: RegionPlan, batch: int) -> Iterator[tuple[int, range]]:
    """Groups by number and the images that they take, in the order in which they run."""
    for images, section in groupby(range(len(plan.groups)), key=lambda g: plan.groups[g].images):
        groups = list(section)
        for first in range(0, batch, images):
            for g in groups:
                yield g, range(first, min(first + images, batch))


def make_schedule(flow: Flow, plan: RegionPlan, batch: int = 1) -> Schedule:
    """Carry a plan out. Raises ScheduleError with everything that :func:`check` finds."""
    found = check(flow, plan)
    if found:
        raise ScheduleError(*found)
    maker = _Maker(flow, plan, passing(flow, plan))
    for g, images in runs(plan, batch):
        maker.run(g, images)
    return maker.schedule


def _order(action: Action) -> int:
    """Steps of a layer stand side by side, whatever their image; the order of the rest is kept."""
    return action.layer if isinstance(action, Step) else -1


@dataclass(eq=False)
class _Maker:
    flow: Flow
    plan: RegionPlan
    passing: set[Map]
    schedule: Schedule = field(default_factory=Schedule)
    resident: dict[int, dict[Map, Buffer]] = field(default_factory=dict)
    """By image."""

    def __post_init__(self) -> None:
        ends = list(accumulate((len(group.layers) for group in self.plan.groups), initial=0))
        self.layers = [range(first, end) for first, end in pairwise(ends)]

    def run(self, g: int, images: range) -> None:
        """A group for some images, turn by turn side by side."""
        group, layers, number = self.plan.groups[g], self.layers[g], len(self.schedule.groups)
        self.schedule.groups.append(g)
        keep = {self.flow.maps[name] for name in group.keep}
        turns: list[list[list[Action]]] = []
        for image in images:
            resident = self.resident.pop(image, {})
            for buffer in resident.values():
                buffer.last = number
            one = GroupSchedule(
                self.flow, self.passing, self.schedule, number, group, layers, keep, resident, image
            )
            turns.append(one.emit())
            stay = resident | one.buffers
            self.resident[image] = {m: b for m, b in stay.items() if m in keep}
        for together in zip(*turns, strict=True):
            actions = [action for turn in together for action in turn]
            self.schedule.turns.append(sorted(actions, key=_order))


@dataclass(eq=False)
class GroupSchedule:
    """One group's part of a schedule, for one image.

    Attributes:
        passing: maps that must be stored in DRAM.
        number: of the run.
        layers: numbers of its layers.
        keep: maps that stay after it; `resident`: buffers of those that were there before.
        buffers, staged: those that it makes, by map, and by layer where they only pass results to DRAM.
    """

    flow: Flow
    passing: set[Map]
    schedule: Schedule
    number: int
    group: Group
    layers: range
    keep: set[Map]
    resident: dict[Map, Buffer]
    image: int = 0
    turns: list[list[Action]] = field(default_factory=list)
    buffers: dict[Map, Buffer] = field(default_factory=dict)
    staged: dict[int, Buffer] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.own = {self.flow.layers[i].output for i in self.layers}
        read = {m for i in self.layers for m in self.flow.read_by(i)}
        self.loaded = [m for m in self.flow.maps.values() if m in read - self.own and m not in self.resident]
        self.ends = progress(self.flow, self.layers, self.group.stripes)
        self.lag = lags(self.flow, self.layers, self.group.lag)

    # Which buffers there are.

    def direct(self, m: Map) -> bool:
        """Whether a map that the group writes has its own lines in ACT, and is not just passing to DRAM."""
        if not all(w in self.layers for w in self.flow.writers[m]) or self.single():
            return False
        read = any(i in self.layers for i in self.flow.readers.get(m, ()))
        return m in self.keep or self.flow.plain(m) or read

    def single(self) -> bool:
        """Whether the group is one layer in parts that pass to DRAM one by one."""
        return self.group.strips > 1 or self.group.slices > 1

    def make_buffers(self) -> None:
        for m in self.loaded:
            readers = [i for i in self.flow.readers[m] if i in self.layers]
            whole = m in self.keep
            blocks = max((self.span(m, cut)[1] for cut in self.slices()), default=0)
            columns = m.width
            if self.group.strips > 1:
                g = self.flow.layers[self.layers[0]].geometry
                columns = max(self.window(m, x, n)[1] for x, n in strips(g.count[1], self.group.strips))
            lines = m.height if whole else self.loaded_lines(m, readers)
            self.buffers[m] = self.add(m, lines, m.height, columns, blocks, False)
        for i in self.layers:
            m = self.flow.layers[i].output
            if self.direct(m):
                if m not in self.buffers:
                    lines = m.height if m in self.keep or not self.flow.plain(m) else self.written_lines(i)
                    self.buffers[m] = self.add(m, lines, m.height, m.width, m.blocks, False)
            else:
                rows, width = self.flow.layers[i].geometry.count
                columns = strips(width, self.group.strips)[0][1]
                lines = self.lines_of(rows, (i, 0), [])
                self.staged[i] = self.add(
                    m, lines, rows, columns, self.result_blocks(i, self.slices()[0]), True
                )

    def add(self, m: Map, lines: int, height: int, columns: int, blocks: int, staged: bool) -> Buffer:
        readers = [self.flow.layers[i] for i in self.flow.readers.get(m, ())]
        by_vector = bool(readers) and all(isinstance(layer, VectorLayer) for layer in readers)
        buffer = Buffer(m, lines, height, columns, blocks, staged, self.number, self.number, by_vector)
        self.schedule.buffers.append(buffer)
        return buffer

    def window(self, m: Map, x: int, columns: int) -> tuple[int, int]:
        """First column of a map that a strip of the group's only layer reads, and how many."""
        if self.group.strips == 1:
            return 0, m.width
        return self.flow.layers[self.layers[0]].geometry.span(1, x, columns, m.width)

    def slices(self) -> list[range]:
        """The half words of the first layer's source in each slice."""
        total = len(self.flow.layers[self.layers[0]].source.blocks)
        return [range(first, first + n) for first, n in strips(total, self.group.slices)]

    def span(self, m: Map, cut: range) -> tuple[int, int]:
        """First half word of a loaded map's pixels that the group reads in a slice, and how many."""
        if m in self.keep:
            return 0, m.blocks
        if self.group.slices > 1:
            held = [
                s.blocks[i][1]
                for s in sources(self.flow.layers[self.layers[0]])
                for i in cut
                if s.blocks[i][0] is m
            ]
            last = max(held, default=0) + (m.planes - 1) * m.plane_blocks
            return (min(held), last + 1 - min(held)) if held else (0, 0)
        spans = [self.flow.reading[i, m] for i in self.flow.readers[m] if i in self.layers]
        first = min(r.first_block for r in spans)
        return first, max(r.first_block + r.blocks for r in spans) - first

    def result_blocks(self, i: int, cut: range) -> int:
        """Half words of a pixel of a layer's results in a slice."""
        m = self.flow.layers[i].output
        return m.blocks if self.group.slices == 1 else len(cut) * m.planes

    # How many lines they need.

    def written_lines(self, i: int) -> int:
        m = self.flow.layers[i].output
        readers = [(c, self.lag[c]) for c in self.flow.readers.get(m, ()) if c in self.layers]
        return self.lines_of(m.height, (i, self.lag[i]), readers, m)

    def loaded_lines(self, m: Map, readers: Sequence[int]) -> int:
        ahead = self.fill_lag(m)
        return self.lines_of(m.height, (-1, ahead), [(c, self.lag[c]) for c in readers], m)

    def fill_lag(self, m: Map) -> int:
        """LOAD is a stripe ahead of the first that reads."""
        return min(self.lag[i] for i in self.flow.readers[m] if i in self.layers) - 1

    def lines_of(
        self,
        height: int,
        writing: tuple[int, int],
        readers: Sequence[tuple[int, int]],
        m: Map | None = None,
    ) -> int:
        """Most rows between the first that somebody still has to read, or that is just written, and the last written.

        Pairs are a layer (-1: LOAD) and its lag. STORE is taken to run a stripe behind the writer.
        """
        stripes = self.group.stripes
        most = 1
        writer, lag = writing
        for u in range(lag, lag + stripes):
            written = self.filled(m, u - lag) if writer < 0 and m is not None else self.ends[writer][u - lag]
            # What a step writes at once has a line for each row, also for rows that no window touches.
            lowest = written if writer < 0 else self.made(writer, u - lag)[0]
            for reader, behind in readers:
                assert m is not None
                t = max(u - behind, 0)
                if t < stripes and self.made(reader, t)[0] < self.ends[reader][-1]:
                    start, stop = self.made(reader, t)
                    lowest = min(lowest, self.flow.needs(reader, m, start, max(stop, start + 1))[0])
            if writer >= 0 and self.flow.layers[writer].output in self.passing:
                lowest = min(lowest, self.ends[writer][u - lag - 2] if u - lag >= 2 else 0)
            most = max(most, written - lowest)
        return min(most, height)

    def made(self, i: int, t: int) -> tuple[int, int]:
        """Result rows of layer i in stripe t."""
        return (self.ends[i][t - 1] if t else 0), self.ends[i][t]

    def filled(self, m: Map, t: int) -> int:
        """Rows of a loaded map that are there for stripe t."""
        if m in self.keep:
            return m.height if t == self.group.stripes - 1 else self.needed(m, t)
        return self.needed(m, t)

    def needed(self, m: Map, t: int) -> int:
        stops = [0]
        for i in self.flow.readers[m]:
            if i in self.layers and self.ends[i][t]:
                stops.append(self.flow.needs(i, m, 0, self.ends[i][t])[1])
        return max(stops)

    # Actions.

    def emit(self) -> list[list[Action]]:
        """The actions of each turn."""
        width = self.flow.layers[self.layers[-1]].geometry.count[1]
        cuts = strips(width, self.group.strips)
        self.make_buffers()
        self.dram()
        steps = self.group.stripes + max(self.lag.values())
        for cut, (x, columns) in product(self.slices(), cuts):
            for u in range(-1, steps):
                self.turns.append([])
                for m in self.loaded:
                    t = u - self.fill_lag(m)
                    if 0 <= t < self.group.stripes:
                        self.fill(m, t, x, columns, cut)
                for i in self.layers:
                    t = u - self.lag[i]
                    if 0 <= t < self.group.stripes:
                        self.step(i, t, x, columns, cut)
        return self.turns

    def dram(self) -> None:
        for m in self.loaded:
            self.schedule.touch(m, self.number)
        for i in self.layers:
            m = self.flow.layers[i].output
            if m in self.passing:
                self.schedule.touch(m, self.number)

    def act(self, action: Action) -> None:
        self.turns[-1].append(action)

    def fill(self, m: Map, t: int, x: int, columns: int, cut: range) -> None:
        start, stop = (self.filled(m, t - 1) if t else self.first_needed(m)), self.filled(m, t)
        if m in self.keep and t == 0:
            start = 0
        first, blocks = self.span(m, cut)
        if start < stop and blocks:
            reader = next(i for i in self.flow.readers[m] if i in self.layers)
            window = Window(self.buffers[m], *self.window(m, x, columns), first)
            self.act(Fill(window, start, stop, blocks, reader, self.image))

    def first_needed(self, m: Map) -> int:
        readers = [i for i in self.flow.readers[m] if i in self.layers]
        return min(self.flow.needs(i, m, 0, self.flow.layers[i].geometry.count[0])[0] for i in readers)

    def finished(self, i: int) -> tuple[int, int]:
        """The turn in which a layer makes its last rows, and the layer."""
        return self.lag[i] + self.ends[i].index(self.ends[i][-1]), i

    def step(self, i: int, t: int, x: int, columns: int, cut: range) -> None:
        layer = self.flow.layers[i]
        start, stop = self.made(i, t)
        if start == stop:
            return
        held = {
            m: Window(self.buffers[m], *self.window(m, x, columns), self.span(m, cut)[0])
            if m in self.loaded
            else Window(self.buffers.get(m) or self.resident[m], 0, m.width)
            for m in self.flow.read_by(i)
        }
        result = self.staged.get(i) or self.buffers[layer.output]
        if self.group.strips == 1:
            x, columns = 0, layer.geometry.count[1]
        blocks = cut if self.group.slices > 1 else range(len(layer.source.blocks))
        self.act(Step(i, start, stop, x, columns, blocks, held, result, self.image))
        if layer.output not in self.passing:
            return
        first, count = (
            (cut.start, len(cut)) if self.group.slices > 1 else (0, result.blocks // result.map.planes)
        )
        if result.staged or self.flow.plain(layer.output):
            self.act(Drain(i, result, start, stop, x, columns, first, count, self.image))
        elif (self.lag[i] + t, i) == max(self.finished(w) for w in self.flow.writers[layer.output]):
            m = layer.output
            self.act(Drain(i, result, 0, m.height, 0, m.width, first, count, self.image))


def strips(width: int, number: int) -> list[tuple[int, int]]:
    """First column and number of columns of each strip."""
    size = -(-width // number)
    return [(x, min(size, width - x)) for x in range(0, width, size)]


def progress(flow: Flow, layers: range, stripes: int) -> dict[int, list[int]]:
    """For each layer the result rows that must be there after each stripe; all of them after the last."""
    ends: dict[int, list[int]] = {}
    for i in reversed(layers):
        layer = flow.layers[i]
        rows = layer.geometry.count[0]
        readers = [c for c in flow.readers.get(layer.output, ()) if c in layers and c > i]
        if not readers or not flow.plain(layer.output):
            ends[i] = [-(-rows * (t + 1) // stripes) for t in range(stripes)]
            continue
        ends[i] = [
            max(flow.needs(c, layer.output, 0, ends[c][t])[1] if ends[c][t] else 0 for c in readers)
            for t in range(stripes)
        ]
        ends[i][-1] = rows
    return ends


def lags(flow: Flow, layers: range, lag: int) -> dict[int, int]:
    """Stripes by which each layer runs behind the group's first; `lag` as in a plan."""
    found: dict[int, int] = {}
    for i in layers:
        found[i] = 0
        for m in flow.read_by(i):
            for w in flow.writers.get(m, ()):
                if w in layers and w < i:
                    handed = isinstance(flow.layers[w], VectorLayer) and isinstance(
                        flow.layers[i], MatrixLayer
                    )
                    found[i] = max(found[i], found[w] + (lag == 2 or (lag == 1 and handed)))
    return found
