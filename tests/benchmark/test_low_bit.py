"""The low-bit benchmark measures what the reference simulator agrees with."""

from __future__ import annotations

import numpy as np
import pytest

from tilewright.benchmark import low_bit
from tilewright.targets.config import overlay
from tilewright.targets.isa.spec import Matrix
from tilewright.targets.sim import fast, reference


@pytest.mark.parametrize("name", low_bit.OVERLAYS)
def test_the_blocks_run_on_both_simulators(name: str) -> None:
    program, image, macs = low_bit.network(overlay(name), ((7, 64, 1), (3, 128, 1)))
    found, expected = fast.run(program, image), reference.run(program, image)
    np.testing.assert_array_equal(found.outputs, expected.outputs)
    assert found.outputs_written.all()
    assert macs == 4 * (49 * 64 * 64 + 9 * 128 * 128)
    assert len(np.unique(found.outputs)) > 8


@pytest.mark.parametrize("name", low_bit.OVERLAYS)
def test_every_instruction_is_legal_and_counted(name: str) -> None:
    o = overlay(name)
    for what, x, work in low_bit.instructions(o):
        row = low_bit.instruction_row(o, what, x, work, 0)
        assert row.matrix == isinstance(x, Matrix) and row.giga > 0
    # Two output blocks of all 256 channels (or a block) on 14 x 14.
    assert low_bit.instructions(o)[0][2] == 14 * 14 * 2 * o.block_out * max(256, o.block_in)


def test_the_table_has_a_line_for_each_row() -> None:
    rows = [
        low_bit.LowBitRow("a", "MATRIX", 1e-6, 5.2e5, True),
        low_bit.LowBitRow("a", "VECTOR", 1e-6, 2e3, False),
    ]
    made = low_bit.table(rows)
    cells = [list(column.cells) for column in made.columns]
    assert cells[3:] == [["520.0", ""], ["1000", ""], ["", "2.00"]]
