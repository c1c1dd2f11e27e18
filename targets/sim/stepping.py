"""The timing rules cycle by cycle, in plain Python: the specification that the event-driven simulator is held to.

It follows `targets/timing.md` rule by rule and is slow (tens of microseconds a cycle). Every unit is an object with one
method a cycle; :func:`step_through` calls them in the order of their priorities. Nothing is skipped and nothing is
computed ahead: reads, steps and bursts are lists or generators of what happens one after the other.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass

from tilewright.targets.config import Overlay
from tilewright.targets.isa.codec import decode_stream
from tilewright.targets.isa.spec import (
    INSTRUCTION_BYTES,
    RECORD_BYTES,
    Finish,
    Instruction,
    Load,
    Matrix,
    Memory,
    Store,
    Unit,
    Vector,
)
from tilewright.targets.sim.instruction_work import (
    NONE,
    Act,
    Banks,
    Burst,
    Group,
    Read,
    Step,
    bursts,
    matrix_steps,
    places_of,
    vector_groups,
)
from tilewright.targets.sim.program import Program
from tilewright.targets.sim.rules import Activity, Rules


@dataclass(frozen=True)
class Stepped:
    """What a run takes: cycles in all, by unit and activity, bytes, and (dispatched, start, end) by instruction."""

    cycles: int
    activity: dict[Unit, dict[Activity, int]]
    dram_bytes: tuple[int, int, int]
    times: list[tuple[int, int, int]]


class _MatrixUnit:
    def __init__(self, o: Overlay, r: Rules) -> None:
        self.o, self.r = o, r
        self.steps: Iterator[Step] = iter(())
        self.next: Step | None = None
        self.history: list[tuple[int, int]] = []  # (cycle, vector), the newest last
        self.tile: int | None = None
        self.tile_ready = 0

    def start(self, i: Matrix, now: int) -> None:
        self.steps = matrix_steps(i, self.o)
        self.next = next(self.steps)
        self.tile = None
        self.tile_ready = now + self.r.start_cycles + self.r.tile_cycles

    def cycle(self, now: int) -> tuple[Activity, Banks]:
        """Also ends the instruction: `next` is None then."""
        s = self.next
        assert s is not None
        wait, why = 0, Activity.BUSY
        if s.tile != self.tile:
            wait, why = self.tile_ready, Activity.START if self.tile is None else Activity.TILE
        if not s.fresh and self.history and self.history[-1][1] != s.vector:
            for cycle, vector in reversed(self.history[-3:-1]):
                if vector == s.vector and cycle + self.r.acc_cycles > wait:
                    wait, why = cycle + self.r.acc_cycles, Activity.ACC
        if now < wait:
            return why, NONE
        if s.tile != self.tile:
            self.tile, self.tile_ready = s.tile, now + self.r.tile_cycles
        self.history = [*self.history[-2:], (now, s.vector)]
        self.next = next(self.steps, None)
        return Activity.BUSY, s.banks


class _VectorUnit:
    def __init__(self, o: Overlay, r: Rules) -> None:
        self.o, self.r = o, r
        self.narrow = max(1, o.block_in // o.vector_lanes)
        self.reads: deque[Read] = deque()
        self.groups: deque[Group] = deque()
        self.ready = self.loaded = self.free = 0
        self.wait = Activity.START
        self.written: dict[int, Banks] = {}
        self.last_write = -1
        self.result_cycles = 1

    def start(self, i: Vector, now: int) -> None:
        self.groups = deque(vector_groups(i, self.o, self.r))
        first = self.groups.popleft()
        self.reads = deque(first.reads)
        self.loaded = now + self.r.start_cycles + self._load(first) + (self.r.table_cycles if i.table else 0)
        self.ready, self.wait = self.loaded, Activity.START
        self.result_cycles = max(self.narrow, 1 << i.out_planes)
        self._load_next()

    def _load(self, group: Group) -> int:
        return -(-group.records // self.r.param_records)

    def _load_next(self) -> None:
        if self.groups:
            self.loaded = max(self.loaded, self.ready) + self._load(self.groups[0])

    def cycle(self, now: int, taken: Banks) -> tuple[Activity, Banks]:
        """Also ends the instruction: `reads` is empty then."""
        if now < self.ready:
            return self.wait, NONE
        read = self.reads[0]
        if read.results and now < self.free:
            return Activity.RESULT, NONE
        if read.banks & taken:
            return Activity.PORT, NONE
        self.reads.popleft()
        self.ready, self.wait = now + self.narrow, Activity.BUSY
        for result in read.results:
            time = max(now, self.free)
            self.free = time + self.result_cycles
            for k, banks in enumerate(result):
                self.written[time + self.r.vector_depth + k] = banks
            self.last_write = time + self.r.vector_depth + self.result_cycles - 1
        if not self.reads and self.groups:
            self.reads = deque(self.groups.popleft().reads)
            if self.loaded > self.ready:
                self.ready, self.wait = self.loaded, Activity.PARAM
            self._load_next()
        return Activity.BUSY, read.banks


@dataclass
class _Transfer:
    owner: str
    bytes: int
    beats: int
    ready: int


@dataclass(frozen=True)
class _Beat:
    owner: str
    port: int
    bytes: int


class _Dram:
    def __init__(self, o: Overlay) -> None:
        self.b = o.board
        self.reading: list[deque[_Transfer]] = [deque() for _ in range(self.b.dram_read_ports)]
        self.writing: deque[_Transfer] = deque()
        self.answers: deque[int] = deque()
        self.credit = self.turn = 0

    def can_read(self, port: int) -> bool:
        return len(self.reading[port]) < self.b.dram_outstanding

    def freest(self) -> int | None:
        """The read port with the fewest beats to come, of those that take a burst."""
        ports = [p for p in range(self.b.dram_read_ports) if self.can_read(p)]
        return min(ports, key=lambda p: sum(t.beats for t in self.reading[p]), default=None)

    def can_write(self) -> bool:
        return len(self.writing) + len(self.answers) < self.b.dram_outstanding

    def read(self, owner: str, port: int, burst: Burst, now: int) -> None:
        ready = now + self.b.dram_latency_cycles
        self.reading[port].append(_Transfer(owner, burst.bytes, burst.beats, ready))

    def write(self, burst: Burst, now: int) -> None:
        self.writing.append(_Transfer("STORE", burst.bytes, burst.beats, now + 1))

    def cycle(self, now: int, rooms: list[int]) -> tuple[list[_Beat], int]:
        """The beats that move, and bursts answered; `rooms`: of LOAD's buffer behind each port."""
        r, w = self.b.dram_read_bytes_per_cycle, self.b.dram_write_bytes_per_cycle
        ways = [*((queue, r) for queue in self.reading), (self.writing, w)]
        self.credit = min(self.credit + self.b.dram_bytes_per_cycle, sum(beat for _, beat in ways))
        moved = []
        for way in (*range(self.turn, len(ways)), *range(self.turn)):
            queue, beat = ways[way]
            if not queue or queue[0].ready > now or (queue[0].owner == "LOAD" and rooms[way] < beat):
                continue
            if self.credit < beat:
                self.turn = way
                break
            self.credit -= beat
            t = queue[0]
            moved.append(_Beat(t.owner, way, t.bytes if t.beats == 1 else min(t.bytes, beat)))
            t.bytes -= moved[-1].bytes
            t.beats -= 1
            if not t.beats:
                queue.popleft()
                if queue is self.writing:
                    self.answers.append(now + self.b.dram_latency_cycles)
        answered = 0
        while self.answers and self.answers[0] <= now:
            self.answers.popleft()
            answered += 1
        return moved, answered


@dataclass
class _LoadFlight:
    index: int
    memory: int
    places: deque[int]
    left: int


class _LoadUnit:
    def __init__(self, o: Overlay, r: Rules) -> None:
        self.o, self.r, self.act = o, r, Act(o)
        self.bursts: deque[Burst] = deque()
        self.flight: deque[_LoadFlight] = deque()
        self.formed = 0
        self.buffered = [0] * o.board.dram_read_ports
        self.requested: deque[list[int]] = deque()  # port and bytes not yet drained of each burst
        self.sizes = {
            Memory.ACT: o.half_word_bytes,
            Memory.WGT: o.tile_bytes,
            Memory.PARAM: RECORD_BYTES,
            Memory.DISP: o.entry_bytes,
        }

    def start(self, index: int, i: Load, now: int) -> None:
        element = self.sizes[Memory(i.memory)]
        board = self.o.board
        self.bursts = deque(bursts(i, element, board.dram_read_bytes_per_cycle, board.dram_burst_bytes))
        self.formed = now + self.r.start_cycles + self.bursts[0].cycles - 1
        places = places_of(i)
        self.flight.append(_LoadFlight(index, i.memory, deque(places), len(places) * element))

    def request(self, port: int, now: int) -> Burst:
        burst = self.bursts.popleft()
        self.requested.append([port, burst.bytes])
        if self.bursts:
            self.formed = now + self.bursts[0].cycles
        return burst

    def rooms(self) -> list[int]:
        return [self.r.load_buffer_bytes - buffered for buffered in self.buffered]

    def drain(self, taken: Banks) -> tuple[bool, int | None]:
        """Whether a port held it up, and the instruction that this ends."""
        if not self.requested:
            return False, None
        f, burst = self.flight[0], self.requested[0]
        port, left = burst
        if f.memory == Memory.ACT:
            if self.buffered[port] < self.o.half_word_bytes:
                return False, None
            if self.act.bank(f.places[0]) & taken:
                return True, None
            f.places.popleft()
            size = self.o.half_word_bytes
        else:
            board = self.o.board
            size = min(left, self.buffered[port], board.dram_read_ports * board.dram_read_bytes_per_cycle)
        f.left -= size
        burst[1] -= size
        if not burst[1]:
            self.requested.popleft()
        self.buffered[port] -= size
        if f.left:
            return False, None
        self.flight.popleft()
        return False, f.index


@dataclass
class _StoreFlight:
    index: int
    unanswered: int
    whole: bool = False


class _StoreUnit:
    def __init__(self, o: Overlay, r: Rules) -> None:
        self.o, self.r, self.act = o, r, Act(o)
        self.places: deque[int] = deque()
        self.forming: deque[Burst] = deque()
        self.whole: deque[Burst] = deque()
        self.flight: deque[_StoreFlight] = deque()
        self.ready = self.gathered = self.buffered = 0

    def start(self, index: int, i: Store, now: int) -> None:
        board = self.o.board
        half = self.o.half_word_bytes
        self.forming = deque(bursts(i, half, board.dram_write_bytes_per_cycle, board.dram_burst_bytes))
        self.places = deque(places_of(i))
        self.ready = now + self.r.start_cycles
        self.flight.append(_StoreFlight(index, 0))

    def cycle(self, now: int, taken: Banks) -> tuple[bool, bool]:
        """Whether a half word was read, and whether a port held it up."""
        half = self.o.half_word_bytes
        if not self.places or now < self.ready or self.buffered + half > self.r.store_buffer_bytes:
            return False, False
        if self.act.bank(self.places[0]) & taken:
            return False, True
        self.places.popleft()
        self.buffered += half
        self.gathered += half
        while self.forming and self.gathered >= self.forming[0].bytes:
            self.gathered -= self.forming[0].bytes
            self.whole.append(self.forming.popleft())
            self.flight[-1].unanswered += 1
        if not self.places:
            self.flight[-1].whole = True
        return True, False

    def answer(self) -> int | None:
        """The instruction that an answered burst ends."""
        f = self.flight[0]
        f.unanswered -= 1
        if f.unanswered or not f.whole:
            return None
        self.flight.popleft()
        return f.index


class _Machine:
    def __init__(self, program: Program, rules: Rules) -> None:
        self.o, self.r = program.overlay, rules
        self.stream: list[Instruction] = decode_stream(program.stream)
        self.matrix, self.vector = _MatrixUnit(self.o, rules), _VectorUnit(self.o, rules)
        self.load, self.store = _LoadUnit(self.o, rules), _StoreUnit(self.o, rules)
        self.dram = _Dram(self.o)
        self.queues: dict[Unit, deque[int]] = {unit: deque() for unit in Unit}
        self.tokens = {(a, b): 0 for a in Unit for b in Unit}
        self.running: dict[Unit, int] = {}
        self.retiring: dict[Unit, deque[tuple[int, int]]] = {Unit.MATRIX: deque(), Unit.VECTOR: deque()}
        self.requested = self.received = self.dispatched = 0
        self.activity = {unit: dict.fromkeys(Activity, 0) for unit in Unit}
        self.bytes = {"LOAD": 0, "STORE": 0, "FETCH": 0}
        self.times = [[0, 0, 0] for _ in self.stream]
        self.finished = False

    def accepts(self, unit: Unit, now: int) -> bool:
        if unit == Unit.LOAD:
            return not self.load.bursts and len(self.load.flight) < self.r.load_instructions
        if unit == Unit.STORE:
            return not self.store.places and len(self.store.flight) < self.r.store_instructions
        if unit == Unit.MATRIX:
            return self.matrix.next is None
        i = self.stream[self.queues[unit][0]]
        assert isinstance(i, Vector)
        return not self.vector.reads and (not i.table or now > self.vector.last_write)

    def lacks(self, unit: Unit) -> Unit | None:
        wait = self.stream[self.queues[unit][0]].wait
        return next((a for a in Unit if wait >> a & 1 and not self.tokens[a, unit]), None)

    def idle(self, unit: Unit) -> Activity:
        if not self.queues[unit]:
            return Activity.EMPTY
        giver = self.lacks(unit)
        return Activity.START if giver is None else Activity(Activity.TOKEN_LOAD + giver)

    def start(self, now: int) -> None:
        for unit in Unit:
            if not self.queues[unit] or not self.accepts(unit, now) or self.lacks(unit) is not None:
                continue
            index = self.queues[unit].popleft()
            i = self.stream[index]
            for a in Unit:
                self.tokens[a, unit] -= i.wait >> a & 1
            self.times[index][1] = now
            self.running[unit] = index
            if isinstance(i, Load):
                self.load.start(index, i, now)
            elif isinstance(i, Matrix):
                self.matrix.start(i, now)
            elif isinstance(i, Vector):
                self.vector.start(i, now)
            elif isinstance(i, Store):
                self.store.start(index, i, now)

    def retire(self, unit: Unit, index: int, now: int) -> None:
        self.times[index][2] = now
        for b in Unit:
            self.tokens[unit, b] += self.stream[index].give >> b & 1

    def all_idle(self) -> bool:
        units = (self.matrix.next, self.vector.reads, self.load.flight, self.store.flight)
        busy = (*units, *self.queues.values(), *self.retiring.values())
        return not any(busy)

    def dispatch(self, now: int) -> None:
        if self.received // INSTRUCTION_BYTES <= self.dispatched:
            return
        index = self.dispatched
        i = self.stream[index]
        if isinstance(i, Finish):
            if not self.all_idle():
                return
            self.times[index] = [now, now, now]
            self.finished = True
        else:
            assert i.unit is not None
            if len(self.queues[i.unit]) >= self.r.queue_depth:
                return
            self.times[index][0] = now
            self.queues[i.unit].append(index)
        self.dispatched += 1

    def request(self, now: int) -> None:
        board = self.o.board
        count = min(board.dram_burst_bytes // INSTRUCTION_BYTES, len(self.stream) - self.requested)
        fetches = count and self.requested - self.dispatched + count <= self.r.fetch_instructions
        port = self.dram.freest()
        if fetches and self.dram.can_read(0):
            size = count * INSTRUCTION_BYTES
            self.requested += count
            self.bytes["FETCH"] += size
            self.dram.read("FETCH", 0, Burst(size, -(-size // board.dram_read_bytes_per_cycle), 1), now)
        elif port is not None and self.load.bursts and now >= self.load.formed:
            burst = self.load.request(port, now)
            self.bytes["LOAD"] += burst.bytes
            self.dram.read("LOAD", port, burst, now)
        if self.store.whole and self.dram.can_write():
            burst = self.store.whole.popleft()
            self.bytes["STORE"] += burst.bytes
            self.dram.write(burst, now)

    def cycle(self, now: int) -> None:
        self.start(now)
        doing = {unit: self.idle(unit) for unit in Unit}
        if self.load.flight:
            doing[Unit.LOAD] = Activity.DRAM
        if self.store.flight:
            doing[Unit.STORE] = Activity.DRAM
        taken = NONE
        if self.matrix.next is not None:
            doing[Unit.MATRIX], taken = self.matrix.cycle(now)
            if self.matrix.next is None:
                self.retiring[Unit.MATRIX].append((now + self.r.matrix_depth, self.running[Unit.MATRIX]))
        if self.vector.reads:
            doing[Unit.VECTOR], read = self.vector.cycle(now, taken)
            taken |= read
            if not self.vector.reads:
                self.retiring[Unit.VECTOR].append((self.vector.last_write, self.running[Unit.VECTOR]))
        stored, store_held = self.store.cycle(now, taken)
        load_held, loaded = self.load.drain(self.vector.written.pop(now, NONE))
        self.dispatch(now)
        beats, answered = self.dram.cycle(now, self.load.rooms())
        for beat in beats:
            if beat.owner == "FETCH":
                self.received += beat.bytes
            elif beat.owner == "LOAD":
                self.load.buffered[beat.port] += beat.bytes
            else:
                self.store.buffered -= beat.bytes
        moved = {beat.owner for beat in beats}
        ended = [self.store.answer() for _ in range(answered)]
        self.request(now)
        if load_held:
            doing[Unit.LOAD] = Activity.PORT
        if "LOAD" in moved:
            doing[Unit.LOAD] = Activity.BUSY
        if store_held:
            doing[Unit.STORE] = Activity.PORT
        if stored or "STORE" in moved:
            doing[Unit.STORE] = Activity.BUSY
        for unit in Unit:
            self.activity[unit][doing[unit]] += 1
        for unit, queue in self.retiring.items():
            if queue and queue[0][0] <= now:
                self.retire(unit, queue.popleft()[1], now)
        if loaded is not None:
            self.retire(Unit.LOAD, loaded, now)
        for index in ended:
            if index is not None:
                self.retire(Unit.STORE, index, now)


def step_through(program: Program, rules: Rules | None = None, limit: int = 1_000_000) -> Stepped:
    """Time a stream whose tokens match. Raises RuntimeError after `limit` cycles."""
    machine = _Machine(program, rules or Rules())
    for now in range(limit):
        machine.cycle(now)
        if machine.finished:
            activity = {u: {k: n for k, n in kinds.items() if n} for u, kinds in machine.activity.items()}
            moved = (machine.bytes["LOAD"], machine.bytes["STORE"], machine.bytes["FETCH"])
            return Stepped(now + 1, activity, moved, [(a, b, c) for a, b, c in machine.times])
    raise RuntimeError(f"runs for more than {limit} cycles")
