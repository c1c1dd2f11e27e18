"""Messages of packages whose table, program or regions are damaged with all checksums mended."""

from __future__ import annotations

import dataclasses
import hashlib
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any, cast

import pytest
from tests.targets.test_package import SOUND, _forge, _package, _program, _region

from tilewright.errors import ConfigError, PackageError
from tilewright.targets import config
from tilewright.targets import package as package_module
from tilewright.targets.package import Package
from tilewright.targets.program import HostStep, HostTensor

ADVICE = "copy the file again, or compile again"


def message(data: bytes) -> str:
    with pytest.raises(PackageError) as error:
        Package.from_bytes(data, "net.twp")
    return str(error.value)


def retabled(data: bytes, change: Callable[[bytearray], None]) -> bytes:
    """The table changed, and its checksum mended."""
    found = bytearray(data)
    change(found)
    count, start = struct.unpack_from("<I", found, 12)[0], 56
    end = start + count * 80
    found[24:56] = hashlib.sha256(bytes(found[:24]) + bytes(found[start:end])).digest()
    return bytes(found)


def test_damaged_tables() -> None:
    assert message(SOUND[:40]) == f"net.twp: truncated: 40 bytes do not hold the header; {ADVICE}"
    changed = bytearray(SOUND)
    changed[60] ^= 1
    assert message(bytes(changed)) == (
        f"net.twp: the header or section table is damaged (checksum); {ADVICE}"
    )

    def moved(data: bytearray) -> None:
        offset = struct.unpack_from("<Q", data, 56 + 32)[0]
        struct.pack_into("<Q", data, 56 + 32, offset + 1)

    def longer(data: bytearray) -> None:
        data += b"more"
        struct.pack_into("<Q", data, 16, len(data))

    assert (
        message(retabled(SOUND, moved)) == f"net.twp: section 'overlay' lies wrong or occurs twice; {ADVICE}"
    )
    assert message(retabled(SOUND, longer)) == f"net.twp: 4 bytes belong to no section; {ADVICE}"


def test_a_region_without_its_stream() -> None:
    sections = _package()._sections()
    del sections["region/0/stream"]
    assert message(package_module._join(sections)) == (
        "net.twp: section region/0: stream or constants are missing"
    )


def program(**changes: Any) -> bytes:
    return package_module._join(_package(program=dataclasses.replace(_program(), **changes))._sections())


TENSORS = _program().tensors


@pytest.mark.parametrize(
    ("data", "text"),
    [
        (
            program(tensors=(HostTensor("x", (1,) * 9, "float32"), *TENSORS[1:])),
            "program: expected a rank of at most 8, found 9",
        ),
        (
            program(tensors=(HostTensor("x", (1, -2), "float32"), *TENSORS[1:])),
            "program: expected dimensions of at least -1, found (1, -2)",
        ),
        (program(batch=17), "program: expected a batch from 1 to 16, found 17"),
        (program(outputs=(5, 9)), "program: output 9 is never defined"),
        (program(inputs=(0, 9)), "program: tensor 9 does not exist, there are 6"),
        (
            program(steps=(*_program().steps, HostStep("softmax", (3,), (5,), {"axis": 1}))),
            "program step 3 (softmax): expected an operand of float32, found int8",
        ),
    ],
)
def test_damaged_programs(data: bytes, text: str) -> None:
    assert f"net.twp: {text}" in message(data).splitlines()


@pytest.mark.parametrize(
    ("number", "text"),
    [
        (99, "program: constant for tensor 99, which does not exist or has one already"),
        (2, "program: constant zero of shape () has 4 bytes"),
    ],
)
def test_damaged_constants(number: int, text: str) -> None:
    before, after = struct.pack("<IQ", 1, 4), struct.pack("<IQ", number, 4)
    assert message(_forge(SOUND, "program", lambda d: d.replace(before, after))) == f"net.twp: {text}"


def region(**changes: Any) -> bytes:
    return package_module._join(_package(regions=(dataclasses.replace(_region(), **changes),))._sections())


(MAP,) = _region().inputs


@pytest.mark.parametrize(
    ("data", "text"),
    [
        (region(layer_of=(7,)), "region main0: an instruction names a layer beyond the 2 there are"),
        (
            region(inputs=(dataclasses.replace(MAP, bits=3),)),
            "region main0: expected 1, 2, 4, 8 or 16 bits of a, found 3",
        ),
        (
            region(inputs=(dataclasses.replace(MAP, dtype=cast(Any, "float32")),)),
            "region main0: expected one of int8, uint8, int16, uint16 for a, found float32",
        ),
        (
            _forge(SOUND, "region/0", lambda d: d[:-1] + b"\2"),
            "region: expected 0 or 1 before a packing, found 2",
        ),
        (
            _forge(
                SOUND,
                "region/0",
                lambda d: d.replace(struct.pack("<III", 2, 3, 1 << 31), struct.pack("<II", 1, 3)),
            ),
            "region main0: 2 offsets of products with 1 counts",
        ),
    ],
)
def test_damaged_regions(data: bytes, text: str) -> None:
    assert message(data) == f"net.twp: {text}"


def test_an_overlay_file_does_not_name_itself(tmp_path: Path) -> None:
    path = tmp_path / "mine.toml"
    path.write_text('name = "yours"\n', encoding="utf-8")
    with pytest.raises(ConfigError) as error:
        config._read(path)
    assert str(error.value) == (
        f"name='yours': unknown field, the file's name is the name, in {tmp_path.name}/mine.toml"
    )
