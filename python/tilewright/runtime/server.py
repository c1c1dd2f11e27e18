"""A board's server: TVM's RPC server with functions that run packages on the board's device.

    python -m tvm.exec.rpc_tracker --host 0.0.0.0 --port 9190                                 on one machine
    python -m tilewright.runtime.server --host 0.0.0.0 --tracker HOST:9190 --key ultra96 \\
        --device zynq:registers=/dev/uio0,memory=/dev/udmabuf0                                on each board
    tilewright run PKG --input X --remote HOST:9190 --key ultra96
    tilewright tune MODEL --backend board --tracker HOST:9190 --key ultra96 ...

Without a tracker it serves whoever connects to its port: `tilewright run --remote BOARD:9091`. One session at a time
has the board, and each has a process of its own, so that a package that ends it ends nothing else. Packages are checked
like files from anywhere before they run. TVM's protocol itself, however, lets whoever reaches the port run anything:
the server listens on loopback unless told otherwise; `--host 0.0.0.0` is for networks that you trust.

| function | takes | gives (`wire.py`) |
|---|---|---|
| tilewright.runtime.describe | | `server` (host:port), `device`, `version` |
| tilewright.runtime.open | a package's bytes | `package`: its number in this session; several can be open |
| tilewright.runtime.run | `package`, `cycles`, inputs | outputs, `counts`; `cycles` true: with the device's |
| tilewright.runtime.close | `package` | |
"""

from __future__ import annotations

import argparse
import os
import signal
import socket
import sys
import threading
import time
from collections.abc import Callable, Sequence
from functools import partial
from importlib import metadata
from typing import Any, cast

from tilewright.errors import ConfigError, DataError, Fault, FaultList, TilewrightError
from tilewright.runtime import wire
from tilewright.runtime.calls import Address, parse_address, require
from tilewright.runtime.package import Package
from tilewright.runtime.session import Session
from tilewright.targets.config import overlays
from tilewright.targets.program import HostProgram, HostStep, HostTensor
from tilewright.targets.sim import timing
from tilewright.targets.sim.program import Program

DESCRIBE = "tilewright.runtime.describe"
OPEN = "tilewright.runtime.open"
RUN = "tilewright.runtime.run"
CLOSE = "tilewright.runtime.close"

LOOPBACK = "127.0.0.1"
PORT, PORT_END = 9091, 9999
AGAIN_S = 1.0
"""Pause before a server whose process ended is started again."""

_PROBE = Package(
    name="probe",
    overlay=next(iter(overlays().values())),
    program=HostProgram(
        tensors=(HostTensor("x", (1,), "float32"), HostTensor("y", (1,), "float32")),
        constants={},
        inputs=(0,),
        outputs=(1,),
        steps=(HostStep("relu", (0,), (1,)),),
    ),
    regions=(),
)
"""A package without regions, to open a device by."""

Service = Callable[[], None]
"""Registers more functions in a server's process."""
Answer = dict[str, Any]


class Packages:
    """The packages that a session opened on a device."""

    def __init__(self, device: str) -> None:
        self._device = device
        self._sessions: dict[int, Session] = {}
        self._cycles: dict[int, int] = {}
        self._next = 0

    def describe(self) -> bytes:
        """Who serves, and on what."""
        from tvm.rpc.server import PopenRPCServerState

        state = PopenRPCServerState.current
        name = socket.gethostname() if state is None else f"{socket.gethostname()}:{state.port}"
        return wire.pack({"server": name, "device": self._device, "version": metadata.version("tilewright")})

    def open(self, data: bytes) -> bytes:
        """Check a package and load it on the device."""
        session = Session(Package.from_bytes(data, "package"), self._device)
        self._next += 1
        self._sessions[self._next] = session
        return wire.pack({"package": self._next})

    def run(self, message: bytes) -> bytes:
        """Run a package once."""
        head, feeds = wire.unpack(message)
        number = self._number(head)
        result = self._sessions[number].run(feeds)
        counts = dict(result.counts)
        if head.get("cycles") is True and not counts.get("cycles"):
            counts["cycles"] = self._timed(number)
        return wire.pack({"counts": counts, "seconds": result.seconds}, result.outputs)

    def close(self, message: bytes) -> bytes:
        """Forget a package."""
        number = self._number(wire.unpack(message)[0])
        self._sessions.pop(number).close()
        self._cycles.pop(number, None)
        return wire.pack({})

    def _number(self, head: Answer) -> int:
        number = head.get("package")
        if type(number) is not int or number not in self._sessions:
            raise DataError(Fault(f"package {number!r} is not open in this session", remedy="open it again"))
        return number

    def _timed(self, number: int) -> int:
        """Cycles of a run where the device is a simulator: the timing simulator's, which no data change."""
        if self._device not in ("sim", "reference"):
            raise ConfigError(
                Fault(
                    "the device counted no cycles", f"device {self._device}", "load an overlay with counters"
                )
            )
        if number not in self._cycles:
            package = self._sessions[number].package
            ran = [cast(int, s.attributes["index"]) for s in package.program.steps if s.op == "region"]
            self._cycles[number] = sum(
                timing.run(Program(package.regions[i].stream, package.overlay)).cycles for i in ran
            )
        return self._cycles[number]


def _answering(function: Callable[..., bytes]) -> Callable[..., bytes]:
    """The function with its errors as answers, for TVM would send tracebacks."""

    def call(*arguments: Any) -> bytes:
        try:
            return function(*map(bytes, arguments))
        except TilewrightError as error:
            return wire.pack_error(error)
        except MemoryError:
            return wire.pack_error(
                DataError(Fault("the memory is full", "", "use a smaller network or batch"))
            )
        except Exception as error:  # noqa: BLE001 - our bug: the caller raises it
            return wire.pack({"error": "", "faults": f"{type(error).__name__}: {error}"})

    return call


def register(device: str) -> None:
    """Register the functions of this server in this process. A session has a process of its own, forked from it."""
    import tvm_ffi

    packages = Packages(device)
    table: dict[str, Callable[..., bytes]] = {
        DESCRIBE: packages.describe,
        OPEN: packages.open,
        RUN: packages.run,
        CLOSE: packages.close,
    }
    for name, function in table.items():
        tvm_ffi.register_global_func(name, _answering(function), override=True)


def _start(device: str, services: Sequence[Service]) -> None:
    """Set up the server's process."""
    register(device)
    for service in services:
        service()
    # TVM's listening thread ends when a session is killed, and would leave a server that serves nobody.
    threading.excepthook = lambda _: os._exit(1)
    threading.Thread(target=_follow, args=(os.getppid(),), daemon=True).start()


def _follow(parent: int) -> None:
    """End with the server's parent, also where it was killed."""
    while os.getppid() == parent:
        time.sleep(1)
    os._exit(1)


def serve(
    *,
    host: str = LOOPBACK,
    ports: tuple[int, int] = (PORT, PORT_END),
    tracker: Address | None = None,
    key: str = "",
    device: str = "sim",
    services: Sequence[Service] = (),
) -> None:
    """Run a server until it is ended.

    Args:
        host: address to listen on.
        ports: the first that is free is taken, the second excluded.
        tracker, key: where it registers, and under what name; without a tracker it has no key.
        device: what packages run on, a back end of :class:`tilewright.runtime.Session`.
        services: register more functions; top-level functions or partials of such.

    Raises ConfigError, with everything that is wrong; and DeviceError where the device does not answer.
    """
    require({"cloudpickle": "TVM's RPC server", "psutil": "TVM's RPC server"}, "a server")
    _check(host, ports, tracker, key)
    Session(_PROBE, device).close()
    from tvm import rpc

    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    place = "without a tracker" if tracker is None else f"key {key} of tracker {tracker[0]}:{tracker[1]}"
    while True:
        server = rpc.Server(
            host,
            *ports,
            tracker_addr=tracker,
            key=key,
            silent=True,
            server_init_callback=partial(_start, device, tuple(services)),
        )
        sys.stderr.write(f"server on {host}:{server.port}, {place}, device {device}\n")
        sys.stderr.flush()
        try:
            server.proc.join()
        except KeyboardInterrupt:
            return
        finally:
            server.terminate()
        sys.stderr.write("a session ended badly: the server starts again\n")
        time.sleep(AGAIN_S)


def _check(host: str, ports: tuple[int, int], tracker: Address | None, key: str) -> None:
    faults = FaultList()
    if (tracker is None) != (not key):
        faults.add(
            "a tracker and a key belong together: clients ask the tracker for the key",
            where="--key" if key == "" else "--tracker",
            remedy="give both or neither",
        )
    if tracker is not None and _is_loopback(host) and not _is_loopback(tracker[0]):
        faults.add(
            f"a server on {host} is not reached by clients of the tracker on {tracker[0]}",
            where="--host",
            remedy="give --host 0.0.0.0, in a network that you trust: whoever reaches the port can run anything",
        )
    try:
        family, kind, *_, address = socket.getaddrinfo(host, None, type=socket.SOCK_STREAM)[0]
        with socket.socket(family, kind) as probe:
            probe.bind(address)
    except OSError as error:
        faults.add(f"cannot listen on {host!r}: {error.strerror or error}", where="--host")
    else:
        if not any(_is_free(host, port) for port in range(*ports)):
            faults.add(
                f"no port from {ports[0]} to {ports[1] - 1} is free", where="--port", remedy="give another"
            )
    faults.raise_if_any(ConfigError)


def _is_loopback(host: str) -> bool:
    return host in ("localhost", "::1") or host.startswith("127.")


def _is_free(host: str, port: int) -> bool:
    family, kind, *_, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
    with socket.socket(family, kind) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(address)
        except OSError:
            return False
    return True


def _port(text: str) -> int:
    if not text.isdecimal() or not 0 < int(text) < 1 << 16:
        raise ConfigError(Fault(f"expected a port from 1 to 65535, found {text!r}", "--port"))
    return int(text)


def main(
    services: Sequence[Service] = (),
    program: str = "python -m tilewright.runtime.server",
    arguments: Sequence[str] | None = None,
) -> None:
    """The command line of a server, of this one or of one with more functions."""
    parser = argparse.ArgumentParser(
        prog=program, description="Run packages for clients; see `tilewright run --remote`."
    )
    parser.add_argument(
        "--host", metavar="H", default=LOOPBACK, help="address to listen on; default: %(default)s"
    )
    parser.add_argument("--port", metavar="N", help=f"default: the first free one from {PORT}")
    parser.add_argument("--tracker", metavar="HOST:PORT", help="TVM's RPC tracker, to register with")
    parser.add_argument("--key", metavar="K", default="", help="what clients ask the tracker for")
    parser.add_argument(
        "--device", metavar="URI", default="sim", help="what packages run on; default: %(default)s"
    )
    given = parser.parse_args(arguments)
    try:
        port = None if given.port is None else _port(given.port)
        serve(
            host=given.host,
            ports=(PORT, PORT_END) if port is None else (port, port + 1),
            tracker=None if given.tracker is None else parse_address(given.tracker),
            key=given.key,
            device=given.device,
            services=services,
        )
    except TilewrightError as error:
        sys.stderr.write("".join(f"error: {fault}\n" for fault in error.faults))
        sys.exit(2)


if __name__ == "__main__":
    # By its importable name: functions go to the server's process by pickle.
    from tilewright.runtime import server as _server

    _server.main()
