"""A worker of the tuner: a board's server (`runtime/server.py`) with two functions more.

    python -m tvm.exec.rpc_tracker --host 0.0.0.0 --port 9190                                on one machine
    python -m tilewright.tune.worker --host 0.0.0.0 --tracker HOST:9190 --key w8             on each that measures
    tilewright tune MODEL ... --tracker HOST:9190 --key w8

A tuner opens a session on each worker, sends it the network once (`tilewright.tune.open`) and then plans
(`tilewright.tune.measure`), which the worker compiles and measures; both take and give bytes, JSON but for the network,
and hold data only. TVM's servers let whoever reaches them run anything: use them in networks that you trust.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass
from functools import partial

from tilewright.codegen.plan import RegionPlan
from tilewright.errors import TilewrightError
from tilewright.runtime import server
from tilewright.tune.local import outcome_of
from tilewright.tune.measurement import Backend, Refusal

OPEN = "tilewright.tune.open"
MEASURE = "tilewright.tune.measure"


@dataclass(frozen=True)
class Opened:
    """A network ready to be measured: the back end, and the fingerprint of each region."""

    backend: Backend
    fingerprints: Mapping[str, str]


Opener = Callable[[bytes], Opened]
"""Makes a network ready from its bytes. Raises TilewrightError."""


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


def main() -> None:
    """The command line of a worker."""
    from tilewright.tune.workload import open_network

    server.main([partial(register, open_network)], "python -m tilewright.tune.worker")


if __name__ == "__main__":
    main()
