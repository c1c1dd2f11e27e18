"""`tilewright tune`: search for a better plan."""

from __future__ import annotations

import contextlib
import math
import os
import warnings
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn

from tilewright import debug
from tilewright.cli.console import clean_stdout, progress, write_json, write_result
from tilewright.cli.options import (
    ActivationBits,
    Batch,
    Bits,
    Calibration,
    Channels,
    Crop,
    InputShape,
    Json,
    LabelOffset,
    Layout,
    Mean,
    MixedBudget,
    ModelOptions,
    Resize,
    Rounding,
    Std,
    Weights,
    quantize_options,
)
from tilewright.cli.output import check_output, write_file
from tilewright.errors import ConfigError, Fault
from tilewright.quantize.options import QuantizeOptions
from tilewright.targets.config import Overlay, overlay
from tilewright.targets.package import MAGIC, Package

if TYPE_CHECKING:
    from tilewright.frontend.model import Model
    from tilewright.tune.api import Tuned

_SEARCH = "Search"


def tune(
    source: Annotated[
        Path, typer.Argument(metavar="MODEL|PKG", help="A Caffe prototxt, an ONNX file, or a package.")
    ],
    log: Annotated[
        Path,
        typer.Option(
            "--log",
            metavar="F",
            help="File of measurements; one that exists is continued.",
            rich_help_panel=_SEARCH,
        ),
    ],
    target: Annotated[
        str | None,
        typer.Option("--target", metavar="T", help="Overlay; a package's own if left out."),
    ] = None,
    objective: Annotated[
        str,
        typer.Option(
            "--objective",
            metavar="cycles|dram|energy",
            help="What is to become small.",
            rich_help_panel=_SEARCH,
        ),
    ] = "cycles",
    backend: Annotated[
        str,
        typer.Option(
            "--backend",
            metavar="timing|analytic|board",
            help="What measures: the timing simulator, the planner's estimate, or boards of --tracker.",
            rich_help_panel=_SEARCH,
        ),
    ] = "timing",
    trials: Annotated[
        int, typer.Option("--trials", metavar="N", help="Plans to measure in all.", rich_help_panel=_SEARCH)
    ] = 500,
    seed: Annotated[
        int,
        typer.Option("--seed", metavar="S", help="Equal seeds make equal searches.", rich_help_panel=_SEARCH),
    ] = 1,
    jobs: Annotated[
        int | None,
        typer.Option(
            "--jobs",
            metavar="N",
            help="Processes that measure; as many as cores by default.",
            rich_help_panel=_SEARCH,
        ),
    ] = None,
    tracker: Annotated[
        str | None,
        typer.Option(
            "--tracker",
            metavar="HOST:PORT",
            help="Measure on workers of this RPC tracker of TVM (python -m tilewright.tune.worker --help) or on boards "
            "(python -m tilewright.runtime.server --help).",
            rich_help_panel=_SEARCH,
        ),
    ] = None,
    key: Annotated[
        str | None,
        typer.Option("--key", metavar="K", help="Key of the workers or boards.", rich_help_panel=_SEARCH),
    ] = None,
    plan_out: Annotated[
        Path | None,
        typer.Option(
            "--plan-out", metavar="P", help="Where the best plan is written.", rich_help_panel=_SEARCH
        ),
    ] = None,
    weights: Weights = None,
    calibration: Calibration = None,
    bits: Bits = 8,
    activation_bits: ActivationBits = None,
    mixed: MixedBudget = None,
    rounding: Rounding = "adaptive",
    input_shape: InputShape = None,
    batch: Batch = 1,
    label_offset: LabelOffset = 0,
    layout: Layout = None,
    resize: Resize = None,
    crop: Crop = None,
    channels: Channels = None,
    mean: Mean = None,
    std: Std = None,
    as_json: Json = False,
) -> None:
    """Search for a plan that is better than the planner's, by measuring.

    What was measured is kept in the log: a search that is stopped, even by kill -9, continues from there, and
    `tilewright compile --tuned LOG` uses the best plan in it.

    [bold]Examples[/bold]

      tilewright tune net.onnx --target ultra96-w8 --calibration images/ --trials 500 --log net.jsonl

      tilewright tune net.twp --objective dram --log net.jsonl --plan-out plan.json
    """
    chosen = None if target is None else overlay(target)
    for path in (log, plan_out):
        if path is not None:
            check_output(path)
    options = ModelOptions(
        source, weights, input_shape or (), batch, label_offset, resize, crop, channels, mean, std
    )
    quantiser = quantize_options(bits, activation_bits, mixed, rounding)
    with clean_stdout():
        from tilewright.tune import api
        from tilewright.tune.log import LogWarning

        warnings.filterwarnings("always", category=LogWarning)  # until clean_stdout ends
        network = _network(options, chosen, calibration, quantiser, layout)
        with search_progress() as report:
            tuned = api.tune(
                network,
                chosen,
                objective=objective,
                backend=backend,
                trials=trials,
                seed=seed,
                log=log,
                jobs=len(os.sched_getaffinity(0)) if jobs is None else jobs,
                tracker=tracker,
                key=key,
                progress=report,
            )
    if plan_out is not None:
        write_file(plan_out, tuned.plan.text().encode())
    if as_json:
        write_json(_document(tuned))
    else:
        write_result(_summary(tuned, log))


def _network(
    options: ModelOptions,
    chosen: Overlay | None,
    calibration: str | None,
    quantiser: QuantizeOptions,
    layout: str | None,
) -> Model | Package:
    """The package as it is, or the network quantised."""
    from tilewright import pipeline

    if is_package(options.path):
        return Package.load(options.path)
    if chosen is None:
        raise ConfigError(Fault("a network needs a target", "--target", "`tilewright targets` lists them"))
    loaded = options.load()
    if not loaded.is_quantised or calibration is not None:
        with progress("calibrating") as report:
            loaded = pipeline.quantize(
                loaded, calibration, target=chosen, options=quantiser, layout=layout, progress=report
            )
    return loaded


def is_package(path: Path) -> bool:
    """Whether a file begins like a package; what cannot be read is left to whoever reads it."""
    with contextlib.suppress(OSError), path.open("rb") as file:
        return file.read(len(MAGIC)) == MAGIC
    return False


@contextlib.contextmanager
def search_progress() -> Iterator[Callable[[int, int, float], None]]:
    """A progress bar on stderr with the best value so far; quiet in files and pipes."""
    console = Console(stderr=True)
    bar = Progress(
        TextColumn("tuning"),
        BarColumn(),
        MofNCompleteColumn(),
        TextColumn("best {task.fields[best]}"),
        TimeRemainingColumn(),
        console=console,
        transient=True,
        disable=not console.is_terminal or debug.level() > 0,
    )
    with bar:
        task = bar.add_task("tuning", total=None, best="-")

        def report(done: int, total: int, best: float) -> None:
            shown = "-" if math.isnan(best) else amount(best)
            bar.update(task, completed=done, total=total, best=shown)

        yield report


def amount(value: float) -> str:
    """A value of an objective: whole numbers as such, energies with four figures."""
    return f"{value:,.0f}" if float(value).is_integer() else f"{value:,.4g}"


def _summary(tuned: Tuned, log: Path) -> str:
    from tilewright.tune.measurement import UNITS

    unit = UNITS[tuned.objective]
    lines = [
        f"default plan: {amount(tuned.default)} {unit}",
        f"best plan:    {amount(tuned.best)} {unit}, {100 * tuned.gain:.2f} % less",
        *(f"  {region}: trial {trial}, {origin}" for region, (trial, origin) in tuned.origins.items()),
        f"{tuned.trials:,} plans measured, {tuned.measured:,} of them now"
        + (f"; {tuned.refused:,} did not compile" if tuned.refused else ""),
        f"use it: tilewright compile ... --tuned {log}",
    ]
    return "\n".join(lines)


def _document(tuned: Tuned) -> dict[str, object]:
    return {
        "objective": tuned.objective,
        "default": tuned.default,
        "best": tuned.best,
        "gain": tuned.gain,
        "trials": tuned.trials,
        "measured": tuned.measured,
        "refused": tuned.refused,
        "regions": [
            {"name": name, "trial": trial, "origin": origin}
            for name, (trial, origin) in tuned.origins.items()
        ],
    }
