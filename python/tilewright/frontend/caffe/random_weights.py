"""Random weights under which a network's activations keep their size, so that comparisons mean something."""

from __future__ import annotations

import math
import zlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from tilewright.errors import Fault, ModelError
from tilewright.frontend.caffe.records import Record
from tilewright.frontend.caffe.weights import MAX_BYTES, Array, BlobSpec

_RECTIFIERS = frozenset({"ReLU", "ReLU6", "PReLU", "ELU", "Swish"})
_LINEAR = frozenset({"BatchNorm", "Scale", "Bias", "Dropout", "Split"})
_RANGES = {"variance": (0.5, 1.5), "gain": (0.5, 1.5), "slope": (0.0, 0.5)}


def weight_gains(layers: Sequence[Record]) -> dict[str, float]:
    """Layer name -> deviation of its weights times sqrt(fan-in), by what comes after it.

    sqrt(2) before a rectifier, which halves the mean square (He et al. 2015); 0.5 before a sum, so that a
    long chain of residual blocks does not grow without end; otherwise 1.
    """
    gains: dict[str, float] = {}
    following: dict[str, float] = {}  # blob -> gain of a layer that writes it, seen from the end
    for layer in reversed(layers):
        kind = layer.word("type")
        tops, bottoms = dict.fromkeys(layer.words("top")), layer.words("bottom")
        after = max((following.get(top, 1.0) for top in tops), default=1.0)
        gains[layer.word("name")] = after
        if kind in _RECTIFIERS:
            before = math.sqrt(2)
        elif kind == "Eltwise":
            before = 0.5
        else:
            before = after if kind in _LINEAR else 1.0
        for bottom in bottoms:
            written_here = bottom in tops
            following[bottom] = before if written_here else max(before, following.get(bottom, 0.0))
    return gains


@dataclass(frozen=True)
class RandomWeights:
    """Reproducible random blobs.

    Weights are normal with deviation gain / sqrt(fan-in) (see :func:`weight_gains`), variances and gains
    uniform in 0.5..1.5, slopes in 0..0.5, the rest normal with deviation 0.1. Each blob has its own
    generator, seeded by layer name and position: editing one layer leaves the others' numbers alone.
    """

    seed: int
    gains: Mapping[str, float] = field(default_factory=dict)

    def blobs(self, layer: str, specs: Sequence[BlobSpec]) -> list[Array] | None:
        """See `WeightSource`; never None."""
        for spec in specs:
            if 4 * math.prod(spec.shape) > MAX_BYTES:
                raise ModelError(
                    Fault(f"{spec.role} of shape {spec.shape} needs more than 2 GiB", f"layer {layer!r}")
                )
        key = zlib.crc32(layer.encode("utf-8", errors="replace"))
        gain = self.gains.get(layer, math.sqrt(2))
        return [_draw(np.random.default_rng([self.seed, key, i]), s, gain) for i, s in enumerate(specs)]


def _draw(rng: np.random.Generator, spec: BlobSpec, gain: float) -> Array:
    if spec.role == "factor":
        return np.ones(spec.shape, np.float32)
    if spec.role in _RANGES:
        return rng.uniform(*_RANGES[spec.role], spec.shape).astype(np.float32)
    fan_in = max(1, math.prod(spec.shape[1:]))
    deviation = gain / math.sqrt(fan_in) if spec.role == "weight" else 0.1
    values = rng.standard_normal(spec.shape, dtype=np.float32)
    return np.asarray(values * np.float32(deviation), dtype=np.float32)
