"""`tilewright evaluate`: accuracy of a package on labelled images."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from tilewright.cli.console import clean_stdout, plain_table, progress, write_json, write_table
from tilewright.cli.options import Json, Layout, PackagePath
from tilewright.cli.run import warn_random

if TYPE_CHECKING:
    from tilewright.evaluation import Accuracy


def evaluate(
    package: PackagePath,
    data: Annotated[
        str,
        typer.Option(
            "--data",
            metavar="DIR|NPZ",
            help="Folder with images/ and labels.csv (file,label), or NPZ with images and labels.",
        ),
    ],
    label_offset: Annotated[
        int | None,
        typer.Option("--label-offset", metavar="N", help="Added to the labels; default: as compiled."),
    ] = None,
    layout: Layout = None,
    as_json: Json = False,
) -> None:
    """Tell the accuracy of the float, the quantised and the simulated network side by side.

    [bold]Examples[/bold]

      tilewright evaluate squeezenet.twp --data images/

      tilewright evaluate mobilenet.twp --data test.npz --label-offset 1 --json
    """
    with clean_stdout(), progress("evaluating") as report:
        from tilewright import evaluation
        from tilewright.runtime import Package

        loaded = Package.load(package)
        found = evaluation.evaluate(loaded, data, label_offset=label_offset, layout=layout, progress=report)
    warn_random(loaded)
    if as_json:
        write_json(found.to_dict())
        return
    table = plain_table(f"{found.images} images", "top-1 %", "top-5 %", right=("top-1 %", "top-5 %"))
    for name in ("float", "quantised", "simulated"):
        accuracy: Accuracy | None = getattr(found, name)
        if accuracy is not None:
            table.add_row(
                name, f"{accuracy.top1:.2f}", "" if accuracy.top5 is None else f"{accuracy.top5:.2f}"
            )
    reference = "float" if found.float is not None else "quantised"
    write_table(table)
    typer.echo(f"simulated against {reference}: {found.flips.won} won, {found.flips.lost} lost")
