"""`tilewright export`: the folder for a board."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from tilewright.cli.console import clean_stdout, plain_table, write_json, write_table
from tilewright.cli.options import Json, PackagePath


def export(
    package: PackagePath,
    to: Annotated[Path, typer.Option("--to", metavar="DIR", help="The folder, made here.")],
    arch: Annotated[
        str | None,
        typer.Option(
            "--arch",
            metavar="aarch64|armv7|native",
            help="The board's processor; native: this machine, to try the folder in place.",
            show_default="that of the overlay's board",
        ),
    ] = None,
    with_tvm: Annotated[
        bool, typer.Option("--with-tvm", help="Add the network as a library for TVM on the board.")
    ] = False,
    force: Annotated[bool, typer.Option("--force", help="Replace an earlier export.")] = False,
    as_json: Json = False,
) -> None:
    """Write a folder with all that a board needs: runtime, network, Python class, checksums, and README.md.

    The runtime is built for the board's Arm by the cross compiler of this machine.

    [bold]Examples[/bold]

      tilewright export squeezenet.twp --to board/

      tilewright export net.twp --to net-ultra96 --with-tvm --force
    """
    with clean_stdout():
        from tilewright.export.api import export as make

        made = make(package, to, arch=arch, with_tvm=with_tvm, force=force)
    if as_json:
        files = [{"name": n, "bytes": made.sizes[n], "sha256": digest} for n, digest in made.files.items()]
        write_json({"folder": str(made.folder), "arch": made.arch, "files": files})
        return
    table = plain_table("file", "bytes", right=("bytes",))
    for name, size in made.sizes.items():
        table.add_row(name, f"{size:,}")
    write_table(table)
