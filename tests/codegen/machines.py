"""An overlay that is not installed: an output vector and VECTOR's lanes are one half word, at 8 bits."""

from __future__ import annotations

from tilewright.targets.config import Overlay, overlay

SQUARE = Overlay.from_dict(
    overlay("pynq-z1-w8").to_dict()
    | {"name": "16x16-w8", "block_out": 16, "acc_kib": 64, "vector_lanes": 16, "dsp_pumping": 1}
)
"""`pynq-z1-w8` as first drawn (`targets/bound_baseline.toml`)."""
