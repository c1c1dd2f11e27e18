"""Measuring on workers that TVM's RPC tracker knows: see `worker.py` for how to start them.

Every free worker of the key gets a session, and each session one plan after the other. A worker whose session breaks
is given up and its plan goes to another; one that comes back, or comes late, is taken when the tracker names it.
"""

from __future__ import annotations

import json
import time
from collections import deque
from collections.abc import Iterator, Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, wait
from dataclasses import dataclass
from typing import Any, ClassVar, NamedTuple, Protocol, TypeVar

from tilewright.codegen.plan import RegionPlan
from tilewright.errors import ConfigError, Fault, RemoteError
from tilewright.runtime.calls import BROKEN, Address, leak, release, require_key, start, tracker_summary
from tilewright.tune.measurement import Measurement, Outcome, Refusal
from tilewright.tune.worker import MEASURE, OPEN

T = TypeVar("T")
ATTEMPTS = 3
"""Workers that a plan may take with it before it is refused."""
PATIENCE_S = 20.0
"""How long to wait for a worker where none is left."""
LIMIT_S = 600.0
"""How long a measurement may take before its worker counts as dead."""
OPENING_S = 120.0
"""How long a worker may take until it has the network."""
PAUSE_S = 0.2
LOOK_S = 2.0
"""Time between two questions to the tracker for more workers."""


class Worker(Protocol):
    """A session on a worker that is ready to measure."""

    def measure(self, plan: RegionPlan) -> Outcome:
        """Measure a plan there. Raises one of BROKEN, or RemoteError, where the session breaks."""


class Opener(Protocol):
    """Makes workers of sessions."""

    @property
    def module(self) -> str:
        """What `python -m` starts on a machine that measures."""

    def open(self, session: Any) -> Worker:
        """Ready one end of TVM's session. Raises ConfigError where the worker does not fit, else as `measure`."""


@dataclass(frozen=True)
class Compiling:
    """Workers that compile and measure plans themselves: `worker.py`.

    Attributes:
        payload: the network's bytes.
        fingerprints: of its regions; a worker that finds others has another version.
    """

    module: ClassVar[str] = "tilewright.tune.worker"
    payload: bytes
    fingerprints: Mapping[str, str]

    def open(self, session: Any) -> Worker:
        """Send the network."""
        try:
            answer = json.loads(bytes(session.get_function(OPEN)(self.payload)))
        except AttributeError:
            text = "a server runs packages only, and compiles no plans"
            remedy = f"tune with --backend board, or start `python -m {self.module}` in its place"
            raise ConfigError(Fault(text, remedy=remedy)) from None
        if "error" in answer:
            raise ConfigError(Fault(f"a worker refused the network: {answer['error']}"))
        if answer["regions"] != dict(self.fingerprints):
            text = "a worker makes other regions of this network than this machine"
            raise ConfigError(Fault(text, remedy="install the same versions on all machines"))
        return _CompilingWorker(session)


class _CompilingWorker:
    def __init__(self, session: Any) -> None:
        self._measure = session.get_function(MEASURE)

    def measure(self, plan: RegionPlan) -> Outcome:
        answer: dict[str, Any] = json.loads(bytes(self._measure(plan.model_dump_json().encode())))
        return Refusal(str(answer["error"])) if "error" in answer else Measurement(**answer)


class _Held(NamedTuple):
    """A worker and TVM's session to it."""

    worker: Worker
    session: Any


class Remote:
    """Measures on the workers of a tracker; a context manager that gives them back.

    Args:
        tracker: host and port.
        key: of the workers.
        opener: makes them ready.
        patience: seconds to wait for a worker where there is none.
        limit: seconds that a measurement may take.

    Raises ConfigError where there is no tracker, or it knows no worker of the key.
    """

    def __init__(
        self,
        tracker: Address,
        key: str,
        opener: Opener,
        *,
        patience: float = PATIENCE_S,
        limit: float = LIMIT_S,
    ) -> None:
        self._tracker, self._key = tracker, key
        self._opener = opener
        self._patience, self._limit = patience, limit
        self._idle: list[_Held] = []
        self._opening: dict[Future[_Held], float] = {}
        self._looked = -LOOK_S
        self._where = f"tracker {tracker[0]}:{tracker[1]}"
        require_key(tracker_summary(tracker), tracker, key, "worker", self._remedy())

    def measure(self, plans: Sequence[RegionPlan]) -> Iterator[tuple[int, Outcome]]:
        """See :class:`tilewright.tune.measurement.Runner`.

        Raises ConfigError where no worker is left, or one has another version of Tilewright.
        """
        waiting = deque(range(len(plans)))
        lost = [0] * len(plans)
        running: dict[Future[Outcome], tuple[int, _Held, float]] = {}
        alone_since = time.monotonic()
        while waiting or running:
            if waiting:
                self._look(alone=not running)
            while waiting and self._idle:
                i, held = waiting.popleft(), self._idle.pop(0)
                running[start(held.worker.measure, plans[i])] = (i, held, time.monotonic())
            if running or self._opening:
                alone_since = time.monotonic()
            elif time.monotonic() - alone_since > self._patience:
                text = f"no worker for key {self._key!r} is left"
                raise ConfigError(Fault(text, self._where, f"{self._remedy()}; the log continues"))
            _pause([*running, *self._opening])
            for future in [f for f, (_, _, since) in running.items() if _over(f, since, self._limit)]:
                i, held, _ = running.pop(future)
                outcome = _result(future)
                if not isinstance(outcome, str):
                    self._idle.append(held)
                    yield i, outcome
                    continue
                if not future.done():
                    leak(held)
                lost[i] += 1
                if lost[i] < ATTEMPTS:
                    waiting.appendleft(i)
                else:
                    yield i, Refusal(f"{ATTEMPTS} workers failed on it, the last with: {outcome}")

    def _look(self, alone: bool) -> None:
        """Take what sessions are ready, and ask for new ones where the tracker has free workers."""
        for future in [f for f, since in self._opening.items() if _over(f, since, OPENING_S)]:
            del self._opening[future]
            held = _result(future)
            if not isinstance(held, str):
                self._idle.append(held)
        now = time.monotonic()
        if now - self._looked < LOOK_S:
            return
        self._looked = now
        try:
            queues = tracker_summary(self._tracker)["queue_info"]
        except ConfigError:
            if alone and not self._idle:
                raise
            return  # the tracker is gone, sessions go on without it
        free = int(queues[self._key]["free"]) if self._key in queues else 0
        for _ in range(free - len(self._opening)):
            self._opening[start(self._open)] = now

    def __enter__(self) -> Remote:
        return self

    def __exit__(self, *_: object) -> None:
        while self._idle:
            worker, session = self._idle.pop()
            release(worker, session=session)

    def _open(self) -> _Held:
        from tvm import rpc

        session = rpc.connect_tracker(*self._tracker).request(self._key, max_retry=1)
        try:
            return _Held(self._opener.open(session), session)
        except ConfigError as error:
            faults = [Fault(f.message, f.where or self._where, f.remedy) for f in error.faults]
        # Raised here, where no traceback holds the session: the worker is free for others.
        del session
        raise ConfigError(*faults)

    def _remedy(self) -> str:
        host, port = self._tracker
        return f"start workers: `python -m {self._opener.module} --tracker {host}:{port} --key {self._key}`"


def _pause(futures: Sequence[Future[Any]]) -> None:
    """Until one is there, or for a moment."""
    if futures:
        wait(futures, timeout=PAUSE_S, return_when=FIRST_COMPLETED)
    else:
        time.sleep(PAUSE_S)


def _over(future: Future[T], since: float, limit: float) -> bool:
    """Whether there is nothing more to wait for."""
    return future.done() or time.monotonic() - since > limit


def _result(future: Future[T]) -> T | str:
    """What a thread made, or how its worker broke."""
    if not future.done():
        return "no answer"
    try:
        return future.result()
    except (*BROKEN, RemoteError) as error:
        return str(error) or type(error).__name__
