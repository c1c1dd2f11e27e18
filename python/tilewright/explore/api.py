"""`tilewright.explore`: overlays for a network, enumerated, bounded, compiled and timed.

1. *Enumerate* (`space.py`): block sizes, widths, lanes and memories that the part has room for by the resource model,
   and the board's installed overlays.
2. *Bound* (`report/bound.py`): a network is parted once for each block size, and bounded for each number of lanes.
   Lanes are dropped where others, no larger, would be faster even at `REACHED` of their bound: plans come closer.
3. *Compile and time*: the planner's plan on the timing simulator, the fastest bound first, for each family of lanes
   its largest memories, its smallest, and then those between. An overlay is left out where a measured one is better
   than it could be: than its bound and its compulsory DRAM bytes, and, but for `NOISE`, than what overlays with the
   same lanes and no smaller memories came to. What it takes of the part is known beforehand.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from tilewright.errors import ConfigError, Fault, FaultList, TilewrightError, UnsupportedModel
from tilewright.explore.front import OBJECTIVES, Objective, check_objective, dominates, front
from tilewright.explore.space import DEFAULT_SHARE, Family, Widths, clock, families, known_widths
from tilewright.frontend.model import Model, require_quantised
from tilewright.targets import config
from tilewright.targets.config import Overlay
from tilewright.targets.resources import Resources, resources
from tilewright.targets.sim import timing
from tilewright.targets.sim.program import Program
from tilewright.tune.measurement import PJ_PER_DRAM_BIT, PJ_PER_MAC

if TYPE_CHECKING:
    from tilewright.codegen.graph import Graph
    from tilewright.report.bound import NetworkBound

Progress = Callable[[int, int], None]

DEFAULT_TRIALS = 48
REACHED = 0.8
"""The part of the bound that plans are known to reach (`benchmark/marks.toml`)."""
NOISE = 0.02
"""By how much a smaller memory might be better, because planning is no exact optimum."""
_AREA = ("lut", "dsp", "bram36")


@dataclass(frozen=True)
class Point:
    """An overlay with the network on it.

    Attributes:
        overlay: as `tilewright.compile` takes it.
        resources: what it takes of the part.
        bound_cycles, cycles: of a launch; the accelerator's, the host left out.
        fps: images a second at the overlay's clock, the host left out.
        dram_bytes, energy_mj: of an image; energy as `report` has it by default.
        installed: whether it is one of the board's overlays.
        front: whether no other point is better in one of frames/s, energy, DRAM bytes and area and as good in the rest.
    """

    overlay: Overlay
    resources: Resources
    bound_cycles: int
    cycles: int
    fps: float
    dram_bytes: float
    energy_mj: float
    installed: bool = False
    front: bool = False

    @property
    def area(self) -> float:
        """Mean share of LUTs, DSPs and block RAM, 0..1."""
        return area(self.resources)


@dataclass(frozen=True)
class Refused:
    """Overlays that the network does not run on, and why."""

    overlay: str
    reason: str


@dataclass(frozen=True)
class Exploration:
    """What was found.

    Attributes:
        model, board: names.
        objective: by which the points are ordered, best first.
        points: all that were timed.
        refused: overlays that the network does not run on.
        considered: overlays that fit the part.
        skipped: of these, overlays that could not reach the front.
        left: overlays that were not tried, because of `trials` or because the search was interrupted.
        interrupted: whether it was.
    """

    model: str
    board: str
    objective: Objective
    points: tuple[Point, ...]
    refused: tuple[Refused, ...]
    considered: int
    skipped: int
    left: int
    interrupted: bool

    @property
    def front(self) -> tuple[Point, ...]:
        """The points of the Pareto front, best first."""
        return tuple(point for point in self.points if point.front)


def area(found: Resources) -> float:
    """Mean share of LUTs, DSPs and block RAM, 0..1: the size of an overlay as one number."""
    return sum(found.shares[name] for name in _AREA) / len(_AREA)


def explore(
    model: Model,
    board: str = "ultra96",
    *,
    objective: str = "fps",
    widths: Sequence[Widths] | None = None,
    mhz: int | None = None,
    share: float = DEFAULT_SHARE,
    trials: int = DEFAULT_TRIALS,
    progress: Progress = lambda done, total: None,
) -> Exploration:
    """Find overlays for a network on a board: the Pareto front of frames/s, energy, DRAM bytes and area.

    Interrupting it (Ctrl-C) ends the search with what was timed until then.

    Args:
        model: a quantised network.
        board: its name.
        objective: "fps", "energy", "dram" or "area", by which points are ordered.
        widths: bits of activations and weights to try; by default those that installed overlays have.
        mhz: clock; by default that of the board's installed overlays.
        share: of the part's LUTs, registers and block RAM that an overlay may take, 0..1.
        trials: overlays to compile and time at most.
        progress: called with the overlays done and those to do.

    Raises:
        ConfigError: an option is wrong, or nothing fits the part.
        UnsupportedModel: the model is float, or runs on none of the overlays; with the reasons.
    """
    require_quantised(model)
    chosen, wanted = _checked(board, objective, widths, mhz, share, trials)
    found = config.board(board)
    own = [o for o in config.overlays().values() if o.board.name == board and _widths(o) in wanted]
    candidates = [Family((o,)) for o in own] + families(found, wanted, _clock(board, mhz), share, own)
    if not candidates:
        smallest = f"{found.lut:,} LUT, {found.dsp:,} DSP, {found.bram36:,} BRAM36"
        text = f"no overlay fits {share:.0%} of {found.part} ({smallest})"
        raise ConfigError(Fault(text, f"board {board}", "give a larger --share, or narrower --widths"))
    return _Search(model, board, chosen, trials, {o.name for o in own}, progress).run(candidates)


def _checked(
    board: str, objective: str, widths: Sequence[Widths] | None, mhz: int | None, share: float, trials: int
) -> tuple[Objective, tuple[Widths, ...]]:
    faults = FaultList()
    for check, name in ((config.board, board), (check_objective, objective)):
        try:
            check(name)
        except ConfigError as error:
            faults.faults += error.faults
    known = known_widths()
    wanted = known if widths is None else tuple(widths)
    if not wanted:
        faults.add("expected at least one pair of widths", where="--widths", remedy="write them like 8/8,4/4")
    for pair in wanted:
        if not set(pair) <= {1, 2, 4, 8} or (pair[0] == 1) != (pair[1] == 1):
            text = f"expected 1/1, or 2, 4 and 8 bits, found {pair[0]}/{pair[1]}"
            faults.add(text, where="--widths", remedy="write them like 8/8,4/4")
    if not 0 < share <= 1:
        faults.add(f"expected a share above 0 up to 1, found {share:g}", where="--share")
    if mhz is not None and not 0 < mhz <= 1000:
        faults.add(f"expected 1 to 1000 MHz, found {mhz}", where="--mhz")
    if trials < 1:
        faults.add(f"expected 1 or more, found {trials}", where="--trials")
    faults.raise_if_any(ConfigError)
    return check_objective(objective), wanted


def _clock(board: str, mhz: int | None) -> int:
    found = mhz or clock(config.board(board))
    if found is None:
        raise ConfigError(
            Fault(f"board {board} has no overlay that tells a clock", "--mhz", "give the clock")
        )
    return found


@dataclass(frozen=True)
class _Bounded:
    """A family with its bound: `cycles` and `macs` of a launch; of an image the best that its members could be."""

    family: Family
    graphs: Sequence[Graph]
    cycles: int
    fps: float
    dram_bytes: float
    energy_mj: float
    macs: int
    area: float


class _Parts:
    """The network parted for blocks and widths; a text where that is not possible."""

    def __init__(self, model: Model) -> None:
        self._imported = model.relax()
        self._known: dict[tuple[int, ...], Sequence[Graph] | str] = {}

    def graphs(self, o: Overlay) -> Sequence[Graph] | str:
        """The regions, or why there are none."""
        from tilewright.relay_passes.regions import find_regions

        key = (o.block_in, o.block_out, o.inp_bits, o.wgt_bits, o.acc_bits)
        if key not in self._known:
            try:
                found = find_regions(self._imported, o).graphs
                self._known[key] = found or "nothing of it runs on the accelerator"
            except TilewrightError as error:
                self._known[key] = _text(error)
        return self._known[key]


@dataclass
class _Search:
    model: Model
    board: str
    objective: Objective
    trials: int
    installed: set[str]
    progress: Progress

    def run(self, candidates: Sequence[Family]) -> Exploration:
        """Bound, compile and time."""
        points: list[Point] = []
        refused: dict[str, Refused] = {}
        considered = sum(len(family.members) for family in candidates)
        skipped, interrupted = 0, False
        try:
            todo = _order(_near(list(self._bounded(candidates, refused)), self.installed))
            skipped = considered - len(todo) - len(refused)
            for bound, overlay in todo:
                if len(points) >= self.trials:
                    break
                self.progress(len(points), min(len(todo), self.trials))
                used = resources(overlay)
                best = _best_case(bound, overlay, area(used), points, self.model.batch)
                if overlay.name not in self.installed and any(dominates(p, best) for p in points):
                    skipped += 1
                    continue
                try:
                    points.append(self._timed(bound, overlay, used))
                except TilewrightError as error:
                    refused[overlay.name] = Refused(overlay.name, _text(error))
        except KeyboardInterrupt:
            if not points:
                raise
            interrupted = True
        if not points:
            raise UnsupportedModel(*_nothing(self.model, self.board, list(refused.values())))
        best_points = {id(point) for point in front(points)}
        marked = [replace(point, front=id(point) in best_points) for point in points]
        value = OBJECTIVES[self.objective]
        marked.sort(key=lambda point: (value(point), -point.fps, point.dram_bytes, point.area))
        left = considered - skipped - len(points) - len(refused)
        return Exploration(
            self.model.name, self.board, self.objective, tuple(marked), tuple(refused.values()),
            considered, skipped, left, interrupted,
        )  # fmt: skip

    def _bounded(self, candidates: Sequence[Family], refused: dict[str, Refused]) -> Iterator[_Bounded]:
        """Bound each family; the network is parted once for each size of blocks and widths.

        The first family of each widths comes first. Where it leaves more to the host than that of others does, or runs
        nothing, these widths are not tried further.
        """
        from tilewright.report.bound import Limits, bound  # starts TVM

        parts = _Parts(self.model)
        first = {_widths(f.first): f for f in reversed(candidates)}
        order = [*first.values(), *(f for f in candidates if first[_widths(f.first)] is not f)]
        given_up: dict[Widths, str] = {}
        most = 0
        found: list[_Bounded] = []
        for number, family in enumerate(order):
            self.progress(number, len(order))
            if number == len(first):
                most = max((b.macs for b in found), default=0)
                given_up |= {
                    _widths(b.family.first): self._host_text(most - b.macs) for b in found if b.macs < most
                }
            o = family.first
            graphs = given_up.get(_widths(o)) or parts.graphs(o)
            if isinstance(graphs, str):
                refused |= {m.name: Refused(m.name, graphs) for m in family.members}
                if number < len(first):
                    given_up[_widths(o)] = graphs
                continue
            found.append(
                self._best(family, graphs, [bound(graph, Limits.of(o), self.model.batch) for graph in graphs])
            )
        most = max((b.macs for b in found), default=0)
        for b in found:
            if b.macs == most:
                yield b
            else:
                text = self._host_text(most - b.macs)
                refused |= {m.name: Refused(m.name, text) for m in b.family.members}

    def _host_text(self, macs: int) -> str:
        return (
            f"{macs // self.model.batch:,} MACs of an image are left to the host, which other overlays take"
        )

    def _best(self, family: Family, graphs: Sequence[Graph], bounds: Sequence[NetworkBound]) -> _Bounded:
        batch = self.model.batch
        cycles, macs = sum(b.cycles for b in bounds), sum(b.macs for b in bounds)
        dram = sum(b.dram_bytes for b in bounds) / batch
        fps = batch * family.first.mhz * 1e6 / cycles if cycles else 0.0
        smallest = min(area(resources(o)) for o in family.members)
        return _Bounded(family, graphs, cycles, fps, dram, _energy(macs / batch, dram), macs, smallest)

    def _timed(self, bound: _Bounded, overlay: Overlay, used: Resources) -> Point:
        from tilewright.codegen.network import compile_regions

        batch = self.model.batch
        regions, _ = compile_regions(bound.graphs, overlay, batch=batch)
        runs = [timing.run(Program(region.stream, overlay)) for region in regions]
        cycles, dram = sum(run.cycles for run in runs), sum(run.dram_bytes for run in runs) / batch
        return Point(
            overlay=overlay,
            resources=used,
            bound_cycles=bound.cycles,
            cycles=cycles,
            fps=batch * overlay.mhz * 1e6 / cycles,
            dram_bytes=dram,
            energy_mj=_energy(bound.macs / batch, dram),
            installed=overlay.name in self.installed,
        )


def _near(bounded: Sequence[_Bounded], installed: set[str]) -> list[_Bounded]:
    """Families near the front: none that is no larger would be faster even at REACHED of its bound.

    Installed overlays stay, to be compared with.
    """
    return [
        b
        for b in bounded
        if b.family.first.name in installed
        or not any(
            other.area <= b.area and other.fps * REACHED > b.fps and other.dram_bytes <= b.dram_bytes
            for other in bounded
        )
    ]


def _order(bounded: Sequence[_Bounded]) -> list[tuple[_Bounded, Overlay]]:
    """Every family's largest memories, then the smallest, the middle, and so on; the fastest family first."""
    fastest = sorted(bounded, key=lambda b: -b.fps)
    spread = [(b, _spread(b.family.members)) for b in fastest]
    depth = max((len(members) for _, members in spread), default=0)
    return [(b, members[k]) for k in range(depth) for b, members in spread if k < len(members)]


def _spread(members: Sequence[Overlay]) -> list[Overlay]:
    """The first, the last, the middle, the middles of the halves, and so on."""
    found, ends = [0, len(members) - 1], [(0, len(members) - 1)]
    while ends:
        low, high = ends.pop(0)
        middle = (low + high) // 2
        found.append(middle)
        if high - low > 1:
            ends += [(low, middle), (middle, high)]
    return [members[k] for k in dict.fromkeys(found)]


def _best_case(
    bound: _Bounded, overlay: Overlay, taken: float, points: Sequence[Point], batch: int
) -> _Bounded:
    """What an overlay could be at best."""
    fps, dram = bound.fps, bound.dram_bytes
    for point in points:
        o = point.overlay
        if o.act_kib >= overlay.act_kib and o.wgt_kib >= overlay.wgt_kib and _lanes(o) == _lanes(overlay):
            fps, dram = min(fps, point.fps * (1 + NOISE)), max(dram, point.dram_bytes * (1 - NOISE))
    energy = _energy(bound.macs / batch, dram)
    return replace(bound, fps=fps, dram_bytes=dram, energy_mj=energy, area=taken)


def _energy(macs: float, dram_bytes: float) -> float:
    """Of an image, as `report` has it by default, mJ."""
    return (macs * PJ_PER_MAC + dram_bytes * 8 * PJ_PER_DRAM_BIT) * 1e-9


def _widths(o: Overlay) -> Widths:
    return o.inp_bits, o.wgt_bits


def _lanes(o: Overlay) -> tuple[int, ...]:
    return (o.block_in, o.block_out, o.vector_lanes, o.inp_bits, o.wgt_bits, o.acc_bits, o.mhz)


def _text(error: TilewrightError) -> str:
    return "; ".join(str(fault) for fault in error.faults)


def _nothing(model: Model, board: str, refused: Sequence[Refused]) -> list[Fault]:
    """One fault for each reason."""
    reasons: dict[str, list[str]] = {}
    for one in refused:
        reasons.setdefault(one.reason, []).append(one.overlay)
    remedy = "`tilewright supported` tells of each operator; give --widths that can hold its values"
    where = f"model {model.name} on {board}"
    return [
        Fault(f"{reason} ({len(names)} overlays, {names[0]} among them)", where, remedy)
        for reason, names in reasons.items()
    ]
