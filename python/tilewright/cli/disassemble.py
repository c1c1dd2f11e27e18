"""`tilewright disassemble` and `tilewright assemble`: a package's instructions as text, and text as instructions."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from tilewright.cli.console import write_result
from tilewright.cli.options import PackagePath
from tilewright.cli.output import check_output, write_file
from tilewright.errors import EncodingError, Fault
from tilewright.targets import listing
from tilewright.targets.package import Package


def disassemble(
    package: PackagePath,
    layer: Annotated[
        list[str] | None,
        typer.Option("--layer", metavar="L", help="Only the instructions of this layer; can be repeated."),
    ] = None,
    region: Annotated[
        list[str] | None,
        typer.Option("--region", metavar="R", help="Only this region; can be repeated."),
    ] = None,
    output: Annotated[
        Path | None,
        typer.Option("--output", "-o", metavar="F", help="Write to a file in place of standard output."),
    ] = None,
) -> None:
    """Print a package's instructions, one a line, each with the layer that it was made for.

    [bold]Examples[/bold]

      tilewright disassemble net.twp --layer conv1

      tilewright disassemble net.twp --region tilewright_0 -o net.lst
    """
    if output is not None:
        check_output(output)
    text = listing.disassemble(Package.load(package), region or (), layer or ())
    if output is None:
        write_result(text.rstrip("\n"))
    else:
        write_file(output, text.encode())


def assemble(
    source: Annotated[
        Path, typer.Argument(metavar="LISTING", help="What `disassemble` wrote, changed or not.")
    ],
    output: Annotated[
        Path,
        typer.Option(
            "--output",
            "-o",
            metavar="OUT",
            help="The stream's bytes; with --package a package with new streams.",
        ),
    ],
    package: Annotated[
        Path | None,
        typer.Option("--package", metavar="PKG", help="The package whose regions the listing has."),
    ] = None,
) -> None:
    """Assemble a listing: what was disassembled and not changed gives the same bytes.

    [bold]Examples[/bold]

      tilewright assemble net.lst --package net.twp -o changed.twp

      tilewright assemble net.lst -o stream.bin
    """
    check_output(output)
    try:
        text = source.read_text(encoding="utf-8")
    except OSError as error:
        raise EncodingError(
            Fault(f"cannot be read: {error.strerror or error}", str(source), "check the path")
        ) from None
    except UnicodeDecodeError as error:
        raise EncodingError(
            Fault(f"expected text: {error.reason}", str(source), "give a listing that `disassemble` wrote")
        ) from None
    try:
        found = listing.assemble(text)
    except EncodingError as error:
        raise EncodingError(
            *(Fault(f.message, f"{source}, {f.where}", f.remedy) for f in error.faults)
        ) from None
    if package is not None:
        data = listing.replaced(Package.load(package), found).to_bytes()
    elif len(found) == 1:
        data = found[0].stream
    else:
        names = ", ".join(block.name for block in found)
        message = f"expected one region for a stream, found {len(found)} ({names})"
        raise EncodingError(Fault(message, str(source), "give --package, or list one region"))
    write_file(output, data)
    instructions = sum(len(block.layers) for block in found)
    write_result(f"{output}: {len(data):,} bytes, {instructions:,} instructions")
