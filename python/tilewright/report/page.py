"""The report as one HTML page that needs nothing else: no network, no script, plots inside."""

from __future__ import annotations

import html
from collections.abc import Iterable, Sequence

from tilewright.report import plots
from tilewright.report.analysis import LayerReport, Report
from tilewright.report.plots import SearchPoint
from tilewright.report.sweep import SweepRow
from tilewright.report.tables import totals

_CSS = """
body { font: 15px/1.45 system-ui, sans-serif; color: #1b1b1b; max-width: 1280px; margin: 1.5em auto; padding: 0 1em; }
h1 { font-size: 1.5em; margin-bottom: .1em; } h2 { font-size: 1.15em; margin: 1.8em 0 .3em; }
p.about { color: #555; margin: .2em 0 .8em; } .warn { background: #fff3cd; padding: .5em .8em; }
.cards { display: flex; flex-wrap: wrap; gap: .7em; margin: 1em 0; }
.card { border: 1px solid #ddd; border-radius: 6px; padding: .5em .8em; min-width: 8.5em; }
.card b { display: block; font-size: 1.25em; } .card span { color: #555; font-size: .85em; }
table { border-collapse: collapse; font-size: .82em; width: 100%; }
th, td { padding: .18em .5em; text-align: right; border-bottom: 1px solid #eee; white-space: nowrap; }
th { background: #fff; } .l { text-align: left; } td.wrap { white-space: normal; }
tr.host td { background: #fdeeee; } .swatch { display: inline-block; width: .8em; height: .8em; margin-right: .4em; }
figure { margin: .4em 0; } figure svg { width: 100%; height: auto; } .scroll { overflow-x: auto; }
"""

_ABOUT = {
    "cycles": "Each cycle of the run belongs to one layer: that of the first unit at work, MATRIX before VECTOR before "
    "LOAD before STORE; without any, to the layer that is waited for. So a layer that hides behind another has few "
    "cycles and a ratio above 1, and all add up to the total. The black mark is the layer's bound.",
    "roofline": "The line is what MATRIX and DRAM allow; the area of a point grows with its layer's cycles.",
    "units": "Each unit does one thing in each cycle.",
    "dram": "LOAD, STORE and FETCH. Unmerged: every layer reads its inputs from DRAM and writes its result there once, "
    "and reads its weights once.",
    "timeline": "Colours are those of the layer table.",
    "act": "Which layer's result lies where; pale: loaded from DRAM for that layer. A row counts from the start of the "
    "instruction that writes it to the end of the last that reads it.",
    "sweep": "The network compiled again for overlays that differ in the size of this memory.",
}


def page(
    report: Report,
    sweep: Sequence[SweepRow] = (),
    search: Sequence[SearchPoint] = (),
    objective: str = "objective",
) -> str:
    """The page; `sweep` and `search` (a tuner's trials of an objective) add their plots where they are given."""
    parts = [_head(report), _cards(report), _host(report)]
    if report.runs:
        parts += [
            plot_part("Roofline", plots.roofline(report), _ABOUT["roofline"]),
            plot_part("Cycles by layer", plots.layer_cycles(report), _ABOUT["cycles"]),
            plot_part("What the units do", plots.unit_activity(report), _ABOUT["units"]),
            plot_part("DRAM traffic by layer", plots.dram_traffic(report), _ABOUT["dram"]),
            plot_part("Energy by layer", plots.energy(report), _energy_text(report)),
            plot_part("Timeline", plots.timeline(report), _ABOUT["timeline"]),
            plot_part("Memory map of ACT", plots.act_map(report), _ABOUT["act"]),
            plot_part("Scratchpads in use", plots.memory_use(report), ""),
            _peaks(report),
        ]
    if sweep:
        parts += [plot_part("Memory sweep", plots.sweep_curve(sweep), _ABOUT["sweep"]), _sweep_table(sweep)]
    if search:
        parts.append(plot_part("Tuning", plots.search_plot(search, objective), ""))
    parts.append(_layers(report))
    return document(f"{report.name} on {report.overlay.name}", parts)


def document(title: str, parts: Iterable[str]) -> str:
    """A page of HTML elements in the report's style."""
    return (
        f'<!DOCTYPE html>\n<html lang="en"><head><meta charset="utf-8"><title>{html.escape(title)}</title>'
        f"<style>{_CSS}</style></head><body>\n" + "\n".join(parts) + "\n</body></html>\n"
    )


def _head(report: Report) -> str:
    o = report.overlay
    text = (
        f"{o.board.name} ({o.board.part}), {o.block_in} x {o.block_out} MACs a cycle at {o.mhz} MHz, ACT {o.act_kib} "
        f"KiB, WGT {o.wgt_kib} KiB; batch {report.batch}; compiled by Tilewright {report.tool_version}, timed by its "
        "simulator"
    )
    found = f"<h1>{html.escape(report.name)} on {html.escape(o.name)}</h1><p class='about'>{html.escape(text)}</p>"
    if report.random:
        found += (
            "<p class='warn'>Weights or calibration are random: for speed only, the answers mean nothing.</p>"
        )
    return found


def _cards(report: Report) -> str:
    t = totals(report)
    cards = [
        (_number(t["fps"], 1), "frames/s, host left out"),
        (_number(t["fps_with_host"], 1), f"frames/s with host ({_how(report)})"),
        (percent(t["host_share"]), "host's share of the time"),
        (f"{t['cycles']:,}", "cycles"),
        (
            percent(t["roofline_ratio"]),
            f"of the bound of {t['bound_cycles']:,} ({t['limited_by'] or 'none'})",
        ),
        (percent(t["utilisation"]), "MATRIX utilisation"),
        (
            f"{t['dram_bytes'] / 1e6:.2f} MB",
            f"DRAM traffic; unmerged {t['dram_bytes_unmerged'] / 1e6:.2f} MB",
        ),
        (f"{t['energy_mj']:.3g} mJ", "accelerator and DRAM"),
        (f"{t['macs'] / 1e6:,.1f} M", f"MACs, of them {t['host_macs']:,} on the host"),
    ]
    if t["bound_cycles_now"] != t["bound_cycles"]:
        cards.append((f"{t['bound_cycles_now']:,}", "bound by the overlay's present limits"))
    inner = "".join(
        f"<div class='card'><b>{html.escape(value)}</b><span>{html.escape(what)}</span></div>"
        for value, what in cards
    )
    return f"<div class='cards'>{inner}</div>"


def _how(report: Report) -> str:
    return "measured" if report.host.measured else "estimated"


def _host(report: Report) -> str:
    """Host layers before everything else."""
    text = f"Host part: {report.host.ms:.3f} ms a run, {report.host.source}. Host and accelerator take turns."
    layers = report.host_layers
    rows = [
        [left_cell(x.name), left_cell(x.op), left_cell(x.reason, wrap=True), f"{x.macs:,}"] for x in layers
    ]
    work = [[left_cell(w.op), f"{w.elements:,}", f"{w.ms:.4f}"] for w in report.host.work]
    table = (
        table_part(["layer", "operator", "why on the host", "MACs"], rows, left=3)
        if rows
        else "<p>No layer.</p>"
    )
    return (
        f"<h2>On the host: {len(layers)} layer{'' if len(layers) == 1 else 's'}, "
        f"{percent(report.host_time_share)} of the time</h2>"
        f"<p class='about'>{html.escape(text)}</p>{table}"
        f"<details><summary>Operators of the host part, with their estimates</summary>"
        f"{table_part(['operator', 'elements', 'estimated ms'], work, left=1)}</details>"
    )


def _energy_text(report: Report) -> str:
    a = report.assumptions
    return f"{a.pj_per_mac:g} pJ a MAC, {a.pj_per_dram_bit:g} pJ a DRAM bit; the host is left out."


def _peaks(report: Report) -> str:
    rows = [
        [left_cell(name), f"{peak:,}", f"{size:,}", percent(peak / size if size else None)]
        for name, (peak, size) in report.peaks.items()
    ]
    return "<h2>Peak use of memories</h2>" + table_part(
        ["memory", "peak bytes", "size", "part"], rows, left=1
    )


def _sweep_table(rows: Iterable[SweepRow]) -> str:
    cells = [
        [
            left_cell(row.memory.upper()), f"{row.asked_bytes // 1024:,}", f"{row.bytes // 1024:,}",
            _number(row.cycles), _number(row.fps, 1), _number(row.dram_bytes), _number(row.dram_bytes_unmerged),
            _number(row.host_layers), left_cell(row.reason, wrap=True),
        ]
        for row in rows
    ]  # fmt: skip
    header = [
        "memory",
        "asked KiB",
        "KiB",
        "cycles",
        "frames/s",
        "DRAM bytes",
        "unmerged",
        "host layers",
        "why no figures",
    ]
    return table_part(header, cells, left=1)


def _layers(report: Report) -> str:
    shown = [(n, x) for n, x in enumerate(report.layers) if not x.folded]
    folded = len(report.layers) - len(shown)
    header = [
        "layer", "operator", "place", "MACs", "cycles", "utilisation", "bound", "limited by", "ratio",
        "DRAM read", "written", "unmerged", "energy, mJ",
    ]  # fmt: skip
    text = f"{folded} more layers are folded into these and cost nothing of their own." if folded else ""
    body = "".join(
        f"<tr{' class=host' if layer.on_host else ''}>"
        + "".join(_cell(c) for c in _layer(number, layer))
        + "</tr>"
        for number, layer in shown
    )
    table = f"<div class='scroll'><table>{_header(header, 3)}{body}</table></div>"
    return f"<h2>Layers</h2><p class='about'>{text}</p>{table}"


def _layer(number: int, x: LayerReport) -> list[str]:
    swatch = "" if x.on_host else f"<span class='swatch' style='background:{plots.colour_of(number)}'></span>"
    return [
        f"<td class='l'>{swatch}{html.escape(x.name)}</td>", left_cell(x.op), left_cell(x.place), f"{x.macs:,}",
        f"{x.cycles:,}", percent(x.utilisation), f"{x.bound_cycles:,}", left_cell(x.limited_by),
        percent(x.roofline_ratio), f"{x.dram_read_bytes:,}", f"{x.dram_write_bytes:,}",
        f"{x.dram_bytes_unmerged:,}", f"{x.energy_mj:.4g}",
    ]  # fmt: skip


def plot_part(title: str, svg: str, about: str) -> str:
    """A plot with its heading."""
    text = f"<p class='about'>{html.escape(about)}</p>" if about else ""
    return f"<h2>{title}</h2>{text}<figure>{svg}</figure>"


def table_part(header: Sequence[str], rows: Iterable[Sequence[str]], *, left: int) -> str:
    """A table, `left` headings at the left; a cell that is no `<td>` yet becomes one."""
    body = "".join("<tr>" + "".join(_cell(c) for c in row) + "</tr>" for row in rows)
    return f"<div class='scroll'><table>{_header(header, left)}{body}</table></div>"


def _header(names: Sequence[str], left: int) -> str:
    cells = (f"<th{' class=l' if n < left else ''}>{html.escape(name)}</th>" for n, name in enumerate(names))
    return f"<tr>{''.join(cells)}</tr>"


def _cell(text: str) -> str:
    return text if text.startswith("<td") else f"<td>{text}</td>"


def left_cell(text: str, *, wrap: bool = False) -> str:
    """A cell of text."""
    return f"<td class='l{' wrap' if wrap else ''}'>{html.escape(text)}</td>"


def _number(value: float | None, digits: int = 0) -> str:
    return "–" if value is None else f"{value:,.{digits}f}"


def percent(value: float | None) -> str:
    """A share, in percent."""
    return "–" if value is None else f"{value:.1%}"
