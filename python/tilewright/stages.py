"""Seconds of the stages of a compilation, for whoever asks: `with record() as seconds: compile(...)`.

The stages are marked where the work is done and cost nothing while nobody records. They do not nest.
"""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator
from contextvars import ContextVar

from tilewright import debug

STAGES = ("import", "quantise", "relax", "lower", "emit", "write")
"""All stages in their order: reading the network, quantising it, starting TVM and importing to Relax, the passes down
to regions, planning and emitting the streams, writing the package."""

_seconds: ContextVar[dict[str, float] | None] = ContextVar("seconds", default=None)


@contextlib.contextmanager
def record() -> Iterator[dict[str, float]]:
    """Give a dictionary that gathers the seconds of the stages inside; stages that did not run stay 0."""
    found = dict.fromkeys(STAGES, 0.0)
    token = _seconds.set(found)
    try:
        yield found
    finally:
        _seconds.reset(token)


@contextlib.contextmanager
def stage(name: str) -> Iterator[None]:
    """Mark a stage, one of STAGES."""
    found = _seconds.get()
    start = time.perf_counter()
    try:
        yield
    finally:
        seconds = time.perf_counter() - start
        debug.tell(debug.STAGES, "stage %s: %.3f s", name, seconds)
        if found is not None:
            found[name] += seconds
