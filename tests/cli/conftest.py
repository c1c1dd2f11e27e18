"""The demo as a package, compiled once."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.cli.commands import DEMO, DEMO_MODEL, TARGET, document, invoke


@pytest.fixture(scope="session")
def demo_compiled(tmp_path_factory: pytest.TempPathFactory) -> tuple[Path, dict[str, object]]:
    """The package's file and what `compile --json` said."""
    path = tmp_path_factory.mktemp("demo") / "digits.twp"
    calibration = ("--calibration", str(DEMO / "digits_calibration.npz"))
    return path, document(invoke("compile", *DEMO_MODEL, *TARGET, *calibration, "-o", path, "--json"))


@pytest.fixture(scope="session")
def demo_package(demo_compiled: tuple[Path, dict[str, object]]) -> Path:
    """The package's file."""
    return demo_compiled[0]
