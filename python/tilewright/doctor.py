"""What of an installation works: `tilewright doctor`, or `python -m tilewright.doctor` where that does not start.

Every check is a function of the table CHECKS that gives one or more lines. Nothing of the compiler is imported before
the check that tries it, so that a broken installation can be looked at.
"""

from __future__ import annotations

import ctypes
import os
import platform
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import Literal

State = Literal["ok", "warn", "fail"]

LINKS = ("relay_passes", "codegen", "targets")
"""Folders of the checkout that the package reaches by links."""

LEAST_SHARED_MIB = 64
LEAST_TEMPORARY_MIB = 512
_DISTRIBUTION = "tilewright"
_MIB = 1 << 20
_SECONDS = 20


@dataclass(frozen=True)
class Check:
    """One line.

    Attributes:
        name: what was looked at.
        state: "fail": commands will not work; "warn": something beside them will not.
        found: what there is.
        remedy: what to do; empty where all is well.
    """

    name: str
    state: State
    found: str
    remedy: str = ""


def _python() -> Iterator[Check]:
    version = platform.python_version()
    wanted = metadata.metadata(_DISTRIBUTION)["Requires-Python"] or ""
    from packaging.specifiers import SpecifierSet

    good = SpecifierSet(wanted).contains(version, prereleases=True)
    found = f"{version} ({sys.executable})"
    yield Check("Python", "ok" if good else "fail", found, "" if good else f"use a Python that fits {wanted}")


def _package() -> Iterator[Check]:
    version, folder = metadata.version(_DISTRIBUTION), Path(__file__).parent
    yield Check("tilewright", "ok", f"{version} in {folder}")
    for name in LINKS:
        path = folder / name
        what = f"link to {path.readlink()}" if path.is_symlink() else "folder"
        if (path / "__init__.py").is_file():
            yield Check(f"tilewright/{name}", "ok", what)
        else:
            found = what if path.is_symlink() else "file" if path.exists() else "missing"
            remedy = "the checkout lost its links: git config core.symlinks true, then check out again"
            yield Check(f"tilewright/{name}", "fail", f"{found}, expected a folder with __init__.py", remedy)


def _requirements() -> Iterator[Check]:
    """Dependencies, then extras: of those one line each."""
    from packaging.requirements import Requirement

    extras: dict[str, list[Requirement]] = {}
    for text in metadata.requires(_DISTRIBUTION) or ():
        need = Requirement(text)
        chosen = [e for e in metadata.metadata(_DISTRIBUTION).get_all("Provides-Extra") or () if e != "dev"]
        if need.marker is None or need.marker.evaluate({"extra": ""}):
            yield _requirement(need)
            continue
        for extra in chosen:
            if need.marker.evaluate({"extra": extra}):
                extras.setdefault(extra, []).append(need)
    for extra, needs in extras.items():
        wrong = [check for check in map(_requirement, needs) if check.state != "ok"]
        names = ", ".join(need.name for need in needs)
        if wrong:
            found = "; ".join(f"{check.name} {check.found}" for check in wrong)
            yield Check(f"extra {extra}", "warn", found, f"pip install 'tilewright[{extra}]'")
        else:
            yield Check(f"extra {extra}", "ok", names)


def _requirement(need: object) -> Check:
    from packaging.requirements import Requirement

    assert isinstance(need, Requirement)
    remedy = f"pip install '{need.name}{need.specifier}'"
    try:
        version = metadata.version(need.name)
    except metadata.PackageNotFoundError:
        return Check(need.name, "fail", "not installed", remedy)
    if need.specifier.contains(version, prereleases=True):
        return Check(need.name, "ok", version)
    return Check(need.name, "fail", f"{version}, expected {need.specifier}", remedy)


_AGAIN = "install tilewright again; pip's output says why a part was not built"


def _native() -> Iterator[Check]:
    """The compiled libraries, their interfaces, and what the fast simulator uses of the processor."""
    from tilewright.runtime import native, tvm_module
    from tilewright.targets.sim import fast

    for name, symbol, expected in (
        ("libtilewright_sim.so", "tw_sim_abi", fast.ABI),
        ("libtilewright_runtime.so", "tw_rt_abi", native.ABI),
    ):
        try:
            library = ctypes.CDLL(str(native.library_path(name)))
            found = int(getattr(library, symbol)())
        except (ImportError, OSError, AttributeError) as error:
            yield Check(name, "fail", str(error), _AGAIN)
            continue
        if found != expected:
            yield Check(name, "fail", f"interface {found}, expected {expected}", _AGAIN)
            continue
        yield Check(name, "ok", f"interface {found}")
        if name == "libtilewright_sim.so":
            yield _simd(library)
    try:
        tvm_module.load()
    except (ImportError, OSError) as error:
        yield Check("libtilewright_tvm.so", "fail", str(error), _AGAIN)
    else:
        yield Check("libtilewright_tvm.so", "ok", "registered with TVM")


def _simd(library: ctypes.CDLL) -> Check:
    library.tw_sim_simd_level_name.restype = ctypes.c_char_p
    best = level = 0
    while library.tw_sim_simd_level_name(level) is not None:
        if library.tw_sim_simd_level_supported(level):
            best = level
        level += 1
    name = library.tw_sim_simd_level_name(best).decode()
    if best:
        return Check("vector instructions", "ok", name)
    return Check(
        "vector instructions", "warn", name, "simulation is several times faster where there is AVX2"
    )


def _tvm() -> Iterator[Check]:
    """TVM starts, and can compile for this machine."""
    try:
        import tvm

        kinds = bool(tvm.get_global_func("codegen.llvm.target_has_features", allow_missing=True)) or bool(
            tvm.get_global_func("target.build.llvm", allow_missing=True)
        )
    except (ImportError, OSError, AttributeError) as error:
        yield Check("TVM", "fail", str(error), "install the versions above together, in a fresh environment")
        return
    yield Check(
        "TVM",
        "ok" if kinds else "fail",
        f"{tvm.__version__}, {'with' if kinds else 'without'} llvm",
        "" if kinds else "install the wheel of apache-tvm from PyPI",
    )


def _compilers() -> Iterator[Check]:
    names = [n for n in (os.environ.get("CXX", ""), "c++", "g++", "clang++") if n]
    purpose = "needed to install from source, and by export_library"
    yield _program("C++ compiler", names, f"apt-get install g++ ({purpose})")
    for title, program, package in (
        ("compiler for aarch64", "aarch64-linux-gnu-g++", "g++-aarch64-linux-gnu"),
        ("compiler for armhf", "arm-linux-gnueabihf-g++", "g++-arm-linux-gnueabihf"),
        ("emulator of aarch64", "qemu-aarch64", "qemu-user"),
        ("emulator of armhf", "qemu-arm", "qemu-user"),
    ):
        yield _program(title, [program], f"apt-get install {package} (to build and try for boards)")


def _program(title: str, names: list[str], remedy: str) -> Check:
    for name in names:
        path = shutil.which(name)
        if path is None:
            continue
        try:
            done = subprocess.run([path, "--version"], capture_output=True, timeout=_SECONDS, check=True)
        except (OSError, subprocess.SubprocessError) as error:
            return Check(title, "warn", f"{path} does not run: {error}", remedy)
        lines = done.stdout.decode(errors="replace").splitlines()
        return Check(title, "ok", f"{path}: {lines[0]}" if lines else path)
    return Check(title, "warn", f"there is no {' or '.join(names)} on the path", remedy)


def _memory() -> Iterator[Check]:
    shared = "tuning with processes and the device model need it"
    yield _room("shared memory", Path("/dev/shm"), LEAST_SHARED_MIB, f"give the container more ({shared})")
    temporary = Path(tempfile.gettempdir())
    yield _room("temporary files", temporary, LEAST_TEMPORARY_MIB, "free space, or set TMPDIR")


def _room(title: str, folder: Path, least: int, remedy: str) -> Check:
    try:
        with tempfile.TemporaryFile(dir=folder):
            free = shutil.disk_usage(folder).free // _MIB
    except OSError as error:
        return Check(title, "warn", f"{folder}: {error.strerror or error}", remedy)
    found = f"{folder}: {free:,} MiB free"
    return Check(title, "ok", found) if free >= least else Check(title, "warn", found, remedy)


CHECKS: dict[str, Callable[[], Iterator[Check]]] = {
    "Python": _python,
    "tilewright": _package,
    "requirements": _requirements,
    "TVM": _tvm,
    "compiled libraries": _native,
    "compilers": _compilers,
    "memory": _memory,
}
"""Part -> its checks, in the order in which they are told."""


def examine() -> list[Check]:
    """All checks. One that cannot be made, because something that it needs is missing, fails."""
    found: list[Check] = []
    for name, check in CHECKS.items():
        try:
            found += check()
        except (ImportError, OSError, metadata.PackageNotFoundError) as error:
            found.append(Check(name, "fail", f"cannot be checked: {error}", "mend what failed before"))
    return found


def failed(checks: list[Check]) -> bool:
    """Whether commands will not work."""
    return any(check.state == "fail" for check in checks)


if __name__ == "__main__":
    found_ = examine()
    for line in found_:
        remedy_ = f"; {line.remedy}" if line.remedy else ""
        sys.stdout.write(f"{line.state:<4}  {line.name}: {line.found}{remedy_}\n")
    sys.exit(2 if failed(found_) else 0)
