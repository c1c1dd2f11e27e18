"""`tilewright targets`: the installed overlays."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tilewright.cli.console import plain_table, write_json, write_table
from tilewright.cli.options import Json

if TYPE_CHECKING:
    from tilewright.targets.config import Overlay


def targets(as_json: Json = False) -> None:
    """List the overlays that networks can be compiled for.

    [bold]Examples[/bold]

      tilewright targets

      tilewright targets --json
    """
    from tilewright.targets.config import overlays

    known = list(overlays().values())
    if as_json:
        write_json({"targets": [_row(overlay) for overlay in known]})
        return
    table = plain_table(
        "name", "board", "MACs/cycle", "MHz", "bits", "ACT", "WGT", "what", right=("MACs/cycle", "MHz")
    )
    for overlay in known:
        table.add_row(
            overlay.name,
            overlay.board.name,
            str(overlay.block_in * overlay.block_out),
            str(overlay.mhz),
            f"{overlay.inp_bits}/{overlay.wgt_bits}/{overlay.acc_bits}",
            f"{overlay.act_kib} KiB",
            f"{overlay.wgt_kib} KiB",
            overlay.description,
        )
    write_table(table)


def _row(overlay: Overlay) -> dict[str, object]:
    """All figures of an overlay; the board by name and part."""
    values = overlay.to_dict()
    values |= {"board": overlay.board.name, "part": overlay.board.part, "hash": overlay.hash}
    return values
