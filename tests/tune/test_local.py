"""Processes on this machine: the same results as one after the other, and what happens when they end."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path

import psutil
import pytest

from tests.tune.synthetic import Bench, Synthetic, header
from tilewright.codegen.plan import RegionPlan
from tilewright.errors import DataError
from tilewright.tune.local import Processes, Serial
from tilewright.tune.log import Log
from tilewright.tune.measurement import Measurement
from tilewright.tune.tuner import run

REGION = Synthetic(size=10)
HEAD = header([REGION])
ROOT = Path(__file__).resolve().parents[2]


@dataclass
class Together:
    """Measures once two processes have come, so that no one does all of it before the other has started."""

    bench: Bench
    folder: Path
    name: str = "synthetic"

    def measure(self, plan: RegionPlan) -> Measurement:
        """See the tuner's Backend."""
        (self.folder / str(os.getpid())).touch()
        end = time.monotonic() + 60
        while len(list(self.folder.iterdir())) < 2 and time.monotonic() < end:
            time.sleep(0.01)
        return self.bench.measure(plan)


def test_processes_find_what_one_finds(tmp_path: Path) -> None:
    with Log(None, HEAD) as log:
        run([REGION], Serial(Bench([REGION])), log, HEAD, 30)
    counter, here = tmp_path / "counter", tmp_path / "processes"
    here.mkdir()
    with Log(None, HEAD) as parallel, Processes(Together(Bench([REGION], counter), here), 2) as runner:
        run([REGION], runner, parallel, HEAD, 30)
    assert sorted(parallel.records, key=lambda r: r.trial) == log.records
    workers = {line.split()[0] for line in counter.read_text().splitlines()}
    assert len(workers) == 2
    assert str(os.getpid()) not in workers


@dataclass
class Ending:
    """A back end that ends its process."""

    name: str = "ending"

    def measure(self, plan: RegionPlan) -> Measurement:
        """Never comes back."""
        os.kill(os.getpid(), signal.SIGKILL)
        raise AssertionError


def test_a_process_that_the_system_ends() -> None:
    with Processes(Ending(), 1) as runner, pytest.raises(DataError) as caught:
        list(runner.measure([REGION.default]))
    assert str(caught.value) == (
        "a measuring process was ended by the system, most likely for want of memory; "
        "start again with fewer --jobs: the log continues"
    )


def test_processes_end_with_a_tuner_that_is_killed() -> None:
    script = (
        "import time\n"
        "from tests.tune.synthetic import Bench, Synthetic\n"
        "from tilewright.tune.local import Processes\n"
        "if __name__ == '__main__':\n"
        "    region = Synthetic()\n"
        "    with Processes(Bench([region]), 2) as runner:\n"
        "        list(runner.measure([region.default] * 4))\n"
        "        print('ready', flush=True)\n"
        "        time.sleep(60)\n"
    )
    command = [sys.executable, "-c", script]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
        children = psutil.Process(process.pid).children(recursive=True)
        assert len(children) >= 2
        process.kill()
    deadline = time.monotonic() + 10
    while time.monotonic() < deadline and any(child.is_running() for child in children):
        time.sleep(0.05)
    assert not [child for child in children if child.is_running()]
