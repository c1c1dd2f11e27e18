"""Measuring on workers that TVM's RPC tracker knows: see `worker.py` for how to start them.

Every free worker of the key gets a session, and each session one plan after the other. A worker whose session breaks
is given up and its plan goes to another; one that comes back, or comes late, is taken when the tracker names it.
"""

from __future__ import annotations

import json
import socket
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, wait
from concurrent.futures import TimeoutError as FutureTimeout
from typing import Any, TypeVar

from tilewright.codegen.plan import RegionPlan
from tilewright.errors import ConfigError, Fault
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
BROKEN = (RuntimeError, OSError)
"""What TVM raises where a connection breaks; its own errors are RuntimeErrors."""


class _Session:
    """A worker that has the network."""

    def __init__(self, tracker: tuple[str, int], key: str, payload: bytes) -> None:
        from tvm import rpc

        session = rpc.connect_tracker(*tracker).request(key, max_retry=1)
        answer = json.loads(bytes(session.get_function(OPEN)(payload)))
        self.error = str(answer.get("error", ""))
        self.fingerprints: Mapping[str, str] = answer.get("regions", {})
        self._measure = session.get_function(MEASURE)

    def measure(self, plan: RegionPlan) -> Outcome:
        """Measure a plan there."""
        answer: dict[str, Any] = json.loads(bytes(self._measure(plan.model_dump_json().encode())))
        return Refusal(str(answer["error"])) if "error" in answer else Measurement(**answer)


class Remote:
    """Measures on the workers of a tracker.

    Args:
        tracker: host and port.
        key: of the workers.
        payload: the network's bytes, for the workers.
        fingerprints: of its regions; a worker that finds others has another version.
        patience: seconds to wait for a worker where there is none.
        limit: seconds that a measurement may take.

    Raises ConfigError where there is no tracker, or it knows no worker of the key.
    """

    def __init__(
        self,
        tracker: tuple[str, int],
        key: str,
        payload: bytes,
        fingerprints: Mapping[str, str],
        *,
        patience: float = PATIENCE_S,
        limit: float = LIMIT_S,
    ) -> None:
        self._tracker, self._key = tracker, key
        self._payload, self._fingerprints = payload, dict(fingerprints)
        self._patience, self._limit = patience, limit
        self._idle: list[_Session] = []
        self._opening: dict[Future[_Session], float] = {}
        self._looked = -LOOK_S
        self._where = f"tracker {tracker[0]}:{tracker[1]}"
        keys = self._summary()["server_info"]
        found = sorted({str(worker["key"]).removeprefix("server:") for worker in keys})
        if key not in found:
            known = f"only for {', '.join(found)}" if found else "nor for any other"
            raise ConfigError(
                Fault(f"there is no worker for key {key!r}, {known}", self._where, self._remedy())
            )

    def measure(self, plans: Sequence[RegionPlan]) -> Iterator[tuple[int, Outcome]]:
        """See :class:`tilewright.tune.measurement.Runner`.

        Raises ConfigError where no worker is left, or one has another version of Tilewright.
        """
        waiting = deque(range(len(plans)))
        lost = [0] * len(plans)
        running: dict[Future[Outcome], tuple[int, _Session, float]] = {}
        alone_since = time.monotonic()
        while waiting or running:
            if waiting:
                self._look(alone=not running)
            while waiting and self._idle:
                i, session = waiting.popleft(), self._idle.pop(0)
                running[_start(session.measure, plans[i])] = (i, session, time.monotonic())
            if running or self._opening:
                alone_since = time.monotonic()
            elif time.monotonic() - alone_since > self._patience:
                text = f"no worker for key {self._key!r} is left"
                raise ConfigError(Fault(text, self._where, f"{self._remedy()}; the log continues"))
            _pause([*running, *self._opening])
            for future in [f for f, (_, _, since) in running.items() if _over(f, since, self._limit)]:
                i, session, _ = running.pop(future)
                outcome = _result(future)
                if not isinstance(outcome, str):
                    self._idle.append(session)
                    yield i, outcome
                    continue
                lost[i] += 1
                if lost[i] < ATTEMPTS:
                    waiting.appendleft(i)
                else:
                    yield i, Refusal(f"{ATTEMPTS} workers failed on it, the last with: {outcome}")

    def _look(self, alone: bool) -> None:
        """Take what sessions are ready, and ask for new ones where the tracker has free workers."""
        for future in [f for f, since in self._opening.items() if _over(f, since, OPENING_S)]:
            del self._opening[future]
            session = _result(future)
            if not isinstance(session, str):
                self._check(session)
                self._idle.append(session)
        now = time.monotonic()
        if now - self._looked < LOOK_S:
            return
        self._looked = now
        try:
            queues = self._summary()["queue_info"]
        except ConfigError:
            if alone and not self._idle:
                raise
            return  # the tracker is gone, sessions go on without it
        free = int(queues[self._key]["free"]) if self._key in queues else 0
        for _ in range(free - len(self._opening)):
            self._opening[_start(_Session, self._tracker, self._key, self._payload)] = now

    def _check(self, session: _Session) -> None:
        if session.error:
            raise ConfigError(Fault(f"a worker refused the network: {session.error}", self._where))
        if session.fingerprints != self._fingerprints:
            text = "a worker makes other regions of this network than this machine"
            raise ConfigError(Fault(text, self._where, "install the same versions on all machines"))

    def _summary(self) -> dict[str, Any]:
        host, port = self._tracker
        start = f"start one: `python -m tvm.exec.rpc_tracker --host {host} --port {port}`"
        try:
            socket.create_connection(self._tracker, timeout=5).close()
            return _start(_ask, self._tracker).result(timeout=10)
        except FutureTimeout:
            text = "what listens there is no RPC tracker: no answer in 10 s"
        except OSError as error:
            text = f"there is no RPC tracker: {error.strerror or error}"
        except RuntimeError as error:
            text = f"what listens there is no RPC tracker: {error}"
        raise ConfigError(Fault(text, self._where, start))

    def _remedy(self) -> str:
        host, port = self._tracker
        return f"start workers: `python -m tilewright.tune.worker --tracker {host}:{port} --key {self._key}`"


def _ask(tracker: tuple[str, int]) -> dict[str, Any]:
    from tvm import rpc

    session = rpc.connect_tracker(*tracker)
    try:
        found: dict[str, Any] = session.summary()
        return found
    finally:
        session.close()


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
    except BROKEN as error:
        return str(error) or type(error).__name__


def _start(function: Callable[..., T], *arguments: object) -> Future[T]:
    """Run in a thread that nobody waits for at exit: TVM's calls cannot be cut short."""
    future: Future[T] = Future()

    def run() -> None:
        try:
            future.set_result(function(*arguments))
        except BaseException as error:  # noqa: BLE001 - raised again where the result is asked for
            future.set_exception(error)

    threading.Thread(target=run, daemon=True).start()
    return future
