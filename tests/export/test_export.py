"""The folder for a board: what is in it, that it is whole or not there, and what refuses it."""

from __future__ import annotations

import hashlib
import shutil
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from tests.cli.commands import document, fault, invoke
from tests.runtime import test_session as one
from tilewright.errors import ConfigError, DataError
from tilewright.export import api, export
from tilewright.runtime import Package, Session, cross
from tilewright.targets.processors import ARCHS, Arch

PACKAGE = Package(**{**vars(one._package()), "labels": ("cat", "dog")})


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """An export for this machine."""
    return export(PACKAGE, tmp_path_factory.mktemp("export") / "board", arch="native").folder


def _names(folder: Path) -> list[str]:
    return sorted(p.relative_to(folder).as_posix() for p in folder.rglob("*") if p.is_file())


def _entries(folder: Path) -> list[str]:
    return sorted(p.name for p in folder.iterdir())


def test_the_folder_holds_what_the_checksums_say(folder: Path) -> None:
    names = _names(folder)
    assert names == [
        "README.md",
        "SHA256SUMS",
        "check/input0.npy",
        "check/output0.npy",
        "check/output1.npy",
        "include/tilewright/package_c.h",
        "include/tilewright/runtime_c.h",
        "labels.txt",
        "libtilewright_runtime.so",
        "net.twp",
        "tilewright-run",
        "tilewright_board.py",
    ]
    lines = {line[66:]: line[:64] for line in (folder / "SHA256SUMS").read_text().splitlines()}
    assert sorted(lines) == [name for name in names if name != "SHA256SUMS"]
    for name, digest in lines.items():
        assert hashlib.sha256((folder / name).read_bytes()).hexdigest() == digest
    assert (folder / "labels.txt").read_text() == "cat\ndog\n"
    text = (folder / "README.md").read_text()
    for name in names[1:]:
        assert name.partition("/")[0] in text
    assert PACKAGE.overlay.hash in text
    found = Session(Package.load(folder / "net.twp")).run({"x": np.load(folder / "check/input0.npy")})
    for number, array in enumerate(found.outputs.values()):
        np.testing.assert_array_equal(array, np.load(folder / f"check/output{number}.npy"))


_ALONE = """\
import runpy, sys
for name in ("tilewright", "tvm", "tvm_ffi", "onnx"):
    sys.modules[name] = None
sys.argv = ["tilewright_board.py", *sys.argv[1:]]
runpy.run_path("tilewright_board.py", run_name="__main__")
"""


def _alone(folder: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    """Run the class's command as on a board, where nothing of this project is installed."""
    command = [sys.executable, "-c", _ALONE, *arguments]
    return subprocess.run(command, cwd=folder, capture_output=True, text=True, timeout=60, check=False)


def test_the_copied_class_runs_without_this_project(folder: Path, tmp_path: Path) -> None:
    done = _alone(folder, "net.twp", "--check", "check")
    assert done.stderr == ""
    lines = done.stdout.splitlines()
    assert lines[:4] == [
        "net for ultra96-w8",
        "input x: float32 (1, 5, 6, 6)",
        "output p: float32 (1, 20, 6, 6)",
        "output y: uint8 (1, 20, 6, 6)",
    ]
    assert lines[4].startswith("check: outputs as expected, ")
    wrong = np.load(folder / "check/output1.npy")
    wrong[0, 3, 2, 1] += 1
    shutil.copytree(folder / "check", tmp_path / "check")
    np.save(tmp_path / "check/output1.npy", wrong)
    done = _alone(folder, "net.twp", "--check", str(tmp_path / "check"))
    assert done.returncode == 2
    assert done.stderr == (
        "error: output y: 1 of 720 values differ, the first at (0, 3, 2, 1): "
        f"{wrong[0, 3, 2, 1] - 1} where {wrong[0, 3, 2, 1]} was expected\n"
    )


def test_an_export_is_replaced_by_force_only_and_nothing_else_ever(folder: Path, tmp_path: Path) -> None:
    to = tmp_path / "board"
    to.mkdir()
    export(PACKAGE, to, arch="native")  # an empty folder will do
    with pytest.raises(DataError) as caught:
        export(PACKAGE, to, arch="native")
    assert str(caught.value) == f"{to}: exists already; choose another folder, or replace it by --force"
    other = replace(PACKAGE, name="a b/c")
    export(other, to, arch="native", force=True)
    assert (to / "a_b_c.twp").is_file()
    assert not (to / "net.twp").exists()
    (to / "notes.txt").write_text("mine")
    before = _names(to)
    with pytest.raises(DataError) as caught:
        export(PACKAGE, to, arch="native", force=True)
    assert str(caught.value) == f"{to}: holds what no export wrote: notes.txt; choose another folder"
    assert _names(to) == before
    assert _entries(tmp_path) == ["board"], "nothing temporary is left"


@pytest.mark.parametrize("force", [False, True])
def test_a_failure_leaves_what_was_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, force: bool
) -> None:
    to = tmp_path / "board"
    if force:
        export(PACKAGE, to, arch="native")
    before = {name: (to / name).read_bytes() for name in _names(to)}

    def full(*_: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(api, "_write_check", full)
    with pytest.raises(DataError) as caught:
        export(PACKAGE, to, arch="native", force=force)
    assert str(caught.value) == (
        f"{to}: cannot be written: No space left on device; nothing was changed; choose another folder"
    )
    assert {name: (to / name).read_bytes() for name in _names(to)} == before
    assert _entries(tmp_path) == (["board"] if force else [])


def test_everything_wrong_is_told_at_once(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", "")
    nowhere = tmp_path / "no" / "board"
    with pytest.raises(ConfigError) as caught:
        export(PACKAGE, nowhere, arch="armv7", with_tvm=True)
    assert [str(f) for f in caught.value.faults] == [
        "arm-linux-gnueabihf-g++ is not installed; install it, on Debian and Ubuntu: apt install g++-arm-linux-gnueabihf",
        "cmake is not installed; install it, on Debian and Ubuntu: apt install cmake",
        "--with-tvm: TVM has no wheel for armv7; leave it out: the package needs no TVM",
        "package net: `export --with-tvm` needs the quantised model, and this package has none; compile again",
        f"{nowhere}: there is no folder {nowhere.parent}; make it first",
    ]
    with pytest.raises(ConfigError, match=r"^--arch: expected one of aarch64, armv7, native, found 'mips'$"):
        export(PACKAGE, tmp_path / "board", arch="mips")
    assert _entries(tmp_path) == []


def test_command(demo_package: Path, tmp_path: Path) -> None:
    to = tmp_path / "board"
    found = document(invoke("export", demo_package, "--to", to, "--arch", "native", "--json"))
    assert found["folder"] == str(to)
    assert found["arch"] == "native"
    assert [f["name"] for f in found["files"]] == [n for n in _names(to) if n != "SHA256SUMS"]
    assert {f["bytes"] for f in found["files"]} == {(to / f["name"]).stat().st_size for f in found["files"]}
    assert Package.load(to / "digits.twp").stripped
    assert "digits.twp" in invoke("export", demo_package, "--to", to, "--arch", "native", "--force").stdout
    assert fault(invoke("export", demo_package, "--to", to, "--arch", "native")).endswith(
        "replace it by --force"
    )
    damaged = tmp_path / "damaged.twp"
    damaged.write_bytes(demo_package.read_bytes()[:-1])
    assert "truncated" in fault(invoke("export", damaged, "--to", tmp_path / "other"))


def test_the_program_of_the_folder(folder: Path, tmp_path: Path) -> None:
    command: list[str | Path] = [
        folder / "tilewright-run",
        "net.twp",
        "check/input0.npy",
        "--output",
        tmp_path / "results",
    ]
    subprocess.run(command, cwd=folder, check=True, timeout=60, capture_output=True)
    for number, name in enumerate(("p", "y")):
        found, expected = (
            np.load(tmp_path / f"results/{name}.npy"),
            np.load(folder / f"check/output{number}.npy"),
        )
        np.testing.assert_array_equal(found, expected)


_TVM = """\
import ctypes, numpy as np, tvm
ctypes.CDLL("./libtilewright_tvm.so", ctypes.RTLD_GLOBAL)
vm = tvm.relax.VirtualMachine(tvm.runtime.load_module("digits.so"), tvm.cpu())
found = vm["main"](tvm.runtime.tensor(np.load("check/input0.npy"))).numpy()
# Softmax: TVM's exp here, the C library's there, each within 4 ulp, and sums of 10 terms in another order.
np.testing.assert_allclose(found, np.load("check/output0.npy"), rtol=40 * 2.0**-23, atol=2.0**-126)
"""


@pytest.mark.slow
def test_the_library_for_tvm_runs_in_a_process_without_this_project(
    demo_package: Path, tmp_path: Path
) -> None:
    made = export(demo_package, tmp_path / "board", arch="native", with_tvm=True)
    assert {"digits.so", "libtilewright_tvm.so"} <= set(made.files)
    assert _TVM.splitlines()[1] in (made.folder / "README.md").read_text()
    script = "import sys\nsys.modules['tilewright'] = None\n" + _TVM
    subprocess.run([sys.executable, "-c", script], cwd=made.folder, check=True, timeout=120)


@pytest.mark.slow
@pytest.mark.parametrize("arch", ARCHS)
def test_an_arm_runs_what_it_gets(demo_package: Path, tmp_path: Path, arch: Arch) -> None:
    """`tilewright-run` of the folder, emulated: the outputs are those in `check`."""
    missing = cross.missing_tools(arch, emulator=True)
    if len(missing):
        pytest.skip("; ".join(map(str, missing)))
    folder = export(demo_package, tmp_path / "board", arch=arch).folder
    emulator = {"aarch64": "qemu-aarch64", "armv7": "qemu-arm"}[arch]
    command = [emulator, "./tilewright-run", "digits.twp", "check/input0.npy", "--output", "results"]
    subprocess.run(command, cwd=folder, check=True, timeout=300, capture_output=True)
    np.testing.assert_array_equal(np.load(folder / "results/prob.npy"), np.load(folder / "check/output0.npy"))
    assert (
        "./tilewright-run digits.twp check/input0.npy --output results" in (folder / "README.md").read_text()
    )
