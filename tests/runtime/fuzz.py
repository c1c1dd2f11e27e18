"""Damage packages and see them refused, under address and undefined-behaviour sanitizers: `make fuzz`.

    python -m tests.runtime.fuzz 10000      # cases; a second number is the first case's seed

A finding ends with exit code 3 and `case N`; `python -m tests.runtime.fuzz 1 SEED+N` is that case alone.
"""

from __future__ import annotations

import subprocess
import sys
import tempfile
from pathlib import Path

from tests.runtime import corpus

from tilewright.errors import ConfigError
from tilewright.runtime import cross


def fuzz(cases: int, seed: int = 0) -> subprocess.CompletedProcess[str]:
    """Run cases of the numbers from `seed` up. Raises ConfigError where the sanitized build cannot be made."""
    program = cross.build_sanitized() / "tilewright-fuzz"
    with tempfile.TemporaryDirectory() as folder:
        files = [str(path) for path in corpus.write(Path(folder))]
        return subprocess.run([str(program), str(cases), str(seed), *files], capture_output=True, text=True)


if __name__ == "__main__":
    try:
        done = fuzz(*(int(word) for word in sys.argv[1:3]))
    except ConfigError as error:
        sys.exit(f"error: {error}")
    sys.stdout.write(done.stdout)
    sys.stderr.write(done.stderr)
    sys.exit(done.returncode)
