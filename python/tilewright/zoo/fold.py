"""From a network trained with quantisers, whose BatchNormalization is still apart, to integers and scales.

A channel of a convolution of codes q with input scale sx is, with BatchNormalization,

    y = gamma (sx sum(q x) - mean) / sigma + beta = sx sw (sum(q x) + b),   sw = gamma / sigma,
                                                                            b = (beta - mean sw) / (sx sw)

and b is rounded to an integer. Then sw is rounded, which changes y by at most a 32nd of itself, to a mantissa of 5 bits
times the odd part of the result's scale, so that the machine's multiplier is exact (`tilewright.quantize.exact`).
Activations' scales have mantissas of 3 bits, so float32 sums are exact where their integers stay below 11,000.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import ArrayLike, NDArray

from tilewright.errors import ConfigError, FaultList
from tilewright.quantize.exact import odd_part
from tilewright.zoo.form import Bits, Weights
from tilewright.zoo.layers import EPSILON, Conv, Dense, Network
from tilewright.zoo.quantised_form import check_bits, result_scale, weight_bits, weight_codes

Floats = NDArray[np.floating]
ACTIVATION_MANTISSA = 3
WEIGHT_MANTISSA = 5


def dorefa(weights: Floats, bits: int) -> NDArray[np.int8]:
    """Weights as codes: tanh(w) / max |tanh(w)| in 2^b levels (Zhou et al., DoReFa-Net, arXiv:1606.06160).

    The levels are -2^(b-1)..2^(b-1)-1, with a zero among them, in place of odd ones, as DiracDeltaNet's authors do; one
    bit is the sign.
    """
    if bits == 1:
        return np.where(weights >= 0, 1, -1).astype(np.int8)
    bent = np.tanh(weights.astype(np.float64))
    bent /= max(float(np.abs(bent).max()), 1e-12)
    least, most = weight_codes(bits)
    return np.asarray(np.clip(np.rint(bent * -least), least, most), np.int8)


def short(values: ArrayLike, bits: int) -> NDArray[np.float32]:
    """The nearest numbers with mantissas of `bits` bits.

    >>> short([0.3, 1.0, 5.2], 3).tolist()
    [0.3125, 1.0, 5.0]
    """
    mantissa, exponent = np.frexp(np.asarray(values, np.float64))
    return np.asarray(np.ldexp(np.rint(mantissa * 2**bits) / 2**bits, exponent), np.float32)


def fold(network: Network, trained: Weights, bits: Bits) -> Weights:
    """Return the integer weights of `quantised_form.py`.

    Args:
        trained: `<conv>.weight` int8 codes, `<conv>.gamma`, `.beta`, `.mean`, `.variance` of BatchNormalization behind
            the convolution of codes; `<dense>.weight`, `.bias` float32; `<quantiser>.scale`, `<dense>.scale` float32.

    Raises:
        ConfigError: a factor gamma is not positive: the code -2^(b-1) has no counterpart to turn the sign with.
    """
    check_bits(bits)
    found = {name: array for name, array in trained.items() if name.endswith(".scale")}
    faults = FaultList()
    for layer in network.weighted:
        source = float(result_scale(network, trained, layer.bottom, bits))
        codes, exact, bias = _conv(layer, trained) if isinstance(layer, Conv) else _dense(layer, trained)
        if not (exact > 0).all():
            faults.add(
                f"expected gamma > 0, found {float(trained[f'{layer.name}.gamma'].min()):g}", where=layer.name
            )
            continue
        assert weight_bits(network, layer, bits) == 8 or np.abs(codes).max() <= 2 ** (bits - 1)
        found[f"{layer.name}.weight"] = codes
        odd = odd_part(result_scale(network, trained, layer.name, bits))
        found[f"{layer.name}.weight_scale"] = odd * short(exact / odd, WEIGHT_MANTISSA)
        steps = bias / (source * exact)
        # A sign asks whether sum + b >= 0, for which the fraction of b does not matter but must not be rounded up.
        signs = bits == 1 and isinstance(layer, Conv)
        found[f"{layer.name}.bias"] = (np.floor(steps) if signs else np.rint(steps)).astype(np.int32)
    faults.raise_if_any(ConfigError)
    return found


def _conv(layer: Conv, trained: Weights) -> tuple[NDArray[np.int8], Floats, Floats]:
    gamma, beta, mean, variance = (
        trained[f"{layer.name}.{part}"].astype(np.float64) for part in ("gamma", "beta", "mean", "variance")
    )
    exact = gamma / np.sqrt(variance + EPSILON)
    return (
        trained[f"{layer.name}.weight"].astype(np.int8),
        exact,
        beta - mean * exact,
    )


def _dense(layer: Dense, trained: Weights) -> tuple[NDArray[np.int8], Floats, Floats]:
    """Eight bits with one power of two as scale: sums over many inputs leave float32 no room for more."""
    weight = trained[f"{layer.name}.weight"].astype(np.float64)
    scale = 2.0 ** np.ceil(np.log2(max(float(np.abs(weight).max()), 1e-12) / 127))
    codes = np.rint(weight / scale).astype(np.int8)
    return codes, np.full(len(weight), scale), trained[f"{layer.name}.bias"].astype(np.float64)
