"""Networks for tests, studies and benchmarks, with seeded or given weights."""

from __future__ import annotations

from tilewright.zoo.dirac_delta import diracdeltanet, diracdeltanet_small
from tilewright.zoo.light import LIGHT_MODELS, light
from tilewright.zoo.shufflenet import shufflenet_v2

__all__ = ["LIGHT_MODELS", "diracdeltanet", "diracdeltanet_small", "light", "shufflenet_v2"]
