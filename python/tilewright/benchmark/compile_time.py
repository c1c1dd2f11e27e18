"""Measure what compiling costs: seconds of import, quantise and compile, peak memory, and speed of the simulated net.

Each network has a process of its own, whose seconds are wall-clock ones from before Python starts TVM.
"""

from __future__ import annotations

import json
import resource
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any, TypeVar

from rich.console import Console

from tilewright.benchmark.networks import NETWORKS, Case, find_data
from tilewright.benchmark.report import Report, choose, parser
from tilewright.errors import TilewrightError

Result = TypeVar("Result")

DEFAULT = ("squeezenet_v1.1", "light_resnet50", "mobilenet_v2")
SECONDS_OF_RUNS = 3.0
KIB = 1024


@dataclass(frozen=True)
class Cost:
    """What a network cost.

    Attributes:
        load_s, quantise_s, compile_s: seconds of each step; reading calibration images is part of quantising.
        total_s: their sum and Python's imports.
        images: that it was calibrated on; 0 where it came quantised.
        peak_mib: largest resident memory of the process so far, 2^20 bytes.
        run_ms: of the simulated network on one image, all checks on; the best of several runs.
        gmac_per_second: of the network's own products in that run.
    """

    load_s: float
    quantise_s: float
    compile_s: float
    total_s: float
    images: int
    peak_mib: float
    run_ms: float
    gmac_per_second: float


def _timed(run: Callable[[], Result]) -> tuple[Result, float]:
    start = time.perf_counter()
    result = run()
    return result, time.perf_counter() - start


def measure(case_of: Callable[[], Case], count: int, started: float) -> Cost:
    """Load, quantise on `count` images, compile, run; `started` is the time when the process began."""
    import tilewright as tw
    from tilewright.evaluation import package_feeds

    case, load_s = _timed(case_of)
    images = 0 if case.model.is_quantised else len(case.calibration(count))
    model, quantise_s = _timed(lambda: case.quantised(count))
    package, compile_s = _timed(lambda: tw.compile(model, case.row.overlays[0]))
    total_s = time.time() - started
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / KIB
    feeds = package_feeds(package, next(iter(case.evaluation(1)))[0])
    best, end = float("inf"), time.perf_counter() + SECONDS_OF_RUNS
    while time.perf_counter() < end:
        best = min(best, _timed(lambda: package.run(feeds))[1])
    assert package.report is not None
    macs = float(package.report["accelerator_macs"])
    return Cost(load_s, quantise_s, compile_s, total_s, images, peak, best * 1e3, macs / best / 1e9)


def in_own_process(name: str, count: int, data: str | None) -> dict[str, Any]:
    """:func:`measure` in a process of its own. Raises TilewrightError with what the process says."""
    command = [sys.executable, "-m", "tilewright.benchmark", "compile", name, "--images", str(count)]
    command += ["--data", data] if data else []
    done = subprocess.run(
        [*command, "--started", str(time.time())], capture_output=True, text=True, check=False
    )
    if done.returncode:
        raise TilewrightError(f"{name}: {done.stderr.strip() or 'the process ended without a word'}")
    result: dict[str, Any] = json.loads(done.stdout)
    return result


def main(arguments: list[str]) -> int:
    """Measure and print."""
    options = parser("compile", str(__doc__))
    options.add_argument("networks", nargs="*", help=f"of the list; default: {', '.join(DEFAULT)}")
    options.add_argument("--images", type=int, default=100, help="calibration images (100)")
    options.add_argument("--started", type=float, help="measure in this process, which began at that time")
    chosen = options.parse_args(arguments)
    data = find_data(chosen.data)
    rows = choose(chosen.networks, [NETWORKS[name] for name in DEFAULT], data)
    if chosen.started is not None:
        cost = measure(lambda: rows[0].open(data), chosen.images, chosen.started)
        sys.stdout.write(json.dumps(asdict(cost)))
        return 0
    seconds = "{:.1f}".format
    report = Report(
        "compiling, each network in a process of its own",
        [
            ("network", str),
            ("images", str),
            ("load_s", seconds),
            ("quantise_s", seconds),
            ("compile_s", seconds),
            ("total_s", seconds),
            ("peak_mib", "{:.0f}".format),
            ("run_ms", seconds),
            ("gmac_per_second", seconds),
        ],
        chosen.json,
    )
    progress = Console(stderr=True)
    for row in rows:
        progress.print(row.name)
        report.add(network=row.name, **in_own_process(row.name, chosen.images, chosen.data))
    report.finish()
    return 0
