"""Cases in a process of their own with limits of time and memory: a crash or a hang is caught and known by its case."""

from __future__ import annotations

import multiprocessing
import os
import resource
import signal
import sys
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from multiprocessing.connection import Connection
from pathlib import Path

CPU_SECONDS = 20
"""Of a case, in processor time: a loaded machine makes no hang."""
WALL_SECONDS = 300
MEMORY_MIB = 3072
"""Address space above what the process has when it begins."""


@dataclass(frozen=True)
class Result:
    """What became of a case: `kind` is "" where all is well, else what was found, told apart by `text`'s place."""

    number: int
    kind: str
    place: str = ""
    text: str = ""


Job = Callable[[int], Result]


def _limit_memory() -> None:
    size = int(Path("/proc/self/statm").read_text().split()[0]) * resource.getpagesize()
    limit = size + (MEMORY_MIB << 20)
    resource.setrlimit(resource.RLIMIT_AS, (limit, resource.RLIM_INFINITY))
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))


def _work(make: Callable[[], Job], numbers: range, log: str, channel: Connection) -> None:
    """In the new process: a line for each case before and after it."""
    output = os.open(log, os.O_WRONLY | os.O_CREAT | os.O_TRUNC)
    os.dup2(output, 1)
    os.dup2(output, 2)
    run = make()
    _limit_memory()
    for number in numbers:
        channel.send(number)
        signal.setitimer(signal.ITIMER_PROF, CPU_SECONDS)  # SIGPROF ends the process
        result = run(number)
        signal.setitimer(signal.ITIMER_PROF, 0)
        channel.send(result)
        os.ftruncate(output, 0)
    channel.send(None)


def run_isolated(make: Callable[[], Job], numbers: range) -> Iterator[Result]:
    """Results of `make()(number)` for all numbers, in order; `make` is called in the process and must be picklable."""
    context = multiprocessing.get_context("spawn")
    first = numbers.start
    while first < numbers.stop:
        with tempfile.NamedTemporaryFile() as log:
            ours, theirs = context.Pipe(duplex=False)
            rest = range(first, numbers.stop)
            process = context.Process(target=_work, args=(make, rest, log.name, theirs), daemon=True)
            process.start()
            theirs.close()
            current, ended, hung = first - 1, False, False
            try:
                while not ended:
                    if not ours.poll(WALL_SECONDS):
                        hung = True
                        break
                    message = ours.recv()
                    if message is None:
                        ended = True
                    elif isinstance(message, Result):
                        yield message
                        first = message.number + 1
                    else:
                        current = message
            except EOFError:
                pass
            finally:
                if not ended:
                    process.kill()
                process.join()
            if ended:
                return
            tail = Path(log.name).read_text(errors="replace")[-4000:]
            if current < first:  # it ended before its first case
                raise RuntimeError(f"the worker does not start: exit code {process.exitcode}\n{tail}")
            first = current + 1
            code = process.exitcode or 0
            if hung or code == -signal.SIGPROF:
                yield Result(current, "hang", "hang", f"more than {CPU_SECONDS} s\n{tail}")
            else:
                name = signal.Signals(-code).name if code < 0 else f"exit code {code}"
                yield Result(current, "crash", name, tail)


def supported() -> bool:
    """Whether the system has these limits."""
    return sys.platform == "linux"
