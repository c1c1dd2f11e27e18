"""The QONNX networks on the simulator against qonnx's executor.

The fully connected networks are equal bit for bit. For espcn the executor computes in float32, whose sums of up to 576
products round by some 1e-7 of the largest result: 1e-6 of a step of 4 bits, 2e-5 of one of 8. So many of a layer's
results lie that near to a tie and may fall the other way; that is all that differs layer by layer, each fed with the
executor's own integers. Through the network a step of a 4-bit value reaches 5x5 positions behind two 3x3 layers, and
14x14x3 outputs behind the resize and another 3x3.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import tvm
from numpy.typing import NDArray
from tests.frontend.qonnx_nodes.oracle import execute

import tilewright as tw
from tilewright.errors import UnsupportedModel
from tilewright.integer_level import layerwise_compare
from tilewright.runtime import Session

Array = NDArray[Any]
STEP = np.float32(1 / 255)


def inputs(model: tw.Model, seed: int) -> dict[str, Array]:
    ((name, shape),) = model.input_shapes.items()
    return {name: np.random.default_rng(seed).random(shape, dtype=np.float32)}


@pytest.mark.parametrize(
    ("name", "target"),
    [
        ("TFC_1W1A", "ultra96-w8"),
        ("TFC_1W1A", "ultra96-w4"),
        ("TFC_1W1A", "ultra96-w1"),
        ("TFC_2W2A", "ultra96-w8"),
        ("TFC_2W2A", "ultra96-w4"),
    ],
)
def test_fully_connected(shared_data: Path, name: str, target: str) -> None:
    path = shared_data / "onnx" / "qonnx" / f"{name}.onnx"
    model = tw.load(path)
    found = tw.supported(model, target)
    assert found.host_macs == 0
    assert found.accelerator_macs == 784 * 64 + 2 * 64 * 64 + 64 * 10
    package = tw.compile(model, target)
    assert len(package.regions) == 1
    session = Session(package)
    for seed in range(4):
        feeds = inputs(model, seed)
        (got,) = session.run(feeds).outputs.values()
        (want,) = execute(onnx.load(path), feeds)
        np.testing.assert_array_equal(got, want)


def check_steps(got: Array, want: Array) -> None:
    """Outputs are the same but for what one or two steps of 4 bits reach."""
    differ = np.rint(got / STEP) != np.rint(want / STEP)
    assert differ.sum() <= 2 * 14 * 14 * 3


def test_super_resolution(shared_data: Path) -> None:
    path = shared_data / "onnx" / "espcn" / "nn_resize_quant.onnx"
    model = tw.load(path)
    feeds = inputs(model, 1)
    for row in layerwise_compare(model.proto, feeds, engine="numpy"):
        assert row.largest <= 1
        assert row.elements - row.equal <= 2 + 2e-5 * row.elements * (row.layer == "Conv_48"), row
    package = tw.compile(model, "ultra96-w8")
    assert len(package.regions) == 1
    (got,) = Session(package).run(feeds).outputs.values()
    check_steps(got, execute(onnx.load(path), feeds)[0])


def test_unquantised_input_is_named(shared_data: Path) -> None:
    """A package's host part has no convolution, and the reason names the input."""
    model = tw.load(shared_data / "onnx" / "espcn" / "subpixel_quant.onnx")
    (row,) = [r for r in tw.supported(model, "ultra96-w8").layers if r.name == "Conv_5"]
    assert (row.place, row.reason, row.remedy) == (
        "host",
        "all operands must be quantised tensors, x.7 is not, found it is not quantised",
        "put a QuantizeLinear/DequantizeLinear pair before this layer",
    )
    with pytest.raises(UnsupportedModel) as caught:
        tw.compile(model, "ultra96-w8")
    assert [str(f.where) for f in caught.value.faults] == ["Conv_5, BatchNormalization_6"]


def test_unquantised_input_by_tvm(shared_data: Path) -> None:
    """The same network with native code for its first layer."""
    path = shared_data / "onnx" / "espcn" / "subpixel_quant.onnx"
    model = tw.load(path)
    executable = tvm.compile(model.relax(), target=tw.target("ultra96-w8"), relax_pipeline="tilewright")
    feeds = inputs(model, 1)
    (x,) = feeds.values()
    result = tvm.relax.VirtualMachine(executable, tvm.cpu())["main"](tvm.runtime.tensor(x))
    got = (result if hasattr(result, "numpy") else result[0]).numpy()
    check_steps(got, execute(onnx.load(path), feeds)[0])
