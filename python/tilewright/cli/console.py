"""What goes to the terminal: results to stdout, everything else to stderr."""

from __future__ import annotations

import contextlib
import io
import json
import math
import os
import sys
import warnings
from collections.abc import Callable, Iterator, Mapping
from typing import Any

import typer
from rich.console import Console
from rich.measure import Measurement
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.table import Table

from tilewright import debug
from tilewright.errors import DataError, Fault

SCHEMA = 1
"""Version of all JSON documents."""

WIDE = 200
"""Columns where no terminal says how many there are; files and pipes are not folded at 80."""

PROSE = ("reason", "remedy", "what", "found")
"""Columns of tables that hold sentences."""
_GAP = 2

Report = Callable[[int, int], None]


def say(text: str) -> None:
    """Write a line to stderr."""
    typer.echo(text, err=True)


def write_result(text: str) -> None:
    """Write to stdout. Raises DataError where that is a file on a full disk."""
    try:
        sys.stdout.write(text + "\n")
        sys.stdout.flush()
    except BrokenPipeError:
        raise  # the reader has seen enough; typer ends quietly
    except OSError as error:
        raise DataError(Fault(f"cannot be written: {error.strerror or error}", "standard output")) from error


def write_json(document: Mapping[str, Any]) -> None:
    """Write a document with its schema version; numbers that JSON lacks become null."""
    write_result(json.dumps({"schema": SCHEMA, **_plain(document)}, indent=2, allow_nan=False))


def _plain(value: Any) -> Any:
    if isinstance(value, Mapping):
        return {key: _plain(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(item) for item in value]
    return None if isinstance(value, float) and not math.isfinite(value) else value


def write_table(table: Table) -> None:
    """Write a table to stdout."""
    screen, drawn = Console(), io.StringIO()
    width = screen.width if screen.is_terminal else WIDE
    if screen.is_terminal:  # a narrow one breaks lines, not numbers
        least = Measurement.get(screen, screen.options.update(max_width=WIDE), table).minimum
        width = max(
            width, least + _GAP * len(table.columns)
        )  # the measure leaves out what is between columns
    Console(file=drawn, force_terminal=screen.is_terminal, width=width, highlight=False).print(table)
    write_result("\n".join(line.rstrip() for line in drawn.getvalue().rstrip("\n").split("\n")))


def plain_table(*columns: str, right: tuple[str, ...] = ()) -> Table:
    """A table without lines; columns named in `right` are aligned to the right, those in PROSE are folded."""
    table = Table(box=None, pad_edge=False, header_style="bold")
    for column in columns:
        table.add_column(
            column,
            justify="right" if column in right else "left",
            overflow="fold",
            no_wrap=column not in PROSE,
        )
    return table


@contextlib.contextmanager
def clean_stdout() -> Iterator[None]:
    """Send to stderr what libraries print, from Python or from C; warnings become one line each."""
    from tilewright.frontend.caffe import CaffeWarning

    sys.stdout.flush()
    kept = os.dup(1)
    try:
        os.dup2(2, 1)
        with contextlib.redirect_stdout(sys.stderr), warnings.catch_warnings():
            warnings.filterwarnings("always", category=CaffeWarning)
            warnings.showwarning = lambda message, *_, **__: say(f"warning: {message}")
            yield
    finally:
        os.dup2(kept, 1)
        os.close(kept)


@contextlib.contextmanager
def progress(label: str) -> Iterator[Report]:
    """A progress bar on stderr, for (done, total) with total 0 while it is not known; quiet in files and pipes."""
    console = Console(stderr=True)
    bar = Progress(
        TextColumn("{task.description}"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeRemainingColumn(),
        console=console,
        transient=True,
        disable=not console.is_terminal or debug.level() > 0,  # its lines would tear the bar
    )
    with bar:
        task = bar.add_task(label, total=None)
        yield lambda done, total: bar.update(task, completed=done, total=total or None)
