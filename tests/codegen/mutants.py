"""Compiled streams damaged on purpose: what lies apart is laid together, rows are kept too short a time or shifted.

Instructions and tokens stay as they were compiled; only places change. Where a ring has a line less, a copy wraps
elsewhere and is cut in two: the first part waits, the last one gives.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext
from dataclasses import dataclass, field, replace
from functools import cache, cached_property, partial
from itertools import count, pairwise, permutations
from typing import Any

import numpy as np
from tests.codegen.build import Builder
from tests.codegen.evaluate import dram_image, evaluate_graph
from tests.codegen.stream_proof import Meaning, Terms, meaning, tokens, without

from tilewright.codegen.buffers import Buffer, Drain, Fill
from tilewright.codegen.compile import Tiles, compile_default, compile_prepared, make_tiles
from tilewright.codegen.emit import emit
from tilewright.codegen.graph import Graph
from tilewright.codegen.observe import in_order, observe
from tilewright.codegen.plan import RegionPlan
from tilewright.codegen.prepared import Prepared, prepare
from tilewright.codegen.residency import load_constants
from tilewright.codegen.tile import Space, TileOperation, TileProgram
from tilewright.errors import SimError
from tilewright.targets.config import Overlay
from tilewright.targets.isa.codec import decode_stream, encode_stream
from tilewright.targets.isa.spec import Base, Finish, Instruction, Load, Matrix, Memory, Source, Store, Vector
from tilewright.targets.sim import fast
from tilewright.targets.sim.program import DramImage, Program, RunResult

IMAGES = 3
"""Inputs on which a mutant may give other bits."""
RACE = "no token orders the two"
Simulator = Callable[[Program, DramImage], RunResult]
Planner = Callable[[Prepared], RegionPlan]
Network = Callable[[Builder], Graph]


@cache
def lively(network: Network) -> int:
    """A seed with which a fifth of every layer's results at least depend on the input: most do not saturate."""
    for seed in count(1):
        b = Builder(seed)
        graph = network(b)
        one, other = (evaluate_graph(graph, b.feeds()) for _ in range(2))
        if all((one[n.output.name] != other[n.output.name]).mean() >= 0.2 for n in graph.nodes):
            return seed
    raise AssertionError


@dataclass(frozen=True)
class Mutant:
    """A changed stream: of what kind, and what was done.

    Attributes:
        make: makes the stream.
        placed: gives buffers and maps the places that they have here, for a while.
    """

    kind: str
    what: str
    make: Callable[[], Sequence[Instruction]]
    placed: Callable[[], AbstractContextManager[None]] = nullcontext

    @cached_property
    def stream(self) -> Sequence[Instruction]:
        """The instructions."""
        with self.placed():
            return self.make()


@dataclass(eq=False)
class Subject:
    """A region of uint8 inputs compiled by a plan; what it was compiled from is at hand.

    Attributes:
        images: DRAM with random inputs; `ends`: with the least, and the largest, so that each digit differs.
    """

    graph: Graph
    tiles: Tiles
    stream: Sequence[Instruction]
    images: Sequence[DramImage]
    ends: tuple[DramImage, DramImage]
    terms: Terms = field(default_factory=Terms)

    @staticmethod
    def of(network: Network, machine: Overlay, plan: Planner | None = None, batch: int = 1) -> Subject:
        """Compile a network by a plan, by default the compiler's own."""
        b = Builder(lively(network))
        graph = network(b)
        prepared = prepare(graph, machine, batch)
        chosen = compile_default(prepared)[0] if plan is None else plan(prepared)
        region = compile_prepared(prepared, chosen)
        images = [dram_image(region, machine, [b.feeds() for _ in range(batch)]) for _ in range(IMAGES)]
        least, most = (
            dram_image(
                region, machine, [{t.name: np.full(t.shape, v, t.dtype) for t in graph.inputs}] * batch
            )
            for v in (0, 255)
        )
        subject = Subject(
            graph, make_tiles(prepared, chosen), decode_stream(region.stream), images, (least, most)
        )
        assert subject.emitted() == subject.stream
        return subject

    @property
    def overlay(self) -> Overlay:
        """The machine."""
        return self.tiles.prepared.overlay

    @property
    def operations(self) -> Sequence[TileOperation]:
        """Of each instruction but FINISH."""
        return self.tiles.program.operations

    # What becomes of a mutant.

    def run(self, stream: Sequence[Instruction], dram: DramImage, simulator: Simulator) -> bytes | str:
        """The output segment, or the simulator's message."""
        try:
            result = simulator(Program(encode_stream(list(stream)), self.overlay), dram)
        except SimError as error:
            return str(error)
        return bytes(result.outputs) + bytes(result.outputs_written)

    def look(self, mutant: Mutant) -> list[bytes | str]:
        """The same with the results of all layers, as `verify` sees them, for each input."""
        with mutant.placed():
            tiles = (
                self.tiles if mutant.placed is nullcontext else replace(self.tiles, program=self.program())
            )
            seen = observe(tiles, self.graph, mutant.stream, [""] * len(mutant.stream))
        stream = in_order(seen.instructions)
        wide = [replace(dram, output_bytes=seen.output_bytes) for dram in self.images]
        return [self.run(stream, dram, fast.run) for dram in wide]

    @cached_property
    def expected(self) -> list[bytes | str]:
        """What each input gives."""
        found = [self.run(self.stream, dram, fast.run) for dram in self.images]
        assert all(isinstance(x, bytes) for x in found), found
        return found

    @cached_property
    def seen(self) -> list[bytes | str]:
        """The same with the results of all layers."""
        return self.look(Mutant("", "", lambda: self.stream))

    def meaning(self, stream: Sequence[Instruction]) -> Meaning:
        """What a stream does, whatever the inputs."""
        return meaning(stream, self.overlay, *self.ends, self.terms)

    @cached_property
    def meant(self) -> Meaning:
        """What the compiled stream does."""
        found = self.meaning(self.stream)
        assert not found.trap and not found.unordered
        return found

    def verdict(self, mutant: Mutant) -> str:
        """`race`, `refused` or `bits` where it is found; `same` where it is proved to compute the same.

        Else what it is that nothing found.
        """
        for dram, right in zip(self.images, self.expected, strict=True):
            found = self.run(mutant.stream, dram, fast.run)
            if isinstance(found, str):
                return "race" if RACE in found else "refused"
            if found != right:
                return "bits"
        meant = self.meaning(mutant.stream)
        if meant.unordered:
            return f"a race that no simulator reports: {sorted(meant.unordered)[0]}"
        if not meant.trap and np.array_equal(meant.outputs, self.meant.outputs):
            return "same"
        return "bits" if self.look(mutant) != self.seen else "computes something else with the same bits"

    # Streams made again with other places.

    def program(self) -> TileProgram:
        """The schedule's operations as its buffers and maps lie now."""
        return load_constants(emit(self.tiles.prepared, self.tiles.schedule), self.overlay)

    def emitted(self) -> list[Instruction]:
        """The instructions of these operations with the tokens that were compiled."""
        found: list[Instruction] = []
        parts = iter(operation.instruction for operation in self.program().operations)
        for x in self.stream:
            if isinstance(x, Finish):
                break
            mine = [next(parts)]
            while sum(map(_size, mine)) < _size(x):
                mine.append(next(parts))
            assert sum(map(_size, mine)) == _size(x) and all(type(y) is type(x) for y in mine)
            mine[0] = replace(mine[0], wait=x.wait)
            mine[-1] = replace(mine[-1], give=x.give)
            found += mine
        assert next(parts, None) is None
        return [*found, Finish()]

    def moved(self, kind: str, what: str, placed: Callable[[], AbstractContextManager[None]]) -> Mutant:
        """The mutant whose buffers and maps have other places."""
        return Mutant(kind, what, self.emitted, placed)


@contextmanager
def attribute(owner: Any, name: str, value: object) -> Iterator[None]:
    """An attribute has another value for a while."""
    before = getattr(owner, name)
    setattr(owner, name, value)
    try:
        yield
    finally:
        setattr(owner, name, before)


def _size(x: Instruction) -> int:
    if isinstance(x, Load | Store):
        return x.n0 * x.n1 * x.n2
    return x.n_c * x.n_y * x.n_x if isinstance(x, Vector) else 1


def lost_tokens(s: Subject) -> Iterator[Mutant]:
    """Each token is taken out."""
    for token in tokens(s.stream):
        yield Mutant("token", str(token), partial(without, s.stream, token))


def merged_halves(s: Subject) -> Iterator[Mutant]:
    """From one piece of sums on the halves of ACC are changed for one another, so that two pieces get the same."""
    half = s.overlay.acc_half_vectors
    used: list[tuple[int, int]] = []  # instruction, half
    for i, operation in enumerate(s.operations):
        used += [(i, a.start) for a in operation.accesses if a.space is Space.ACC]
    for k in range(1, len(used)):
        if used[k][1] == used[k - 1][1]:
            continue
        swapped = partial(_other_half, s.stream, {i for i, _ in used[k:]}, half)
        yield Mutant("ACC halves", f"from instruction {used[k][0]}", swapped)


def _other_half(stream: Sequence[Instruction], which: set[int], half: int) -> list[Instruction]:
    changed = list(stream)
    for i in which:
        x = changed[i]
        if isinstance(x, Matrix):
            changed[i] = replace(x, acc_base=(x.acc_base + half) % (2 * half))
        elif isinstance(x, Vector):
            changed[i] = replace(x, src_base=(x.src_base + half) % (2 * half))
    return changed


@dataclass(frozen=True)
class _Portion:
    """Constants on chip: their LOAD, the rows, and who reads them."""

    load: int
    start: int
    stop: int
    readers: list[int] = field(default_factory=list)


def merged_constants(s: Subject) -> Iterator[Mutant]:
    """Each portion of weights, parameters or displacements comes to where the one in use before it lies."""
    spaces = {Memory.WGT: Space.WGT, Memory.PARAM: Space.PARAM, Memory.DISP: Space.DISP}
    sizes = {
        Memory.WGT: s.overlay.wgt_tiles,
        Memory.PARAM: s.overlay.param_records,
        Memory.DISP: s.overlay.disp_entries,
    }
    for memory, space in spaces.items():
        portions: list[_Portion] = []
        use: list[_Portion] = []  # in the order in which they are read
        for i, operation in enumerate(s.operations):
            for a in operation.accesses:
                if a.space is not space:
                    continue
                if a.write:
                    portions.append(_Portion(i, a.start, a.stop))
                    continue
                portion = next(p for p in reversed(portions) if p.start <= a.start and a.stop <= p.stop)
                portion.readers.append(i)
                if not use or use[-1] is not portion:
                    use.append(portion)
        before = {id(p): q for q, p in reversed(list(pairwise(use)))}
        for p in portions:
            q = before.get(id(p))
            if q is None or (p.start < q.stop and q.start < p.stop):
                continue  # the first one, or it waits for the room of that very portion
            to = min(q.start, sizes[memory] - (p.stop - p.start))
            moved = partial(_constants_moved, s.stream, {p.load, *p.readers}, memory, to - p.start)
            yield Mutant(memory.name, f"instruction {p.load} to {to}", moved)


def _constants_moved(
    stream: Sequence[Instruction], which: set[int], memory: Memory, by: int
) -> list[Instruction]:
    return [_constants_at(x, memory, by) if i in which else x for i, x in enumerate(stream)]


def _constants_at(x: Instruction, memory: Memory, by: int) -> Instruction:
    """The instruction with its constants so much further."""
    if isinstance(x, Load):
        return replace(x, address=x.address + by)
    if isinstance(x, Matrix):
        name = "wgt_base" if memory is Memory.WGT else "disp_base"
        return replace(x, **{name: getattr(x, name) + by})
    assert isinstance(x, Vector)
    return replace(
        x,
        param_base=x.param_base + by,
        depthwise_base=x.depthwise_base + by * bool(x.depthwise_c),
        table_base=x.table_base + by * x.table,
    )


def shorter_rings(s: Subject) -> Iterator[Mutant]:
    """Each ring of rows in ACT has a line less, so that what comes next overwrites a row that is still needed."""
    actions = [a for turn in s.tiles.schedule.turns for a in turn]
    filled = {id(a.window.buffer) for a in actions if isinstance(a, Fill)}
    drained = {id(a.buffer) for a in actions if isinstance(a, Drain)}
    for b in s.tiles.schedule.buffers:
        if b.ring and b.lines > 1:
            role = "filled" if id(b) in filled else "drained" if id(b) in drained else "handed"
            what = f"{b.map.name}, {b.lines} of {b.height} lines"
            yield s.moved(f"ring {role}", what, partial(_shorter, b, b.lines))


@contextmanager
def _shorter(b: Buffer, lines: int) -> Iterator[None]:
    """A ring of so many lines has one less for a while; copies are cut where it wraps, and where it wrapped."""
    right = Buffer.pieces

    def pieces(self: Buffer, start: int, stop: int) -> Iterator[tuple[int, int]]:
        for first, end in right(self, start, stop):
            ends = [*range(first - first % lines + lines, end, lines), end] if self is b else [end]
            yield from pairwise([first, *ends])

    with attribute(Buffer, "pieces", pieces), attribute(b, "lines", lines - 1):
        yield


def merged_buffers(s: Subject) -> Iterator[Mutant]:
    """Each buffer of ACT lies where another one of the same or a neighbouring run lies."""
    for a, b in permutations(s.tiles.schedule.buffers, 2):
        apart = a.address + a.half_words <= b.address or b.address + b.half_words <= a.address
        near = b.first - 1 <= a.last and a.first - 1 <= b.last
        if not apart or not near:
            continue
        to = min(a.address, s.overlay.act_half_words - b.half_words)
        together = b.first <= a.last and a.first <= b.last
        kind = "buffers of a run" if together else "buffers of neighbouring runs"
        yield s.moved(kind, f"{b.map.name} to {a.map.name}", partial(attribute, b, "address", to))


def merged_maps(s: Subject) -> Iterator[Mutant]:
    """Each map in the workspace lies where another one lies."""
    unit = s.overlay.half_word_bytes * s.tiles.prepared.batch
    size = s.tiles.sizes[Base.WORKSPACE]
    held = [m for m in s.tiles.schedule.through_dram if m.segment is Base.WORKSPACE]
    for a, b in permutations(held, 2):
        if a.offset < b.offset + b.half_words * unit and b.offset < a.offset + a.half_words * unit:
            continue
        to = min(a.offset, size - b.half_words * unit)
        yield s.moved("maps in DRAM", f"{b.name} to {a.name}", partial(attribute, b, "offset", to))


def damaged_fills(s: Subject) -> Iterator[Mutant]:
    """Each LOAD of rows brings those a row further up, or one row fewer."""
    actions = [a for turn in s.tiles.schedule.turns for a in turn if isinstance(a, Fill)]
    parts = [(a, rows) for a in actions for rows in a.window.buffer.pieces(a.start, a.stop)]
    loads = [i for i, x in enumerate(s.stream) if isinstance(x, Load) and x.memory == Memory.ACT]
    for i, (fill, (start, stop)) in zip(loads, parts, strict=True):
        x, m = s.stream[i], fill.window.buffer.map
        assert isinstance(x, Load)
        row = m.width * m.blocks * s.overlay.half_word_bytes
        if m.height > 1:
            shifted = replace(
                x, dram_offset=x.dram_offset + (-row if start else row if stop < m.height else 0)
            )
            if shifted != x:
                yield Mutant("shifted fill", f"instruction {i}", partial(_with, s.stream, i, shifted))
        if stop - start > 1:
            name = "n0" if x.n0 > 1 else "n1" if x.n1 > 1 else "n2"
            fewer = getattr(x, name) * (stop - start - 1) // (stop - start)
            yield Mutant(
                "shortened fill", f"instruction {i}", partial(_with, s.stream, i, replace(x, **{name: fewer}))
            )


def windows(stream: Sequence[Instruction]) -> Iterator[tuple[int, Matrix | Vector]]:
    """Instructions with windows that reach rows above their own, of an earlier stripe."""
    for i, x in enumerate(stream):
        if isinstance(x, Matrix):
            taps = x.n_ky
        elif isinstance(x, Vector) and x.source == Source.ACT:
            taps = x.kernel_y
        else:
            continue
        if taps > 1 and x.offset_y > 0:
            yield i, x


def shifted_halos(s: Subject) -> Iterator[Mutant]:
    """Each window that reaches rows above its own reads them a row higher."""
    for i, x in windows(s.stream):
        shifted = replace(x, offset_y=x.offset_y - 1)
        yield Mutant("shifted halo", f"instruction {i}", partial(_with, s.stream, i, shifted))


def _with(stream: Sequence[Instruction], index: int, x: Instruction) -> list[Instruction]:
    return [*stream[:index], x, *stream[index + 1 :]]


Damage = Callable[[Subject], Iterator[Mutant]]
DAMAGES: tuple[Damage, ...] = (
    lost_tokens,
    merged_halves,
    merged_constants,
    shorter_rings,
    merged_buffers,
    merged_maps,
    damaged_fills,
    shifted_halos,
)
"""All of them."""


def tally(subject: Subject, damages: Sequence[Damage] = DAMAGES) -> Counter[tuple[str, str]]:
    """Verdicts by kind of damage."""
    return Counter((m.kind, subject.verdict(m)) for damage in damages for m in damage(subject))
