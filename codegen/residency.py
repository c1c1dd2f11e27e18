"""Weights, parameters and displacements come on chip: a LOAD before their first use; WGT, PARAM and DISP are kept
like caches.

The program says which constants each instruction needs, in order; so it is known what will be needed again, and when.
Room is made where the least has to be loaded anew; not where the last instructions still read, and otherwise where the
last use is longest ago, so that LOAD can run ahead.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace

from tilewright.codegen.chunks import TABLE_RECORDS
from tilewright.codegen.tile import Access, Constants, Space, TileOperation, TileProgram
from tilewright.errors import Fault, ScheduleError
from tilewright.targets.config import Overlay
from tilewright.targets.isa.spec import (
    RECORD_BYTES,
    Base,
    Instruction,
    Load,
    Matrix,
    Memory,
    Vector,
    VectorOp,
)

_SPACE = {Memory.WGT: Space.WGT, Memory.PARAM: Space.PARAM, Memory.DISP: Space.DISP}
WEIGHT_BYTES = 2
"""Of a depthwise weight in PARAM."""
RECENT = 2
"""Portions used last that are not overwritten if it can be helped."""


@dataclass(eq=False)
class _Held:
    constants: Constants
    address: int
    last_use: int
    """Number of the operation."""
    uses: list[int]
    """Numbers of later operations that need it, the next one last."""

    @property
    def stop(self) -> int:
        return self.address + self.constants.count


@dataclass(eq=False)
class _Cache:
    """One scratchpad's contents."""

    size: int
    held: list[_Held] = field(default_factory=list)

    def room(self, count: int) -> tuple[int, list[_Held]]:
        """An address for `count` units, and what must go for them."""
        recent = {id(h) for h in sorted(self.held, key=lambda h: -h.last_use)[:RECENT]}
        best: tuple[tuple[int, int, int], int, list[_Held]] | None = None
        for start in {0, *(h.stop for h in self.held), *(h.address - count for h in self.held)}:
            if start < 0 or start + count > self.size:
                continue
            gone = [h for h in self.held if h.address < start + count and start < h.stop]
            again = sum(h.constants.count for h in gone if h.uses)
            waits = sum(count for h in gone if id(h) in recent)
            latest = max((h.last_use for h in gone), default=-1)
            score = (again + waits, latest, start)
            if best is None or score < best[0]:
                best = (score, start, gone)
        assert best is not None
        return best[1], best[2]


def load_constants(program: TileProgram, overlay: Overlay) -> TileProgram:
    """The program with LOADs of constants, and the instructions' addresses in WGT, PARAM and DISP set."""
    caches = {
        Memory.WGT: _Cache(overlay.wgt_tiles),
        Memory.PARAM: _Cache(overlay.param_records),
        Memory.DISP: _Cache(overlay.disp_entries),
    }
    unit = {Memory.WGT: overlay.tile_bytes, Memory.PARAM: RECORD_BYTES, Memory.DISP: overlay.entry_bytes}
    uses: dict[Constants, list[int]] = {}
    for i in reversed(range(len(program.operations))):
        for c in _needed(program.operations[i]):
            uses.setdefault(c, []).append(i)
    where: dict[Constants, _Held] = {}
    done = TileProgram(turns=program.turns)
    for i, operation in enumerate(program.operations):
        instruction, reads = operation.instruction, list(operation.accesses)
        for c in _needed(operation):
            space, cache = _SPACE[c.memory], caches[c.memory]
            if c not in where:
                if c.count > cache.size:
                    text = f"needs {c.count} units of {space.name} at a time, {overlay.name} has {cache.size}"
                    raise ScheduleError(
                        Fault(text, f"layer {operation.layer}", "choose an overlay with more memory")
                    )
                address, gone = cache.room(c.count)
                for h in gone:
                    cache.held.remove(h)
                    del where[h.constants]
                where[c] = _Held(c, address, i, uses[c])
                cache.held.append(where[c])
                load = Load(
                    memory=c.memory,
                    base=Base.CONSTANT,
                    dram_offset=c.offset,
                    dram_stride2=unit[c.memory],
                    address=address,
                    n2=c.count,
                )
                done.add(operation.layer, load, Access(space, address, address + c.count, True))
            here = where[c]
            here.last_use = i
            here.uses.pop()
            instruction = _moved(instruction, c.memory, here.address)
            reads += [Access(space, a, b, False) for a, b in _read(instruction, c.memory, overlay.block_in)]
        done.operations.append(TileOperation(instruction, tuple(reads), operation.layer))
    return done


def _read(x: Instruction, memory: Memory, block_in: int) -> list[tuple[int, int]]:
    """Rows of a memory that an instruction reads: of each run the first, and the one behind the last."""
    if isinstance(x, Matrix):
        if memory is Memory.DISP:
            first = x.disp_base + x.ic_first
            return [(first, first + (x.n_oc - 1) * x.ic_stride_o + x.n_ic)]
        counts = ((x.n_oc, x.wgt_oc), (x.n_ic, x.wgt_ic), (x.n_ky, x.wgt_ky), (x.n_kx, x.wgt_kx))
        return [(x.wgt_base, x.wgt_base + sum((n - 1) * pitch for n, pitch in counts) + 1)]
    assert isinstance(x, Vector)
    two = x.op is VectorOp.SCALED_ADD or x.negative
    found = [(x.param_base, x.param_base + (x.n_c - 1) * x.param_c + block_in * (1 + bool(two)))]
    if x.op is VectorOp.DEPTHWISE:
        size = x.kernel_y * x.kernel_x * block_in * WEIGHT_BYTES // RECORD_BYTES
        found.append((x.depthwise_base, x.depthwise_base + (x.n_c - 1) * x.depthwise_c + size))
    if x.table:
        found.append((x.table_base, x.table_base + TABLE_RECORDS))
    return found


def _needed(operation: TileOperation) -> list[Constants]:
    return [c for c in (operation.constants, operation.displacements) if c is not None]


def _moved(instruction: Instruction, memory: Memory, address: int) -> Instruction:
    """The instruction with its constants in `memory` at `address`."""
    if isinstance(instruction, Matrix):
        if memory is Memory.DISP:
            return replace(instruction, disp_base=instruction.disp_base + address)
        return replace(instruction, wgt_base=instruction.wgt_base + address)
    assert isinstance(instruction, Vector)
    return replace(
        instruction,
        param_base=instruction.param_base + address,
        depthwise_base=instruction.depthwise_base + address if instruction.depthwise_c else 0,
        table_base=instruction.table_base + address if instruction.table else 0,
    )
