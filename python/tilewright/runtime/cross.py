"""Build what a board needs, for its Arm: the program `tilewright-run`, the runtime library, the module for TVM.

    python -m tilewright.runtime.cross build aarch64 --to files     # or armv7
    python -m tilewright.runtime.cross fetch aarch64                # TVM's own libraries, from its wheels

The C++ sources lie in this package. A build goes to a cache folder (`TILEWRIGHT_CACHE`, else `~/.cache/tilewright`)
under a name made of the sources and the compiler, so the next call finds it.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import os
import shutil
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Iterator
from dataclasses import dataclass
from importlib import metadata
from pathlib import Path
from typing import cast

import tilewright.targets
from tilewright.errors import ConfigError, Fault, FaultList
from tilewright.targets.processors import ARCHS, PROCESSORS, Arch

RUNNER, LIBRARY, TVM_MODULE = "tilewright-run", "libtilewright_runtime.so", "libtilewright_tvm.so"
TVM_LIBRARIES = {"apache-tvm": ("libtvm_runtime.so",), "apache-tvm-ffi": ("libtvm_ffi.so",)}
"""What an exported library needs of TVM, by the distribution that brings it."""
_WHEEL_PLATFORMS = {"aarch64": ("manylinux_2_28_aarch64", "manylinux_2_24_aarch64", "manylinux2014_aarch64")}
"""Platforms that TVM has wheels for."""
_SOURCES = ("targets/board/cross", "targets/board/fuzz", "targets/board/native", "targets/sim/native")
_SINGLE = ("targets/isa/isa.h", "codegen/native/region_module.cc")
SANITIZERS = "address,undefined,float-cast-overflow"
"""As for -fsanitize=. Conversions of floats out of range are undefined as well, and `undefined` leaves them out."""
_SANITIZED = {
    "TILEWRIGHT_SANITIZE": SANITIZERS,
    "CMAKE_BUILD_TYPE": "Debug",
    "CMAKE_CXX_FLAGS": "-O1",
}


@dataclass(frozen=True)
class BoardFiles:
    """Files for a board's processor.

    Attributes:
        arch: the processor.
        runner: the program `tilewright-run`, statically linked: runs packages on any Linux of the board.
        library: `libtilewright_runtime.so`, the C interface (`native/include/tilewright/*_c.h`).
        tvm_module: `libtilewright_tvm.so`, which TVM on the board loads before exported libraries; None for armv7,
            for which TVM has no wheel.
    """

    arch: Arch
    runner: Path
    library: Path
    tvm_module: Path | None


def build(arch: Arch, to: Path | str | None = None) -> BoardFiles:
    """Build the files for a processor, or take them from the cache.

    Args:
        arch: "aarch64" (Zynq UltraScale+) or "armv7" (Zynq-7000); `targets.processors.processor(board).name`.
        to: folder that they are copied into, made where it is missing; None: they stay in the cache.

    Raises:
        ConfigError: unknown processor; CMake or the cross compiler is missing (all that is missing, and the packages
            that bring it); the build failed.
    """
    if arch not in ARCHS:
        raise ConfigError(Fault(f"expected one of the processors {', '.join(ARCHS)}, found {arch!r}", "arch"))
    definitions = {"CMAKE_TOOLCHAIN_FILE": str(sources() / f"targets/board/cross/{arch}.cmake")}
    if arch in _WHEEL_PLATFORMS:
        definitions["TILEWRIGHT_TVM_FFI"] = str(
            metadata.distribution("apache-tvm-ffi").locate_file("tvm_ffi/include")
        )
    folder = _build(arch, PROCESSORS[arch].compiler, definitions)
    if to is not None:
        folder = _copied(folder, Path(to))
    module = folder / TVM_MODULE
    return BoardFiles(arch, folder / RUNNER, folder / LIBRARY, module if module.is_file() else None)


def build_sanitized() -> Path:
    """Folder of `tilewright-run` and `tilewright-fuzz`, built for this machine with address and undefined-behaviour
    sanitizers. Raises ConfigError as :func:`build` does."""
    return _build("sanitized", os.environ.get("CXX", "g++"), _SANITIZED)


def missing_tools(arch: Arch, emulator: bool = False) -> FaultList:
    """What this machine lacks to build for a processor and, with `emulator`, to run what was built."""
    found = PROCESSORS[arch]
    return _missing(
        found.compiler, found.compiler_package, *([found.emulator, "qemu-user"] if emulator else [])
    )


def require_compiler(arch: Arch) -> str:
    """The command of the cross compiler. Raises ConfigError, with the package that brings it, where it is missing."""
    found = PROCESSORS[arch]
    _missing(found.compiler, found.compiler_package, cmake=False).raise_if_any(ConfigError)
    return found.compiler


def fetch(arch: Arch = "aarch64") -> Path:
    """Download TVM's libraries for a processor, from the wheels of the installed release, by `pip download`.

    Returns the folder that holds them. Raises ConfigError where there is no wheel for it or pip fails.
    """
    if arch not in _WHEEL_PLATFORMS:
        raise ConfigError(
            Fault(
                f"TVM has no wheel for {arch}", remedy="run packages with tilewright-run, which needs no TVM"
            )
        )
    folder = _tvm_folder(arch)
    if tvm_libraries(arch) is not None:
        return folder
    folder.parent.mkdir(parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(dir=folder.parent) as name:
        work = Path(name)
        for distribution, libraries in TVM_LIBRARIES.items():
            _download(f"{distribution}=={metadata.version(distribution)}", arch, work)
            (wheel,) = work.glob(f"{distribution.replace('-', '_')}-*.whl")
            with zipfile.ZipFile(wheel) as archive:
                for library in libraries:
                    (entry,) = (n for n in archive.namelist() if n.endswith(f"/{library}"))
                    (work / "files").mkdir(exist_ok=True)
                    (work / "files" / library).write_bytes(archive.read(entry))
        _publish(work / "files", folder)
    return folder


def tvm_libraries(arch: Arch) -> Path | None:
    """The folder that :func:`fetch` filled; None where it has not run."""
    folder = _tvm_folder(arch)
    names = [name for libraries in TVM_LIBRARIES.values() for name in libraries]
    return folder if all((folder / name).is_file() for name in names) else None


def sources() -> Path:
    """The folder that holds `targets` and `codegen` with their C++ sources: this package's."""
    return Path(tilewright.targets.__file__).parent.parent


def cache() -> Path:
    """The cache folder."""
    home = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(os.environ.get("TILEWRIGHT_CACHE") or Path(home) / "tilewright")


def _tvm_folder(arch: Arch) -> Path:
    return cache() / f"tvm-{metadata.version('apache-tvm')}-ffi-{metadata.version('apache-tvm-ffi')}-{arch}"


def _download(requirement: str, arch: Arch, to: Path) -> None:
    platforms = [word for platform in _WHEEL_PLATFORMS[arch] for word in ("--platform", platform)]
    version = f"{sys.version_info.major}.{sys.version_info.minor}"
    command = [
        sys.executable,
        "-m",
        "pip",
        "download",
        "--quiet",
        "--no-deps",
        "--only-binary=:all:",
        *platforms,
    ]
    done = subprocess.run(
        [*command, "--python-version", version, "--dest", str(to), requirement],
        capture_output=True,
        text=True,
    )
    if done.returncode:
        raise ConfigError(
            Fault(f"pip cannot download {requirement} for {arch}:\n{done.stderr.strip()[-2000:]}")
        )


def _missing(*pairs: str, cmake: bool = True) -> FaultList:
    """Commands that are not there, of command and package alternately."""
    faults = FaultList()
    wanted = dict(zip(pairs[::2], pairs[1::2], strict=True)) | ({"cmake": "cmake"} if cmake else {})
    for command, package in wanted.items():
        if shutil.which(command) is None:
            faults.add(
                f"{command} is not installed",
                remedy=f"install it, on Debian and Ubuntu: apt install {package}",
            )
    return faults


def _files() -> Iterator[Path]:
    for folder in _SOURCES:
        yield from sorted(
            p for p in (sources() / folder).rglob("*") if p.suffix in (".cc", ".h", ".inc", ".txt", ".cmake")
        )
    yield from (sources() / name for name in _SINGLE)


def _key(compiler: str, definitions: dict[str, str]) -> str:
    digest = hashlib.sha256()
    version = subprocess.run([compiler, "--version"], capture_output=True, text=True, check=True).stdout
    digest.update(repr((version, sorted(definitions.items()))).encode())
    for path in _files():
        digest.update(f"{path.relative_to(sources())}\0".encode())
        digest.update(hashlib.sha256(path.read_bytes()).digest())
    return digest.hexdigest()[:16]


def _build(name: str, compiler: str, definitions: dict[str, str]) -> Path:
    """Folder of the built files; a second process waits for the first."""
    package = next((p.compiler_package for p in PROCESSORS.values() if p.compiler == compiler), "g++")
    _missing(compiler, package).raise_if_any(ConfigError)
    target = cache() / f"{name}-{_key(compiler, definitions)}"
    target.parent.mkdir(parents=True, exist_ok=True)
    with _locked(cache() / f"{name}.lock"):
        if not target.is_dir():
            with tempfile.TemporaryDirectory(dir=target.parent) as work:
                _cmake(Path(work), name, definitions)
                _publish(Path(work) / "files", target)
    return target


def _cmake(work: Path, name: str, definitions: dict[str, str]) -> None:
    options = [f"-D{key}={value}" for key, value in {"CMAKE_BUILD_TYPE": "Release", **definitions}.items()]
    source = str(sources() / "targets/board/cross")
    for command in (
        ["cmake", "-S", source, "-B", str(work), *options],
        ["cmake", "--build", str(work), "--parallel", str(os.cpu_count() or 1)],
    ):
        done = subprocess.run(command, capture_output=True, text=True)
        if done.returncode:
            text = (done.stdout + done.stderr).strip()[-3000:]
            raise ConfigError(Fault(f"the build for {name} failed ({' '.join(command[:2])}):\n{text}"))


def _publish(made: Path, to: Path) -> None:
    """Give a finished folder its name, so that nobody sees half of one."""
    if not to.exists():
        made.rename(to)


def _copied(folder: Path, to: Path) -> Path:
    try:
        to.mkdir(parents=True, exist_ok=True)
        for name in (RUNNER, LIBRARY, TVM_MODULE):
            if (folder / name).is_file():
                shutil.copy2(folder / name, to / name)
    except OSError as error:
        raise ConfigError(Fault(f"cannot write: {error.strerror or error}", str(to))) from error
    return to


@contextlib.contextmanager
def _locked(path: Path) -> Iterator[None]:
    with path.open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def _main() -> None:
    import argparse

    from tilewright.errors import TilewrightError

    parser = argparse.ArgumentParser(
        prog="python -m tilewright.runtime.cross", description=(__doc__ or "").split("\n")[0]
    )
    commands = parser.add_subparsers(dest="command", required=True)
    for name, help_text in (("build", "build the board's files"), ("fetch", "download TVM's libraries")):
        command = commands.add_parser(name, help=help_text)
        command.add_argument("arch", choices=ARCHS)
        if name == "build":
            command.add_argument("--to", help="folder to copy them into; default: the cache")
    arguments = parser.parse_args()
    arch = cast(Arch, arguments.arch)
    try:
        if arguments.command == "fetch":
            print(fetch(arch))  # noqa: T201 - a command's result
            return
        files = build(arch, arguments.to)
    except TilewrightError as error:
        parser.exit(2, f"error: {error}\n")
    for path in (files.runner, files.library, files.tvm_module):
        if path is not None:
            print(path)  # noqa: T201 - a command's result


if __name__ == "__main__":
    _main()
