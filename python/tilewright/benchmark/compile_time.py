"""Measure what compiling costs: seconds from file to package, by stage, and peak memory.

Each network is compiled by `tilewright compile` in a process of its own, from the start of Python to its end. Networks
that come float are quantised beforehand and compiled from that file, or, with --float, calibrated on noise in the
measured process.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from rich.console import Console

from tilewright.benchmark.architectures import ALL
from tilewright.benchmark.machine import machine
from tilewright.benchmark.marks import judged
from tilewright.benchmark.networks import LIGHT, NOISE, SEEDED, Network, find_data
from tilewright.benchmark.quantised import Quantised
from tilewright.benchmark.report import Report, choose, parser
from tilewright.errors import TilewrightError
from tilewright.stages import STAGES
from tilewright.zoo import LIGHT_MODELS

DEFAULT = (
    "squeezenet_v1.1",
    "light_resnet50",
    "light_densenet121",
    "mobilenet_v2",
    "mobilenet_v1_0.25_qdq",
    "resnet8_qdq",
    "vww_qdq",
    "kws_qdq",
)
"""Networks whose compilation has a mark."""
KIB = 1024


@dataclass(frozen=True)
class Cost:
    """What compiling a network cost.

    Attributes:
        start: seconds of Python, the command line's imports and the end of the process.
        stages: seconds by stage (`tilewright.stages`).
        compile_s: seconds of the whole process by the clock.
        cpu_s: seconds of processor time, all threads; on a machine with other work this is what can be compared.
        peak_mib: largest resident memory, 2^20 bytes.
    """

    start: float
    stages: dict[str, float]
    compile_s: float
    cpu_s: float
    peak_mib: float


def arguments_of(row: Network, quantised: Quantised, data: Path | None, whole: bool) -> list[str]:
    """What `tilewright compile` takes for a network; with `whole` its own files, quantised there."""
    if not whole or row.quantised:
        return [str(quantised.path(row))]
    if row.files[0] in LIGHT_MODELS:
        given = [str(LIGHT / f"light_{row.files[0]}.onnx"), "--weights", SEEDED]
    else:
        files = [str(row.case(data).path(file)) for file in row.files]
        given = files[:1]
        if files[0].endswith(".prototxt"):
            given += ["--weights", files[1] if len(files) == 2 else SEEDED]
    for name, shape in (row.shapes or {}).items():
        given += ["--input-shape", f"{name}={','.join(map(str, shape))}"]
    return [*given, "--calibration", NOISE]


def measure(given: Sequence[str], target: str, output: Path) -> Cost:
    """Run `tilewright compile`. Raises TilewrightError with what it says where it fails."""
    command = [sys.executable, "-m", "tilewright", "compile", *given, "--target", target]
    with tempfile.TemporaryFile() as out, tempfile.TemporaryFile() as err:
        start = time.perf_counter()
        process = subprocess.Popen([*command, "--output", str(output), "--json"], stdout=out, stderr=err)
        _, status, usage = os.wait4(process.pid, 0)  # unlike wait(), tells what this process alone used
        seconds = time.perf_counter() - start
        process.returncode = os.waitstatus_to_exitcode(status)
        out.seek(0)
        err.seek(0)
        if process.returncode:
            said = err.read().decode(errors="replace").strip()
            raise TilewrightError(said or "the process ended without a word")
        stages: dict[str, float] = json.loads(out.read())["seconds"]
    return Cost(
        start=seconds - sum(stages.values()),
        stages=stages,
        compile_s=seconds,
        cpu_s=usage.ru_utime + usage.ru_stime,
        peak_mib=usage.ru_maxrss / KIB,
    )


def main(arguments: list[str]) -> int:
    """Measure and print; exit code 1 where a mark is missed."""
    options = parser("compile", str(__doc__))
    options.add_argument("networks", nargs="*", help=f"of the list; default: {', '.join(DEFAULT)}")
    options.add_argument("--target", default="ultra96-w8", help="an overlay (ultra96-w8)")
    options.add_argument(
        "--float", action="store_true", help="calibrate float networks in the measured process"
    )
    options.add_argument("--cache", type=Path, help="folder that keeps quantised networks between runs")
    options.add_argument("--repeat", type=int, default=1, help="runs of each network; the fastest counts (1)")
    options.add_argument("--csv", type=Path, help="file for the table, with machine and versions")
    options.add_argument("--markdown", type=Path, help="file for the table, with machine and versions")
    chosen = options.parse_args(arguments)
    data = find_data(chosen.data)
    rows = choose(chosen.networks, [ALL[name] for name in DEFAULT], data, ALL)
    seconds = "{:.2f}".format
    report = Report(
        "compiling, each network in a process of its own",
        [
            ("network", str),
            ("overlay", str),
            ("start", seconds),
            *((name, seconds) for name in STAGES),
            ("compile_s", seconds),
            ("cpu_s", seconds),
            ("peak_mib", "{:.0f}".format),
            ("marks", str),
            ("verdict", str),
        ],
        chosen.json,
    )
    progress = Console(stderr=True)
    missed = False
    with tempfile.TemporaryDirectory() as folder:
        quantised = Quantised(data, chosen.cache or Path(folder))
        for row in rows:
            progress.print(row.name)
            given = arguments_of(row, quantised, data, chosen.float)
            costs = [
                measure(given, chosen.target, Path(folder, "out.twp")) for _ in range(max(1, chosen.repeat))
            ]
            cost = min(costs, key=lambda c: c.compile_s)
            figures = asdict(cost)
            against = judged(row.name, chosen.target, figures)
            missed |= any(verdict == "miss" for _, verdict in against)
            report.add(
                network=row.name,
                overlay=chosen.target,
                **figures.pop("stages"),
                **figures,
                marks="; ".join(str(mark) for mark, _ in against),
                verdict="; ".join(verdict for _, verdict in against),
            )
    for path, write in ((chosen.csv, report.write_csv), (chosen.markdown, report.write_markdown)):
        if path is not None:
            write(path, machine())
    report.finish(**machine())
    return 1 if missed else 0
