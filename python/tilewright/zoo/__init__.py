"""Networks for tests, studies and benchmarks, with seeded or given weights."""

from __future__ import annotations

from .dirac_delta import diracdeltanet, diracdeltanet_small
from .seeded import LIGHT_MODELS, light, seed_weights
from .shufflenet import shufflenet_v2

__all__ = ["LIGHT_MODELS", "diracdeltanet", "diracdeltanet_small", "light", "seed_weights", "shufflenet_v2"]
