"""Rows read and written, against what the reference simulator touches when it executes."""

from __future__ import annotations

import contextlib
from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
from tests.cli.commands import DEMO

import tilewright as tw
from tilewright.errors import SimError
from tilewright.report.footprint import footprint, memory_rows, transfer_bytes
from tilewright.targets.config import overlay
from tilewright.targets.isa.spec import Instruction, Load, Matrix, Memory, Store
from tilewright.targets.sim import reference
from tilewright.targets.sim.effect import Effect
from tilewright.targets.sim.testing import chain, random_matrix, random_vector, scene

U96 = overlay("ultra96-w8")
Touched = tuple[Instruction, dict[Memory, set[int]], dict[Memory, set[int]]]


@pytest.fixture
def touched(monkeypatch: pytest.MonkeyPatch) -> list[Touched]:
    """Filled with what each instruction touches while the reference simulator runs."""
    found: list[Touched] = []

    def watch(execute: Callable[..., Effect]) -> Callable[..., Effect]:
        def watched(x: Instruction, memories: Any, *rest: Any) -> Effect:
            effect = execute(x, memories, *rest)
            names = {
                id(memories.act): Memory.ACT,
                id(memories.wgt): Memory.WGT,
                id(memories.param): Memory.PARAM,
            }
            reads: dict[Memory, set[int]] = {}
            for memory, rows in effect.reads:
                if id(memory) in names:
                    reads.setdefault(names[id(memory)], set()).update(rows.tolist())
            writes = (
                {names[id(effect.memory)]: set(effect.rows.tolist())} if id(effect.memory) in names else {}
            )
            found.append((x, reads, writes))
            return effect

        return watched

    units = {unit: watch(execute) for unit, execute in reference._UNITS.items()}
    monkeypatch.setattr(reference, "_UNITS", units)
    return found


def check(found: list[Touched]) -> None:
    """Equal sets; a displaced MATRIX may read less of ACT than its fields allow."""
    for x, reads, writes in found:
        mine_read, mine_written = (
            {memory: set(rows.tolist()) for memory, rows in rows_of.items() if len(rows)}
            for rows_of in footprint(x, U96)
        )
        if isinstance(x, Matrix) and x.displaced:
            assert reads.pop(Memory.ACT, set()) <= mine_read.pop(Memory.ACT, set()), x
        assert mine_read == {memory: rows for memory, rows in reads.items() if rows}, x
        assert mine_written == writes, x


def test_the_demo(demo: tw.Package, touched: list[Touched]) -> None:
    image = np.load(DEMO / "digits_test.npz")["images"][0]
    name, shape = demo.inputs[0].name, demo.inputs[0].shape
    demo.run({name: np.resize(image, shape).astype(np.float32)}, backend="reference")
    assert len(touched) == sum(len(region.layer_of) - 1 for region in demo.regions)
    check(touched)


@pytest.mark.parametrize("seed", range(30))
def test_random_instructions(seed: int, touched: list[Touched]) -> None:
    rng = np.random.default_rng(seed)
    scenery = scene(U96, rng)
    body: list[Instruction] = []
    for _ in range(6):
        filled = U96.act_half_words
        body.append(random_matrix(U96, rng) if rng.random() < 0.5 else random_vector(U96, rng, filled))
    program, dram = scenery.program(chain(body)[:-1])
    with contextlib.suppress(SimError):  # an instruction that is not legal: those before it are compared
        reference.run(program, dram)
    assert touched
    check(touched)


def test_addresses_outside_are_left_out() -> None:
    rows = memory_rows(U96)[Memory.ACT]
    _, written = footprint(Load(memory=Memory.ACT, address=rows - 2, n2=5), U96)
    assert written[Memory.ACT].tolist() == [rows - 2, rows - 1]


def test_bytes_of_copies(demo: tw.Package, touched: list[Touched]) -> None:
    """What a copy moves is what it touches, times the size of a row."""
    demo.run({demo.inputs[0].name: np.zeros(demo.inputs[0].shape, np.float32)}, backend="reference")
    sizes = {Memory.ACT: U96.half_word_bytes, Memory.WGT: U96.tile_bytes, Memory.PARAM: 16}
    for x, reads, writes in touched:
        if isinstance(x, Load | Store):
            ((memory, rows),) = (writes if isinstance(x, Load) else reads).items()
            assert transfer_bytes(x, U96) == len(rows) * sizes[memory]
