"""An exploration as table cells, CSV and JSON."""

from __future__ import annotations

import csv
import io
from typing import Any

from tilewright.explore.api import Exploration, Point

HEADINGS = (
    "overlay", "bits", "blocks", "lanes", "ACT KiB", "WGT KiB", "frames/s", "of bound", "DRAM MB", "mJ",
    "LUT", "DSP", "BRAM36", "area",
)  # fmt: skip
COLUMNS = (
    "overlay", "front", "installed", "inp_bits", "wgt_bits", "block_in", "block_out", "vector_lanes", "act_kib",
    "wgt_kib", "mhz", "fps", "cycles", "bound_cycles", "dram_bytes", "energy_mj", "lut", "ff", "dsp", "bram36", "area",
)  # fmt: skip
"""Of the CSV, in order; they do not change."""
ABOUT = (
    "No other overlay that was timed is as good as one of these in frames/s, energy, DRAM bytes and area, and better "
    "in one. Area is the mean share of the part's LUTs, DSPs and block RAM; the host's time is left out."
)
_FIELDS = ("inp_bits", "wgt_bits", "block_in", "block_out", "vector_lanes", "act_kib", "wgt_kib", "mhz")


def cells(p: Point) -> list[str]:
    """A point under HEADINGS."""
    o, shares = p.overlay, p.resources.shares
    return [
        o.name,
        f"{o.inp_bits}/{o.wgt_bits}/{o.acc_bits}",
        f"{o.block_in} x {o.block_out}",
        str(o.vector_lanes),
        str(o.act_kib),
        str(o.wgt_kib),
        f"{p.fps:,.1f}",
        f"{p.bound_cycles / p.cycles:.0%}",
        f"{p.dram_bytes / 1e6:,.3f}",
        f"{p.energy_mj:,.4g}",
        *(f"{shares[name]:.0%}" for name in ("lut", "dsp", "bram36")),
        f"{p.area:.0%}",
    ]


def counts(found: Exploration) -> str:
    """How many overlays were looked at, in a line."""
    text = (
        f"{found.considered} overlays fit {found.board}: {len(found.points)} timed, {found.skipped} could not be "
        f"better than these, {len(found.refused)} do not run the network, {found.left} left"
    )
    return text + (" (interrupted)" if found.interrupted else "")


def row(p: Point) -> dict[str, Any]:
    """A point's figures, keys as COLUMNS."""
    values: dict[str, Any] = {"overlay": p.overlay.name, "front": p.front, "installed": p.installed}
    values |= {name: getattr(p.overlay, name) for name in _FIELDS}
    for name in ("fps", "cycles", "bound_cycles", "dram_bytes", "energy_mj"):
        values[name] = getattr(p, name)
    values |= {name: taken for name, (taken, _) in p.resources.amounts.items()}
    return values | {"area": p.area}


def points_csv(found: Exploration) -> str:
    """A line for each overlay that was timed."""
    text = io.StringIO()
    writer = csv.DictWriter(text, COLUMNS, lineterminator="\n")
    writer.writeheader()
    writer.writerows(row(p) for p in found.points)
    return text.getvalue()


def document(found: Exploration) -> dict[str, Any]:
    """The JSON document; `configuration` is the whole overlay, as `tilewright.Overlay.from_dict` takes it."""
    points = [row(p) | {"configuration": p.overlay.to_dict()} for p in found.points]
    return {
        "model": found.model,
        "board": found.board,
        "objective": found.objective,
        "considered": found.considered,
        "skipped": found.skipped,
        "left": found.left,
        "interrupted": found.interrupted,
        "points": points,
        "refused": [{"overlay": r.overlay, "reason": r.reason} for r in found.refused],
    }
