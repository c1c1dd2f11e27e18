"""Options and output that the benchmarks of whole networks share."""

from __future__ import annotations

import argparse
import csv
import json
import sys
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from tilewright.benchmark.networks import NETWORKS, Case, Network, find_data
from tilewright.errors import ConfigError, Fault

SCHEMA = 1
WIDTH = 160
"""Of a table in a file or pipe, in characters; more where the columns need it."""


def parser(name: str, doc: str) -> argparse.ArgumentParser:
    """Options of a benchmark: networks, data folder, JSON."""
    made = argparse.ArgumentParser(prog=f"tilewright.benchmark {name}", description=doc.splitlines()[0])
    made.add_argument("--data", help="folder of models and images (TILEWRIGHT_DATA, ../shared/data)")
    made.add_argument("--json", action="store_true", help="print JSON in place of a table")
    return made


def choose(
    names: Sequence[str],
    default: Iterable[Network],
    data: Path | None,
    known: Mapping[str, Network] = NETWORKS,
) -> list[Network]:
    """Networks by name, or the default ones whose files are there. Raises ConfigError for unknown names."""
    unknown = [name for name in names if name not in known]
    if unknown:
        raise ConfigError(Fault(f"no network {', '.join(unknown)}: expected some of {', '.join(known)}"))
    if names:
        return [known[name] for name in names]
    return [row for row in default if data is not None or not row.needs_data]


def open_cases(names: Sequence[str], default: Iterable[Network], option: str | None) -> Iterable[Case]:
    """Networks with their images, read one after the other."""
    data = find_data(option)
    return (row.open(data) for row in choose(names, default, data))


class Report:
    """A table of results: for people, as one JSON document, or as a file."""

    def __init__(
        self,
        title: str,
        columns: Sequence[tuple[str, Callable[[Any], str]]],
        as_json: bool = False,
        only_in_files: Collection[str] = (),
    ) -> None:
        """`columns`: keys of the rows, which head the table, with what writes their values."""
        self._columns = columns
        self._only_in_files = only_in_files
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
            sys.stdout.write(json.dumps(document, indent=2) + "\n")
            return
        table = Table(title=self._title)
        columns = [column for column in self._columns if column[0] not in self._only_in_files]
        for i, (heading, _) in enumerate(columns):
            table.add_column(heading.replace("_", " "), justify="right" if i else "left")
        for row in self._rows:
            table.add_row(*self._cells(row, columns))
        console = Console(width=None if sys.stdout.isatty() else WIDTH)
        if not sys.stdout.isatty():
            wide = Console(width=1 << 12)
            console.width = max(WIDTH, table.__rich_measure__(wide, wide.options).maximum)
        console.print(table)
        for key, value in totals.items():
            console.print(f"{key.replace('_', ' ')}: {value}")

    @staticmethod
    def _cells(row: Mapping[str, Any], columns: Sequence[tuple[str, Callable[[Any], str]]]) -> list[str]:
        cells = [(row.get(key), write) for key, write in columns]
        return ["" if value is None else write(value) for value, write in cells]

    def write_csv(self, path: Path, constants: Mapping[str, str]) -> None:
        """Write all rows with plain numbers; `constants` are columns that every row has alike."""
        keys = [key for key, _ in self._columns]
        with path.open("w", newline="", encoding="utf-8") as file:
            writer = csv.writer(file)
            writer.writerow([*keys, *constants])
            for row in self._rows:
                values = ["" if row.get(key) is None else row[key] for key in keys]
                writer.writerow([*values, *constants.values()])

    def write_markdown(self, path: Path, constants: Mapping[str, str]) -> None:
        """Write the table as people read it, under its title and the `constants`."""
        lines = [f"# {self._title}", "", *(f"- {key}: {value}" for key, value in constants.items()), ""]
        heads = [key.replace("_", " ") for key, _ in self._columns]
        lines += [_line(heads), _line(["---", *["---:"] * (len(heads) - 1)])]
        lines += [_line(self._cells(row, self._columns)) for row in self._rows]
        path.write_text("\n".join(lines) + "\n", encoding="utf-8")


def _line(cells: Sequence[str]) -> str:
    """A row of a Markdown table."""
    return "| " + " | ".join(" ".join(cell.split()).replace("|", "\\|") for cell in cells) + " |"
