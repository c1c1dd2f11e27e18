"""A verification as one HTML page: verdict, table, and for each layer the histogram of its noise against float.

Histograms are drawn as SVG here: bars of equal width around zero, the axis in the tensor's numbers.
"""

from __future__ import annotations

import html

from tilewright.report.page import document, left_cell, table_part
from tilewright.verify import tables
from tilewright.verify.result import FLOAT, Row, Verification

_WIDTH, _HEIGHT, _BASE = 260, 70, 14
_ABOUT = (
    "Quantised: signal-to-noise ratio against the float level, and in brackets against the float layer on the same "
    "operands. Below: the largest difference in integer steps to the level above; = for outputs that are equal. What "
    "no map of the machine holds, such as sums that a pool takes, is left out at its levels."
)
_NOISE = (
    "Noise of each layer at the lowest level: its numbers less those of the float level, counted by size."
)


def page(found: Verification) -> str:
    """The page, which refers to nothing outside of itself."""
    rows = [
        [left_cell(cells[0]), left_cell(cells[1]), *(_marked(c) for c in cells[2:])]
        for cells in (tables.line(found, row) for row in found.rows)
    ]
    verdict = "".join(
        f"<p class='{'about' if found.passed else 'warn'}'>{html.escape(line)}</p>"
        for line in tables.summary(found)
    )
    seconds = ", ".join(
        f"{level} {found.seconds[level]:.2f} s" for level in found.levels if level in found.seconds
    )
    title = f"{found.name} on {found.overlay}, level by level"
    faults = [[left_cell(f.level), left_cell(f.layer), left_cell(f.message, wrap=True)] for f in found.faults]
    parts = [
        f"<h1>{html.escape(title)}</h1>",
        verdict,
        f"<p class='about'>{found.images} image{'' if found.images == 1 else 's'}; {html.escape(seconds)}</p>",
        *([f"<h2>Faults</h2>{table_part(['level', 'layer', 'what'], faults, left=3)}"] if faults else []),
        f"<h2>Layers</h2><p class='about'>{html.escape(_ABOUT)}</p>",
        table_part(tables.header(found), rows, left=2),
    ]
    shown = [row for row in found.rows if row.histogram is not None]
    if shown and FLOAT in found.levels:
        figures = "".join(histogram(row) for row in shown)
        parts.append(
            f"<h2>Noise</h2><p class='about'>{html.escape(_NOISE)}</p><div class='cards'>{figures}</div>"
        )
    return document(title, parts)


def _marked(cell: str) -> str:
    colour = " style='background:#f6c7c7'" if cell.startswith("!") else ""
    return f"<td{colour}>{html.escape(cell.removeprefix('!'))}</td>"


def histogram(row: Row) -> str:
    """A layer's histogram; bars of counts, the largest as high as the figure."""
    assert row.histogram is not None
    counts, edges = row.histogram
    step, most = _WIDTH / len(counts), max(*counts, 1)
    bars = "".join(
        f"<rect x='{i * step:.1f}' y='{_HEIGHT - h:.1f}' width='{step - 0.6:.1f}' height='{h:.1f}' fill='#1f77b4'/>"
        for i, n in enumerate(counts)
        if (h := _HEIGHT * n / most)
    )
    labels = "".join(
        f"<text x='{x}' y='{_HEIGHT + _BASE - 2}' font-size='10' text-anchor='{anchor}'>{value:.3g}</text>"
        for x, anchor, value in (
            (0, "start", edges[0]),
            (_WIDTH / 2, "middle", 0.0),
            (_WIDTH, "end", edges[-1]),
        )
    )
    return (
        f"<div class='card'><span style='display:block'>{html.escape(row.name)}</span>"
        f"<svg viewBox='0 0 {_WIDTH} {_HEIGHT + _BASE}' width='{_WIDTH}' height='{_HEIGHT + _BASE}' role='img'>"
        f"{bars}<line x1='0' x2='{_WIDTH}' y1='{_HEIGHT}' y2='{_HEIGHT}' stroke='#888'/>{labels}</svg></div>"
    )
