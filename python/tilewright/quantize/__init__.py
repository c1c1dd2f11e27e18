"""Post-training quantisation: ranges from ONNX Runtime's calibrators, result a QDQ ONNX model."""

from tilewright.quantize.graph import is_quantised
from tilewright.quantize.options import Method, QuantizeOptions
from tilewright.quantize.quantizer import quantize_onnx
from tilewright.quantize.units import Unit, find_units

__all__ = ["Method", "QuantizeOptions", "Unit", "find_units", "is_quantised", "quantize_onnx"]
