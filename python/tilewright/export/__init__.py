"""What a person copies to a board: a folder with package, runtime, Python class, README and checksums."""

from __future__ import annotations

from tilewright.export.api import Exported, export

__all__ = ["Exported", "export"]
