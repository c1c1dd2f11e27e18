"""Networks for tests and benchmarks, with seeded weights."""

from __future__ import annotations

from .seeded import LIGHT_MODELS, light, seed_weights

__all__ = ["LIGHT_MODELS", "light", "seed_weights"]
