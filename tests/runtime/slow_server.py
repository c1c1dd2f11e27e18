"""A server whose `open` never ends: `python -m tests.runtime.slow_server HOST:PORT KEY`."""

from __future__ import annotations

import sys
import time

from tilewright.runtime import server
from tilewright.runtime.calls import parse_address


def never() -> None:
    """Replace `open`."""
    import tvm_ffi

    tvm_ffi.register_global_func(server.OPEN, lambda _: time.sleep(1000), override=True)


if __name__ == "__main__":
    # By its importable name: the server's process gets it by pickle.
    from tests.runtime.slow_server import never as importable

    server.serve(tracker=parse_address(sys.argv[1]), key=sys.argv[2], services=[importable])
