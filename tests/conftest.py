"""Fixtures shared by all tests."""

from __future__ import annotations

import os
from pathlib import Path

import pytest


@pytest.fixture(scope="session")
def shared_data() -> Path:
    """Models and images that the repository does not hold; tests that need them are skipped without."""
    root = Path(__file__).resolve().parents[1]
    path = Path(os.environ.get("TILEWRIGHT_DATA", root.parent / "shared" / "data"))
    if not path.is_dir():
        pytest.skip(f"shared data not found at {path}")
    return path
