"""Boards and overlays: the figures, the derived sizes and every message."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from tilewright.errors import ConfigError
from tilewright.targets.config import (
    FOLDER,
    Board,
    Overlay,
    board,
    boards,
    overlay,
    overlays,
    read_board,
    read_overlay,
)


def test_installed_ones() -> None:
    assert set(boards()) == {"pynq-z1", "ultra96"}
    assert {"pynq-z1-w8", "ultra96-w8"} <= set(overlays())
    for name, o in overlays().items():
        assert o.name == name
        assert o.board == board(o.board.name)


def test_derived_sizes() -> None:
    o = overlay("ultra96-w8")
    assert (o.half_word_bytes, o.tile_bytes, o.entry_bytes, o.record_alignment) == (16, 512, 16, 16)
    assert (o.act_half_words, o.wgt_tiles, o.param_records, o.acc_vectors) == (24576, 256, 2048, 1024)
    assert (o.acc_half_vectors, o.halves_per_vector, o.inp_max) == (512, 2, 255)
    p = overlay("pynq-z1-w8")
    assert (p.act_half_words, p.wgt_tiles, p.param_records, p.halves_per_vector) == (16384, 128, 2048, 2)


def test_dict_round_trip_and_hash(machines: dict[str, Overlay]) -> None:
    hashes = set()
    for o in machines.values():
        again = Overlay.from_dict(o.to_dict())
        assert again == o
        assert again.hash == o.hash
        assert len(o.hash) == 64
        hashes.add(o.hash)
    assert len(hashes) == len(machines)


def test_hash_covers_all_but_descriptions() -> None:
    o = overlay("ultra96-w8")
    values = o.to_dict()
    board_values = values["board"] | {"description": "another"}
    assert Overlay.from_dict(values | {"description": "another", "board": board_values}).hash == o.hash
    assert Overlay.from_dict(values | {"mhz": 200}).hash != o.hash
    slower = values["board"] | {"dram_latency_cycles": 101}
    assert Overlay.from_dict(values | {"board": slower}).hash != o.hash


def test_differences_name_the_fields() -> None:
    o = overlay("ultra96-w8")
    values = o.to_dict()
    other = Overlay.from_dict(values | {"mhz": 200, "board": values["board"] | {"dsp": 9}, "description": ""})
    assert o.differences(other) == ["mhz: 250 here, 200 there", "board.dsp: 360 here, 9 there"]
    assert o.differences(o) == []


def test_unknown_names() -> None:
    with pytest.raises(ConfigError) as error:
        overlay("ultra96-w9")
    known = ", ".join(overlays())
    assert str(error.value) == f"unknown overlay 'ultra96-w9', known are {known}; did you mean ultra96-w8?"
    with pytest.raises(ConfigError) as error:
        board("zzz")
    assert str(error.value) == "unknown board 'zzz', known are pynq-z1, ultra96"


FAULTS: list[tuple[dict[str, Any], list[str]]] = [
    ({"inp_bits": 3}, ["inp_bits=3: must be 1, 2, 4 or 8", "block_in=16: must be such that block_in*inp_bits = 48 is 64, 128 or 256"]),
    ({"wgt_bits": 16}, ["wgt_bits=16: must be 1, 2, 4 or 8"]),
    ({"wgt_bits": 1}, ["wgt_bits=1: must be 1 where inp_bits is and only there; inp_bits is 8"]),
    ({"acc_bits": 33}, ["acc_bits=33: must be 8..32"]),
    ({"block_in": 24, "block_out": 24}, [
        "block_in=24: must be a power of two from 8 up",
        "block_in=24: must be such that block_in*inp_bits = 192 is 64, 128 or 256",
    ]),
    ({"block_out": 64}, ["block_out=64: must be block_in or 2*block_in = 16 or 32"]),
    ({"vector_lanes": 64}, ["vector_lanes=64: must be a power of two up to 2*block_in = 32"]),
    ({"mhz": 0}, ["mhz=0: must be 1..1000"]),
    ({"disp_entries": 65}, ["disp_entries=65: must be 0..64"]),
    ({"displacement_min": -9}, ["displacement_min=-9: must be -8..0"]),
    ({"displacement_max": 8}, ["displacement_max=8: must be 0..7"]),
    ({"act_kib": 100}, ["act_kib=100: must be a positive multiple of 2*2*block_in KiB, a pair of banks, = 64 (got remainder 36)"]),
    ({"act_kib": 2048}, ["act_kib=2048: must be at most 65536 half words, the instruction's address space (found 131072)"]),
    ({"wgt_kib": 0}, ["wgt_kib=0: must be a positive multiple of a tile = 512 bytes (got remainder 0)"]),
    ({"wgt_kib": 4096}, ["wgt_kib=4096: must be at most 4096 tiles, the instruction's address space (found 8192)"]),
    ({"acc_kib": 64}, ["acc_kib=64: must be block_out*acc_bits/8*1024 bytes = 128 KiB"]),
    ({"acc_bits": 27}, ["acc_kib=128: must be block_out*acc_bits/8*1024 bytes = 108 KiB"]),
    ({"param_kib": -1}, ["param_kib=-1: must be positive"]),
    ({"param_kib": 65}, ["param_kib=65: must be at most 4096 records, the instruction's address space (found 4160)"]),
    ({"mhz": "fast", "block_in": True}, [
        "block_in=True: must be of type int, not bool,",
        "mhz='fast': must be of type int, not str,",
    ]),
    ({"act_kb": 3}, ["act_kb=3: unknown field in overlays/x.toml; did you mean act_kib?"]),
    ({"mhz": 2000, "acc_bits": 64}, ["acc_bits=64: must be 8..32", "mhz=2000: must be 1..1000"]),
]  # fmt: skip


@pytest.mark.parametrize(("change", "messages"), FAULTS)
def test_every_fault_is_named(change: dict[str, Any], messages: list[str]) -> None:
    with pytest.raises(ConfigError) as error:
        Overlay.from_dict(overlay("ultra96-w8").to_dict() | change, "overlays/x.toml")
    found = [str(f) for f in error.value.faults]
    assert found == [m if "overlays/x.toml" in m else f"{m} in overlays/x.toml" for m in messages]


def test_faults_of_boards() -> None:
    values = board("ultra96").to_dict() | {"dsp": 0, "dram_read_bytes_per_cycle": 30, "dram_burst_bytes": 100}
    values |= {"dram_read_ports": 5}
    with pytest.raises(ConfigError) as error:
        Board.from_dict(values, "boards/x.toml")
    assert str(error.value) == (
        "dsp=0: must be positive in boards/x.toml\n"
        "dram_read_bytes_per_cycle=30: must be at most dram_bytes_per_cycle = 24 (both ways together) "
        "in boards/x.toml\n"
        "dram_read_ports=5: must be at most 4 in boards/x.toml\n"
        "dram_burst_bytes=100: must be a power of two in boards/x.toml"
    )


def test_missing_fields_and_wrong_board() -> None:
    with pytest.raises(ConfigError) as error:
        Board.from_dict({"name": "x", "part": "y", "lut": 1})
    assert [str(f) for f in error.value.faults][:2] == [
        "ff: missing in the given board",
        "bram36: missing in the given board",
    ]
    with pytest.raises(ConfigError) as error:
        Overlay.from_dict(overlay("ultra96-w8").to_dict() | {"board": 3})
    assert str(error.value) == "board=3: must be a table of the board's figures in the given overlay"


def test_files(tmp_path: Path) -> None:
    folder = tmp_path / "overlays"
    folder.mkdir()
    path = folder / "mine.toml"
    with pytest.raises(ConfigError, match=r"overlays/mine\.toml cannot be read: "):
        read_overlay(path)
    path.write_text("block_in = ")
    with pytest.raises(ConfigError, match=r"overlays/mine\.toml cannot be read: Invalid value"):
        read_overlay(path)
    path.write_text("block_in = " + "[" * 5000)
    with pytest.raises(ConfigError, match=r"overlays/mine\.toml cannot be read: .*recursion"):
        read_overlay(path)
    path.write_text('board = "zc706"')
    with pytest.raises(ConfigError) as error:
        read_overlay(path)
    assert str(error.value) == (
        "board='zc706': must be one of pynq-z1, ultra96, or a file zc706.toml beside overlays/mine.toml; "
        f"write {tmp_path / 'overlays' / 'zc706.toml'}"
    )
    path.write_text('name = "other"')
    with pytest.raises(ConfigError, match="the file's name is the name"):
        read_board(path)
    lines = [f"{k} = {v!r}" for k, v in overlay("ultra96-w8").to_dict().items() if k not in ("name", "board")]
    path.write_text("\n".join([*lines, 'board = "ultra96"']))
    assert read_overlay(path).differences(overlay("ultra96-w8")) == ["name: mine here, ultra96-w8 there"]


def test_an_overlay_of_ones_own(tmp_path: Path) -> None:
    ours = overlay("pynq-z1-w8")
    text = (FOLDER / "overlays" / "pynq-z1-w8.toml").read_text()
    path = tmp_path / "zybo-w8.toml"
    path.write_text(text.replace('"pynq-z1"', '"zybo"'))
    (tmp_path / "zybo.toml").write_text((FOLDER / "boards" / "pynq-z1.toml").read_text())
    found = overlay(str(path))
    assert (found.name, found.board.name, found.board.part) == ("zybo-w8", "zybo", ours.board.part)
    assert (found.block_in, found.act_kib) == (ours.block_in, ours.act_kib)


def test_no_such_file() -> None:
    with pytest.raises(ConfigError, match=r"nowhere/mine\.toml cannot be read: .*No such file"):
        overlay("nowhere/mine.toml")
