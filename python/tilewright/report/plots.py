"""The report's plots, each as one SVG element that refers to nothing outside of itself.

Matplotlib draws them. Text stays text, so pages are small and can be searched; what has thousands of shapes is
embedded as a picture.
"""

from __future__ import annotations

import io
import re
from collections.abc import Mapping, Sequence
from typing import Protocol

import matplotlib
import numpy as np
from matplotlib.axes import Axes
from matplotlib.colors import to_rgb
from matplotlib.figure import Figure
from matplotlib.ticker import EngFormatter
from numpy.typing import NDArray

from tilewright.report.analysis import LayerReport, Report
from tilewright.report.attribution import unit_spans
from tilewright.report.residency import PICTURE_COLUMNS, PICTURE_ROWS
from tilewright.report.sweep import SweepRow
from tilewright.targets.isa.spec import Memory, Unit
from tilewright.targets.sim.rules import ACTIVITY_MEANING, Activity

_STYLE = {
    "svg.fonttype": "none",
    "font.family": ["sans-serif"],
    "font.sans-serif": ["DejaVu Sans"],
    "font.size": 9.0,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.axisbelow": True,
    "savefig.dpi": 140,
}
_WIDTH = 11.0
_BAR_INCHES = 0.19
_NAME_LENGTH = 34
_NAMED = 8
"""Layers named in the roofline plot: those that lose most cycles to their bound."""
_LABELLED = 0.004
"""Part of the picture of ACT that a layer must fill to be named there."""
_COLUMN_COLOURS = {
    "MATRIX steps": "#1f77b4",
    "MATRIX waits": "#9ecae1",
    "VECTOR": "#2ca02c",
    "LOAD": "#ff7f0e",
    "STORE": "#9467bd",
    "none": "#7f7f7f",
}
_READ, _WRITE, _UNMERGED, _MAC = "#ff7f0e", "#9467bd", "#c7c7c7", "#1f77b4"
_LOADED_TINT = 0.5
"""How far the colour of what LOAD wrote goes towards white."""


class SearchPoint(Protocol):
    """A trial of the tuner, as `tune/log.py` gives them.

    `value` is the objective's, smaller is better; None where the trial failed. `best` is the best so far; None before
    there is one.
    """

    @property
    def trial(self) -> int: ...
    @property
    def value(self) -> float | None: ...
    @property
    def best(self) -> float | None: ...


def colour_of(layer: int) -> str:
    """The colour of a layer in timeline and memory map; twenty take turns."""
    return str(matplotlib.colors.to_hex(matplotlib.colormaps["tab20"](layer % 20)))


def roofline(report: Report) -> str:
    """Products a cycle over products a DRAM byte, under what the machine can do."""
    board, peak = report.overlay.board, report.peak_macs
    shown = [x for x in _active(report) if x.macs and x.cycles and _dram(x)]
    figure, axes = new_figure(5.2)
    intensity = np.array([x.macs / _dram(x) for x in shown])
    ridge = peak / board.dram_bytes_per_cycle
    low = min([ridge / 8, *intensity.tolist()]) / 2
    high = max([ridge * 8, *intensity.tolist()]) * 2
    x = np.geomspace(low, high, 200)
    axes.plot(x, np.minimum(peak, x * board.dram_bytes_per_cycle), color="black", linewidth=1.2)
    place = (high, peak)
    text = f"{peak} MACs a cycle, {board.dram_bytes_per_cycle} DRAM bytes a cycle"
    axes.annotate(text, place, xytext=(-4, 4), textcoords="offset points", ha="right", va="bottom")
    if shown:
        achieved = [layer.macs / layer.cycles for layer in shown]
        area = 12 + 250 * np.sqrt([layer.cycles / report.cycles for layer in shown])
        numbers = [report.layers.index(layer) for layer in shown]
        axes.scatter(intensity, achieved, s=area, c=[colour_of(n) for n in numbers], alpha=0.75, linewidths=0)
        lost = sorted(range(len(shown)), key=lambda k: shown[k].bound_cycles - shown[k].cycles)
        for k in lost[:_NAMED]:
            axes.annotate(_short(shown[k].name), (intensity[k], achieved[k]), fontsize=7,
                          xytext=(4, 3), textcoords="offset points")  # fmt: skip
    axes.set_xscale("log")
    axes.set_yscale("log")
    axes.set_xlabel("MACs per DRAM byte")
    axes.set_ylabel("MACs per cycle")
    axes.grid(True, which="major", alpha=0.3)
    return svg_element(
        figure, "roofline", "Roofline plot: each layer's MACs per cycle over its MACs per DRAM byte"
    )


def layer_cycles(report: Report) -> str:
    """Cycles of each layer by the unit that worked, with its bound."""
    shown = [x for x in _active(report) if x.cycles or x.bound_cycles]
    figure, axes = _bars(shown)
    parts = {
        "MATRIX steps": [min(x.matrix_steps, x.unit_cycles.get("MATRIX", 0)) for x in shown],
        "MATRIX waits": [max(x.unit_cycles.get("MATRIX", 0) - x.matrix_steps, 0) for x in shown],
        **{unit: [x.unit_cycles.get(unit, 0) for x in shown] for unit in ("VECTOR", "LOAD", "STORE", "none")},
    }
    _stack(axes, parts, _COLUMN_COLOURS)
    bounds = [x.bound_cycles for x in shown]
    axes.plot(bounds, range(len(shown)), "|", color="black", markersize=9, markeredgewidth=1.6, label="bound")
    _finish_bars(axes, "cycles")
    return svg_element(figure, "cycles", "Cycles of each layer by the unit that worked, and its bound")


def unit_activity(report: Report) -> str:
    """What each unit does over the whole run, in percent."""
    figure, axes = new_figure(3.0)
    units = list(report.activity)
    colours = {
        kind.name: matplotlib.colors.to_hex(matplotlib.colormaps["tab20"](n))
        for n, kind in enumerate(Activity)
    }
    parts = {
        kind.name: [100 * report.activity[unit].get(kind.name, 0) / report.cycles for unit in units]
        for kind in Activity
        if any(kind.name in report.activity[unit] for unit in units)
    }
    _stack(axes, parts, colours)
    axes.set_yticks(range(len(units)), units)
    axes.invert_yaxis()
    axes.set_xlabel("% of the run's cycles")
    axes.set_xlim(0, 100)
    labels = [ACTIVITY_MEANING[Activity[name]] for name in parts]
    figure.legend(labels, fontsize=7, ncols=3, loc="outside lower center", frameon=False)
    return svg_element(figure, "units", "What each unit does, in percent of the run")


def dram_traffic(report: Report) -> str:
    """DRAM bytes of each layer, read and written, beside those of a compiler that keeps nothing on the chip."""
    shown = [x for x in _active(report) if _dram(x) or x.dram_bytes_unmerged]
    figure, axes = _bars(shown)
    places = np.arange(len(shown))
    axes.barh(places + 0.2, [x.dram_bytes_unmerged for x in shown], 0.38, color=_UNMERGED, label="unmerged")
    read = [x.dram_read_bytes for x in shown]
    axes.barh(places - 0.2, read, 0.38, color=_READ, label="read")
    written = [x.dram_write_bytes for x in shown]
    axes.barh(places - 0.2, written, 0.38, left=read, color=_WRITE, label="written")
    _finish_bars(axes, "DRAM bytes")
    return svg_element(figure, "dram", "DRAM bytes of each layer against unmerged ones")


def energy(report: Report) -> str:
    """Energy of each layer, for products and for DRAM."""
    shown = [x for x in _active(report) if x.energy_mj]
    figure, axes = _bars(shown)
    macs = [report.assumptions.energy_mj(x.macs, 0) for x in shown]
    dram = [report.assumptions.energy_mj(0, _dram(x)) for x in shown]
    _stack(axes, {"MACs": macs, "DRAM": dram}, {"MACs": _MAC, "DRAM": _READ})
    _finish_bars(axes, "energy, mJ", engineering=False)
    return svg_element(figure, "energy", "Energy of each layer for MACs and for DRAM traffic")


def timeline(report: Report) -> str:
    """Which layer each unit works on when."""
    figure, axes = new_figure(2.6)
    many = sum(len(run.instructions) for run in report.runs) > 400
    for run in report.runs:
        owner = np.asarray(run.layer_of)
        for spans in unit_spans(run.timing):
            start, end, layer = _joined(spans.start, spans.end, owner[spans.instruction])
            pieces = list(zip((start + run.start).tolist(), (end - start).tolist(), strict=True))
            colours = [colour_of(n) for n in layer.tolist()]
            axes.broken_barh(
                pieces, (spans.unit - 0.4, 0.8), facecolors=colours, linewidth=0, rasterized=many
            )
    axes.set_yticks([int(u) for u in Unit], [u.name for u in Unit])
    axes.invert_yaxis()
    axes.set_xlim(0, max(report.cycles, 1))
    _cycle_axis(axes)
    return svg_element(figure, "timeline", "Timeline: which layer each unit works on")


def act_map(report: Report) -> str:
    """What lies where in ACT when."""
    figure, axes = new_figure(4.6)
    capacity = report.peaks["ACT"][1]
    palette = np.array([to_rgb(colour_of(n)) for n in range(20)])
    area: dict[int, int] = {}
    places: dict[int, tuple[float, float]] = {}
    for run in report.runs:
        picture = run.residency.picture
        colours = np.ones((*picture.layer.shape, 3))
        used = picture.layer >= 0
        colours[used] = palette[picture.layer[used] % 20]
        tint = used & picture.loaded
        colours[tint] += (1 - colours[tint]) * _LOADED_TINT
        span = (run.start, run.start + run.timing.cycles)
        data = np.round(colours * 255).astype(np.uint8)
        axes.imshow(
            data, origin="lower", aspect="auto", interpolation="nearest", extent=(*span, 0, capacity / 1024)
        )
        for layer in np.unique(picture.layer[used & ~picture.loaded]).tolist():
            rows, columns = np.nonzero((picture.layer == layer) & ~picture.loaded)
            if len(rows) > area.get(layer, 0):
                area[layer] = len(rows)
                middle = run.start + (float(np.median(columns)) + 0.5) / PICTURE_COLUMNS * run.timing.cycles
                places[layer] = (
                    middle,
                    (float(np.median(rows)) + 0.5) / len(picture.layer) * capacity / 1024,
                )
    for layer, place in places.items():
        if area[layer] >= _LABELLED * PICTURE_ROWS * PICTURE_COLUMNS:
            name = _short(report.layers[layer].name)
            axes.annotate(name, place, fontsize=5.5, ha="center", va="center")
    axes.set_xlim(0, max(report.cycles, 1))
    axes.set_ylim(0, capacity / 1024)
    axes.set_ylabel("address in ACT, KiB")
    _cycle_axis(axes)
    return svg_element(figure, "act", "Memory map of ACT over time: whose map lies where")


def memory_use(report: Report) -> str:
    """Part of each scratchpad in use over time, in percent."""
    figure, axes = new_figure(2.6)
    for memory, colour in ((Memory.ACT, "#1f77b4"), (Memory.WGT, "#ff7f0e"), (Memory.PARAM, "#2ca02c")):
        times, parts = [0], [0.0]
        for run in report.runs:
            found = run.residency.occupancy[memory]
            times += (found.times + run.start).tolist()
            parts += (100 * found.used_bytes / found.capacity_bytes).tolist()
        times.append(report.cycles)
        parts.append(parts[-1])
        axes.step(times, parts, where="post", color=colour, linewidth=0.8, label=memory.name)
    axes.set_xlim(0, max(report.cycles, 1))
    axes.set_ylim(0, 105)
    axes.set_ylabel("% in use")
    axes.legend(ncols=3, loc="lower center", bbox_to_anchor=(0.5, 1.0), frameon=False)
    _cycle_axis(axes)
    return svg_element(figure, "memory", "Part of the scratchpads in use over time")


def sweep_curve(rows: Sequence[SweepRow]) -> str:
    """DRAM bytes, merged and unmerged, over the size of a memory."""
    figure, axes = new_figure(3.6)
    good = [row for row in rows if row.dram_bytes is not None]
    sizes = [row.bytes for row in rows]
    if good:
        merged = [row.dram_bytes or 0 for row in good]
        axes.plot([r.bytes for r in good], merged, "o-", color=_READ, label="as compiled")
    unmerged = [row.dram_bytes_unmerged or 0 for row in rows]
    axes.plot(sizes, unmerged, "--", color="#555555", label="unmerged")
    for row in rows:
        if row.dram_bytes is None:
            axes.axvline(row.bytes, color="#d62728", linewidth=0.8, linestyle=":")
            axes.annotate("does not fit", (row.bytes, 0), rotation=90, fontsize=7, ha="right", va="bottom")
    axes.set_xscale("log", base=2)
    axes.set_xticks(sizes, [f"{size // 1024} KiB" for size in sizes])
    axes.minorticks_off()
    axes.set_ylim(0, 1.15 * max([*unmerged, *(row.dram_bytes or 0 for row in good), 1]))
    axes.yaxis.set_major_formatter(EngFormatter(unit="B"))
    axes.set_xlabel(f"{rows[0].memory.upper()} size")
    axes.set_ylabel("DRAM traffic a run")
    axes.grid(True, alpha=0.3)
    axes.legend(frameon=False)
    return svg_element(figure, "sweep", "DRAM traffic over the size of on-chip memory")


def search_plot(points: Sequence[SearchPoint], objective: str = "objective") -> str:
    """The tuner's search: each trial's value, and the best so far."""
    figure, axes = new_figure(3.2)
    measured = [(p.trial, p.value) for p in points if p.value is not None]
    best = sorted((p.trial, p.best) for p in points if p.best is not None)
    failed = [p.trial for p in points if p.value is None and p.best is not None]
    if measured:
        axes.plot(*zip(*measured, strict=True), ".", color="#9ecae1", markersize=4, label="measured")
    if best:
        axes.step(*zip(*best, strict=True), where="post", color="#1f77b4", label="best so far")
    if failed:
        axes.plot(failed, [best[-1][1]] * len(failed), "x", color="#d62728", markersize=4, label="failed")
    axes.set_xlabel("trial")
    axes.set_ylabel(objective)
    axes.yaxis.set_major_formatter(EngFormatter())
    axes.grid(True, alpha=0.3)
    if measured or best:
        axes.legend(frameon=False)
    return svg_element(figure, "search", "The tuner's search: measurements and the best so far")


def _active(report: Report) -> list[LayerReport]:
    return [layer for layer in report.layers if not layer.on_host and not layer.folded]


def _dram(layer: LayerReport) -> int:
    return layer.dram_read_bytes + layer.dram_write_bytes


def _short(name: str) -> str:
    """A name that fits beside a bar; `$` would start a formula."""
    text = name if len(name) <= _NAME_LENGTH else f"…{name[1 - _NAME_LENGTH :]}"
    return text.replace("$", r"\$")


def _joined(
    start: NDArray[np.int64], end: NDArray[np.int64], layer: NDArray[np.int64]
) -> tuple[NDArray[np.int64], NDArray[np.int64], NDArray[np.int64]]:
    """Spans of one layer that touch become one."""
    if not len(start):
        return start, end, layer
    new = np.concatenate([[True], (start[1:] != end[:-1]) | (layer[1:] != layer[:-1])])
    first = np.flatnonzero(new)
    return start[first], end[np.concatenate([first[1:] - 1, [len(end) - 1]])], layer[first]


def new_figure(height: float) -> tuple[Figure, Axes]:
    """A figure as wide as the page, and its axes; `height` in inches."""
    with matplotlib.rc_context(_STYLE):
        figure = Figure(figsize=(_WIDTH, height), layout="constrained")
        return figure, figure.add_subplot()


def _bars(shown: Sequence[LayerReport]) -> tuple[Figure, Axes]:
    """Axes with a line for each layer, the first on top."""
    figure, axes = new_figure(1.1 + _BAR_INCHES * max(len(shown), 1))
    axes.set_yticks(range(len(shown)), [_short(layer.name) for layer in shown], fontsize=7)
    axes.set_ylim(max(len(shown), 1) - 0.4, -0.6)
    return figure, axes


def _stack(axes: Axes, parts: Mapping[str, Sequence[float]], colours: Mapping[str, str]) -> None:
    left: NDArray[np.float64] = np.zeros(max((len(v) for v in parts.values()), default=0))
    for name, values in parts.items():
        axes.barh(range(len(values)), values, 0.76, left=left, color=colours[name], label=name)
        left = left + np.asarray(values, np.float64)


def _finish_bars(axes: Axes, label: str, *, engineering: bool = True) -> None:
    axes.set_xlabel(label)
    if engineering:
        axes.xaxis.set_major_formatter(EngFormatter())
    axes.grid(True, axis="x", alpha=0.3)
    axes.legend(ncols=7, fontsize=8, loc="lower left", bbox_to_anchor=(0, 1.0), frameon=False)


def _cycle_axis(axes: Axes) -> None:
    axes.set_xlabel("cycle")
    axes.xaxis.set_major_formatter(EngFormatter())


_HEAD = re.compile(r"^.*?(?=<svg )", re.DOTALL)
_METADATA = re.compile(r"<metadata>.*?</metadata>", re.DOTALL)
_NAMES = re.compile(r'(\bid="|href="#|url\(#)')
_SIZE = re.compile(r' (?:width|height)="[^"]*"')


def svg_element(figure: Figure, name: str, title: str) -> str:
    """The figure's SVG element: no document type, no metadata, ids of its own, as wide as the page."""
    text = io.StringIO()
    with matplotlib.rc_context(_STYLE | {"svg.hashsalt": name}):
        figure.savefig(text, format="svg", metadata={"Date": None})
    svg = _METADATA.sub("", _HEAD.sub("", text.getvalue(), count=1), count=1)
    svg = _NAMES.sub(rf"\g<1>{name}-", svg)
    tag, _, rest = svg.partition(">")
    tag = _SIZE.sub("", tag).replace("<svg ", f'<svg role="img" aria-label="{title}" ', 1)
    return f"{tag}>{rest}"
