"""The C++ reader of package files against the Python one: the same files taken and refused, with the same messages."""

from __future__ import annotations

import copy
import ctypes
import dataclasses
import hashlib
import json
import struct
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from tests.runtime import corpus

from tilewright.errors import TilewrightError
from tilewright.runtime import Session
from tilewright.runtime.native import library_path
from tilewright.targets import package as file_format
from tilewright.targets.config import overlays
from tilewright.targets.host_ops import HOST_DTYPES
from tilewright.targets.package import Package


class _Bytes(ctypes.Structure):
    _fields_ = (("data", ctypes.c_char_p), ("size", ctypes.c_uint64))


class _Tensor(ctypes.Structure):
    _fields_ = (
        ("dtype", ctypes.c_int32),
        ("rank", ctypes.c_int32),
        ("shape", ctypes.c_int64 * 8),
        ("data", ctypes.c_void_p),
        ("size", ctypes.c_uint64),
    )


class _Error(ctypes.Structure):
    _fields_ = (("kind", ctypes.c_int32), ("text", ctypes.c_char * 1024))


class _Library:
    """`package_c.h` and `tw_rt_open`."""

    def __init__(self) -> None:
        self._lib = ctypes.CDLL(str(library_path("libtilewright_runtime.so")))
        self._lib.tw_package_program.restype = _Bytes
        for name in ("name", "overlay", "overlay_hash", "tensor"):
            getattr(self._lib, f"tw_package_{name}").restype = ctypes.c_char_p

    def opened(self, data: bytes) -> tuple[str, dict[str, Any]]:
        """What the reader says is wrong (empty: nothing), and what is in a sound package."""
        handle, error = ctypes.c_void_p(), _Error()
        if self._lib.tw_package_open(_Bytes(data, len(data)), ctypes.byref(handle), ctypes.byref(error)):
            return error.text.decode(), {}
        try:
            regions, program = ctypes.POINTER(_Bytes)(), ctypes.c_void_p()
            count = self._lib.tw_package_regions(handle, ctypes.byref(regions))
            host = self._lib.tw_package_program(handle)
            if self._lib.tw_rt_open(host, regions, count, ctypes.byref(program), ctypes.byref(error)):
                return error.text.decode(), {}
            self._lib.tw_rt_close(program)
            found = {
                name: getattr(self._lib, f"tw_package_{name}")(handle).decode()
                for name in ("name", "overlay", "overlay_hash")
            }
            return "", {**found, "tensors": [list(self._tensors(handle, edge)) for edge in (0, 1)]}
        finally:
            self._lib.tw_package_close(handle)

    def _tensors(self, handle: ctypes.c_void_p, edge: int) -> Iterator[tuple[str, int, tuple[int, ...]]]:
        for number in range(self._lib.tw_package_tensors(handle, edge)):
            tensor = _Tensor()
            name = self._lib.tw_package_tensor(handle, edge, number, ctypes.byref(tensor)).decode()
            yield name, tensor.dtype, tuple(tensor.shape[: tensor.rank])
        assert self._lib.tw_package_tensor(handle, edge, number + 1, ctypes.byref(_Tensor())) is None


LIBRARY = _Library()
PACKAGES = corpus.packages()
SOUND = {name: package.to_bytes() for name, package in PACKAGES.items()}


def _python(data: bytes) -> str:
    """What Python says is wrong with a package, from the file to the loaded session; empty: nothing."""
    try:
        Session(Package.from_bytes(data, "f"))
    except TilewrightError as error:
        return str(error)
    return ""


@pytest.mark.parametrize("name", PACKAGES)
def test_what_is_in_a_package(name: str) -> None:
    package = PACKAGES[name]
    wrong, found = LIBRARY.opened(SOUND[name])
    assert wrong == ""
    assert (found["name"], found["overlay"]) == (package.name, package.overlay.name)
    assert found["overlay_hash"] == package.overlay.hash
    for tensors, expected in zip(found["tensors"], (package.inputs, package.outputs), strict=True):
        assert tensors == [(t.name, HOST_DTYPES.index(t.dtype) + 1, t.shape) for t in expected]


@pytest.mark.parametrize("name", overlays())
def test_the_hash_and_the_machine_of_every_overlay(name: str) -> None:
    chosen = overlays()[name]
    package = dataclasses.replace(corpus.every_operator(), overlay=chosen)
    assert LIBRARY.opened(package.to_bytes())[1]["overlay_hash"] == chosen.hash


def test_a_hash_over_characters_that_json_escapes() -> None:
    odd = dataclasses.replace(
        corpus.OVERLAY,
        name='Ü"\\\n\x7f\u20ac\U0001f600',
        board=dataclasses.replace(corpus.OVERLAY.board, description="ä"),
    )
    package = dataclasses.replace(corpus.every_operator(), overlay=odd)
    wrong, found = LIBRARY.opened(package.to_bytes())
    assert (wrong, found["overlay_hash"], found["overlay"]) == ("", odd.hash, odd.name)


def test_a_region_for_another_machine() -> None:
    machine = dataclasses.replace(corpus.OVERLAY, name="other", wgt_kib=corpus.OVERLAY.wgt_kib // 2)
    sections = file_format._split(SOUND["wide"])
    other = dataclasses.replace(corpus.every_operator(), overlay=machine)
    sections["overlay"] = file_format._split(other.to_bytes())["overlay"]
    data = file_format._join(sections)
    expected = f"made for wgt_tiles {corpus.OVERLAY.wgt_tiles}, overlay other has {machine.wgt_tiles}"
    assert LIBRARY.opened(data)[0] == f"region net_0: {expected}"
    assert _python(data).endswith(expected)


def _mended(data: bytes, change: Callable[[dict[str, bytes]], None]) -> bytes:
    sections = file_format._split(data)
    change(sections)
    return file_format._join(sections)


def _overlay_section(**changes: Any) -> Callable[[dict[str, bytes]], None]:
    def change(sections: dict[str, bytes]) -> None:
        document = json.loads(sections["overlay"])
        sections["overlay"] = json.dumps({**document, **changes}).encode()

    return change


def _set(name: str, value: bytes) -> Callable[[dict[str, bytes]], None]:
    return lambda sections: sections.update({name: value})


def _drop(name: str) -> Callable[[dict[str, bytes]], None]:
    return lambda sections: sections.__delitem__(name)


HEAD = SOUND["wide"][:24]
BROKEN: dict[str, tuple[bytes, str]] = {
    "empty": (b"", "not a Tilewright package"),
    "other file": (b"PK\3\4zip", "not a Tilewright package"),
    "head": (HEAD, "truncated: 24 bytes do not hold the header; copy the file again, or compile again"),
    "version": (
        HEAD[:8] + struct.pack("<I", 9) + SOUND["wide"][12:],
        "; update Tilewright, or compile again",
    ),
    "cut": (SOUND["wide"][:-1], f"truncated: expected {len(SOUND['wide'])} bytes, found {len(SOUND['wide']) - 1}; copy"),
    "longer": (SOUND["wide"] + b"x", ": something follows; copy"),
    "count": (HEAD[:12] + b"\xff" * 4 + SOUND["wide"][16:], "the header or section table is damaged (checksum); copy"),
    "section": (SOUND["wide"][:-1] + b"x", "is damaged (checksum); copy"),
    "hash": (_mended(SOUND["wide"], _overlay_section(hash="0")), "section overlay: hash 0 is not that of its configuration, "),
    "hash kind": (_mended(SOUND["wide"], _overlay_section(hash=1)), "section overlay: expected a str as 'hash'"),
    "configuration": (_mended(SOUND["wide"], _overlay_section(configuration=[])), "section overlay: expected a dict as 'configuration'"),
    "no info": (_mended(SOUND["wide"], _drop("info")), "section info: is missing; compile again"),
    "info": (_mended(SOUND["wide"], _set("info", b"[]")), "section info: expected a dict, found list"),
    "info field": (_mended(SOUND["wide"], _set("info", b'{"name": 1}')), "section info: expected a str as 'name'"),
    "no program": (_mended(SOUND["wide"], _drop("program")), "section program: is missing; compile again"),
    "no stream": (
        _mended(SOUND["wide"], _drop("region/0/stream")),
        "section region/0: stream or constants are missing",
    ),
    "unknown": (_mended(SOUND["wide"], _set("zoo", b"")), "unknown sections: zoo; update Tilewright"),
    "report": (_mended(SOUND["wide"], _set("report", b"{")), "section report: is not JSON: "),
    "deep": (_mended(SOUND["wide"], _set("report", b"[" * 100000)), "section report: is not JSON: "),
    "utf-16": (_mended(SOUND["wide"], _set("report", "{}".encode("utf-16"))), "section report: is not JSON: "),
    "labels": (_mended(SOUND["wide"], _set("labels", b"[1]")), "section labels: expected a list of texts"),
    "plan": (_mended(SOUND["wide"], _set("plan", b"1")), "section plan: expected a dict, found int"),
}  # fmt: skip


@pytest.mark.parametrize(
    ("changes", "text"),
    [
        ({"block_in": 0}, "section overlay: blocks of 0 and 32, operands of 8 and 8 bits"),
        ({"block_in": 1, "inp_bits": 4}, "section overlay: half words of 0 bytes, tiles of 32"),
    ],
)
def test_overlays_without_a_machine(changes: dict[str, int], text: str) -> None:
    """Whose hash is right; Python has rules for each field."""
    odd = copy.copy(corpus.OVERLAY)
    for cached in ("identity", "hash"):
        odd.__dict__.pop(cached, None)
    for name, value in changes.items():
        object.__setattr__(odd, name, value)  # past its own checks
    data = _mended(SOUND["wide"], _overlay_section(configuration=odd.to_dict(), hash=odd.hash))
    assert LIBRARY.opened(data)[0] == text
    assert "block_in=" in _python(data)


@pytest.mark.parametrize("name", BROKEN)
def test_both_say_the_same_of_broken_files(name: str) -> None:
    data, text = BROKEN[name]
    assert text in LIBRARY.opened(data)[0]
    assert text in _python(data)


@settings(max_examples=200, deadline=None, derandomize=True)
@given(st.data())
def test_both_take_and_refuse_the_same_damaged_files(data: st.DataObject) -> None:
    """Bytes of a section changed, all checksums mended."""
    name = data.draw(st.sampled_from(sorted(SOUND)))
    sections = {key: bytearray(part) for key, part in file_format._split(SOUND[name]).items()}
    # What an overlay may be is Python's rule alone (package.h).
    which = data.draw(
        st.sampled_from(sorted(key for key, part in sections.items() if part and key != "overlay"))
    )
    part = sections[which]
    for _ in range(data.draw(st.integers(1, 3))):
        position = data.draw(st.integers(0, len(part) - 1))
        if data.draw(st.booleans()):
            part[position] = data.draw(st.integers(0, 255))
        else:
            part[position] ^= 1 << data.draw(st.integers(0, 7))
    if data.draw(st.integers(0, 4)) == 0:
        del part[data.draw(st.integers(0, len(part))) :]
    damaged = file_format._join({key: bytes(value) for key, value in sections.items()})
    native, python = LIBRARY.opened(damaged)[0], _python(damaged)
    assert bool(native) == bool(python), (name, which, native, python)


JSON_TEXT = st.text(st.sampled_from('{}[]",:\\/u0123456789abcdefDEBtrnsl.+- \n\x00\x1fäNaIfiy'), max_size=12)


@settings(max_examples=150, deadline=None, derandomize=True)
@given(st.one_of(JSON_TEXT, st.recursive(
    st.one_of(st.none(), st.booleans(), st.integers(), st.floats(), st.text(max_size=5)),
    lambda inner: st.one_of(st.lists(inner, max_size=3), st.dictionaries(st.text(max_size=4), inner, max_size=3)),
    max_leaves=6,
).map(json.dumps)))  # fmt: skip
def test_json_is_read_as_python_reads_it(text: str) -> None:
    document = f'{{"a": {text}}}'
    damaged = _mended(SOUND["operators"], _set("report", document.encode()))
    assert bool(LIBRARY.opened(damaged)[0]) == bool(_python(damaged)), text


@pytest.mark.parametrize("size", [0, 1, 55, 56, 63, 64, 65, 119, 120, 1000, 100003])
def test_checksums(size: int) -> None:
    """A section of any length has the checksum that hashlib gives it, and no other."""
    body = np.random.default_rng(size).bytes(size)
    data = _mended(SOUND["operators"], _set("float_model", body))
    assert hashlib.sha256(body).digest() in data
    assert LIBRARY.opened(data)[0] == ""
    if size:
        assert "section float_model: is damaged" in LIBRARY.opened(data[:-1] + bytes([data[-1] ^ 1]))[0]
