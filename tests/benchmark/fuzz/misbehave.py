"""A job that crashes, hangs and takes all memory. It imports little, so that its processes start soon."""

from __future__ import annotations

import os
import signal

from tilewright.benchmark.fuzz import isolated
from tilewright.benchmark.fuzz.isolated import Job, Result


def _misbehave(number: int) -> Result:
    if number == 1:
        os.kill(os.getpid(), signal.SIGSEGV)
    if number == 3:
        while True:
            pass
    if number == 5:
        try:
            bytearray(1 << 45)
        except MemoryError:
            return Result(number, "MemoryError")
    return Result(number, "read")


def quick_job(seconds: float) -> Job:
    isolated.CPU_SECONDS = seconds  # type: ignore[assignment]
    return _misbehave
