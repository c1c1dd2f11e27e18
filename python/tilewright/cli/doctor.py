"""`tilewright doctor`: what of the installation works."""

from __future__ import annotations

from dataclasses import asdict

import typer

from tilewright.cli.console import clean_stdout, plain_table, write_json, write_table
from tilewright.cli.options import Json
from tilewright.doctor import examine, failed

_STYLES = {"ok": "green", "warn": "yellow", "fail": "bold red"}


def doctor(as_json: Json = False) -> None:
    """Check the installation: versions, compiled libraries, compilers, extras, memory.

    Ends with exit code 2 where something fails that commands need. A warning is about something beside them.

    [bold]Examples[/bold]

      tilewright doctor

      tilewright doctor --json

      python -m tilewright.doctor
    """
    with clean_stdout():
        found = examine()
    if as_json:
        write_json({"checks": [asdict(check) for check in found], "works": not failed(found)})
    else:
        table = plain_table("", "what", "found", "remedy")
        for check in found:
            state = f"[{_STYLES[check.state]}]{check.state}[/]"
            table.add_row(state, check.name, _escaped(check.found), _escaped(check.remedy))
        write_table(table)
    if failed(found):
        raise typer.Exit(2)


def _escaped(text: str) -> str:
    from rich.markup import escape

    return escape(text)
