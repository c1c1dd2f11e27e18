"""Overlays for tests: the installed ones and small ones of other widths."""

from __future__ import annotations

import pytest

from tilewright.targets.config import Overlay, overlay


def _make(name: str, block_in: int, block_out: int, inp: int, wgt: int, acc: int, act_kib: int) -> Overlay:
    values = overlay("ultra96-w8").to_dict() | {
        "name": name,
        "block_in": block_in,
        "block_out": block_out,
        "inp_bits": inp,
        "wgt_bits": wgt,
        "acc_bits": acc,
        "vector_lanes": block_in,
        "act_kib": act_kib,
        "wgt_kib": 32,
        "acc_kib": block_out * acc // 8,
        "displacement_min": -2,
        "displacement_max": 3,
    }
    return Overlay.from_dict(values)


@pytest.fixture(scope="session")
def machines() -> dict[str, Overlay]:
    """Overlays by name; `8x8` and so on are block_in x block_out."""
    made = [
        overlay("pynq-z1-w8"),
        overlay("ultra96-w8"),
        _make("8x8-w8", 8, 8, 8, 8, 32, 32),
        _make("8x16-w8-acc20", 8, 16, 8, 8, 20, 32),
        _make("32x32-w4", 32, 32, 4, 4, 27, 128),
        _make("16x32-a8w4", 16, 32, 8, 4, 27, 64),
        _make("32x32-a4w8", 32, 32, 4, 8, 27, 128),
        _make("32x32-w2", 32, 32, 2, 2, 16, 128),
        _make("128x128-w1", 128, 128, 1, 1, 16, 512),
    ]
    return {o.name: o for o in made}
