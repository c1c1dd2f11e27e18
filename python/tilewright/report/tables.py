"""A report as CSV, as the JSON document, and as a Chrome trace."""

from __future__ import annotations

import csv
import dataclasses
import io
from collections.abc import Sequence
from typing import Any

from tilewright.report.analysis import LayerReport, Report
from tilewright.report.sweep import SweepRow
from tilewright.targets.sim.trace import chrome_trace

COLUMNS = (
    "name", "op", "place", "reason", "macs", "cycles", "utilisation", "bound_cycles", "roofline_ratio",
    "dram_read_bytes", "dram_write_bytes", "dram_bytes_unmerged", "energy_mj",
)  # fmt: skip
"""Of the CSV, in order; they do not change."""


def layers_csv(report: Report) -> str:
    """A line for each layer, host layers first; an unknown ratio is empty."""
    return _csv(COLUMNS, [[getattr(layer, c) for c in COLUMNS] for layer in report.layers])


def sweep_csv(rows: Sequence[SweepRow]) -> str:
    """A line for each size."""
    names = [f.name for f in dataclasses.fields(SweepRow)]
    return _csv(names, [[getattr(row, name) for name in names] for row in rows])


def _csv(header: Sequence[str], rows: Sequence[Sequence[object]]) -> str:
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(header)
    writer.writerows(["" if v is None else v for v in row] for row in rows)
    return text.getvalue()


def totals(report: Report) -> dict[str, Any]:
    """The sums, and what is derived from them."""
    read = sum(layer.dram_read_bytes for layer in report.layers)
    written = sum(layer.dram_write_bytes for layer in report.layers)
    accelerator_macs = report.macs - report.host_macs
    return {
        "cycles": report.cycles,
        "fps": report.fps,
        "fps_with_host": report.fps_with_host,
        "utilisation": accelerator_macs / (report.cycles * report.peak_macs) if report.cycles else 0.0,
        "bound_cycles": report.bound_cycles,
        "bound_cycles_now": report.bound_cycles_now,
        "limited_by": report.limited_by,
        "roofline_ratio": report.bound_cycles / report.cycles if report.cycles else None,
        "dram_bytes": report.dram_bytes,
        "dram_read_bytes": read,
        "dram_write_bytes": written,
        "dram_fetch_bytes": sum(run.timing.fetch_bytes for run in report.runs),
        "dram_bytes_unmerged": report.dram_bytes_unmerged,
        "energy_mj": report.assumptions.energy_mj(accelerator_macs, report.dram_bytes),
        "macs": report.macs,
        "host_macs": report.host_macs,
        "host_layers": len(report.host_layers),
        "host_ms": report.host.ms,
        "host_share": report.host_time_share,
        "instructions": sum(len(run.instructions) for run in report.runs),
        "regions": len(report.runs),
    }


def document(report: Report, sweep: Sequence[SweepRow] = ()) -> dict[str, Any]:
    """The JSON document without its schema number."""
    found: dict[str, Any] = {
        "network": report.name,
        "target": report.overlay.name,
        "mhz": report.overlay.mhz,
        "tool_version": report.tool_version,
        "random": report.random,
        "total": totals(report),
        "host": {
            "ms": report.host.ms,
            "measured": report.host.measured,
            "source": report.host.source,
            "share": report.host_time_share,
            "work": [dataclasses.asdict(work) for work in report.host.work],
        },
        "memory": {
            name: {"peak_bytes": peak, "size_bytes": size} for name, (peak, size) in report.peaks.items()
        },
        "units": report.activity,
        "assumptions": {
            "pj_per_mac": report.assumptions.pj_per_mac,
            "pj_per_dram_bit": report.assumptions.pj_per_dram_bit,
        },
        "layers": [_layer(layer) for layer in report.layers],
    }
    if sweep:
        found["sweep"] = [dataclasses.asdict(row) for row in sweep]
    return found


def _layer(layer: LayerReport) -> dict[str, Any]:
    values = dataclasses.asdict(layer)
    return {c: values.pop(c) for c in COLUMNS} | values


def trace(report: Report) -> dict[str, Any]:
    """All regions as one Chrome trace, a process each, one after the other."""
    events: list[dict[str, Any]] = []
    for number, run in enumerate(report.runs):
        for event in chrome_trace(run.timing)["traceEvents"]:
            moved = event | {"pid": number}
            if "ts" in event:
                moved["ts"] = event["ts"] + run.start / report.overlay.mhz
            elif event["name"] == "process_name":
                moved["args"] = {"name": f"{report.name} on {report.overlay.name}, {run.region.name}"}
            events.append(moved)
    return {"displayTimeUnit": "ns", "traceEvents": events}
