"""Options and output that the benchmarks of whole networks share."""

from __future__ import annotations

import argparse
import json
import sys
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from tilewright.benchmark.networks import NETWORKS, Case, Network, find_data
from tilewright.errors import ConfigError, Fault

SCHEMA = 1
WIDTH = 160
"""Of a table in a file or pipe, in characters."""


def parser(name: str, doc: str) -> argparse.ArgumentParser:
    """Options of a benchmark: networks, data folder, JSON."""
    made = argparse.ArgumentParser(prog=f"tilewright.benchmark {name}", description=doc.splitlines()[0])
    made.add_argument("--data", help="folder of models and images (TILEWRIGHT_DATA, ../shared/data)")
    made.add_argument("--json", action="store_true", help="print JSON in place of a table")
    return made


def choose(names: Sequence[str], default: Iterable[Network], data: Path | None) -> list[Network]:
    """Networks by name, or the default ones whose files are there. Raises ConfigError for unknown names."""
    unknown = [name for name in names if name not in NETWORKS]
    if unknown:
        raise ConfigError(Fault(f"no network {', '.join(unknown)}: expected some of {', '.join(NETWORKS)}"))
    if names:
        return [NETWORKS[name] for name in names]
    return [row for row in default if data is not None or not row.needs_data]


def open_cases(names: Sequence[str], default: Iterable[Network], option: str | None) -> Iterable[Case]:
    """Networks with their images, read one after the other."""
    data = find_data(option)
    return (row.open(data) for row in choose(names, default, data))


class Report:
    """A table of results, printed as it grows on a terminal's next line, or as one JSON document at the end."""

    def __init__(
        self, title: str, columns: Sequence[tuple[str, Callable[[Any], str]]], as_json: bool
    ) -> None:
        """`columns`: keys of the rows, which head the table, with what writes their values."""
        self._console = Console(width=None if sys.stdout.isatty() else WIDTH)
        self._columns = columns
        self._json = as_json
        self._rows: list[dict[str, Any]] = []
        self._title = title

    def add(self, **row: Any) -> None:
        """Take a row; missing columns stay empty."""
        self._rows.append(row)

    def finish(self, **totals: Any) -> None:
        """Print everything."""
        if self._json:
            document = {"schema": SCHEMA, "rows": self._rows, **totals}
            self._console.file.write(json.dumps(document, indent=2) + "\n")
            return
        table = Table(title=self._title)
        for i, (heading, _) in enumerate(self._columns):
            table.add_column(heading.replace("_", " "), justify="right" if i else "left")
        for row in self._rows:
            cells = [(row.get(key), write) for key, write in self._columns]
            table.add_row(*("" if value is None else write(value) for value, write in cells))
        self._console.print(table)
        for key, value in totals.items():
            self._console.print(f"{key.replace('_', ' ')}: {value}")
