"""A worker of the tuner: TVM's RPC server with the tuner's two functions, registered with TVM's RPC tracker.

    python -m tvm.exec.rpc_tracker --host 0.0.0.0 --port 9190              on one machine
    python -m tilewright.tune.worker --tracker HOST:9190 --key w8          on each machine that measures
    tilewright tune MODEL ... --tracker HOST:9190 --key w8

A tuner opens a session on each worker, sends it the network once (`tilewright.tune.open`) and then plans
(`tilewright.tune.measure`); both take and give bytes, JSON but for the network, and hold data only. TVM's servers let
whoever reaches them run anything: use them in networks that you trust.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import os
import signal
import sys
import threading
import time
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from functools import partial

from tilewright.codegen.plan import RegionPlan
from tilewright.errors import ConfigError, Fault, TilewrightError
from tilewright.tune.local import outcome_of
from tilewright.tune.measurement import Backend, Refusal

OPEN = "tilewright.tune.open"
MEASURE = "tilewright.tune.measure"
PORTS = (9091, 9999)


@dataclass(frozen=True)
class Opened:
    """A network ready to be measured: the back end, and the fingerprint of each region."""

    backend: Backend
    fingerprints: Mapping[str, str]


Opener = Callable[[bytes], Opened]
"""Makes a network ready from its bytes. Raises TilewrightError."""


def parse_address(text: str, option: str = "--tracker") -> tuple[str, int]:
    """HOST:PORT. Raises ConfigError."""
    host, _, port = text.rpartition(":")
    if not host or not port.isdecimal() or not 0 < int(port) < 1 << 16:
        raise ConfigError(
            Fault(
                f"expected HOST:PORT such as 127.0.0.1:9190, found {text!r}",
                option,
                "give the tracker's address",
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


def register(opener: Opener) -> None:
    """Register the tuner's functions in this process. A session has a process of its own, forked from it."""
    import tvm_ffi

    opened: list[Opened] = []

    def open_network(payload: bytes) -> bytes:
        try:
            opened[:] = [opener(bytes(payload))]
        except TilewrightError as error:
            return json.dumps({"error": str(error)}).encode()
        return json.dumps({"regions": dict(opened[0].fingerprints)}).encode()

    def measure(plan: bytes) -> bytes:
        outcome = outcome_of(opened[0].backend, RegionPlan.model_validate_json(bytes(plan)))
        return json.dumps(
            {"error": outcome.message} if isinstance(outcome, Refusal) else asdict(outcome)
        ).encode()

    tvm_ffi.register_global_func(OPEN, open_network, override=True)
    tvm_ffi.register_global_func(MEASURE, measure, override=True)


def _start(opener: Opener) -> None:
    """Set up the server's process."""
    register(opener)
    # TVM's listening thread ends when a session is killed, and would leave a server that serves nobody.
    threading.excepthook = lambda _: os._exit(1)
    threading.Thread(target=_follow, args=(os.getppid(),), daemon=True).start()


def _follow(parent: int) -> None:
    """End with the worker, also where it was killed."""
    while os.getppid() == parent:
        time.sleep(1)
    os._exit(1)


def serve(tracker: tuple[str, int], key: str, opener: Opener) -> None:
    """Run a worker until it is ended."""
    require({"cloudpickle": "TVM's RPC server", "psutil": "TVM's RPC server"}, "a worker")
    from tvm import rpc

    # Workers of a tracker on this machine are for this machine only.
    host = "127.0.0.1" if tracker[0] in ("127.0.0.1", "localhost") else "0.0.0.0"
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
    while True:
        server = rpc.Server(
            host,
            *PORTS,
            tracker_addr=tracker,
            key=key,
            silent=True,
            server_init_callback=partial(_start, opener),
        )
        sys.stderr.write(f"worker for key {key} of tracker {tracker[0]}:{tracker[1]}, port {server.port}\n")
        try:
            server.proc.join()
        except KeyboardInterrupt:
            return
        finally:
            server.terminate()
        sys.stderr.write("a session ended badly: the worker starts again\n")
        time.sleep(1)


def main() -> None:
    """The command line of a worker."""
    from tilewright.tune.workload import open_network

    parser = argparse.ArgumentParser(
        prog="python -m tilewright.tune.worker",
        description="Measure plans for tuners; see `tilewright tune`.",
    )
    parser.add_argument("--tracker", metavar="HOST:PORT", required=True, help="TVM's RPC tracker")
    parser.add_argument("--key", metavar="K", required=True, help="what tuners ask the tracker for")
    arguments = parser.parse_args()
    try:
        serve(parse_address(arguments.tracker), arguments.key, open_network)
    except TilewrightError as error:
        sys.stderr.write(f"error: {error}\n")
        sys.exit(2)


if __name__ == "__main__":
    main()
