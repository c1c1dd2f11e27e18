"""An RPC tracker and workers on loopback. A worker for made-up networks: `python -m tests.tune.workers --tracker HOST:PORT --key KEY`."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager, suppress
from functools import partial
from pathlib import Path

from tests.tune.synthetic import Bench, Synthetic
from tilewright.errors import DataError, Fault
from tilewright.runtime.calls import parse_address
from tilewright.runtime.server import serve
from tilewright.tune.worker import Opened, register

ROOT = Path(__file__).resolve().parents[2]


def payload(regions: Sequence[Synthetic], counter: Path, seconds: float, ends: str = "") -> bytes:
    """A made-up network for workers; each ends on plans whose JSON holds `ends`."""
    sizes = [[r.size, r.rows, r.capacity, r.name] for r in regions]
    return json.dumps({"regions": sizes, "counter": str(counter), "seconds": seconds, "ends": ends}).encode()


def open_made_up(data: bytes) -> Opened:
    """The opener of workers here."""
    document = json.loads(data)
    if not document["regions"]:
        raise DataError(Fault("this network has no regions"))
    regions = [Synthetic(*sizes) for sizes in document["regions"]]
    bench = _Bench(regions, Path(document["counter"]), document["seconds"], ends=document["ends"])
    return Opened(bench, {r.name: r.fingerprint for r in regions})


class _Bench(Bench):
    def __init__(self, *arguments: object, ends: str) -> None:
        super().__init__(*arguments)  # type: ignore[arg-type]
        self.ends = ends

    def measure(self, plan):  # type: ignore[no-untyped-def]
        if self.ends and self.ends in plan.model_dump_json():
            os.kill(os.getpid(), signal.SIGKILL)
        return super().measure(plan)


def free_port() -> int:
    """A port that nobody uses now."""
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        return int(s.getsockname()[1])


@contextmanager
def process(*arguments: str) -> Iterator[subprocess.Popen[bytes]]:
    """`python -m ...` in a process group of its own, all of which is ended afterwards."""
    found = subprocess.Popen(
        [sys.executable, "-m", *arguments],
        cwd=ROOT,
        start_new_session=True,
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        yield found
    finally:
        kill(found)


def kill(found: subprocess.Popen[bytes]) -> None:
    """SIGKILL for a process and all that it started."""
    with suppress(ProcessLookupError):
        os.killpg(found.pid, signal.SIGKILL)
    found.wait()


@contextmanager
def tracker() -> Iterator[tuple[str, int]]:
    """TVM's RPC tracker; its address."""
    port = free_port()
    with process(
        "tvm.exec.rpc_tracker", "--host", "127.0.0.1", "--port", str(port), "--port-end", str(port + 1)
    ):
        wait_until(lambda: listens(port))
        yield "127.0.0.1", port


def listens(port: int) -> bool:
    """Whether somebody listens on a port of this machine."""
    with suppress(OSError), socket.create_connection(("127.0.0.1", port), timeout=1):
        return True
    return False


def worker(
    address: tuple[str, int], key: str, module: Sequence[str] = ("tests.tune.workers",)
) -> AbstractContextManager[subprocess.Popen[bytes]]:
    """A worker, by default one for made-up networks."""
    return process(*module, "--tracker", f"{address[0]}:{address[1]}", "--key", key)


def registered(address: tuple[str, int], key: str) -> int:
    """Workers of a key that are free."""
    from tvm import rpc

    session = rpc.connect_tracker(*address)
    try:
        queues = session.summary()["queue_info"]
    finally:
        session.close()
    return int(queues[key]["free"]) if key in queues else 0


def wait_until(condition, seconds: float = 60.0) -> None:  # type: ignore[no-untyped-def]
    """Raises TimeoutError."""
    end = time.monotonic() + seconds
    while not condition():
        if time.monotonic() > end:
            raise TimeoutError
        time.sleep(0.05)


if __name__ == "__main__":
    # By its importable name: the server's process gets it by pickle.
    from tests.tune.workers import open_made_up as opener

    serve(tracker=parse_address(sys.argv[2]), key=sys.argv[4], services=[partial(register, opener)])
