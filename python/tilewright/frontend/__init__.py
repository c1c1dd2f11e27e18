"""Import: ONNX as it is, Caffe converted to ONNX, and the rewrites that precede quantisation."""

from __future__ import annotations

from .canonical import canonicalise
from .graph import Graph, folded_nodes, node_origins
from .onnx_loader import load_onnx

__all__ = ["Graph", "canonicalise", "folded_nodes", "load_onnx", "node_origins"]
