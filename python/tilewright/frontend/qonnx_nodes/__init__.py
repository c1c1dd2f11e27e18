"""QONNX's quantisers -> standard operators, one operator a file; see :func:`convert_qonnx`.

    Quant         x, scale, zero point, bits   (IntQuant is its other name)
    BipolarQuant  x, scale
    Trunc         x, scale, zero point, bits before, [scale after,] bits after

Definitions: github.com/fastmachinelearning/qonnx/tree/main/docs/qonnx-custom-ops, and the package `qonnx`, whose
executor the results equal bit for bit in float32. What they become is the quantised form of `quantize/`:

    on a constant      integers in the smallest type that holds them - DequantizeLinear
    plain rounding     QuantizeLinear - [Clip] - DequantizeLinear       half to even, zero point even
    other rounding     [Round, Floor, Ceil, ...] of x / scale + zero point - QuantizeLinear by 1 - DequantizeLinear
    one bit            GreaterOrEqual 0 - Where(+1, -1) - DequantizeLinear

qonnx's own `QuantToQCDQ` gives the second line for a zero point of 0 and leaves the others as they are; the tests hold
it against this folder.
"""

from __future__ import annotations

import json

from onnx import ModelProto

from ...errors import FaultList, UnsupportedModel
from ..graph import Graph
from .bipolar_quant import bipolar_quant
from .integers import Refused
from .quant import quant
from .trunc import trunc

DOMAINS = frozenset({"onnx.brevitas", "qonnx.custom_op.general", "finn.custom_op.general"})
"""Domains under which exporters write these operators."""
OPERATORS = {"Quant": quant, "IntQuant": quant, "BipolarQuant": bipolar_quant, "Trunc": trunc}
"""Operator -> its rewrite, which raises Refused where there is no standard form."""

_KEY = "tilewright.qonnx"

__all__ = ["DOMAINS", "OPERATORS", "convert_qonnx", "quantiser_operators"]


def convert_qonnx(graph: Graph) -> None:
    """Replace the operators above, in place; shapes need not be known.

    A quantiser's last node keeps its name; what it was is noted for :func:`quantiser_operators`.

    Raises:
        UnsupportedModel: quantisers that have no standard form, all at once.
    """
    faults = FaultList()
    found: dict[str, str] = {}
    for node in graph:
        if node.domain not in DOMAINS or node.op not in OPERATORS:
            continue
        found[node.name] = node.op
        try:
            OPERATORS[node.op](graph, node)
        except Refused as no:
            faults.add(f"{node.op}: {no.message}", where=f"node {node.name}", remedy=no.remedy)
    faults.raise_if_any(UnsupportedModel)
    if found:
        graph.note(_KEY, json.dumps(found))


def quantiser_operators(model: ModelProto) -> dict[str, str]:
    """Nodes of a loaded model that were QONNX's: name -> operator."""
    found = next((p.value for p in model.metadata_props if p.key == _KEY), "{}")
    return {str(name): str(op) for name, op in json.loads(found).items()}
