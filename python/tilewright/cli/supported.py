"""`tilewright supported`: what of a network runs on the accelerator."""

from __future__ import annotations

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
    ModelPath,
    Resize,
    Std,
    Target,
    Weights,
)
from tilewright.targets.config import overlay


def supported(
    model: ModelPath,
    target: Target,
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

    No calibration is needed; without weights, `--weights random:1` does.

    [bold]Examples[/bold]

      tilewright supported net.prototxt --weights net.caffemodel --target ultra96-w8

      tilewright supported model.onnx --target pynq-z1-w8 --input-shape data=1,3,120,96 --json
    """
    chosen = overlay(target)
    options = ModelOptions(
        model, weights, input_shape or (), batch, label_offset, resize, crop, channels, mean, std
    )
    with clean_stdout(), progress("ranges") as report:
        from tilewright import pipeline

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
