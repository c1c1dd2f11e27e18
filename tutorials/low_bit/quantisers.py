"""Quantisers that can be trained through: DoReFa weights, PACT activations, signs.

Rounding has no useful derivative; the straight-through estimator (Bengio et al., arXiv:1308.3432) takes that of the
identity. Values forward are those of the exported network, scales with short mantissas included.
"""

from __future__ import annotations

import torch
from torch import nn

from tilewright.zoo.fold import ACTIVATION_MANTISSA
from tilewright.zoo.quantised_form import weight_codes


def straight(exact: torch.Tensor, rounded: torch.Tensor) -> torch.Tensor:
    """`rounded` forward, the derivative of `exact` backward."""
    return exact + (rounded - exact).detach()


def dorefa_weights(weights: torch.Tensor, bits: int) -> torch.Tensor:
    """The codes of `tilewright.zoo.fold.dorefa`, over 2^(bits-1): -1..1 (Zhou et al., arXiv:1606.06160)."""
    if bits == 1:
        return straight(weights, torch.where(weights >= 0, 1.0, -1.0))
    bent = torch.tanh(weights)
    bent = bent / bent.abs().max()
    least, most = weight_codes(bits)
    return straight(bent, (bent * -least).round().clamp(least, most) / -least)


def power_of_two_weights(weights: torch.Tensor) -> torch.Tensor:
    """Eight bits with one power of two as scale, as `fold` writes a dense layer."""
    scale = 2.0 ** torch.ceil(torch.log2(weights.detach().abs().max() / 127))
    return straight(weights, (weights / scale).round() * scale)


def short(values: torch.Tensor) -> torch.Tensor:
    """`tilewright.zoo.fold.short` with the mantissas of activations."""
    mantissa, exponent = torch.frexp(values)
    steps = 2.0**ACTIVATION_MANTISSA
    return straight(values, torch.ldexp((mantissa * steps).round() / steps, exponent))


class Pact(nn.Module):
    """PACT: activations in 2^bits steps of 0..clip, and the clip is learned (Choi et al., arXiv:1805.06085).

    Values above the clip raise it by their derivative; the regularisation in the loss keeps it down.
    """

    def __init__(self, bits: int, clip: float) -> None:
        super().__init__()
        self.steps = 2**bits - 1
        self.clip = nn.Parameter(torch.tensor(clip))

    @property
    def scale(self) -> torch.Tensor:
        """One step."""
        return short(self.clip / self.steps)

    def forward(self, values: torch.Tensor) -> torch.Tensor:
        """Any shape."""
        scale = self.scale
        # The minimum hands derivatives to the clip where values are above it, as in the paper's equation 2.
        clipped = torch.minimum(torch.relu(values), scale * self.steps)
        return straight(clipped, (clipped / scale).round() * scale)


class Sign(nn.Module):
    """-1 or 1, and 1 for zero; derivatives pass where |x| <= 1 (Courbariaux et al., arXiv:1602.02830)."""

    scale = torch.tensor(1.0)

    def forward(self, values: torch.Tensor) -> torch.Tensor:
        """Any shape."""
        return straight(values.clamp(-1, 1), torch.where(values >= 0, 1.0, -1.0))
