"""The resource model: against the estimates that the machine was planned with, and against what must hold."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import tilewright.targets
from tilewright.errors import ConfigError
from tilewright.targets.config import Board, Overlay, board, overlay, overlays, read_overlay
from tilewright.targets.resources import SYNTHESISED, Use, divide, packing, resources

FOLDER = Path(tilewright.targets.__file__).parent
PLANNED = {"ultra96-w8": (44_000, 320, 177), "ultra96-w4": (42_000, 320, 171)}
"""LUT, DSP, BRAM36 as estimated when the machine was planned: without depthwise multipliers, with one read port."""


def changed(name: str, **values: object) -> Overlay:
    return Overlay.from_dict(overlay(name).to_dict() | values)


@pytest.mark.parametrize("name", overlays())
def test_installed_overlays_fit(name: str) -> None:
    found = resources(overlay(name))
    assert found.faults() == []
    assert all(0 < share <= 1 for share in found.shares.values())
    assert sum(found.by_unit.values(), Use()) == found.total
    assert set(found.by_unit) >= {"MATRIX", "VECTOR", "ACT", "WGT", "ACC", "PARAM", "LOAD", "STORE", "FETCH"}


@pytest.mark.parametrize("name", PLANNED)
def test_against_the_estimates_of_the_plan(name: str) -> None:
    """What was not planned taken off: depthwise multipliers, a second read port. The rest is within 16 %."""
    found = resources(overlay(name))
    unplanned = Use()
    for term in found.terms:
        if "depthwise" in term.what:
            unplanned += term.use
    one_port = Board.from_dict(overlay(name).board.to_dict() | {"dram_read_ports": 1})
    lut = resources(replace(overlay(name), board=one_port)).total.lut - unplanned.lut
    planned_lut, planned_dsp, planned_bram = PLANNED[name]
    assert found.total.dsp - unplanned.dsp == planned_dsp
    assert abs(lut / planned_lut - 1) < 0.16
    assert abs(found.total.bram36 / planned_bram - 1) < 0.09


def test_deviations_are_told() -> None:
    """The README's table of deviations is what the model says now."""
    text = (FOLDER / "README.md").read_text(encoding="utf-8")
    for name, (lut, dsp, bram) in PLANNED.items():
        total = resources(overlay(name)).total
        row = f"| `{name}` | {lut:,} -> {total.lut:,} | {dsp} -> {total.dsp} | {bram} -> {total.bram36} |"
        assert row in text


def test_the_4_bit_block_is_divided_as_planned() -> None:
    """24 output channels in DSPs, three products each, 8 in LUTs."""
    found = divide(overlay("ultra96-w4"))
    assert (found.channels, found.packing.products, found.matrix) == (24, 3, 256)


@pytest.mark.parametrize("name", overlays())
def test_three_depthwise_multipliers_a_lane(name: str) -> None:
    o = overlay(name)
    found = divide(o)
    pair = packing(o.inp_bits + 1, 9, o.board.part, chains=(1,)).products
    each = min(
        3, pair * o.dsp_pumping
    )  # the windows of a lane share a value, those of two lanes a pumped DSP
    assert found.depthwise * each + found.depthwise_lut == 3 * o.vector_lanes
    assert found.requantise + found.depthwise + found.matrix <= o.board.dsp


@pytest.mark.parametrize(
    ("widths", "part", "products"),
    [((8, 8), "xczu3eg", 2), ((4, 4), "xczu3eg", 3), ((8, 8), "xc7z020", 2), ((8, 4), "xczu3eg", 2)],
)
def test_products_of_a_dsp(widths: tuple[int, int], part: str, products: int) -> None:
    """As synthesised; 8 x 4 bits by the same rule."""
    assert packing(*widths, part).products == products


def test_cores_as_synthesised() -> None:
    """The LUTs for a product give back the cores that they were taken from, within 10 %."""
    for text, pe, part, widths in (
        ("16 x 16, 8 bit, DSP48E2 in chains of 4", 256, "xczu3eg", (8, 8)),
        ("16 x 16, 8 bit, DSP48E1, no chains", 256, "xc7z020", (8, 8)),
        ("32 x 32, 4 bit, DSP48E2 in chains", 1024, "xczu3eg", (4, 4)),
    ):
        assert abs(pe * packing(*widths, part).lut / SYNTHESISED[text][1] - 1) < 0.1


def test_block_ram_by_hand() -> None:
    """ultra96-w8: 192 columns; 1,024 bits of WGT and 1,024 of ACC in columns of 36, two deep; 512 bits of PARAM."""
    units = resources(overlay("ultra96-w8")).by_unit
    found = {unit: units[unit].bram18 for unit in ("ACT", "WGT", "ACC", "PARAM")}
    assert found == {"ACT": 192, "WGT": 58, "ACC": 58, "PARAM": 15}


def test_pumped_dsps_by_hand() -> None:
    """pynq-z1-w8: two products twice a cycle at pitch 17 in 25 bits, one requantiser a lane, two windows a DSP."""
    found = divide(overlay("pynq-z1-w8"))
    assert (found.requantise, found.depthwise, found.depthwise_lut) == (32, 3 * 32 // 2, 0)
    assert (found.matrix, found.channels, found.packing.products) == (16 * 32 // 4, 32, 2)
    assert found.packing.lut == pytest.approx(17 * 1.2 / 2)
    drawn = resources(changed("pynq-z1-w8", block_out=16, acc_kib=64, vector_lanes=16, dsp_pumping=1))
    text = " ".join((FOLDER / "README.md").read_text(encoding="utf-8").split())
    now = resources(overlay("pynq-z1-w8"))
    assert f"LUTs go from {drawn.total.lut:,} to {now.total.lut:,} of 53,200" in text
    assert f"block RAM from {drawn.total.bram36} to {now.total.bram36} of 140" in text
    assert drawn.total.dsp == now.total.dsp == 208


def test_pumping_halves_the_dsps_of_a_product() -> None:
    plain, pumped = (divide(changed("ultra96-w4x", dsp_pumping=n)) for n in (1, 2))
    assert pumped.channels / pumped.matrix == 2 * plain.channels / plain.matrix
    assert resources(changed("ultra96-w4x", dsp_pumping=1)).faults()


@settings(max_examples=25, deadline=None, derandomize=True)
@given(st.sampled_from(sorted(overlays())), st.integers(1, 6), st.integers(1, 6))
def test_more_memory_takes_no_less(name: str, few: int, more: int) -> None:
    pair = 4 * overlay(name).block_in
    most = (1 << 16) * overlay(name).half_word_bytes // 1024 // pair  # what instructions can address
    few, more = sorted((min(few, most), min(more, most)))
    a, b = (resources(changed(name, act_kib=pair * n)).total for n in (few, more))
    assert a.bram18 <= b.bram18 and a.lut <= b.lut and a.ff <= b.ff and a.dsp == b.dsp


@pytest.mark.parametrize("name", ["ultra96-w8", "ultra96-w4", "pynq-z1-w8"])
def test_more_lanes_and_ports_take_more(name: str) -> None:
    o = overlay(name)
    few = changed(name, vector_lanes=o.vector_lanes // 2)
    assert resources(few).total.lut < resources(o).total.lut
    one = replace(o, board=Board.from_dict(o.board.to_dict() | {"dram_read_ports": 1}))
    two = replace(o, board=Board.from_dict(o.board.to_dict() | {"dram_read_ports": 2}))
    assert resources(one).total.lut < resources(two).total.lut


def test_what_exceeds_the_part_is_refused_on_reading(tmp_path: Path) -> None:
    text = (FOLDER / "overlays" / "ultra96-w8.toml").read_text(encoding="utf-8")
    text = re.sub("act_kib = .*", "act_kib = 1024", text)
    text = re.sub("block_out = .*", "block_out = 16", text)
    text = re.sub("acc_kib = .*", "acc_kib = 64", text)
    path = tmp_path / "big.toml"
    path.write_text(text, encoding="utf-8")
    with pytest.raises(ConfigError) as error:
        read_overlay(path)
    place = f"{tmp_path.name}/big.toml"
    assert [str(f) for f in error.value.faults] == [
        f"bram36: the overlay takes 309, xczu3eg-sbva484-1-e has 216 in {place}; make act_kib or wgt_kib smaller"
    ]


def test_all_that_exceeds_is_told() -> None:
    small = Board.from_dict(board("ultra96").to_dict() | {"lut": 1000, "dsp": 10, "bram36": 9, "ff": 99})
    found = resources(Overlay.from_dict(overlay("ultra96-w8").to_dict() | {"board": small})).faults()
    assert [fault.message.split(":")[0] for fault in found] == ["lut", "ff", "dsp", "bram36"]
