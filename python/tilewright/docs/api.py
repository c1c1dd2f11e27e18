"""The pages of the Python reference: the public names by what they are for."""

from __future__ import annotations

from collections.abc import Mapping

import tilewright

GROUPS: Mapping[str, tuple[str, ...]] = {
    "Networks and data": ("load", "Model", "Preprocess", "open_dataset", "Dataset"),
    "Quantising": ("quantize", "QuantizeOptions"),
    "Compiling": ("supported", "Support", "LayerRow", "compile", "plan", "Plan", "Package", "target"),
    "Running": ("Session", "Pipeline", "evaluate", "Evaluation"),
    "Finding a wrong layer": ("verify", "Verification"),
    "Boards": ("export", "Exported", "connect", "Board"),
    "Overlays and searches": ("overlay", "overlays", "Overlay", "tune", "Tuned", "explore", "Exploration"),
    "Errors": ("TilewrightError",),
}
"""Heading: names of `tilewright`; all of them, which a test checks."""


def page() -> str:
    """All public names with their docstrings."""
    parts = ["# Python reference", "```{eval-rst}\n.. currentmodule:: tilewright\n```"]
    for heading, names in GROUPS.items():
        parts.append(f"## {heading}")
        for name in names:
            value = getattr(tilewright, name)
            where = f"{value.__module__}.{value.__qualname__}"
            kind = "autoclass" if isinstance(value, type) else "autofunction"
            members = "\n   :members:" if kind == "autoclass" else ""
            parts.append(f"### {name}\n\n```{{eval-rst}}\n.. {kind}:: {where}{members}\n```")
    return "\n\n".join(parts) + "\n"
