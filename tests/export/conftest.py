"""The demo's package, as the tests of the command line have it."""

from __future__ import annotations

from tests.cli.conftest import demo_compiled, demo_package

__all__ = ["demo_compiled", "demo_package"]
