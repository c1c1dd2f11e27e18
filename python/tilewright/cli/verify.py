"""`tilewright verify`: every level on the same input, and the first layer that is wrong."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from tilewright.cli.console import (
    clean_stdout,
    plain_table,
    progress,
    say,
    write_json,
    write_result,
    write_table,
)
from tilewright.cli.options import (
    Batch,
    Bits,
    Calibration,
    Channels,
    Crop,
    InputShape,
    Json,
    Layout,
    Mean,
    ModelOptions,
    Resize,
    Std,
    Weights,
    quantize_options,
)
from tilewright.cli.output import check_output, write_file
from tilewright.cli.run import warn_random
from tilewright.cli.tune import is_package
from tilewright.errors import ConfigError, Fault
from tilewright.targets.config import overlay

if TYPE_CHECKING:
    from tilewright.runtime import Package
    from tilewright.verify.bisect import Bisection
    from tilewright.verify.result import Verification

EXIT_DIFFERS = 1
_NETWORK = "Where a network is given in place of a package"


def verify(
    source: Annotated[
        Path,
        typer.Argument(metavar="PKG|MODEL", help="A package; or a network, which is compiled first."),
    ],
    inputs: Annotated[
        list[str],
        typer.Option(
            "--input",
            metavar="IMG|NPY|NPZ",
            help="As `run` takes it: an image, an array, arrays by input name, or random:SEED. Can be repeated.",
        ),
    ],
    backends: Annotated[
        list[str] | None,
        typer.Option(
            "--backend",
            metavar="B",
            help="A back end beside the two simulators, as `run` takes it; can be repeated.",
        ),
    ] = None,
    levels: Annotated[
        str | None,
        typer.Option(
            "--levels",
            metavar="L,L",
            help="Only these of float, quantised, graph, integer, tile, reference, fast.",
        ),
    ] = None,
    html: Annotated[
        Path | None,
        typer.Option("--html", metavar="F", help="Write one self-contained page with histograms."),
    ] = None,
    csv: Annotated[
        Path | None, typer.Option("--csv", metavar="F", help="Write a line for each layer and level.")
    ] = None,
    bisect: Annotated[
        Path | None,
        typer.Option(
            "--bisect",
            metavar="DIR",
            help="Where a fault was found: write the smallest network that shows it, its inputs and the command.",
        ),
    ] = None,
    target: Annotated[
        str | None, typer.Option("--target", metavar="T", help="Overlay.", rich_help_panel=_NETWORK)
    ] = None,
    float_model: Annotated[
        Path | None,
        typer.Option(
            "--float",
            metavar="F.onnx",
            help="The float network that a quantised MODEL was made from.",
            rich_help_panel=_NETWORK,
        ),
    ] = None,
    plan: Annotated[
        Path | None,
        typer.Option("--plan", metavar="P", help="The plan to compile by.", rich_help_panel=_NETWORK),
    ] = None,
    weights: Weights = None,
    calibration: Calibration = None,
    bits: Bits = 8,
    input_shape: InputShape = None,
    batch: Batch = 1,
    layout: Layout = None,
    resize: Resize = None,
    crop: Crop = None,
    channels: Channels = None,
    mean: Mean = None,
    std: Std = None,
    as_json: Json = False,
) -> None:
    """Run every level of a network on the same input and name the first level and layer that is wrong.

    The table has a column a level: at the quantised level the signal-to-noise ratio against float (in brackets: on
    the same operands), below it the largest difference to the level above in integer steps, ! where it must not
    differ. Exit code 0: all levels are as they must be; 1: they are not; 2: the input is at fault.

    [bold]Examples[/bold]

      tilewright verify net.twp --input cat.jpg

      tilewright verify net.twp --input random:1 --html levels.html --bisect fault/

      tilewright verify net_qdq.onnx --target pynq-z1-w8 --input x.npy --levels integer,tile,fast --json
    """
    for path in (html, csv):
        if path is not None:
            check_output(path)
    options = ModelOptions(source, weights, input_shape or (), batch, 0, resize, crop, channels, mean, std)
    bisection: Bisection | None = None
    with clean_stdout():
        from tilewright.evaluation import input_shapes, package_feeds, package_preprocess
        from tilewright.frontend.dataset import load_input
        from tilewright.runtime import Session
        from tilewright.verify.api import Verifier, chosen_levels

        chosen = chosen_levels(None if levels is None else [x.strip() for x in levels.split(",")])
        package = _package(options, target, calibration, bits, layout, float_model, plan)
        package.require_models("verify")
        shapes, preprocess = input_shapes(package), package_preprocess(package)
        feeds = [
            package_feeds(package, load_input(text, input_shapes=shapes, preprocess=preprocess))
            for text in inputs
        ]
        with progress("levels") as report:
            verifier = Verifier(package, feeds, chosen, backends or (), Session, report)
            found = verifier.run()
        if bisect is not None and found.first is not None and found.first.layer:
            from tilewright.verify.bisect import bisect as find_part

            bisection = find_part(verifier, found, bisect)
    warn_random(package)
    _write_files(found, html, csv)
    if as_json:
        write_json({**found.to_dict(), **({} if bisection is None else {"bisection": _described(bisection)})})
    else:
        _show(found, bisection)
    if not found.passed:
        raise typer.Exit(EXIT_DIFFERS)


def _package(
    options: ModelOptions,
    target: str | None,
    calibration: str | None,
    bits: int,
    layout: str | None,
    float_model: Path | None,
    plan: Path | None,
) -> Package:
    """The package as it is, or the network compiled."""
    from tilewright import pipeline
    from tilewright.codegen.plan import Plan
    from tilewright.frontend.model import load
    from tilewright.runtime import Package

    if is_package(options.path):
        return Package.load(options.path)
    if target is None:
        raise ConfigError(Fault("a network needs a target", "--target", "`tilewright targets` lists them"))
    machine = overlay(target)
    given = None if plan is None else Plan.read(plan, machine)
    loaded = options.load()
    if not loaded.is_quantised or calibration is not None:
        with progress("calibrating") as report:
            loaded = pipeline.quantize(
                loaded,
                calibration,
                target=machine,
                options=quantize_options(bits, None, None, "adaptive"),
                layout=layout,
                progress=report,
            )
    if float_model is not None:
        loaded = replace(loaded, float_proto=load(float_model).proto)
    return pipeline.compile(loaded, machine, plan=given)


def _write_files(found: Verification, html: Path | None, csv: Path | None) -> None:
    from tilewright.verify import tables

    if csv is not None:
        write_file(csv, tables.to_csv(found).encode())
    if html is not None:
        from tilewright.verify.page import page

        write_file(html, page(found).encode())


def _show(found: Verification, bisection: Bisection | None) -> None:
    from tilewright.verify import tables

    columns = tables.header(found)
    table = plain_table(*columns, right=tuple(columns[2:]))
    for row in found.rows:
        table.add_row(*tables.line(found, row))
    write_table(table)
    write_result("\n".join(tables.summary(found)))
    if bisection is None:
        return
    if bisection.reproduced:
        write_result(f"{len(bisection.layers)} of the layers show it: {bisection.command}")
    else:
        say(
            "no part shows the fault when it is compiled again: it is in this package's bytes, and not in the "
            f"compiler; compile again. The layer alone is in {bisection.folder}"
        )


def _described(bisection: Bisection) -> dict[str, object]:
    return {
        "folder": str(bisection.folder),
        "layers": list(bisection.layers),
        "reproduced": bisection.reproduced,
        "command": bisection.command,
    }
