"""Rows of `supported`: one a node, each with a place and, on the host, a reason."""

from __future__ import annotations

import numpy as np

from tests.relay_passes.qdq_graphs import QdqGraph
from tilewright.relay_passes.supported import SupportedRow, supported_rows
from tilewright.targets.config import overlay


def rows_of(g: QdqGraph, *outputs: str) -> dict[str, SupportedRow]:
    rows = supported_rows(g.model(*outputs), overlay("ultra96-w8"))
    assert [r.name for r in rows] == [n.name for n in g.nodes]
    return {r.name: r for r in rows}


def test_rows() -> None:
    g = QdqGraph()
    conv = g.op("Conv", g.x, g.weights((8, 4, 3, 3)), g.const(np.ones(8)))
    relu = g.op("Relu", conv)
    a = g.q(relu, 0.0613, 101)
    flat = g.op("Flatten", a)
    gemm = g.op("MatMul", g.q(flat, 0.0613, 101), g.weights((96, 5), 1))
    b = g.q(gemm, 0.1, 99)
    soft = g.op("Softmax", b)
    c = g.q(soft, 1 / 256, 0)
    rows = rows_of(g, c)
    assert rows[conv] == SupportedRow(conv, "Conv", "accelerator", "", "", 8 * 4 * 9 * 4 * 3)
    assert rows[relu] == SupportedRow(relu, "Relu", "accelerator", f"folded into {conv}", "", 0)
    assert rows[flat] == SupportedRow(flat, "Flatten", "accelerator", "", "", 0)
    assert rows[gemm] == SupportedRow(gemm, "MatMul", "accelerator", "", "", 480)
    assert rows[soft].place == "host"
    assert rows[soft].reason == "an operator must be one that the integer level has, found nn.softmax"
    assert rows[soft].remedy == "it runs on the host; express it by other operators to change that"
    assert rows["quantizelinear3"].reason == "converts float values for the accelerator"
    assert rows[b].reason == "converts the accelerator's results to float"
    assert rows[g.x].reason == f"folded into {conv}"
    weights = next(
        n.name for n in g.nodes if n.op_type == "DequantizeLinear" and n.name not in (g.x, a, b, c)
    )
    assert rows[weights].reason == f"folded into {conv}"


def test_every_host_row_has_a_reason() -> None:
    g = QdqGraph()
    loose = g.op("Conv", g.x, g.weights((8, 4, 3, 3)))
    rows = rows_of(g, g.op("Relu", loose))
    assert rows[loose].place == "host" and rows[loose].macs == 8 * 4 * 9 * 4 * 3
    assert (
        rows[loose].reason
        == "a layer must lie between DequantizeLinear and QuantizeLinear, found no QuantizeLinear behind it"
    )
    assert all(r.reason for r in rows.values() if r.place == "host")


def test_evicted_layers_say_why() -> None:
    g = QdqGraph()
    pool = g.op("MaxPool", g.x, kernel_shape=[2, 2], strides=[16, 1])
    rows = rows_of(g, g.q(pool, 0.0517, 117))
    assert rows[pool].place == "host"
    assert rows[pool].reason.startswith("strides are at most 15, found")
