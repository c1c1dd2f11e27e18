"""Running packages: the binding to the simulators and the interpreter of host operators."""

from __future__ import annotations

from tilewright.runtime.package import Package
from tilewright.runtime.session import BACKENDS, Backend, RunResult, Session, run

__all__ = ["BACKENDS", "Backend", "Package", "RunResult", "Session", "run"]
