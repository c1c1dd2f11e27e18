"""Measuring on this machine: one after the other, or in processes of `concurrent.futures`."""

from __future__ import annotations

import multiprocessing
import os
import pickle
import signal
import threading
from collections.abc import Iterator, Sequence
from concurrent.futures import Future, ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from multiprocessing.connection import wait
from types import TracebackType

from tilewright.codegen.plan import RegionPlan
from tilewright.errors import DataError, Fault, TilewrightError
from tilewright.tune.measurement import Backend, Outcome, Refusal


def outcome_of(backend: Backend, plan: RegionPlan) -> Outcome:
    """Measure a plan; one that cannot be compiled or run is refused."""
    try:
        return backend.measure(plan)
    except TilewrightError as error:
        return Refusal("; ".join(str(fault) for fault in error.faults))


class Serial:
    """Measures in this process, plan by plan."""

    def __init__(self, backend: Backend) -> None:
        self._backend = backend

    def measure(self, plans: Sequence[RegionPlan]) -> Iterator[tuple[int, Outcome]]:
        """See :class:`tilewright.tune.measurement.Runner`."""
        for i, plan in enumerate(plans):
            yield i, outcome_of(self._backend, plan)


class Processes:
    """Measures in `jobs` processes, each of which gets the back end once; a context manager."""

    def __init__(self, backend: Backend, jobs: int) -> None:
        # Not forked: TVM and XGBoost have threads, which a forked process would miss.
        self._pool = ProcessPoolExecutor(
            jobs, multiprocessing.get_context("spawn"), initializer=_start, initargs=(pickle.dumps(backend),)
        )

    def __enter__(self) -> Processes:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._pool.shutdown(wait=True, cancel_futures=True)

    def measure(self, plans: Sequence[RegionPlan]) -> Iterator[tuple[int, Outcome]]:
        """See :class:`tilewright.tune.measurement.Runner`.

        Raises DataError where the system ends a process.
        """
        futures: dict[Future[Outcome], int] = {}
        try:
            futures = {self._pool.submit(_measure, plan): i for i, plan in enumerate(plans)}
            for future in as_completed(futures):
                yield futures[future], future.result()
        except BrokenProcessPool:
            raise DataError(
                Fault(
                    "a measuring process was ended by the system, most likely for want of memory",
                    remedy="start again with fewer --jobs: the log continues",
                )
            ) from None


_backend: Backend | None = None
"""The back end of a measuring process."""


def _start(pickled: bytes) -> None:
    global _backend
    signal.signal(signal.SIGINT, signal.SIG_IGN)  # the parent ends us
    parent = multiprocessing.parent_process()
    if parent is not None:
        threading.Thread(target=_follow, args=(parent.sentinel,), daemon=True).start()
    _backend = pickle.loads(pickled)


def _follow(parent: int) -> None:
    """End with the parent, also where it was killed: the pool's pipe would not tell."""
    wait([parent])
    os._exit(1)


def _measure(plan: RegionPlan) -> Outcome:
    assert _backend is not None
    return outcome_of(_backend, plan)
