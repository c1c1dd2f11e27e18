"""Packages on a board, through its server (`server.py`)."""

from __future__ import annotations

import socket
from collections.abc import Callable, Mapping
from concurrent.futures import TimeoutError as FutureTimeout
from importlib import metadata
from typing import Any

from tilewright.errors import ConfigError, Fault, RemoteError
from tilewright.runtime import wire
from tilewright.runtime.calls import (
    ANSWER_S,
    BROKEN,
    CONNECT_S,
    Address,
    leak,
    parse_address,
    release,
    require_key,
    start,
    tracker_summary,
)
from tilewright.runtime.server import CLOSE, DESCRIBE, OPEN, RUN
from tilewright.runtime.session import Array, RunResult, Session
from tilewright.targets.package import Package

TIMEOUT_S = 600.0
"""How long a server may take to be free, to load a package, or to run it."""
RETRIES = 3
"""How many servers are asked for of a tracker: it may still know one that was just ended."""
_GRACE_S = 1.0


class Board:
    """A session on a board's server, which serves nobody else until it is closed; a context manager.

    Args:
        session: TVM's; see :func:`connect`.
        where: what messages call the server until it has told its name.
        timeout: seconds for each of: a package loaded, a run done.

    Attributes:
        name: the server's host and port, as it says.
        device: what it runs packages on.

    Raises:
        ConfigError: the server is not one of Tilewright's, or of another version.
        RemoteError: it ended, or does not answer.
    """

    def __init__(self, session: Any, where: str, timeout: float = TIMEOUT_S) -> None:
        self._session, self._where, self._timeout = session, where, timeout
        self._functions: dict[str, Callable[..., Any]] = {}
        try:
            found, _ = self._call(DESCRIBE)
        except AttributeError:
            text = "what listens there is an RPC server, but none of Tilewright's"
            raise ConfigError(
                Fault(text, where, "start `python -m tilewright.runtime.server` there")
            ) from None
        self.name, self.device = str(found["server"]), str(found["device"])
        self._where = f"server {self.name}"
        ours = metadata.version("tilewright")
        if found["version"] != ours:
            text = f"has version {found['version']} of Tilewright, this machine version {ours}"
            raise ConfigError(Fault(text, self._where, "install the same version on both"))

    def __enter__(self) -> Board:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def close(self) -> None:
        """End the session, so that the server serves the next. In a session that broke nothing happens."""
        session, self._session = self._session, None
        if session is not None:
            release(*self._functions.values(), session=session)
            self._functions.clear()

    def open(self, package: Package) -> RemoteSession:
        """Upload a package, stripped of its models, and load it on the board's device.

        Raises what :class:`tilewright.runtime.Session` does there, and RemoteError where the server ends.
        """
        head, _ = self._call(OPEN, package.strip().to_bytes())
        return RemoteSession(self, package, int(head["package"]))

    def _call(self, name: str, message: bytes | None = None) -> tuple[dict[str, Any], dict[str, Array]]:
        if self._session is None:
            raise RemoteError(Fault("the session is over", self._where, "connect again"))

        def call() -> bytes:
            if name not in self._functions:
                self._functions[name] = self._session.get_function(name)
            return bytes(self._functions[name](*([] if message is None else [message])))

        doing = name.rpartition(".")[2]
        try:
            answer = start(call).result(self._timeout)
        except FutureTimeout:
            self._abandon(silent=True)
            text = f"`{doing}` took more than {self._timeout:g} s"
            raise RemoteError(
                Fault(text, self._where, "look at the board, or allow more by --timeout")
            ) from None
        except BROKEN as error:
            self._abandon(silent=False)
            text = f"ended during `{doing}`: {_line(error)}"
            raise RemoteError(Fault(text, self._where, "look at what it printed, and run again")) from None
        head, arrays = wire.unpack(answer)
        wire.raise_error(head, self._where)
        return head, arrays

    def _abandon(self, *, silent: bool) -> None:
        if silent:
            leak(self._session, *self._functions.values())
        self._functions.clear()
        self._session = None


class RemoteSession(Session):
    """A package that is ready to run on a board; runs as :class:`Session` does, made by :meth:`Board.open`."""

    def __init__(self, board: Board, package: Package, number: int) -> None:
        self._board, self._number = board, number
        self._take(package)

    def run(self, feeds: Mapping[str, Array], *, cycles: bool = False) -> RunResult:
        """Run once; with `cycles` the counts have `cycles`, from the device's counters.

        A simulator's are the timing simulator's. Raises what :meth:`Session.run` does, and RemoteError.
        """
        arrays = self._checked(feeds)
        named = {tensor.name: array for (tensor, _), array in zip(self._inputs, arrays, strict=True)}
        head = {"package": self._number, "cycles": cycles}
        found, outputs = self._board._call(RUN, wire.pack(head, named))
        return RunResult(outputs, found["counts"], found["seconds"])

    def close(self) -> None:
        """Make the board forget the package."""
        self._board._call(CLOSE, wire.pack({"package": self._number}))


def connect(address: str | Address, key: str = "", *, timeout: float = TIMEOUT_S) -> Board:
    """A session on a board.

    Args:
        address: HOST:PORT of the tracker, or without a key of the server.
        key: of the servers that will do.
        timeout: seconds for each of: until a server is free, a package loaded, a run done.

    Raises:
        ConfigError: the address is none, or there is no tracker, or it knows no server of the key, or what answers has
            another version.
        RemoteError: no server is free, or it does not answer.
    """
    at = parse_address(address, "--remote") if isinstance(address, str) else address
    # The server ends a session that the client left in the middle of a run.
    limit = round(timeout + _GRACE_S)
    if key:
        return Board(_request(at, key, timeout, limit), f"tracker {at[0]}:{at[1]}, key {key}", timeout)
    return Board(_direct(at, timeout, limit), f"server {at[0]}:{at[1]}", timeout)


def _request(tracker: Address, key: str, timeout: float, limit: int) -> Any:
    """A session that a tracker gives."""
    remedy = _start_command(tracker, key)
    require_key(tracker_summary(tracker), tracker, key, "server", remedy)
    from tvm import rpc

    def request() -> Any:
        return rpc.connect_tracker(*tracker).request(key, session_timeout=limit, max_retry=RETRIES)

    try:
        return start(request).result(timeout)
    except FutureTimeout:
        text = f"no server for key {key!r} became free in {timeout:g} s"
        remedy = "wait for the sessions on them to end, or start more servers"
    except BROKEN as error:
        text = f"no server for key {key!r} can be reached: {_line(error)}"
    raise RemoteError(Fault(text, f"tracker {tracker[0]}:{tracker[1]}", remedy))


def _direct(server: Address, timeout: float, limit: int) -> Any:
    """A session with a server that has no tracker."""
    from tvm import rpc

    remedy = _start_command(server, "")
    try:
        socket.create_connection(server, timeout=CONNECT_S).close()
        return start(rpc.connect, *server, "", limit).result(min(timeout, ANSWER_S))
    except FutureTimeout:
        text, remedy = "does not answer", "another session may have it: wait for that to end"
    except OSError as error:
        text = f"there is no server: {error.strerror or error}"
    except RuntimeError as error:
        text, remedy = f"refused the connection: {_line(error)}", "with a tracker's address give --key"
    raise RemoteError(Fault(text, f"server {server[0]}:{server[1]}", remedy))


def _line(error: BaseException) -> str:
    """The last line of TVM's text, which holds what happened."""
    lines = [line.strip() for line in str(error).splitlines() if line.strip()]
    return lines[-1] if lines else type(error).__name__


def _start_command(address: Address, key: str) -> str:
    """What starts a server that would have been found."""
    host, port = address
    rest = f"--tracker {host}:{port} --key {key}" if key else f"--host {host} --port {port}"
    return f"start one: `python -m tilewright.runtime.server {rest}`"
