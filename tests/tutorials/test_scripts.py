"""Every tutorial runs: in short here, as a reader would run it in the long suite."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tilewright.docs.notebooks import scripts

TUTORIALS = scripts(Path(__file__).resolve().parents[2] / "tutorials")


def run(script: Path, folder: Path, **environment: str) -> None:
    done = subprocess.run(
        [sys.executable, str(script)],
        cwd=folder,
        env=os.environ | {"MPLBACKEND": "agg"} | environment,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert list(folder.iterdir()) == [], "a tutorial leaves nothing behind"


def test_they_are_numbered_without_a_gap() -> None:
    assert [int(script.name[:2]) for script in TUTORIALS] == list(range(1, len(TUTORIALS) + 1))


@pytest.mark.parametrize("script", TUTORIALS, ids=lambda script: script.stem)
def test_in_short(script: Path, tmp_path: Path) -> None:
    run(script, tmp_path, TILEWRIGHT_QUICK="1")


@pytest.mark.slow
@pytest.mark.parametrize("script", TUTORIALS, ids=lambda script: script.stem)
def test_in_full(script: Path, tmp_path: Path) -> None:
    run(script, tmp_path)
