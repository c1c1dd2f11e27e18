"""Rows of `supported`: one a node, each with a place and, on the host, a reason."""

from __future__ import annotations

import numpy as np
import pytest

from tests.relay_passes.qdq_graphs import QdqGraph
from tilewright.frontend.shift_kernel import one_hot
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
    assert rows[soft].reason == "an operator must be one that the integer level has, found Softmax"
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


@pytest.mark.parametrize("farthest", [1, 2])
def test_shifts(farthest: int) -> None:
    g = QdqGraph()
    kernel = one_hot([[farthest, 0], [0, -1], [0, 0], [1, 1]])
    pads = [kernel.shape[2] // 2] * 4
    shift = g.op("Conv", g.x, g.const(kernel), group=4, pads=pads)
    conv = g.op("Conv", shift, g.weights((8, 4, 1, 1)))
    rows = rows_of(g, g.q(conv, 0.0613, 101))
    remark = "; one pass a direction: it moves by -1..2, the displacement table holds -1..1"
    remedy = "move by less, or choose an overlay with a wider table"
    assert rows[shift] == SupportedRow(
        shift,
        "Conv",
        "accelerator",
        f"folded into {conv}{remark * (farthest == 2)}",
        remedy * (farthest == 2),
        0,
    )
    assert rows[conv].place == "accelerator" and not rows[conv].reason


def test_evicted_layers_say_why() -> None:
    g = QdqGraph()
    pool = g.op("MaxPool", g.x, kernel_shape=[2, 2], strides=[16, 1])
    rows = rows_of(g, g.q(pool, 0.0517, 117))
    assert rows[pool].place == "host"
    assert rows[pool].reason.startswith("strides are at most 15, found")


def test_collapsed_layouts_share_the_fate_of_what_took_them() -> None:
    """A transpose that went into a reshape which only the host reads is on the host, too."""
    g = QdqGraph()
    pool = g.op("MaxPool", g.x, kernel_shape=[2, 2])
    turned = g.op("Transpose", g.q(pool, 0.0517, 117), perm=[0, 2, 3, 1])
    flat = g.op("Reshape", g.q(turned, 0.0517, 117), g.const([1, 20, 4], "int64"))
    out = g.q(flat, 0.0517, 117)
    soft = g.op("Softmax", out)
    rows = rows_of(g, soft)
    assert rows[pool].place == "accelerator"
    assert rows[turned].place == rows[flat].place == "host"
    assert rows[turned].reason == rows[flat].reason
    assert rows[flat].reason.startswith(
        "tensors have the shape (1, C, H, W) or (1, K), found a result of shape (1, 20, 4)"
    )
    assert rows[soft].reason == "an operator must be one that the integer level has, found Softmax"


def test_collapsed_layouts_name_what_took_them() -> None:
    g = QdqGraph()
    first = g.op("Reshape", g.x, g.const([1, 2, 2, 6, 5], "int64"))
    second = g.op("Transpose", g.q(first, 0.0517, 117), perm=[0, 2, 1, 3, 4])
    third = g.op("Reshape", g.q(second, 0.0517, 117), g.const([1, 4, 6, 5], "int64"))
    conv = g.op("Conv", g.q(third, 0.0517, 117), g.weights((8, 4, 1, 1)))
    rows = rows_of(g, g.q(conv, 0.0613, 101))
    assert rows[first].reason == f"folded into {third}"
    assert rows[second].reason == f"folded into {third}"
    assert rows[third] == SupportedRow(third, "Reshape", "accelerator", "", "", 0)
