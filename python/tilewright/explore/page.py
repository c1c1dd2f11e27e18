"""An exploration as one HTML page that needs nothing else, in the report's style."""

from __future__ import annotations

import html
from collections.abc import Callable

from matplotlib.ticker import EngFormatter

from tilewright.explore.api import Exploration, Point
from tilewright.explore.tables import ABOUT, HEADINGS, cells, counts
from tilewright.report.page import document, left_cell, plot_part, table_part
from tilewright.report.plots import new_figure, svg_element

_AXES: tuple[tuple[str, str, Callable[[Point], float]], ...] = (
    ("area", "area: mean share of LUTs, DSPs and block RAM, %", lambda p: 100 * p.area),
    ("dram", "DRAM bytes per image", lambda p: p.dram_bytes),
    ("energy", "energy per image, mJ", lambda p: p.energy_mj),
)
_NAMED = 6
"""Points named in a plot: the best of the front."""


def page(found: Exploration) -> str:
    """The page: frames/s over area, DRAM bytes and energy, the front as a table, and what was refused."""
    title = f"{found.model} on {found.board}: overlays"
    parts = [f"<h1>{html.escape(title)}</h1><p class='about'>{html.escape(counts(found))}</p>"]
    for name, label, value in _AXES:
        parts.append(plot_part(f"Frames/s over {name}", _scatter(found, name, label, value), ""))
    rows = [
        [left_cell(cell) if n == 0 else html.escape(cell) for n, cell in enumerate(cells(p))]
        for p in found.front
    ]
    parts.append(f"<h2>The front</h2><p class='about'>{html.escape(ABOUT)}</p>")
    parts.append(table_part(HEADINGS, rows, left=1))
    if found.refused:
        refused = [[left_cell(r.overlay), left_cell(r.reason, wrap=True)] for r in found.refused]
        parts.append("<h2>Overlays that the network does not run on</h2>")
        parts.append(table_part(["overlay", "why"], refused, left=2))
    return document(title, parts)


def _scatter(found: Exploration, name: str, label: str, value: Callable[[Point], float]) -> str:
    figure, axes = new_figure(4.2)
    groups = (
        ("measured", [p for p in found.points if not p.front and not p.installed], "o", "#c7c7c7"),
        ("front", [p for p in found.points if p.front and not p.installed], "o", "#1f77b4"),
        ("installed", [p for p in found.points if p.installed], "D", "#ff7f0e"),
    )
    for text, points, marker, colour in groups:
        if points:
            axes.scatter(
                [value(p) for p in points], [p.fps for p in points], s=28, c=colour, marker=marker, label=text
            )
    named = {p.overlay.name: p for p in (*found.front[:_NAMED], *(p for p in found.points if p.installed))}
    for p in named.values():
        axes.annotate(_short(p), (value(p), p.fps), fontsize=7, xytext=(4, 3), textcoords="offset points")
    axes.set_xlabel(label)
    axes.set_ylabel("frames/s, host left out")
    axes.set_ylim(bottom=0)
    if name == "dram":
        axes.xaxis.set_major_formatter(EngFormatter())
    axes.grid(True, alpha=0.3)
    axes.legend(fontsize=8, frameon=False)
    return svg_element(figure, f"explore-{name}", f"Frames/s over {label}")


def _short(p: Point) -> str:
    return p.overlay.name if p.installed else p.overlay.name.removeprefix(f"{p.overlay.board.name}-")
