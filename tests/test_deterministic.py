"""Same input, same bytes: under other hash seeds, numbers of threads and in other processes."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest

from tests.cli.commands import DEMO, small_model

SURROUNDINGS = (
    {"PYTHONHASHSEED": "0", "OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1", "TVM_NUM_THREADS": "1"},
    {"PYTHONHASHSEED": "12345", "OMP_NUM_THREADS": "3", "OPENBLAS_NUM_THREADS": "2", "TVM_NUM_THREADS": "2"},
)
DIGITS = (
    str(DEMO / "digits.prototxt"),
    *("--weights", str(DEMO / "digits.caffemodel"), "--mean", "128", "--std", "128"),
    *("--calibration", str(DEMO / "digits_calibration.npz")),
)

CODE = """
import sys
from typer.testing import CliRunner
from tilewright.cli.app import app
for line in sys.stdin.read().split("\\n\\n"):
    result = CliRunner().invoke(app, line.split("\\n"), catch_exceptions=False)
    assert result.exit_code == 0, result.output
    sys.stdout.write(result.stdout)
"""


def outputs(folder: Path, commands: list[list[str]], surroundings: dict[str, str]) -> dict[str, bytes]:
    """Run commands in one process in `folder`: what they wrote and printed, by name."""
    folder.mkdir(parents=True)
    done = subprocess.run(
        [sys.executable, "-c", CODE],
        input="\n\n".join("\n".join(command) for command in commands),
        text=True,
        capture_output=True,
        timeout=600,
        check=True,
        cwd=folder,
        env=os.environ | surroundings,
    )
    return {"printed": done.stdout.encode(), **{p.name: _content(p) for p in sorted(folder.iterdir())}}


def _content(path: Path) -> bytes:
    """A log has its lines in the order in which measurements end."""
    data = path.read_bytes()
    return b"".join(sorted(data.splitlines(keepends=True))) if path.suffix == ".jsonl" else data


def differences(folder: Path, commands: list[list[str]]) -> Iterator[str]:
    """Files, and `printed`, that are not the same in all SURROUNDINGS."""
    first, *others = (outputs(folder / str(i), commands, s) for i, s in enumerate(SURROUNDINGS))
    assert len(first) > 1
    for other in others:
        assert other.keys() == first.keys()
        yield from (name for name in first if first[name] != other[name])


def commands(model: Sequence[str], target: str, *options: str) -> list[list[str]]:
    """From a network to package, plan, report and outputs."""
    compiled = ["compile", *model, "--target", target, "-o", "net.twp", "--save-plan", "plan.json", *options]
    return [
        compiled,
        ["report", "net.twp", "--csv", "net.csv", "--trace", "net.json"],
        ["report", "net.twp", "--json"],
        ["run", "net.twp", "--input", "random:1", "--json"],
    ]


def test_a_small_network(tmp_path: Path) -> None:
    model = small_model(tmp_path / "net.onnx")
    found = commands([str(model), "--calibration", "random:1"], "ultra96-w8")
    assert list(differences(tmp_path / "runs", found)) == []


@pytest.mark.slow
def test_eight_bits(tmp_path: Path) -> None:
    page = ["report", "net.twp", "--html", "net.html"]
    rows = ["supported", *DIGITS[:7], "--target", "ultra96-w8", "--json"]
    assert list(differences(tmp_path / "runs", [*commands(DIGITS, "ultra96-w8"), page, rows])) == []


@pytest.mark.slow
def test_four_bits_with_adaptive_rounding(tmp_path: Path) -> None:
    found = commands(DIGITS, "ultra96-w8", "--bits", "4")
    assert list(differences(tmp_path / "runs", found)) == []


@pytest.mark.slow
def test_a_search(tmp_path: Path) -> None:
    search = ["tune", *DIGITS, "--target", "ultra96-w8", "--trials", "6", "--seed", "3", "--log", "log.jsonl"]
    used = ["compile", *DIGITS, "--target", "ultra96-w8", "--tuned", "log.jsonl", "-o", "net.twp"]
    assert list(differences(tmp_path / "runs", [search, used])) == []
