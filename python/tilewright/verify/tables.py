"""A verification as a table of cells, as CSV and as JSON's plain values."""

from __future__ import annotations

import csv
import io
import math

from tilewright.verify.result import FLOAT, QUANTISED, Cell, Row, Verification

COLUMNS = (
    "name", "op", "level", "snr_db", "fed_snr_db", "elements", "unequal", "largest_difference", "fault",
)  # fmt: skip
"""Of the CSV: a line for each layer and level."""


def to_csv(found: Verification) -> str:
    """All cells; infinite ratios are `inf`, absent values empty."""
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    writer.writerow(COLUMNS)
    for row in found.rows:
        for level, cell in row.cells.items():
            d = cell.difference
            counts = ("", "", "") if d is None else (d.elements, d.unequal, d.largest)
            ratios = ("" if r is None else f"{r:.3f}" for r in (cell.snr, cell.fed_snr))
            writer.writerow([row.name, row.kind, level, *ratios, *counts, cell.fault])
    return out.getvalue()


def header(found: Verification) -> list[str]:
    """Headings of the table that people read."""
    return ["layer", "op", *(f"{level}" for level in found.levels if level != FLOAT)]


def line(found: Verification, row: Row) -> list[str]:
    """A row of it: of each level the ratio against float, or where that says nothing new the largest difference."""
    return [
        row.name,
        row.kind,
        *(
            text(level, row.cells.get(level), row.kind == "output")
            for level in found.levels
            if level != FLOAT
        ),
    ]


def text(level: str, cell: Cell | None, output: bool) -> str:
    """A cell: ratio against float at the quantised level, largest difference in steps below; ! marks a fault."""
    if cell is None:
        return "-"
    mark = "!" if cell.fault else ""
    if level == QUANTISED:
        return mark + decibels(cell.snr) + ("" if cell.fed_snr is None else f" ({decibels(cell.fed_snr)})")
    if cell.difference is None:
        return mark + ("differs" if cell.fault else "=" if output else "-")
    return mark + str(cell.difference.largest)


def decibels(ratio: float | None) -> str:
    """A ratio; `exact` without noise."""
    if ratio is None:
        return "-"
    return f"{ratio:.1f} dB" if math.isfinite(ratio) else "exact"


def summary(found: Verification) -> list[str]:
    """Verdict and notes."""
    lines = [f"note: {note}" for note in found.notes]
    first = found.first
    if first is None:
        compared = sum(row.kind != "output" for row in found.rows)
        return [*lines, f"passed: {compared} layers agree at {', '.join(found.levels)}"]
    more = len(found.faults) - 1
    return [
        *lines,
        f"first fault: {first}",
        *([f"{more} more behind it, which may follow from it"] if more else []),
    ]
