"""Every level of a network on the same input: `verify` names the first level and layer that is wrong."""

from __future__ import annotations

from tilewright.verify.api import verify
from tilewright.verify.result import LEVELS, Cell, Difference, LevelFault, Row, Verification

__all__ = ["LEVELS", "Cell", "Difference", "LevelFault", "Row", "Verification", "verify"]
