"""The reference pages of the machine, made from its tables."""

from __future__ import annotations

import inspect

from tilewright.docs.markdown import code, table
from tilewright.targets import host_ops
from tilewright.targets.config import Overlay, overlays
from tilewright.targets.isa import spec
from tilewright.targets.resources import resources


def instructions() -> str:
    """The page of the instruction set: words, then each instruction with its fields."""
    enumerations = (spec.Unit, spec.Opcode, spec.Memory, spec.Base, spec.VectorOp, spec.Source, spec.Loop)
    parts = ["# Instructions", _prose(inspect.getdoc(spec)), "## Enumerations"]
    parts += [
        f"### {kind.__name__}\n\n{_prose(inspect.getdoc(kind))}\n\n"
        + table(["value", "name"], [[int(member), f"`{member.name}`"] for member in kind])
        for kind in enumerations
    ]
    parts += ["## What all instructions have", _prose(inspect.getdoc(spec.Instruction))]
    parts += ["## Copies", _prose(inspect.getdoc(spec._Copy))]
    for kind in spec.INSTRUCTIONS:
        parts += [f"## {kind.__name__.upper()}", _prose(inspect.getdoc(kind)), _fields(kind)]
    return "\n\n".join(parts) + "\n"


def _fields(kind: type[spec.Instruction]) -> str:
    rows = [
        [
            f"{field.offset + field.bits.width - 1}:{field.offset}",
            f"`{field.name}`",
            f"{field.bits.lo} .. {field.bits.hi}",
            (f"{field.bits.kind.__name__}: " if field.bits.kind else "") + field.bits.doc,
        ]
        for field in spec.layout(kind)
    ]
    return table(
        ["bits", "field", "legal", "meaning"], [["2:0", "`opcode`", int(kind.opcode), "what it is"], *rows]
    )


def _prose(docstring: str | None) -> str:
    """Docstrings of the tables are plain text with bullets; their cross references become names."""
    text = (docstring or "").replace(":class:`_Copy`", "Copies").replace(":class:`Vector`", "VECTOR")
    return text.replace("[block_out][block_in]", "\\[block_out\\]\\[block_in\\]")


def host_operators() -> str:
    """The page of what a package's host part may consist of."""
    return "# Host operators\n\n" + host_ops.manual()


def overlay_page() -> str:
    """The page of overlays: what each offers and takes."""
    parts = ["# Overlays", "Printed from the files in `targets/overlays` and the resource model."]
    rows = [_overlay_row(overlay) for overlay in overlays().values()]
    head = [
        "overlay",
        "board",
        "blocks",
        "bits",
        "lanes",
        "ACT / WGT / ACC / PARAM KiB",
        "MHz",
        "LUT",
        "DSP",
        "BRAM36",
    ]
    return "\n\n".join([*parts, table(head, rows), code("tilewright targets", "console")]) + "\n"


def _overlay_row(overlay: Overlay) -> list[object]:
    return [
        f"`{overlay.name}`",
        overlay.board.name,
        f"{overlay.block_in} x {overlay.block_out}",
        f"{overlay.inp_bits}/{overlay.wgt_bits}/{overlay.acc_bits}",
        overlay.vector_lanes,
        f"{overlay.act_kib} / {overlay.wgt_kib} / {overlay.acc_kib} / {overlay.param_kib}",
        overlay.mhz,
        *(f"{taken:,} of {there:,}" for taken, there in resources(overlay).amounts.values()),
    ]
