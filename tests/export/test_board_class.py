"""The Python class for boards, against the session of this project: equal results, errors that tell."""

from __future__ import annotations

import ast
import dataclasses
import gc
from pathlib import Path

import numpy as np
import pytest

from tests.runtime import test_session as one
from tilewright.export import tilewright_board as board
from tilewright.export.tilewright_board import Overlay, OverlayError
from tilewright.runtime import Session, native
from tilewright.runtime.device_model import DeviceModel
from tilewright.targets.host_ops import HOST_DTYPES
from tilewright.targets.sim import timing
from tilewright.targets.sim.program import Program

PACKAGE = one._package()
LIBRARY = native.library_path(native._LIBRARY)


@pytest.fixture(scope="module")
def path(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A package's file."""
    found = tmp_path_factory.mktemp("board") / "net.twp"
    PACKAGE.save(found)
    return found


def test_it_has_the_interface_of_the_runtime() -> None:
    assert board.ABI == native.ABI
    assert board.MAX_RANK == native.MAX_RANK
    assert tuple(HOST_DTYPES) == board.DTYPES
    assert board._Stats._fields_ == native.Stats._fields_
    assert board._Tensor._fields_ == native._Tensor._fields_


def test_it_is_python_3_8() -> None:
    tree = ast.parse(Path(board.__file__).read_text(), feature_version=(3, 8))
    imported = {name.name for node in ast.walk(tree) if isinstance(node, ast.Import) for name in node.names}
    imported |= {node.module or "" for node in ast.walk(tree) if isinstance(node, ast.ImportFrom)}
    standard = {
        "__future__",
        "argparse",
        "collections",
        "ctypes",
        "pathlib",
        "sys",
        "threading",
        "time",
        "typing",
    }
    assert imported == standard | {"numpy", "numpy.typing"}  # the last is for type checkers


def test_it_gives_what_a_session_gives(path: Path) -> None:
    session = Session(PACKAGE)
    with Overlay(path, library=LIBRARY) as overlay:
        assert (overlay.name, overlay.overlay) == (PACKAGE.name, PACKAGE.overlay.name)
        assert [tuple(t) for t in overlay.inputs] == [(t.name, t.dtype, t.shape) for t in PACKAGE.inputs]
        assert [tuple(t) for t in overlay.outputs] == [(t.name, t.dtype, t.shape) for t in PACKAGE.outputs]
        for _ in range(3):
            feeds = one._feed()
            expected = session.run(feeds)
            overlay.buffers["x"][:] = feeds["x"]
            for found in (overlay.run(), overlay.run(feeds), overlay.run(feeds["x"])):
                assert list(found) == list(expected.outputs)
                for name, array in expected.outputs.items():
                    assert found[name].dtype == array.dtype
                    np.testing.assert_array_equal(found[name], array)
            assert overlay.counts["instructions"] == expected.counts["instructions"]


def test_results_are_the_callers(path: Path) -> None:
    with Overlay(path, library=LIBRARY) as overlay:
        first = overlay.run(one._feed())
        kept = {name: array.copy() for name, array in first.items()}
        overlay.run(one._feed())
    del overlay
    gc.collect()
    for name, array in first.items():
        np.testing.assert_array_equal(array, kept[name])


def test_strided_inputs(path: Path) -> None:
    x = one._feed()["x"]
    wide = np.zeros((*x.shape[:-1], 2 * x.shape[-1]), np.float32)
    wide[..., ::2] = x
    with Overlay(path, library=LIBRARY) as overlay:
        for name, array in overlay.run(x).items():
            np.testing.assert_array_equal(overlay.run(wide[..., ::2])[name], array)


def test_inputs_that_are_wrong(path: Path) -> None:
    with Overlay(path, library=LIBRARY) as overlay:
        with pytest.raises(OverlayError) as caught:
            overlay.run({"y": np.zeros(3), "x": np.zeros((1, 5, 6, 6))})
        assert caught.value.faults == (
            "unknown input 'y', known are x",
            "input x: expected float32 (1, 5, 6, 6), found float64 (1, 5, 6, 6)",
        )
        with pytest.raises(OverlayError) as caught:
            overlay.run({})
        assert caught.value.faults == ("input x: is missing, expected float32 (1, 5, 6, 6)",)
        overlay.run(one._feed())


def test_packages_devices_and_libraries_that_are_wrong(path: Path, tmp_path: Path) -> None:
    with pytest.raises(OverlayError, match=r"no\.twp: cannot read: No such file or directory$"):
        Overlay(tmp_path / "no.twp", library=LIBRARY)
    damaged = tmp_path / "damaged.twp"
    data = bytearray(path.read_bytes())
    data[-1] ^= 1
    damaged.write_bytes(data)
    with pytest.raises(OverlayError, match=rf"^{damaged}: .*checksum"):
        Overlay(damaged, library=LIBRARY)
    with pytest.raises(OverlayError, match=rf"^{path}: .*\bhal\b"):
        Overlay(path, "hal:9000", library=LIBRARY)
    with pytest.raises(OverlayError, match=rf"^{path}: .*{tmp_path}/uio0"):
        Overlay(path, f"zynq:registers={tmp_path}/uio0,memory={tmp_path}/memory", library=LIBRARY)
    with pytest.raises(OverlayError, match=r"cannot be loaded: .*; copy the whole folder again$"):
        Overlay(path, library=damaged)


def test_closed(path: Path) -> None:
    overlay = Overlay(path, library=LIBRARY)
    overlay.close()
    overlay.close()
    with pytest.raises(OverlayError, match=r"^this overlay is closed: open the package again$"):
        overlay.run(one._feed())


def test_on_a_device_model(path: Path) -> None:
    """The Zynq back end, unchanged: registers and memory are files, and another process has the accelerator."""
    session = Session(PACKAGE)
    cycles = timing.run(Program(one.REGION.stream, one.OVERLAY)).cycles
    with DeviceModel(one.OVERLAY, memory_bytes=1 << 20) as model:
        with Overlay(path, model.uri(timeout_ms=2000), LIBRARY) as overlay:
            for fault in ("", "hang", "error"):
                feeds = one._feed()
                if fault:
                    model.fault(fault)
                    with pytest.raises(OverlayError, match="region net_0"):
                        overlay.run(feeds)
                for name, array in session.run(feeds).outputs.items():
                    np.testing.assert_array_equal(overlay.run(feeds)[name], array)
                assert overlay.counts["cycles"] == cycles
        other = dataclasses.replace(one.OVERLAY, act_kib=one.OVERLAY.act_kib // 2)
        model.load(other)
        with pytest.raises(OverlayError, match=rf"^{path}: .*act_kib: 384 in the package, 192 on the device"):
            Overlay(path, model.uri(), LIBRARY)
        model.kill()
