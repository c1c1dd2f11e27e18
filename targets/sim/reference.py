"""The reference simulator: the specification of the machine, in NumPy.

It executes the stream in order, one instruction at a time, and checks of each: token counts, addresses, that
what it reads was written, that accesses of other units are ordered by tokens, and the instruction's own
rules. An instruction that is found faulty has changed nothing. `matrix.py` and `vector.py` beside it hold the
two units that compute.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from tilewright.errors import Fault, SimError
from tilewright.targets.config import Overlay
from tilewright.targets.isa.codec import decode_stream
from tilewright.targets.isa.listing import line
from tilewright.targets.isa.spec import (
    RECORD_BYTES,
    Base,
    Finish,
    Instruction,
    Load,
    Matrix,
    Memory,
    Store,
    Unit,
    Vector,
)
from tilewright.targets.sim.effect import Effect
from tilewright.targets.sim.matrix import matrix
from tilewright.targets.sim.memory import I64, Memories, Rows, Trap, pack, unpack, unpack_entries
from tilewright.targets.sim.order import Order, Race
from tilewright.targets.sim.program import DramImage, Program, RunResult, Statistics
from tilewright.targets.sim.vector import vector


def run(program: Program, dram: DramImage) -> RunResult:
    """Execute a stream.

    Raises SimError, naming the instruction, its source layer and the values, where the stream breaks a rule
    of the machine, and EncodingError where it does not decode. `dram` is not changed.
    """
    instructions = decode_stream(program.stream)
    _check_end(instructions, program)
    memories = Memories(program.overlay, dram)
    order, statistics = Order(), Statistics(instructions={unit.name: 0 for unit in Unit})
    for i, x in enumerate(instructions):
        try:
            _execute(i, x, memories, program.overlay, order, statistics)
        except Race as race:
            other = _where(race.other, instructions, program)
            raise SimError(
                Fault(race.message.format(other=other), _where(i, instructions, program), race.remedy)
            ) from None
        except Trap as trap:
            raise SimError(Fault(trap.message, _where(i, instructions, program), trap.remedy)) from None
    outputs = np.zeros(dram.output_bytes, np.uint8)
    written = np.zeros(dram.output_bytes, bool)
    rows = memories.dram[Base.OUTPUT]
    outputs[: rows.data.size] = rows.data.ravel()
    written[: rows.data.size] = np.repeat(rows.written, memories.granule)
    return RunResult(outputs, written, statistics)


def _check_end(instructions: list[Instruction], program: Program) -> None:
    if program.layers and len(program.layers) != len(instructions):
        raise SimError(f"{len(program.layers)} layer names for {len(instructions)} instructions")
    ends = [i for i, x in enumerate(instructions) if isinstance(x, Finish)]
    if not ends:
        raise SimError(f"the stream of {len(instructions)} instructions has no FINISH")
    if ends[0] + 1 < len(instructions):
        where = _where(ends[0] + 1, instructions, program)
        raise SimError(Fault(f"comes after the FINISH at {ends[0]}", where))


def _where(index: int, instructions: list[Instruction], program: Program) -> str:
    layer = f", layer {program.layers[index]}" if program.layers and program.layers[index] else ""
    return f"instruction {index} ({line(instructions[index])}{layer})"


def _execute(
    index: int, x: Instruction, memories: Memories, overlay: Overlay, order: Order, statistics: Statistics
) -> None:
    unit = type(x).unit
    if unit is None:
        order.finish()
        return
    order.start(unit, x)
    effect = effect_of(x, memories, overlay, statistics)
    for memory, rows in effect.reads:
        order.access(unit, memory, rows, write=False)
    order.access(unit, effect.memory, effect.rows, write=True)
    for memory, rows in effect.reads:
        order.record(unit, index, memory, rows, write=False)
    order.record(unit, index, effect.memory, effect.rows, write=True)
    effect.memory.write(effect.rows, effect.values)
    order.retire(unit, index, x)
    statistics.instructions[unit.name] += 1


def effect_of(x: Instruction, memories: Memories, overlay: Overlay, statistics: Statistics) -> Effect:
    """What an instruction of a unit would do. Raises Trap where it breaks a rule of the machine."""
    assert x.unit is not None
    return _UNITS[x.unit](x, memories, overlay, statistics)


def _load(x: Instruction, memories: Memories, o: Overlay, statistics: Statistics) -> Effect:
    assert isinstance(x, Load)
    targets: dict[int, tuple[Rows, int]] = {
        Memory.ACT: (memories.act, o.half_word_bytes),
        Memory.WGT: (memories.wgt, o.tile_bytes),
        Memory.PARAM: (memories.param, RECORD_BYTES),
        Memory.DISP: (memories.disp, o.entry_bytes),
    }
    memory, size = targets[x.memory]
    align = o.record_alignment if x.memory == Memory.PARAM else o.half_word_bytes
    source = memories.dram[Base(x.base)]
    _check_extremes(x, memory, "writes", source, "reads", size, align, memories.granule)
    elements = x.n0 * x.n1 * x.n2
    if elements > len(memory.data):
        raise Trap(f"writes {elements} elements, but the memory has {len(memory.data)} rows")
    rows = _rows(x)
    _check_distinct(rows, memory)
    granules = _granules(x, size, memories.granule)
    data = source.read(granules).reshape(elements, size)
    statistics.dram_read_bytes += elements * size
    if x.memory == Memory.ACT:
        values = unpack(data, o.inp_bits)
    elif x.memory == Memory.WGT:
        values = unpack(data, o.wgt_bits).reshape(elements, o.block_out, o.block_in)
    elif x.memory == Memory.PARAM:
        values = data
    else:
        return Effect([(source, granules)], memory, rows, _entries(data, o))
    return Effect([(source, granules)], memory, rows, values)


def _entries(data: np.typing.NDArray[np.uint8], o: Overlay) -> I64:
    entries = unpack_entries(data)
    wrong = (entries < o.displacement_min) | (entries > o.displacement_max)
    if wrong.any():
        element, lane, axis = np.argwhere(wrong)[0].tolist()
        value = f"{'dx' if axis else 'dy'}={entries[element, lane, axis]}"
        limits = f"{o.displacement_min}..{o.displacement_max}"
        raise Trap(f"element {element} lane {lane} has {value}, the overlay's range is {limits}")
    return entries


def _store(x: Instruction, memories: Memories, o: Overlay, statistics: Statistics) -> Effect:
    assert isinstance(x, Store)
    base = Base(x.base)
    target, size, g = memories.dram[base], o.half_word_bytes, memories.granule
    if base not in (Base.WORKSPACE, Base.OUTPUT):
        raise Trap(f"writes to {base.name}, which is read-only")
    _check_extremes(x, memories.act, "reads", target, "writes", size, size, g)
    elements = x.n0 * x.n1 * x.n2
    if elements * size > target.data.size:
        raise Trap(f"writes {elements * size} bytes, but {base.name} has {target.data.size}")
    granules = _granules(x, size, g)
    _check_distinct(granules, target)
    rows = _rows(x)
    data = pack(memories.act.read(rows), o.inp_bits).reshape(-1, g)
    statistics.dram_write_bytes += elements * size
    return Effect([(memories.act, rows)], target, granules, data)


def _check_extremes(
    x: Load | Store, pad: Rows, pad_verb: str, dram: Rows, dram_verb: str, size: int, align: int, granule: int
) -> None:
    """Check the first and the last address of a copy, before arrays as long as its counts are made."""
    counts = (x.n0, x.n1, x.n2)
    strides = (x.dram_stride0, x.dram_stride1, x.dram_stride2)
    names = ("dram_offset", "dram_stride0", "dram_stride1", "dram_stride2")
    used = (x.dram_offset, *(s if n > 1 else 0 for n, s in zip(counts, strides, strict=True)))
    for name, value in zip(names, used, strict=True):
        if value % align:
            raise Trap(f"{name}={value} is not a multiple of {align} bytes")
    last = x.address + sum(
        (n - 1) * s for n, s in zip(counts, (x.stride0, x.stride1, x.stride2), strict=True)
    )
    pad.check_extremes(x.address, last, pad_verb)
    last = x.dram_offset + sum((n - 1) * s for n, s in zip(counts, strides, strict=True)) + size - granule
    dram.check_extremes(x.dram_offset // granule, last // granule, dram_verb)


def _grid(x: Load | Store, start: int, strides: tuple[int, int, int]) -> I64:
    """Addresses of all elements in order, i2 fastest. Shape: (n0*n1*n2,)."""
    i0, i1, i2 = np.ogrid[: x.n0, : x.n1, : x.n2]
    return np.asarray(start + i0 * strides[0] + i1 * strides[1] + i2 * strides[2], np.int64).ravel()


def _rows(x: Load | Store) -> I64:
    return _grid(x, x.address, (x.stride0, x.stride1, x.stride2))


def _granules(x: Load | Store, size: int, granule: int) -> I64:
    """DRAM rows of all elements, those of one element in order. Shape: (n0*n1*n2 * size/granule,)."""
    starts = _grid(x, x.dram_offset, (x.dram_stride0, x.dram_stride1, x.dram_stride2))
    return np.asarray((starts // granule)[:, None] + np.arange(size // granule), np.int64).ravel()


def _check_distinct(rows: I64, memory: Rows) -> None:
    unique, counts = np.unique(rows, return_counts=True)
    if len(unique) < len(rows):
        raise Trap(f"writes {memory.name(int(unique[counts > 1][0]))} more than once")


def _matrix(x: Instruction, memories: Memories, o: Overlay, statistics: Statistics) -> Effect:
    assert isinstance(x, Matrix)
    statistics.steps += x.n_oc * x.n_ic * x.n_ky * x.n_kx * x.n_y * x.n_x
    return matrix(x, memories, o)


def _vector(x: Instruction, memories: Memories, o: Overlay, statistics: Statistics) -> Effect:
    assert isinstance(x, Vector)
    effect, reads = vector(x, memories, o)
    statistics.vector_reads += reads
    return effect


_UNITS: dict[Unit, Callable[[Instruction, Memories, Overlay, Statistics], Effect]] = {
    Unit.LOAD: _load,
    Unit.MATRIX: _matrix,
    Unit.VECTOR: _vector,
    Unit.STORE: _store,
}
