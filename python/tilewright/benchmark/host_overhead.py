"""What an inference costs the host, on a device that takes no time: in C++, through Python, from start to first result.

The device model of `runtime/device_model.py` ends each launch at once, so what is left is the host's: operators and
packing, which grow with the network's inputs and outputs, and the overhead, which does not: registers, cache
maintenance, waiting for the device's answer, the interpreter, the binding. The model's own reaction, that of a process
which polls, is in it.
"""

from __future__ import annotations

import tempfile
import time
from pathlib import Path
from typing import Any

import numpy as np

import tilewright as tw
from tilewright.benchmark.machine import machine
from tilewright.benchmark.networks import NETWORKS, QUICK, Case
from tilewright.benchmark.report import Report, open_cases, parser
from tilewright.evaluation import package_feeds
from tilewright.runtime import Session
from tilewright.runtime.device_model import DeviceModel

DEFAULT = ("demo", "resnet8", "squeezenet_v1.1", "det3")
CALIBRATION = 2
MOST_US = 100.0
"""What an inference may cost beside operators and packing. The Synetgy paper reports 400 us for a call of its API."""
WARM = 50


def measure(case: Case, target: str, runs: int) -> dict[str, Any]:
    """One network: medians over `runs`, in microseconds; the time to the first result in milliseconds."""
    made = tw.compile(case.quantised(CALIBRATION, QUICK), target)
    given = package_feeds(made, next(iter(case.evaluation(1)))[0])
    feeds = {name: np.ascontiguousarray(x) for name, x in given.items()}  # else each run would copy them
    size = sum(
        len(r.stream) + len(r.constants) + r.workspace_bytes + r.input_bytes + r.output_bytes
        for r in made.regions
    )
    memory = (size // (1 << 20) + 2) << 20
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder, "network.twp")
        made.strip().save(path)
        with DeviceModel(made.overlay, memory_bytes=memory) as model:
            start = time.perf_counter()
            result = Session(tw.Package.load(path), model.uri()).run(feeds)
            first = time.perf_counter() - start
            launch = result.seconds["device"]
            expected = made.run(feeds)
            equal = all(np.array_equal(result.outputs[name], value) for name, value in expected.items())
        with DeviceModel(made.overlay, memory_bytes=memory, zero_time=True) as model:
            session = Session(made, model.uri())
            rows = []
            for _ in range(WARM + runs):
                start = time.perf_counter()
                seconds = session.run(feeds).seconds
                total = time.perf_counter() - start
                rows.append((total, *(seconds[name] for name in ("run", "pack", "device"))))
    total, run, pack, device = np.array(rows[WARM:]).T * 1e6
    operators = run - pack - device
    return {
        "first_ms": first * 1e3,
        "of_it_launch_ms": launch * 1e3,
        "python_us": float(np.median(total)),
        "cpp_us": float(np.median(run)),
        "operators_us": float(np.median(operators)),
        "pack_us": float(np.median(pack)),
        "launch_us": float(np.median(device)),
        "overhead_us": float(np.median(total - operators - pack)),
        "overhead_p90_us": float(np.percentile(total - operators - pack, 90)),
        "equal": equal,
    }


def main(arguments: list[str]) -> int:
    """Measure and print; exit code 1 where an overhead passes the limit or outputs differ from the simulator's."""
    options = parser("runtime", str(__doc__))
    options.add_argument("networks", nargs="*", help=f"of the list; default: {', '.join(DEFAULT)}")
    options.add_argument("--target", default="ultra96-w8", help="overlay (ultra96-w8)")
    options.add_argument("--runs", type=int, default=1000, help="inferences of each network (1000)")
    chosen = options.parse_args(arguments)
    tenths = "{:.1f}".format
    columns = ("first_ms", "of_it_launch_ms", "python_us", "cpp_us", "operators_us", "pack_us", "launch_us")
    report = Report(
        f"host time of an inference on {chosen.target}, medians of {chosen.runs} with a device that takes no time",
        [
            ("network", str),
            *((name, tenths) for name in (*columns, "overhead_us", "overhead_p90_us")),
            ("equal", lambda value: "yes" if value else "no"),
        ],
        chosen.json,
    )
    good = True
    for case in open_cases(chosen.networks, [NETWORKS[name] for name in DEFAULT], chosen.data):
        found = measure(case, chosen.target, max(1, chosen.runs))
        good &= found["equal"] and found["overhead_us"] < MOST_US
        report.add(network=case.row.name, **found)
    report.finish(limit=f"overhead below {MOST_US:g} us: {'met' if good else 'missed'}", **machine())
    return 0 if good else 1
