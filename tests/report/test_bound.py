"""The bound of layers against counts made by hand, and of networks against design figures."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest

from tilewright.codegen.graph import Graph, Node, Tensor
from tilewright.errors import ConfigError
from tilewright.integer import ops
from tilewright.report import LayerBound, Limits, NetworkBound, baseline, bound
from tilewright.targets.config import Overlay, overlay

U96 = baseline(overlay("ultra96-w8"))


def rescale(channels: int) -> ops.Rescale:
    ones = np.ones((channels, 1, 1), np.int64)
    return ops.Rescale(ones, ones, ones, 0, 255, "uint8")


def tensor(name: str, *shape: int) -> Tensor:
    return Tensor(name, (1, *shape), "uint8")


def conv(o: int, i: int, k: int, *, stride: int = 1, pad: int = 0, groups: int = 1) -> ops.Conv2d:
    weight = np.ones((o, i, k, k), np.int8)
    return ops.Conv2d(weight, 0, rescale(o), (stride, stride), (pad,) * 4, (1, 1), groups)


def chain(source: Tensor, *steps: tuple[ops.Operator, Tensor]) -> Graph:
    """Operators one after the other."""
    nodes, last = [], source
    for k, (op, result) in enumerate(steps):
        nodes.append(Node(f"n{k}", op, (last,), result))
        last = result
    return Graph("g", (source,), (last,), tuple(nodes))


def only(graph: Graph, limits: Limits = U96) -> LayerBound:
    (layer,) = bound(graph, limits).layers
    return layer


@pytest.mark.parametrize("name", ["pynq-z1-w8", "ultra96-w8"])
def test_what_changed_since_the_baseline(name: str) -> None:
    """LOAD has two read ports, of which the baseline has one; a block of the PYNQ-Z1 is twice as large now."""
    o = overlay(name)
    if name == "pynq-z1-w8":
        assert (o.block_out, o.vector_lanes) == (2 * baseline(o).block_out, 2 * baseline(o).vector_lanes)
        o = replace(o, block_out=16, acc_kib=64, vector_lanes=16)
    now = Limits.of(o)
    assert now.dram_read_bytes_per_cycle == now.dram_bytes_per_cycle
    assert replace(now, dram_read_bytes_per_cycle=o.board.dram_read_bytes_per_cycle) == baseline(o)
    one = replace(o, board=replace(o.board, dram_read_ports=1))
    assert Limits.of(one) == baseline(o)


def test_an_overlay_without_a_baseline() -> None:
    o = Overlay.from_dict(overlay("ultra96-w8").to_dict() | {"name": "mine"})
    with pytest.raises(
        ConfigError, match=r"bound: overlay mine has no baseline, known are .*; use Limits.of\(overlay\)"
    ):
        baseline(o)


def test_a_convolution() -> None:
    x, y = tensor("x", 40, 14, 14), tensor("y", 70, 14, 14)
    layer = only(chain(x, (conv(70, 40, 3, pad=1), y)))
    assert layer.macs == 70 * 40 * 9 * 196
    assert (
        layer.matrix_cycles == 3 * min(3 * 9, 8 * 3) * 196
    )  # 40 * 3 columns are 8 blocks, three rows of them
    assert layer.vector_cycles == -(-5 * 196 * 16 // 32)
    weights = 70 * 40 * 9 + 70 * 16
    assert (layer.read_bytes, layer.write_bytes) == (weights + 40 * 196, 70 * 196)
    assert (layer.unmerged_read_bytes, layer.unmerged_write_bytes) == (weights + 40 * 196, 70 * 196)
    total = weights + 40 * 196 + 70 * 196
    assert layer.dram_cycles == max(-(-(weights + 40 * 196) // 16), -(-70 * 196 // 16), -(-total // 24))


def test_the_first_layer_is_packed_and_no_other() -> None:
    x, y, z = tensor("x", 3, 224, 224), tensor("y", 3, 112, 112), tensor("z", 32, 56, 56)
    first, second = bound(
        chain(x, (conv(3, 3, 7, stride=2, pad=3), y), (conv(32, 3, 3, stride=2, pad=1), z)), U96
    ).layers
    assert first.matrix_cycles == 7 * 2 * 112 * 112  # 7 columns x 3 channels in 2 blocks
    assert second.matrix_cycles == 9 * 56 * 56


def test_packing_looks_through_layouts() -> None:
    """A transpose of the input is still the input."""
    x = tensor("x", 8, 8, 3)
    turn = ops.Layout((ops.LayoutStep("transpose", ((0, 3, 1, 2),)),))
    graph = chain(x, (turn, tensor("t", 3, 8, 8)), (conv(16, 3, 3, pad=1), tensor("y", 16, 8, 8)))
    assert only(graph).matrix_cycles == 3 * 64
    assert only(graph).read_bytes == 16 * 27 + 16 * 16 + 192


@pytest.mark.parametrize(
    ("o", "i", "groups", "blocks"),
    [(64, 32, 2, 2 * 1 * 2), (64, 4, 16, 2 * 2), (96, 24, 4, 4 * 1 * 2), (24, 4, 6, 2), (48, 48, 1, 2 * 3)],
)
def test_groups_alone_or_together(o: int, i: int, groups: int, blocks: int) -> None:
    """Two groups of 32 inputs; 16 of 4, eight to a block of outputs; and so on."""
    x = tensor("x", i * groups, 4, 4)
    graph = chain(x, (conv(o, i, 1, groups=groups), tensor("y", o, 4, 4)))
    assert only(graph).matrix_cycles == blocks * 16


def test_depthwise_goes_to_vector() -> None:
    x = tensor("x", 32, 10, 10)
    same = only(chain(x, (conv(32, 1, 3, pad=1, groups=32), tensor("y", 32, 10, 10))))
    assert same.matrix_cycles == 0
    assert same.vector_cycles == (3 * 10 - 2) * 10  # rows of windows that lie inside, columns each once
    half = only(chain(x, (conv(32, 1, 3, stride=2, pad=1, groups=32), tensor("y", 32, 5, 5))))
    assert half.vector_cycles == (3 * 5 - 1) * 10
    assert half.macs == 32 * 9 * 25


def test_pooling_additions_tables() -> None:
    x = tensor("x", 32, 8, 8)
    pool = ops.MaxPool2d((2, 2), (2, 2))
    assert only(chain(x, (pool, tensor("y", 32, 4, 4)))).vector_cycles == 64
    wide = ops.SumPool2d((7, 7), 0, rescale(32), (1, 1))
    assert only(chain(x, (wide, tensor("y", 32, 2, 2)))).vector_cycles == 14 * 8
    y, z = tensor("y", 32, 8, 8), tensor("z", 32, 8, 8)
    add = Graph("g", (x, y), (z,), (Node("add", ops.Add(0, 0, 1, rescale(1)), (x, y), z),))
    assert only(add).vector_cycles == 128
    table = ops.Table(np.zeros(256, np.uint8), "uint8")
    ridden = bound(chain(x, (pool, tensor("p", 32, 4, 4)), (table, tensor("t", 32, 4, 4))), U96).layers
    assert [layer.vector_cycles for layer in ridden] == [64, 0]
    assert ridden[1].unmerged_write_bytes == 0
    assert only(chain(x, (table, y))).vector_cycles == 64


def test_dense_layers_are_bound_by_dram() -> None:
    dense = ops.Dense(np.ones((4096, 9216), np.int8), 0, rescale(4096))
    network = bound(chain(tensor("x", 9216), (dense, tensor("y", 4096))), U96)
    assert network.limited_by == "DRAM"
    assert network.matrix_cycles == 128 * 576
    assert network.cycles == -(-(4096 * 9216 + 4096 * 16 + 9216) // 16)


def test_the_network_is_the_largest_sum_and_inputs_come_once() -> None:
    x = tensor("x", 64, 16, 16)
    a, b, c = tensor("a", 64, 16, 16), tensor("b", 64, 16, 16), tensor("c", 64, 16, 16)
    nodes = (
        Node("p", conv(64, 64, 1), (x,), a),
        Node("q", conv(64, 64, 1), (x,), b),
        Node("r", ops.Add(0, 0, 1, rescale(1)), (a, b), c),
    )
    network = bound(Graph("g", (x,), (c,), nodes), U96)
    assert isinstance(network, NetworkBound)
    assert network.matrix_cycles == 2 * 2 * 4 * 256
    assert network.vector_cycles == 2 * 512 + 1024
    constants = 2 * (64 * 64 + 64 * 16) + 2 * 16 * 16
    assert network.dram_bytes == constants + 2 * 64 * 256
    assert network.dram_bytes_unmerged == constants + 64 * 256 * (1 + 1 + 1 + 1 + 2 + 1)
    assert (network.cycles, network.limited_by) == (4096, "MATRIX")
    assert network.fps == 250e6 / 4096
    assert network.macs == 2 * 64 * 64 * 256
