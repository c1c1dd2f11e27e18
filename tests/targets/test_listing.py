"""Listings of packages: what was disassembled assembles to the same bytes; faults of a listing, with their lines."""

from __future__ import annotations

from dataclasses import replace

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.targets.isa.streams import instructions
from tests.targets.test_package import _package

from tilewright.errors import EncodingError
from tilewright.targets.isa.codec import encode_stream
from tilewright.targets.isa.spec import Finish, Instruction, Store
from tilewright.targets.listing import assemble, disassemble, region_listing, replaced
from tilewright.targets.package import Package
from tilewright.targets.region import CompiledRegion

NAMES = st.one_of(
    st.sampled_from(
        ["conv1", "", '"quoted"', " a", "a  b", "a\nb", "x; y", "; region r, 1 instructions", "a\u2028b"]
    ),
    st.text(max_size=8).filter(lambda s: s.isprintable() or len(s) < 4),
)


def region(program: list[Instruction], layers: list[str], name: str = "tilewright_0") -> CompiledRegion:
    names = tuple(dict.fromkeys(layers)) or ("none",)
    return replace(
        _package().regions[0],
        name=name,
        stream=encode_stream(program),
        layers=names,
        layer_of=tuple(names.index(layer) for layer in layers),
    )


@settings(max_examples=120, deadline=None, derandomize=True)
@given(st.lists(st.tuples(instructions(), NAMES), min_size=1, max_size=5), NAMES.filter(bool))
def test_assembling_inverts_disassembling(rows: list[tuple[Instruction, str]], name: str) -> None:
    layers = [layer for _, layer in rows]
    r = region([x for x, _ in rows], layers, name)
    (found,) = assemble(region_listing(r))
    assert (found.name, found.stream, found.layers) == (name, r.stream, tuple(layers))


def two_regions() -> Package:
    first = region([Store(address=7), Store(), Finish()], ["conv1", "pool1", "pool1"])
    second = region([Finish()], ["fc"], "tilewright_1")
    return replace(_package(), regions=(first, second))


def test_a_package_and_its_listing() -> None:
    package = two_regions()
    text = disassemble(package)
    assert text == (
        "; region tilewright_0, 3 instructions\n"
        "STORE address=7  ; conv1\n"
        "STORE  ; pool1\n"
        "FINISH  ; pool1\n"
        "\n"
        "; region tilewright_1, 1 instruction\n"
        "FINISH  ; fc\n"
    )
    assert replaced(package, assemble(text)) == package
    changed = replaced(package, assemble(text.replace("address=7", "address=8")))
    assert changed.regions[1] == package.regions[1]
    assert changed.regions[0] == replace(
        package.regions[0], stream=encode_stream([Store(address=8), Store(), Finish()])
    )


def test_parts_of_a_package() -> None:
    package = two_regions()
    assert disassemble(package, ["tilewright_1"]) == "; region tilewright_1, 1 instruction\nFINISH  ; fc\n"
    assert (
        disassemble(package, layers=["conv1"])
        == "; region tilewright_0, 1 instruction\nSTORE address=7  ; conv1\n"
    )
    with pytest.raises(EncodingError) as error:
        disassemble(package, ["tilewright_2"], ["con1"])
    assert str(error.value) == (
        "package tiny: there is no region 'tilewright_2'; did you mean tilewright_1?\n"
        "package tiny: there is no layer 'con1'; did you mean conv1?"
    )


def test_new_layers_and_instructions_without_one() -> None:
    package = two_regions()
    text = "; region tilewright_0, 9 instructions\nSTORE\nSTORE ; mine\nFINISH\n"
    found = replaced(package, assemble(text)).regions[0]
    assert (found.layers, found.layer_of) == (("conv1", "pool1", "mine"), (0, 2, 2))


def test_all_faults_of_a_listing_with_their_lines() -> None:
    text = (
        "# a line of another language\n"
        "; region tilewright_0, 2 instructions\n"
        "LOAD n22=3  ; conv1\n"
        "; a comment\n"
        "store\n"
        'FINISH  ; "no end\n'
        "; region tilewright_0, 1 instruction\n"
        "MATRIX n_y=5000\n"
    )
    with pytest.raises(EncodingError) as error:
        assemble(text)
    assert str(error.value) == (
        "line 7: region 'tilewright_0' is listed twice; leave one out\n"
        "line 1: unknown mnemonic '#', legal are LOAD, MATRIX, VECTOR, STORE, FINISH\n"
        "line 3: LOAD has no field 'n22'; did you mean n2?\n"
        "line 5: unknown mnemonic 'store', legal are LOAD, MATRIX, VECTOR, STORE, FINISH; did you mean STORE?\n"
        'line 6: expected a name or a JSON string behind ;, found "no end: Unterminated string starting at\n'
        "line 8: MATRIX.n_y: 5000 does not fit 11 bits (1..2047); output rows"
    )


def test_listings_of_other_packages() -> None:
    with pytest.raises(EncodingError) as error:
        replaced(two_regions(), assemble("FINISH\n; region tilewright_3, 1 instruction\nFINISH\n"))
    assert str(error.value) == (
        "package tiny: there is no region ''; there are tilewright_0, tilewright_1\n"
        "package tiny: there is no region 'tilewright_3'; did you mean tilewright_1?"
    )
    with pytest.raises(EncodingError) as error:
        assemble("\n; nothing\n")
    assert str(error.value) == (
        "listing: there is no instruction; compare with what `tilewright disassemble` prints"
    )
