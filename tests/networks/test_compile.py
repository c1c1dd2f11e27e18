"""Every network compiles for its overlays, all of its products on the accelerator, in one region."""

from __future__ import annotations

from pathlib import Path

import pytest
from tests.networks.choose import networks_on_overlays
from tests.networks.macs import graph_macs, unread
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


@networks_on_overlays()
def test_it_compiles_onto_the_accelerator(network: str, target: str, store: Store) -> None:
    report = store.package(network, target).report
    assert report is not None
    on_host = [
        row for row in report["layers"]
        if row["place"] == "host" and row["op"] in ACCELERATED - LAYOUT
    ]  # fmt: skip
    assert on_host == []
    macs = sum(row["macs"] for row in report["layers"] if row["place"] == "accelerator")
    model = store.quantised(network).proto
    assert report["host_macs"] <= HOST_SHARE * (macs + report["host_macs"])
    assert macs == graph_macs(model)
    assert report["accelerator_macs"] == macs - unread(model)
    assert macs == pytest.approx(NETWORKS[network].macs * 1e6, rel=0.05)
    assert report["regions"] == NETWORKS[network].regions


@pytest.mark.parametrize("target", NETWORKS["demo"].overlays)
def test_a_package_from_a_file_is_what_was_saved(target: str, store: Store, tmp_path: Path) -> None:
    package = store.package("demo", target)
    path = tmp_path / "demo.twp"
    package.save(path)
    assert Package.load(path).to_bytes() == package.to_bytes()
