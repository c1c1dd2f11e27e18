"""`tilewright targets`: the installed overlays."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tilewright.cli.console import plain_table, write_json, write_table
from tilewright.cli.options import Json

if TYPE_CHECKING:
    from tilewright.targets.config import Overlay

_PART = ("LUT", "FF", "DSP", "BRAM36")
"""In the order of `Resources.amounts`."""


def targets(as_json: Json = False) -> None:
    """List the overlays that networks can be compiled for, and what each takes of its board's part.

    [bold]Examples[/bold]

      tilewright targets

      tilewright targets --json
    """
    from tilewright.targets.config import overlays
    from tilewright.targets.resources import resources

    known = list(overlays().values())
    if as_json:
        write_json({"targets": [_row(overlay) for overlay in known]})
        return
    table = plain_table(
        "name", "board", "MACs/cycle", "MHz", "bits", "ACT", "WGT", *_PART, "what",
        right=("MACs/cycle", "MHz", "ACT", "WGT", *_PART),
    )  # fmt: skip
    for overlay in known:
        table.add_row(
            overlay.name,
            overlay.board.name,
            str(overlay.block_in * overlay.block_out),
            str(overlay.mhz),
            f"{overlay.inp_bits}/{overlay.wgt_bits}/{overlay.acc_bits}",
            f"{overlay.act_kib} KiB",
            f"{overlay.wgt_kib} KiB",
            *(f"{taken:,} {taken / there:.0%}" for taken, there in resources(overlay).amounts.values()),
            overlay.description,
        )
    write_table(table)


def _row(overlay: Overlay) -> dict[str, object]:
    """All figures of an overlay; the board by name and part."""
    from tilewright.targets.resources import resources

    values = overlay.to_dict()
    values |= {"board": overlay.board.name, "part": overlay.board.part, "hash": overlay.hash}
    used = resources(overlay)
    values["resources"] = {
        "total": {name: taken for name, (taken, _) in used.amounts.items()},
        "share": used.shares,
        "terms": [
            {"unit": t.unit, "what": t.what, "source": t.source, "lut": t.use.lut, "ff": t.use.ff, "dsp": t.use.dsp,
             "bram36": t.use.bram18 / 2}
            for t in used.terms
        ],
    }  # fmt: skip
    return values
