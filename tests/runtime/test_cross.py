"""Building for boards: what is missing is said; sources are shipped; the runner's messages."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from tests.runtime import corpus

from tilewright.errors import ConfigError
from tilewright.runtime import Session, cross
from tilewright.runtime.native import library_path
from tilewright.targets.config import boards
from tilewright.targets.processors import ARCHS, PROCESSORS, processor

RUNNER = str(library_path(cross.RUNNER))


def test_every_board_has_a_processor_with_a_toolchain() -> None:
    assert {processor(board).name for board in boards().values()} <= set(ARCHS) == set(PROCESSORS)
    for arch in ARCHS:
        toolchain = (cross.sources() / f"targets/board/cross/{arch}.cmake").read_text()
        assert f"set(CMAKE_CXX_COMPILER {PROCESSORS[arch].compiler})" in toolchain


def test_missing_tools_are_all_named(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(ConfigError) as caught:
        cross.build("armv7")
    assert [str(fault) for fault in caught.value.faults] == [
        "arm-linux-gnueabihf-g++ is not installed; install it, on Debian and Ubuntu: apt install g++-arm-linux-gnueabihf",
        "cmake is not installed; install it, on Debian and Ubuntu: apt install cmake",
    ]
    with pytest.raises(
        ConfigError, match=r"^aarch64-linux-gnu-g\+\+ is not installed; .*g\+\+-aarch64-linux-gnu$"
    ):
        cross.require_compiler("aarch64")
    assert [fault.message for fault in cross.missing_tools("aarch64", emulator=True)][
        1
    ] == "qemu-aarch64 is not installed"


def test_an_unknown_processor() -> None:
    with pytest.raises(
        ConfigError, match=r"^arch: expected one of the processors aarch64, armv7, found 'mips'$"
    ):
        cross.build("mips")  # type: ignore[arg-type]


def test_a_build_that_fails_leaves_nothing(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    tools, cache = tmp_path / "bin", tmp_path / "cache"
    tools.mkdir()
    for name, script in (("cmake", "echo no such generator; exit 1"), ("aarch64-linux-gnu-g++", "echo 1")):
        (tools / name).write_text(f"#!/bin/sh\n{script}\n")
        (tools / name).chmod(0o755)
    monkeypatch.setenv("PATH", f"{tools}:/usr/bin:/bin")
    monkeypatch.setenv("TILEWRIGHT_CACHE", str(cache))
    with pytest.raises(ConfigError, match=r"^the build for aarch64 failed \(cmake -S\):\nno such generator$"):
        cross.build("aarch64")
    assert [path.name for path in cache.iterdir()] == ["aarch64.lock"]
    assert cross.tvm_libraries("aarch64") is None


def test_there_is_no_tvm_for_armv7() -> None:
    with pytest.raises(ConfigError, match=r"^TVM has no wheel for armv7; run packages with tilewright-run"):
        cross.fetch("armv7")


def test_the_command_says_what_is_wrong(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "tilewright.runtime.cross", "fetch", "armv7"]
    done = subprocess.run(command, capture_output=True, text=True)
    assert (done.returncode, done.stdout) == (2, "")
    assert (
        done.stderr
        == "error: TVM has no wheel for armv7; run packages with tilewright-run, which needs no TVM\n"
    )


def _run(*words: str | Path) -> tuple[int, str, str]:
    done = subprocess.run([RUNNER, *map(str, words)], capture_output=True, text=True, timeout=60)
    return done.returncode, done.stdout, done.stderr


@pytest.fixture
def files(tmp_path: Path) -> Path:
    """Packages and an input of `wide`."""
    corpus.write(tmp_path)
    np.save(tmp_path / "x.npy", np.random.default_rng(1).normal(0, 9, (1, 20, 6, 6)).astype(np.float32))
    return tmp_path


def test_the_runner_tells_what_is_in_a_package(files: Path) -> None:
    code, out, err = _run(files / "batch.twp")
    assert (code, err) == (0, "")
    assert out == (
        f"network net\noverlay ultra96-w8\nhash {corpus.OVERLAY.hash}\ninput x float32 (3, 3, 6, 6)\n"
        "output p float32 (3, 20, 6, 6)\noutput y uint8 (3, 20, 6, 6)\n"
    )


@pytest.mark.parametrize("name", ["wide", "batch", "packed", "operators"])
def test_the_runner_runs(files: Path, name: str) -> None:
    package = corpus.packages()[name]
    (tensor,) = package.inputs
    x = np.random.default_rng(2).normal(0, 9, tensor.shape).astype(np.float32)
    np.save(files / "x.npy", x)
    code, out, err = _run(
        files / f"{name}.twp", f"x={files / 'x.npy'}", "--output", files / "y", "--repeat", "3"
    )
    assert (code, err) == (0, "")
    assert "runs 3, first " in out
    # The corpus draws its weights anew with each call: the file's package is what was run.
    expected = Session(type(package).load(files / f"{name}.twp")).run({"x": x}).outputs
    assert sorted(p.stem for p in (files / "y").iterdir()) == sorted(expected)
    for key, array in expected.items():
        found = np.load(files / "y" / f"{key}.npy")
        assert found.dtype == array.dtype
        np.testing.assert_array_equal(found, array)


def _saved(folder: Path, array: object) -> Path:
    np.save(folder / "wrong.npy", array)  # type: ignore[arg-type]
    return folder / "wrong.npy"


def test_the_runner_says_what_is_wrong(files: Path) -> None:
    package, x = files / "wide.twp", files / "x.npy"
    (files / "text").write_bytes(b"hello, this is no array")
    (files / "cut.npy").write_bytes(x.read_bytes()[:-1])
    f32 = np.float32
    cases: list[tuple[list[str | Path], str]] = [
        ([], "no package is given"),
        (["--speed", "9"], "unknown option --speed"),
        ([package, x, "--repeat"], "--repeat: its value is missing"),
        ([package, x, "--repeat", "none"], "--repeat: expected 1 to 10^9, found none"),
        ([files / "none.twp"], f"{files}/none.twp: cannot read: No such file or directory"),
        ([files], f"{files}: cannot read: Is a directory"),
        ([x], f"{x}: not a Tilewright package: expected a .twp file"),
        ([package, files / "text"], f"{files}/text: is no .npy file"),
        ([package, files / "cut.npy"], f"{files}/cut.npy: expected 2880 bytes behind the header, found 2879"),
        ([package, x, x], f"{x}: there are 1 inputs only"),
        ([package, x, f"x={x}"], f"input x is given twice: {x} and {x}"),
        (
            [package, _saved(files, np.zeros((1, 20, 6, 7), f32))],
            f"{files}/wrong.npy: expected float32 (1, 20, 6, 6) for input x, found float32 (1, 20, 6, 7)",
        ),
        ([package, x, "--output", "/dev/null/y"], "/dev/null/y: cannot make: Not a directory"),
    ]
    for words, text in cases:
        code, _, err = _run(*words)
        assert code == 2
        assert err.startswith(f"error: {text}"), (words, err)
    for array, text in (
        (np.zeros(3), "expected float32 or integers of the machine's byte order, found '<f8'"),
        (np.zeros(3, ">f4"), "expected float32 or integers of the machine's byte order, found '>f4'"),
        (
            np.asfortranarray(np.zeros((2, 3), f32)),
            "is in Fortran's order; save numpy.ascontiguousarray of it",
        ),
        (np.zeros((1,) * 9, f32), "expected a rank of at most 8, found 9"),
    ):
        assert text in _run(package, _saved(files, array))[2]
