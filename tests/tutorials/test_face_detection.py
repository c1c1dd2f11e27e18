"""The tutorial on face detection runs, and its pictures show faces."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from tilewright.frontend.pixels import read_image

SCRIPT = Path(__file__).resolve().parents[2] / "tutorials" / "10_face_detection.py"


def _run(data: Path, *arguments: str) -> str:
    command = [sys.executable, "-W", "error", str(SCRIPT), *arguments]
    environment = {**os.environ, "TILEWRIGHT_DATA": str(data)}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_without_data_it_says_so(tmp_path: Path) -> None:
    assert _run(tmp_path) == f"no models in {tmp_path}: name the folder by TILEWRIGHT_DATA\n"


@pytest.mark.slow
def test_quick(shared_data: Path, tmp_path: Path) -> None:
    text = _run(shared_data, "--quick", "--to", str(tmp_path))
    assert re.findall(r"^(\w+, test\d\.jpg: \d+ faces)", text, re.M) == [
        "UltraFace, test1.jpg: 2 faces",
        "UltraFace, test2.jpg: 1 faces",
        "MTCNN, test1.jpg: 2 faces",
        "MTCNN, test2.jpg: 1 faces",
    ]
    assert text.count("images/s") == 3
    for name in ("test1", "test2"):
        original = read_image(shared_data / "caffe" / "mtcnn" / f"{name}.jpg")
        for kind in ("ultraface", "mtcnn"):
            assert read_image(tmp_path / f"{kind}_{name}.png").size == original.size
