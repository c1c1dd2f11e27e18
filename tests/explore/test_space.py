"""Which overlays are tried."""

from __future__ import annotations

import pytest

from tilewright.explore.space import DEFAULT_SHARE, acc_bits, clock, families, fits, known_widths
from tilewright.targets.config import Overlay, board, overlay
from tilewright.targets.resources import resources


@pytest.mark.parametrize(("name", "widths"), [("ultra96", (8, 8)), ("pynq-z1", (4, 4)), ("ultra96", (1, 1))])
def test_all_fit_and_differ(name: str, widths: tuple[int, int]) -> None:
    made = families(board(name), [widths], 250, DEFAULT_SHARE)
    members = [o for family in made for o in family.members]
    assert members and len({o.name for o in members}) == len(members)
    lanes = {(o.block_in, o.block_out, o.vector_lanes) for o in members}
    assert len(lanes) == len(made)
    for o in members:
        assert fits(o, DEFAULT_SHARE) and (o.inp_bits, o.wgt_bits) == widths
        shares = resources(o).shares
        assert max(shares["lut"], shares["ff"], shares["bram36"]) <= DEFAULT_SHARE and shares["dsp"] <= 1


def test_the_largest_act_is_the_largest_that_fits() -> None:
    for family in families(board("ultra96"), [(8, 8)], 250, DEFAULT_SHARE):
        for wgt_kib in {o.wgt_kib for o in family.members}:
            o = max((m for m in family.members if m.wgt_kib == wgt_kib), key=lambda m: m.act_kib)
            more = o.to_dict() | {"act_kib": o.act_kib + 4 * o.block_in}
            beyond = o.act_half_words + 4 * 1024 * o.block_in // o.half_word_bytes > 1 << 16
            assert beyond or not fits(Overlay.from_dict(more), DEFAULT_SHARE)


def test_the_blocks_of_installed_overlays_are_among_them() -> None:
    for o in (overlay(name) for name in ("ultra96-w8", "pynq-z1-w8", "pynq-z1-w4", "ultra96-w1")):
        made = families(o.board, [(o.inp_bits, o.wgt_bits)], o.mhz, 1.0)
        members = (m for family in made for m in family.members)
        lanes = {(m.block_in, m.block_out, m.vector_lanes, m.dsp_pumping) for m in members}
        assert (o.block_in, o.block_out, o.vector_lanes, o.dsp_pumping) in lanes


def test_known_overlays_are_not_made_again() -> None:
    o = overlay("ultra96-w8")
    with_it = families(o.board, [(8, 8)], o.mhz, DEFAULT_SHARE)
    without = families(o.board, [(8, 8)], o.mhz, DEFAULT_SHARE, [o])
    count = [sum(len(family.members) for family in made) for made in (with_it, without)]
    assert count[0] == count[1] + 1


def test_figures_of_a_board() -> None:
    assert (clock(board("ultra96")), clock(board("pynq-z1"))) == (250, 100)
    assert known_widths()[0] == (8, 8) and known_widths()[-1] == (1, 1)
    assert [acc_bits(w) for w in ((8, 8), (8, 4), (1, 1), (2, 2))] == [32, 27, 16, 21]
