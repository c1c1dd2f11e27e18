"""`tilewright opt`: any sequence of passes over a network, looked at, verified and timed."""

from __future__ import annotations

import math
import time
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from tilewright.cli.console import clean_stdout, plain_table, say, write_json, write_result, write_table
from tilewright.cli.options import (
    Batch,
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
from tilewright.cli.output import check_output, write_file
from tilewright.errors import ConfigError, Fault
from tilewright.targets.config import overlay

if TYPE_CHECKING:
    from tilewright.opt import Ran

_LOOK = "Looking at passes"


def opt(
    model: Annotated[
        Path | None,
        typer.Argument(metavar="MODEL", help="A prototxt, an ONNX file, or a level that opt wrote."),
    ] = None,
    passes: Annotated[
        str | None,
        typer.Option(
            "--passes",
            "-p",
            metavar="A,B{x=1},(C,D)*",
            help="Passes in their order; ()* repeats until nothing changes. Default: those of `compile`.",
        ),
    ] = None,
    output: Annotated[
        Path | None,
        typer.Option("--output", "-o", metavar="F", help="Write the resulting level; default: print it."),
    ] = None,
    target: Annotated[
        str, typer.Option("--target", metavar="T", help="Overlay to compile for.")
    ] = "ultra96-w8",
    list_all: Annotated[
        bool, typer.Option("--list", help="List passes, their options and levels.", rich_help_panel=_LOOK)
    ] = False,
    print_before: Annotated[
        list[str] | None,
        typer.Option(
            "--print-before",
            metavar="NAME|all",
            help="Print the level before a pass; `all`: before each that changes it.",
            rich_help_panel=_LOOK,
        ),
    ] = None,
    print_after: Annotated[
        list[str] | None,
        typer.Option(
            "--print-after",
            metavar="NAME|all",
            help="Print the level after a pass; `all`: after each that changed it.",
            rich_help_panel=_LOOK,
        ),
    ] = None,
    verify_each: Annotated[
        bool,
        typer.Option(
            "--verify-each",
            help="Run the network after each pass; stop where results change.",
            rich_help_panel=_LOOK,
        ),
    ] = False,
    time_passes: Annotated[
        bool, typer.Option("--time-passes", help="Tell the seconds of each pass.", rich_help_panel=_LOOK)
    ] = False,
    trust_script: Annotated[
        bool, typer.Option("--trust-script", help="Read a .py of TVM script, which runs as Python.")
    ] = False,
    weights: Weights = None,
    calibration: Calibration = None,
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
    """Run passes over a network by name, and write or print what comes of it.

    [bold]Examples[/bold]

      tilewright opt --list

      tilewright opt net.onnx -p fold_constants,fold_pad --print-after all -o folded.onnx

      tilewright opt net.onnx -p "canonicalise,quantise{bits=4}" --calibration images/ --verify-each -o small.onnx

      tilewright opt model_qdq.onnx -p canonicalise,import,qdq_to_integer -o integer.json

      tilewright opt integer.json -p collapse_layouts,partition,plan,emit -o net.lst

      tilewright opt model_qdq.onnx --time-passes -o net.twp
    """
    if list_all:
        _list(as_json)
        return
    if model is None:
        raise ConfigError(
            Fault("expected MODEL or --list", "opt", "give a network, or --list for the passes")
        )
    chosen = overlay(target)
    if output is not None:
        check_output(output)
    options = ModelOptions(
        model, weights, input_shape or (), batch, label_offset, resize, crop, channels, mean, std
    )
    with clean_stdout():
        from tilewright import opt as passes_of
        from tilewright.opt.text import check_suffix
        from tilewright.opt.text import show as shown

        state = passes_of.start(model, chosen, lambda: options.load(()), trust_script)
        state.calibration, state.layout = calibration, layout
        watch = passes_of.Watch(
            print_before or (), print_after or (), lambda head, text: say(f"=== {head}\n{text}"), verify_each
        )
        items = passes_of.sequence(passes, state.level, output, watch)
        begin = time.perf_counter()
        ran = passes_of.optimise(state, items, watch)
        seconds = time.perf_counter() - begin
        data = None if output is None else check_suffix(state.level, output)(state)
        text = shown(state) if output is None and not as_json else ""
    if output is not None and data is not None:
        write_file(output, data)
    if as_json:
        rows = [_row(r, time_passes) for r in ran]
        write_json({"level": state.level, "passes": rows, **({"seconds": seconds} if time_passes else {})})
        return
    if verify_each or time_passes:
        _tell(ran, seconds, verify_each, time_passes)
    if output is None:
        write_result(text.rstrip("\n"))
    else:
        assert data is not None
        write_result(f"{output}: {len(data):,} bytes, level {state.level}")


def _row(ran: Ran, timed: bool) -> dict[str, object]:
    """A pass as JSON."""
    checked = [
        {"keeps": c.keeps, "largest": c.largest, "allowed": c.allowed, "snr": c.snr} for c in ran.comparisons
    ]
    row: dict[str, object] = {"name": ran.name, "level": ran.level, "runs": ran.runs, "changes": ran.changes}
    return row | ({"seconds": ran.seconds} if timed else {}) | ({"verified": checked} if checked else {})


def _tell(ran: Sequence[Ran], seconds: float, verified: bool, timed: bool) -> None:
    """The table of passes, to standard error beside a level that is printed."""
    columns = ["pass", "level", "runs", "changes"]
    more = ["keeps", "largest difference", "allowed", "SNR, dB"] if verified else []
    table = plain_table(
        *columns, *more, *(["ms"] if timed else []), right=tuple(columns[2:] + more[1:] + ["ms"])
    )
    for r in ran:
        cells = [r.name, r.level, str(r.runs), str(r.changes)]
        if verified:
            cells += _compared(r)
        table.add_row(*cells, *([f"{1e3 * r.seconds:.1f}"] if timed else []))
    write_table(table)
    if timed:
        within = sum(r.seconds for r in ran)
        write_result(
            f"passes {1e3 * within:.1f} ms, in all with printing and verifying {1e3 * seconds:.1f} ms"
        )


def _compared(ran: Ran) -> list[str]:
    if not ran.comparisons:
        return ["", "", "", ""]
    keeps = ran.comparisons[-1].keeps
    largest = max(c.largest for c in ran.comparisons)
    allowed, snr = max(c.allowed for c in ran.comparisons), min(c.snr for c in ran.comparisons)
    unit = " steps" if keeps == "steps" else ""
    limit = "any" if math.isinf(allowed) else f"{allowed:.3g}{unit}"
    return [keeps, f"{largest:.3g}{unit}", limit, "equal" if math.isinf(snr) and snr > 0 else f"{snr:.1f}"]


def _list(as_json: bool) -> None:
    """All passes and sequences."""
    with clean_stdout():
        from tilewright.opt.registry import PASSES, SEQUENCES
        from tilewright.opt.spec import describe
        from tilewright.opt.state import ABOUT
    if as_json:
        rows = [
            {
                "name": row.name,
                "doc": row.doc,
                "takes": list(row.takes),
                "gives": row.gives or None,
                "options": [
                    {"name": o.name, "type": o.type_text, "default": describe(o).partition(" = ")[2]}
                    for o in row.options.values()
                ],
            }
            for row in PASSES.values()
        ]
        write_json({"passes": rows, "sequences": dict(SEQUENCES), "levels": dict(ABOUT)})
        return
    table = plain_table("pass", "takes", "gives", "does", "options")
    for row in PASSES.values():
        options = "\n".join(describe(o) for o in row.options.values())
        table.add_row(row.name, "\n".join(row.takes), row.gives or "the same", row.doc, options)
    write_table(table)
    write_result("\nsequences")
    for name, text in SEQUENCES.items():
        write_result(f"  {name} = {text}")
    write_result("\nlevels")
    for level, about in ABOUT.items():
        write_result(f"  {level:<10} {about}")
