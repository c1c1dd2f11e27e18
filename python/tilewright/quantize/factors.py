"""By what the tensors of a quantised network differ from those of the float network that it was made from.

Equalisation and short scales (`equalise.py`, `exact.py`) multiply tensors between layers, by channel or as a whole,
without changing the network's function. Who compares both networks inside, as `verify` does, needs the factors; the
quantised model carries them as metadata. They are measured: both float networks run on a few samples, and the
largest magnitudes of each channel are compared. So they are right whatever rewrite made them, and a channel that stayed
dead has none.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping

import numpy as np
import onnx
from numpy.typing import NDArray

from tilewright.quantize.graph import Graph
from tilewright.quantize.observe import open_session, run_samples, watch_channels
from tilewright.quantize.samples import Sample

KEY = "tilewright.factors"
"""Of the metadata: JSON, tensor -> factor or list of them by channel, null where nothing is known."""
SAMPLES = 4
DIGITS = 7
TOLERANCE = 1e-5
"""Relative; factors that agree so far are one: float32 has 6e-8, and sums in another order lose some."""


def note_factors(
    result: onnx.ModelProto, before: Graph, after: Graph, tensors: Iterable[str], samples: Iterable[Sample]
) -> None:
    """Write into `result` how tensors of the float network `after` differ from those of `before`."""
    names = [
        name
        for name in tensors
        if name in before.producer and len(before.shapes[name]) > 1 and name in after.producer
    ]
    samples = list(samples)[:SAMPLES]
    large, small = (_magnitudes(graph, names, samples) if names else {} for graph in (after, before))
    found: dict[str, float | list[float | None]] = {}
    for name in names:
        with np.errstate(divide="ignore", invalid="ignore"):
            ratio = np.where(small[name] > 0, large[name] / small[name], np.nan)
        known = ratio[np.isfinite(ratio) & (ratio > 0)]
        if not known.size:
            continue
        if np.ptp(known) <= TOLERANCE * known[0]:
            if abs(known[0] - 1) > TOLERANCE:
                found[name] = _rounded(float(known[0]))
        else:
            found[name] = [_rounded(float(r)) if np.isfinite(r) and r > 0 else None for r in ratio]
    result.metadata_props.add(key=KEY, value=json.dumps(found, sort_keys=True, separators=(",", ":")))


def has_factors(model: onnx.ModelProto) -> bool:
    """Whether a quantised model says how its tensors are scaled; those of other quantisers do not."""
    return any(p.key == KEY for p in model.metadata_props)


def float_factors(model: onnx.ModelProto) -> dict[str, NDArray[np.float64]]:
    """Factors of a quantised model's tensors, by name. Shapes: () or (channels,), NaN where nothing is known."""
    text = next((p.value for p in model.metadata_props if p.key == KEY), "{}")
    found: Mapping[str, float | list[float | None]] = json.loads(text)
    return {name: np.array(value, np.float64) for name, value in found.items()}


def _magnitudes(graph: Graph, names: list[str], samples: list[Sample]) -> dict[str, NDArray[np.float64]]:
    """Largest magnitude of each channel."""
    model = graph.slice_model(names)
    model.graph.ClearField("output")
    rank = {name: len(graph.shapes[name]) for name in names}
    watched = [
        *watch_channels(model, names, rank, "ReduceMax"),
        *watch_channels(model, names, rank, "ReduceMin"),
    ]
    most: list[NDArray[np.float64]] = []
    for values in run_samples(open_session(model), watched, [samples]):
        magnitudes = [np.abs(value).astype(np.float64) for value in values]
        most = magnitudes if not most else list(map(np.maximum, most, magnitudes))
    return {
        name: np.maximum(high, low)
        for name, high, low in zip(names, most[: len(names)], most[len(names) :], strict=True)
    }


def _rounded(value: float) -> float:
    return float(f"{value:.{DIGITS}g}")
