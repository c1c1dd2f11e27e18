"""`tilewright doctor` on this installation, and on broken ones."""

from __future__ import annotations

import shutil
import subprocess
import sys
from importlib import metadata
from pathlib import Path

import pytest

import tilewright
from tests.cli.commands import document, invoke
from tilewright import doctor
from tilewright.runtime import native
from tilewright.targets.sim import fast


def states() -> dict[str, doctor.Check]:
    return {check.name: check for check in doctor.examine()}


def test_this_installation_works() -> None:
    found = document(invoke("doctor", "--json"))
    assert list(found) == ["schema", "checks", "works"] and found["works"] is True
    checks = {check["name"]: check for check in found["checks"]}
    assert all(check["state"] in ("ok", "warn", "fail") for check in checks.values())
    assert all(check["remedy"] for check in checks.values() if check["state"] != "ok")
    assert checks["apache-tvm"]["found"] == metadata.version("apache-tvm")
    assert checks["apache-tvm-ffi"]["state"] == "ok"
    assert checks["libtilewright_runtime.so"]["found"] == f"interface {native.ABI}"
    assert checks["libtilewright_sim.so"]["found"] == f"interface {fast.ABI}"
    assert checks["libtilewright_tvm.so"]["state"] == checks["TVM"]["state"] == "ok"
    assert {f"tilewright/{name}" for name in doctor.LINKS} <= set(checks)
    text = invoke("doctor").stdout
    assert all(name in text for name in checks)


def test_a_wrong_version_of_the_pair(monkeypatch: pytest.MonkeyPatch) -> None:
    real = metadata.version
    monkeypatch.setattr(
        metadata, "version", lambda name: "0.1.15.post2" if name == "apache-tvm-ffi" else real(name)
    )
    check = states()["apache-tvm-ffi"]
    assert check == doctor.Check(
        "apache-tvm-ffi",
        "fail",
        "0.1.15.post2, expected ==0.1.14.post1",
        "pip install 'apache-tvm-ffi==0.1.14.post1'",
    )
    result = invoke("doctor")
    assert result.exit_code == 2
    assert "0.1.15.post2" in result.stdout


def test_a_missing_requirement_and_a_missing_extra(monkeypatch: pytest.MonkeyPatch) -> None:
    real = metadata.version

    def version(name: str) -> str:
        if name in ("pillow", "tornado"):
            raise metadata.PackageNotFoundError(name)
        return real(name)

    monkeypatch.setattr(metadata, "version", version)
    found = states()
    assert (found["pillow"].state, found["pillow"].found) == ("fail", "not installed")
    extra = found["extra rpc"]
    assert (extra.state, extra.found, extra.remedy) == (
        "warn",
        "tornado not installed",
        "pip install 'tilewright[rpc]'",
    )


def test_a_library_of_another_interface(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(native, "ABI", 99)
    found = states()["libtilewright_runtime.so"]
    assert (found.state, found.found.split(",")[1]) == ("fail", " expected 99")
    assert found.remedy == "install tilewright again; pip's output says why a part was not built"


def test_a_library_that_is_missing(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    def library_path(name: str) -> Path:
        raise ImportError(f"{tmp_path / name} is missing")

    monkeypatch.setattr(native, "library_path", library_path)
    found = states()
    assert found["libtilewright_sim.so"].state == found["libtilewright_runtime.so"].state == "fail"


def test_no_compilers(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shutil, "which", lambda name: None)
    monkeypatch.delenv("CXX", raising=False)
    found = states()
    assert found["C++ compiler"] == doctor.Check(
        "C++ compiler",
        "warn",
        "there is no c++ or g++ or clang++ on the path",
        "apt-get install g++ (needed to install from source, and by export_library)",
    )
    assert found["compiler for aarch64"].remedy.startswith("apt-get install g++-aarch64-linux-gnu")


def test_no_room(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(doctor, "LEAST_SHARED_MIB", 1 << 40)
    check = states()["shared memory"]
    assert check.state == "warn" and check.remedy.startswith("give the container more")


def test_a_checkout_without_links(tmp_path: Path) -> None:
    """As git leaves it where it makes no links: a text file. The command tells where to look, the doctor why."""
    link = "targets"  # the others are needed later than at the start
    source = Path(tilewright.__file__).parent
    package = tmp_path / "tilewright"
    package.mkdir()
    for path in source.iterdir():
        if path.name == link:
            (package / path.name).write_text(f"../../{link}")
        elif path.name != "__pycache__":
            (package / path.name).symlink_to(path.resolve())
    # An editable install finds the package before any path does.
    code = "import sys, runpy; sys.meta_path[:] = [f for f in sys.meta_path if 'editable' not in type(f).__module__]; "
    code += "sys.path.insert(0, {!r}); sys.argv = ['x', {!r}]; runpy.run_module({!r}, run_name='__main__')"

    def run(module: str) -> subprocess.CompletedProcess[str]:
        command = [sys.executable, "-c", code.format(str(tmp_path), "targets", module)]
        return subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)

    command = run("tilewright")
    assert command.returncode == 2
    assert command.stderr.startswith("error: the installation is not complete: ")
    assert command.stderr.endswith("`python -m tilewright.doctor` tells what to do\n")
    told = run("tilewright.doctor")
    assert told.returncode == 2, told.stderr
    assert (
        f"fail  tilewright/{link}: file, expected a folder with __init__.py; the checkout lost its links: "
        "git config core.symlinks true, then check out again\n"
    ) in told.stdout
