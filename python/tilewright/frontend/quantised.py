"""Which models are quantised already."""

from __future__ import annotations

import onnx

# Operators of models that hold integers already, as ONNX Runtime, TFLite's converters and QONNX write them.
_QUANTISED_OPERATORS = frozenset(
    {"QuantizeLinear", "DequantizeLinear", "DynamicQuantizeLinear", "Quant", "BipolarQuant", "Trunc"}
)
_QUANTISED_PREFIXES = ("QLinear", "ConvInteger", "MatMulInteger")


def is_quantised(model: onnx.ModelProto) -> bool:
    """Return whether `model` holds quantised values already (QDQ, QOperator or QONNX nodes)."""
    return any(
        node.op_type in _QUANTISED_OPERATORS or node.op_type.startswith(_QUANTISED_PREFIXES)
        for node in model.graph.node
    )
