"""A search in a process of its own, for tests that kill it: LOG COUNTER TRIALS SECONDS."""

from __future__ import annotations

import sys
from pathlib import Path

from tests.tune.synthetic import Bench, Synthetic, header
from tilewright.tune.local import Serial
from tilewright.tune.log import Log
from tilewright.tune.tuner import run


def main() -> None:
    """Run it."""
    log_path, counter, trials, seconds = sys.argv[1:]
    region = Synthetic(size=10)
    head = header([region])
    bench = Bench([region], Path(counter), float(seconds))
    with Log(log_path, head) as log:
        run([region], Serial(bench), log, head, int(trials))


if __name__ == "__main__":
    main()
