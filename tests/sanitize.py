"""Build the C++ under sanitizers and run tests on it: `make sanitize`.

    python -m tests.sanitize memory                        # faults of memory and undefined behaviour
    python -m tests.sanitize threads                       # data races
    python -m tests.sanitize memory -n 2 tests/networks    # other tests than its own; words go to pytest

A finding ends its process. All are collected in a folder as well and printed at the end, so those are seen too whose
process was killed or talks to nobody.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path

from tilewright.runtime import cross

ROOT = Path(__file__).resolve().parents[1]


@dataclass(frozen=True)
class Kind:
    """What to look for.

    Attributes:
        sanitizers: as for -fsanitize=.
        library: the runtime of the first; it has to be loaded before everything else.
        options: its settings, by environment variable.
        tests: those that it is worth it for, without the slow ones.
    """

    sanitizers: str
    library: str
    options: dict[str, str]
    tests: tuple[str, ...]


KINDS = {
    # Python does not give back everything at its end; test_sanitized.py looks for leaks of the programs.
    "memory": Kind(
        cross.SANITIZERS,
        "libasan.so",
        {
            "ASAN_OPTIONS": "detect_leaks=0:allocator_may_return_null=1:detect_stack_use_after_return=1",
            "UBSAN_OPTIONS": "print_stacktrace=1",
        },
        (
            "tests/targets",
            "tests/runtime",
            "tests/export/test_board_class.py",
            "tests/codegen/test_batch.py",
            "tests/codegen/test_byoc.py",
            "tests/codegen/test_detection_output.py",
            "tests/codegen/test_host_program.py",
            "tests/codegen/test_tvm_compile.py",
        ),
    ),
    "threads": Kind(
        "thread",
        "libtsan.so",
        {"TSAN_OPTIONS": "halt_on_error=1"},
        (
            "tests/runtime/test_device.py",
            "tests/runtime/test_sanitized.py",
            "tests/runtime/test_session.py",
            "tests/runtime/test_threads.py",
            "tests/codegen/test_byoc.py",
        ),
    ),
}
MARKS = ("ERROR: AddressSanitizer", "ERROR: LeakSanitizer", "runtime error: ", "WARNING: ThreadSanitizer")
"""What a finding says, and other remarks of the sanitizers do not."""


def build(kind: Kind, to: Path) -> int:
    """Install this project's compiled files to a folder, built with the sanitizers; gives pip's exit code."""
    definitions = {"TILEWRIGHT_SANITIZE": kind.sanitizers, "CMAKE_CXX_FLAGS": "-O1"}
    options = [f"-Ccmake.define.{name}={value}" for name, value in definitions.items()]
    options += ["-Ccmake.build-type=Debug", f"-Cbuild-dir={to}-objects"]
    pip = [sys.executable, "-m", "pip", "install", "--quiet", "--no-deps", "--upgrade", "--target", str(to)]
    return subprocess.run([*pip, *options, str(ROOT)]).returncode


def environment(kind: Kind, installed: Path, findings: Path) -> dict[str, str]:
    """Variables with which Python takes those files for the project's, and a finding is written to a folder."""
    compiler = os.environ.get("CXX", "g++")
    libraries = [
        subprocess.run(
            [compiler, f"-print-file-name={name}"], capture_output=True, text=True, check=True
        ).stdout.strip()
        for name in (kind.library, "libstdc++.so")
    ]
    logged = {name: f"{words}:log_path={findings / 'process'}" for name, words in kind.options.items()}
    path = os.pathsep.join([str(ROOT / "python"), str(installed)])
    common = {"LD_PRELOAD": " ".join(libraries), "PYTHONPATH": path, "TILEWRIGHT_TEST_SLOWNESS": "4"}
    return os.environ | logged | common


def found(findings: Path) -> list[str]:
    """The texts of the findings."""
    texts = [path.read_text(errors="replace") for path in sorted(findings.iterdir())]
    return [text for text in texts if any(mark in text for mark in MARKS)]


def main(name: str, *words: str) -> int:
    kind = KINDS[name]
    installed, findings = ROOT / f"build/sanitize-{name}", ROOT / f"build/sanitize-{name}-findings"
    if code := build(kind, installed):
        return code
    shutil.rmtree(findings, ignore_errors=True)
    findings.mkdir()
    tests = () if any((ROOT / word.split("::")[0]).exists() for word in words) else kind.tests
    command = [sys.executable, "-m", "pytest", "-m", "not slow", *words, *tests]
    code = subprocess.run(command, cwd=ROOT, env=environment(kind, installed, findings)).returncode
    texts = found(findings)
    sys.stdout.write("\n".join([*texts, f"{kind.sanitizers}: {len(texts)} findings\n"]))
    return code or min(1, len(texts))


if __name__ == "__main__":
    if len(sys.argv) < 2 or sys.argv[1] not in KINDS:
        sys.exit(f"usage: python -m tests.sanitize {'|'.join(KINDS)} [WORDS OF PYTEST..]")
    sys.exit(main(*sys.argv[1:]))
