"""Every network compiles for its overlays, all of its products on the accelerator, in one region."""

from __future__ import annotations

import math
from pathlib import Path

import onnx
import pytest
from tests.networks.choose import networks_on_overlays
from tests.networks.store import Store

from tilewright.benchmark.networks import NETWORKS
from tilewright.runtime import Package

ACCELERATED = {
    "Conv", "ConvTranspose", "Gemm", "MatMul", "MaxPool", "AveragePool", "GlobalAveragePool", "GlobalMaxPool", "Add",
    "Sum", "Mul", "Concat", "Split", "Slice", "Relu", "Clip", "LeakyRelu", "PRelu", "Sigmoid", "Tanh", "LRN", "Resize",
    "DepthToSpace", "BatchNormalization",
    "Convolution", "ConvolutionDepthwise", "DepthwiseConvolution", "InnerProduct", "Pooling", "Eltwise", "ReLU",
    "PReLU", "TanH", "Deconvolution", "ShuffleChannel", "Scale", "BatchNorm",
}  # fmt: skip
"""Operators of ONNX and layers of Caffe that the accelerator promises to take."""
HOST_SHARE = 0.01
LAYOUT = {"Concat", "Slice", "Split"}
"""On the host where only the host reads them: what sits between a detector's heads and its outputs."""


def count_macs(model: onnx.ModelProto) -> int:
    """Products of a graph's convolutions and dense layers, from its shapes; taps in padding count."""
    graph = onnx.shape_inference.infer_shapes(model).graph
    shapes = {t.name: list(t.dims) for t in graph.initializer}
    for value in (*graph.input, *graph.value_info, *graph.output):
        shapes[value.name] = [d.dim_value for d in value.type.tensor_type.shape.dim]
    total = 0
    for node in graph.node:
        if node.op_type == "Conv":
            total += math.prod(shapes[node.output[0]]) * math.prod(shapes[node.input[1]][1:])
        elif node.op_type == "ConvTranspose":
            total += math.prod(shapes[node.input[0]]) * math.prod(shapes[node.input[1]][1:])
        elif node.op_type in ("Gemm", "MatMul"):
            total += math.prod(shapes[node.input[1]])
    return total


@networks_on_overlays()
def test_it_compiles_onto_the_accelerator(network: str, target: str, store: Store) -> None:
    report = store.package(network, target).report
    assert report is not None
    on_host = [
        row for row in report["layers"]
        if row["place"] == "host" and row["op"] in ACCELERATED - LAYOUT
    ]  # fmt: skip
    assert on_host == []
    macs = report["accelerator_macs"]
    assert report["host_macs"] <= HOST_SHARE * (macs + report["host_macs"])
    assert macs == sum(row["macs"] for row in report["layers"] if row["place"] == "accelerator")
    assert macs == count_macs(store.quantised(network).proto)
    assert macs == pytest.approx(NETWORKS[network].macs * 1e6, rel=0.05)
    assert report["regions"] == NETWORKS[network].regions


@pytest.mark.parametrize("target", NETWORKS["demo"].overlays)
def test_a_package_from_a_file_is_what_was_saved(target: str, store: Store, tmp_path: Path) -> None:
    package = store.package("demo", target)
    path = tmp_path / "demo.twp"
    package.save(path)
    assert Package.load(path).to_bytes() == package.to_bytes()
