"""A failing plan made smaller as long as it fails alike: layers left out, shapes halved, settings made plain."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace

from tilewright.benchmark.fuzz.layers import LayerPlan, NetworkPlan

_PLAIN = {
    "kernel": (1, 1),
    "strides": (1, 1),
    "dilation": (1, 1),
    "pads": (0, 0, 0, 0),
    "after": "",
    "source": 0,
}


def smaller_layers(layer: LayerPlan) -> Iterator[LayerPlan]:
    """A layer with one thing plainer."""
    for field, value in _PLAIN.items():
        if getattr(layer, field) != value:
            yield replace(layer, **{field: value})  # type: ignore[arg-type]
    if layer.channels > 1:
        yield replace(layer, channels=1)
        yield replace(layer, channels=layer.channels // 2)
        yield replace(layer, channels=layer.channels - 1)


def smaller(plan: NetworkPlan) -> Iterator[NetworkPlan]:
    """Plans a step smaller, the largest steps first."""
    count = len(plan.layers)
    size = count // 2
    while size:
        for first in range(0, count - size + 1, size):
            rest = plan.layers[:first] + plan.layers[first + size :]
            if rest:
                yield replace(plan, layers=rest)
        size //= 2
    if plan.inputs > 1:
        yield replace(plan, inputs=plan.inputs - 1)
    for axis, length in enumerate(plan.shape):
        for shorter in {1, length // 2, length - 1}:
            if 1 <= shorter < length:
                yield replace(plan, shape=(*plan.shape[:axis], shorter, *plan.shape[axis + 1 :]))  # type: ignore[arg-type]
    for i, layer in enumerate(plan.layers):
        for other in smaller_layers(layer):
            yield replace(plan, layers=(*plan.layers[:i], other, *plan.layers[i + 1 :]))


def shrink(plan: NetworkPlan, fails: Callable[[NetworkPlan], bool], most: int = 400) -> NetworkPlan:
    """The smallest plan found in `most` tries that fails like `plan`."""
    tries = 0
    again = True
    while again:
        again = False
        for candidate in smaller(plan):
            tries += 1
            if tries > most:
                return plan
            if fails(candidate):
                plan, again = candidate, True
                break
    return plan
