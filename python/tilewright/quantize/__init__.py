"""Post-training quantisation: ranges from ONNX Runtime's calibrators, result a QDQ ONNX model.

Each name is loaded when it is first used: a network that comes quantised needs no ONNX Runtime.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from tilewright.quantize.options import Method, Mixed, QuantizeOptions
    from tilewright.quantize.quantizer import quantize_onnx
    from tilewright.quantize.units import Unit, find_units

__all__ = ["Method", "Mixed", "QuantizeOptions", "Unit", "find_units", "quantize_onnx"]

_HOME = {
    "Method": "options",
    "Mixed": "options",
    "QuantizeOptions": "options",
    "Unit": "units",
    "find_units": "units",
    "quantize_onnx": "quantizer",
}


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f"{__name__}.{_HOME[name]}"), name)
