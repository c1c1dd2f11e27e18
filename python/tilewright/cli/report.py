"""`tilewright report`: what a package costs, layer by layer."""

from __future__ import annotations

import json
import logging
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, TypeAlias

import typer
from rich.markup import escape

from tilewright.cli.console import (
    clean_stdout,
    plain_table,
    progress,
    say,
    write_json,
    write_result,
    write_table,
)
from tilewright.cli.options import Json, PackagePath
from tilewright.cli.output import check_output, write_file
from tilewright.cli.run import warn_random
from tilewright.codegen.plan import Plan
from tilewright.errors import ConfigError, DataError, Fault

if TYPE_CHECKING:
    from tilewright.report import LayerReport, Report, SweepRow
    from tilewright.runtime import Package
    from tilewright.tune.log import SearchPoint

    _Search: TypeAlias = tuple[Sequence[SearchPoint], str]

_ASSUMED = "What a package does not say"


def report(
    package: PackagePath,
    html: Annotated[
        Path | None, typer.Option("--html", metavar="F", help="Write one self-contained page with plots.")
    ] = None,
    csv: Annotated[
        Path | None,
        typer.Option(
            "--csv", metavar="F", help="Write a line a layer; a sweep goes to F's name + .sweep.csv."
        ),
    ] = None,
    trace: Annotated[
        Path | None, typer.Option("--trace", metavar="F", help="Write a Chrome trace, for Perfetto.")
    ] = None,
    sweep: Annotated[
        str | None,
        typer.Option(
            "--sweep",
            metavar="act=64K..1M",
            help="Compile again for other sizes of ACT, doubling: DRAM traffic against on-chip memory.",
        ),
    ] = None,
    tuned: Annotated[
        Path | None,
        typer.Option("--tuned", metavar="LOG", help="Show the search of `tune` in the page, from its log."),
    ] = None,
    pj_per_mac: Annotated[
        float, typer.Option("--pj-per-mac", help="Energy of a MAC, pJ.", rich_help_panel=_ASSUMED)
    ] = 1.0,
    pj_per_dram_bit: Annotated[
        float, typer.Option("--pj-per-dram-bit", help="Energy of a DRAM bit, pJ.", rich_help_panel=_ASSUMED)
    ] = 10.0,
    host_ms: Annotated[
        float | None,
        typer.Option(
            "--host-ms", help="The host's time a run as measured; else estimated.", rich_help_panel=_ASSUMED
        ),
    ] = None,
    host_mhz: Annotated[
        int, typer.Option("--host-mhz", help="Clock of the host for the estimate.", rich_help_panel=_ASSUMED)
    ] = 1000,
    as_json: Json = False,
) -> None:
    """Tell what a package costs on its overlay: cycles, bounds, DRAM traffic and energy of each layer, host first.

    [bold]Examples[/bold]

      tilewright report squeezenet.twp

      tilewright report squeezenet.twp --html report.html --csv layers.csv --trace trace.json

      tilewright report mobilenet.twp --sweep act=64K..1M --html sweep.html --json

      tilewright report tuned.twp --tuned tune.log --html report.html
    """
    sweep_csv = None if csv is None or sweep is None else csv.with_name(f"{csv.stem}.sweep.csv")
    _check_outputs([path for path in (html, csv, sweep_csv, trace) if path is not None])
    with clean_stdout():
        from tilewright.report import Assumptions, analyse, parse_sweep, run_sweep, tables
        from tilewright.runtime import Package

        asked = None if sweep is None else parse_sweep(sweep)
        loaded = Package.load(package)
        found = analyse(loaded, Assumptions(pj_per_mac, pj_per_dram_bit, host_ms, host_mhz))
        rows: tuple[SweepRow, ...] = ()
        if asked is not None:
            with progress("compiling") as done:
                rows = run_sweep(loaded, asked, done)
        search = None if tuned is None else _search(tuned, loaded)
        outputs: list[tuple[Path | None, Callable[[], str]]] = [
            (html, lambda: _page(found, rows, search)),
            (csv, lambda: tables.layers_csv(found)),
            (sweep_csv, lambda: tables.sweep_csv(rows)),
            (trace, lambda: json.dumps(tables.trace(found), separators=(",", ":"))),
        ]
        plan = (
            None
            if loaded.plan is None
            else Plan.parse(loaded.plan, loaded.overlay, f"{package}: section plan")
        )
        texts = [(path, make().encode()) for path, make in outputs if path is not None]
    for path, data in texts:
        write_file(path, data)
        say(f"{path}: {len(data):,} bytes")
    warn_random(loaded)
    if as_json:
        write_json(tables.document(found, rows) | ({} if plan is None else {"plan": json.loads(plan.text())}))
        return
    _write_host(found)
    _write_total(found)
    if plan is not None:
        _write_plan(plan)
    _write_layers(found)
    if rows:
        _write_sweep(rows)


def _page(found: Report, rows: tuple[SweepRow, ...], search: _Search | None) -> str:
    logging.getLogger("matplotlib").setLevel(logging.ERROR)  # it tells when it looks for fonts
    from tilewright.report.page import page  # starts matplotlib

    return page(found, rows) if search is None else page(found, rows, *search)


def _search(log: Path, package: Package) -> _Search:
    """The trials in a tuner's log, and what their values are. Raises DataError for one of another overlay."""
    from tilewright.tune.log import read, search_points
    from tilewright.tune.measurement import UNITS

    header, _ = read(log)
    if header.overlay_hash != package.overlay.hash:
        mine, theirs = package.overlay.hash[:12], header.overlay_hash[:12]
        text = f"the log is for overlay {header.overlay} ({theirs}), the package for {package.overlay.name} ({mine})"
        raise DataError(Fault(text, str(log), "give the log of this package's overlay"))
    return search_points(log), UNITS[header.objective]


def _check_outputs(paths: list[Path]) -> None:
    for number, path in enumerate(paths):
        check_output(path)
        if path in paths[:number]:
            raise ConfigError(Fault("two outputs have the same name", str(path), "give each its own file"))


def _write_host(found: Report) -> None:
    layers = found.host_layers
    write_result(
        f"host: {len(layers)} layer{'' if len(layers) == 1 else 's'}, {found.host_macs:,} MACs, "
        f"{found.host.ms:.3f} ms = {found.host_time_share:.1%} of a run ({found.host.source})"
    )
    by_op: dict[str, float] = {}
    for work in found.host.work:
        by_op[work.op] = by_op.get(work.op, 0.0) + work.ms
    parts = sorted(by_op.items(), key=lambda item: -item[1])
    write_result("  estimate by operator: " + ", ".join(f"{op} {ms:.3f} ms" for op, ms in parts))
    if layers:
        table = plain_table("  layer", "operator", "MACs", "why on the host", right=("MACs",))
        for layer in layers:
            table.add_row(f"  {escape(layer.name)}", layer.op, f"{layer.macs:,}", escape(layer.reason))
        write_table(table)
    write_result("")


def _write_total(found: Report) -> None:
    from tilewright.report.tables import totals

    t = totals(found)
    table = plain_table(f"{escape(found.name)} on {found.overlay.name}", "", right=("",))
    rows = [
        ("frames/s, host left out", _number(t["fps"], 1)),
        (
            f"frames/s with host ({'measured' if found.host.measured else 'estimated'})",
            _number(t["fps_with_host"], 1),
        ),
        (f"cycles at {found.overlay.mhz} MHz", f"{t['cycles']:,}"),
        (f"bound, limited by {t['limited_by'] or 'nothing'}", f"{t['bound_cycles']:,}"),
        ("bound / cycles", _percent(t["roofline_ratio"])),
        ("MATRIX utilisation", _percent(t["utilisation"])),
        ("DRAM bytes", f"{t['dram_bytes']:,}"),
        ("DRAM bytes unmerged", f"{t['dram_bytes_unmerged']:,}"),
        ("energy, mJ", f"{t['energy_mj']:.4g}"),
        ("MACs", f"{t['macs']:,}"),
    ]
    if t["bound_cycles_now"] != t["bound_cycles"]:
        rows.insert(5, ("bound by the overlay's present limits", f"{t['bound_cycles_now']:,}"))
    rows += [
        (f"peak of {name}, bytes of {size:,}", f"{peak:,}") for name, (peak, size) in found.peaks.items()
    ]
    for row in rows:
        table.add_row(*row)
    write_table(table)
    write_result("")


def _write_plan(plan: Plan) -> None:
    for region in plan.regions:
        table = plain_table(
            f"groups of {escape(region.region)}", "stripes", "lag", "stays on chip", right=("stripes", "lag")
        )
        for group in region.groups:
            first, last = group.layers[0], group.layers[-1]
            more = f" .. {last}, {len(group.layers)} layers" if len(group.layers) > 1 else ""
            parts = [str(group.stripes)]
            parts += [
                f"{n} {name}" for name, n in (("strips", group.strips), ("slices", group.slices)) if n > 1
            ]
            table.add_row(
                escape(first + more), ", ".join(parts), str(group.lag), escape(", ".join(group.keep))
            )
        write_table(table)
        write_result("")


_COLUMNS = (
    "layer", "operator", "MACs", "cycles", "utilisation", "bound", "by", "ratio", "DRAM read", "written",
    "unmerged", "mJ",
)  # fmt: skip
_LEFT = ("layer", "operator", "by")


def _write_layers(found: Report) -> None:
    shown = [layer for layer in found.layers if not layer.folded and not layer.on_host]
    table = plain_table(*_COLUMNS, right=tuple(c for c in _COLUMNS if c not in _LEFT))
    for layer in shown:
        table.add_row(*_cells(layer))
    write_table(table)
    folded = sum(layer.folded for layer in found.layers)
    if folded:
        write_result(f"{folded} more layers are folded into these")


def _cells(layer: LayerReport) -> tuple[str, ...]:
    return (
        escape(layer.name), layer.op, f"{layer.macs:,}", f"{layer.cycles:,}", _percent(layer.utilisation),
        f"{layer.bound_cycles:,}", layer.limited_by, _percent(layer.roofline_ratio),
        f"{layer.dram_read_bytes:,}", f"{layer.dram_write_bytes:,}", f"{layer.dram_bytes_unmerged:,}",
        f"{layer.energy_mj:.4g}",
    )  # fmt: skip


def _write_sweep(rows: tuple[SweepRow, ...]) -> None:
    names = ("memory", "asked KiB", "KiB", "cycles", "frames/s", "DRAM bytes", "unmerged", "host layers")
    table = plain_table(*names, "", right=names[1:])
    for row in rows:
        table.add_row(
            row.memory, f"{row.asked_bytes // 1024:,}", f"{row.bytes // 1024:,}", _number(row.cycles),
            _number(row.fps, 1), _number(row.dram_bytes), _number(row.dram_bytes_unmerged),
            _number(row.host_layers), escape(row.reason),
        )  # fmt: skip
    write_result("")
    write_table(table)


def _number(value: float | None, digits: int = 0) -> str:
    return "-" if value is None else f"{value:,.{digits}f}"


def _percent(value: float | None) -> str:
    return "-" if value is None else f"{value:.1%}"
