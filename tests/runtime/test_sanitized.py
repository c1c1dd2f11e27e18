"""`make sanitize` sees what it is there to see, and the programs give back what they took."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from tests.runtime import corpus

from tilewright.runtime import Session, cross
from tilewright.runtime.device_model import EXECUTABLE, DeviceModel
from tilewright.runtime.native import library_path

LIBRARY = "libtilewright_runtime.so"
COMPILED = (LIBRARY, "libtilewright_sim.so", "libtilewright_tvm.so", cross.RUNNER, EXECUTABLE)
sanitized = pytest.mark.skipif("ASAN_OPTIONS" not in os.environ, reason="of the run under `make sanitize`")
threads = pytest.mark.skipif("TSAN_OPTIONS" not in os.environ, reason="of the run under `make sanitize`")

FAULTS = {
    # The last byte of the file, which the checksum reads, is not there.
    "heap-buffer-overflow": """
memory = (ctypes.c_char * (len(data) - 1)).from_buffer_copy(data[:-1])
library.tw_package_open(Bytes(ctypes.addressof(memory), len(data)), ctypes.byref(package), error)
""",
    # After its end; the name lay in it.
    "heap-use-after-free": """
library.tw_package_open(Bytes(ctypes.cast(data, ctypes.c_void_p).value, len(data)), ctypes.byref(package), error)
library.tw_package_close(package)
library.tw_package_name(package)
""",
    # An int32 is written where none may lie.
    "misaligned address": """
error = ctypes.c_void_p(ctypes.addressof(room) + 1)
library.tw_package_open(Bytes(ctypes.cast(data, ctypes.c_void_p).value, len(data)), ctypes.byref(package), error)
""",
}
SCRIPT = """
import ctypes, sys
from pathlib import Path

class Bytes(ctypes.Structure):
    _fields_ = (("data", ctypes.c_void_p), ("size", ctypes.c_uint64))

library, data = ctypes.CDLL(sys.argv[1]), Path(sys.argv[2]).read_bytes()
package, room = ctypes.c_void_p(), ctypes.create_string_buffer(4096)
error = ctypes.c_void_p(ctypes.addressof(room))
"""


def _environment(**options: object) -> dict[str, str]:
    """This process's, with other options of the sanitizers; findings go to stderr."""
    words = ":".join(f"{name}={value}" for name, value in {**options, "log_path": "stderr"}.items())
    return os.environ | {
        name: f"{os.environ.get(name, '')}:{words}" for name in ("ASAN_OPTIONS", "UBSAN_OPTIONS")
    }


@sanitized
@pytest.mark.parametrize("name", COMPILED)
def test_what_runs_is_instrumented(name: str) -> None:
    assert b"__asan_init" in library_path(name).read_bytes()


@sanitized
@pytest.mark.parametrize("found", FAULTS)
def test_a_fault_of_the_library_ends_the_process(found: str, tmp_path: Path) -> None:
    corpus.write(tmp_path)
    words = [
        sys.executable,
        "-c",
        SCRIPT + FAULTS[found],
        str(library_path(LIBRARY)),
        str(tmp_path / "wide.twp"),
    ]
    done = subprocess.run(words, env=_environment(), capture_output=True, text=True, timeout=60)
    assert done.returncode != 0
    assert found in done.stderr


@threads
def test_a_data_race_ends_the_process() -> None:
    """Two threads in one session, which its interface forbids."""
    script = """
import threading
import numpy as np
from tests.runtime import corpus
from tilewright.runtime import Session
session = Session(corpus.packages()["wide"])
feeds, both = {"x": np.zeros((1, 20, 6, 6), np.float32)}, threading.Barrier(2)
def work():
    both.wait()
    for _ in range(200):
        session.run(feeds)
pair = [threading.Thread(target=work) for _ in range(2)]
[one.start() for one in pair], [one.join() for one in pair]
"""
    options = f"{os.environ['TSAN_OPTIONS']}:log_path=stderr"
    done = subprocess.run(
        [sys.executable, "-c", script],
        env=os.environ | {"TSAN_OPTIONS": options},
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode != 0
    assert "WARNING: ThreadSanitizer: data race" in done.stderr


@pytest.mark.parametrize("name", ["wide", "batch", "packed", "operators"])
def test_the_runner_gives_back_its_memory(name: str, tmp_path: Path) -> None:
    """Under sanitizers what it has not given back is an error."""
    corpus.write(tmp_path)
    (tensor,) = corpus.packages()[name].inputs
    np.save(tmp_path / "x.npy", np.zeros(tensor.shape, np.float32))
    words = [
        library_path(cross.RUNNER),
        tmp_path / f"{name}.twp",
        tmp_path / "x.npy",
        "--output",
        tmp_path,
        "--repeat",
        "3",
    ]
    done = subprocess.run(
        list(map(str, words)), env=_environment(detect_leaks=1), capture_output=True, text=True, timeout=60
    )
    assert (done.returncode, done.stderr) == (0, "")


def test_the_device_model_gives_back_its_memory() -> None:
    """It ends with its stdin, by itself."""
    words = [
        f"{name}={value}"
        for name, value in _environment(detect_leaks=1).items()
        if name.endswith("SAN_OPTIONS")
    ]
    with DeviceModel(corpus.OVERLAY, memory_bytes=1 << 20, launcher=["env", *words]) as model:
        feeds = {"x": np.zeros((1, 20, 6, 6), np.float32)}
        with Session(corpus.packages()["wide"], model.uri()) as session:
            for _ in range(3):
                session.run(feeds)
        process = model._process
        assert process is not None
        _, said = process.communicate(timeout=60)
        assert (process.returncode, said) == (0, "")
