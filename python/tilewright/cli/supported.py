"""`tilewright supported`: what of a network runs on the accelerator."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Annotated

import typer

from tilewright.cli.console import clean_stdout, plain_table, progress, write_json, write_result, write_table
from tilewright.cli.options import (
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
    ModelOptions,
    Resize,
    Std,
    Weights,
)
from tilewright.errors import ConfigError, Fault, FaultList
from tilewright.targets.config import Overlay, overlay

DEFAULT_OVERLAY = "ultra96-w8"
UNTRAINED = "random:1"


def supported(
    model: Annotated[
        Path | None, typer.Argument(metavar="MODEL", help="A Caffe prototxt or an ONNX file.")
    ] = None,
    target: Annotated[
        str | None,
        typer.Option(
            "--target", metavar="T", help="Overlay to compile for; `tilewright targets` lists them."
        ),
    ] = None,
    list_all: Annotated[
        bool, typer.Option("--list", help="Print the page of supported operators, as Markdown.")
    ] = False,
    weights: Weights = None,
    calibration: Calibration = None,
    bits: Bits = 8,
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
    """Tell of every operator whether it runs on the accelerator or the host, and why.

    Needs no calibration and, of a prototxt, no weights: random ones stand for them.

    [bold]Examples[/bold]

      tilewright supported net.prototxt --weights net.caffemodel --target ultra96-w8

      tilewright supported model.onnx --target pynq-z1-w8 --input-shape data=1,3,120,96 --json

      tilewright supported --list --target ultra96-w4
    """
    if list_all:
        if model is not None:
            raise ConfigError(
                Fault(f"expected no model beside --list, found {model}", remedy="leave one out")
            )
        _list(overlay(target or DEFAULT_OVERLAY))
        return
    faults = FaultList()
    if model is None:
        faults.add("expected MODEL or --list", remedy="give a prototxt or an ONNX file")
    if target is None:
        faults.add("expected an overlay", where="--target", remedy="`tilewright targets` lists them")
    if model is None or target is None:
        raise ConfigError(*faults)
    chosen = overlay(target)
    options = ModelOptions(
        model, weights, input_shape or (), batch, label_offset, resize, crop, channels, mean, std
    )
    with clean_stdout(), progress("ranges") as report:
        from tilewright import pipeline
        from tilewright.frontend.model import is_caffe

        if weights is None and is_caffe(model):
            options = replace(options, weights=UNTRAINED)
        found = pipeline.supported(
            options.load(), chosen, calibration=calibration, bits=bits, layout=layout, progress=report
        )
    if as_json:
        write_json(found.to_dict())
        return
    table = plain_table("layer", "operator", "MACs", "place", "reason", "remedy", right=("MACs",))
    for row in found.layers:
        macs = f"{row.macs:,}" if row.macs else ""
        table.add_row(row.name, row.op, macs, row.place, row.reason, row.remedy)
    write_table(table)
    write_result(f"MACs on the accelerator: {found.accelerator_macs:,}, on the host: {found.host_macs:,}")


def _list(chosen: Overlay) -> None:
    """The page of an overlay."""
    with clean_stdout():
        from tilewright.relay_passes.page import page
    write_result(page(chosen).rstrip("\n"))
