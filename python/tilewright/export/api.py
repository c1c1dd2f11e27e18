"""`tilewright.export`: the folder for a board."""

from __future__ import annotations

import hashlib
import re
import shutil
import tempfile
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import cast

import numpy as np

from tilewright.errors import ConfigError, DataError, Fault, FaultList, PackageError, TilewrightError
from tilewright.evaluation import input_shapes, package_feeds, package_preprocess
from tilewright.export.readme import readme
from tilewright.frontend.dataset import load_input
from tilewright.runtime import Package, Session, cross
from tilewright.runtime.native import library_path
from tilewright.targets.processors import ARCHS, Arch, processor

NATIVE = "native"
"""This machine in place of a board."""
CHOICES = (*ARCHS, NATIVE)
CLASS = "tilewright_board.py"
SUMS = "SHA256SUMS"
README = "README.md"
CHECK = "check"
LABELS = "labels.txt"
HEADERS = "include/tilewright"
CHECK_INPUT = "random:1"
_MARKS = (CLASS, SUMS)
"""Files by which a folder is known as an export."""


@dataclass(frozen=True)
class Exported:
    """A folder for a board.

    Attributes:
        folder: where it is.
        arch: the processor that it is for.
        files: SHA-256 of each file, by its path in the folder.
        sizes: bytes of each.
    """

    folder: Path
    arch: str
    files: Mapping[str, str]
    sizes: Mapping[str, int]


def export(
    package: Package | str | Path,
    to: str | Path,
    *,
    arch: str | None = None,
    with_tvm: bool = False,
    force: bool = False,
) -> Exported:
    """Write a folder with everything that a board needs to run a package; README.md in it has the commands.

    The folder appears whole or not at all.

    Args:
        package: a compiled network, or its file.
        to: the folder, made here; one that exists must be empty.
        arch: "aarch64" (Zynq UltraScale+) or "armv7" (Zynq-7000), by default that of the overlay's board; "native":
            this machine, to try the folder in place.
        with_tvm: also the network as a library for TVM on the board, compiled from the package's quantised model.
        force: replace an earlier export.

    Raises:
        ConfigError: unknown processor; TVM has nothing for it; a tool is missing, or the build fails.
        PackageError: the package's file is damaged, or was stripped and `with_tvm` needs its model.
        DataError: the folder exists, or cannot be written.
    """
    loaded = package if isinstance(package, Package) else Package.load(package)
    folder = Path(to)
    chosen = arch or processor(loaded.overlay.board).name
    _check(loaded, folder, chosen, with_tvm, force)
    try:
        with tempfile.TemporaryDirectory(dir=folder.parent, prefix=f".{folder.name}.") as temporary:
            made = Path(temporary) / folder.name
            made.mkdir()
            found = _fill(loaded, made, chosen, with_tvm)
            _publish(made, folder, Path(temporary) / "replaced")
    except OSError as error:
        text = f"cannot be written: {error.strerror or error}"
        raise DataError(Fault(text, str(folder), "nothing was changed; choose another folder")) from error
    sizes = {name: (folder / name).stat().st_size for name in found}
    return Exported(folder, chosen, found, sizes)


def _check(package: Package, folder: Path, arch: str, with_tvm: bool, force: bool) -> None:
    """Raises everything that is wrong with the wishes, as the error of the first."""
    found: list[tuple[type[TilewrightError], Fault]] = []
    if arch not in CHOICES:
        found.append((ConfigError, Fault(f"expected one of {', '.join(CHOICES)}, found {arch!r}", "--arch")))
    elif arch != NATIVE:
        found += [(ConfigError, fault) for fault in cross.missing_tools(cast(Arch, arch))]
    boards = processor(package.overlay.board).name
    if with_tvm and arch in ARCHS and arch not in _TVM_ARCHS:
        text = f"TVM has no wheel for {arch}"
        found.append((ConfigError, Fault(text, "--with-tvm", "leave it out: the package needs no TVM")))
    elif with_tvm and arch in ARCHS and arch != boards:
        text = f"expected {boards}, the processor of {package.overlay.board.name}, found {arch}"
        found.append((ConfigError, Fault(text, "--arch with --with-tvm", "leave --arch out")))
    if with_tvm:
        try:
            package.require_models("export --with-tvm")
        except PackageError as error:
            found += [(PackageError, fault) for fault in error.faults]
    found += [(DataError, fault) for fault in _folder_faults(folder, force)]
    if found:
        raise found[0][0](*(fault for _, fault in found))


_TVM_ARCHS = ("aarch64",)
"""Processors that TVM has wheels for."""


def _folder_faults(folder: Path, force: bool) -> FaultList:
    """Why an export cannot go there."""
    faults = FaultList()
    if not folder.parent.is_dir():
        faults.add(f"there is no folder {folder.parent}", where=str(folder), remedy="make it first")
    elif folder.is_symlink() or (folder.exists() and not folder.is_dir()):
        faults.add("is no folder", where=str(folder), remedy="choose another name")
    elif folder.is_dir() and (
        there := {p.relative_to(folder).as_posix() for p in folder.rglob("*") if not p.is_dir()}
    ):
        foreign = sorted(there - _exported(folder))
        if foreign:
            rest = f" and {len(foreign) - 3} more" if len(foreign) > 3 else ""
            text = f"holds what no export wrote: {', '.join(foreign[:3])}{rest}"
            faults.add(text, where=str(folder), remedy="choose another folder")
        elif not force:
            faults.add(
                "exists already", where=str(folder), remedy="choose another folder, or replace it by --force"
            )
    return faults


def _exported(folder: Path) -> set[str]:
    """Files of an earlier export."""
    if not all((folder / mark).is_file() for mark in _MARKS):
        return set()
    lines = (folder / SUMS).read_text(encoding="utf-8", errors="replace").splitlines()
    return {SUMS, *(line.partition("  ")[2] for line in lines)}


def _fill(package: Package, folder: Path, arch: str, with_tvm: bool) -> dict[str, str]:
    """Write all files; their hashes by path."""
    name = re.sub(r"[^A-Za-z0-9._-]+", "_", package.name).strip("._-") or "network"
    _runtime(folder, arch, with_tvm)
    package.strip().save(folder / f"{name}.twp")
    shutil.copyfile(Path(__file__).with_name(CLASS), folder / CLASS)
    (folder / CLASS).chmod(0o755)
    if package.labels is not None:
        (folder / LABELS).write_text("".join(f"{label}\n" for label in package.labels), encoding="utf-8")
    if with_tvm:
        _export_tvm(package, arch, folder / f"{name}.so")
    _write_check(package, folder / CHECK)
    text = readme(package, name, arch, folder, with_tvm)
    (folder / README).write_text(text, encoding="utf-8")
    paths = sorted(p for p in folder.rglob("*") if p.is_file())
    sums = {p.relative_to(folder).as_posix(): hashlib.sha256(p.read_bytes()).hexdigest() for p in paths}
    (folder / SUMS).write_text(
        "".join(f"{digest}  {path}\n" for path, digest in sums.items()), encoding="utf-8"
    )
    return sums


def _runtime(folder: Path, arch: str, with_tvm: bool) -> None:
    """Write library, its headers, and program for a processor."""
    if arch == NATIVE:
        paths = {name: library_path(name) for name in (cross.LIBRARY, cross.RUNNER, cross.TVM_MODULE)}
    else:
        files = cross.build(cast(Arch, arch))
        paths = {cross.LIBRARY: files.library, cross.RUNNER: files.runner}
        paths |= {} if files.tvm_module is None else {cross.TVM_MODULE: files.tvm_module}
    for name in paths if with_tvm else (cross.LIBRARY, cross.RUNNER):
        shutil.copyfile(paths[name], folder / name)
    (folder / cross.RUNNER).chmod(0o755)
    (folder / HEADERS).mkdir(parents=True)
    for name in ("package_c.h", "runtime_c.h"):
        shutil.copyfile(cross.sources() / "targets/board/native" / HEADERS / name, folder / HEADERS / name)


def _export_tvm(package: Package, arch: str, path: Path) -> None:
    """Compile the quantised model by TVM to a library with host code and regions together."""
    import onnx
    import tvm

    from tilewright.frontend.relax_import import to_relax
    from tilewright.relay_passes.pipeline import PIPELINE
    from tilewright.target import export_library, target

    _, quantised = package.require_models("export --with-tvm")
    chosen = target(package.overlay.name, host="x86" if arch == NATIVE else "arm")
    model = to_relax(onnx.ModelProto.FromString(quantised))
    export_library(tvm.compile(model, target=chosen, relax_pipeline=PIPELINE), path, chosen)


def _write_check(package: Package, folder: Path) -> None:
    """An input, and what the simulator gives for it: what the board must give too."""
    image = load_input(
        CHECK_INPUT, input_shapes=input_shapes(package), preprocess=package_preprocess(package)
    )
    one = package_feeds(package, image)
    feeds = {name: np.concatenate([array] * package.batch) for name, array in one.items()}
    outputs = Session(package).run(feeds).outputs
    folder.mkdir()
    for kind, arrays in (
        ("input", [feeds[t.name] for t in package.inputs]),
        ("output", list(outputs.values())),
    ):
        for number, array in enumerate(arrays):
            np.save(folder / f"{kind}{number}.npy", array)


def _publish(made: Path, folder: Path, replaced: Path) -> None:
    """Give a finished folder its name; an earlier export goes away, and comes back where that fails."""
    if folder.is_dir() and any(folder.iterdir()):
        folder.rename(replaced)
        try:
            made.rename(folder)
        except OSError:
            replaced.rename(folder)
            raise
    else:
        made.rename(folder)  # POSIX: takes the place of an empty folder
