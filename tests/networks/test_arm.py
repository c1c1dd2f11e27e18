"""The same network here, in a library of TVM in a fresh process, and on emulated Arms, with and without TVM."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tvm
from numpy.typing import NDArray
from tests.networks.store import Store

import tilewright as tw
from tilewright.evaluation import package_feeds
from tilewright.runtime import cross
from tilewright.runtime.cross import BoardFiles
from tilewright.runtime.device_model import DeviceModel
from tilewright.runtime.native import library_path
from tilewright.target import export_library, target
from tilewright.targets.processors import ARCHS, PROCESSORS, Arch

Arrays = dict[str, NDArray[Any]]
OVERLAY = "ultra96-w8"
NETS = [
    pytest.param(name, id=name, marks=pytest.mark.slow)
    for name in ("demo", "resnet8", "det3", "squeezenet_v1.1")
]
every_net = pytest.mark.parametrize("network", NETS, indirect=True)


@pytest.fixture(scope="session")
def files() -> Callable[[Arch], BoardFiles]:
    """Builds for a processor; skips where the tools are missing."""

    def make(arch: Arch) -> BoardFiles:
        missing = cross.missing_tools(arch, emulator=True)
        if len(missing):
            pytest.skip("; ".join(str(fault) for fault in missing))
        return cross.build(arch)

    return make


def _feeds(store: Store, network: str) -> tuple[tw.Package, Arrays]:
    package = store.package(network, OVERLAY)
    feeds, _ = next(iter(store.case(network).evaluation(1)))
    return package, package_feeds(package, feeds)


def _run_files(
    runner: list[str], package: tw.Package, feeds: Arrays, folder: Path, device: str = "sim"
) -> Arrays:
    """Outputs of `tilewright-run` on a package of which only the stripped file is there."""
    package.strip().save(folder / "net.twp")
    words = []
    for number, (name, array) in enumerate(feeds.items()):
        np.save(folder / f"{number}.npy", array)
        words.append(f"{name}={folder / f'{number}.npy'}")
    command = [*runner, str(folder / "net.twp"), *words, "--output", str(folder / "out"), "--device", device]
    done = subprocess.run(command, capture_output=True, text=True, timeout=300)
    assert (done.returncode, done.stderr) == (0, "")
    names = [line.split()[1] for line in done.stdout.splitlines() if line.startswith("output ")]
    paths = [line.split()[-1] for line in done.stdout.splitlines() if line.startswith("output ")]
    return {name: np.load(path) for name, path in zip(names, paths, strict=True)}


def _assert_equal(found: Arrays, expected: Arrays) -> None:
    assert list(found) == list(expected)
    for name, array in expected.items():
        assert found[name].dtype == array.dtype
        np.testing.assert_array_equal(found[name], array, err_msg=name)


@pytest.mark.parametrize("network", ["demo"], indirect=True)
def test_the_runner_gives_what_a_session_gives(network: str, store: Store, tmp_path: Path) -> None:
    package, feeds = _feeds(store, network)
    found = _run_files([str(library_path(cross.RUNNER))], package, feeds, tmp_path)
    _assert_equal(found, tw.Session(package).run(feeds).outputs)


@pytest.mark.parametrize("arch", ARCHS)
@every_net
def test_packages_on_arm(
    network: str, arch: Arch, store: Store, files: Callable[[Arch], BoardFiles], tmp_path: Path
) -> None:
    package, feeds = _feeds(store, network)
    emulator = shutil.which(PROCESSORS[arch].emulator)
    runner = files(arch).runner
    found = _run_files([str(emulator), str(runner)], package, feeds, tmp_path)
    _assert_equal(found, tw.Session(package).run(feeds).outputs)


@pytest.mark.parametrize("network", ["demo"], indirect=True)
def test_the_runner_drives_a_device(network: str, store: Store, tmp_path: Path) -> None:
    package, feeds = _feeds(store, network)
    with DeviceModel(package.overlay) as model:
        found = _run_files([str(library_path(cross.RUNNER))], package, feeds, tmp_path, model.uri())
        assert model.launches == len(package.regions)
    _assert_equal(found, tw.Session(package).run(feeds).outputs)


@pytest.mark.parametrize("arch", ARCHS)
@every_net
def test_the_zynq_back_end_on_arm(
    network: str, arch: Arch, store: Store, files: Callable[[Arch], BoardFiles], tmp_path: Path
) -> None:
    """The board's own program against the device model of this machine."""
    package, feeds = _feeds(store, network)
    with DeviceModel(package.overlay) as model:
        runner = [PROCESSORS[arch].emulator, str(files(arch).runner)]
        found = _run_files(runner, package, feeds, tmp_path, model.uri())
        assert model.launches == len(package.regions)
    _assert_equal(found, tw.Session(package).run(feeds).outputs)


def _library(store: Store, network: str, host: str, path: Path) -> None:
    chosen = tvm.target.Target(f"tilewright/{OVERLAY}") if host == "arm" else target(OVERLAY)
    module = store.quantised(network).relax()
    export_library(tvm.compile(module, chosen, relax_pipeline="tilewright"), path, chosen)


@pytest.fixture(scope="session")
def here(store: Store, tmp_path_factory: pytest.TempPathFactory) -> Callable[[str], list[NDArray[Any]]]:
    """Outputs of the exported library in a fresh process of this machine."""
    known: dict[str, list[NDArray[Any]]] = {}

    def run(network: str) -> list[NDArray[Any]]:
        if network not in known:
            folder = tmp_path_factory.mktemp("here")
            _, feeds = _feeds(store, network)
            (array,) = feeds.values()
            np.save(folder / "x.npy", array)
            _library(store, network, "x86", folder / "net.so")
            subprocess.run([sys.executable, "-c", FRESH, str(folder)], check=True, timeout=300)
            with np.load(folder / "y.npz") as found:
                known[network] = [found[key] for key in sorted(found.files, key=lambda k: int(k[4:]))]
        return known[network]

    return run


FRESH = """
import sys, numpy as np, tvm
import tilewright
folder = sys.argv[1]
vm = tvm.relax.VirtualMachine(tvm.runtime.load_module(folder + '/net.so'), tvm.cpu())
y = vm['main'](tvm.runtime.tensor(np.load(folder + '/x.npy')))
np.savez(folder + '/y.npz', *(t.numpy() for t in ([y] if hasattr(y, 'numpy') else y)))
"""


@every_net
def test_an_exported_library_in_a_fresh_process(
    network: str, store: Store, here: Callable[[str], list[NDArray[Any]]]
) -> None:
    package, feeds = _feeds(store, network)
    expected = tw.Session(package).run(feeds).outputs
    for array, (name, other) in zip(here(network), expected.items(), strict=True):
        np.testing.assert_array_equal(array, other, err_msg=name)


@pytest.fixture(scope="session")
def driver(
    files: Callable[[Arch], BoardFiles], tmp_path_factory: pytest.TempPathFactory
) -> Callable[..., list[bytes]]:
    """Runs `main` of an aarch64 library on float32 values; gives the bytes of its outputs."""
    built = files("aarch64")
    libraries = cross.tvm_libraries("aarch64")
    if libraries is None:
        pytest.skip("TVM's aarch64 libraries are not there: python -m tilewright.runtime.cross fetch aarch64")
    folder = tmp_path_factory.mktemp("driver")
    arm, program = PROCESSORS["aarch64"], folder / "tvm_driver"
    include = tvm_ffi_include()
    # Without optimisation: Debian's g++ 12.2 for aarch64 crashed at -O2 on code like this.
    options = [
        "-std=c++17",
        "-O0",
        f"-I{include}",
        f"-L{libraries}",
        "-Wl,--no-as-needed,--allow-shlib-undefined",
    ]
    source = str(Path(__file__).parent / "tvm_driver.cc")
    names = ["-ltvm_runtime", "-ltvm_ffi", "-ldl"]
    subprocess.run([arm.compiler, *options, source, "-o", str(program), *names], check=True, timeout=300)

    def run(library: Path, array: NDArray[Any]) -> list[bytes]:
        array.astype(np.float32).tofile(library.with_suffix(".in"))
        shape = [str(n) for n in array.shape]
        files_of_run = [
            str(built.tvm_module),
            str(library),
            str(library.with_suffix(".in")),
            str(library.with_suffix("")),
        ]
        command = [
            arm.emulator,
            "-L",
            arm.root,
            "-E",
            f"LD_LIBRARY_PATH={libraries}",
            str(program),
            *files_of_run,
            *shape,
        ]
        environment = {key: value for key, value in os.environ.items() if key != "LD_LIBRARY_PATH"}
        done = subprocess.run(command, capture_output=True, text=True, timeout=300, env=environment)
        assert (done.returncode, done.stderr) == (0, "")
        outputs = sorted(library.parent.glob(f"{library.stem}.[0-9]*"), key=lambda p: int(p.suffix[1:]))
        return [path.read_bytes() for path in outputs]

    return run


def tvm_ffi_include() -> str:
    """Folder of tvm_ffi's headers."""
    from tvm_ffi import libinfo

    return str(libinfo.find_include_path())


@every_net
def test_an_exported_library_on_arm(
    network: str,
    store: Store,
    here: Callable[[str], list[NDArray[Any]]],
    driver: Callable[..., list[bytes]],
    tmp_path: Path,
) -> None:
    _, feeds = _feeds(store, network)
    (array,) = feeds.values()
    _library(store, network, "arm", tmp_path / "net.so")
    found = driver(tmp_path / "net.so", array)
    assert [np.frombuffer(data, np.float32).tolist() for data in found] == [
        y.ravel().tolist() for y in here(network)
    ]
