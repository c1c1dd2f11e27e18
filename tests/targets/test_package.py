"""The package file: round trip, determinism, and every way in which it can be wrong."""

from __future__ import annotations

import dataclasses
import errno
import hashlib
import os
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from tilewright.errors import PackageError
from tilewright.targets import package as package_module
from tilewright.targets.config import Overlay, overlay
from tilewright.targets.package import FORMAT_VERSION, Package
from tilewright.targets.program import HostProgram, HostStep, HostTensor, decode_program, encode_program
from tilewright.targets.region import CompiledRegion, MapLayout

OVERLAY = overlay("pynq-z1-w8")
LANES = (0, 1, 2) + (-1,) * 13


def _region() -> CompiledRegion:
    inputs = MapLayout("a", (1, 3, 2, 2), "int8", 0, LANES)
    outputs = MapLayout("b", (1, 3, 2, 2), "uint8", 16, LANES)
    return CompiledRegion(
        "main0",
        b"\1" * 64,
        ("conv", "Faltung ü"),
        (1,),
        b"abc",
        5,
        64,
        80,
        (inputs,),
        (outputs,),
        1,
        {0: 3, 64: 1 << 31},
    )


def _program(*extra: HostStep) -> HostProgram:
    tensors = (
        HostTensor("x", (1, 3, 2, 2), "float32"),
        HostTensor("scale", (), "float32"),
        HostTensor("zero", (), "int8"),
        HostTensor("q", (1, 3, 2, 2), "int8"),
        HostTensor("b", (1, 3, 2, 2), "uint8"),
        HostTensor("flat", (1, -1), "uint8"),
    )
    steps = (
        HostStep("quantize", (0, 1, 2), (3,), {"axis": 0}),
        HostStep("region", (3,), (4,), {"index": 0}),
        HostStep("reshape", (4,), (5,), {"shape": (1, -1)}),
    )
    constants: dict[int, NDArray[Any]] = {1: np.array(0.5, np.float32), 2: np.array(-3, np.int8)}
    return HostProgram(tensors, constants, (0,), (5,), steps + extra)


def _package(**changes: Any) -> Package:
    values: dict[str, Any] = {
        "name": "tiny",
        "overlay": OVERLAY,
        "program": _program(),
        "regions": (_region(),),
        "report": {"regions": 1, "layers": [{"name": "conv"}]},
        "plan": '{"schema": 1}\n',
        "preprocess": {"mean": [1.5, 2.0]},
        "labels": ("cat", "Hündin"),
        "float_model": b"<float>",
        "quantised_model": b"<quantised>",
        "random_calibration": True,
        "tool_version": "0.1.0",
    }
    return Package(**(values | changes))


SOUND = _package().to_bytes()


def _same(a: Package, b: Package) -> bool:
    """Equality; the constants' arrays are compared by their bytes."""
    plain = dataclasses.replace(a, program=b.program)
    return plain == b and encode_program(a.program) == encode_program(b.program)


def _forge(data: bytes, section: str, change: Callable[[bytes], bytes]) -> bytes:
    """Change a section and mend all checksums."""
    sections = package_module._split(data)
    sections[section] = change(sections[section])
    return package_module._join(sections)


def test_round_trip(tmp_path: Path) -> None:
    package = _package()
    size = package.save(tmp_path / "net.twp")
    assert size == (tmp_path / "net.twp").stat().st_size
    assert [p.name for p in tmp_path.iterdir()] == ["net.twp"]
    loaded = Package.load(tmp_path / "net.twp")
    assert _same(loaded, package)
    assert loaded.inputs == (HostTensor("x", (1, 3, 2, 2), "float32"),)
    assert loaded.outputs == (HostTensor("flat", (1, -1), "uint8"),)


def test_equal_packages_have_equal_bytes() -> None:
    other = _package(report={"layers": [{"name": "conv"}], "regions": 1}, preprocess={"mean": [1.5, 2.0]})
    assert other.to_bytes() == _package().to_bytes()


def test_strip_leaves_the_models_out_and_says_so() -> None:
    package = _package()
    assert package.require_models("evaluate") == (b"<float>", b"<quantised>")
    stripped = Package.from_bytes(package.strip().to_bytes())
    assert (stripped.float_model, stripped.quantised_model, stripped.stripped) == (None, None, True)
    assert stripped.report == package.report
    assert stripped.plan == package.plan == '{"schema": 1}\n'
    with pytest.raises(
        PackageError,
        match=r"^package tiny: `evaluate` needs the quantised model, and this package was stripped of it; "
        r"compile without --strip$",
    ):
        stripped.require_models("evaluate")


@pytest.mark.parametrize("data", [b"", b"PK\3\4zip", b"\x89TWP\n\x1a\n" + bytes(80)])
def test_other_files_are_no_packages(data: bytes) -> None:
    with pytest.raises(
        PackageError, match=r"^f\.twp: not a Tilewright package: it starts with b'.*'; expected a"
    ):
        Package.from_bytes(data, "f.twp")


def test_every_truncation_is_refused() -> None:
    data = _package().to_bytes()
    for size in [*range(8, 120), *range(120, len(data), 97), len(data) - 1]:
        with pytest.raises(PackageError, match=r"truncated: "):
            Package.from_bytes(data[:size])
    with pytest.raises(
        PackageError, match=rf"expected {len(data)} bytes, found {len(data) + 1}: something follows"
    ):
        Package.from_bytes(data + b"\0")


def test_every_changed_byte_is_refused() -> None:
    data = _package().to_bytes()
    for position in range(len(data)):
        changed = bytearray(data)
        changed[position] ^= 1 << position % 8
        with pytest.raises(PackageError):
            Package.from_bytes(bytes(changed))


def test_damage_names_the_sections() -> None:
    data = _package().to_bytes()
    changed = (
        data.replace(b"<quantised>", b"<quantized>").replace(b'"labels"', b'"Labels"').replace(b"abc", b"abd")
    )
    with pytest.raises(PackageError) as caught:
        Package.from_bytes(changed, "net.twp")
    assert [f.where for f in caught.value.faults] == [
        "net.twp: section region/0/constants",
        "net.twp: section quantised_model",
    ]
    assert str(caught.value.faults[0]).endswith(
        "is damaged (checksum); copy the file again, or compile again"
    )


@pytest.mark.parametrize(
    ("change", "text"),
    [
        (1, "format version 4: this Tilewright reads 3; update Tilewright, or compile again$"),
        (-1, "format version 2: this Tilewright reads 3; compile again$"),
    ],
)
def test_another_format_is_named(change: int, text: str) -> None:
    data = bytearray(_package().to_bytes())
    data[8:12] = struct.pack("<I", FORMAT_VERSION + change)
    with pytest.raises(PackageError, match=text):
        Package.from_bytes(bytes(data))


def test_another_overlay_of_the_installed_name_is_refused_by_field() -> None:
    changed = Overlay.from_dict(OVERLAY.to_dict() | {"mhz": 90, "act_kib": OVERLAY.act_kib // 2})
    data = _package(overlay=changed).to_bytes()
    with pytest.raises(PackageError) as caught:
        Package.from_bytes(data, "net.twp")
    text = str(caught.value)
    assert text.startswith(
        "net.twp: section overlay: made for another pynq-z1-w8 (here) than the installed one (there): "
    )
    assert f"act_kib: {OVERLAY.act_kib // 2} here, {OVERLAY.act_kib} there" in text
    assert "mhz: 90 here, 100 there" in text
    assert "block_in" not in text


def test_an_overlay_of_ones_own_comes_with_the_package() -> None:
    mine = Overlay.from_dict(OVERLAY.to_dict() | {"mhz": 90, "name": "mine"})
    assert Package.from_bytes(_package(overlay=mine).to_bytes()).overlay == mine


FORGED = [
    ("overlay", lambda _: b"{", "section overlay: is not JSON"),
    ("overlay", lambda _: b"[]", "section overlay: expected a dict, found list"),
    ("overlay", lambda d: d.replace(b'"mhz":100', b'"mhz":90'), "is not that of its configuration"),
    ("overlay", lambda d: d.replace(b'"block_in":16', b'"block_in":17'), "block_in"),
    ("info", lambda d: d.replace(b'"tiny"', b"7"), "section info: expected a str as 'name', found 7"),
    ("labels", lambda _: b"[1]", "section labels: expected a list of texts"),
    ("report", lambda _: b"[" * 100000, "section report: is not JSON"),
    ("program", lambda _: b"", "program: expected 6 more bytes at byte 0, found 0"),
    ("program", lambda d: b"X" + d[1:], "program: expected b'TWHP"),
    ("program", lambda d: d + b"\0", "program: expected its end at byte"),
    ("program", lambda d: d.replace(b"quantize", b"quantise"), "unknown host operator 'quantise'; a newer"),
    (
        "region/0",
        lambda d: d.replace(struct.pack("<i", 16), struct.pack("<i", 32), 1),
        "made for block_in 32, overlay",
    ),
    ("region/0", lambda d: d[:-4], "region: expected"),
]


@pytest.mark.parametrize(("section", "change", "text"), FORGED)
def test_contents_are_checked_beyond_the_checksum(
    section: str, change: Callable[[bytes], bytes], text: str
) -> None:
    with pytest.raises(PackageError) as caught:
        Package.from_bytes(_forge(_package().to_bytes(), section, change), "net.twp")
    assert str(caught.value).startswith("net.twp: ")
    assert text in str(caught.value)


@pytest.mark.parametrize("missing", ["overlay", "info", "program", "report", "region/0/stream"])
def test_missing_sections_are_named(missing: str) -> None:
    sections = _package()._sections()
    del sections[missing]
    with pytest.raises(PackageError, match=rf"section {missing.removesuffix('/stream')}: .*missing"):
        Package.from_bytes(package_module._join(sections))


def test_a_package_may_have_no_plan() -> None:
    package = _package(plan=None)
    assert Package.from_bytes(package.to_bytes()).plan is None


@pytest.mark.parametrize(
    ("data", "message"),
    [
        (b"\xff{}", r"^package: section plan: is not JSON: .*decode"),
        ("{}".encode("utf-16"), r"^package: section plan: is not JSON: "),
        (b"{", r"^package: section plan: is not JSON: "),
        (b"[" * 100000, r"^package: section plan: is not JSON: "),
        (b"[]", r"^package: section plan: expected a dict, found list$"),
    ],
)
def test_a_damaged_plan(data: bytes, message: str) -> None:
    with pytest.raises(PackageError, match=message):
        Package.from_bytes(package_module._join(_package()._sections() | {"plan": data}))


def test_unknown_sections_are_named() -> None:
    data = package_module._join(_package()._sections() | {"bitstream": b""})
    with pytest.raises(PackageError, match="unknown sections: bitstream; update Tilewright"):
        Package.from_bytes(data)


BAD_STEPS = [
    (HostStep("warp", (5,), (6,)), "program step 3: unknown host operator 'warp'; a newer"),
    (HostStep("softmax", (5,), (6,)), r"step 3 (softmax): expected attributes (('axis', 'int'),), found ()"),
    (HostStep("softmax", (5,), (6,), {"axis": 1.0}), "found (('axis', 'float'),)"),
    (HostStep("region", (5,), (6,), {"index": 1}), "step 3 (region): region 1 does not exist, there are 1"),
    (HostStep("add", (5,), (6,)), "step 3 (add): expected 2..2 operands, found 1"),
    (HostStep("relu", (6,), (6,)), "step 3 (relu): operand 6 is used before it is defined"),
    (HostStep("relu", (5,), (4,)), "step 3 (relu): result 4 is defined already or does not exist"),
]


@pytest.mark.parametrize(("step", "text"), BAD_STEPS)
def test_illegal_programs_are_refused_when_saved_and_loaded(
    step: HostStep, text: str, tmp_path: Path
) -> None:
    program = dataclasses.replace(
        _program(step), tensors=(*_program().tensors, HostTensor("r", (1, 12), "uint8"))
    )
    package = _package(program=program)
    with pytest.raises(PackageError) as caught:
        package.save(tmp_path / "net.twp")
    assert text in str(caught.value)
    assert not list(tmp_path.iterdir())
    with pytest.raises(PackageError) as caught:
        Package.from_bytes(package_module._join(package._sections()))
    assert text in str(caught.value)


def test_all_faults_of_a_program_come_together() -> None:
    program = _program(HostStep("warp", (5,), ()), HostStep("weft", (5,), ()))
    with pytest.raises(PackageError) as caught:
        program.check(1)
    assert len(caught.value.faults) == 2


def test_a_program_survives_its_bytes() -> None:
    program = decode_program(encode_program(_program()))
    assert program.tensors == _program().tensors
    assert program.steps == _program().steps
    assert program.constants[1].dtype == np.float32
    assert program.constants[1] == 0.5


def test_a_full_disk_leaves_nothing_behind(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "net.twp").write_bytes(b"old")

    def full(_: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    monkeypatch.setattr(os, "fsync", full)
    with pytest.raises(
        PackageError, match=r"net\.twp: cannot write \d+ bytes: No space left on device; nothing was"
    ):
        _package().save(tmp_path / "net.twp")
    assert [p.read_bytes() for p in tmp_path.iterdir()] == [b"old"]


def test_a_missing_folder_is_named(tmp_path: Path) -> None:
    with pytest.raises(PackageError, match=r"net\.twp: cannot write \d+ bytes: No such file or directory"):
        _package().save(tmp_path / "none" / "net.twp")


def test_a_folder_in_the_files_place_is_named(tmp_path: Path) -> None:
    (tmp_path / "net.twp").mkdir()
    with pytest.raises(PackageError, match="cannot write"):
        _package().save(tmp_path / "net.twp")
    assert [p.name for p in tmp_path.iterdir()] == ["net.twp"]
    with pytest.raises(PackageError, match="cannot read: Is a directory"):
        Package.load(tmp_path / "net.twp")
    with pytest.raises(PackageError, match="cannot read: No such file"):
        Package.load(tmp_path / "other.twp")


@settings(max_examples=400, deadline=None, derandomize=True)
@given(
    st.sampled_from(["overlay", "info", "program", "region/0", "labels", "report", "preprocess"]), st.data()
)
def test_mutated_sections_are_refused_or_load(section: str, data: st.DataObject) -> None:
    """Bytes changed behind the checksums: a PackageError or a package, nothing else."""

    def mutate(content: bytes) -> bytes:
        changed = bytearray(content)
        for _ in range(data.draw(st.integers(1, 3))):
            changed[data.draw(st.integers(0, len(changed) - 1))] = data.draw(st.integers(0, 255))
        return bytes(
            changed[: data.draw(st.integers(1, len(changed)))] if data.draw(st.booleans()) else changed
        )

    try:
        package = Package.from_bytes(_forge(SOUND, section, mutate))
    except PackageError as error:
        assert str(error).startswith("package: ")
    else:
        assert package.to_bytes()


def test_the_header_is_as_documented() -> None:
    data = _package().to_bytes()
    magic, version, count, size = struct.unpack_from("<8sIIQ", data)
    assert (magic, version, size) == (b"\x89TWP\r\n\x1a\n", 3, len(data))
    table = data[56 : 56 + 80 * count]
    assert data[24:56] == hashlib.sha256(data[:24] + table).digest()
    name, offset, length, digest = struct.unpack_from("<32sQQ32s", table, 80)
    assert name.rstrip(b"\0") == b"info"
    assert digest == hashlib.sha256(data[offset : offset + length]).digest()
