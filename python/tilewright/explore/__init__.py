"""Co-design: which overlay a network would like best of those that a board's part has room for."""

from tilewright.explore.api import Exploration, Point, Refused, explore
from tilewright.explore.front import OBJECTIVES, Objective

__all__ = ["OBJECTIVES", "Exploration", "Objective", "Point", "Refused", "explore"]
