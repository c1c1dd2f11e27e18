"""Calls into TVM's RPC with an end: each in a thread, for TVM's own cannot be cut short; and addresses for them."""

from __future__ import annotations

import contextlib
import ctypes
import importlib.util
import socket
import threading
from collections.abc import Callable, Mapping
from concurrent.futures import Future
from concurrent.futures import TimeoutError as FutureTimeout
from typing import Any, TypeVar

from tilewright.errors import ConfigError, Fault

T = TypeVar("T")
Address = tuple[str, int]

BROKEN = (RuntimeError, OSError)
"""What TVM raises where a connection breaks; its own errors are RuntimeErrors."""
CONNECT_S = 5.0
ANSWER_S = 10.0
"""How long a tracker may take to answer."""


def parse_address(text: str, option: str = "--tracker") -> Address:
    """HOST:PORT. Raises ConfigError."""
    host, _, port = text.rpartition(":")
    if not host or not port.isdecimal() or not 0 < int(port) < 1 << 16:
        raise ConfigError(
            Fault(
                f"expected HOST:PORT such as 127.0.0.1:9190, found {text!r}",
                option,
                f"give the {'tracker' if option == '--tracker' else 'server'}'s address",
            )
        )
    return host, int(port)


def require(modules: Mapping[str, str], purpose: str) -> None:
    """Raises ConfigError where modules (name -> who needs it) are not installed."""
    missing = [name for name in modules if importlib.util.find_spec(name) is None]
    if missing:
        raise ConfigError(
            Fault(
                f"{purpose} needs {', '.join(missing)}, which is not installed",
                remedy="pip install 'tilewright[rpc]'",
            )
        )


def start(function: Callable[..., T], *arguments: object) -> Future[T]:
    """Run in a thread that nobody waits for at exit."""
    future: Future[T] = Future()

    def run() -> None:
        try:
            future.set_result(function(*arguments))
        except BaseException as error:  # noqa: BLE001 - raised again where the result is asked for
            future.set_exception(error)

    threading.Thread(target=run, daemon=True).start()
    return future


def release(*held: object, session: Any) -> None:
    """Give up the last references to a session and to functions of it; where its server does not answer, keep them.

    TVM says goodbye to the server when they go, and waits for its answer with the interpreter's lock held.
    """
    future = start(_touch, session)
    try:
        future.result(ANSWER_S)
    except FutureTimeout:
        leak(session, *held)
    except BROKEN:
        pass  # a connection that is known to be broken waits for nothing


def leak(*held: object) -> None:
    """Keep objects to the end of the process and beyond: nothing says goodbye."""
    for item in held:
        ctypes.pythonapi.Py_IncRef(ctypes.py_object(item))


def _touch(session: Any) -> None:
    with contextlib.suppress(AttributeError):  # an answer too
        session.get_function("tilewright")


def tracker_summary(tracker: Address) -> dict[str, Any]:
    """What a tracker knows of servers: `server_info` and `queue_info`. Raises ConfigError where there is none."""
    host, port = tracker
    remedy = f"start one: `python -m tvm.exec.rpc_tracker --host {host} --port {port}`"
    try:
        socket.create_connection(tracker, timeout=CONNECT_S).close()
        return start(_ask, tracker).result(timeout=ANSWER_S)
    except FutureTimeout:
        text = f"what listens there is no RPC tracker: no answer in {ANSWER_S:g} s"
    except OSError as error:
        text = f"there is no RPC tracker: {error.strerror or error}"
    except RuntimeError as error:
        text = f"what listens there is no RPC tracker: {error}"
    raise ConfigError(Fault(text, f"tracker {host}:{port}", remedy))


def _ask(tracker: Address) -> dict[str, Any]:
    from tvm import rpc

    session = rpc.connect_tracker(*tracker)
    try:
        found: dict[str, Any] = session.summary()
        return found
    finally:
        session.close()


def require_key(summary: Mapping[str, Any], tracker: Address, key: str, what: str, remedy: str) -> None:
    """Raises ConfigError where a tracker knows no server (called `what`) of a key; names those that it knows."""
    found = sorted({str(server["key"]).removeprefix("server:") for server in summary["server_info"]})
    if key not in found:
        known = f"only for {', '.join(found)}" if found else "nor for any other"
        text = f"there is no {what} for key {key!r}, {known}"
        raise ConfigError(Fault(text, f"tracker {tracker[0]}:{tracker[1]}", remedy))
