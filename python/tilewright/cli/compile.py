"""`tilewright compile`: from a network to a package."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer
from rich.table import Table

from tilewright.cli.console import (
    clean_stdout,
    plain_table,
    progress,
    write_json,
    write_result,
    write_table,
)
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
    Labels,
    Layout,
    Mean,
    MixedBudget,
    ModelOptions,
    ModelPath,
    Resize,
    Rounding,
    Std,
    Target,
    Weights,
    quantize_options,
)
from tilewright.cli.output import check_output, write_file
from tilewright.cli.run import warn_random
from tilewright.codegen.plan import Plan
from tilewright.errors import ConfigError, Fault
from tilewright.stages import record, stage
from tilewright.targets.config import Overlay, overlay

if TYPE_CHECKING:
    from tilewright.quantize.steps import Step

_NUMBERS = ("SNR of scores, dB", "same class, %", "certainty lost, points")
_PLAN = "The plan: what is merged, cut and kept on chip"


def compile_model(
    model: ModelPath,
    target: Target,
    output: Annotated[
        Path, typer.Option("--output", "-o", metavar="OUT.twp", help="Where the package is written.")
    ],
    weights: Weights = None,
    calibration: Calibration = None,
    bits: Bits = 8,
    activation_bits: ActivationBits = None,
    mixed: MixedBudget = None,
    rounding: Rounding = "adaptive",
    input_shape: InputShape = None,
    batch: Batch = 1,
    label_offset: LabelOffset = 0,
    labels: Labels = None,
    layout: Layout = None,
    plan: Annotated[
        Path | None,
        typer.Option("--plan", metavar="P", help="Merge, cut and keep by this plan.", rich_help_panel=_PLAN),
    ] = None,
    tuned: Annotated[
        Path | None,
        typer.Option(
            "--tuned",
            metavar="LOG",
            help="By the best plan in a log of `tilewright tune`.",
            rich_help_panel=_PLAN,
        ),
    ] = None,
    save_plan: Annotated[
        Path | None,
        typer.Option("--save-plan", metavar="F", help="Write the plan that was used.", rich_help_panel=_PLAN),
    ] = None,
    strip: Annotated[
        bool, typer.Option("--strip", help="Leave the float and quantised models out of the package.")
    ] = False,
    resize: Resize = None,
    crop: Crop = None,
    channels: Channels = None,
    mean: Mean = None,
    std: Std = None,
    verbose: Annotated[
        bool,
        typer.Option("--verbose", help="Tell what each step of the quantiser is worth (takes longer)."),
    ] = False,
    as_json: Json = False,
) -> None:
    """Quantise a network (unless it is quantised already) and compile it to a package.

    [bold]Examples[/bold]

      tilewright compile net.prototxt --weights net.caffemodel --target ultra96-w8 --calibration images/
      --resize 256 --crop 227 --channels bgr --mean 104,117,123 -o net.twp

      tilewright compile net.onnx --target ultra96-w8 --calibration images/ --bits 4 --mixed points=1 --verbose
      -o net.twp

      tilewright compile model_qdq.onnx --target pynq-z1-w8 -o model.twp --json

      tilewright compile model_qdq.onnx --target pynq-z1-w8 -o model.twp --save-plan plan.json

      tilewright compile model_qdq.onnx --target pynq-z1-w8 -o model.twp --plan plan.json
    """
    chosen = overlay(target)
    check_output(output)
    if save_plan is not None:
        check_output(save_plan)
        if save_plan.resolve() == output.resolve():
            raise ConfigError(
                Fault("the plan would overwrite the package", "--save-plan", "name another file")
            )
    given = _plan(plan, tuned, chosen)
    options = ModelOptions(
        model, weights, input_shape or (), batch, label_offset, resize, crop, channels, mean, std, labels
    )
    quantiser = quantize_options(bits, activation_bits, mixed, rounding)
    with record() as seconds:
        with stage("import"):
            from tilewright import pipeline
        with clean_stdout():
            with stage("import"):
                loaded = options.load()
            if not loaded.is_quantised or calibration is not None:
                with stage("quantise"), progress("calibrating") as report:
                    loaded = pipeline.quantize(
                        loaded,
                        calibration,
                        target=chosen,
                        options=quantiser,
                        measure=verbose,
                        layout=layout,
                        progress=report,
                    )
            package = pipeline.compile(loaded, chosen, plan=given, strip=strip)
            with stage("write"):
                size = package.save(output)
    if save_plan is not None and package.plan is not None:
        write_file(save_plan, package.plan.encode())
    warn_random(package)
    totals = {
        "accelerator_macs": package.report["accelerator_macs"],
        "host_macs": package.report["host_macs"],
        "regions": package.report["regions"],
        "instructions": package.report["instructions"],
        "package_bytes": size,
    }
    if as_json:
        steps = {"steps": [asdict(step) for step in loaded.steps]} if loaded.steps else {}
        rounded = {name: round(value, 3) for name, value in seconds.items()}
        write_json({**totals, **steps, "seconds": rounded})
        return
    if loaded.steps:
        write_table(_step_table(loaded.steps))
    write_result(
        f"{output}: {size:,} bytes for {chosen.name}, {totals['regions']} regions, "
        f"{totals['instructions']:,} instructions\n"
        f"MACs on the accelerator: {totals['accelerator_macs']:,}, on the host: {totals['host_macs']:,}"
    )


def _step_table(steps: tuple[Step, ...]) -> Table:
    """Loss on the calibration set after each step of the quantiser."""
    table = plain_table(
        "quantiser", "SNR of scores, dB", "same class, %", "certainty lost, points", right=_NUMBERS
    )
    for step in steps:
        rates = [step.agreement, step.certainty_lost]
        table.add_row(step.name, f"{step.snr:.1f}", *("-" if x is None else f"{x:.1f}" for x in rates))
    return table


def _plan(path: Path | None, tuned: Path | None, chosen: Overlay) -> Plan | None:
    """The plan that was asked for; None: the planner's."""
    if path is not None and tuned is not None:
        raise ConfigError(
            Fault("expected one plan, found --plan and --tuned", remedy="leave one of them out")
        )
    if path is not None:
        return Plan.read(path, chosen)
    if tuned is not None:
        from tilewright.tune.log import best_plan

        return best_plan(tuned, chosen)
    return None
