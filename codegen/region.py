"""What the code generator makes of a region; defined in `targets/region.py`, for the runtime reads it too."""

from __future__ import annotations

from tilewright.targets.region import CompiledRegion, MapLayout

__all__ = ["CompiledRegion", "MapLayout"]
