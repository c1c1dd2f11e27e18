"""`tilewright explore`: overlays for a network, and what each would cost."""

from __future__ import annotations

import logging
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
    LabelOffset,
    Layout,
    Mean,
    ModelOptions,
    ModelPath,
    Resize,
    Std,
    Weights,
)
from tilewright.cli.output import check_output, write_file
from tilewright.errors import ConfigError, Fault
from tilewright.targets.config import board as known_board

if TYPE_CHECKING:
    from tilewright.explore import Exploration

_SEARCH = "Search"


def explore(
    model: ModelPath,
    board: Annotated[
        str, typer.Option("--board", metavar="B", help="Board whose part the overlays are for.")
    ],
    objective: Annotated[
        str,
        typer.Option(
            "--objective",
            metavar="fps|energy|dram|area",
            help="What the table is ordered by.",
            rich_help_panel=_SEARCH,
        ),
    ] = "fps",
    widths: Annotated[
        str | None,
        typer.Option(
            "--widths",
            metavar="8/8,4/4",
            help="Bits of activations and weights to try; all that installed overlays have by default.",
            rich_help_panel=_SEARCH,
        ),
    ] = None,
    mhz: Annotated[
        int | None,
        typer.Option(
            "--mhz", help="Clock; that of the board's overlays by default.", rich_help_panel=_SEARCH
        ),
    ] = None,
    share: Annotated[
        float,
        typer.Option(
            "--share", help="Of the part's LUTs and block RAM that may be used.", rich_help_panel=_SEARCH
        ),
    ] = 0.9,
    trials: Annotated[
        int,
        typer.Option(
            "--trials", metavar="N", help="Overlays to compile and time at most.", rich_help_panel=_SEARCH
        ),
    ] = 48,
    csv: Annotated[
        Path | None, typer.Option("--csv", metavar="F", help="Write a line for each overlay that was timed.")
    ] = None,
    html: Annotated[
        Path | None, typer.Option("--html", metavar="F", help="Write one self-contained page with plots.")
    ] = None,
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
    """Find overlays for a network: the Pareto front of frames/s, energy, DRAM bytes and area of a board's part.

    Block sizes, widths, lanes and memories that the part has room for are enumerated, bounded, and where they may
    be good compiled and timed. Ctrl-C ends the search; what was timed until then is told.

    [bold]Examples[/bold]

      tilewright explore net.onnx --board ultra96 --calibration random:1

      tilewright explore net_qdq.onnx --board pynq-z1 --objective area --csv overlays.csv --html overlays.html
    """
    known_board(board)
    for path in (csv, html):
        if path is not None:
            check_output(path)
    if csv is not None and csv == html:
        raise ConfigError(Fault("two outputs have the same name", str(csv), "give each its own file"))
    chosen = None if widths is None else parse_widths(widths)
    options = ModelOptions(
        model, weights, input_shape or (), batch, label_offset, resize, crop, channels, mean, std
    )
    with clean_stdout():
        from tilewright import pipeline
        from tilewright.explore import explore as search
        from tilewright.explore import tables

        loaded = options.load()
        if not loaded.is_quantised or calibration is not None:
            with progress("calibrating") as report:
                loaded = pipeline.quantize(loaded, calibration, bits, layout=layout, progress=report)
        with progress("exploring") as report:
            found = search(
                loaded,
                board,
                objective=objective,
                widths=chosen,
                mhz=mhz,
                share=share,
                trials=trials,
                progress=report,
            )
        outputs = {} if csv is None else {csv: tables.points_csv(found)}
        if html is not None:
            outputs[html] = _page(found)
    for path, text in outputs.items():
        write_file(path, text.encode())
        say(f"{path}: {len(text.encode()):,} bytes")
    if as_json:
        write_json(tables.document(found))
        return
    table = plain_table(*tables.HEADINGS, right=tables.HEADINGS[3:])
    for point in found.front:
        table.add_row(*tables.cells(point))
    write_table(table)
    write_result(tables.counts(found))
    for reason, name, count in _reasons(found):
        write_result(f"  {name}" + (f" and {count - 1} more" if count > 1 else "") + f": {reason}")


def parse_widths(text: str) -> list[tuple[int, int]]:
    """`8/8,4/4` -> [(8, 8), (4, 4)]. Raises ConfigError."""
    found = []
    for part in text.split(","):
        first, slash, second = part.strip().partition("/")
        if not (slash and first.isdecimal() and second.isdecimal()):
            raise ConfigError(Fault(f"expected widths like 8/8,4/4, found {text!r}", "--widths"))
        found.append((int(first), int(second)))
    return found


def _page(found: Exploration) -> str:
    logging.getLogger("matplotlib").setLevel(logging.ERROR)  # it tells when it looks for fonts
    from tilewright.explore.page import page  # starts matplotlib

    return page(found)


def _reasons(found: Exploration) -> list[tuple[str, str, int]]:
    """Each reason once, with the first overlay and their number."""
    names: dict[str, list[str]] = {}
    for refused in found.refused:
        names.setdefault(refused.reason, []).append(refused.overlay)
    return [(reason, overlays[0], len(overlays)) for reason, overlays in names.items()]
