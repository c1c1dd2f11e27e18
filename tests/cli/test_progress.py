"""Progress bars are drawn on a terminal, on stderr, and nowhere else."""

from __future__ import annotations

import os
import pty
import subprocess
import sys
from pathlib import Path

import numpy as np

from tests.cli.commands import DEMO


def on_terminal(*arguments: str | Path) -> tuple[str, str]:
    """Run a command whose stderr is a terminal; stdout and what the terminal got."""
    parent, child = pty.openpty()
    command = [sys.executable, "-m", "tilewright", *(str(a) for a in arguments)]
    environment = os.environ | {"TERM": "xterm", "COLUMNS": "100"}
    with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=child, env=environment) as running:
        os.close(child)
        shown = bytearray()
        try:
            while piece := os.read(parent, 4096):
                shown += piece
        except OSError:  # the terminal's way to say that the other side is closed
            pass
        assert running.stdout is not None
        out = running.stdout.read().decode()
    os.close(parent)
    assert running.returncode == 0, shown.decode()
    return out, shown.decode()


def test_evaluation_shows_how_far_it_is(demo_package: Path, tmp_path: Path) -> None:
    test = np.load(DEMO / "digits_test.npz")
    np.savez(tmp_path / "some.npz", images=test["images"][::4], labels=test["labels"][::4])
    out, shown = on_terminal("evaluate", demo_package, "--data", tmp_path / "some.npz", "--json")
    assert out.startswith('{\n  "schema": 1,\n  "images": 100')
    assert "evaluating" in shown and "/100" in shown


def test_calibration_shows_how_far_it_is(tmp_path: Path) -> None:
    arguments = ("--target", "ultra96-w8", "--calibration", DEMO / "digits_calibration.npz")
    out, shown = on_terminal(
        "compile", DEMO / "digits.onnx", *arguments, "-o", tmp_path / "net.twp", "--json"
    )
    assert out.startswith('{\n  "schema": 1,\n  "accelerator_macs"')
    assert "calibrating" in shown
